package mirroring

import (
	"strings"
	"testing"
	"time"

	"github.com/witnessd/witnessd/agent/engine"
	"github.com/witnessd/witnessd/agent/engine/sqlserver"
)

func TestUnit(t *testing.T) {
	rows := []sqlserver.MirroringRow{{Database: "rtcxds", GUID: "2"}, {Database: "lis", GUID: "3"}, {Database: "RTCAB", GUID: "1"}}
	all := []sqlserver.DatabaseRow{
		{Name: "master", State: "ONLINE"}, {Name: "rtcxds"}, {Name: "lis"}, {Name: "RTCAB"},
		{Name: "payroll", State: "ONLINE"}, {Name: "xds", State: "ONLINE"},
	}
	for _, c := range []struct {
		name         string
		cfg          sqlserver.Config
		unit, others string
	}{
		{"all that are mirrored, by name", sqlserver.Config{}, "lis RTCAB rtcxds", "payroll xds"},
		{"without some", sqlserver.Config{Exclude: []string{"LIS"}}, "RTCAB rtcxds", "lis payroll xds"},
		{"as configured, in that order", sqlserver.Config{Databases: []string{"rtcxds", "rtcab"}}, "rtcxds RTCAB",
			"lis payroll xds"},
		{"one is not mirrored, one not there", sqlserver.Config{Databases: []string{"xds", "rtcab", "cpsdyn"}},
			"xds RTCAB cpsdyn", "lis payroll rtcxds"},
	} {
		t.Run(c.name, func(t *testing.T) {
			unit := unitOf(c.cfg, rows, all)
			if got := strings.Join((look{unit: unit}).these(func(database) bool { return true }), " "); got != c.unit {
				t.Errorf("unit %q, want %q", got, c.unit)
			}
			if got := strings.Join(othersOf(unit, all), " "); got != c.others {
				t.Errorf("others %q, want %q", got, c.others)
			}
		})
	}
	named := unitOf(sqlserver.Config{Databases: []string{"xds"}}, rows, all)
	if !named[0].alone() {
		t.Error("a database that is online and not mirrored is not seen to be open")
	}
	if id := systemID(named); id != "" {
		t.Errorf("a unit with a database that is not mirrored has the identity %s", id)
	}
	one, other := systemID(unitOf(sqlserver.Config{}, rows, nil)), systemID(unitOf(sqlserver.Config{}, rows[1:], nil))
	if one == "" || one == other {
		t.Errorf("identities %q and %q of different units", one, other)
	}
}

// holding is what a primary is seen as that holds commits.
func holding(t *testing.T, rows ...string) (look, stored, facts) {
	t.Helper()
	l, m := lookAt(t, rows...), stored{Managed: true, System: "mirroring:known", Opened: map[string]opening{}}
	for i, d := range l.unit {
		l.unit[i].Timeout = 10 * time.Second
		m.Opened[d.GUID] = opening{d.Database, d.RoleSequence}
	}
	return l, m, facts{held: true, policy: sqlserver.PolicyBounded, bound: 3500 * time.Millisecond}
}

func TestStateOfAPrimary(t *testing.T) {
	for _, c := range []struct {
		name     string
		rows     []string
		change   func(*look, *facts)
		commits  engine.Commits
		attached bool
		warning  string
	}{
		{"holds", []string{"a P SYNCHRONIZED", "b P SYNCHRONIZED"}, nil, engine.CommitsHeld, true, ""},
		{"not proved in this run", []string{"a P SYNCHRONIZED"}, func(_ *look, f *facts) { f.held = false },
			engine.CommitsAlone, true, ""},
		{"one is exposed", []string{"a P SYNCHRONIZED", "b P DISCONNECTED"}, nil, engine.CommitsAlone, false, ""},
		{"one catches up", []string{"a P SYNCHRONIZED", "b P SYNCHRONIZING"}, nil, engine.CommitsAlone, true, ""},
		{"one is suspended", []string{"a P SYNCHRONIZED", "b P SUSPENDED"}, nil, engine.CommitsAlone, false, "b is SUSPENDED"},
		{"split", []string{"a M SYNCHRONIZED", "b P SYNCHRONIZED"}, nil, engine.CommitsAlone, false,
			"split: b principal here, a mirror"},
		{"asynchronous", []string{"a P SYNCHRONIZED"}, func(l *look, _ *facts) { l.unit[0].Safety = sqlserver.SafetyIsOff },
			engine.CommitsAlone, true, "SAFETY is OFF for a"},
		{"somebody set SQL Server's witness", []string{"a P SYNCHRONIZED"},
			func(l *look, _ *facts) { l.unit[0].Witness = "TCP://w:7022" }, engine.CommitsAlone, true, "SET WITNESS OFF"},
		{"waits less than the fence takes", []string{"a P SYNCHRONIZED"},
			func(l *look, _ *facts) { l.unit[0].Timeout = 3 * time.Second }, engine.CommitsHeld, true, "SET PARTNER TIMEOUT 10"},
		{"shares its instance", []string{"a P SYNCHRONIZED"}, func(l *look, _ *facts) { l.others = []string{"payroll"} },
			engine.CommitsHeld, true, "a fence of this pair stops 1 database of the instance that is not in it: payroll"},
	} {
		t.Run(c.name, func(t *testing.T) {
			l, m, f := holding(t, c.rows...)
			if c.change != nil {
				c.change(&l, &f)
			}
			s := stateOf(l, m, f)
			if s.Role != engine.RolePrimary || s.Commits != c.commits || s.Mirror.Attached != c.attached {
				t.Errorf("%v, commits %v, attached %v; want primary, %v, %v", s.Role, s.Commits, s.Mirror.Attached,
					c.commits, c.attached)
			}
			if c.warning == "" && s.Warning != "" || !strings.Contains(s.Warning, c.warning) {
				t.Errorf("warning %q, want %q", s.Warning, c.warning)
			}
			if s.LossBound != f.bound {
				t.Errorf("loss bound %v, want %v", s.LossBound, f.bound)
			}
		})
	}
}

func TestStateOfAMirror(t *testing.T) {
	l := lookAt(t, "a M SYNCHRONIZED", "b M SYNCHRONIZED")
	m := stored{Managed: true, Proofs: proofsAfter(l, nil)}
	s := stateOf(l, m, facts{policy: sqlserver.PolicyStrict})
	if s.Role != engine.RoleMirror || !s.Following || !s.Promotable || !s.NeedsRelease {
		t.Errorf("a good mirror with a strict policy is seen as %+v", s)
	}
	if s = stateOf(l, m, facts{joining: true}); s.Following {
		t.Error("a mirror that Follow is still at work on is said to follow")
	}
	l = lookAt(t, "a P SYNCHRONIZED 2", "b M SYNCHRONIZED 1")
	if s = stateOf(l, m, facts{}); s.Following || !strings.Contains(s.Warning, "split") {
		t.Errorf("split: following %v, warning %q", s.Following, s.Warning)
	}
	l = lookAt(t, "a M SUSPENDED 2")
	s = stateOf(l, stored{Managed: true}, facts{})
	if s.Following || s.Promotable || !strings.Contains(s.Warning, "SET PARTNER RESUME") {
		t.Errorf("suspended: %+v", s)
	}
}

func TestCommitsAreHeldOnlyWhereARightEndsInTime(t *testing.T) {
	good := func() look {
		l, _, _ := holding(t, "a P SYNCHRONIZED", "b P SYNCHRONIZED")
		return l
	}
	const lease = 3 * time.Second
	if err := holdable(good(), lease); err != nil {
		t.Errorf("refused: %v", err)
	}
	for _, c := range []struct {
		name   string
		change func(*look)
		want   []string
	}{
		{"SQL Server's witness", func(l *look) { l.unit[1].Witness = "TCP://w:7022" },
			[]string{"b has a witness", "ALTER DATABASE [b] SET WITNESS OFF", "sqlserver-rescue"}},
		{"too short a time-out", func(l *look) { l.unit[1].Timeout = lease + fenceTime },
			[]string{"b stops waiting", "3.5s", "SET PARTNER TIMEOUT 10"}},
		{"not principal", func(l *look) { l.unit[1].Role = sqlserver.RoleMirror }, []string{"b is not principal here"}},
		{"not mirrored", func(l *look) { l.unit[1].mirrored = false }, []string{"b is not mirrored"}},
		{"nothing", func(l *look) { l.unit = nil }, []string{"no database"}},
	} {
		l := good()
		c.change(&l)
		err := holdable(l, lease)
		for _, want := range c.want {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v, want %q in it", c.name, err, want)
			}
		}
	}
	if got := longEnough(12 * time.Second); got != 25 {
		t.Errorf("a lease of 12 s wants a PARTNER TIMEOUT of %d s, want 25", got)
	}
}

func TestWhatCanBeHandedOver(t *testing.T) {
	for text, want := range map[string]string{
		"a P SYNCHRONIZED, b P SYNCHRONIZED":  "",
		"a M SYNCHRONIZING, b P SYNCHRONIZED": "", // goes on where a former call was cut short
		"a P SYNCHRONIZED, b P SYNCHRONIZING": "b is SYNCHRONIZING",
		"a P DISCONNECTED":                    "a is DISCONNECTED",
		"a M DISCONNECTED":                    "only a principal is handed over",
		"a alone":                             "a is not mirrored",
	} {
		err := movable(lookAt(t, strings.Split(text, ", ")...))
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

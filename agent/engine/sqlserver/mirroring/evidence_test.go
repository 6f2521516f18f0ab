package mirroring

import (
	"strings"
	"testing"
	"time"

	"github.com/witnessd/witnessd/agent/engine"
	"github.com/witnessd/witnessd/agent/engine/sqlserver"
)

// row is a database as a look would show it: "a P SYNCHRONIZED 3" is principal of a, synchronized, after two exchanges.
// "a alone" is a database that is online and not mirrored, "a gone" one that is not there.
func row(t *testing.T, text string) database {
	t.Helper()
	f := strings.Fields(text)
	d := database{MirroringRow: sqlserver.MirroringRow{Database: f[0], GUID: "GUID-" + f[0]}}
	switch f[1] {
	case "alone":
		d.DatabaseState = sqlserver.DatabaseOnline
		return d
	case "restoring":
		d.DatabaseState = sqlserver.DatabaseRestoring
		return d
	case "gone":
		return d
	case "P":
		d.Role, d.DatabaseState = sqlserver.RolePrincipal, sqlserver.DatabaseOnline
	case "M":
		d.Role, d.DatabaseState = sqlserver.RoleMirror, sqlserver.DatabaseRestoring
	default:
		t.Fatalf("row %q", text)
	}
	d.mirrored, d.State, d.Safety, d.RoleSequence = true, f[2], sqlserver.SafetyIsFull, 1
	if len(f) > 3 {
		d.RoleSequence = int32(f[3][0] - '0')
	}
	return d
}

// lookAt is a look at databases, in an instance that started at "monday".
func lookAt(t *testing.T, rows ...string) look {
	t.Helper()
	l := look{began: now(), run: "run-1", started: "monday"}
	for _, text := range rows {
		l.unit = append(l.unit, row(t, text))
	}
	return l
}

// openedAt is a file that says that databases were opened: "a 1".
func openedAt(list ...string) stored {
	m := stored{Managed: true, Opened: map[string]opening{}}
	for _, text := range list {
		name, sequence, _ := strings.Cut(text, " ")
		m.Opened["GUID-"+name] = opening{name, int32(sequence[0] - '0')}
	}
	return m
}

func TestRole(t *testing.T) {
	unmanaged := stored{}
	closed := stored{Managed: true}
	for _, c := range []struct {
		name    string
		rows    []string
		m       stored
		joining bool
		want    engine.Role
		step    string
	}{
		{"before there was an agent", []string{"a P SYNCHRONIZED", "b P SYNCHRONIZED"}, unmanaged, false,
			engine.RolePrimary, ""},
		{"a mirror", []string{"a M SYNCHRONIZED", "b M SYNCHRONIZED"}, closed, false, engine.RoleMirror, ""},
		{"a mirror, long alone", []string{"a M DISCONNECTED", "b M SUSPENDED"}, closed, false, engine.RoleMirror, ""},
		{"opened", []string{"a P SYNCHRONIZED 2", "b P SYNCHRONIZED 2"}, openedAt("a 2", "b 2"), false,
			engine.RolePrimary, ""},
		{"opened and exposed", []string{"a P DISCONNECTED 2", "b P DISCONNECTED 2"}, openedAt("a 2", "b 2"), false,
			engine.RolePrimary, ""},
		{"principal by an exchange that the witness does not know of", []string{"a P SYNCHRONIZED 2", "b P SYNCHRONIZED 2"},
			closed, false, engine.RoleMirror, "principal of 2 databases, waits for the witness's word"},
		{"the same, opened in an earlier role", []string{"a P SYNCHRONIZED 3"}, openedAt("a 1"), false,
			engine.RoleMirror, "principal of 1 database, waits for the witness's word"},
		{"principal by itself, and nobody says that the partner is not", []string{"a P DISCONNECTED 2"}, closed, false,
			engine.RolePrimary, ""},
		{"one of two has lost its partner", []string{"a P SYNCHRONIZED 2", "b P DISCONNECTED 2"}, closed, false,
			engine.RolePrimary, ""},
		{"suspended is not connected", []string{"a P SUSPENDED 2"}, closed, false, engine.RolePrimary, ""},
		{"a former principal that is being made a mirror", []string{"a P DISCONNECTED 2"}, closed, true,
			engine.RoleMirror, "principal of 1 database, becomes a mirror"},
		{"opened counts more than being made a mirror", []string{"a P DISCONNECTED 2"}, openedAt("a 2"), true,
			engine.RolePrimary, ""},
		{"split, on the side that serves", []string{"a M SYNCHRONIZED 2", "b P SYNCHRONIZED 1"}, openedAt("a 1", "b 1"), false,
			engine.RolePrimary, ""},
		{"split, on the other side", []string{"a P SYNCHRONIZED 2", "b M SYNCHRONIZED 1"}, closed, false,
			engine.RoleMirror, "principal of 1 database, waits for the witness's word"},
		{"split, and the partner is gone", []string{"a P DISCONNECTED 2", "b M DISCONNECTED 1"}, closed, false,
			engine.RolePrimary, ""},
		{"moved away and back", []string{"a P SYNCHRONIZED 3", "b P SYNCHRONIZED 1"}, openedAt("a 1", "b 1"), false,
			engine.RoleMirror, "principal of 2 databases, waits for the witness's word"},
		{"moved away and back, and the partner gone", []string{"a P DISCONNECTED 3", "b P DISCONNECTED 1"},
			openedAt("a 1", "b 1"), false, engine.RolePrimary, ""},
		{"mirroring taken off the principal", []string{"a alone", "b P SYNCHRONIZED"}, closed, false, engine.RolePrimary, ""},
		{"mirroring taken off the mirror", []string{"a restoring", "b M SYNCHRONIZED"}, closed, false, engine.RoleMirror, ""},
		{"nothing there", []string{"a gone"}, closed, false, engine.RoleMirror, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, step := roleOf(lookAt(t, c.rows...), c.m, c.joining)
			if got != c.want || step != c.step {
				t.Errorf("got %v %q, want %v %q", got, step, c.want, c.step)
			}
		})
	}
}

func TestAnOldPrincipalIsNotPromotable(t *testing.T) {
	for _, c := range []struct {
		row     string
		m       stored
		joining bool
		want    string
	}{
		{"a P SYNCHRONIZED 2", stored{Managed: true}, false, ""},
		{"a P DISCONNECTED 2", stored{Managed: true}, false, "came up as principal and has no partner"},
		{"a P SUSPENDED 2", stored{Managed: true}, false, "came up as principal and has no partner"},
		{"a P DISCONNECTED 2", stored{Managed: true}, true, "being made a mirror"},
		{"a P DISCONNECTED 2", openedAt("a 2"), false, ""},
		{"a P DISCONNECTED 2", stored{}, false, ""},
	} {
		got := notPromotable(lookAt(t, c.row), c.m, c.joining)
		if c.want == "" && got != "" || !strings.Contains(got, c.want) {
			t.Errorf("%s, joining %v: %q, want %q", c.row, c.joining, got, c.want)
		}
	}
}

func TestAnExchangeTakesAMoment(t *testing.T) {
	l := lookAt(t, "a P DISCONNECTED 2", "b P SYNCHRONIZED 2")
	for age, want := range map[time.Duration]engine.Role{
		exchangeGrace: engine.RoleMirror, exchangeGrace + 1: engine.RolePrimary,
	} {
		l.joined = map[string]time.Time{"GUID-a": l.began.Add(-age)}
		if got, _ := roleOf(l, stored{Managed: true}, false); got != want {
			t.Errorf("principal, not connected, and a mirror %v ago: %v, want %v", age, got, want)
		}
	}
	mirror := lookAt(t, "a M SYNCHRONIZED 1")
	s := sightOf(l, sightOf(mirror, sight{}))
	if !s.joined["GUID-a"].Equal(mirror.began) {
		t.Error("when it was last a connected mirror is forgotten at the next look")
	}
	l.run = "run-2"
	if s := sightOf(l, sightOf(mirror, sight{})); len(s.joined) > 0 {
		t.Error("what an earlier process was counts for the next one")
	}
}

func TestEvidence(t *testing.T) {
	for _, c := range []struct {
		name string
		// looks are shown one after the other, each with the instance's start in front; the last one decides.
		looks []string
		want  string // part of why not; "" if promotable
	}{
		{"synchronized, and there", []string{"monday: a M SYNCHRONIZED"}, ""},
		{"synchronized until the partner was lost", []string{"monday: a M SYNCHRONIZED", "monday: a M DISCONNECTED"}, ""},
		{"lost twice", []string{"monday: a M SYNCHRONIZED", "monday: a M DISCONNECTED", "monday: a M DISCONNECTED"}, ""},
		{"never seen synchronized", []string{"monday: a M DISCONNECTED"}, "never seen synchronized"},
		{"catching up", []string{"monday: a M SYNCHRONIZED", "monday: a M SYNCHRONIZING"}, "a is SYNCHRONIZING"},
		{"lost while it caught up",
			[]string{"monday: a M SYNCHRONIZED", "monday: a M SYNCHRONIZING", "monday: a M DISCONNECTED"},
			"was SYNCHRONIZING when its partner was last connected"},
		{"suspended", []string{"monday: a M SYNCHRONIZED", "monday: a M SUSPENDED"}, "a is SUSPENDED"},
		{"suspended, then alone",
			[]string{"monday: a M SYNCHRONIZED", "monday: a M SUSPENDED", "monday: a M DISCONNECTED"}, "was SUSPENDED"},
		{"back to synchronized", []string{"monday: a M SYNCHRONIZING", "monday: a M SYNCHRONIZED", "monday: a M DISCONNECTED"},
			""},
		{"started anew while alone",
			[]string{"monday: a M SYNCHRONIZED", "monday: a M DISCONNECTED", "tuesday: a M DISCONNECTED"}, "started anew"},
		{"started anew, and seen synchronized since",
			[]string{"monday: a M SYNCHRONIZED", "tuesday: a M SYNCHRONIZED", "tuesday: a M DISCONNECTED"}, ""},
		{"roles exchanged unseen", []string{"monday: a M SYNCHRONIZED 1", "monday: a M DISCONNECTED 3"}, "roles of a were exchanged"},
		{"another state that nobody knows", []string{"monday: a M SYNCHRONIZED", "monday: a M UNSYNCHRONIZED"}, "a is UNSYNCHRONIZED"},
		{"principal already", []string{"monday: a P SYNCHRONIZED"}, ""},
		{"principal by force", []string{"monday: a P SUSPENDED"}, ""},
		{"it was principal in between", []string{"monday: a M SYNCHRONIZED 1", "monday: a P SYNCHRONIZED 1", "monday: a M DISCONNECTED 1"},
			"never seen synchronized"},
		{"one of two", []string{"monday: a M SYNCHRONIZED, b M SYNCHRONIZING", "monday: a M DISCONNECTED, b M DISCONNECTED"},
			"b was SYNCHRONIZING"},
		{"one is not mirrored", []string{"monday: a M SYNCHRONIZED, b restoring"}, "b is not mirrored"},
		{"one is not there", []string{"monday: a M SYNCHRONIZED, b gone"}, "b is not on this instance"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var proofs map[string]proof
			var l look
			for _, text := range c.looks {
				started, rows, _ := strings.Cut(text, ": ")
				l = lookAt(t, strings.Split(rows, ", ")...)
				l.started = started
				proofs = proofsAfter(l, proofs)
			}
			got := unproven(l, proofs)
			if c.want == "" && got != "" || !strings.Contains(got, c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
	if why := unproven(look{}, nil); why == "" {
		t.Error("an instance without mirrored databases can be promoted")
	}
}

func TestEvidenceOfSessionsThatDoNotHold(t *testing.T) {
	witness := lookAt(t, "a M SYNCHRONIZED")
	witness.unit[0].Witness = "TCP://w:7022"
	if why := unproven(witness, proofsAfter(witness, nil)); !strings.Contains(why, "witness of SQL Server's") {
		t.Errorf("with SQL Server's witness: %q", why)
	}
	async := lookAt(t, "a M SYNCHRONIZED")
	async.unit[0].Safety = sqlserver.SafetyIsOff
	if why := unproven(async, proofsAfter(async, nil)); !strings.Contains(why, "SAFETY OFF") {
		t.Errorf("with SAFETY OFF: %q", why)
	}
}

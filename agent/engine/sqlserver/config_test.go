package sqlserver

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// good is a configuration that lacks nothing for mirroring and rescue.
func good() Config {
	cfg := Default()
	cfg.Listen, cfg.User, cfg.PasswordEnv = "10.0.0.1:1433", "witness_agent", "WITNESS_SQL_PASSWORD"
	return cfg
}

func TestConfig(t *testing.T) {
	for _, c := range []struct {
		what   string
		mode   Mode
		change func(*Config)
		want   string
	}{
		{"good", ModeRescue, func(*Config) {}, ""},
		{"no listen", ModeRescue, func(c *Config) { c.Listen = "" }, "listen"},
		{"named instance", ModeRescue, func(c *Config) { c.Listen = `sql1\lync` }, "named instance"},
		{"every address", ModeRescue, func(c *Config) { c.Listen = ":1433" }, "advertise must say"},
		{"every address, advertised", ModeRescue, func(c *Config) { c.Listen, c.Advertise = ":1433", "sql1:1433" }, ""},
		{"advertise nobody", ModeRescue, func(c *Config) { c.Advertise = "0.0.0.0:1433" }, "must name a host"},
		{"no password", ModeRescue, func(c *Config) { c.PasswordEnv = "" }, "exactly one of"},
		{"two passwords", ModeRescue, func(c *Config) { c.PasswordFile = "/etc/x" }, "exactly one of"},
		{"relative password file", ModeRescue, func(c *Config) { c.PasswordEnv, c.PasswordFile = "", "x" }, "absolute path"},
		{"encrypt", ModeRescue, func(c *Config) { c.Encrypt = "yes" }, "encrypt"},
		{"two of one", ModeRescue, func(c *Config) { c.Databases = []string{"a", "A"} }, "twice"},
		{"in and out", ModeRescue, func(c *Config) { c.Databases, c.Exclude = []string{"a"}, []string{"a"} }, "in exclude"},
		{"unknown in set", ModeRescue, func(c *Config) {
			c.Databases, c.Sets = []string{"a"}, map[string][]string{"User": {"b"}}
		}, "sets.User names b"},
		{"set without list", ModeRescue, func(c *Config) { c.Sets = map[string][]string{"User": {"b"}} }, ""},
		{"spare is no address", ModeRescue, func(c *Config) { c.Rescue.Spares = []string{"w2:7022"} }, "TCP://host:port"},
		{"spare is the witness", ModeRescue, func(c *Config) {
			c.Rescue.Witness, c.Rescue.Spares = "TCP://w:7022", []string{"tcp://W:7022"}
		}, "names the witness itself"},
		{"spare twice", ModeRescue, func(c *Config) { c.Rescue.Spares = []string{"TCP://w:1", "TCP://w:1"} }, "twice"},
		{"impatient", ModeRescue, func(c *Config) { c.Rescue.Patience = time.Millisecond }, "rescue.patience"},
		{"flapping", ModeRescue, func(c *Config) { c.Rescue.ReturnAfter = time.Second }, "again and again"},
		{"level", ModeRescue, func(c *Config) { c.HealthLevel = 6 }, "health_level"},
		{"target", ModeRescue, func(c *Config) { c.Target.Point = 0 }, "target.point"},
		{"no service", ModeMirroring, func(*Config) {}, "service"},
		{"policy", ModeMirroring, func(c *Config) { c.Policy = "loose" }, "bounded or strict"},
		{"no group", ModeAvailability, func(*Config) {}, "group must name"},
		{"group with databases", ModeAvailability, func(c *Config) { c.Group, c.Databases = "g", []string{"a"} }, "moves as a whole"},
		{"lease", ModeAvailability, func(c *Config) { c.Group, c.WriteLease = "g", 1500*time.Millisecond }, "whole seconds"},
	} {
		cfg := good()
		c.change(&cfg)
		err := cfg.Validate(c.mode)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, want %q", c.what, err, c.want)
		}
	}
}

func TestAddresses(t *testing.T) {
	for _, c := range []struct{ listen, advertise, connect, address, dial string }{
		{"10.0.0.1:1433", "", "", "10.0.0.1:1433", "10.0.0.1:1433"},
		{":1433", "sql1:1433", "", "sql1:1433", "127.0.0.1:1433"},
		{"0.0.0.0:1433", "sql1:1433", "", "sql1:1433", "127.0.0.1:1433"},
		{"10.0.0.1:1433", "", "127.0.0.1:11433", "10.0.0.1:1433", "127.0.0.1:11433"},
	} {
		cfg := Config{Listen: c.listen, Advertise: c.advertise, Connect: c.connect}
		if cfg.Address() != c.address || cfg.ConnectAddress() != c.dial {
			t.Errorf("%+v: others use %s, the agent %s; want %s and %s", c, cfg.Address(), cfg.ConnectAddress(), c.address, c.dial)
		}
	}
}

func TestUnit(t *testing.T) {
	rows := []MirroringRow{{Database: "rtcxds"}, {Database: "cpsdyn"}, {Database: "RTCAB"}, {Database: "lis"}}
	for _, c := range []struct {
		what               string
		databases, exclude []string
		want               []string
	}{
		{"all, by name", nil, nil, []string{"cpsdyn", "lis", "RTCAB", "rtcxds"}},
		{"in order", []string{"rtcab", "rtcxds", "missing"}, nil, []string{"RTCAB", "rtcxds"}},
		{"all but some", nil, []string{"LIS", "cpsdyn"}, []string{"RTCAB", "rtcxds"}},
	} {
		var got []string
		for _, r := range (Config{Databases: c.databases, Exclude: c.exclude}).Unit(rows) {
			got = append(got, r.Database)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", c.what, got, c.want)
		}
	}
}

func TestDatabaseState(t *testing.T) {
	cfg := Config{Sets: map[string][]string{"User": {"rtcxds"}, "All": {"RTCXDS"}}}
	r := MirroringRow{
		Database: "rtcxds", Role: RolePrincipal, State: StatePendingFailover, DatabaseState: DatabaseOnline,
		Safety: SafetyIsFull, Witness: "TCP://w:7022", WitnessState: WitnessConnected,
	}
	s := cfg.DatabaseState(r, Lag{})
	if s.Role != "Principal" || s.Status != "PendingFailover" || !slices.Equal(s.Sets, []string{"All", "User"}) ||
		s.Detail != "SQL Server witness TCP://w:7022 connected" {
		t.Errorf("%+v", s)
	}
	r.Role, r.State, r.DatabaseState, r.Witness, r.Safety = RoleMirror, StateSynchronized, DatabaseRestoring, "", SafetyIsOff
	if s := cfg.DatabaseState(r, Lag{}); s.Role != "Mirror" || s.Status != "Synchronized" || s.Detail != "SAFETY OFF" {
		t.Errorf("%+v", s)
	}
}

func TestMirroringID(t *testing.T) {
	a := MirroringID([]MirroringRow{{GUID: "A"}, {GUID: "B"}})
	b := MirroringID([]MirroringRow{{GUID: "B"}, {GUID: "A"}})
	if a != b || len(a) != len("mirroring:")+16 || a == MirroringID([]MirroringRow{{GUID: "A"}}) || MirroringID(nil) != "" {
		t.Errorf("%q, %q", a, b)
	}
}

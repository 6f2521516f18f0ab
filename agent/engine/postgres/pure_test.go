package postgres

import (
	"maps"
	"slices"
	"strings"
	"testing"
)

func TestDefaultLacksOnlyTwo(t *testing.T) {
	c := Default()
	c.DataDir, c.Listen = "/var/lib/postgresql/15/main", "10.0.0.1:5432"
	if err := c.Validate(); err != nil {
		t.Error(err)
	}
	err := Default().Validate()
	if err == nil || strings.Count(err.Error(), "\n") != 1 {
		t.Errorf("a default configuration says %v", err)
	}
}

func TestValidate(t *testing.T) {
	for want, change := range map[string]func(*Config){
		"data_dir":                     func(c *Config) { c.DataDir = "data" },
		"bin_dir":                      func(c *Config) { c.BinDir = "bin" },
		"advertise must say":           func(c *Config) { c.Listen = "0.0.0.0:5432" },
		"must name a host":             func(c *Config) { c.Advertise = ":5432" },
		"not a number from 1":          func(c *Config) { c.Listen = "db1:postgres" },
		"socket_dir":                   func(c *Config) { c.SocketDir = "/" + strings.Repeat("s", 100) },
		"os_user must be set":          func(c *Config) { c.OSUser = "" },
		"replication_passfile":         func(c *Config) { c.ReplicationPassfile = c.DataDir + "/.pgpass" },
		"log_file":                     func(c *Config) { c.LogFile = c.DataDir + "/log/x" },
		"replication_tls.password":     func(c *Config) { c.ReplicationTLS = map[string]string{"password": "x"} },
		"settings.Port must not":       func(c *Config) { c.Settings = map[string]string{"Port": "1"} },
		"settings.a b is not":          func(c *Config) { c.Settings = map[string]string{"a b": "1"} },
		"keep_diverged":                func(c *Config) { c.Rejoin.KeepDiverged = -1 },
		"synchronous_standby_names mu": func(c *Config) { c.Settings = map[string]string{"synchronous_standby_names": ""} },
	} {
		c := Default()
		c.DataDir, c.Listen = "/data", "10.0.0.1:5432"
		change(&c)
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q, got %v", want, err)
		}
	}
}

func TestReceiverName(t *testing.T) {
	for pair, want := range map[string]string{
		"sales": "witness_sales", "Sales-DB.1": "witness_sales_db_1", "käse": "witness_k_se",
		strings.Repeat("x", 90): "witness_" + strings.Repeat("x", 55),
	} {
		if got := receiverName(pair); got != want {
			t.Errorf("%q: got %q, want %q", pair, got, want)
		}
	}
}

func TestRunText(t *testing.T) {
	text := runText("/etc/pg/it's.conf", map[string]string{"work_mem": "4MB", "a.b": `c:\`},
		runSettings{commits: heldFor("witness_sales"), upstream: "host='x'"})
	for _, want := range []string{
		"include '/etc/pg/it''s.conf'\n", "a.b = 'c:\\\\'\n", "primary_conninfo = 'host=''x'''\n",
		"synchronous_standby_names = 'FIRST 1 (\"witness_sales\")'\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	order := []int{
		strings.Index(text, "wal_sender_timeout"), strings.Index(text, "include"),
		strings.Index(text, "work_mem"), strings.Index(text, "restart_after_crash"),
	}
	if !slices.IsSorted(order) {
		t.Errorf("what wins must stand last: %v", order)
	}
	if !strings.Contains(restText(), `synchronous_standby_names = '"witness: held for nobody\t"'`) {
		t.Errorf("at rest:\n%s", restText())
	}
}

func TestLSN(t *testing.T) {
	l, err := parseLSN("1A/3000148\n")
	if err != nil || l != 0x1A<<32|0x3000148 || l.String() != "1A/3000148" {
		t.Errorf("got %v, %v", l, err)
	}
	for _, bad := range []string{"", "1", "1/", "x/1", "1/100000000"} {
		if _, err := parseLSN(bad); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
	if got := segmentName(3, 0x1_0300_0148, 16<<20); got != "000000030000000100000003" {
		t.Errorf("segment %s", got)
	}
	if got := segmentName(3, 0x1_0010_0148, 1<<20); got != "000000030000000100000001" {
		t.Errorf("segment %s", got)
	}
}

func TestRecordEnd(t *testing.T) {
	const segment = 16 << 20
	for _, test := range []struct {
		name   string
		at     lsn
		length uint32
		want   lsn
	}{
		{"within a page", 0x3000028, 114, 0x300009A},
		{"to the end of a page", 0x3001FF0, 16, 0x3002000},
		{"over a page's header", 0x3001FF0, 20, 0x3002000 + pageHeader + 4},
		{"over a segment's header", 0x3FFFFF0, 20, 0x4000000 + firstPageHeader + 4},
		{"over two pages", 0x3001FF0, 16 + pageSize - pageHeader + 1, 0x3004000 + pageHeader + 1},
	} {
		if got := recordEnd(test.at, test.length, segment); got != test.want {
			t.Errorf("%s: got %v, want %v", test.name, got, test.want)
		}
	}
}

func TestRelate(t *testing.T) {
	const forked = "1\t0/100\tno recovery target specified\n"
	log := func(history string, timeline uint32, end lsn) lineage {
		l, err := newLineage(history, point{timeline, end})
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	for _, test := range []struct {
		name          string
		own, upstream lineage
		want          relation
	}{
		{"behind on one timeline", log("", 1, 0x80), log("", 1, 0x100),
			relation{common: point{1, 0x80}}},
		{"level", log("", 1, 0x100), log("", 1, 0x100),
			relation{common: point{1, 0x100}}},
		{"ahead on one timeline", log("", 1, 0x180), log("", 1, 0x100),
			relation{common: point{1, 0x100}, discard: 0x80, parted: true, sameTimeline: true}},
		{"stopped before the fork", log("", 1, 0x80), log(forked, 2, 0x200),
			relation{common: point{1, 0x80}}},
		{"stopped at the fork", log("", 1, 0x100), log(forked, 2, 0x200),
			relation{common: point{1, 0x100}}},
		{"went past the fork", log("", 1, 0x108), log(forked, 2, 0x200),
			relation{common: point{1, 0x100}, discard: 8, parted: true}},
		{"behind on the new timeline", log(forked, 2, 0x180), log(forked, 2, 0x200),
			relation{common: point{2, 0x180}}},
		{"promoted elsewhere", log("1 0/90 x\n", 2, 0x180), log(forked, 2, 0x200),
			relation{common: point{1, 0x90}, discard: 0xF0, parted: true}},
		{"promoted, and the primary was not", log(forked, 2, 0x180), log("", 1, 0x200),
			relation{common: point{1, 0x100}, discard: 0x80, parted: true}},
		{"promoted without a record since", log(forked, 2, 0x100), log("", 1, 0x200),
			relation{common: point{1, 0x100}, parted: true}},
	} {
		if got := relate(test.own, test.upstream); got != test.want {
			t.Errorf("%s:\n got %+v\nwant %+v", test.name, got, test.want)
		}
	}
	if _, err := newLineage("1 here\n", point{2, 1}); err == nil {
		t.Error("a broken history was taken")
	}
	l := log(forked, 2, 0x200)
	if l.before(0x100).timeline != 1 || l.before(0x101).timeline != 2 {
		t.Errorf("stretches of %v", l)
	}
}

func TestManagedSettings(t *testing.T) {
	names := managedSettings()
	unique := map[string]bool{}
	for _, name := range names {
		unique[name] = true
	}
	if len(slices.Collect(maps.Keys(unique))) != len(names) || !unique["primary_conninfo"] {
		t.Errorf("managed: %v", names)
	}
}

//go:build linux

package postgres

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/witnessd/witnessd/agent/engine"
	"github.com/witnessd/witnessd/agent/engine/postgres/postgrestest"
)

// examine runs the doctor for a host.
func (h *host) examine(partner string) map[string]engine.Check {
	h.t.Helper()
	x, err := NewExaminer(h.cfg, slog.New(slog.DiscardHandler))
	check(h.t, err)
	defer x.Close()
	found := map[string]engine.Check{}
	for _, c := range x.Examine(within(h.t, ample), partner) {
		if former, twice := found[c.Name]; !twice || former.Grade == engine.Good {
			found[c.Name] = c
		}
	}
	return found
}

func (h *host) mend(partner string, dry bool) []engine.Mended {
	h.t.Helper()
	x, err := NewExaminer(h.cfg, slog.New(slog.DiscardHandler))
	check(h.t, err)
	defer x.Close()
	return x.Mend(within(h.t, ample), partner, dry)
}

func wantGrade(t *testing.T, found map[string]engine.Check, name string, want engine.Grade) {
	t.Helper()
	if got := found[name]; got.Grade != want {
		t.Errorf("%s is %q (%s), not %q", name, got.Grade, got.Detail, want)
	}
}

// onlyGood sees that nothing is bad, and nothing weak but what is named.
func onlyGood(t *testing.T, found map[string]engine.Check, weak ...string) {
	t.Helper()
	for name, c := range found {
		want := engine.Good
		if slices.Contains(weak, name) {
			want = engine.Weak
		}
		if c.Grade != want {
			t.Errorf("%s is %s: %s; %s", name, c.Grade, c.Detail, c.Do)
		}
	}
	for _, name := range weak {
		if _, ok := found[name]; !ok {
			t.Errorf("%s was not checked", name)
		}
	}
}

// TestDoctorFinds breaks each requirement of a running primary once.
func TestDoctorFinds(t *testing.T) {
	a, b := newHosts(t)
	a.startedByHand("wal_log_hints = on")
	a.client().must("checkpoint")
	onlyGood(t, a.examine(b.cfg.Listen), "partner")
	if exists(a.path(agentDir)) || exists(a.path(standbySignal)) {
		t.Error("the doctor has changed something")
	}
	role := a.cfg.ReplicationUser
	for _, way := range []struct {
		name, sql, undo, check string
		grade                  engine.Grade
	}{
		{"no right to replicate", "alter role " + role + " noreplication", "alter role " + role + " replication",
			"replication role", engine.Bad},
		{"no right to log in", "alter role " + role + " nologin", "alter role " + role + " login",
			"replication role", engine.Bad},
		{"no checkpoint", "revoke pg_checkpoint from " + role, "grant pg_checkpoint to " + role,
			"replication role", engine.Weak},
		{"no reading of files", "revoke execute on function pg_read_binary_file(text) from " + role,
			"grant execute on function pg_read_binary_file(text) to " + role, "replication role", engine.Weak},
		{"trap in a role", "alter role " + role + " set synchronous_commit = off", "alter role " + role + " reset all",
			"durability", engine.Weak},
		{"alter system", "alter system set primary_conninfo = 'x'", "alter system reset primary_conninfo",
			"ALTER SYSTEM", engine.Bad},
		{"sync names", "alter system set synchronous_standby_names = ''", "alter system reset synchronous_standby_names",
			"adoption", engine.Bad},
		{"unlogged", "create unlogged table u (n int)", "drop table u", "unlogged tables", engine.Weak},
		{"other slot", "select pg_create_physical_replication_slot('other')", "select pg_drop_replication_slot('other')",
			"other slots", engine.Weak},
	} {
		a.client().must(way.sql)
		found := a.examine(b.cfg.Listen)
		a.client().must(way.undo)
		if got := found[way.check]; got.Grade != way.grade || got.Do == "" {
			t.Errorf("%s: %+v", way.name, got)
		}
	}
	onlyGood(t, a.examine(b.cfg.Listen), "partner")
}

// TestDoctorFindsSettings breaks what a server reads at its start.
func TestDoctorFindsSettings(t *testing.T) {
	for setting, want := range map[string]struct {
		check string
		grade engine.Grade
	}{
		"wal_level = minimal\nmax_wal_senders = 0": {"wal_level", engine.Bad},
		"max_wal_senders = 1":                      {"max_wal_senders", engine.Bad},
		"max_replication_slots = 0":                {"max_replication_slots", engine.Bad},
		"superuser_reserved_connections = 2":       {"superuser_reserved_connections", engine.Weak},
		"max_slot_wal_keep_size = -1":              {"max_slot_wal_keep_size", engine.Weak},
		"hot_standby = off":                        {"hot_standby", engine.Weak},
		"wal_log_hints = off":                      {"rewind", engine.Weak},
		"fsync = off":                              {"fsync", engine.Bad},
		"full_page_writes = off":                   {"full_page_writes", engine.Bad},
		"archive_mode = on":                        {"archive_mode", engine.Weak},
		"synchronous_standby_names = ''":           {"synchronous standbys", ""},
		"synchronous_commit = local":               {"durability", engine.Weak},
		"wal_level = logical":                      {"wal_level", engine.Good},
	} {
		a, _ := newHosts(t)
		check(t, appendText(a.path("postgresql.conf"), setting+"\n"))
		stopped := a.examine("")
		if strings.Contains(want.check, "durability") {
			a.startedByHand()
		} else {
			wantGrade(t, stopped, want.check, want.grade)
			a.startedByHand()
		}
		wantGrade(t, a.examine(""), want.check, want.grade)
		a.crash()
	}
}

// TestDoctorFix: a server that lacks everything has what it needs after --fix and a restart, and then its partner
// can be cloned from it; a dry run changes nothing.
func TestDoctorFix(t *testing.T) {
	base := newBase(t)
	a, b := newDebian(t, base, "a", "max_wal_senders = 1\n"), newDebian(t, base, "b", "")
	check(t, os.WriteFile(filepath.Join(a.etc, "start.conf"), []byte("# comment\nauto\n"), 0o644))
	hba := filepath.Join(a.etc, "pg_hba.conf")
	check(t, os.WriteFile(hba, []byte("local all postgres peer\nhost postgres postgres 127.0.0.1/32 trust\n"), 0o640))
	a.client().must("select pg_reload_conf()")
	check(t, os.Remove(a.cfg.ReplicationPassfile))
	before := files(t, a.etc)

	partner := b.cfg.Listen
	eventually(t, "the reload", func() error {
		if a.examine(partner)["local replication"].Grade != engine.Bad {
			return errors.New("not taken")
		}
		return nil
	})
	found := a.examine(partner)
	for _, name := range []string{"max_wal_senders", "replication role", "replication_passfile", "pg_hba.conf", "adoption",
		"local replication"} {
		wantGrade(t, found, name, engine.Bad)
	}
	for _, name := range []string{"rewind", "other starters"} {
		wantGrade(t, found, name, engine.Weak)
	}

	would := a.mend(partner, true)
	sameFiles(t, before, files(t, a.etc))
	if exists(a.cfg.ReplicationPassfile) {
		t.Error("a dry run has made the password file")
	}
	did := a.mend(partner, false)
	if len(would) != len(did) || len(did) < 9 {
		t.Errorf("%d things would be done, %d were: %+v", len(would), len(did), did)
	}
	for i, m := range did {
		if m.Err != nil || m.What != would[i].What {
			t.Errorf("%+v", m)
		}
	}
	kept, err := os.ReadFile(hba + hbaKept)
	if err != nil || string(kept) != before["pg_hba.conf"] {
		t.Errorf("the kept pg_hba.conf: %q, %v", kept, err)
	}

	a.ctl(t, "restart")
	after := a.examine(partner)
	delete(after, "partner") // It has no such role yet.
	onlyGood(t, after)
	if again := a.mend(partner, false); len(again) != 0 {
		t.Errorf("done again: %+v", again)
	}

	secret, err := os.ReadFile(a.cfg.ReplicationPassfile)
	check(t, err)
	check(t, os.WriteFile(b.cfg.ReplicationPassfile, secret, 0o600))
	wantGrade(t, b.examine(a.cfg.Listen), "system identifier", engine.Bad)
	b.ctl(t, "stop")
	check(t, os.RemoveAll(b.cfg.DataDir))
	onlyGood(t, b.examine(a.cfg.Listen))
	a.serve(b.host)
	b.follows(a.host)
	onlyGood(t, a.examine(b.cfg.Listen))
	onlyGood(t, b.examine(a.cfg.Listen))
}

// TestDoctorTwice: --fix does nothing again that it did before, and says of what it did that has no effect.
func TestDoctorTwice(t *testing.T) {
	a, b := newHosts(t)
	check(t, appendText(a.path("postgresql.conf"), "max_wal_senders = 1\nmax_slot_wal_keep_size = -1\n"))
	hba, err := os.ReadFile(a.path("pg_hba.conf"))
	check(t, err)
	refuses := append([]byte("local replication all reject\n"), hba...)
	check(t, os.WriteFile(a.path("pg_hba.conf"), refuses, 0o600))
	a.startedByHand()
	outcomes := func() map[bool][]string {
		said := map[bool][]string{}
		for _, m := range a.mend(b.cfg.Listen, false) {
			t.Logf("%s: %s: %v", m.What, m.How, m.Err)
			said[m.Err == nil] = append(said[m.Err == nil], m.What)
			if m.Err != nil && !strings.Contains(m.Err.Error(), "an earlier line of "+a.path("pg_hba.conf")) {
				t.Errorf("%s: %v", m.What, m.Err)
			}
		}
		return said
	}
	var before map[string]string
	for i := range 3 {
		said := outcomes()
		if len(said[false]) != 1 || i > 0 && len(said[true]) != 0 {
			t.Errorf("run %d did %q, and failed at %q", i+1, said[true], said[false])
		}
		after := files(t, a.cfg.DataDir)
		if i > 0 {
			for _, name := range []string{"pg_hba.conf", needsName, "postgresql.conf"} {
				if before[name] != after[name] {
					t.Errorf("%s was %q, and is %q", name, before[name], after[name])
				}
			}
		}
		before = after
	}
	// What is in the file and not good is changed where it stands, and what has the last word elsewhere is told of.
	check(t, appendText(a.path(needsName), "max_wal_senders = 1 # mine\nwork_mem = '8MB'\n"))
	check(t, os.WriteFile(a.path("pg_hba.conf"), hba, 0o600))
	a.client().must("select pg_reload_conf()")
	eventually(t, "mended", func() error {
		for _, m := range a.mend("", false) {
			if m.Err != nil {
				return m.Err
			}
		}
		return nil
	})
	text, err := os.ReadFile(a.path(needsName))
	check(t, err)
	if strings.Count(string(text), "max_wal_senders") != 1 || !strings.Contains(string(text), "work_mem = '8MB'") {
		t.Errorf("%s", text)
	}
	check(t, appendText(a.path("postgresql.conf"), "max_wal_senders = 2\n"))
	for _, m := range a.mend("", false) {
		if m.Err == nil || !strings.Contains(m.Err.Error(), "max_wal_senders has no effect") {
			t.Errorf("overridden: %+v", m)
		}
	}
}

// TestDoctorFiles: what is wrong without a server.
func TestDoctorFiles(t *testing.T) {
	a, _ := newHosts(t)
	a.cfg.ReplicationPassfile = filepath.Join(a.cfg.SocketDir, "pass")
	wantGrade(t, a.examine(""), "replication_passfile", engine.Bad)
	check(t, os.WriteFile(a.cfg.ReplicationPassfile, []byte("*:*:*:*:x\n"), 0o644))
	wantGrade(t, a.examine(""), "replication_passfile", engine.Bad)
	for _, m := range a.mend("", false) {
		if m.Err != nil {
			t.Error(m)
		}
	}
	wantGrade(t, a.examine(""), "replication_passfile", engine.Good)

	a.cfg.SocketDir += "/elsewhere"
	wantGrade(t, a.examine(""), "socket directory", engine.Bad)
	a.mend("", false)
	wantGrade(t, a.examine(""), "socket directory", engine.Good)

	check(t, appendText(a.path("postgresql.conf"), "work_mem = 'many\n"))
	wantGrade(t, a.examine(""), "configuration file", engine.Bad)
	a.cfg.ConfigFile = "/nowhere/postgresql.conf"
	wantGrade(t, a.examine(""), "configuration file", engine.Bad)
	check(t, os.WriteFile(a.path("PG_VERSION"), []byte("11\n"), 0o600))
	wantGrade(t, a.examine(""), "programs", engine.Bad)
}

// TestDoctorPartner: a wrong password and an unknown host are found by trying.
func TestDoctorPartner(t *testing.T) {
	a, b := newHosts(t)
	a.startedByHand("wal_log_hints = on", "max_slot_wal_keep_size = '1GB'")
	check(t, os.WriteFile(a.path("pg_hba.conf"), []byte("local all all peer\nlocal replication all peer\n"+
		"host all postgres 127.0.0.1/32 trust\nhost all,replication witness_replication all scram-sha-256\n"), 0o600))
	secret, err := scramSecret("right")
	check(t, err)
	a.client().must("alter role witness_replication password '" + secret + "'")
	a.client().must("select pg_reload_conf()")
	b.cfg.ReplicationPassfile = filepath.Join(b.cfg.SocketDir, "pass")
	for password, want := range map[string]engine.Grade{"right": engine.Good, "wrong": engine.Bad} {
		check(t, os.WriteFile(b.cfg.ReplicationPassfile, []byte("*:*:*:*:"+password+"\n"), 0o600))
		check(t, os.Chown(b.cfg.ReplicationPassfile, b.user.uid, b.user.gid))
		eventually(t, password+" password", func() error {
			if got := b.examine(a.cfg.Listen)["partner"]; got.Grade != want {
				return fmt.Errorf("%+v", got)
			}
			return nil
		})
	}
	free, err := postgrestest.FreeAddress()
	check(t, err)
	wantGrade(t, b.examine(free), "partner", engine.Weak)
	wantGrade(t, a.examine("256.1.1.1:5432"), "pg_hba.conf", engine.Bad)
}

// TestAdmits: the first rule that applies decides.
func TestAdmits(t *testing.T) {
	rule := func(kind, databases, user, address, mask, method string) hbaRule {
		return hbaRule{kind, strings.Split(databases, ","), []string{user}, address, mask, method}
	}
	from := net.ParseIP("10.0.0.2")
	for name, way := range map[string]struct {
		rules            []hbaRule
		database         string
		admitted, unsure bool
	}{
		"none":                     {database: "replication"},
		"all databases are not it": {rules: []hbaRule{rule("host", "all", "r", "all", "", "trust")}, database: "replication"},
		"all databases":            {rules: []hbaRule{rule("host", "all", "r", "all", "", "trust")}, database: "x", admitted: true},
		"another user":             {rules: []hbaRule{rule("host", "replication", "s", "all", "", "trust")}, database: "replication"},
		"group":                    {rules: []hbaRule{rule("host", "replication", "+s", "all", "", "trust")}, database: "replication", unsure: true},
		"local":                    {rules: []hbaRule{rule("local", "replication", "r", "", "", "trust")}, database: "replication"},
		"network":                  {rules: []hbaRule{rule("host", "replication", "all", "10.0.0.0", "255.255.255.0", "md5")}, database: "replication", admitted: true},
		"another network":          {rules: []hbaRule{rule("host", "replication", "all", "10.0.1.0", "255.255.255.0", "md5")}, database: "replication"},
		"other kind of address":    {rules: []hbaRule{rule("host", "replication", "all", "::", "::", "md5")}, database: "replication"},
		"name":                     {rules: []hbaRule{rule("host", "replication", "all", "db2", "", "md5")}, database: "replication", unsure: true},
		"refused before":           {rules: []hbaRule{rule("host", "replication", "r", "all", "", "reject"), rule("host", "replication", "r", "all", "", "trust")}, database: "replication"},
	} {
		admitted, unsure := admits(way.rules, way.database, "r", from)
		if admitted != way.admitted || unsure != way.unsure {
			t.Errorf("%s: %v, %v", name, admitted, unsure)
		}
	}
}

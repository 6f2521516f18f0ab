package sqlserver_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/witnessd/witnessd/agent/engine/sqlserver"
	"github.com/witnessd/witnessd/agent/engine/sqlserver/sqlservertest"
	"github.com/witnessd/witnessd/agent/engine/sqlserver/sqlservertest/model"
)

// These tests use Microsoft's driver over real sockets, and a fake of ours in place of SQL Server.

func instance(t *testing.T, name string) *sqlservertest.Instance {
	return sqlservertest.Start(t, sqlservertest.Options{
		Name: name, Ping: 20 * time.Millisecond, Second: 40 * time.Millisecond,
	})
}

// client makes a client for an instance; the path is its password's file.
func client(t *testing.T, on *sqlservertest.Instance) (*sqlserver.Client, string) {
	cfg := sqlserver.Default()
	cfg.User, cfg.Encrypt = "sa", "disable"
	cfg.PasswordFile = filepath.Join(t.TempDir(), "password")
	write(t, cfg.PasswordFile, "fake\n")
	c := sqlserver.NewClient(cfg, on.Address())
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c, cfg.PasswordFile
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestServerThatHangs: every call ends at its deadline, whatever it was doing; afterwards the client goes on.
func TestServerThatHangs(t *testing.T) {
	t.Parallel()
	on := instance(t, "a")
	c, _ := client(t, on)
	if _, err := c.Server(t.Context()); err != nil {
		t.Fatal(err)
	}
	on.Knobs().HangClients(true)
	for what, call := range map[string]func(context.Context) error{
		"a look":      func(ctx context.Context) error { _, err := c.Mirroring(ctx); return err },
		"a command":   func(ctx context.Context) error { return c.Exec(ctx, sqlserver.PartnerFailover("x")) },
		"diagnostics": func(ctx context.Context) error { _, err := c.Diagnostics(ctx); return err },
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 150*time.Millisecond)
		began := time.Now()
		err := call(ctx)
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) || sqlserver.ClassOf(err) != sqlserver.ClassUnreachable {
			t.Errorf("%s: %v, want a deadline", what, err)
		}
		if took := time.Since(began); took > time.Second {
			t.Errorf("%s took %v of 150 ms", what, took)
		}
	}
	on.Knobs().HangClients(false)
	for range 3 {
		if _, err := c.Server(t.Context()); err != nil {
			t.Errorf("it goes on, and the client does not: %v", err)
		}
	}
}

// TestPasswordIsReadAgain: a password that is changed while the agent runs counts from the next connection on.
func TestPasswordIsReadAgain(t *testing.T) {
	t.Parallel()
	on := instance(t, "a")
	c, file := client(t, on)
	write(t, file, "wrong-secret")
	_, err := c.Server(t.Context())
	if sqlserver.ClassOf(err) != sqlserver.ClassLogin || sqlserver.NumberOf(err) != 18456 {
		t.Errorf("a wrong password: %v", err)
	}
	if strings.Contains(err.Error(), "secret") || !strings.Contains(err.Error(), "create-login.sql") {
		t.Errorf("the error is %q", err)
	}
	write(t, file, "fake")
	if s, err := c.Server(t.Context()); err != nil || s.Name != "a" {
		t.Errorf("%+v, %v", s, err)
	}
	on.Restart(t)
	sqlservertest.Eventually(t, "connected again", func() (bool, string) {
		_, err := c.Started(t.Context())
		return err == nil, "no connection"
	})
}

// TestLooksAtMirroring: what the views say arrives in the rows, on both partners.
func TestLooksAtMirroring(t *testing.T) {
	t.Parallel()
	a, b := instance(t, "a"), instance(t, "b")
	sqlservertest.Mirror(t, []string{"rtcxds", "rtcab"}, a, b, nil, 7)
	here, _ := client(t, a)
	there, _ := client(t, b)
	ctx := t.Context()
	principals, err := here.Mirroring(ctx)
	if err != nil {
		t.Fatal(err)
	}
	mirrors, err := there.Mirroring(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if len(principals) != 2 || len(mirrors) != 2 || sqlserver.MirroringID(principals) != sqlserver.MirroringID(mirrors) {
		t.Fatalf("%+v and %+v", principals, mirrors)
	}
	for _, r := range principals {
		if r.Role != sqlserver.RolePrincipal || r.State != sqlserver.StateSynchronized || r.DatabaseState != "ONLINE" ||
			r.Safety != sqlserver.SafetyIsFull || r.Timeout != 7*time.Second || r.Witness != "" || r.RoleSequence < 1 ||
			!sqlserver.SamePartnerAddress(r.Partner, b.Endpoint()) || r.EndOfLog.IsZero() {
			t.Errorf("principal %+v", r)
		}
	}
	for _, r := range mirrors {
		if r.Role != sqlserver.RoleMirror || r.DatabaseState != "RESTORING" || !r.Connected() {
			t.Errorf("mirror %+v", r)
		}
	}
	if err := here.Exec(ctx, sqlserver.PartnerFailover("rtcab")); err != nil {
		t.Fatal(err)
	}
	err = there.Exec(ctx, sqlserver.PartnerFailover("rtcxds"))
	if sqlserver.ClassOf(err) != sqlserver.ClassWrongHost || !strings.Contains(err.Error(), "[rtcxds] SET PARTNER FAILOVER") {
		t.Errorf("a failover on the mirror: %v", err)
	}
	err = here.Exec(ctx, sqlserver.ForceService("nothing"))
	if err == nil {
		t.Error("a database that is not there was forced")
	}
	endpoint, found, err := here.Endpoint(ctx)
	if err != nil || !found || endpoint.State != sqlserver.EndpointStarted || endpoint.Name == "" {
		t.Errorf("endpoint %+v, %v, %v", endpoint, found, err)
	}
}

// TestOtherLooks: the rest of the looks is understood, and started differs after a restart.
func TestOtherLooks(t *testing.T) {
	t.Parallel()
	a, b := instance(t, "a"), instance(t, "b")
	sqlservertest.Mirror(t, []string{"d"}, a, b, nil, 5)
	c, _ := client(t, a)
	ctx := t.Context()
	databases, err := c.Databases(ctx)
	if err != nil || !slices.ContainsFunc(databases, func(d sqlserver.DatabaseRow) bool { return d.Name == "d" && d.State == "ONLINE" }) {
		t.Errorf("databases %+v, %v", databases, err)
	}
	counters, err := c.Counters(ctx)
	if err != nil || !slices.ContainsFunc(sqlserver.QueuesOf(counters), func(q sqlserver.Queue) bool { return q.Database == "d" }) {
		t.Errorf("counters %+v, %v", counters, err)
	}
	logs, err := c.LogsUsed(ctx)
	if err != nil || len(logs) == 0 {
		t.Errorf("logs %+v, %v", logs, err)
	}
	diagnostics, err := c.Diagnostics(ctx)
	if err != nil || !slices.Contains(diagnostics, sqlserver.DiagnosticRow{Component: "system", State: "clean"}) {
		t.Errorf("diagnostics %+v, %v", diagnostics, err)
	}
	if member, err := c.Sysadmin(ctx); err != nil || !member {
		t.Errorf("sysadmin: %v, %v", member, err)
	}
	before, err := c.Started(ctx)
	if err != nil || before == "" {
		t.Fatalf("started %q, %v", before, err)
	}
	time.Sleep(5 * time.Millisecond) // the clock that is compared counts milliseconds, and the restart is quicker than that
	a.Restart(t)
	sqlservertest.Eventually(t, "another start", func() (bool, string) {
		after, err := c.Started(ctx)
		return err == nil && after != before, after
	})
}

// TestHealthOnTheFake: what breaks is seen by asking and by writing.
func TestHealthOnTheFake(t *testing.T) {
	t.Parallel()
	a, b := instance(t, "a"), instance(t, "b")
	sqlservertest.Mirror(t, []string{"d"}, a, b, nil, 5)
	a.Exec(t, "CREATE TABLE d.witness_agent.probe (id tinyint NOT NULL PRIMARY KEY, beat bigint NOT NULL)",
		"INSERT INTO d.witness_agent.probe (id, beat) VALUES (1, 0)")
	c, _ := client(t, a)
	for _, s := range []struct {
		what   string
		change func()
		stalls bool
		word   string
	}{
		{"well", func() {}, false, ""},
		{"the log is nearly full", func() { a.Knobs().LogUsed("d", 95) }, false, "d: the log is 95 % full"},
		{"the log is full", func() { a.Knobs().Disk("d", model.Disk{LogFull: true}) }, false, "9002"},
		{"system in error", func() { a.Knobs().Diagnostics("system", "error") }, true, "sp_server_diagnostics reports error for system"},
	} {
		s.change()
		cfg := sqlserver.Default()
		cfg.Probe = []string{"d"}
		h := sqlserver.NewHealth(cfg, c)
		// All that is tried at the first look has ended when the queues are known and a second has passed.
		sqlservertest.Eventually(t, s.what, func() (bool, string) {
			v := h.Note(t.Context(), sqlserver.Seen{
				Run: "1", Primary: true, MirrorReady: true, HoldUp: 5 * time.Second,
				Databases: []sqlserver.DatabaseRow{{Name: "d", State: "ONLINE"}},
			})
			ok := len(v.Lags) == 1 && strings.Contains(v.Warning(), s.word) && (v.Stalled > 0) == s.stalls
			return ok && (s.word != "" || v.Warning() == ""), v.Warning()
		})
		h.Close()
		a.Knobs().Disk("d", model.Disk{})
		a.Knobs().LogUsed("d", 5)
	}
}

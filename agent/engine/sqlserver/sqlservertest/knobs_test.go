package sqlservertest_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/witnessd/witnessd/agent/engine/sqlserver/sqlservertest"
	"github.com/witnessd/witnessd/agent/engine/sqlserver/sqlservertest/model"
)

// An instance that hangs answers nobody, old connections and new, and goes on afterwards.
func TestHang(t *testing.T) {
	i := sqlservertest.Start(t, quick())
	db := i.DB(t, "master")
	want(t, "before", texts(t, db, "SELECT 1"), "1")
	i.Knobs().HangClients(true)
	for what, at := range map[string]interface{ PingContext(context.Context) error }{"old": db, "new": i.DB(t, "master")} {
		ctx, cancel := context.WithTimeout(t.Context(), 60*time.Millisecond)
		begun := time.Now()
		// The driver does not keep to a deadline while it logs in; the fake need not answer it for that.
		done := make(chan error, 1)
		go func() { done <- at.PingContext(ctx) }()
		select {
		case err := <-done:
			t.Errorf("%s connection: answered %v after %v", what, err, time.Since(begun))
		case <-ctx.Done():
		}
		cancel()
	}
	i.Knobs().HangClients(false)
	want(t, "afterwards", texts(t, i.DB(t, "master"), "SELECT 1"), "1")
}

func TestSlow(t *testing.T) {
	i := sqlservertest.Start(t, quick())
	db := i.DB(t, "master")
	want(t, "before", texts(t, db, "SELECT 1"), "1")
	const by = 80 * time.Millisecond
	i.Knobs().Slow(by)
	begun := time.Now()
	want(t, "slow", texts(t, db, "SELECT 1"), "1")
	if took := time.Since(begun); took < by {
		t.Errorf("an answer after %v, want at least %v", took, by)
	}
}

func TestKnobsOfClients(t *testing.T) {
	i := sqlservertest.Start(t, quick())
	i.Exec(t, "CREATE DATABASE app", "CREATE TABLE app..t (v int)", "INSERT app..t VALUES (1)")
	k, db := i.Knobs(), i.DB(t, "app")
	if err := k.Listener(false); err != nil {
		t.Fatal(err)
	}
	if err := i.DB(t, "app").PingContext(t.Context()); err == nil {
		t.Error("the port is closed, and a client comes in")
	}
	if err := k.Listener(true); err != nil {
		t.Fatal(err)
	}
	k.RefuseLogin("app", true)
	if err := i.DB(t, "app").PingContext(t.Context()); numberOf(err) != 18456 {
		t.Errorf("refused login: got %v", err)
	}
	k.RefuseLogin("app", false)
	k.Diagnostics("io_subsystem", "error")
	k.LogUsed("app", 93)
	// As a batch, and as the driver calls a procedure whose name is all there is.
	for _, call := range []string{"EXEC sp_server_diagnostics", "sp_server_diagnostics"} {
		if got := texts(t, db, call); len(got) != 5 || !strings.HasSuffix(got[3], "|instance|io_subsystem|3|error|<io_subsystem/>") {
			t.Errorf("%s: got %q", call, got)
		}
	}
	want(t, "log", texts(t, db, "SELECT RTRIM(instance_name), cntr_value FROM sys.dm_os_performance_counters"+
		" WHERE counter_name = N'Percent Log Used' AND cntr_value > 50"), "app|93")
	for _, c := range []struct {
		disk      model.Disk
		statement string
		number    int32
	}{
		{model.Disk{LogFull: true}, "INSERT t VALUES (2)", 9002},
		{model.Disk{DataBad: true}, "SELECT v FROM t", 823},
		{model.Disk{}, "SELECT v FROM t", 0},
	} {
		k.Disk("app", c.disk)
		if _, err := i.DB(t, "app").ExecContext(t.Context(), c.statement); numberOf(err) != c.number {
			t.Errorf("%+v: got %v, want error %d", c.disk, err, c.number)
		}
	}
	k.FailNext("app", model.Failover, &model.Error{Number: 1404, Class: 16, State: 1, Message: "busy"})
	if _, err := db.ExecContext(t.Context(), "ALTER DATABASE app SET PARTNER FAILOVER"); numberOf(err) != 1404 {
		t.Errorf("FAILOVER that is made to fail: got %v", err)
	}
}

// A commit that waits for a mirror which does not answer is not acknowledged before the mirror is given up.
func TestCommitWaitsForTheMirror(t *testing.T) {
	a, b := sqlservertest.Start(t, quick()), sqlservertest.Start(t, quick())
	sqlservertest.Mirror(t, []string{"app"}, a, b, nil, 10)
	db := a.DB(t, "app")
	want(t, "before", texts(t, db, "SELECT v FROM t"))
	begun := time.Now()
	a.Knobs().Cut(b.Endpoint(), true, true)
	exec(t, db, "INSERT INTO t VALUES ('exposed')")
	if took := time.Since(begun); took < 10*quick().Second {
		t.Errorf("acknowledged after %v, with a mirror that is given up after %v", took, 10*quick().Second)
	}
	want(t, "state", texts(t, db, "SELECT mirroring_state_desc FROM sys.database_mirroring WHERE database_id = DB_ID()"),
		"DISCONNECTED")
	want(t, "log", texts(t, db, "SELECT log_reuse_wait_desc FROM sys.databases WHERE name = N'app'"), "DATABASE_MIRRORING")
}

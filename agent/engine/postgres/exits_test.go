//go:build linux

package postgres

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/witnessd/witnessd/agent/engine"
)

// died waits for the news of a server's end and returns how long it took.
func (h *host) died(since time.Time) engine.Exit {
	h.t.Helper()
	select {
	case exit := <-h.Exits():
		took := time.Since(since)
		h.t.Logf("%s: noticed in %v: %s", h.name, took, exit.Reason)
		if took > 100*time.Millisecond {
			h.t.Errorf("noticed only after %v", took)
		}
		return exit
	case <-time.After(ample):
		h.t.Fatal("not noticed")
	}
	return engine.Exit{}
}

// TestExits: a server's end is told at once, whoever started it; a backend's crash is an end too.
func TestExits(t *testing.T) {
	a, _ := alone(t)
	run := a.see().Run
	began := time.Now()
	a.postmaster(unix.SIGKILL)
	if exit := a.died(began); exit.Run != run {
		t.Errorf("run %s ended, %s was told", run, exit.Run)
	}
	if got := a.see(); got.Running {
		t.Errorf("after the end: %+v", got)
	}

	// The next agent adopts what this one started.
	check(t, a.Standby(within(t, ample)))
	run = a.see().Run
	check(t, a.Engine.Close())
	a.open()
	if got := a.see(); got.Run != run || got.Role != engine.RoleMirror {
		t.Fatalf("run %s is %+v after the agent's restart", run, got)
	}
	pid := number(t, a.client().one("select pg_backend_pid()"))
	began = time.Now()
	check(t, unix.Kill(pid, unix.SIGKILL))
	if exit := <-a.Exits(); exit.Run != run {
		t.Errorf("run %s ended, %s was told", run, exit.Run)
	}
	t.Logf("a crashed backend ended an adopted server in %v", time.Since(began))

	check(t, a.Standby(within(t, ample)))
	check(t, a.Stop(within(t, ample)))
	select {
	case exit := <-a.Exits():
		t.Errorf("a stop that the agent asked for was delivered: %+v", exit)
	default:
	}
}

// TestAdopt: a second engine takes over a primary that serves, without disturbing it.
func TestAdopt(t *testing.T) {
	a, b := newPair(t)
	c := a.client()
	check(t, a.Engine.Close())
	a.open()
	got := a.see()
	if got.Role != engine.RolePrimary || got.Commits != engine.CommitsUnknown {
		t.Fatalf("adopted: %+v", got)
	}
	c.must("insert into t values (1)")
	check(t, a.HoldCommits(within(t, ample), b.peer()))
	if again := a.see(); again.Commits != engine.CommitsHeld || again.Run != got.Run {
		t.Fatalf("held after the adoption: %+v", again)
	}
	c.must("insert into t values (2)")
	check(t, a.ReleaseCommits(within(t, ample)))
}

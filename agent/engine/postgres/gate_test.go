//go:build linux

package postgres

import (
	"os"
	"strings"
	"testing"

	"github.com/witnessd/witnessd/agent/engine"
)

// alone makes the host a primary that acknowledges commits alone: the state from which a start by hand could
// do most harm.
func alone(t *testing.T, change ...func(*Config)) (a, b *host) {
	t.Helper()
	a, b = newHosts(t, change...)
	a.serve(b)
	check(t, a.ReleaseCommits(within(t, ample)))
	a.client().must("create table t (n int)")
	return a, b
}

// TestStartByHand: after everything was killed, a person starts the server, and finds a copy; promotes it,
// and finds that nothing is acknowledged. Then the agent takes it back.
func TestStartByHand(t *testing.T) {
	a, b := alone(t)
	a.crash()
	a.byHand("-w", "-o", a.handOptions(), "start")
	a.until("a copy, started by hand", func(s engine.State) bool { return s.Role == engine.RoleMirror })
	a.byHand("-w", "promote")
	a.until("promoted by hand", func(s engine.State) bool {
		return s.Role == engine.RolePrimary && s.Commits == engine.CommitsUnknown
	})
	a.mustWait("insert into t values (1)")

	if err := a.HoldCommits(within(t, ample), b.peer()); err == nil {
		t.Error("commits of a server that reads other settings were held")
	}
	a.serve(b)
	if got := a.see(); got.Commits != engine.CommitsHeld {
		t.Fatalf("taken back: %+v", got)
	}
	if _, err := os.Stat(a.path(standbySignal)); err != nil {
		t.Error(err)
	}
}

// TestCutShort: a promotion may be cut short between PostgreSQL's removal of standby.signal and its return.
// A start by hand then finds a primary, which still acknowledges nothing.
func TestCutShort(t *testing.T) {
	a, _ := alone(t)
	a.crash()
	check(t, os.Remove(a.path(standbySignal)))
	a.byHand("-w", "-o", a.handOptions(), "start")
	a.until("a primary, started by hand", func(s engine.State) bool { return s.Role == engine.RolePrimary })
	a.mustWait("insert into t values (1)")
	check(t, a.Standby(within(t, ample)))
	if got := a.see(); got.Role != engine.RoleMirror {
		t.Errorf("%+v", got)
	}
}

// TestRestartByHand: "pg_ctl restart" repeats the last command line, which must not be the one under which
// commits were released.
func TestRestartByHand(t *testing.T) {
	a, _ := alone(t)
	a.byHand("-w", "-m", "fast", "-o", a.handOptions(), "restart")
	a.until("a copy, restarted by hand", func(s engine.State) bool { return s.Role == engine.RoleMirror })
	c := a.client()
	if got := c.one("show synchronous_standby_names"); got != heldForNobody {
		t.Errorf("commits are held for %q", got)
	}
	if got := c.one("show config_file"); got != a.adminFile() {
		t.Errorf("the restarted server reads %s", got)
	}
}

// TestGateOpen: an administrator's setting that would let a start by hand acknowledge commits is found
// before the instance becomes primary.
func TestGateOpen(t *testing.T) {
	a, b := newHosts(t)
	auto := a.path("postgresql.auto.conf")
	check(t, os.WriteFile(auto, []byte("synchronous_standby_names = ''\n"), 0o600))
	check(t, a.Standby(within(t, ample)))
	if got := a.see(); got.Promotable || !strings.Contains(got.NotPromotable, "ALTER SYSTEM RESET") {
		t.Errorf("promotable with an open gate: %+v", got)
	}
	if err := a.Promote(within(t, ample), b.peer()); err == nil {
		t.Error("promoted with an open gate")
	}
	if got := a.see(); got.Role != engine.RoleMirror {
		t.Errorf("it became %v", got.Role)
	}
}

// TestConfigElsewhere: Debian keeps the configuration outside the data directory.
func TestConfigElsewhere(t *testing.T) {
	a, _ := newHosts(t)
	elsewhere := a.cfg.SocketDir + "/postgresql.conf"
	check(t, os.Rename(a.path("postgresql.conf"), elsewhere))
	a.cfg.ConfigFile = elsewhere
	check(t, a.Engine.Close())
	a.open()
	check(t, a.Standby(within(t, ample)))
	check(t, a.Stop(within(t, ample)))
	check(t, a.Standby(within(t, ample)))
	text, err := os.ReadFile(elsewhere)
	check(t, err)
	if n := strings.Count(string(text), "witness-agent"); n != 1 {
		t.Errorf("%d lines of the agent's in the configuration", n)
	}
	if a.see().Role != engine.RoleMirror || a.lastCheck() != nil {
		t.Errorf("%+v, gate: %v", a.see(), a.lastCheck())
	}
}

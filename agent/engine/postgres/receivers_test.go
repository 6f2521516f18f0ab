//go:build linux

package postgres

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/witnessd/witnessd/agent/engine"
)

// stranger receives from the host under the mirror's name, as a copied connection string would make it.
func (h *host) stranger(flags ...string) (end func()) {
	h.t.Helper()
	dir := h.t.TempDir()
	address, port, err := net.SplitHostPort(h.cfg.Listen)
	check(h.t, err)
	cmd := exec.Command(filepath.Join(h.Engine.bin, "pg_receivewal"), append([]string{"--directory", dir, "--synchronous",
		"--no-loop", "--dbname", dsn(map[string]string{
			"host": address, "port": port, "user": h.cfg.ReplicationUser, "application_name": "Witness_Sales_DB",
		})}, flags...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL}
	check(h.t, cmd.Start())
	end = sync.OnceFunc(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	h.t.Cleanup(end)
	c := h.client()
	eventually(h.t, "the stranger receives", func() error {
		if c.one("select count(*) from pg_stat_replication where application_name = 'Witness_Sales_DB' "+
			"and state = 'streaming'") != "1" {
			return errors.New("not yet")
		}
		return nil
	})
	return end
}

// TestSecondReceiver: PostgreSQL takes anybody's word who has the mirror's name. That is seen: commits count as
// held for the mirror alone, and a new hold is refused, until the other one is gone.
func TestSecondReceiver(t *testing.T) {
	a, b := newPair(t)
	a.until("mirror seen", func(s engine.State) bool { return s.Mirror.Attached })
	thaw := b.freezeReceiver()
	w := a.waits("insert into t values (1)")
	end := a.stranger()
	check(t, <-w.done) // Not by the mirror: it is frozen.
	if got := a.see(); got.Commits == engine.CommitsHeld || got.Mirror.Attached ||
		got.Mirror.Flushed.Offset >= got.Position.Offset {
		t.Errorf("with a second receiver: %+v", got)
	}
	thaw()
	if err := a.HoldCommits(within(t, ample), b.peer()); !errors.Is(err, errStranger) ||
		!strings.Contains(err.Error(), "127.0.0.1") {
		t.Errorf("held: %v", err)
	}
	a.until("warned", func(s engine.State) bool {
		return strings.Contains(s.Warning, "without its slot") && strings.Contains(s.Warning, "127.0.0.1")
	})
	check(t, a.ReleaseCommits(within(t, ample)))
	if err := a.HoldCommits(within(t, ample), b.peer()); !errors.Is(err, errStranger) {
		t.Errorf("held: %v", err)
	}
	if got := a.see(); got.Commits != engine.CommitsAlone || got.Mirror.Attached {
		t.Errorf("after a refused hold: %+v", got)
	}
	end()
	a.until("alone with its mirror", func(s engine.State) bool { return s.Mirror.Attached })
	check(t, a.HoldCommits(within(t, ample), b.peer()))
	if got := a.see(); got.Commits != engine.CommitsHeld || !got.Mirror.Attached {
		t.Errorf("after it is gone: %+v", got)
	}
	a.client().must("insert into t values (2)")
}

// TestSecondReceiverOnly: while the mirror is away, one that has its name but not its slot is not taken for it.
func TestSecondReceiverOnly(t *testing.T) {
	a, b := newPair(t)
	check(t, b.Stop(within(t, ample)))
	a.stranger()
	if got := a.see(); got.Commits == engine.CommitsHeld || got.Mirror.Attached {
		t.Errorf("%+v", got)
	}
}

// TestPromoteWithStranger: a receiver of the mirror's own that has the pair's name does not keep it from becoming
// primary, where it is seen. It connects anew at the promotion, so that it may be there before or after the hold.
func TestPromoteWithStranger(t *testing.T) {
	a, b := newPair(t)
	b.stranger()
	a.crash()
	b.serve(a)
	b.until("primary, and the stranger seen", func(s engine.State) bool {
		return s.Role == engine.RolePrimary && s.Commits != engine.CommitsHeld && !s.Mirror.Attached
	})
	check(t, b.ReleaseCommits(within(t, ample)))
	b.client().must("insert into t values (2)")
}

// TestCopiedDirectory: a copy of a mirror's or a primary's data directory that somebody starts does not receive
// under the mirror's name.
func TestCopiedDirectory(t *testing.T) {
	a, b := newPair(t)
	a.client().must("insert into t values (1)")
	for _, from := range []*host{a, b} {
		base := filepath.Dir(a.cfg.SocketDir)
		c := newHost(t, base, "copy-of-"+from.name)
		copyDir(t, from.Engine.cfg.DataDir, c.cfg.DataDir)
		check(t, os.Remove(c.path("postmaster.pid")))
		c.byHand("-w", "-o", c.handOptions(), "start")
		r := c.client()
		if got := r.one("select current_setting('primary_conninfo') || current_setting('primary_slot_name')"); got != "" {
			t.Errorf("a copy of %s would receive by %s", from.name, got)
		}
		if n := r.one("select count(*) from pg_stat_wal_receiver"); n != "0" {
			t.Errorf("a copy of %s receives", from.name)
		}
		check(t, c.Stop(within(t, ample)))
	}
	if got := a.see(); !got.Mirror.Attached || got.Commits != engine.CommitsHeld {
		t.Errorf("%+v", got)
	}
}

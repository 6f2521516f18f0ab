//go:build linux

package postgres

import (
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/witnessd/witnessd/agent/engine"
)

// newPair is a running primary that holds commits for a running mirror, and a table.
func newPair(t *testing.T, change ...func(*Config)) (a, b *host) {
	t.Helper()
	a, b = newHosts(t, change...)
	a.serve(b)
	b.follows(a)
	a.client().must("create table t (n int)")
	return a, b
}

// freezeReceiver suspends the process by which a mirror receives, as a hanging disk would.
func (h *host) freezeReceiver() (thaw func()) {
	h.t.Helper()
	pid := number(h.t, h.client().one("select pid from pg_stat_wal_receiver"))
	check(h.t, unix.Kill(pid, unix.SIGSTOP))
	return func() { check(h.t, unix.Kill(pid, unix.SIGCONT)) }
}

// TestHold goes from released to held under load and back: the proof must not stall clients noticeably, a
// held commit must wait for the mirror, and a release must let go of it.
func TestHold(t *testing.T) {
	a, b := newPair(t)
	check(t, a.ReleaseCommits(within(t, ample)))

	// A client commits all the time and notes its longest wait.
	load := a.client()
	var worst atomic.Int64
	stop, stopped := make(chan struct{}), make(chan error, 1)
	go func() {
		for {
			select {
			case <-stop:
				stopped <- nil
				return
			default:
			}
			began := time.Now()
			if err := load.exec("insert into t values (1)", ample); err != nil {
				stopped <- err
				return
			}
			worst.Store(max(worst.Load(), int64(time.Since(began))))
		}
	}()
	began := time.Now()
	check(t, a.HoldCommits(within(t, ample), b.peer()))
	took := time.Since(began)
	close(stop)
	check(t, <-stopped)
	t.Logf("hold proved in %v; the longest commit meanwhile took %v", took, time.Duration(worst.Load()))
	if longest := time.Duration(worst.Load()); longest > 500*time.Millisecond {
		t.Errorf("a client waited %v for the proof", longest)
	}
	if got := a.see(); got.Commits != engine.CommitsHeld || !got.Mirror.Attached {
		t.Fatalf("after the proof: %+v", got)
	}

	thaw := b.freezeReceiver()
	defer thaw()
	waiting := a.client()
	acknowledged := make(chan error, 1)
	go func() { acknowledged <- waiting.exec("insert into t values (2)", ample) }()
	select {
	case err := <-acknowledged:
		t.Fatalf("acknowledged without the mirror: %v", err)
	case <-time.After(200 * time.Millisecond):
	}
	began = time.Now()
	check(t, a.ReleaseCommits(within(t, ample)))
	check(t, <-acknowledged)
	t.Logf("released in %v", time.Since(began))
	if got := a.see(); got.Commits != engine.CommitsAlone {
		t.Fatalf("after the release: %+v", got)
	}
}

// TestHoldWithoutMirror: a hold is proved also when no mirror is there, and asked for again it costs nothing.
func TestHoldWithoutMirror(t *testing.T) {
	a, b := newHosts(t)
	a.serve(b)
	check(t, a.ReleaseCommits(within(t, ample)))
	a.client().must("create table t (n int)")
	check(t, a.HoldCommits(within(t, ample), b.peer()))
	a.mustWait("insert into t values (1)")
	began := time.Now()
	check(t, a.HoldCommits(within(t, ample), b.peer()))
	if took := time.Since(began); took > 100*time.Millisecond {
		t.Errorf("what was proved is proved again, in %v", took)
	}
	if n := a.client().one("select count(*) from pg_stat_activity where application_name = '" +
		probeName + "'"); n != "0" {
		t.Errorf("%s probes left behind", n)
	}
	slot := a.client().one("select slot_name || ' ' || (restart_lsn is not null) from pg_replication_slots")
	if slot != "witness_sales_db true" {
		t.Errorf("slot %q", slot)
	}
}

// TestHoldOverridden: settings by which commits would be acknowledged although the engine set otherwise are
// refused, with what to do, and do not leave clients waiting.
func TestHoldOverridden(t *testing.T) {
	for _, test := range []struct{ name, sql, want string }{
		{"names", "alter system set synchronous_standby_names = ''",
			"ALTER SYSTEM RESET synchronous_standby_names"},
		{"durability", "alter system set synchronous_commit = 'local'", "synchronous_commit is local"},
	} {
		t.Run(test.name, func(t *testing.T) {
			a, b := newHosts(t)
			a.serve(b)
			check(t, a.ReleaseCommits(within(t, ample)))
			c := a.client()
			c.must(test.sql)
			c.must("select pg_reload_conf()")
			err := a.HoldCommits(within(t, ample), b.peer())
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Fatalf("got %v, want %q in it", err, test.want)
			}
			if got := a.see(); got.Commits != engine.CommitsAlone {
				t.Errorf("a hold that failed left %v", got.Commits)
			}
			c.must("create table t (n int)")
		})
	}
}

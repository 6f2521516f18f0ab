//go:build linux

package postgres

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/witnessd/witnessd/agent/engine"
)

// TestLife goes once around: a database that was never started becomes a primary, an empty host its mirror,
// commits are held and released, the primary crashes, the mirror takes over.
func TestLife(t *testing.T) {
	a, b := newHosts(t)
	if got := a.see(); got.Running || got.Data != engine.DataPresent || !got.Promotable {
		t.Fatalf("before the first start: %+v", got)
	}
	if got := b.see(); got.Running || got.Data != engine.DataEmpty || got.Promotable {
		t.Fatalf("an empty host: %+v", got)
	}
	check(t, a.Standby(within(t, ample)))
	if got := a.see(); got.Role != engine.RoleMirror || got.Following || got.Position.Timeline != 1 {
		t.Fatalf("as a copy without upstream: %+v", got)
	}
	began := time.Now()
	a.serve(b)
	t.Logf("promoted in %v", time.Since(began))
	if got := a.see(); got.Role != engine.RolePrimary || got.Commits != engine.CommitsHeld {
		t.Fatalf("after the promotion: %+v", got)
	}
	a.mustWait("create table t (n int)")

	b.follows(a)
	c := a.client()
	c.must("insert into t values (1)")
	first := b.see()
	if !first.Following || first.Role != engine.RoleMirror || first.SystemID != a.see().SystemID {
		t.Fatalf("the mirror: %+v", first)
	}
	a.until("mirror seen", func(s engine.State) bool {
		return s.Mirror.Attached && s.Mirror.Flushed.Offset >= s.Position.Offset
	})

	a.crash()
	a.until("dead", func(s engine.State) bool { return !s.Running })
	began = time.Now()
	b.serve(a)
	t.Logf("promoted in %v", time.Since(began))
	if got := b.see(); got.Role != engine.RolePrimary || got.Commits != engine.CommitsHeld ||
		got.Position.Timeline != first.Position.Timeline+1 {
		t.Fatalf("the new primary: %+v", got)
	}
	b.mustWait("insert into t values (2)")
	check(t, b.ReleaseCommits(within(t, ample)))
	if got := b.see(); got.Commits != engine.CommitsAlone {
		t.Fatalf("released: %+v", got)
	}
	if n := b.client().one("select count(*) from t"); n != "2" {
		t.Fatalf("rows on the new primary: %s", n)
	}
}

// TestPromoteFrozenUpstream: a primary that hangs with its connections open must not delay the promotion.
func TestPromoteFrozenUpstream(t *testing.T) {
	a, b := newPair(t)
	for _, p := range a.processes() {
		check(t, unix.Kill(p.pid, unix.SIGSTOP))
	}
	if _, err := a.Observe(within(t, 200*time.Millisecond)); err == nil {
		t.Error("a hanging instance was shown as a state")
	}
	began := time.Now()
	b.serve(a)
	took := time.Since(began)
	t.Logf("promoted in %v", took)
	if took > time.Second {
		t.Errorf("promotion took %v", took)
	}
	a.fence()
}

// TestPromoteStopped: an instance that nobody started is promoted as well, after a crash too.
func TestPromoteStopped(t *testing.T) {
	a, b := alone(t)
	a.client().must("insert into t values (1)")
	a.crash()
	a.serve(b)
	if got := a.see(); got.Commits != engine.CommitsHeld || got.Position.Timeline != 3 {
		t.Errorf("%+v", got)
	}
	if n := a.client().one("select count(*) from t"); n != "1" {
		t.Errorf("%s rows", n)
	}
}

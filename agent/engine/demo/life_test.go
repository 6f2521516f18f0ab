//go:build linux

package demo

import (
	"errors"
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/witnessd/witnessd/agent/engine"
	"github.com/witnessd/witnessd/agent/engine/demo/kv"
)

// A pair lives through a crash of its primary: noticed at once, mirror promoted, nothing acknowledged is
// lost, and the old primary comes back as a mirror without what nobody had confirmed.
func TestFailover(t *testing.T) {
	a, b := newPair(t)
	c := client(t, a, b)
	for i := range 20 {
		a.must(c.Set(a.ctx(), fmt.Sprintf("key%d", i), "1"))
	}
	if s := a.state(); s.Role != engine.RolePrimary || s.Commits != engine.CommitsHeld ||
		!s.Mirror.Attached || s.Mirror.Flushed != s.Position {
		t.Fatalf("primary: %+v", s)
	}
	if s := b.state(); s.Role != engine.RoleMirror || !s.Following || !s.Promotable ||
		s.Position != a.state().Position || s.SystemID != a.state().SystemID {
		t.Fatalf("mirror: %+v", s)
	}
	run := a.state().Run
	a.signal(syscall.SIGKILL)
	if exit := a.exit(); exit.Run != run || exit.Reason != "signal: killed" {
		t.Errorf("exit %+v of run %s", exit, run)
	}
	b.promote()
	if s := b.state(); s.Role != engine.RolePrimary || s.Commits != engine.CommitsHeld ||
		s.Position.Timeline != 3 {
		t.Fatalf("promoted: %+v", s)
	}
	b.must(b.ReleaseCommits(b.ctx()))
	if s := b.state(); s.Commits != engine.CommitsAlone {
		t.Fatalf("released: %+v", s)
	}
	if n, err := c.Count(b.ctx(), "key"); err != nil || n != 20 {
		t.Errorf("%d keys after the failover, %v; want 20", n, err)
	}

	if s := a.state(); s.Running || s.Data != engine.DataPresent || !s.Promotable || s.Run != "" {
		t.Errorf("stopped: %+v", s)
	}
	a.follow(b)
	b.must(b.HoldCommits(b.ctx(), a.peer()))
	b.must(c.Set(b.ctx(), "after", "1"))
	if s := b.state(); s.Commits != engine.CommitsHeld || s.Mirror.Flushed != s.Position {
		t.Errorf("held again: %+v", s)
	}
	a.quiet()
	b.quiet()
}

// Every commit acknowledged before a kill -9 is there after a restart.
func TestKillKeepsAcknowledgedCommits(t *testing.T) {
	h := newPrimary(t)
	h.must(h.ReleaseCommits(h.ctx()))
	c := client(t, h)
	acknowledged, enough := make(chan string), make(chan struct{})
	go func() {
		defer close(acknowledged)
		for i := 0; ; i++ {
			key := fmt.Sprintf("key%d", i)
			if err := c.Set(h.ctx(), key, key); err != nil {
				return
			}
			if i == 100 {
				close(enough)
			}
			acknowledged <- key
		}
	}()
	var keys []string
	killed := false
	for key := range acknowledged {
		keys = append(keys, key)
		select {
		case <-enough:
			if !killed {
				h.signal(syscall.SIGKILL)
				killed = true
			}
		default:
		}
	}
	h.exit()
	h.must(h.Standby(h.ctx()))
	reader := &kv.Client{Addresses: []string{h.Address()}, Any: true}
	defer reader.Close()
	for _, key := range keys {
		if v, ok, err := reader.Get(h.ctx(), key); v != key || !ok || err != nil {
			t.Fatalf("acknowledged %s: %q %v %v", key, v, ok, err)
		}
	}
	t.Logf("%d acknowledged commits survived", len(keys))
}

// Permission to commit alone ends with the process, whoever starts the next one.
func TestReleaseDoesNotSurvive(t *testing.T) {
	h := newPrimary(t)
	h.must(h.ReleaseCommits(h.ctx()))
	h.must(h.Stop(h.ctx()))
	h.must(h.Standby(h.ctx()))
	if s := h.state(); s.Role != engine.RoleMirror || s.Commits != engine.CommitsUnknown {
		t.Errorf("after the restart: %+v", s)
	}
	h.promote()
	if s := h.state(); s.Commits != engine.CommitsHeld {
		t.Errorf("promoted again: %+v", s)
	}
	h.quiet()
}

// A planned switch ends with a mirror that has said itself that it has everything.
func TestHandOver(t *testing.T) {
	a, b := newPair(t)
	a.must(client(t, a).Set(a.ctx(), "a", "1"))
	end := a.state().Position
	h, err := a.HandOver(a.ctx(), b.peer())
	a.must(err)
	if !h.MirrorHasEverything || h.Final != end {
		t.Fatalf("hand over: %+v, want %v", h, end)
	}
	if s := a.state(); s.Running {
		t.Fatalf("after the hand-over: %+v", s)
	}
	b.promote()
	a.follow(b)
	b.must(client(t, b).Set(b.ctx(), "b", "1"))
	a.must(a.Stop(a.ctx()))

	// Without the mirror nothing is claimed.
	c := client(t, b)
	before := b.state().Position
	waits := make(chan error, 1)
	go func() { waits <- c.Set(b.ctx(), "c", "1") }()
	b.until("the commit waits", func(s engine.State) bool { return s.Position != before })
	h, err = b.HandOver(shorter(b.ctx(), t, 500*time.Millisecond), a.peer())
	b.must(err)
	if h.MirrorHasEverything {
		t.Errorf("hand over without a mirror: %+v", h)
	}
	if err := <-waits; !errors.Is(err, kv.ErrOutcomeUnknown) {
		t.Errorf("commit that waited: %v", err)
	}
	a.quiet()
	b.quiet()
}

// The next agent finds the process that this one started, and hears of its end.
func TestAdoption(t *testing.T) {
	h := newPrimary(t)
	before := h.state()
	h.must(h.Close())
	h.open()
	if after := h.state(); after.Run != before.Run || after.Role != engine.RolePrimary ||
		after.Commits != engine.CommitsHeld {
		t.Fatalf("adopted %+v, was %+v", after, before)
	}
	h.quiet()
	h.signal(syscall.SIGKILL)
	if exit := h.exit(); exit.Run != before.Run {
		t.Errorf("exit %+v of run %s", exit, before.Run)
	}
	h.promote()
	if s := h.state(); s.Run == before.Run {
		t.Error("two runs have one name")
	}
}

// A demodb that a person starts is a mirror whose clients cannot write and whose commits are held.
func TestStartByHand(t *testing.T) {
	h := newPrimary(t)
	h.must(h.ReleaseCommits(h.ctx()))
	h.must(h.Fence(h.ctx()))
	startByHand(t, h.cfg)
	s := h.until("it runs", func(s engine.State) bool { return s.Running })
	if s.Role != engine.RoleMirror || s.Commits != engine.CommitsUnknown || s.Following {
		t.Errorf("started by hand: %+v", s)
	}
	c := &kv.Client{Addresses: []string{h.Address()}, Any: true}
	defer c.Close()
	var no *kv.Refusal
	if err := c.Set(h.ctx(), "a", "1"); !errors.As(err, &no) || no.Code != kv.CodeReadOnly {
		t.Errorf("write: %v", err)
	}
	h.must(h.Standby(h.ctx()))
	if again := h.state(); again.Run != s.Run {
		t.Error("a running mirror was not left alone")
	}
	second := startByHand(t, h.cfg)
	if err := second.Wait(); err == nil {
		t.Error("two processes on one directory")
	}
	h.promote()
	if s := h.state(); s.Commits != engine.CommitsHeld {
		t.Errorf("promoted: %+v", s)
	}
	h.signal(syscall.SIGKILL)
	if exit := h.exit(); exit.Run != s.Run {
		t.Errorf("exit %+v of run %s", exit, s.Run)
	}
}

// Follow on a primary, and on a mirror that follows already.
func TestFollowFromAnyState(t *testing.T) {
	a, b := newPair(t)
	run := b.state().Run
	b.follow(a)
	if s := b.state(); s.Run != run || !s.Following {
		t.Errorf("a mirror that follows was not left alone: %+v", s)
	}
	b.promote()
	b.follow(a)
	if s := b.state(); s.Run == run || s.Role != engine.RoleMirror || !s.Following {
		t.Errorf("a primary did not become a mirror by a restart: %+v", s)
	}
	b.quiet()
}

// LetGo makes a primary commit alone until it ends, and changes nothing else.
func TestLetGo(t *testing.T) {
	a, b := newPair(t)
	b.must(b.LetGo(b.ctx()))
	if s := b.state(); s.Role != engine.RoleMirror || !s.Following {
		t.Errorf("a mirror that was let go of: %+v", s)
	}
	a.must(a.LetGo(a.ctx()))
	b.must(b.Fence(b.ctx()))
	a.must(a.LetGo(a.ctx()))
	a.must(client(t, a).Set(a.ctx(), "a", "1"))
	if s := a.state(); s.Role != engine.RolePrimary || s.Commits != engine.CommitsAlone {
		t.Errorf("a primary that was let go of: %+v", s)
	}
	a.promote()
	if s := a.state(); s.Commits != engine.CommitsHeld {
		t.Errorf("in a pair again: %+v", s)
	}
	a.must(a.Stop(a.ctx()))
	a.must(a.LetGo(a.ctx()))
	if s := a.state(); s.Running {
		t.Errorf("started: %+v", s)
	}
	a.quiet()
}

//go:build linux

package demo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/witnessd/witnessd/agent/engine"
	"github.com/witnessd/witnessd/agent/engine/demo/kv"
)

func shorter(ctx context.Context, t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, d)
	t.Cleanup(cancel)
	return ctx
}

// When Fence has returned, no client is acknowledged any more, although several commit as fast as they
// can. An answer that a client had received before, and merely not read, does not count: each client
// notes the time before it asks, and what it asks after the return must fail.
func TestFenceEndsService(t *testing.T) {
	h := newPrimary(t)
	h.must(h.ReleaseCommits(h.ctx()))
	var fenced atomic.Bool
	var commits atomic.Int64
	done := make(chan error)
	const clients = 4
	for i := range clients {
		c := client(t, h)
		go func() {
			for {
				asked := fenced.Load()
				err := c.Set(h.ctx(), fmt.Sprintf("key%d", i), "1")
				if err == nil && asked {
					err = errors.New("acknowledged a commit that was asked for after the fence")
				}
				if err != nil {
					done <- err
					return
				}
				commits.Add(1)
			}
		}()
	}
	waitFor(t, func() bool { return commits.Load() > 200 })
	h.must(h.Fence(h.ctx()))
	fenced.Store(true)
	for range clients {
		if err := <-done; !errors.Is(err, kv.ErrOutcomeUnknown) {
			t.Error(err)
		}
	}
	h.quiet()
	if s := h.state(); s.Running {
		t.Errorf("after the fence: %+v", s)
	}
	startByHand(t, h.cfg)
	if s := h.until("it runs", func(s engine.State) bool { return s.Running }); s.Role != engine.RoleMirror {
		t.Errorf("started after the fence: %+v", s)
	}
}

func waitFor(t *testing.T, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); {
		if time.Now().After(deadline) {
			t.Fatal("waited in vain")
		}
		time.Sleep(time.Millisecond)
	}
}

// A frozen process answers nobody: Observe says so in time, and Fence ends it all the same.
func TestFrozenProcess(t *testing.T) {
	h := newPrimary(t)
	h.signal(syscall.SIGSTOP)
	waitFor(t, func() bool { return frozen(t, h.pid()) })
	ctx := shorter(h.ctx(), t, 100*time.Millisecond)
	if s, err := h.Observe(ctx); err == nil || ctx.Err() == nil {
		t.Errorf("observed a frozen process: %+v", s)
	}
	h.must(h.Fence(shorter(h.ctx(), t, guard)))
	h.quiet()
}

// frozen says that every thread of a process has stopped; a signal takes a moment to reach them all.
func frozen(t *testing.T, pid int) bool {
	t.Helper()
	stats, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	if err != nil || len(stats) == 0 {
		t.Fatalf("threads of %d: %v %v", pid, stats, err)
	}
	for _, name := range stats {
		stat, err := os.ReadFile(name)
		if err != nil || !strings.Contains(string(stat), ") T ") {
			return false
		}
	}
	return true
}

// Fence finds also a process that nobody has looked at since a person started it.
func TestFenceFindsWhatAPersonStarted(t *testing.T) {
	h := newPrimary(t)
	h.must(h.Stop(h.ctx()))
	cmd := startByHand(t, h.cfg)
	waitFor(t, func() bool { o, err := kv.FindOwner(h.cfg.DataDir); return err == nil && o.PID != 0 })
	h.must(h.Fence(h.ctx()))
	if err := cmd.Wait(); err == nil {
		t.Error("it ended by itself")
	}
	h.quiet()
}

// Fence cuts short the call that runs.
func TestFenceCutsCalls(t *testing.T) {
	a, b := newPair(t)
	a.must(a.Stop(a.ctx()))
	b.must(b.Stop(b.ctx()))
	attaching, result := make(chan struct{}), make(chan error, 1)
	told := false
	go func() {
		result <- b.Follow(b.ctx(), a.peer(), func(engine.Progress) {
			if !told {
				told = true
				close(attaching) // From here on it waits for a primary that is not there.
			}
		})
	}()
	<-attaching
	b.must(b.Fence(b.ctx()))
	if err := <-result; !errors.Is(err, engine.ErrFenced) {
		t.Errorf("follow: %v", err)
	}
	if s := b.state(); s.Running {
		t.Errorf("after the fence: %+v", s)
	}
	b.quiet()
}

// A promotion that a fence cut short, at whatever moment, leaves nothing that runs.
func TestFenceDuringPromotion(t *testing.T) {
	h := newHost(t)
	if _, err := kv.Init(h.cfg.DataDir); err != nil {
		t.Fatal(err)
	}
	cut := 0
	for i := range 20 {
		result := make(chan error, 1)
		go func() { result <- h.Promote(h.ctx(), engine.Peer{Pair: "sales"}) }()
		<-time.After(time.Duration(i) * time.Millisecond) // Moves through the start and beyond.
		h.must(h.Fence(h.ctx()))
		err := <-result
		switch {
		case errors.Is(err, engine.ErrFenced):
			cut++
			h.until("it is gone", func(s engine.State) bool { return !s.Running })
		case err != nil:
			t.Fatalf("promote: %v", err)
		default: // It was done before the fence, or begun after it.
			h.must(h.Fence(h.ctx()))
		}
	}
	if cut == 0 {
		t.Error("no promotion was cut short")
	}
	h.quiet()
}

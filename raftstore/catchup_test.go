package raftstore_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/witnessd/witnessd/raftstore"
)

// A node that was away for longer than the log reaches back gets a snapshot, while entries go on. Its own log
// then has a hole, which is no damage when it starts again.
func TestCatchUpBySnapshot(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newGroup(t)
		first := []raftstore.Server{server("a"), server("b"), server("c")}
		for _, s := range first {
			g.add(s.ID, func(o *raftstore.Options) {
				o.Dir, o.Bootstrap, o.TrailingLogs = t.TempDir(), first, 5
			})
		}
		l := g.leader()
		f := g.followers(l)[0]
		flow := startFlow(g, l)
		for range 2 {
			flow.pass(20)
			g.stop(f.id)
			flow.pass(20)
			if err := l.Snapshot(t.Context()); err != nil {
				t.Fatal(err)
			}
			g.start(f.id)
			flow.pass(20)
		}
		flow.stop()
		g.stop(f.id)
		g.start(f.id)
		g.settled(flow.accepted, g.nodes["a"], g.nodes["b"], g.nodes["c"])
		g.noFaults()
	})
}

// flow proposes entries one after the other on a leader that is never stopped, so that every outcome is known.
type flow struct {
	g        *group
	cancel   context.CancelFunc
	ended    sync.WaitGroup
	mu       sync.Mutex
	accepted []string
}

func startFlow(g *group, leader *node) *flow {
	ctx, cancel := context.WithCancel(g.t.Context())
	f := &flow{g: g, cancel: cancel}
	f.ended.Go(func() {
		for n := 0; ctx.Err() == nil; n++ {
			entry := fmt.Sprint("entry ", n)
			if _, err := leader.Propose(g.t.Context(), []byte(entry)); err != nil {
				g.t.Errorf("propose %s: %v", entry, err)
				return
			}
			f.mu.Lock()
			f.accepted = append(f.accepted, entry)
			f.mu.Unlock()
			time.Sleep(time.Millisecond)
		}
	})
	return f
}

// pass waits until so many more entries were accepted.
func (f *flow) pass(n int) {
	f.g.t.Helper()
	f.mu.Lock()
	want := len(f.accepted) + n
	f.mu.Unlock()
	f.g.wait(func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		return len(f.accepted) >= want
	}, func() string { return "the entries do not go on" })
}

func (f *flow) stop() {
	f.cancel()
	f.ended.Wait()
}

package raftstore_test

import (
	"context"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/witnessd/witnessd/raftstore"
)

// offices runs Lead on a node, keeps a list of the terms, and fails the test when two overlap.
type offices struct {
	t *testing.T

	mu     sync.Mutex
	terms  []uint64
	busy   bool
	linger time.Duration // how long an office takes to return when it is told to
	ended  chan error
}

func lead(t *testing.T, n *node, office func(ctx context.Context, term uint64)) *offices {
	o := &offices{t: t, ended: make(chan error, 1)}
	gone := make(chan struct{})
	t.Cleanup(func() { <-gone })
	go func() {
		defer close(gone)
		o.ended <- n.Lead(t.Context(), func(ctx context.Context, term uint64) {
			o.begin(term)
			if office != nil {
				office(ctx, term)
			}
			<-ctx.Done()
			time.Sleep(o.pause())
			o.end()
		})
	}()
	return o
}

func (o *offices) begin(term uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.busy {
		o.t.Error("two offices at once")
	}
	if len(o.terms) > 0 && o.terms[len(o.terms)-1] >= term {
		o.t.Errorf("office of term %d after %v", term, o.terms)
	}
	o.busy = true
	o.terms = append(o.terms, term)
}

func (o *offices) end() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.busy = false
}

func (o *offices) pause() time.Duration {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.linger
}

func (o *offices) held() []uint64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.terms)
}

// Whoever takes office sees all that its predecessors were told is accepted, and is confirmed in its own
// term.
func TestLeadBeginsAfterBarrier(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newGroup(t, "a", "b", "c")
		var mu sync.Mutex
		var accepted []string
		took := make(chan *node, 10)
		for _, n := range g.nodes {
			lead(t, n, func(_ context.Context, term uint64) {
				mu.Lock()
				defer mu.Unlock()
				if got := n.machine.read(); !slices.Equal(got, accepted) {
					t.Errorf("%s takes office with %d entries of %d", n.id, len(got), len(accepted))
				}
				if now := n.CurrentTerm(); now != term {
					t.Errorf("office of term %d in term %d", term, now)
				}
				if _, leading := n.Confirmed(term); !leading {
					t.Errorf("office of term %d on a node that does not lead", term)
				}
				took <- n
			})
		}
		for range 5 {
			l := <-took
			mu.Lock()
			for _, e := range numbered(50) {
				g.propose(l, e)
				accepted = append(accepted, e)
			}
			mu.Unlock()
			g.network.Isolate(l.id)
			next := <-took
			g.network.HealAll()
			time.Sleep(time.Second)
			took <- next
		}
	})
}

// An office is told that it is over, and waited for, although its node leads again long before.
func TestLeadWaitsForOffice(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newGroup(t, "a", "b", "c")
		l := g.leader()
		o := lead(t, l, nil)
		synctest.Wait()
		o.mu.Lock()
		o.linger = 20 * time.Second
		o.mu.Unlock()
		for range 3 {
			if err := l.TransferLeadership(t.Context(), ""); err != nil {
				t.Fatal(err)
			}
			if err := g.leader().TransferLeadership(t.Context(), l.id); err != nil {
				t.Fatal(err)
			}
			g.leader()
		}
		if got := o.held(); len(got) != 1 {
			t.Fatalf("offices of terms %v, want one still", got)
		}
		time.Sleep(20 * time.Second)
		got := o.held()
		if len(got) != 2 || got[1] != l.CurrentTerm() {
			t.Fatalf("offices of terms %v, want the first and that of term %d", got, l.CurrentTerm())
		}
	})
}

func TestLeadEnds(t *testing.T) {
	t.Run("with its context", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			g := newGroup(t, "a")
			l := g.leader()
			ctx, cancel := context.WithCancel(t.Context())
			var over context.Context
			ended := make(chan error)
			go func() {
				ended <- l.Lead(ctx, func(ctx context.Context, _ uint64) { over = ctx; <-ctx.Done() })
			}()
			synctest.Wait()
			cancel()
			wantError(t, <-ended, context.Canceled)
			wantError(t, over.Err(), context.Canceled)
		})
	})
	t.Run("with the store", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			g := newGroup(t, "a")
			l := g.leader()
			o := lead(t, l, nil)
			synctest.Wait()
			g.stop("a")
			wantError(t, <-o.ended, raftstore.ErrClosed)
			if got := o.held(); len(got) != 1 {
				t.Fatalf("offices of terms %v, want one", got)
			}
		})
	})
}

// A transfer of leadership that comes to nothing leaves a leader in office.
func TestTransferThatFails(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newGroup(t, "a", "b", "c")
		l := g.leader()
		o := lead(t, l, nil)
		f := g.followers(l)[0]
		g.cut(f, l)
		if err := l.TransferLeadership(t.Context(), f.id); err == nil {
			t.Fatal("handed over to a node that cannot be reached")
		}
		time.Sleep(time.Second)
		g.propose(g.leader(f.id), "x")
		if got := o.held(); len(got) == 0 {
			t.Fatal("nobody in office")
		}
	})
}

package raftstore_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/witnessd/witnessd/raftstore"
)

func TestProposeReachesEveryNode(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newGroup(t, "a", "b", "c")
		l := g.leader()
		entries := numbered(100)
		for i, e := range entries {
			if got, err := l.Propose(t.Context(), []byte(e)); err != nil || got != i+1 {
				t.Fatalf("propose: %v, %v, want %d", got, err, i+1)
			}
		}
		g.settled(entries, l, g.followers(l)[0], g.followers(l)[1])
		g.noFaults()
	})
}

func TestProposeRefused(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newGroup(t, "a", "b", "c")
		l := g.leader()
		f := g.followers(l)[0]

		_, err := f.Propose(t.Context(), []byte("x"))
		wantError(t, err, raftstore.ErrNotLeader)
		_, err = l.Propose(t.Context(), make([]byte, 1<<20))
		wantError(t, err, raftstore.ErrTooLarge)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err = l.Propose(ctx, []byte("x"))
		wantError(t, err, context.Canceled)
		if errors.Is(err, raftstore.ErrOutcomeUnknown) {
			t.Fatalf("it was not proposed at all, and the error is %v", err)
		}

		g.stop(f.id)
		_, err = f.Propose(t.Context(), []byte("x"))
		wantError(t, err, raftstore.ErrClosed)
		g.settled(nil, l, g.followers(l)[1])
	})
}

// The entry is in the log of a leader that was cut off. Nobody may be told that it was refused: another
// history would have kept it.
func TestProposeOutcomeUnknown(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newGroup(t, "a", "b", "c")
		old := g.leader()
		g.network.Isolate(old.id)
		_, err := old.Propose(t.Context(), []byte("lost"))
		wantError(t, err, raftstore.ErrOutcomeUnknown)

		l := g.leader(old.id)
		g.propose(l, "kept")
		g.network.HealAll()
		g.settled([]string{"kept"}, old, l)
		g.noFaults()
	})
}

func TestProposeGivenUp(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newGroup(t, "a", "b", "c")
		l := g.leader()
		g.network.Isolate(l.id)
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		_, err := l.Propose(ctx, []byte("x"))
		wantError(t, err, raftstore.ErrOutcomeUnknown)
		wantError(t, err, context.DeadlineExceeded)
	})
}

// An own disk that fails says nothing about what is on it.
func TestProposeOnFailingDisk(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newGroup(t, "a", "b", "c")
		l := g.leader()
		l.disk.FailWrites(errors.New("no space"))
		_, err := l.Propose(t.Context(), []byte("x"))
		wantError(t, err, raftstore.ErrOutcomeUnknown)
		l.disk.FailWrites(nil)
		g.propose(g.leader(), "y")
	})
}

func TestProposeConcurrently(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newGroup(t, "a", "b", "c")
		l := g.leader()
		entries := numbered(2000)
		var all sync.WaitGroup
		for _, e := range entries {
			all.Go(func() { g.propose(l, e) })
		}
		all.Wait()
		got := l.machine.read()
		slices.Sort(got)
		slices.Sort(entries)
		if !slices.Equal(got, entries) {
			t.Fatalf("%d entries, want %d", len(got), len(entries))
		}
	})
}

// Whatever is under way when a store is closed gets an answer, and no goroutine stays: the bubble would
// not end.
func TestCloseWhileBusy(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newGroup(t, "a", "b", "c")
		l := g.leader()
		g.network.Isolate(l.id)
		var all sync.WaitGroup
		for range 100 {
			all.Go(func() {
				_, err := l.Propose(t.Context(), []byte("x"))
				if err == nil {
					t.Error("accepted without a quorum")
				}
			})
			all.Go(func() {
				if err := l.WaitConfirmed(t.Context(), l.CurrentTerm(), l.Mark()); err == nil {
					t.Error("confirmed without a quorum")
				}
			})
		}
		synctest.Wait()
		g.stop(l.id)
		all.Wait()
	})
}

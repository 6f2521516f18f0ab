package raftstore_test

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/witnessd/witnessd/raftstore"
)

// confirmed returns what n may answer in term; it must lead.
func confirmed(t *testing.T, n *node, term uint64) uint64 {
	t.Helper()
	mark, leading := n.Confirmed(term)
	if !leading {
		t.Fatalf("%s does not lead term %d", n.id, term)
	}
	return mark
}

func TestConfirmedByHeartbeats(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newGroup(t, "a", "b", "c")
		l := g.leader()
		term := l.CurrentTerm()
		var slowest time.Duration
		for range 200 {
			began := time.Now()
			mark := l.Mark()
			if confirmed(t, l, term) >= mark {
				t.Fatal("confirmed by what was sent before the mark")
			}
			if err := l.WaitConfirmed(t.Context(), term, mark); err != nil {
				t.Fatal(err)
			}
			slowest = max(slowest, time.Since(began))
			time.Sleep(7 * time.Millisecond)
		}
		// The faster of two followers; each hears a heartbeat every 25 to 50 ms.
		if slowest > 50*time.Millisecond {
			t.Errorf("confirmed after %v", slowest)
		}
	})
}

// A node alone needs nobody, and is not made to wait.
func TestConfirmedAlone(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newGroup(t, "a")
		l := g.leader()
		term := l.CurrentTerm()
		kept := confirmed(t, l, term)
		for range 10 {
			mark := l.Mark()
			if kept >= mark {
				t.Fatal("an earlier answer confirms a later mark")
			}
			if kept = confirmed(t, l, term); kept < mark {
				t.Fatalf("confirmed up to %d, want %d", kept, mark)
			}
		}
	})
}

// The answers to what was sent before the mark arrive after it. This is the hole in raft.VerifyLeader.
func TestLateAnswersDoNotConfirm(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newGroup(t, "a", "b", "c")
		l := g.leader()
		term := l.CurrentTerm()
		for range 20 {
			for _, f := range g.followers(l) {
				g.network.Cut(f.id, l.id) // they hear, and are not heard
			}
			time.Sleep(60 * time.Millisecond) // the leader has asked again
			before, mark := confirmed(t, l, term), l.Mark()
			g.network.HealAll()
			synctest.Wait()
			if now := confirmed(t, l, term); now <= before || now >= mark {
				t.Fatalf("confirmed up to %d when late answers arrived, want above %d and below %d",
					now, before, mark)
			}
			if err := l.WaitConfirmed(t.Context(), term, mark); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// Answers of a node that has no vote prove nothing: the voters may follow another leader.
func TestNonvotersDoNotConfirm(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newGroup(t, "a", "b", "c")
		l := g.leader()
		for _, id := range []string{"d", "e"} {
			g.add(id, nil)
			d := server(id)
			d.Nonvoter = true
			if err := l.AddServer(t.Context(), d); err != nil {
				t.Fatal(err)
			}
		}
		term := l.CurrentTerm()
		for _, n := range g.followers(l) {
			if n.id < "d" {
				g.cut(l, n)
			}
		}
		heard := l.Status().Peers
		mark := l.Mark()
		for l.State() == raftstore.Leader {
			if now, leading := l.Confirmed(term); leading && now >= mark {
				t.Fatal("confirmed by nodes without a vote")
			}
			time.Sleep(time.Millisecond)
		}
		for i, p := range l.Status().Peers {
			if p.Nonvoter && !p.Heard.After(heard[i].Heard) {
				t.Errorf("node %s did not answer: this test shows nothing", p.ID)
			}
		}
	})
}

// A leader that was cut off is not confirmed from then on, never again in that term, and not by what it is
// told in a later one.
func TestDeposedLeaderIsNotConfirmed(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newGroup(t, "a", "b", "c")
		old := g.leader()
		term, mark := old.CurrentTerm(), uint64(0)
		never := func() {
			t.Helper()
			if now, leading := old.Confirmed(term); leading && now >= mark {
				t.Fatal("a deposed leader was confirmed")
			}
		}
		g.network.Isolate(old.id)
		mark = old.Mark()
		waited := make(chan error, 1)
		go func() { waited <- old.WaitConfirmed(t.Context(), term, mark) }()

		l := g.leader(old.id)
		never()
		g.propose(l, "x")
		g.network.HealAll()
		for range 200 {
			never()
			time.Sleep(time.Millisecond)
		}
		wantError(t, <-waited, raftstore.ErrNotLeader)

		if err := g.leader().TransferLeadership(t.Context(), old.id); err != nil {
			t.Fatal(err)
		}
		if l = g.leader(); l != old {
			t.Fatalf("%s leads, want %s", l.id, old.id)
		}
		if _, leading := old.Confirmed(term); leading {
			t.Fatal("an old term was confirmed in a new one")
		}
		if confirmed(t, old, old.CurrentTerm()) < mark {
			t.Fatal("not confirmed in the new term")
		}
	})
}

// Two nodes of three are cut from each other in the worst way: the leader is heard and does not hear.
func TestLeaderThatHearsNobodyStepsDown(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newGroup(t, "a", "b", "c")
		old := g.leader()
		for _, f := range g.followers(old) {
			g.network.Cut(f.id, old.id)
		}
		term, mark := old.CurrentTerm(), old.Mark()
		time.Sleep(time.Second)
		if now, leading := old.Confirmed(term); leading {
			t.Fatalf("confirmed up to %d of %d without an answer", now, mark)
		}
		g.leader(old.id)
	})
}

func TestThousandsWait(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newGroup(t, "a", "b", "c")
		l := g.leader()
		term := l.CurrentTerm()
		var all sync.WaitGroup
		for range 5000 {
			all.Go(func() {
				if err := l.WaitConfirmed(t.Context(), term, l.Mark()); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		wantError(t, l.WaitConfirmed(ctx, term, l.Mark()), context.Canceled)
		wantError(t, l.WaitConfirmed(t.Context(), term-1, l.Mark()), raftstore.ErrNotLeader)
	})
}

func TestReadIndex(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newGroup(t, "a", "b", "c")
		l := g.leader()
		f := g.followers(l)[0]
		g.propose(l, numbered(100)...)

		// A follower asks the leader for an index, and then knows when its own state is new enough.
		index, err := l.ReadIndex(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := f.WaitApplied(t.Context(), index); err != nil {
			t.Fatal(err)
		}
		if got := len(f.machine.read()); got != 100 {
			t.Fatalf("read %d entries, want 100", got)
		}
		_, err = f.ReadIndex(t.Context())
		wantError(t, err, raftstore.ErrNotLeader)

		g.network.Isolate(l.id)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err = l.ReadIndex(ctx)
		wantError(t, err, raftstore.ErrNotLeader)
		ctx, cancel = context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		wantError(t, f.WaitApplied(ctx, index+1000), context.DeadlineExceeded)
	})
}

package raftstore_test

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/witnessd/witnessd/raftstore"
)

// A leader whose disk hangs would stay leader for ever, and so would a follower whose disk hangs vote for
// nobody. Each ends itself, at the limit and not before.
func TestDiskHangs(t *testing.T) {
	victims := map[string]func(g *group, l *node) *node{
		"leader":   func(_ *group, l *node) *node { return l },
		"follower": func(g *group, l *node) *node { return g.followers(l)[0] },
	}
	for name, victim := range victims {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				g := newGroup(t, "a", "b", "c")
				l := g.leader()
				v := victim(g, l)
				time.Sleep(time.Second) // nothing is being written
				v.disk.Hang()
				began := time.Now()
				go func() { _, _ = l.Propose(t.Context(), []byte("x")) }()
				time.Sleep(2*time.Second - time.Nanosecond)
				g.noFaults()
				f := <-v.faults
				if after := f.at.Sub(began); after != 2*time.Second {
					t.Errorf("reported after %v, want 2s", after)
				}
				if !strings.Contains(f.err.Error(), "the disk hangs") {
					t.Errorf("reported %v", f.err)
				}
				v.disk.Resume()
				synctest.Wait()
				g.noFaults() // one report is enough
			})
		})
	}
}

func TestSlowDiskIsNoFault(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newGroup(t, "a", "b", "c")
		l := g.leader()
		for range 5 {
			l.disk.Hang()
			time.AfterFunc(1900*time.Millisecond, l.disk.Resume)
			g.propose(l, "x")
		}
		g.noFaults()
	})
}

// A follower that cannot write for a moment is left behind for good by raft's pipeline. Without it, it
// catches up.
func TestFollowerDiskFailsForAMoment(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newGroup(t, "a", "b", "c")
		l := g.leader()
		f := g.followers(l)[0]
		var entries []string
		for range 10 {
			f.disk.FailWrites(errors.New("no space"))
			for _, e := range numbered(30) {
				g.propose(l, e)
				entries = append(entries, e)
				time.Sleep(10 * time.Millisecond)
			}
			f.disk.FailWrites(nil)
			g.settled(entries, f)
		}
		g.noFaults()
	})
}

func TestFollowerDiskFails(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newGroup(t, "a", "b", "c")
		l := g.leader()
		f := g.followers(l)[0]
		f.disk.FailWrites(errors.New("no space"))
		began := time.Now()
		g.propose(l, "x")
		r := <-f.faults
		if after := r.at.Sub(began); after != 2*time.Second {
			t.Errorf("reported after %v, want 2s", after)
		}
		if !strings.Contains(r.err.Error(), "no space") {
			t.Errorf("reported %v", r.err)
		}
		g.propose(l, "y")
	})
}

func TestDiskCannotBeRead(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newGroup(t, "a", "b", "c")
		l := g.leader()
		f := g.followers(l)[0]
		f.disk.FailReads(errors.New("bad block"))
		g.network.Isolate(l.id) // an election reads
		r := <-f.faults
		if !strings.Contains(r.err.Error(), "bad block") {
			t.Errorf("reported %v", r.err)
		}
		f.disk.FailReads(nil)
	})
}

// Heartbeats are answered while the disk is busy: the leader is not lost over slow followers.
func TestSlowFollowersKeepTheirLeader(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newGroup(t, "a", "b", "c")
		l := g.leader()
		term := l.CurrentTerm()
		for _, f := range g.followers(l) {
			f.disk.Hang()
			time.AfterFunc(1900*time.Millisecond, f.disk.Resume)
		}
		began := time.Now()
		g.propose(l, "x")
		if took := time.Since(began); took < 1900*time.Millisecond {
			t.Fatalf("accepted after %v", took)
		}
		if now := l.CurrentTerm(); now != term || l.State() != raftstore.Leader {
			t.Errorf("%s is %s in term %d, want leader in term %d", l.id, l.State(), now, term)
		}
		g.noFaults()
	})
}

// The hosts of a group stop and start one after the other, and all at once; what was accepted stays.
func TestRestart(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newGroup(t, "a", "b", "c")
		var entries []string
		for _, e := range numbered(12) {
			l := g.leader()
			g.propose(l, e)
			entries = append(entries, e)
			g.stop(l.id)
			g.start(l.id)
		}
		for _, id := range []string{"a", "b", "c"} {
			g.stop(id)
		}
		for _, id := range []string{"a", "b", "c"} {
			g.start(id)
		}
		l := g.leader()
		g.settled(entries, l, g.followers(l)[0], g.followers(l)[1])
		g.noFaults()
	})
}

// A leader cannot tell from its heartbeats that its own disk hangs; meanwhile it is still confirmed, for it
// does lead: databases go on serving.
func TestHangingLeaderIsStillConfirmed(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newGroup(t, "a", "b", "c")
		l := g.leader()
		l.disk.Hang()
		go func() { _, _ = l.Propose(t.Context(), []byte("x")) }()
		time.Sleep(time.Second)
		if err := l.WaitConfirmed(t.Context(), l.CurrentTerm(), l.Mark()); err != nil {
			t.Fatal(err)
		}
		l.disk.Resume()
		if s := l.Status(); s.Role != raftstore.Leader {
			t.Fatalf("%s is %s", l.id, s.Role)
		}
	})
}

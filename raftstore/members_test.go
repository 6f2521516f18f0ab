package raftstore_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/witnessd/witnessd/raftstore"
)

// A new node gets the state as a snapshot, since the log does not reach back that far, then the entries
// behind it, and only then a vote.
func TestAddServer(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := &group{}
		*g = *newGroup(t, "a")
		l := g.leader()
		g.stop("a")
		l.options.TrailingLogs = 1
		g.start("a")
		l = g.leader()
		entries := numbered(30)
		g.propose(l, entries[:20]...)
		if err := l.Snapshot(t.Context()); err != nil {
			t.Fatal(err)
		}
		if first, _ := l.disk.Entries(); first < 15 {
			t.Fatalf("the log begins at %d: no snapshot will be sent", first)
		}
		g.propose(l, entries[20:]...)
		for _, id := range []string{"b", "c"} {
			n := g.add(id, nil)
			time.Sleep(5 * time.Second) // it waits to be added
			if n.State() != raftstore.Follower || len(n.Servers()) != 0 {
				t.Fatalf("%s is %s of %v", id, n.State(), n.Servers())
			}
			if err := l.AddServer(t.Context(), server(id)); err != nil {
				t.Fatal(err)
			}
			if got := len(n.machine.read()); got < 20 {
				t.Fatalf("%s has a vote and %d entries", id, got)
			}
		}
		want := []raftstore.Server{server("a"), server("b"), server("c")}
		if got := l.Servers(); !slices.Equal(got, want) {
			t.Fatalf("members %v, want %v", got, want)
		}
		g.settled(entries, l, g.nodes["b"], g.nodes["c"])
		g.network.Isolate("a")
		g.propose(g.leader("a"), "without a")
		g.noFaults()
	})
}

// A member that has not heard of a new voter refuses it its vote. So nobody is told that the new voter is
// there before all that can be reached know it.
func TestAddServerTellsAll(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newGroup(t, "a", "b", "c")
		l := g.leader()
		slow := g.followers(l)[0]
		g.add("d", nil)
		slow.disk.Hang()
		began := time.Now()
		time.AfterFunc(500*time.Millisecond, slow.disk.Resume)
		if err := l.AddServer(t.Context(), server("d")); err != nil {
			t.Fatal(err)
		}
		if !slices.Contains(slow.Servers(), server("d")) {
			t.Errorf("after %v, %s knows the members %v", time.Since(began), slow.id, slow.Servers())
		}
	})
}

// A node that cannot be reached, or that is another one, is refused before anything is changed.
func TestAddServerThatIsAway(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newGroup(t, "a", "b", "c")
		l := g.leader()
		last := l.Status().Last
		refused := func(add raftstore.Server) {
			t.Helper()
			began := time.Now()
			wantError(t, l.AddServer(t.Context(), add), raftstore.ErrUnreachable)
			if took := time.Since(began); took > 3*time.Second {
				t.Errorf("%v was refused after %v", add, took)
			}
			if got := l.Status(); len(l.Servers()) != 3 || got.Last != last {
				t.Fatalf("members %v, last entry %d; want three and %d", l.Servers(), got.Last, last)
			}
		}
		refused(server("d")) // nobody listens
		g.add("d", nil)
		g.network.Isolate("d")
		refused(server("d"))
		g.network.HealAll()
		refused(raftstore.Server{ID: "e", Address: "d:1"})
		wantError(t, l.Reach(t.Context(), raftstore.Server{ID: "e", Address: "d:1"}), raftstore.ErrUnreachable)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		wantError(t, l.AddServer(ctx, server("d")), context.Canceled)

		if err := l.AddServer(t.Context(), server("d")); err != nil {
			t.Fatal(err)
		}
		if d := l.Servers()[3]; d.Nonvoter {
			t.Fatalf("member %v has no vote", d)
		}
		// Connections that were kept are to a process that has ended.
		if err := l.RemoveServer(t.Context(), "d"); err != nil {
			t.Fatal(err)
		}
		g.stop("d")
		g.add("d", nil)
		if err := l.AddServer(t.Context(), server("d")); err != nil {
			t.Fatal(err)
		}
	})
}

// A node that answers and does not catch up gets no vote, as a voter it would count for nothing but the
// quorum, and nothing of it is left behind.
func TestAddServerThatDoesNotCatchUp(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newGroup(t, "a", "b", "c")
		l := g.leader()
		d := g.add("d", func(o *raftstore.Options) { o.StallLimit = time.Hour })
		hang := func() { // it still answers a greeting, and takes no entry
			t.Helper()
			d.disk.Resume()
			time.Sleep(time.Minute)
			d.disk.Hang()
		}
		hang()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		err := l.AddServer(ctx, server("d"))
		wantError(t, err, raftstore.ErrBehind)
		if ctx.Err() != nil || !strings.Contains(err.Error(), "taken out again") {
			t.Errorf("error %v, context %v", err, ctx.Err())
		}
		if got := l.Servers(); len(got) != 3 {
			t.Fatalf("members %v", got)
		}

		// The caller goes away.
		hang()
		ctx, cancel = context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		wantError(t, l.AddServer(ctx, server("d")), context.Canceled)
		if got := l.Servers(); len(got) != 3 {
			t.Fatalf("members %v", got)
		}

		// Somebody removes it: it stays removed.
		hang()
		time.AfterFunc(time.Second, func() {
			if err := l.RemoveServer(t.Context(), "d"); err != nil {
				t.Error(err)
			}
		})
		wantError(t, l.AddServer(t.Context(), server("d")), raftstore.ErrRemoved)
		hang()
		if got := l.Servers(); len(got) != 3 {
			t.Fatalf("members %v", got)
		}

		// The leader is lost meanwhile: that is no "nothing was changed".
		time.AfterFunc(time.Second, func() { g.network.Isolate(l.id) })
		err = l.AddServer(t.Context(), server("d"))
		wantError(t, err, raftstore.ErrOutcomeUnknown)
		if errors.Is(err, raftstore.ErrNotLeader) {
			t.Errorf("error %v", err)
		}
	})
}

func TestChangesAreTheLeaders(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newGroup(t, "a", "b", "c")
		l := g.leader()
		f := g.followers(l)[0]
		wantError(t, f.AddServer(t.Context(), server("d")), raftstore.ErrNotLeader)
		wantError(t, f.RemoveServer(t.Context(), l.id), raftstore.ErrNotLeader)
		wantError(t, f.TransferLeadership(t.Context(), f.id), raftstore.ErrNotLeader)
		wantError(t, l.RemoveServer(t.Context(), "nobody"), raftstore.ErrUnknownServer)
		wantError(t, l.TransferLeadership(t.Context(), "nobody"), raftstore.ErrUnknownServer)
		if err := l.TransferLeadership(t.Context(), l.id); err == nil {
			t.Error("handed over to itself")
		}
		if err := l.AddServer(t.Context(), raftstore.Server{ID: "d", Address: f.id + ":1"}); err == nil {
			t.Error("two nodes at one address")
		}
	})
}

func TestRemoveServer(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newGroup(t, "a", "b", "c")
		l := g.leader()
		f := g.followers(l)[0]
		g.stop(f.id) // it is lost, and need not agree
		if err := l.RemoveServer(t.Context(), f.id); err != nil {
			t.Fatal(err)
		}
		g.propose(l, "x")

		// The leader takes itself out: it steps down, and does not disturb those that are left.
		if err := l.RemoveServer(t.Context(), l.id); err != nil {
			t.Fatal(err)
		}
		last := g.followers(l)[1]
		if got := g.leader(l.id, f.id); got != last {
			t.Fatalf("%s leads, want %s", got.id, last.id)
		}
		term := last.CurrentTerm()
		g.propose(last, "y")
		time.Sleep(time.Minute)
		if last.CurrentTerm() != term || l.State() == raftstore.Leader {
			t.Fatalf("%s in term %d, %s is %s; want the only member in term %d",
				last.id, last.CurrentTerm(), l.id, l.State(), term)
		}
		if err := last.RemoveServer(t.Context(), last.id); err == nil {
			t.Error("the last member was removed")
		}
		// Now alone, it is confirmed by itself.
		if mark := last.Mark(); confirmed(t, last, term) < mark {
			t.Error("the only member is not confirmed")
		}
	})
}

func TestTransferLeadership(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newGroup(t, "a", "b", "c")
		for range 5 {
			l := g.leader()
			f := g.followers(l)[1]
			began := time.Now()
			if err := l.TransferLeadership(t.Context(), f.id); err != nil {
				t.Fatal(err)
			}
			if next := g.leader(); next != f {
				t.Fatalf("%s leads, want %s", next.id, f.id)
			}
			if gap := time.Since(began); gap > 100*time.Millisecond {
				t.Errorf("nobody led for %v", gap)
			}
			g.propose(f, "x")
		}
	})
}

// A node that lacks entries is not handed the leadership, and proposals do not wait for it.
func TestTransferToNodeBehind(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newGroup(t, "a", "b", "c")
		l := g.leader()
		f, other := g.followers(l)[0], g.followers(l)[1]
		time.Sleep(time.Second)
		refused := func(to, want string, within time.Duration) {
			t.Helper()
			began := time.Now()
			err := l.TransferLeadership(t.Context(), to)
			wantError(t, err, raftstore.ErrBehind)
			if took := time.Since(began); took > within || !strings.Contains(err.Error(), want) {
				t.Errorf("after %v: %v; want %q", took, err, want)
			}
			began = time.Now()
			g.propose(l, "x")
			if took := time.Since(began); took > 10*time.Millisecond {
				t.Errorf("a proposal waited for %v", took)
			}
		}
		g.stop(f.id)
		refused(f.id, f.id+" does not answer", 250*time.Millisecond)
		refused(f.id, f.id+" is 1 entry behind", 250*time.Millisecond)
		g.propose(l, numbered(134)...)
		refused(f.id, f.id+" is 136 entries behind", 0)
		time.Sleep(25 * time.Second) // until attempts are ten seconds apart
		g.start(f.id)
		for range 3 {
			refused(f.id, "entries behind", 0)
		}
		// Anybody is the one that has all.
		if err := l.TransferLeadership(t.Context(), ""); err != nil {
			t.Fatal(err)
		}
		if got := g.leader(); got != other {
			t.Fatalf("%s leads, want %s", got.id, other.id)
		}
		g.wait(func() bool { return other.TransferLeadership(t.Context(), f.id) == nil },
			func() string { return f.id + " has not caught up" })
	})
}

func TestTransferToNobody(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newGroup(t, "a", "b", "c", "d", "e")
		l := g.leader()
		time.Sleep(time.Second)
		followers := g.followers(l)
		for _, f := range followers[1:] {
			f.disk.Hang()
		}
		time.AfterFunc(time.Second, func() {
			for _, f := range followers[1:] {
				f.disk.Resume()
			}
		})
		g.stop(followers[0].id)
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		_, err := l.Propose(ctx, []byte("x")) // nobody takes it
		wantError(t, err, raftstore.ErrOutcomeUnknown)
		began := time.Now()
		err = l.TransferLeadership(t.Context(), "")
		wantError(t, err, raftstore.ErrBehind)
		if took := time.Since(began); took > 250*time.Millisecond || strings.Count(err.Error(), "behind") != 4 {
			t.Errorf("after %v: %v", took, err)
		}
	})
	bubble(t, func(t *testing.T) {
		if err := newGroup(t, "a").leader().TransferLeadership(t.Context(), ""); err == nil {
			t.Error("handed over to nobody")
		}
	})
}

// One transfer at a time. This one comes to nothing: its target has everything, and cannot vote.
func TestSecondTransfer(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newGroup(t, "a", "b", "c")
		l := g.leader()
		time.Sleep(time.Second)
		f := g.followers(l)[0]
		f.disk.Hang()
		first := make(chan error)
		go func() { first <- l.TransferLeadership(t.Context(), f.id) }()
		time.Sleep(100 * time.Millisecond)
		wantError(t, l.TransferLeadership(t.Context(), ""), raftstore.ErrTransferring)
		if err := <-first; err == nil {
			t.Error("handed over to a node that cannot vote")
		}
		f.disk.Resume()
		g.propose(g.leader(), "x")
		g.noFaults()
	})
}

func TestAddressChange(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newGroup(t, "a", "b", "c")
		l := g.leader()
		f := g.followers(l)[0]
		g.stop(f.id)
		moved := raftstore.Server{ID: f.id, Address: "elsewhere:7"}
		if err := l.AddServer(t.Context(), moved); err != nil {
			t.Fatal(err)
		}
		if got, err := l.Servers(), slices.Contains(l.Servers(), moved); !err {
			t.Fatalf("members %v", got)
		}
		stream, err := g.network.Host("elsewhere").Stream(7)
		if err != nil {
			t.Fatal(err)
		}
		o := f.options
		o.Bootstrap = nil
		o.Machine, o.Stream, o.Stores = f.machine, stream, f.disk.Stores()
		if f.Store, err = raftstore.Open(o); err != nil {
			t.Fatal(err)
		}
		g.propose(l, "x")
		g.settled([]string{"x"}, f)
	})
}

func TestStatus(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newGroup(t, "a", "b", "c")
		l := g.leader()
		f := g.followers(l)[0]
		g.propose(l, "x", "y")
		time.Sleep(time.Second)
		s := l.Status()
		if s.ID != l.id || s.Role != raftstore.Leader || s.Leader != l.id || s.Term != l.CurrentTerm() {
			t.Errorf("leader's status %+v", s)
		}
		if s.Committed < 3 || s.Applied == 0 || s.Last < s.Committed || !s.LastContact.IsZero() {
			t.Errorf("leader's status %+v", s)
		}
		for _, p := range s.Peers {
			if time.Since(p.Heard) > 100*time.Millisecond || p.Match != s.Last {
				t.Errorf("peer %+v, want all up to %d", p, s.Last)
			}
		}
		fs := f.Status()
		if fs.Role != raftstore.Follower || fs.Leader != l.id || time.Since(fs.LastContact) > 100*time.Millisecond {
			t.Errorf("follower's status %+v", fs)
		}
		if leader, ok := f.Leader(); !ok || leader != server(l.id) {
			t.Errorf("leader %v, %v", leader, ok)
		}
		g.stop(f.id)
		if s := f.Status(); s.Role != raftstore.Stopped {
			t.Errorf("a closed node is %s", s.Role)
		}
	})
}

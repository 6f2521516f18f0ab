package ledger

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sync"
	"testing"

	"github.com/witnessd/witnessd/witnessd/pair"
)

func wantRefusal(t *testing.T, r Result, want pair.Reason) {
	t.Helper()
	if r.Refusal == nil || r.Refusal.Reason != want || len(r.Facts) != 0 {
		t.Errorf("refusal is %v with facts %v, want %s", r.Refusal, r.Facts, want)
	}
}

func names(records []pair.Record) (names []string) {
	for _, r := range records {
		names = append(names, r.Name)
	}
	return names
}

func TestCreateStartsAtTheGenerationsFirstRevision(t *testing.T) {
	n := newNode(t)
	if r := n.must("a", create("sales")); r.Revision != 1 || r.Stage != pair.StageForming || r.ID != "a" {
		t.Errorf("created %+v", r)
	}
	n.put(EncodeRestore(4, 0))
	if n.Generation() != 4 || n.FirstRevision() != pair.NewRevision(4) {
		t.Fatalf("generation %d, first revision %v", n.Generation(), n.FirstRevision())
	}
	stale := n.command("b", create("stock"))
	stale.Revision = 0
	refused := n.put(EncodeCommand(stale))
	wantRefusal(t, refused, pair.ReasonStaleRevision)
	if refused.Record != (pair.Record{}) {
		t.Errorf("a pair that was not created is %+v", refused.Record)
	}
	if r := n.must("b", create("stock")); r.Revision != pair.NewRevision(4)+1 {
		t.Errorf("created at revision %v", r.Revision)
	}
	wantRefusal(t, n.put(EncodeRestore(4, 0)), pair.ReasonStaleRevision)
	n.put(EncodeRestore(0, 0))
	if n.Generation() != 5 {
		t.Errorf("the next generation is %d", n.Generation())
	}
}

func TestCreateRefusesTakenNamesAndIDs(t *testing.T) {
	n := newNode(t)
	n.must("a", create("sales"))
	again := n.try("a", create("other"))
	wantRefusal(t, again, pair.ReasonNameTaken)
	same := n.try("b", create("sales"))
	wantRefusal(t, same, pair.ReasonNameTaken)
	if again.Record.ID != "a" || same.Record.ID != "a" {
		t.Errorf("refused for %q and %q, want the pair that is there", again.Record.ID, same.Record.ID)
	}
	wantRefusal(t, n.try("", create("other")), pair.ReasonBadSpec)
	wantRefusal(t, n.try("b", create("not a name")), pair.ReasonBadSpec)
	wantRefusal(t, n.try("nobody", pair.Begin{}), pair.ReasonUnknownPair)

	n.must("a", pair.Remove{Cause: "mistake"})
	wantRefusal(t, n.try("a", create("fresh")), pair.ReasonNameTaken)
	wantRefusal(t, n.try("a", pair.Begin{}), pair.ReasonRemoved)
	n.must("b", create("sales"))
	if r, ok := n.PairByName("sales"); !ok || r.ID != "b" {
		t.Errorf("sales is %+v", r)
	}
	if r, ok := n.Pair("a"); !ok || r.Stage != pair.StageRemoved || r.Name != "sales" {
		t.Errorf("the tombstone is %+v", r)
	}
	if got := names(n.Pairs()); !slices.Equal(got, []string{"sales"}) {
		t.Errorf("pairs are %v", got)
	}
	var kinds []pair.FactKind
	for _, e := range n.Events(EventFilter{Pair: "a"}) {
		kinds = append(kinds, e.Fact.Kind)
	}
	if want := []pair.FactKind{pair.FactCreated, pair.FactRemoved}; !slices.Equal(kinds, want) {
		t.Errorf("the tombstone's events are %v", kinds)
	}
}

func TestStaleTermIsRefused(t *testing.T) {
	n := newNode(t)
	n.ready("a", "sales")
	late := n.command("a", pair.Arm{Host: "alpha"})
	n.term++
	refused := n.put(EncodeCommand(late))
	wantRefusal(t, refused, pair.ReasonStaleTerm)
	if r, _ := n.Pair("a"); !reflect.DeepEqual(r, refused.Record) || r.Right != pair.RightSole {
		t.Errorf("record is %+v, the refusal has %+v", r, refused.Record)
	}
	if n.AppliedIndex() != n.index {
		t.Errorf("applied index %d, want %d", n.AppliedIndex(), n.index)
	}
}

func TestPairsAreSortedByName(t *testing.T) {
	n := newNode(t)
	for i, name := range []string{"m", "c", "z", "a", "k"} {
		n.must(pair.ID(fmt.Sprint(9-i)), create(name))
	}
	n.must("8", pair.Remove{})
	if got := names(n.Pairs()); !slices.Equal(got, []string{"a", "k", "m", "z"}) {
		t.Errorf("pairs are %v", got)
	}
	if _, ok := n.PairByName("c"); ok {
		t.Error("a removed pair has kept its name")
	}
}

func TestNodes(t *testing.T) {
	n := newNode(t)
	w := n.Watch(t.Context())
	two, one := Node{ID: "2", APIAddress: "b:1"}, Node{ID: "1", RaftAddress: "a:1"}
	n.put(EncodeSetNode(two))
	n.put(EncodeSetNode(one))
	n.put(EncodeSetNode(one))
	if got := n.Nodes(); !slices.Equal(got, []Node{one, two}) {
		t.Errorf("nodes are %v", got)
	}
	two.APIAddress = "b:2"
	n.put(EncodeSetNode(two))
	n.put(EncodeRemoveNode("1"))
	n.put(EncodeRemoveNode("1"))
	wantRefusal(t, n.put(EncodeSetNode(Node{})), pair.ReasonBadSpec)
	if got := n.Nodes(); !slices.Equal(got, []Node{two}) {
		t.Errorf("nodes are %v", got)
	}
	if got := len(w.Changes()); got != 4 {
		t.Errorf("%d changes, want 4: what changes nothing is none", got)
	}
	if c := <-w.Changes(); !c.Nodes || c.Body != nil || c.Index != 1 {
		t.Errorf("change is %+v", c)
	}
}

func TestEntriesMustRise(t *testing.T) {
	n := newNode(t)
	n.put(EncodeRemoveNode("x"))
	wantPanic(t, func() { n.Apply(1, 3, EncodeRemoveNode("x")) }, "log entry 1 comes after entry 1")
}

func TestEventsChoose(t *testing.T) {
	n := newNode(t)
	n.must("a", create("a"))
	n.must("b", create("b"))
	for range 4 {
		n.must("a", pair.Note{Kind: pair.FactWouldFailOver, Cause: "beta is silent"})
	}
	for _, test := range []struct {
		filter EventFilter
		want   []uint64
	}{
		{EventFilter{}, []uint64{1, 2, 3, 4, 5, 6}},
		{EventFilter{After: 4}, []uint64{5, 6}},
		{EventFilter{After: 6}, nil},
		{EventFilter{After: ^uint64(0)}, nil},
		{EventFilter{Limit: 2}, []uint64{1, 2}},
		{EventFilter{Limit: 2, Newest: true}, []uint64{5, 6}},
		{EventFilter{Limit: 2, After: 2}, []uint64{3, 4}},
		{EventFilter{Pair: "a"}, []uint64{1, 3, 4, 5, 6}},
		{EventFilter{Pair: "a", After: 1, Limit: 1}, []uint64{3}},
		{EventFilter{Pair: "b"}, []uint64{2}},
		{EventFilter{Pair: "c"}, nil},
	} {
		if got := sequences(n.Events(test.filter)); !slices.Equal(got, test.want) {
			t.Errorf("%+v chooses %v, want %v", test.filter, got, test.want)
		}
	}
}

func sequences(events []Event) (all []uint64) {
	for _, e := range events {
		all = append(all, e.Sequence)
	}
	return all
}

func TestANoteIsHistoryAndNothingElse(t *testing.T) {
	n := newNode(t)
	n.ready("a", "sales")
	before, _ := n.Pair("a")
	after := n.must("a", pair.Note{Kind: pair.FactWouldFailOver, Cause: "alpha is silent"})
	if !reflect.DeepEqual(before, after) {
		t.Errorf("a note made %+v of %+v", after, before)
	}
	last := n.Events(EventFilter{Limit: 1, Newest: true})
	if len(last) != 1 || last[0].Fact.Kind != pair.FactWouldFailOver || last[0].Fact.Cause != "alpha is silent" {
		t.Errorf("the history ends with %+v", last)
	}
}

func TestTheHistoryNeverGoesBackwards(t *testing.T) {
	n := newNode(t)
	n.must("a", create("a"))
	slow := n.command("b", create("b"))
	slow.At -= 1_000_000
	n.put(EncodeCommand(slow))
	events := n.Events(EventFilter{})
	if events[1].At != events[0].At {
		t.Errorf("times are %d and %d", events[0].At, events[1].At)
	}
}

// TestHistoryIsBounded fills the window with one pair's events: the others keep their share, and neither
// the window nor a share outgrows its bound.
func TestHistoryIsBounded(t *testing.T) {
	n := newNode(t)
	note := pair.Note{Kind: pair.FactWouldFailOver, Cause: "silent"}
	n.ready("quiet", "quiet")
	n.must("gone", create("gone"))
	for range keptEvents + 20 {
		n.must("quiet", note)
		n.must("gone", note)
	}
	n.must("gone", pair.Remove{Cause: "not used"})
	n.must("busy", create("busy"))
	for range 2*windowEvents + 50 {
		n.must("busy", note)
	}
	for range 2 {
		window := n.Events(EventFilter{})
		if len(window) != windowEvents || window[len(window)-1].Sequence-window[0].Sequence != windowEvents-1 {
			t.Errorf("window has %d events from %d", len(window), window[0].Sequence)
		}
		for id, want := range map[pair.ID]int{"quiet": keptEvents, "gone": keptRemoved, "busy": windowEvents} {
			events := n.Events(EventFilter{Pair: id})
			if len(events) != want || !slices.IsSortedFunc(events, func(a, b Event) int {
				return int(a.Sequence) - int(b.Sequence)
			}) {
				t.Errorf("%s has %d events, want %d", id, len(events), want)
			}
		}
		n.Ledger = restored(t, n.image())
	}
	if got, limit := cap(n.state.history.window), 4*windowEvents; got > limit {
		t.Errorf("the window has room for %d events, more than %d", got, limit)
	}
}

func TestWatchDeliversInOrder(t *testing.T) {
	n := newNode(t)
	n.must("a", create("a"))
	w := n.Watch(t.Context())
	if w.Index() != n.index || w.Err() != nil {
		t.Errorf("watch from %d, %v", w.Index(), w.Err())
	}
	n.must("a", pair.Begin{})
	begun := n.index
	n.try("a", pair.Begin{})
	n.must("b", create("b"))
	n.put(EncodeRestore(1, 5))

	c := <-w.Changes()
	if _, ok := c.Body.(pair.Begin); !ok || c.Index != begun || c.Term != n.term ||
		c.Before.Epoch != 0 || c.After.Epoch != 1 {
		t.Errorf("first change is %+v", c)
	}
	if len(c.Events) != 1 || c.Events[0].Sequence != 2 || c.Events[0].Fact.Kind != pair.FactFormed {
		t.Errorf("its events are %+v", c.Events)
	}
	if c = <-w.Changes(); c.Before != (pair.Record{}) || c.After.ID != "b" {
		t.Errorf("second change is %+v", c)
	}
	for _, id := range []pair.ID{"a", "b"} {
		c = <-w.Changes()
		if _, ok := c.Body.(pair.Restore); !ok || c.After.ID != id || c.Index != n.index {
			t.Errorf("change of %s is %+v", id, c)
		}
	}
	if len(w.Changes()) != 0 {
		t.Errorf("%d more changes: a refusal is none", len(w.Changes()))
	}
}

func TestWatchThatLagsIsToldSo(t *testing.T) {
	n := newNode(t)
	n.ready("a", "a")
	lazy := n.Watch(t.Context())
	for range watchBuffer + 10 {
		n.must("a", pair.Expose{Host: "alpha"})
	}
	fresh := n.Watch(t.Context())
	if !errors.Is(lazy.Err(), ErrLagged) {
		t.Errorf("watch that stood still: %v", lazy.Err())
	}
	got := 0
	for range lazy.Changes() {
		got++
	}
	if got != watchBuffer {
		t.Errorf("%d changes were delivered, want %d", got, watchBuffer)
	}
	n.must("a", pair.Expose{Host: "alpha"})
	if len(fresh.Changes()) != 1 || fresh.Err() != nil || len(n.watches) != 1 {
		t.Errorf("the other watch: %d changes, %v, %d watches", len(fresh.Changes()), fresh.Err(), len(n.watches))
	}
	if err := n.Restore(bytesReader(n.image())); err != nil {
		t.Fatal(err)
	}
	if !errors.Is(fresh.Err(), ErrLagged) || len(n.watches) != 0 {
		t.Errorf("watch after a snapshot was restored: %v", fresh.Err())
	}
}

func TestWatchEndsWithItsContext(t *testing.T) {
	n := newNode(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	w := n.Watch(ctx)
	stopped := errors.New("client went away")
	cancel(stopped)
	if _, open := <-w.Changes(); open || !errors.Is(w.Err(), stopped) {
		t.Errorf("watch: %v", w.Err())
	}
	n.ready("a", "a")
	w = n.Watch(ctx)
	if _, open := <-w.Changes(); open {
		t.Error("a watch with an ended context goes on")
	}
}

func TestWaitApplied(t *testing.T) {
	n := newNode(t)
	n.must("a", create("a"))
	if err := n.WaitApplied(t.Context(), n.index); err != nil {
		t.Error(err)
	}
	var waits sync.WaitGroup
	for i := range 10 {
		done := n.await(n.index + 1 + uint64(i%2))
		waits.Go(func() { <-done })
	}
	n.must("a", pair.Begin{})
	n.must("a", pair.Arm{Host: "alpha"})
	waits.Wait()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := n.WaitApplied(ctx, n.index+100); !errors.Is(err, context.Canceled) {
		t.Errorf("wait with an ended context: %v", err)
	}
	if len(n.waiters) != 0 {
		t.Errorf("%d waiters are left", len(n.waiters))
	}
	done := n.await(n.index + 1)
	far := newNode(t)
	far.ready("a", "a")
	far.index += 10
	far.must("a", pair.Arm{Host: "alpha"})
	if err := n.Restore(bytesReader(far.image())); err != nil {
		t.Fatal(err)
	}
	<-done
}

// TestManyReaders is for the race detector: readers, watchers and snapshots beside Apply.
func TestManyReaders(t *testing.T) {
	n := newNode(t)
	for i := range 20 {
		n.ready(pair.ID(fmt.Sprint(i)), fmt.Sprint("pair", i))
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var group sync.WaitGroup
	read := func(f func()) {
		group.Go(func() {
			for ctx.Err() == nil {
				f()
			}
		})
	}
	read(func() { n.Pairs() })
	read(func() { n.PairByName("pair7"); n.Pair("7"); n.Nodes(); n.Generation() })
	read(func() { n.Events(EventFilter{}); n.Events(EventFilter{Pair: "7", Limit: 3}) })
	read(func() {
		if l := restored(t, n.image()); len(l.Pairs()) < 20 {
			t.Errorf("snapshot has %d pairs", len(l.Pairs()))
		}
	})
	read(func() {
		watch, stop := context.WithCancel(ctx)
		defer stop()
		w, previous := n.Watch(watch), uint64(0)
		for range 50 {
			select {
			case c, open := <-w.Changes():
				if open && c.Index <= max(previous, w.Index()) {
					t.Errorf("change %d after %d", c.Index, max(previous, w.Index()))
				}
				if !open {
					return
				}
				previous = c.Index
			case <-ctx.Done():
			}
		}
	})
	for i := range 1500 {
		id := pair.ID(fmt.Sprint(i % 20))
		n.must(id, pair.Arm{Host: "alpha"})
		if i%100 == 0 {
			n.must(pair.ID(fmt.Sprint("new", i)), create(fmt.Sprint("new", i)))
			n.put(EncodeSetNode(Node{ID: fmt.Sprint(i)}))
		}
	}
	cancel()
	group.Wait()
}

package witnessd_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	witnessv1 "github.com/witnessd/witnessd/proto/gen/witness/v1"
)

// hookResults are what an agent reports whose hooks up to last have run, and of which those up to done are confirmed.
func hookResults(done, last uint64) []*witnessv1.HookResult {
	var all []*witnessv1.HookResult
	for n := done + 1; n <= last; n++ {
		all = append(all, &witnessv1.HookResult{
			Sequence: n, Event: "primary", Epoch: 1, Command: fmt.Sprintf("notify-%d", n), Ok: n != 2,
			Detail: "exit status 1\n" + strings.Repeat("long \x1b[31m ", 100), Took: durationpb.New(time.Second),
		})
	}
	return all
}

// recorded is what a host was told to be in the history of its hooks.
func (h *host) recorded() uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.answer.GetHooksRecorded()
}

// hookEvents are the hooks in the history, oldest first.
func (w *world) hookEvents() []*witnessv1.Event {
	w.t.Helper()
	r, err := w.admin(w.leader()).ListEvents(w.t.Context(), &witnessv1.ListEventsRequest{Pair: "sales", Limit: 1000})
	if err != nil {
		w.t.Fatal(err)
	}
	var all []*witnessv1.Event
	for _, e := range r.GetEvents() {
		if strings.HasPrefix(e.GetKind(), "HOOK_") {
			all = append(all, e)
		}
	}
	return all
}

// TestHooksAreInTheHistory: what a mirror's agent reports until it is confirmed is there once, as what it was, and
// over a change of leader at least once.
func TestHooksAreInTheHistory(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, "n1", "n2", "n3")
		w.createSales(w.leader())
		w.host("a", w.ids...)
		b := w.host("b", w.ids...)
		w.untilArmed()
		time.Sleep(3 * time.Second) // every node has said that it reads whom a note is about
		b.set(func(r *witnessv1.PairReport) { r.Hooks = hookResults(0, 3) })
		w.until("all are confirmed", 5*time.Second, func() bool { return b.recorded() == 3 })
		time.Sleep(5 * time.Second)
		got := w.hookEvents()
		if len(got) != 3 {
			t.Fatalf("%d hooks are in the history: %v", len(got), got)
		}
		for i, e := range got {
			kind, ended := "HOOK_DONE", "done"
			if i == 1 {
				kind, ended = "HOOK_FAILED", "failed"
			}
			want := fmt.Sprintf("hook notify-%d on b for primary (epoch 1) %s after 1s: exit status 1 long [31m", i+1, ended)
			if e.GetKind() != kind || e.GetHost() != "b" || !strings.HasPrefix(e.GetCause(), want) || len(e.GetCause()) > 400 {
				t.Errorf("got %v, want %s", e, want)
			}
		}
		if p := w.pair(w.leader()); p.GetRight() != witnessv1.Right_RIGHT_LEASED || p.GetEpoch() != 1 {
			t.Errorf("hooks changed the pair: %v", p)
		}
		w.stop(w.leader())
		b.set(func(r *witnessv1.PairReport) { r.Hooks = hookResults(3, 6) })
		w.until("the next leader confirms", 10*time.Second, func() bool { return b.recorded() == 6 })
		last := w.hookEvents()
		if len(last) != 6 || !strings.HasPrefix(last[5].GetCause(), "hook notify-6 ") {
			t.Errorf("after a change of leader: %d, the last %v", len(last), last[len(last)-1])
		}
	})
}

// TestEndlessHooks: an agent that reports hooks without end costs an entry a second, and its leases go on.
func TestEndlessHooks(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w, a, b := armedPair(t)
		before := w.commitIndex()
		start := time.Now()
		for n := uint64(1); time.Since(start) < time.Minute; n += 10 {
			a.set(func(r *witnessv1.PairReport) { r.Hooks = hookResults(n, n+20) })
			b.set(func(r *witnessv1.PairReport) { r.Hooks = hookResults(n, n+20) })
			time.Sleep(20 * time.Millisecond)
		}
		if n := w.commitIndex() - before; n > 70 {
			t.Errorf("%d entries in a minute", n)
		}
		granted := a.granted()
		time.Sleep(5 * time.Second)
		if a.granted() < granted+8 || w.pair(w.leader()).GetRight() != witnessv1.Right_RIGHT_LEASED {
			t.Errorf("%d leases in 5 s: %v", a.granted()-granted, w.pair(w.leader()))
		}
	})
}

func (w *world) commitIndex() uint64 {
	w.t.Helper()
	st, err := w.local(w.leader())
	if err != nil {
		w.t.Fatal(err)
	}
	return st.GetCommitIndex()
}

package protocol

import (
	"testing"
	"time"

	"github.com/witnessd/witnessd/agent/hold"
	"github.com/witnessd/witnessd/witnessd/pair"
)

// promised checks, when the right has moved, that the new primary had no promise left at that moment.
func (w *world) promised(t *testing.T, mirror string, epoch pair.Epoch, limit time.Duration) {
	t.Helper()
	for end := w.now + limit; w.now < end && w.record.Epoch == epoch; {
		w.run(time.Millisecond)
	}
	if p := w.hosts[mirror].state.Report(w.hosts[mirror].now()).Promise; w.record.Epoch != epoch && p > 0 {
		t.Errorf("epoch %d names %s, whose promise runs for another %v", w.record.Epoch, mirror, p)
	}
}

// late lets a report of b come that was long on its way; no newer one takes its place.
func (w *world) late(r pair.Report) {
	r.Sequence += 1 << 20
	w.step(w.leader, pair.Heard{Report: r, Receipt: w.witnessNow()})
}

// TestMutantsOfPromises: that the mirror keeps its promise by itself does not excuse a witness that asks for less
// than rule R5 says.
func TestMutantsOfPromises(t *testing.T) {
	play(t, []scenario{
		{"word of the mirror about an earlier epoch", func(t *testing.T, w *world) {
			r := w.hosts["b"].convert(w.hosts["b"].report())
			r.Promise = 0
			for range 2 { // to b, and back to a
				w.must(t, pair.WishSwitchover{By: "op"})
				w.run(5 * time.Second)
			}
			w.armedAgain(t)
			w.cut("a", "w")
			w.run(2900 * time.Millisecond)
			from := w.now
			w.late(r)
			w.run(2 * time.Second)
			w.steady(t, from, 3)
		}},
		{"word of the mirror that quotes the leader before", func(t *testing.T, w *world) {
			r := w.hosts["b"].convert(w.hosts["b"].report())
			r.Promise = 0
			w.cut("a", "w")
			w.elect(0)
			w.run(2900 * time.Millisecond)
			from := w.now
			w.late(r)
			w.run(2 * time.Second)
			w.steady(t, from, 1)
		}},
		{"forced with the loss accepted: the mirror's promise is waited for", func(t *testing.T, w *world) {
			w.hosts["a"].hang[hold.OpHandOver], w.hosts["a"].hang[hold.OpStop] = true, true
			w.cut("a", "w")
			w.must(t, pair.WishForce{AcceptLoss: true, By: "op"})
			w.promised(t, "b", 1, 30*time.Second)
			if w.record.Epoch != 2 {
				t.Error("not failed over")
			}
		}},
		{"promise of a longer lease outlives the agent", func(t *testing.T, w *world) {
			w.must(t, pair.WishCommand{Body: pair.SetPolicy{Policy: w.profile("patient")}})
			w.run(5 * time.Second)
			w.cut("a", "w")
			w.run(15 * time.Second) // a serves on b's promises, of 12 s each
			w.must(t, pair.WishCommand{Body: pair.SetPolicy{Policy: w.profile("default")}})
			w.until(time.Second, func() bool { return w.hosts["b"].file.Timing.Lease == 3*time.Second })
			w.cut("a", "b")
			w.hosts["b"].killAgent()
			w.hosts["b"].boot()
			w.run(20 * time.Second)
			w.heal("a", "w")
			w.heal("a", "b")
			w.armedAgain(t)
		}},
		{"start without a file: the promise may have been given a moment ago", func(t *testing.T, w *world) {
			w.cut("a", "w")
			w.run(10 * time.Second) // a serves on b's promises
			w.cut("a", "b")
			w.hosts["b"].killAgent()
			w.hosts["b"].loseFile()
			w.hosts["b"].boot()
			w.run(10 * time.Second)
			w.heal("a", "w")
			w.heal("a", "b")
			w.armedAgain(t)
		}},
		{"start of a host that was made primary a moment ago", func(t *testing.T, w *world) {
			file := w.hosts["b"].file
			file.Epoch, file.Primary, file.Mirror = 2, "b", "a"
			now := w.hosts["b"].now()
			s := hold.New("b", file, true, hold.Mark{}, now)
			if p := s.Report(now).Promise; p != 3*time.Second {
				t.Errorf("b assumes a promise of %v; it may have given one of 3 s to the primary of epoch 1", p)
			}
		}},
		{"promotion counts as a grant", func(t *testing.T, w *world) {
			w.hosts["a"].crash()
			for w.record.Epoch < 2 {
				w.run(time.Millisecond)
			}
			if left := w.leader.watch.LeaseUntil.Sub(w.witnessNow()); left < 2900*time.Millisecond {
				t.Errorf("the first lease of the new primary is taken to run for another %v", left)
			}
			w.run(5 * time.Second)
		}},
		{"new leader waits for the longest lease, not for that of the policy", func(t *testing.T, w *world) {
			w.must(t, pair.WishCommand{Body: pair.SetPolicy{Policy: w.profile("patient")}})
			w.run(5 * time.Second)
			w.must(t, pair.WishCommand{Body: pair.SetPolicy{Policy: w.profile("fast")}})
			w.elect(0)
			w.run(time.Millisecond)
			if left := w.leader.watch.LeaseUntil.Sub(w.witnessNow()); left < 11*time.Second {
				t.Errorf("a new leader waits for %v, and a lease of 12 s may be out", left)
			}
		}},
		{"lease of a host that the record does not name", func(t *testing.T, w *world) {
			w.cut("a", "w")
			w.cut("a", "b")
			a := w.hosts["a"]
			from := w.now
			for range 20 {
				w.run(250 * time.Millisecond)
				a.step(hold.PartnerAnswered{Sent: a.now(), Host: "c", Says: hold.Says{
					Pair: "p1", Epoch: 1, Primary: "a", Lease: 3 * time.Second,
				}})
			}
			w.run(5 * time.Second)
			if last := w.acked[len(w.acked)-1]; last.host == "a" && last.at > from+3*time.Second {
				t.Errorf("a acknowledges at %v, isolated since %v", last.at, from)
			}
		}},
	})
}

// TestMutantsOfGuards: the guard fits the lease that it is taken off, also while only the granter has heard of the
// longer one.
func TestMutantsOfGuards(t *testing.T) {
	w := newTold(t)
	w.hosts["a"].rate, w.hosts["b"].rate = 0.99, 1.01
	if !w.until(15*time.Second, func() bool { return w.record.Armed() }) {
		t.Fatal("pair did not arm")
	}
	w.oneWay("w", "a")
	w.must(t, pair.WishCommand{Body: pair.SetPolicy{Policy: w.profile("patient")}})
	w.run(10 * time.Second) // a holds leases of 12 s, and the guard of those of 3 s
	w.cut("a", "b")
	w.cut("a", "w")
	w.run(20 * time.Second)
	w.cuts = map[string]bool{}
	w.armedAgain(t)
}

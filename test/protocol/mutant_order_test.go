package protocol

import (
	"testing"
	"time"

	"github.com/witnessd/witnessd/agent/hold"
	"github.com/witnessd/witnessd/witnessd/pair"
)

// TestMutantsOfOrders is about what operators ask for, and what may come of it (R13, R14, R16).
func TestMutantsOfOrders(t *testing.T) {
	off := pair.WishForce{AcceptLoss: true, HostOff: "a", By: "op"}
	play(t, []scenario{
		{"order for an epoch that is over", func(t *testing.T, w *world) {
			w.must(t, pair.WishSwitchover{By: "op"})
			w.run(5 * time.Second)
			var got *pair.Refusal
			w.tokens[9] = func(r *pair.Refusal) { got = r }
			w.step(w.leader, pair.Ask{Token: 9, Epoch: 1, Wish: pair.WishForce{AcceptLoss: true, By: "op"}})
			w.run(time.Second)
			if got == nil || got.Reason != pair.ReasonStaleEpoch {
				t.Errorf("a forced failover that names epoch 1 at epoch %d: %v", w.record.Epoch, got)
			}
		}},
		{"host stated off, and the witness hears it, for longer than a release may take", func(t *testing.T, w *world) {
			w.alone(t)
			w.cut("a", "b")
			w.oneWay("w", "a")
			w.hosts["b"].boot()
			w.run(10 * time.Second)
			from := w.now
			w.ask(off)
			w.run(60 * time.Second)
			w.steady(t, from, 1)
		}},
		{"release with everything, of which the mirror hears from the witness only", func(t *testing.T, w *world) {
			w.must(t, pair.WishCommand{Body: pair.SetMode{Mode: pair.ModeManual}})
			w.run(5 * time.Second)
			from := w.now
			w.must(t, pair.WishSwitchover{By: "op"})
			for range 2000 {
				if w.hosts["a"].file.Released == 1 {
					break
				}
				w.run(time.Millisecond)
			}
			w.cut("a", "b")
			w.run(10 * time.Second)
			w.servedBy(t, "b", from, 2*time.Second)
		}},
		{"released with a right that has no end, and nobody can take over yet", func(t *testing.T, w *world) {
			w.must(t, pair.WishCommand{Body: pair.SetMode{Mode: pair.ModeManual}})
			w.run(5 * time.Second)
			w.must(t, pair.WishSwitchover{By: "op"})
			w.cut("b", "w")
			a := w.hosts["a"]
			for range 2000 {
				if a.file.Released == 1 {
					break
				}
				w.run(time.Millisecond)
			}
			w.run(2 * time.Second)
			if a.db.open() || a.file.Epoch > 1 {
				t.Errorf("a serves epoch %d, and has released epoch 1", a.file.Epoch)
			}
			w.heal("b", "w")
			w.until(30*time.Second, func() bool { return w.record.Procedure == nil })
			w.must(t, pair.WishCommand{Body: pair.SetMode{Mode: pair.ModeAutomatic}})
			w.armedAgain(t)
		}},
		{"primary that falls silent while its pair is removed", func(t *testing.T, w *world) {
			w.alone(t)
			w.must(t, pair.WishRemove{By: "op"})
			w.hosts["a"].freeze()
			w.run(60 * time.Second)
			if w.record.Stage != pair.StageReady || w.record.Procedure != nil {
				t.Errorf("stage %v without a word of the primary, under way: %+v", w.record.Stage, w.record.Procedure)
			}
		}},
	})
}

// TestMutantsOfForming is rule R16: a pair does not begin with an instance that another one has.
func TestMutantsOfForming(t *testing.T) {
	w := newTold(t)
	w.cut("b", "w")
	w.run(time.Second)
	b := w.hosts["b"]
	for range 10 {
		r := b.convert(hold.Report{Pair: "p1", Known: true, Engine: b.db.look()})
		r.OtherRight = true
		w.late(r)
		w.run(500 * time.Millisecond)
	}
	if w.record.Stage != pair.StageForming {
		t.Errorf("stage %v, although b holds a right or a promise under another id", w.record.Stage)
	}
}

// TestMutantsOfForgetting: a host that has lost its right stays shut when it hears that its pair is gone, whatever of
// both it hears first.
func TestMutantsOfForgetting(t *testing.T) {
	for offset := time.Duration(0); offset < look; offset += 20 * time.Millisecond {
		w := armed(t)
		a := w.hosts["a"]
		a.kernel = true
		w.run(time.Second)
		a.freeze() // and nothing waits for it but the word of the kernel's fence
		w.cut("a", "w")
		w.cut("a", "b")
		if !w.until(10*time.Second, func() bool { return w.record.Primary == "b" && w.record.Right == pair.RightSole }) {
			t.Fatal("b does not serve alone")
		}
		newHost(w, "c").boot()
		w.run(time.Second)
		w.must(t, pair.WishCommand{Body: pair.ReplaceMirror{Member: pair.Member{Host: "c", Instance: "db"}, By: "op"}})
		w.run(2*time.Second + offset)
		w.cuts = map[string]bool{}
		a.thaw()
		w.run(5 * time.Second)
		if a.db.open() {
			t.Errorf("a is open, thawed after %v", offset)
		}
	}
}

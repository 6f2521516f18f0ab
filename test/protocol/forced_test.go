package protocol

import (
	"testing"
	"time"

	"github.com/witnessd/witnessd/agent/hold"
	"github.com/witnessd/witnessd/witnessd/pair"
)

// alone loses the mirror until the primary serves alone by right.
func (w *world) alone(t *testing.T) {
	t.Helper()
	w.hosts["b"].lose()
	w.run(10 * time.Second)
	if w.record.Right != pair.RightSole {
		t.Fatalf("right %v", w.record.Right)
	}
}

// TestForcedFailover is about rule R14.
func TestForcedFailover(t *testing.T) {
	off := pair.WishForce{AcceptLoss: true, HostOff: "a", By: "op"}
	play(t, []scenario{
		{"primary answers: it hands over, nothing is lost", func(t *testing.T, w *world) {
			from := w.now
			w.must(t, pair.WishForce{By: "op"})
			w.run(5 * time.Second)
			w.servedBy(t, "b", from, 1500*time.Millisecond)
			w.armedAgain(t)
		}},
		{"sole primary that answers, loss accepted: promoted as soon as it has released", func(t *testing.T, w *world) {
			w.cut("a", "b")
			w.run(10 * time.Second)
			from := w.now
			w.must(t, pair.WishForce{AcceptLoss: true, By: "op"})
			w.run(10 * time.Second)
			w.servedBy(t, "b", from, 2*time.Second)
			if l := w.record.Last; l == nil || !l.Done || w.record.Primary != "b" {
				t.Errorf("forced failover did not end well: %+v", l)
			}
			w.heal("a", "b")
			w.armedAgain(t)
		}},
		{"sole primary that answers, loss not accepted: undone at once", func(t *testing.T, w *world) {
			w.cut("a", "b")
			w.run(10 * time.Second)
			from := w.now
			w.must(t, pair.WishForce{By: "op"})
			w.run(10 * time.Second)
			w.servedBy(t, "a", from+500*time.Millisecond, 2*time.Second)
			if l := w.record.Last; l == nil || l.Done || w.record.Primary != "a" {
				t.Errorf("ended as %+v", l)
			}
			w.heal("a", "b")
			w.armedAgain(t)
		}},
		{"sole primary that takes long to hand over is waited for: nothing is lost", func(t *testing.T, w *world) {
			w.must(t, pair.WishCommand{Body: pair.SetMode{Mode: pair.ModeManual}})
			w.run(3 * time.Second)
			w.hosts["a"].slow = 50 // 10 s
			from := w.now
			w.must(t, pair.WishForce{AcceptLoss: true, By: "op"})
			w.run(20 * time.Second)
			w.servedBy(t, "b", from, 12*time.Second)
			if len(w.forgiven) > 0 || w.record.Primary != "b" {
				t.Errorf("primary %s, %d writes lost", w.record.Primary, len(w.forgiven))
			}
			w.hosts["a"].slow = 1
			w.must(t, pair.WishCommand{Body: pair.SetMode{Mode: pair.ModeAutomatic}})
			w.armedAgain(t)
		}},
		{"leased primary whose agent asks for leases and does not release", func(t *testing.T, w *world) {
			w.hosts["a"].hang[hold.OpHandOver], w.hosts["a"].hang[hold.OpStop] = true, true
			from := w.now
			w.must(t, pair.WishForce{By: "op"})
			w.run(20 * time.Second)
			w.servedBy(t, "b", from, 12*time.Second)
			w.hosts["a"].hang = map[hold.Op]bool{}
			w.armedAgain(t)
		}},
		{"new primary is heard but hears nothing: the old one takes over again within a lease or two",
			func(t *testing.T, w *world) {
				w.oneWay("w", "b")
				w.hosts["a"].crash() // b hears of the release by a, and says that it is free
				for w.record.Epoch < 2 {
					w.run(time.Millisecond)
				}
				w.cut("a", "b")
				from := w.now
				w.run(20 * time.Second)
				if w.hosts["b"].file.Epoch != 1 {
					t.Fatal("b has heard")
				}
				w.servedBy(t, "a", from, 8*time.Second)
				w.cuts = map[string]bool{}
				w.armedAgain(t)
			}},
		{"silent sole primary and no word that it is off: refused", func(t *testing.T, w *world) {
			w.alone(t)
			w.hosts["a"].freeze()
			w.hosts["b"].boot()
			w.run(10 * time.Second)
			w.mustNot(t, pair.WishForce{AcceptLoss: true, By: "op"}, pair.ReasonHostOffUnconfirmed)
			w.mustNot(t, pair.WishForce{By: "op"}, pair.ReasonLossNotAccepted)
			w.mustNot(t, pair.WishForce{AcceptLoss: true, HostOff: "b", By: "op"}, pair.ReasonBadSpec)
		}},
		{"fencing command cuts the silent sole primary off", func(t *testing.T, w *world) {
			w.alone(t)
			w.hosts["a"].freeze()
			w.hosts["b"].boot()
			w.run(10 * time.Second)
			w.fences = func(h *host) bool { h.lose(); return true }
			from := w.now
			w.must(t, pair.WishForce{AcceptLoss: true, CanFence: true, By: "op"})
			w.run(20 * time.Second)
			w.servedBy(t, "b", from, 15*time.Second)
			w.hosts["a"].boot()
			w.armedAgain(t)
		}},
		{"fencing command fails: nothing moves", func(t *testing.T, w *world) {
			w.alone(t)
			w.hosts["a"].freeze()
			w.hosts["b"].boot()
			w.run(10 * time.Second)
			w.fences = func(*host) bool { return false }
			w.must(t, pair.WishForce{AcceptLoss: true, CanFence: true, By: "op"})
			w.run(20 * time.Second)
			if l := w.record.Last; l == nil || l.Done || l.Reason != pair.ReasonFenceFailed || w.record.Epoch != 1 {
				t.Errorf("epoch %d, %+v", w.record.Epoch, l)
			}
			w.hosts["a"].thaw()
			w.armedAgain(t)
		}},
		{"host stated off, but the mirror hears it: nothing moves", func(t *testing.T, w *world) {
			w.alone(t)
			w.cut("a", "w")
			w.hosts["b"].boot()
			w.run(10 * time.Second)
			from := w.now
			w.mustNot(t, off, pair.ReasonPrimaryHeard)
			w.run(20 * time.Second)
			w.steady(t, from, 1)
		}},
		{"host stated off, but the witness hears it: nothing moves", func(t *testing.T, w *world) {
			w.alone(t)
			w.cut("a", "b")
			w.oneWay("w", "a")
			w.hosts["b"].boot()
			w.run(10 * time.Second)
			from := w.now
			w.ask(off)
			w.run(30 * time.Second)
			w.steady(t, from, 1)
			w.cuts = map[string]bool{}
			w.armedAgain(t)
		}},
		{"new leader in each step of a forced failover over a host that is off", func(t *testing.T, w *world) {
			w.alone(t)
			w.hosts["a"].lose()
			w.hosts["b"].boot()
			w.run(10 * time.Second)
			from := w.now
			w.must(t, off)
			for range 3 {
				w.run(3 * time.Second)
				w.elect(300 * time.Millisecond)
			}
			w.run(20 * time.Second)
			w.servedBy(t, "b", from, 25*time.Second)
			w.hosts["a"].boot()
			w.armedAgain(t)
		}},
		{"wish to release that ended long ago, told by a mirror that has not heard", func(t *testing.T, w *world) {
			w.cut("a", "w")
			w.cut("a", "b")
			w.must(t, pair.WishForce{By: "op"})
			w.run(100 * time.Millisecond)
			w.cut("b", "w") // b knows of the wish, not of its end
			w.run(200 * time.Millisecond)
			w.heal("a", "w")
			w.heal("a", "w")
			w.hosts["a"].freeze()
			if !w.until(60*time.Second, func() bool { return w.record.Procedure == nil }) {
				t.Fatal("the procedure does not end")
			}
			w.hosts["a"].thaw()
			w.run(5 * time.Second)
			if !w.hosts["a"].db.running {
				t.Fatal("a does not serve")
			}
			from := w.now
			w.heal("a", "b")
			w.run(10 * time.Second)
			w.steady(t, from, 1)
			w.heal("b", "w")
			w.armedAgain(t)
		}},
		{"mirror that has not heard the end of a forced failover grants leases again", func(t *testing.T, w *world) {
			w.hosts["a"].freeze()
			w.hosts["b"].fail[hold.OpPromote] = 1
			w.must(t, pair.WishForce{By: "op"})
			w.hosts["b"].db.data = false // it cannot be promoted, so that the procedure fails
			if !w.until(10*time.Second, func() bool {
				return w.record.Procedure != nil && w.record.Procedure.Step == pair.StepWithhold
			}) {
				t.Fatal("not withheld")
			}
			w.run(time.Second)
			w.cut("b", "w")
			w.hosts["a"].thaw()
			w.run(100 * time.Millisecond)
			if !w.until(60*time.Second, func() bool { return w.record.Procedure == nil }) {
				t.Fatal("the procedure does not end")
			}
			w.hosts["b"].db.data = true
			w.run(10 * time.Second)
			if w.hosts["a"].state.Report(w.hosts["a"].now()).Serving {
				w.loseWitness()
				from := w.now
				w.run(10 * time.Second)
				if gap := w.longestGap(from); w.record.Right == pair.RightLeased && gap > time.Second {
					t.Errorf("no write for %v with a partner that could vouch", gap)
				}
				w.elect(0)
			}
			w.heal("b", "w")
			w.armedAgain(t)
		}},
	})
}

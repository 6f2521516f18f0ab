package protocol

import (
	"testing"
	"time"

	"github.com/witnessd/witnessd/agent/hold"
	"github.com/witnessd/witnessd/witnessd/pair"
)

// TestRelease is about rule R9: what an agent gives back, when, and how the pair comes back from it.
func TestRelease(t *testing.T) {
	play(t, []scenario{
		{"hand-over of a paused pair is not fenced half way", func(t *testing.T, w *world) {
			w.must(t, pair.WishCommand{Body: pair.SetMode{Mode: pair.ModeManual}})
			w.run(5 * time.Second)
			from := w.now
			w.must(t, pair.WishSwitchover{By: "op"})
			w.run(10 * time.Second)
			w.servedBy(t, "b", from, 1500*time.Millisecond)
			if l := w.record.Last; l == nil || !l.Done || w.record.Primary != "b" {
				t.Errorf("switchover did not end well: %+v", l)
			}
			w.must(t, pair.WishCommand{Body: pair.SetMode{Mode: pair.ModeAutomatic}})
			w.armedAgain(t)
		}},
		{"long hand-over keeps its leases", func(t *testing.T, w *world) {
			w.hosts["a"].slow = 50 // 10 s
			from := w.now
			w.must(t, pair.WishSwitchover{By: "op"})
			w.run(20 * time.Second)
			w.hosts["a"].slow = 1
			w.servedBy(t, "b", from, 12*time.Second)
			for _, line := range w.trace {
				if line[11:] == "a: fence ends service" {
					t.Error("the fence cut the hand-over short")
				}
			}
			w.armedAgain(t)
		}},
		{"hand-over long ago does not make a later release complete", func(t *testing.T, w *world) {
			w.must(t, pair.WishCommand{Body: pair.SetMode{Mode: pair.ModeManual}})
			w.run(3 * time.Second)
			w.must(t, pair.WishSwitchover{By: "op"})
			w.run(5 * time.Second)
			w.must(t, pair.WishSwitchover{By: "op"})
			w.run(5 * time.Second)
			if w.record.Primary != "a" || w.record.Epoch != 3 {
				t.Fatalf("primary %s, epoch %d", w.record.Primary, w.record.Epoch)
			}
			// a serves alone and has writes that b lacks; an operator asks to fail over, but not to lose them.
			w.hosts["b"].db.stalled = w.now + time.Hour
			w.cut("a", "b")
			w.run(5 * time.Second)
			w.heal("a", "b")
			w.must(t, pair.WishForce{By: "op"})
			w.run(20 * time.Second)
			if w.record.Primary != "a" {
				t.Errorf("%s was promoted without a's last writes", w.record.Primary)
			}
			w.hosts["b"].db.stalled = 0
			w.must(t, pair.WishCommand{Body: pair.SetMode{Mode: pair.ModeAutomatic}})
			w.armedAgain(t)
		}},
		{"hand-over that was asked before the witness was lost does not begin after", func(t *testing.T, w *world) {
			w.hosts["b"].fail[hold.OpFollow] = 1 << 30
			w.hosts["b"].crash()
			w.run(500 * time.Millisecond)
			w.must(t, pair.WishCommand{Body: pair.StartProcedure{Procedure: pair.Procedure{ID: "x",
				Kind: pair.KindSwitchover, Step: pair.StepRelease, Epoch: 1, Target: "b", Timeout: 30 * time.Second}}})
			w.run(500 * time.Millisecond)
			w.loseWitness()
			w.run(10 * time.Second) // on its partner's lease
			if w.hosts["a"].state.File.Released != 0 {
				t.Fatal("it began to hand over without a mirror")
			}
			delete(w.hosts["b"].fail, hold.OpFollow)
			w.run(5 * time.Second) // the mirror is attached again
			from := w.now
			w.run(20 * time.Second)
			if gap := w.longestGap(from); gap > 100*time.Millisecond {
				t.Errorf("primary stopped for %v while the witness was lost", gap)
			}
			w.elect(0)
			w.armedAgain(t)
		}},
		{"release in vain is undone at once", func(t *testing.T, w *world) {
			// Paused, and the mirror stops taking changes in the middle of the hand-over: it ends without it.
			w.must(t, pair.WishCommand{Body: pair.SetMode{Mode: pair.ModeManual}})
			w.run(3 * time.Second)
			from := w.now
			w.must(t, pair.WishSwitchover{By: "op"})
			w.until(time.Second, func() bool { return w.hosts["a"].op.Op == hold.OpHandOver })
			w.hosts["b"].db.stalled = w.now + time.Hour
			w.run(50 * time.Millisecond)
			w.hosts["b"].crash()
			w.run(10 * time.Second)
			w.servedBy(t, "a", from+time.Second, 2*time.Second)
			w.hosts["b"].db.stalled = 0
			w.must(t, pair.WishCommand{Body: pair.SetMode{Mode: pair.ModeAutomatic}})
			w.armedAgain(t)
		}},
		{"hand-over that fails: stopped without, promoted while leased", func(t *testing.T, w *world) {
			w.hosts["a"].fail[hold.OpHandOver] = 1 << 30
			from := w.now
			w.must(t, pair.WishSwitchover{By: "op"})
			w.run(10 * time.Second)
			w.servedBy(t, "b", from, 5*time.Second)
			delete(w.hosts["a"].fail, hold.OpHandOver)
			w.armedAgain(t)
		}},
		{"switchover whose target dies half way is undone within a lease or two", func(t *testing.T, w *world) {
			w.must(t, pair.WishSwitchover{By: "op"})
			w.until(time.Second, func() bool { return w.hosts["a"].file.Released == 1 || w.hosts["a"].op.Op == hold.OpHandOver })
			w.hosts["b"].lose()
			from := w.now
			w.run(20 * time.Second)
			w.servedBy(t, "a", from+100*time.Millisecond, 8*time.Second)
			w.hosts["b"].boot()
			w.armedAgain(t)
		}},
		{"released epoch is not served again by an agent that lost its file", func(t *testing.T, w *world) {
			w.must(t, pair.WishCommand{Body: pair.SetMode{Mode: pair.ModeManual}})
			w.run(3 * time.Second)
			w.cut("a", "b")
			w.run(5 * time.Second)
			// Alone and asked to give way without loss: it stops and releases, in vain.
			w.must(t, pair.WishForce{By: "op"})
			w.until(5*time.Second, func() bool { return w.hosts["a"].file.Released == 1 })
			w.hosts["a"].killAgent()
			w.hosts["a"].loseFile()
			w.hosts["a"].boot()
			w.until(20*time.Second, func() bool {
				if db := w.hosts["a"].db; db.running && db.primary && w.hosts["a"].state.File.Epoch == 1 {
					t.Error("serves the epoch that it released")
				}
				return w.record.Epoch == 2
			})
			w.run(time.Second)
			w.heal("a", "b")
			w.must(t, pair.WishCommand{Body: pair.SetMode{Mode: pair.ModeAutomatic}})
			w.armedAgain(t)
		}},
		{"database dies while the witness is lost: restarted in place", func(t *testing.T, w *world) {
			w.loseWitness()
			w.run(10 * time.Second)
			from := w.now
			w.hosts["a"].crash()
			w.run(20 * time.Second)
			w.servedBy(t, "a", from+time.Millisecond, 3*time.Second)
			w.elect(0)
			w.armedAgain(t)
		}},
		{"new leader in each step of a switchover", func(t *testing.T, w *world) {
			for _, after := range []int{1, 10, 40, 60, 100, 200, 250, 300, 400} {
				from := w.now
				target := string(w.record.Mirror)
				w.must(t, pair.WishSwitchover{By: "op"})
				w.run(time.Duration(after) * time.Millisecond)
				w.elect(200 * time.Millisecond)
				w.run(10 * time.Second)
				w.servedBy(t, target, from, 6*time.Second)
				w.armedAgain(t)
			}
		}},
	})
}

package protocol

import (
	"testing"
	"time"

	"github.com/witnessd/witnessd/witnessd/pair"
)

func TestWhatHappensWhen(t *testing.T) {
	for _, c := range []struct {
		name string
		run  func(t *testing.T, w *world)
	}{
		{"leader dies: nothing", func(t *testing.T, w *world) {
			from := w.now
			w.loseWitness()
			w.elect(600 * time.Millisecond)
			w.run(20 * time.Second)
			if gap := w.longestGap(from); gap > 50*time.Millisecond || w.record.Epoch != 1 {
				t.Errorf("gap %v, epoch %d", gap, w.record.Epoch)
			}
			w.armedAgain(t)
		}},
		{"whole witness lost: primary serves on its partner lease", func(t *testing.T, w *world) {
			from := w.now
			w.loseWitness()
			w.run(60 * time.Second)
			w.elect(0)
			w.run(10 * time.Second)
			if gap := w.longestGap(from); gap > 50*time.Millisecond || w.record.Epoch != 1 {
				t.Errorf("gap %v, epoch %d", gap, w.record.Epoch)
			}
			w.armedAgain(t)
		}},
		{"mirror lost: held for the mirror time-out, then exposed; back: armed", func(t *testing.T, w *world) {
			from := w.now
			w.hosts["b"].lose()
			w.run(10 * time.Second)
			if gap := w.longestGap(from); gap > 2500*time.Millisecond || w.record.Right != pair.RightSole {
				t.Errorf("gap %v, right %v", gap, w.record.Right)
			}
			w.hosts["b"].boot()
			w.armedAgain(t)
		}},
		{"database of the primary dies: mirror promoted at once", func(t *testing.T, w *world) {
			from := w.now
			w.hosts["a"].crash()
			w.run(5 * time.Second)
			w.servedBy(t, "b", from, 500*time.Millisecond)
			w.armedAgain(t)
		}},
		{"primary host lost: mirror promoted after one lease", func(t *testing.T, w *world) {
			from := w.now
			w.hosts["a"].lose()
			w.run(10 * time.Second)
			w.servedBy(t, "b", from, 3500*time.Millisecond)
			w.hosts["a"].boot()
			w.armedAgain(t)
		}},
		{"primary isolated: fences itself before the mirror serves, returns as mirror", func(t *testing.T, w *world) {
			from := w.now
			w.cut("a", "w")
			w.cut("a", "b")
			w.run(10 * time.Second)
			w.servedBy(t, "b", from, 3500*time.Millisecond)
			w.heal("a", "w")
			w.heal("a", "b")
			w.armedAgain(t)
			if w.record.Primary != "b" {
				t.Errorf("primary is %s", w.record.Primary)
			}
		}},
		{"only primary-mirror cut: exposed, nobody moves", func(t *testing.T, w *world) {
			from := w.now
			w.cut("a", "b")
			w.run(20 * time.Second)
			if gap := w.longestGap(from); gap > 2500*time.Millisecond || w.record.Epoch != 1 || w.record.Right != pair.RightSole {
				t.Errorf("gap %v, epoch %d, right %v", gap, w.record.Epoch, w.record.Right)
			}
			w.heal("a", "b")
			w.armedAgain(t)
		}},
		{"only primary-witness cut: mirror vouches, nobody moves", func(t *testing.T, w *world) {
			from := w.now
			w.cut("a", "w")
			w.run(20 * time.Second)
			if gap := w.longestGap(from); gap > 50*time.Millisecond || w.record.Epoch != 1 {
				t.Errorf("gap %v, epoch %d", gap, w.record.Epoch)
			}
			w.heal("a", "w")
			w.armedAgain(t)
		}},
		{"only mirror-witness cut: serving, no automatic failover", func(t *testing.T, w *world) {
			from := w.now
			w.cut("b", "w")
			w.run(20 * time.Second)
			if gap := w.longestGap(from); gap > 50*time.Millisecond || w.record.Epoch != 1 {
				t.Errorf("gap %v, epoch %d", gap, w.record.Epoch)
			}
			if v := pair.FailoverVerdict(w.record, w.leader.watch, w.witnessNow()); v.Ready() {
				t.Error("explain does not say that failover is impossible")
			}
			w.heal("b", "w")
			w.armedAgain(t)
		}},
		{"mirror lost, recorded, then witness lost: primary keeps serving", func(t *testing.T, w *world) {
			w.hosts["b"].lose()
			w.run(10 * time.Second)
			from := w.now
			w.loseWitness()
			w.run(60 * time.Second)
			if gap := w.longestGap(from); gap > 50*time.Millisecond {
				t.Errorf("gap %v", gap)
			}
			w.elect(0)
			w.hosts["b"].boot()
			w.armedAgain(t)
		}},
		{"witness lost, then mirror lost: primary stops, and serves when the witness is back", func(t *testing.T, w *world) {
			w.loseWitness()
			w.run(10 * time.Second)
			w.hosts["b"].lose()
			from := w.now
			w.run(20 * time.Second)
			if at := w.firstAck("a", from+3*time.Second); at >= 0 {
				t.Errorf("primary acknowledged a write at %v", at)
			}
			if w.hosts["a"].db.running {
				t.Error("primary's database still runs")
			}
			w.elect(0)
			back := w.now
			w.run(10 * time.Second)
			w.servedBy(t, "a", back, 5*time.Second)
			w.hosts["b"].boot()
			w.armedAgain(t)
		}},
		{"primary and witness lost: mirror promoted when the witness is back", func(t *testing.T, w *world) {
			w.loseWitness()
			w.hosts["a"].lose()
			w.run(30 * time.Second)
			if w.record.Epoch != 1 {
				t.Errorf("epoch %d", w.record.Epoch)
			}
			from := w.now
			w.elect(0)
			w.run(10 * time.Second)
			w.servedBy(t, "b", from, 4*time.Second)
			w.hosts["a"].boot()
			w.armedAgain(t)
		}},
		{"agent restarted within the lease: no outage", func(t *testing.T, w *world) {
			from := w.now
			w.hosts["a"].killAgent()
			w.run(500 * time.Millisecond)
			w.hosts["a"].boot()
			w.run(10 * time.Second)
			if gap := w.longestGap(from); gap > 300*time.Millisecond || w.record.Epoch != 1 {
				t.Errorf("gap %v, epoch %d", gap, w.record.Epoch)
			}
			w.armedAgain(t)
		}},
		{"agent of an exposed primary restarted while the witness is lost: no outage", func(t *testing.T, w *world) {
			w.hosts["b"].lose()
			w.run(10 * time.Second)
			w.loseWitness()
			w.run(5 * time.Second)
			from := w.now
			w.hosts["a"].killAgent()
			w.run(20 * time.Second)
			w.hosts["a"].boot()
			w.run(20 * time.Second)
			if gap := w.longestGap(from); gap > 300*time.Millisecond {
				t.Errorf("gap %v", gap)
			}
			w.elect(0)
			w.hosts["b"].boot()
			w.armedAgain(t)
		}},
		{"switchover", func(t *testing.T, w *world) {
			from := w.now
			if r := w.ask(pair.WishSwitchover{By: "op"}); r != nil {
				t.Fatalf("refused: %v", r)
			}
			w.run(5 * time.Second)
			w.servedBy(t, "b", from, time.Second)
			w.armedAgain(t)
			if w.record.Last == nil || !w.record.Last.Done {
				t.Errorf("procedure did not end well: %+v", w.record.Last)
			}
		}},
		{"database of an exposed primary dies: restarted in place", func(t *testing.T, w *world) {
			w.hosts["b"].lose()
			w.run(10 * time.Second)
			from := w.now
			w.hosts["a"].crash()
			w.run(10 * time.Second)
			w.servedBy(t, "a", from+time.Millisecond, 2*time.Second)
			if w.record.Epoch != 1 {
				t.Errorf("epoch %d", w.record.Epoch)
			}
			w.hosts["b"].boot()
			w.armedAgain(t)
		}},
		{"pause, resume", func(t *testing.T, w *world) {
			if r := w.ask(pair.WishCommand{Body: pair.SetMode{Mode: pair.ModeManual}}); r != nil {
				t.Fatal(r)
			}
			w.run(5 * time.Second)
			from := w.now
			w.loseWitness()
			w.cut("a", "b")
			w.run(20 * time.Second)
			if gap := w.longestGap(from); gap > 2500*time.Millisecond {
				t.Errorf("gap %v", gap)
			}
			w.heal("a", "b")
			w.elect(0)
			w.run(5 * time.Second)
			if r := w.ask(pair.WishCommand{Body: pair.SetMode{Mode: pair.ModeAutomatic}}); r != nil {
				t.Fatal(r)
			}
			w.armedAgain(t)
		}},
		{"forced failover over a silent sole primary: refused, then with the host stated off", func(t *testing.T, w *world) {
			w.hosts["b"].lose()
			w.run(10 * time.Second)
			w.hosts["a"].lose()
			w.hosts["b"].boot()
			w.run(10 * time.Second)
			if w.record.Epoch != 1 {
				t.Errorf("epoch %d", w.record.Epoch)
			}
			r := w.ask(pair.WishForce{AcceptLoss: true, By: "op"})
			if r == nil || r.Reason != pair.ReasonHostOffUnconfirmed {
				t.Fatalf("not refused for the silent sole primary: %v", r)
			}
			if r := w.ask(pair.WishForce{AcceptLoss: true, HostOff: "a", By: "op"}); r != nil {
				t.Fatal(r)
			}
			from := w.now
			w.run(15 * time.Second)
			w.servedBy(t, "b", from, 10*time.Second)
			w.hosts["a"].boot()
			w.armedAgain(t)
		}},
		{"new primary dies before it serves: the old one takes over again", func(t *testing.T, w *world) {
			w.hosts["a"].crash()
			w.until(time.Second, func() bool { return w.record.Epoch == 2 })
			w.hosts["b"].lose()
			from := w.now
			w.run(20 * time.Second)
			w.servedBy(t, "a", from, 8*time.Second)
			w.hosts["b"].boot()
			w.armedAgain(t)
		}},
		{"switchover whose target dies: aborted, the primary serves again", func(t *testing.T, w *world) {
			w.ask(pair.WishSwitchover{By: "op"})
			w.run(50 * time.Millisecond)
			w.hosts["b"].lose()
			from := w.now
			w.run(60 * time.Second)
			w.servedBy(t, "a", from+time.Second, 40*time.Second)
			w.hosts["b"].boot()
			w.armedAgain(t)
		}},
		{"shorter policy", func(t *testing.T, w *world) {
			fast, _ := pair.ProfilePolicy("fast")
			if r := w.ask(pair.WishCommand{Body: pair.SetPolicy{Policy: fast}}); r != nil {
				t.Fatal(r)
			}
			if !w.until(10*time.Second, func() bool { return w.record.LongestLease == fast.Lease }) {
				t.Error("longest lease was not lowered")
			}
			w.armedAgain(t)
			from := w.now
			w.hosts["a"].lose()
			w.run(10 * time.Second)
			w.servedBy(t, "b", from, 1500*time.Millisecond)
		}},
		{"remove", func(t *testing.T, w *world) {
			if r := w.ask(pair.WishRemove{By: "op"}); r != nil {
				t.Fatal(r)
			}
			from := w.now
			w.run(10 * time.Second)
			if w.record.Stage != pair.StageRemoved {
				t.Errorf("stage %v", w.record.Stage)
			}
			if gap := w.longestGap(from); gap > 2500*time.Millisecond {
				t.Errorf("gap %v", gap)
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) { c.run(t, armed(t)) })
	}
}

package protocol

import (
	"testing"
	"time"

	"github.com/witnessd/witnessd/agent/hold"
	"github.com/witnessd/witnessd/witnessd/pair"
)

// TestPolicyChange is about rule R12.
func TestPolicyChange(t *testing.T) {
	play(t, []scenario{
		{"longer leases, then shorter ones, with a new leader in between", func(t *testing.T, w *world) {
			from := w.now
			w.must(t, pair.WishCommand{Body: pair.SetPolicy{Policy: w.profile("patient")}})
			w.run(5 * time.Second)
			w.elect(300 * time.Millisecond)
			w.run(20 * time.Second)
			w.must(t, pair.WishCommand{Body: pair.SetPolicy{Policy: w.profile("fast")}})
			w.run(5 * time.Second)
			if w.record.LongestLease != 12*time.Second {
				t.Errorf("longest lease is %v too early", w.record.LongestLease)
			}
			w.elect(300 * time.Millisecond)
			if !w.until(20*time.Second, func() bool { return w.record.LongestLease == time.Second }) {
				t.Error("longest lease was not lowered")
			}
			w.steady(t, from, 1)
			w.armedAgain(t)
		}},
		{"epoch heard from the partner is no policy heard from the witness", func(t *testing.T, w *world) {
			// b hears of epochs by a only, and so goes on granting leases of 12 s. The record must not believe that it
			// has the shorter policy in its file.
			w.must(t, pair.WishCommand{Body: pair.SetPolicy{Policy: w.profile("patient")}})
			w.run(5 * time.Second)
			w.must(t, pair.WishCommand{Body: pair.SetMode{Mode: pair.ModeManual}})
			w.run(5 * time.Second)
			w.oneWay("w", "b")
			w.must(t, pair.WishCommand{Body: pair.SetPolicy{Policy: w.profile("default")}})
			w.run(2 * time.Second)
			// a gets a new epoch: it stops in vain, as its mirror is not there, and is reinstated.
			w.hosts["b"].db.stalled = w.now + 5*time.Second
			w.must(t, pair.WishForce{By: "op"})
			w.until(5*time.Second, func() bool { return w.hosts["a"].op.Op == hold.OpHandOver })
			w.hosts["b"].crash()
			if !w.until(60*time.Second, func() bool { return w.record.Epoch == 2 && w.record.Procedure == nil }) {
				t.Fatal("a was not reinstated")
			}
			w.run(30 * time.Second)
			if lease := w.hosts["b"].state.File.Timing.Lease; lease != 12*time.Second || w.record.LongestLease < lease {
				t.Errorf("longest lease is %v, b grants leases of %v", w.record.LongestLease, lease)
			}
			w.must(t, pair.WishCommand{Body: pair.SetMode{Mode: pair.ModeAutomatic}})
			if !w.until(20*time.Second, func() bool { return w.record.Armed() }) {
				t.Fatal("not armed")
			}
			w.run(5 * time.Second)
			// If it were lowered now: b restarts with a promise of 12 s out, and believes that it was one of 3 s.
			w.heal("w", "b")
			w.until(time.Second, func() bool { return w.hosts["b"].file.Timing.Lease == 3*time.Second })
			w.hosts["b"].killAgent()
			w.cut("a", "w")
			w.hosts["b"].boot()
			w.cut("a", "b")
			w.run(20 * time.Second)
			w.heal("a", "w")
			w.heal("a", "b")
			w.armedAgain(t)
		}},
	})
}

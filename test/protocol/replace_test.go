package protocol

import (
	"testing"
	"time"

	"github.com/witnessd/witnessd/agent/hold"
	"github.com/witnessd/witnessd/witnessd/pair"
)

// TestHostsOfAPairChange is about rule R16.
func TestHostsOfAPairChange(t *testing.T) {
	c := pair.Member{Host: "c", Instance: "db"}
	play(t, []scenario{
		{"mirror replaced while the old one is down; it comes back and is forgotten", func(t *testing.T, w *world) {
			w.alone(t)
			newHost(w, "c").boot()
			from := w.now
			w.must(t, pair.WishCommand{Body: pair.ReplaceMirror{Member: c, By: "op"}})
			w.run(5 * time.Second)
			if gap := w.longestGap(from); gap > 300*time.Millisecond {
				t.Errorf("gap %v", gap)
			}
			w.armedAgain(t)
			w.hosts["b"].boot()
			w.run(5 * time.Second)
			if w.hosts["b"].known || w.hosts["b"].db.following {
				t.Error("b still believes that it is of the pair")
			}
			from = w.now
			w.hosts["a"].lose()
			w.run(10 * time.Second)
			w.servedBy(t, "c", from, 3500*time.Millisecond)
		}},
		{"mirror replaced while leased: refused; paused: done", func(t *testing.T, w *world) {
			newHost(w, "c").boot()
			w.mustNot(t, pair.WishCommand{Body: pair.ReplaceMirror{Member: c}}, pair.ReasonRightSole)
			w.must(t, pair.WishCommand{Body: pair.SetMode{Mode: pair.ModeManual}})
			w.mustNot(t, pair.WishCommand{Body: pair.ReplaceMirror{Member: pair.Member{Host: "a", Instance: "db"}}},
				pair.ReasonBadSpec)
			w.mustNot(t, pair.WishCommand{Body: pair.ReplaceMirror{Member: pair.Member{}}}, pair.ReasonBadSpec)
			w.must(t, pair.WishCommand{Body: pair.ReplaceMirror{Member: c}})
			w.run(5 * time.Second)
			w.must(t, pair.WishCommand{Body: pair.SetMode{Mode: pair.ModeAutomatic}})
			w.armedAgain(t)
		}},
		{"old mirror that is cut from the witness vouches for nobody", func(t *testing.T, w *world) {
			w.cut("b", "w")
			w.must(t, pair.WishCommand{Body: pair.SetMode{Mode: pair.ModeManual}})
			newHost(w, "c").boot()
			w.run(time.Second)
			w.must(t, pair.WishCommand{Body: pair.ReplaceMirror{Member: c}})
			w.run(5 * time.Second)
			w.must(t, pair.WishCommand{Body: pair.SetMode{Mode: pair.ModeAutomatic}})
			w.armedAgain(t)
			from := w.now
			w.cut("a", "w")
			w.cut("a", "c")
			w.run(10 * time.Second)
			w.servedBy(t, "c", from, 3500*time.Millisecond)
		}},
		{"mirror of before, which has not heard, does not let a primary serve that was failed over as off",
			func(t *testing.T, w *world) {
				w.must(t, pair.WishCommand{Body: pair.SetMode{Mode: pair.ModeManual}})
				w.run(5 * time.Second)
				newHost(w, "c").boot()
				w.cut("b", "w")
				w.cut("a", "w")
				w.must(t, pair.WishCommand{Body: pair.ReplaceMirror{Member: c}})
				w.run(10 * time.Second) // c has cloned; a and b have not heard
				w.hosts["a"].lose()
				w.run(10 * time.Second)
				w.mustNot(t, pair.WishForce{AcceptLoss: true, HostOff: "a", By: "op"}, pair.ReasonPrimarySilent)
				w.run(20 * time.Second)
				w.hosts["a"].boot()
				w.run(20 * time.Second)
				w.heal("a", "w")
				w.heal("b", "w")
				w.must(t, pair.WishCommand{Body: pair.SetMode{Mode: pair.ModeAutomatic}})
				w.armedAgain(t)
			}},
		{"pair removed while its database restarts: not left holding commits for ever", func(t *testing.T, w *world) {
			w.alone(t)
			w.hosts["a"].slow = 20
			w.hosts["a"].crash()
			w.until(10*time.Second, func() bool { return w.hosts["a"].op.Op == hold.OpPromote })
			w.must(t, pair.WishRemove{By: "op"})
			w.run(20 * time.Second)
			if w.record.Stage != pair.StageRemoved {
				t.Errorf("stage %v", w.record.Stage)
			}
			if gap := w.longestGap(w.now - 5*time.Second); gap > 100*time.Millisecond {
				t.Errorf("no write for %v", gap)
			}
		}},
		{"pair whose database cannot come up is removed all the same", func(t *testing.T, w *world) {
			w.alone(t)
			w.hosts["a"].fail[hold.OpPromote] = 1 << 30
			w.hosts["a"].crash()
			w.run(5 * time.Second)
			w.must(t, pair.WishRemove{By: "op"})
			w.run(10 * time.Second)
			if w.record.Stage != pair.StageRemoved {
				t.Errorf("stage %v", w.record.Stage)
			}
		}},
		{"leased pair removed: the primary serves on", func(t *testing.T, w *world) {
			from := w.now
			w.must(t, pair.WishRemove{By: "op"})
			w.run(20 * time.Second)
			if gap := w.longestGap(from); gap > 300*time.Millisecond || w.record.Stage != pair.StageRemoved {
				t.Errorf("gap %v, stage %v", gap, w.record.Stage)
			}
			if w.hosts["a"].known || w.hosts["b"].known {
				t.Error("not forgotten")
			}
		}},
		{"removed with the word that the primary is off", func(t *testing.T, w *world) {
			w.hosts["a"].lose()
			w.must(t, pair.WishCommand{Body: pair.SetMode{Mode: pair.ModeManual}})
			w.run(10 * time.Second)
			w.mustNot(t, pair.WishRemove{By: "op"}, pair.ReasonHostOffUnconfirmed)
			w.must(t, pair.WishRemove{HostOff: "a", By: "op"})
			w.run(40 * time.Second)
			if w.record.Stage != pair.StageRemoved {
				t.Errorf("stage %v", w.record.Stage)
			}
			w.hosts["a"].boot()
			w.run(5 * time.Second)
			if w.hosts["a"].known || w.hosts["a"].db.primary {
				t.Error("a still believes that it is of the pair")
			}
		}},
		{"second removal needs a confirmation of its own", func(t *testing.T, w *world) {
			w.alone(t)
			w.must(t, pair.WishRemove{By: "op"})
			w.run(40 * time.Millisecond)
			r := w.hosts["a"].convert(w.hosts["a"].report())
			if w.record.Stage == pair.StageRemoved {
				t.Fatal("removed already")
			}
			// The first one ends, and a late word of its confirmation comes after the second has begun.
			p := w.record.Procedure
			w.must(t, pair.WishCommand{Body: pair.EndProcedure{ID: p.ID}})
			r.Sequence, r.Unmanaged, r.Revision = r.Sequence+1000, true, w.record.Revision
			w.must(t, pair.WishRemove{By: "op"})
			w.step(w.leader, pair.Heard{Report: r, Receipt: w.witnessNow()})
			w.run(2 * commit)
			if w.record.Stage == pair.StageRemoved {
				t.Error("removed on the word of the first")
			}
		}},
	})
}

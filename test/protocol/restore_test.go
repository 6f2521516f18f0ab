package protocol

import (
	"testing"
	"time"

	"github.com/witnessd/witnessd/witnessd/pair"
)

// TestRestoredWitness is about rule R15.
func TestRestoredWitness(t *testing.T) {
	play(t, []scenario{
		{"restored from an old backup: adopted, and served all the time", func(t *testing.T, w *world) {
			old := w.record
			w.must(t, pair.WishSwitchover{By: "op"})
			w.run(5 * time.Second)
			w.must(t, pair.WishSwitchover{By: "op"})
			w.run(10 * time.Second)
			w.must(t, pair.WishSwitchover{By: "op"})
			w.armedAgain(t)
			from := w.now
			w.restore(old, w.term)
			w.run(20 * time.Second)
			if w.record.Epoch != 5 || w.record.Primary != "b" || w.record.Stage != pair.StageReady {
				t.Errorf("epoch %d of %s, stage %v", w.record.Epoch, w.record.Primary, w.record.Stage)
			}
			if gap := w.longestGap(from); gap > 300*time.Millisecond {
				t.Errorf("gap %v", gap)
			}
			w.armedAgain(t)
		}},
		{"new group counts terms from lower than agents have heard: it fails over all the same", func(t *testing.T, w *world) {
			for range 5 {
				w.elect(100 * time.Millisecond)
				w.run(2 * time.Second)
			}
			w.restore(w.record, 1)
			w.run(10 * time.Second)
			w.armedAgain(t)
			from := w.now
			w.hosts["a"].lose()
			w.run(10 * time.Second)
			w.servedBy(t, "b", from, 3500*time.Millisecond)
		}},
		{"epoch file missing: nothing is decided until an operator speaks for it", func(t *testing.T, w *world) {
			old := w.record
			w.hosts["b"].lose()
			w.hosts["b"].loseFile()
			w.run(10 * time.Second)
			w.restore(old, w.term)
			w.run(20 * time.Second)
			if w.record.Stage != pair.StageRestored {
				t.Fatalf("stage %v", w.record.Stage)
			}
			from := w.now
			w.must(t, pair.WishSpeak{Host: "b", By: "op"})
			w.run(20 * time.Second)
			if w.record.Stage != pair.StageReady || w.record.Primary != "a" {
				t.Errorf("stage %v, primary %s", w.record.Stage, w.record.Primary)
			}
			w.steady(t, from, w.record.Epoch)
			w.hosts["b"].boot()
			w.armedAgain(t)
		}},
		{"host that an operator spoke for comes back and remembers more: no epoch is given twice", func(t *testing.T, w *world) {
			w.asIs = true // the operator was wrong, so writes may be lost
			old := w.record
			w.hosts["a"].crash()
			w.run(5 * time.Second) // b is primary of epoch 2
			w.hosts["b"].lose()
			w.hosts["a"].freeze() // has not heard
			file := w.hosts["a"].file
			w.run(time.Second)
			if file.Epoch != 2 {
				t.Logf("a's file has epoch %d", file.Epoch)
			}
			w.hosts["a"].thaw()
			w.hosts["a"].killAgent()
			w.hosts["a"].file.Epoch, w.hosts["a"].file.Primary, w.hosts["a"].file.Mirror = 1, "a", "b"
			w.hosts["a"].file.Released = 0
			w.hosts["a"].boot()
			w.restore(old, w.term)
			w.run(5 * time.Second)
			w.must(t, pair.WishSpeak{Host: "b", By: "op"})
			w.run(10 * time.Second)
			epoch := w.record.Epoch
			if pair.Epoch(w.hosts["b"].file.Epoch) >= epoch {
				t.Errorf("epoch %d of %s was given, b remembers epoch %d of %s", epoch, w.record.Primary,
					w.hosts["b"].file.Epoch, w.hosts["b"].file.Primary)
			}
			w.hosts["b"].boot()
			if !w.until(30*time.Second, func() bool { return w.record.Armed() }) || w.record.Epoch != epoch {
				t.Errorf("epoch %d, right %v", w.record.Epoch, w.record.Right)
			}
		}},
		{"restored from a backup with other hosts: said, and not proposed again and again", func(t *testing.T, w *world) {
			old := w.record
			newHost(w, "c").boot()
			w.must(t, pair.WishCommand{Body: pair.SetMode{Mode: pair.ModeManual}})
			w.run(2 * time.Second)
			w.must(t, pair.WishCommand{Body: pair.ReplaceMirror{Member: pair.Member{Host: "c", Instance: "db"}}})
			w.run(20 * time.Second)
			w.must(t, pair.WishSwitchover{By: "op"})
			w.run(20 * time.Second)
			if w.record.Primary != "c" {
				t.Fatalf("primary %s", w.record.Primary)
			}
			w.restore(old, w.term)
			w.run(20 * time.Second)
			w.must(t, pair.WishSpeak{Host: "b", By: "op"})
			w.run(10 * time.Second)
			v := pair.Explain(w.record, w.leader.watch, w.witnessNow())
			if w.record.Stage != pair.StageRestored || len(v) != 1 || v[0].OK() {
				t.Errorf("stage %v, %v", w.record.Stage, v)
			}
		}},
		{"leader that hears of a higher revision takes no orders for the pair", func(t *testing.T, w *world) {
			r := w.hosts["b"].convert(w.hosts["b"].report())
			r.Sequence += 1000
			r.Revision = w.record.Revision + 5
			w.step(w.leader, pair.Heard{Report: r, Receipt: w.witnessNow()})
			w.run(100 * time.Millisecond)
			w.mustNot(t, pair.WishCommand{Body: pair.SetMode{Mode: pair.ModeManual}}, pair.ReasonAhead)
			w.mustNot(t, pair.WishForce{By: "op"}, pair.ReasonAhead)
			w.mustNot(t, pair.WishSwitchover{By: "op"}, pair.ReasonAhead)
		}},
		{"restored within a leader's term: waits one longest lease from then on", func(t *testing.T, w *world) {
			// The record is exchanged under a leader that has led for a while, as the ledger does it.
			w.run(10 * time.Second)
			before := w.record
			after, _, err := w.record.Apply(pair.Command{Pair: "p1", Revision: w.record.Revision,
				Body: pair.Restore{Generation: 1}}, w.leader.term)
			if err != nil {
				t.Fatal(err)
			}
			w.record = after
			from := w.now
			w.step(w.leader, pair.Applied{Before: before, Body: pair.Restore{Generation: 1}})
			w.until(10*time.Second, func() bool { return w.record.Stage == pair.StageReady })
			if waited := w.now - from; waited < 3*time.Second || waited > 4*time.Second {
				t.Errorf("adopted after %v", waited)
			}
		}},
	})
}

// TestRestoredWhileForming: the backup is of the moment in which the pair was forming.
func TestRestoredWhileForming(t *testing.T) {
	w := newTold(t)
	old := w.record
	if old.Stage != pair.StageForming {
		t.Fatal(old.Stage)
	}
	w.until(15*time.Second, func() bool { return w.record.Armed() })
	w.run(2 * time.Second)
	w.must(t, pair.WishSwitchover{By: "op"})
	w.armedAgain(t)
	from := w.now
	w.restore(old, w.term)
	w.run(20 * time.Second)
	if w.record.Stage != pair.StageReady || w.record.Primary != "b" || w.record.Epoch <= 2 {
		t.Errorf("stage %v, epoch %d of %s", w.record.Stage, w.record.Epoch, w.record.Primary)
	}
	if gap := w.longestGap(from); gap > 300*time.Millisecond {
		t.Errorf("gap %v", gap)
	}
	w.armedAgain(t)
}

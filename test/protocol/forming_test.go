package protocol

import (
	"testing"
	"time"

	"github.com/witnessd/witnessd/witnessd/pair"
)

// TestForming is about the beginning of a pair (rule R16).
func TestForming(t *testing.T) {
	t.Run("database that serves already is left alone until the pair begins", func(t *testing.T) {
		w := newTold(t)
		w.cut("b", "w")
		w.hosts["b"].db.data, w.hosts["b"].db.system = true, "y" // the pair cannot begin
		w.run(time.Second)
		w.heal("b", "w")
		a := w.hosts["a"].db
		a.promote("")
		a.held = false
		w.run(10 * time.Second)
		if w.record.Stage != pair.StageForming || !a.running || !a.primary {
			t.Errorf("stage %v; a runs: %t, as primary: %t", w.record.Stage, a.running, a.primary)
		}
		w.hosts["b"].db.wipe()
		w.run(5 * time.Second)
		if gap := w.longestGap(10 * time.Second); gap > 500*time.Millisecond {
			t.Errorf("gap %v", gap)
		}
		w.armedAgain(t)
	})
	t.Run("new pair serves at once", func(t *testing.T) {
		w := newTold(t)
		w.run(5 * time.Second)
		w.servedBy(t, "a", 0, 1500*time.Millisecond)
	})
}

package protocol

import (
	"testing"
	"time"

	"github.com/witnessd/witnessd/agent/hold"
	"github.com/witnessd/witnessd/witnessd/pair"
)

// TestRestart is about rules R7, R8 and R10: what a new start of an agent may believe and do.
func TestRestart(t *testing.T) {
	play(t, []scenario{
		{"mark of a sole right does not open a database that is closed", func(t *testing.T, w *world) {
			w.alone(t)
			w.hosts["a"].killAgent()
			w.hosts["a"].db.kill() // by its operator, who then says so
			w.hosts["b"].boot()
			w.run(10 * time.Second)
			w.must(t, pair.WishForce{AcceptLoss: true, HostOff: "a", By: "op"})
			w.run(20 * time.Second)
			if w.record.Primary != "b" {
				t.Fatal("not failed over")
			}
			w.cut("a", "w")
			w.cut("a", "b")
			w.hosts["a"].boot() // the same boot of the machine, and its mark says "no end"
			w.run(20 * time.Second)
			w.heal("a", "w")
			w.heal("a", "b")
			w.armedAgain(t)
		}},
		{"run directory lost: nothing is believed, and it serves again", func(t *testing.T, w *world) {
			w.hosts["a"].killAgent()
			w.hosts["a"].mark = hold.Mark{}
			w.hosts["a"].boot()
			from := w.now
			w.run(10 * time.Second)
			w.servedBy(t, "a", from+time.Second, 4*time.Second)
			w.armedAgain(t)
		}},
		{"epoch file of the mirror lost: it promises nothing before it was told, and nothing shorter after",
			func(t *testing.T, w *world) {
				w.hosts["b"].killAgent()
				w.hosts["b"].loseFile()
				w.cut("a", "w")
				w.hosts["b"].boot()
				from := w.now
				w.run(10 * time.Second)
				if at := w.firstAck("b", from); at >= 0 && at-from < 3*time.Second {
					t.Errorf("b served after %v, its promise may have run for 3s", at-from)
				}
				w.heal("a", "w")
				w.armedAgain(t)
			}},
		{"epoch file of the primary lost: it waits, then serves", func(t *testing.T, w *world) {
			w.hosts["a"].killAgent()
			w.hosts["a"].loseFile()
			w.hosts["a"].boot()
			from := w.now
			w.run(10 * time.Second)
			w.servedBy(t, "a", from+3*time.Second, 4*time.Second)
			w.armedAgain(t)
		}},
		{"both agents restart while the witness is lost: served on the partner's lease", func(t *testing.T, w *world) {
			w.loseWitness()
			w.run(5 * time.Second)
			from := w.now
			for _, name := range []string{"b", "a"} {
				w.hosts[name].killAgent()
				w.run(200 * time.Millisecond)
				w.hosts[name].boot()
				w.run(5 * time.Second)
			}
			w.run(5 * time.Second)
			if gap := w.longestGap(from); gap > 300*time.Millisecond {
				t.Errorf("gap %v", gap)
			}
			w.elect(0)
			w.armedAgain(t)
		}},
		{"arm in flight when the agent dies: its next start does not believe sole", func(t *testing.T, w *world) {
			w.hosts["b"].crash()
			w.run(5 * time.Second)
			w.until(20*time.Second, func() bool { return w.hosts["a"].state.Report(w.hosts["a"].now()).Request == hold.RequestArm })
			// The arm is on its way; the answer to it never comes, and the host falls silent.
			w.oneWay("w", "a")
			w.run(20 * time.Millisecond)
			w.hosts["a"].killAgent()
			w.cuts["a>w"] = true
			w.run(time.Second)
			w.hosts["a"].boot()
			w.cut("a", "b")
			w.run(20 * time.Second)
			w.cuts = map[string]bool{}
			w.armedAgain(t)
		}},
		{"whole site restarts", func(t *testing.T, w *world) {
			for _, name := range []string{"a", "b"} {
				w.hosts[name].lose()
			}
			w.loseWitness()
			w.run(30 * time.Second)
			w.elect(time.Second)
			w.hosts["a"].boot()
			w.hosts["b"].boot()
			from := w.now
			w.run(30 * time.Second)
			if w.longestGap(from) > 15*time.Second {
				t.Errorf("gap %v", w.longestGap(from))
			}
			w.armedAgain(t)
		}},
	})
}

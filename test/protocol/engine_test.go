package protocol

import (
	"testing"
	"time"

	"github.com/witnessd/witnessd/agent/hold"
	"github.com/witnessd/witnessd/witnessd/pair"
)

// TestEngineTrouble is about databases that hang, fail, lag and lose their data.
func TestEngineTrouble(t *testing.T) {
	play(t, []scenario{
		{"database hangs: failed over", func(t *testing.T, w *world) {
			w.hosts["a"].db.hung = true
			from := w.now
			w.run(20 * time.Second)
			w.servedBy(t, "b", from, 12*time.Second)
			w.armedAgain(t)
		}},
		{"database hangs while an operation runs: failed over", func(t *testing.T, w *world) {
			a := w.hosts["a"]
			a.hang[hold.OpHold] = true
			a.killAgent()
			w.run(100 * time.Millisecond)
			a.boot() // a new start proves anew that commits are held
			if !w.until(10*time.Second, func() bool { return a.op.Op == hold.OpHold }) {
				t.Fatal("commits were never held")
			}
			a.db.hung = true
			from := w.now
			w.run(30 * time.Second)
			w.servedBy(t, "b", from, 15*time.Second)
			w.armedAgain(t)
		}},
		{"agent restarts while its database hangs: failed over", func(t *testing.T, w *world) {
			w.hosts["a"].db.hung = true
			w.hosts["a"].killAgent()
			w.run(time.Second)
			w.hosts["a"].boot()
			from := w.now
			w.run(30 * time.Second)
			w.servedBy(t, "b", from, 15*time.Second)
			w.armedAgain(t)
		}},
		{"promotion hangs: the old primary takes over again", func(t *testing.T, w *world) {
			w.hosts["b"].hang[hold.OpPromote] = true
			w.hosts["a"].crash()
			from := w.now
			w.run(100 * time.Second)
			w.servedBy(t, "a", from+time.Millisecond, 90*time.Second)
			w.hosts["b"].hang = map[hold.Op]bool{}
			w.armedAgain(t)
		}},
		{"promotion fails twice: released, the old primary takes over again", func(t *testing.T, w *world) {
			w.hosts["b"].fail[hold.OpPromote] = 1 << 30
			w.hosts["a"].crash()
			from := w.now
			w.run(30 * time.Second)
			w.servedBy(t, "a", from+time.Millisecond, 15*time.Second)
			delete(w.hosts["b"].fail, hold.OpPromote)
			w.armedAgain(t)
		}},
		{"commits are let go slowly while the mirror catches up: not armed before they are held again",
			func(t *testing.T, w *world) {
				// The mirror is attached but confirms nothing, so the primary exposes and begins to let commits go, which
				// takes a while; in that while the mirror confirms everything.
				w.hosts["b"].db.stalled = w.now + 2600*time.Millisecond
				w.hosts["a"].slow = 100 // 1 s for letting go
				if !w.until(10*time.Second, func() bool { return w.hosts["a"].op.Op == hold.OpReleaseCommits }) {
					t.Fatal("not exposed")
				}
				if w.until(900*time.Millisecond, func() bool { return w.record.Armed() }) {
					t.Error("armed while commits were being let go")
				}
				w.until(5*time.Second, func() bool { return w.hosts["a"].op.Op != hold.OpReleaseCommits })
				w.hosts["a"].slow = 1
				if w.record.Armed() && !w.hosts["a"].db.held {
					w.hosts["b"].db.stalled = w.now + time.Hour
					w.run(300 * time.Millisecond)
					w.hosts["a"].lose()
					w.run(10 * time.Second)
				}
			}},
		{"operation that just failed does not hold a failover up", func(t *testing.T, w *world) {
			w.must(t, pair.WishCommand{Body: pair.SetMode{Mode: pair.ModeManual}})
			w.run(time.Second)
			w.hosts["b"].crash()
			w.hosts["a"].fail[hold.OpHold] = 1
			w.must(t, pair.WishCommand{Body: pair.SetMode{Mode: pair.ModeAutomatic}})
			w.until(20*time.Second, func() bool { return w.hosts["a"].fail[hold.OpHold] == 0 })
			w.hosts["a"].fail[hold.OpStop] = 0
			w.armedAgain(t)
			w.hosts["a"].killAgent()
			w.hosts["a"].fail[hold.OpHold] = 1
			w.hosts["a"].boot()
			if !w.until(5*time.Second, func() bool { return w.hosts["a"].fail[hold.OpHold] == 0 }) {
				t.Fatal("OpHold was not tried")
			}
			from := w.now
			w.hosts["a"].crash()
			w.run(5 * time.Second)
			w.servedBy(t, "b", from, 500*time.Millisecond)
		}},
		{"mirror's data is wiped: cloned, and not promoted meanwhile", func(t *testing.T, w *world) {
			w.hosts["b"].db.wipe()
			w.hosts["b"].slow = 20 // the clone takes 6 s
			w.run(time.Second)
			w.hosts["a"].lose()
			w.run(10 * time.Second)
			if w.record.Primary != "a" {
				t.Errorf("%s without data was promoted", w.record.Primary)
			}
			w.hosts["b"].slow = 1
			w.hosts["a"].boot()
			w.armedAgain(t)
		}},
		{"mirror with data of another database follows when that is out of the way", func(t *testing.T, w *world) {
			w.hosts["b"].killAgent()
			w.hosts["b"].db.kill()
			w.hosts["b"].db.system = "y"
			w.hosts["b"].boot()
			w.run(20 * time.Second)
			if b := w.hosts["b"].db; !b.data || b.system != "y" {
				t.Fatal("data of another database was touched")
			}
			w.hosts["b"].db.wipe()
			w.armedAgain(t)
		}},
		{"database of an exposed primary dies: restarted in place however often it fails", func(t *testing.T, w *world) {
			w.alone(t)
			w.hosts["a"].fail[hold.OpPromote] = 4
			from := w.now
			w.hosts["a"].crash()
			w.run(20 * time.Second)
			w.servedBy(t, "a", from+time.Millisecond, 15*time.Second)
			if w.record.Epoch != 1 {
				t.Errorf("epoch %d", w.record.Epoch)
			}
		}},
		{"mirror lags: never armed before it has everything", func(t *testing.T, w *world) {
			for range 10 {
				w.hosts["b"].db.stalled = w.now + 3*time.Second
				w.run(1500 * time.Millisecond)
			}
			w.armedAgain(t)
		}},
	})
}

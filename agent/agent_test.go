package agent

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/witnessd/witnessd/agent/engine"
	"github.com/witnessd/witnessd/agent/hold"
	witnessv1 "github.com/witnessd/witnessd/proto/gen/witness/v1"
)

// right is how long a holder may serve on one grant: the lease less the guard.
const right = 2700 * time.Millisecond

// serving starts db1's agent and waits until its database is primary.
func serving(t *testing.T, w *world) *testHost {
	t.Helper()
	w.set(func() { w.pairs = []*witnessv1.PairAnswer{leased()} })
	h := w.host("db1")
	h.start()
	time.Sleep(4 * time.Second) // R7: without a file it may have promised anything a moment ago
	if h.db.role() != engine.RolePrimary || h.db.called("promote") != 1 {
		t.Fatalf("not promoted with a lease: %v", h.db.calls)
	}
	return h
}

func (w *world) silence(yes bool) {
	w.set(func() {
		for _, n := range w.nodes {
			n.silent = yes
		}
	})
}

func TestEndOfTheLeaseFences(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, w *world) {
		h := serving(t, w)
		time.Sleep(10 * time.Second)
		if n, _ := h.db.ends(); n != 0 {
			t.Fatalf("fenced %d times although leases came", n)
		}
		w.silence(true)
		time.Sleep(5 * time.Second)
		// R1: counted from when the request was sent, which here is when it was received.
		if n, _ := h.db.ends(); n == 0 || h.db.fenced[0].Sub(w.nodes[0].granted["db1"]) != right {
			t.Errorf("fenced %d times, at %v, last grant asked for at %v", n, h.db.fenced, w.nodes[0].granted["db1"])
		}
		if h.db.role() == engine.RolePrimary {
			t.Error("serves without a lease")
		}
		w.silence(false)
		time.Sleep(3 * time.Second)
		if h.db.role() != engine.RolePrimary {
			t.Errorf("not opened again with a lease: %v", h.db.calls)
		}
		h.stop()
	})
}

// An agent that is stopped leaves the database open, and its next start takes over from the mark.
func TestRestartWithinTheLease(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, w *world) {
		h := serving(t, w)
		h.stop()
		if n, _ := h.db.ends(); n != 0 || h.db.closed != 1 {
			t.Fatalf("fenced %d times, closed %d times by SIGTERM", n, h.db.closed)
		}
		h.start()
		time.Sleep(10 * time.Second)
		if n, _ := h.db.ends(); n != 0 || h.db.role() != engine.RolePrimary {
			t.Errorf("fenced %d times, role %v after a restart", n, h.db.role())
		}
		h.stop()
	})
}

func TestRestartWithoutWitnessEndsWithTheMark(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, w *world) {
		h := serving(t, w)
		h.stop()
		w.silence(true)
		h.start()
		time.Sleep(6 * time.Second)
		if n, _ := h.db.ends(); n == 0 || h.db.fenced[0].Sub(w.nodes[0].granted["db1"]) != right {
			t.Errorf("fenced %d times, at %v, last grant %v", n, h.db.fenced, w.nodes[0].granted["db1"])
		}
		h.stop()
	})
}

func TestRestartAfterTheLeaseFencesAtOnce(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, w *world) {
		h := serving(t, w)
		h.stop()
		w.silence(true)
		time.Sleep(4 * time.Second)
		h.start()
		time.Sleep(250 * time.Millisecond)
		if h.db.role() == engine.RolePrimary {
			t.Error("a database whose right ran out while the agent was away still serves")
		}
		h.stop()
	})
}

// Nobody can take over from a sole primary, so neither the witness's loss nor a restart of the agent ends it.
func TestSoleRightSurvivesARestart(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, w *world) {
		h := serving(t, w)
		w.set(func() {
			w.pairs[0].Revision++
			w.pairs[0].Right, w.pairs[0].Mode = witnessv1.Right_RIGHT_SOLE, witnessv1.Mode_MODE_MANUAL
		})
		time.Sleep(time.Second)
		w.silence(true)
		time.Sleep(10 * time.Second)
		h.stop()
		h.start()
		time.Sleep(20 * time.Second)
		if n, _ := h.db.ends(); n != 0 || h.db.role() != engine.RolePrimary {
			t.Errorf("fenced %d times, role %v", n, h.db.role())
		}
		w.silence(false)
		time.Sleep(10 * time.Second)
		if n, _ := h.db.ends(); n != 0 || h.db.role() != engine.RolePrimary {
			t.Errorf("fenced %d times, role %v when the witness was back", n, h.db.role())
		}
		h.stop()
	})
}

// A stopped agent ends the operation that runs, and the fence that belongs to the database does not act on it.
func TestStopDuringAnOperation(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, w *world) {
		w.set(func() { w.pairs = []*witnessv1.PairAnswer{leased()} })
		h := w.host("db2")
		h.db.onFollow = func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
		h.start()
		time.Sleep(2 * time.Second)
		before := time.Now()
		h.stop()
		if n, _ := h.db.ends(); n != 0 || h.db.closed != 1 || time.Since(before) > time.Second {
			t.Errorf("fenced %d times, closed %d times, after %v", n, h.db.closed, time.Since(before))
		}
	})
}

func TestPartnerLease(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, w *world) {
		w.set(func() { w.pairs = []*witnessv1.PairAnswer{leased()} })
		mirror := w.host("db2")
		mirror.start()
		h := serving(t, w)
		time.Sleep(4 * time.Second) // without a file the mirror promises nothing for one lease
		w.silence(true)
		time.Sleep(20 * time.Second)
		if n, _ := h.db.ends(); n != 0 {
			t.Fatalf("fenced %d times although the mirror vouches", n)
		}
		w.cut("db2:7412")
		before := time.Now()
		time.Sleep(4 * time.Second)
		if n, _ := h.db.ends(); n == 0 || h.db.fenced[0].Sub(before) > right {
			t.Errorf("fenced %d times after the mirror was lost too", n)
		}
		h.stop()
		mirror.stop()
	})
}

// News for the witness are sent at once; they must not put off the heartbeats to the partner.
func TestNudgesDoNotStarveThePartner(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, w *world) {
		w.set(func() {
			w.pairs = []*witnessv1.PairAnswer{leased()}
			w.nodes[0].noLease = true
		})
		mirror, h := w.host("db2"), w.host("db1")
		mirror.start()
		h.start()
		time.Sleep(8 * time.Second)
		if h.db.role() != engine.RolePrimary {
			t.Fatalf("not promoted on the mirror's lease: %v", h.db.calls)
		}
		for range 100 {
			w.set(func() {
				for _, s := range w.nodes[0].streams {
					_ = s.Send(&witnessv1.SessionResponse{Message: &witnessv1.SessionResponse_Nudge{Nudge: &witnessv1.Nudge{}}})
				}
			})
			time.Sleep(100 * time.Millisecond)
		}
		if n, _ := h.db.ends(); n != 0 {
			t.Errorf("fenced %d times while the witness asked for heartbeats", n)
		}
		h.stop()
		mirror.stop()
	})
}

func TestLateAnswerIsAskedForEverywhere(t *testing.T) {
	inBubble(t, 3, func(t *testing.T, w *world) {
		h := serving(t, w)
		time.Sleep(5 * time.Second)
		counts := func() (all []int) {
			w.set(func() {
				for _, n := range w.nodes {
					all = append(all, len(n.heard))
				}
			})
			return all
		}
		before := counts()
		time.Sleep(2 * time.Second)
		preferred, others := -1, 0
		for i, n := range counts() {
			if n > before[i]+1 {
				preferred = i
				others++
			}
		}
		if others != 1 {
			t.Fatalf("with prompt answers heartbeats go by %d nodes", others)
		}
		w.set(func() { w.nodes[preferred].silent = true })
		time.Sleep(10 * time.Second)
		if n, _ := h.db.ends(); n != 0 {
			t.Errorf("fenced %d times although two nodes answer", n)
		}
		h.stop()
	})
}

// R15: a restored witness counts terms from lower, and acts only on reports that quote its own (R5).
func TestQuotesTheTermOfTheNewestAnswer(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, w *world) {
		h := serving(t, w)
		w.set(func() { w.nodes[0].term = 2 })
		time.Sleep(2 * time.Second)
		w.set(func() {
			if hb := w.nodes[0].heard[len(w.nodes[0].heard)-1]; hb.GetTermHeard() != 2 {
				t.Errorf("quotes term %d, want 2", hb.GetTermHeard())
			}
		})
		h.stop()
	})
}

func TestUnsafeWhenTheFileCannotBeSaved(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, w *world) {
		h := serving(t, w)
		block(t, h.state, "main.epoch")
		w.set(func() { w.pairs[0].Revision++ })
		if err := <-h.ended; !errors.Is(err, ErrUnsafe) {
			t.Errorf("ended with %v, want ErrUnsafe", err)
		}
		if n, _ := h.db.ends(); n == 0 || h.db.role() == engine.RolePrimary {
			t.Errorf("fenced %d times, role %v", n, h.db.role())
		}
	})
}

// A copy may take hours, and the agent that runs it must end at once, so that the next one can start.
func TestUnsafeAgentDoesNotWaitForAnOperation(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, w *world) {
		w.set(func() { w.pairs = []*witnessv1.PairAnswer{leased()} })
		h := w.host("db2")
		h.db.onFollow = func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
		h.start()
		time.Sleep(2 * time.Second)
		block(t, h.state, "main.epoch")
		w.set(func() { w.pairs[0].Revision++ })
		select {
		case err := <-h.ended:
			if !errors.Is(err, ErrUnsafe) {
				t.Errorf("ended with %v, want ErrUnsafe", err)
			}
		case <-time.After(10 * time.Second):
			t.Error("still waits for the copy")
			h.stop()
		}
	})
}

// The run directory is shared with the whole host; that it is full is no reason to end service.
func TestFullRunDirectory(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, w *world) {
		w.set(func() { w.pairs = []*witnessv1.PairAnswer{leased()} })
		h := w.host("db1")
		block(t, h.run, "main.mark")
		h.start()
		time.Sleep(5 * time.Second)
		if h.db.role() != engine.RolePrimary {
			t.Errorf("role %v, calls %v", h.db.role(), h.db.calls)
		}
		if _, err := os.Stat(filepath.Join(h.run, "main.mark")); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("an old mark is left: %v", err)
		}
		h.stop()
	})
}

func TestUnknownInstance(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, w *world) {
		w.set(func() {
			w.pairs = []*witnessv1.PairAnswer{leased()}
			w.pairs[0].Instance = "other"
		})
		h := w.host("db1")
		h.start()
		time.Sleep(2 * time.Second)
		r := w.nodes[0].last(func(r *witnessv1.PairReport) bool { return r.GetPair() == "p-1" })
		if r == nil || !strings.Contains(r.GetComplaint(), "no instance named other") {
			t.Errorf("complaint %q", r.GetComplaint())
		}
		if n := len(h.db.calls); n != 0 {
			t.Errorf("the database was touched: %v", h.db.calls)
		}
		h.stop()
	})
}

// R16: an instance that has a pair does not take another.
func TestSecondPairOfAnInstance(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, w *world) {
		h := serving(t, w)
		second := leased()
		second.Pair = "p-2"
		second.Primary, second.Mirror = "db2", "db1"
		w.set(func() { w.pairs = append(w.pairs, second) })
		time.Sleep(2 * time.Second)
		r := w.nodes[0].last(func(r *witnessv1.PairReport) bool { return r.GetPair() == "p-2" })
		if !r.GetOtherRight() || !strings.Contains(r.GetComplaint(), "belongs to pair p-1") {
			t.Errorf("report of the second pair: %v", r)
		}
		if n, _ := h.db.ends(); n != 0 || h.db.role() != engine.RolePrimary {
			t.Errorf("fenced %d times, role %v", n, h.db.role())
		}
		h.stop()
	})
}

// A pair that is removed leaves the database as it is: the end of its last lease is nobody's business.
func TestRemovedPairIsNotFencedLater(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, w *world) {
		h := serving(t, w)
		w.set(func() { w.pairs, w.nodes[0].removed = nil, []string{"p-1"} })
		time.Sleep(10 * time.Second)
		if n, _ := h.db.ends(); n != 0 || h.db.role() != engine.RolePrimary {
			t.Errorf("fenced %d times, role %v", n, h.db.role())
		}
		h.stop()
	})
}

// The look that finds the process gone may come a moment before the kernel's word of it.
func TestLookDoesNotOvertakeTheExit(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, w *world) {
		h := serving(t, w)
		h.db.mu.Lock()
		h.db.st.Running, h.db.st.Role = false, engine.RoleNone
		h.db.onLook = func() {
			h.db.onLook = nil
			time.AfterFunc(2*time.Millisecond, func() { h.db.exits <- engine.Exit{Run: "run1", Reason: "killed"} })
		}
		h.db.mu.Unlock()
		time.Sleep(2 * time.Second)
		r := w.nodes[0].last(func(r *witnessv1.PairReport) bool { return r.GetPair() == "p-1" })
		if r.GetReleased() != 1 || h.db.called("promote") != 1 {
			t.Errorf("released %d, calls %v; want a release and no restart in place", r.GetReleased(), h.db.calls)
		}
		h.stop()
	})
}

// An engine that clings to a call must not hold up the loop, which has other pairs.
func TestBeginNeverWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newWorld(t, 0).host("db1")
		i := &instance{name: "main", engine: h.db, ops: make(chan operation, 1), log: slog.New(slog.DiscardHandler)}
		for id := range uint64(50) {
			i.begin(t.Context(), hold.Do{Op: hold.OpFollow, ID: id}, "p-1")
		}
		if op := <-i.ops; op.id != 49 || op.ctx.Err() != nil {
			t.Errorf("operation %d (%v) is next, want the newest", op.id, op.ctx.Err())
		}
		i.cancelOp()
	})
}

// An agent whose sessions cannot work must not look alive.
func TestAgentEndsWithItsListener(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, w *world) {
		h := serving(t, w)
		w.set(func() { _ = w.listeners["db1:7412"].Close() })
		select {
		case err := <-h.ended:
			if err == nil || errors.Is(err, ErrUnsafe) {
				t.Errorf("ended with %v", err)
			}
		case <-time.After(time.Second):
			t.Error("goes on without its listener")
			h.stop()
		}
		if n, _ := h.db.ends(); n != 0 {
			t.Errorf("fenced %d times", n)
		}
	})
}

func TestSecondAgentIsRefused(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, w *world) {
		h := serving(t, w)
		second := *h
		second.start()
		if err := <-second.ended; err == nil || !strings.Contains(err.Error(), "used by another agent") {
			t.Errorf("second agent: %v", err)
		}
		h.stop()
	})
}

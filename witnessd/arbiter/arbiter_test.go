package arbiter_test

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/witnessd/witnessd/witnessd/arbiter"
	"github.com/witnessd/witnessd/witnessd/pair"
)

// formed is a court with the pair sales, formed and armed: a is primary and asks for leases, b its mirror.
func formed(t *testing.T) (c *court, o *arbiter.Office, a, b *agent) {
	t.Helper()
	c = newCourt(t)
	o = c.lead()
	c.create(o)
	a, b = c.agent(o, "a", "id-a", "1"), c.agent(o, "b", "id-b", "1")
	settle(func() { a.beat(nil); b.beat(nil) }) // the first epoch
	settle(func() { a.beat(nil); b.beat(nil) }) // announcements
	settle(func() { a.beat(nil); b.beat(nil) })
	settle(func() { a.beat(func(r *pair.Report) { r.AskLease = true }); b.beat(nil) })
	settle(func() {
		a.beat(func(r *pair.Report) { r.Request, r.RequestRevision = pair.RequestArm, r.Revision })
	})
	settle(func() { a.beat(func(r *pair.Report) { r.Request, r.Serving = pair.RequestNone, true }); b.beat(nil) })
	if r := c.look(o, "sales").Record; r.Epoch != 1 || r.Right != pair.RightLeased {
		t.Fatalf("pair is not armed: %+v", r)
	}
	return c, o, a, b
}

// settle lets something happen, and its consequences.
func settle(do func()) {
	do()
	time.Sleep(100 * time.Millisecond)
	synctest.Wait()
}

func TestAnswersWaitForConfirmation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _, a, _ := formed(t)
		c.log.set(func() { c.log.held = true })
		before := len(a.answers)
		settle(func() { a.beat(nil) })
		time.Sleep(time.Second)
		synctest.Wait()
		if got := len(a.answers); got != before {
			t.Fatalf("%d answers without confirmation", got-before)
		}
		settle(func() { c.log.set(func() { c.log.held = false }) })
		if lease, why := a.lease(); len(a.answers) != before+1 || lease != 3*time.Second {
			t.Errorf("%d answers after confirmation, lease %v %s; want 1 answer with 3s", len(a.answers)-before, lease, why)
		}
	})
}

// TestRecheckOnConfirmation is rule R3: a request that was received before a change of epoch was decided, and
// is confirmed after it, gets no lease.
func TestRecheckOnConfirmation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _, a, b := formed(t)
		c.log.set(func() { c.log.held, c.log.delay = true, 10*time.Second })
		settle(func() { a.beat(nil) })
		settle(func() { a.beat(func(r *pair.Report) { r.Released, r.ReleasedEverything = 1, true }) })
		settle(func() { b.beat(nil) }) // the promotion is decided and takes 10 s
		settle(func() { c.log.set(func() { c.log.held = false }) })
		for _, answer := range a.answers[len(a.answers)-2:] {
			if p := answer.Pairs[0]; p.Lease != 0 || p.Refused != pair.ReasonChangeUndecided {
				t.Errorf("answer %d: lease %v, refused %q; want none, %s", answer.Sequence, p.Lease, p.Refused,
					pair.ReasonChangeUndecided)
			}
		}
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if !c.happened(pair.FactPromoted) {
			t.Error("not promoted")
		}
	})
}

// TestOutcomeUnknown keeps the mark of rule R3 while nobody knows whether the change will come to be.
func TestOutcomeUnknown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _, a, b := formed(t)
		c.log.set(func() { c.log.fail = errLost })
		settle(func() { a.beat(func(r *pair.Report) { r.Released, r.ReleasedEverything, r.AskLease = 1, true, false }) })
		settle(func() { b.beat(nil) })
		// The next start of the agent knows nothing of its release: the mark alone must keep the lease back.
		settle(func() { a.beat(func(r *pair.Report) { r.AskLease, r.Released = true, 0 }) })
		if lease, why := a.lease(); lease != 0 || why != pair.ReasonChangeUndecided {
			t.Errorf("lease %v, refused %q; want none, %s", lease, why, pair.ReasonChangeUndecided)
		}
		time.Sleep(6 * time.Second)
		if err := <-c.ended; !errors.Is(err, arbiter.ErrOutcomeUnknown) {
			t.Errorf("office ended with %v, want %v", err, arbiter.ErrOutcomeUnknown)
		}
		c.cancel()
		c.cancel = nil
	})
}

func TestNotProposedIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, o, a, b := formed(t)
		c.log.set(func() { c.log.fail = fmt.Errorf("%w: handing over", arbiter.ErrNotProposed) })
		_, err := o.Ask(t.Context(), arbiter.Ask{Pair: "sales", Wish: pair.WishSwitchover{By: "me"}})
		if !errors.Is(err, arbiter.ErrBusy) {
			t.Errorf("ask: %v, want %v", err, arbiter.ErrBusy)
		}
		settle(func() { a.beat(func(r *pair.Report) { r.Released, r.ReleasedEverything = 1, true }) })
		settle(func() { b.beat(nil) })
		time.Sleep(2 * time.Second)
		settle(func() { b.beat(nil) })
		if c.happened(pair.FactPromoted) {
			t.Fatal("promoted without a log")
		}
		settle(func() { c.log.set(func() { c.log.fail = nil }) })
		time.Sleep(time.Second)
		synctest.Wait()
		if !c.happened(pair.FactPromoted) {
			t.Errorf("not promoted after the log came back: %v", c.facts())
		}
	})
}

// TestGraceAfterTakeover is rule R4: a new leader counts as if its predecessor had granted a lease just now.
func TestGraceAfterTakeover(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _, _, b := formed(t)
		c.end()
		o := c.lead()
		start := time.Now()
		b.sit(c, o)
		for time.Since(start) < 2950*time.Millisecond {
			b.beat(nil)
			time.Sleep(50 * time.Millisecond)
		}
		b.beat(nil)
		time.Sleep(2999*time.Millisecond - time.Since(start))
		synctest.Wait()
		if c.happened(pair.FactPromoted) {
			t.Fatalf("promoted within %v of the takeover", time.Since(start))
		}
		time.Sleep(100 * time.Millisecond)
		synctest.Wait()
		if !c.happened(pair.FactPromoted) {
			t.Errorf("not promoted %v after the takeover", time.Since(start))
		}
	})
}

// TestTermEndForgets: what an earlier term heard is no fact, not even a release.
func TestTermEndForgets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _, a, b := formed(t)
		c.log.set(func() { c.log.fail = fmt.Errorf("%w: full", arbiter.ErrNotProposed) })
		settle(func() { a.beat(func(r *pair.Report) { r.Released, r.ReleasedEverything = 1, true }) })
		c.end()
		c.log.set(func() { c.log.fail = nil })
		o := c.lead()
		live := c.look(o, "sales")
		if _, _, heard := live.Watch.SeenOf(live.Record, "a", live.Now); heard || live.Watch.Released != 0 {
			t.Errorf("the new term remembers: heard %v, released %d", heard, live.Watch.Released)
		}
		if a.seat.Heartbeat(arbiter.Heartbeat{}) {
			t.Error("a seat of the former term took a heartbeat")
		}
		b.sit(c, o)
		settle(func() { b.beat(nil) })
		settle(func() { b.beat(nil) })
		if c.happened(pair.FactPromoted) {
			t.Error("promoted on a release that this term has not heard")
		}
	})
}

func TestReleasePromotesAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _, a, b := formed(t)
		nudges := b.nudges
		a.beat(func(r *pair.Report) { r.Released, r.ReleasedEverything, r.AskLease = 1, true, false })
		time.Sleep(5 * time.Millisecond)
		synctest.Wait()
		if b.nudges == nudges && !c.happened(pair.FactPromoted) {
			t.Error("mirror was not nudged")
		}
		b.beat(nil)
		time.Sleep(5 * time.Millisecond)
		synctest.Wait()
		if !c.happened(pair.FactPromoted) {
			t.Errorf("not promoted within 10 ms of the release: %v", c.facts())
		}
	})
}

func TestLostPrimary(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, o, a, b := formed(t)
		a.beat(nil)
		granted := time.Now()
		for time.Since(granted) < 2990*time.Millisecond {
			time.Sleep(10 * time.Millisecond)
			b.beat(nil)
		}
		synctest.Wait()
		if c.happened(pair.FactPromoted) {
			t.Fatalf("promoted %v after the last lease was asked for", time.Since(granted))
		}
		time.Sleep(50 * time.Millisecond)
		synctest.Wait()
		if !c.happened(pair.FactPromoted) {
			live := c.look(o, "sales")
			t.Errorf("not promoted %v after the last lease was asked for: %v", time.Since(granted),
				pair.Explain(live.Record, live.Watch, live.Now)[0])
		}
	})
}

func TestFullQueueDropsHeartbeats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, o, a, _ := formed(t)
		// An outlet that blocks would hold up the office; here that is what keeps the queue from draining.
		stuck := make(chan struct{})
		go func() {
			_, _ = o.Look(t.Context(), "") // wakes the office with something to do afterwards
		}()
		c.log.set(func() { c.log.held = true })
		blocker := &blockingOutlet{Outlet: a, until: stuck}
		seat, err := o.Join(t.Context(), arbiter.Agent{Host: "c", ID: "id-c", Start: "1"}, blocker)
		if err != nil {
			t.Fatal(err)
		}
		seat.Heartbeat(arbiter.Heartbeat{Sequence: 1})
		settle(func() { c.log.set(func() { c.log.held = false }) })
		taken, dropped := 0, 0
		for range 20_000 {
			if a.beat(nil) {
				taken++
			} else {
				dropped++
			}
		}
		if taken == 0 || dropped == 0 {
			t.Errorf("%d taken, %d dropped; want both", taken, dropped)
		}
		close(stuck)
		settle(func() {})
		settle(func() { a.beat(nil) })
		if lease, why := a.lease(); lease == 0 {
			t.Errorf("no lease after the queue has drained: %s", why)
		}
	})
}

type blockingOutlet struct {
	arbiter.Outlet
	until chan struct{}
}

func (b *blockingOutlet) Answer(arbiter.Answer) { <-b.until }

func TestHostClaimed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, o, a, _ := formed(t)
		_, err := o.Join(t.Context(), arbiter.Agent{Host: "a", ID: "other", Start: "1"}, a)
		var refusal *pair.Refusal
		if !errors.As(err, &refusal) || refusal.Reason != arbiter.ReasonHostClaimed {
			t.Fatalf("join: %v, want %s", err, arbiter.ReasonHostClaimed)
		}
		time.Sleep(10 * time.Second)
		other := c.agent(o, "a", "other", "1")
		settle(func() { other.beat(nil) })
		if a.ended == nil {
			t.Error("the silent agent's session was not ended")
		}
		if _, answered := other.last(); !answered {
			t.Error("the new agent was not answered")
		}
	})
}

func TestNewStartReplacesOlder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, o, a, _ := formed(t)
		newer := c.agent(o, "a", "id-a", "2")
		settle(func() { a.beat(nil) })
		if a.ended != nil {
			t.Error("a seat that has said nothing replaced one that speaks")
		}
		settle(func() { newer.beat(nil) })
		if a.ended == nil || a.ended.Reason != arbiter.ReasonSessionReplaced {
			t.Errorf("older start: %v, want %s", a.ended, arbiter.ReasonSessionReplaced)
		}
		before := len(a.answers)
		settle(func() { a.beat(func(r *pair.Report) { r.Engine.Role = "late" }) })
		if len(a.answers) != before {
			t.Error("a report of the older start was answered")
		}
		live := c.look(o, "sales")
		if report, _, _ := live.Watch.SeenOf(live.Record, "a", live.Now); report.Start != "2" || live.Agents[0].Start != "2" {
			t.Errorf("report of start %q, agent of start %q; want 2", report.Start, live.Agents[0].Start)
		}
	})
}

func TestHostWithoutPair(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, o, _, _ := formed(t)
		x := c.agent(o, "x", "id-x", "1")
		settle(func() { x.beat(nil) })
		if answer, ok := x.last(); !ok || len(answer.Pairs) != 0 || answer.Sequence != 1 || answer.Term != 1 {
			t.Errorf("got %+v, want an empty answer to heartbeat 1", answer)
		}
	})
}

func TestRemovedPairIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, o, a, b := formed(t)
		id := a.id
		reply, err := o.Ask(t.Context(), arbiter.Ask{Pair: "sales", Wish: pair.WishRemove{By: "me"}})
		if err != nil || reply.Procedure == "" {
			t.Fatalf("remove: %+v, %v", reply, err)
		}
		settle(func() { a.beat(nil) }) // it hears of the removal
		settle(func() { a.beat(func(r *pair.Report) { r.Unmanaged = true }) })
		settle(func() { a.beat(nil); b.beat(nil) })
		for _, agent := range []*agent{a, b} {
			if answer, _ := agent.last(); len(answer.Pairs) != 0 || len(answer.Removed) != 1 || answer.Removed[0] != id {
				t.Errorf("%s was told %+v, want pair %s removed", agent.who.Host, answer, id)
			}
		}
		if r := c.look(o, string(id)).Record; r.Stage != pair.StageRemoved {
			t.Errorf("stage %v, want removed", r.Stage)
		}
		_, err = o.Ask(t.Context(), arbiter.Ask{Pair: string(id), Wish: pair.WishRemove{By: "me"}})
		wantRefusal(t, err, pair.ReasonRemoved)
		// The name and the instances are free again, and the new pair does not believe reports on the old one.
		if r := c.create(o); r.ID == id {
			t.Error("id was used twice")
		}
		settle(func() { a.beat(nil); b.beat(nil) })
		if r := c.look(o, "sales").Record; r.Stage != pair.StageForming {
			t.Errorf("formed with agents that remember another pair: %v", r.Stage)
		}
		forget := func(r *pair.Report) { *r = pair.Report{Member: r.Member, Engine: r.Engine} }
		a.id, b.id = "", ""
		settle(func() { a.beat(forget); b.beat(forget) }) // they hear of the new pair
		known := func(r *pair.Report) { r.FileKnown = true }
		settle(func() { a.beat(known); b.beat(known) })
		if r := c.look(o, "sales").Record; r.Stage != pair.StageReady {
			t.Errorf("not formed with free agents: %v", r.Stage)
		}
	})
}

func wantRefusal(t *testing.T, err error, reason pair.Reason) {
	t.Helper()
	var refusal *pair.Refusal
	if !errors.As(err, &refusal) || refusal.Reason != reason {
		t.Errorf("got %v, want refusal %s", err, reason)
	}
}

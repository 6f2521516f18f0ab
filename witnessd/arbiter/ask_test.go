package arbiter_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/witnessd/witnessd/witnessd/arbiter"
	"github.com/witnessd/witnessd/witnessd/pair"
)

func TestCreate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, o, _, _ := formed(t)
		ctx := t.Context()
		if r, err := o.Create(ctx, spec("sales", "b", "a")); err != nil || r.Created {
			t.Errorf("create again with the hosts swapped: created %v, %v", r.Created, err)
		}
		_, err := o.Create(ctx, spec("sales", "a", "c"))
		wantRefusal(t, err, pair.ReasonNameTaken)
		other := spec("sales", "a", "b")
		other.Policy, _ = pair.ProfilePolicy("fast")
		_, err = o.Create(ctx, other)
		wantRefusal(t, err, pair.ReasonNameTaken)
		_, err = o.Create(ctx, spec("crm", "b", "c"))
		wantRefusal(t, err, pair.ReasonHostConflict)
		_, err = o.Create(ctx, spec("-crm", "c", "d"))
		wantRefusal(t, err, pair.ReasonBadSpec)

		// Two at once for one name or one instance: one is made.
		c.log.set(func() { c.log.delay = time.Second })
		results := make(chan error, 3)
		for _, s := range []pair.Create{spec("crm", "c", "d"), spec("crm", "c", "d"), spec("erp", "d", "e")} {
			go func() {
				_, err := o.Create(ctx, s)
				results <- err
			}()
			synctest.Wait()
		}
		var reasons []pair.Reason
		for range 3 {
			var refusal *pair.Refusal
			if err := <-results; errors.As(err, &refusal) {
				reasons = append(reasons, refusal.Reason)
			} else if err != nil {
				t.Errorf("create: %v", err)
			}
		}
		slices.Sort(reasons)
		if want := []pair.Reason{pair.ReasonChangeUndecided, pair.ReasonHostConflict}; !slices.Equal(reasons, want) {
			t.Errorf("refused: %v, want %v", reasons, want)
		}
	})
}

func TestAsk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, o, a, b := formed(t)
		ctx := t.Context()
		r := c.look(o, "sales").Record
		ask := func(revision pair.Revision, epoch pair.Epoch, wish pair.Wish) error {
			_, err := o.Ask(ctx, arbiter.Ask{Pair: "sales", Revision: revision, Epoch: epoch, Wish: wish})
			return err
		}
		pause := pair.WishCommand{Body: pair.SetMode{Mode: pair.ModeManual, Pause: pair.Pause{By: "me"}}}
		wantRefusal(t, ask(r.Revision+1, 0, pause), pair.ReasonStaleRevision)
		wantRefusal(t, ask(0, r.Epoch+1, pause), pair.ReasonStaleEpoch)
		if _, err := o.Ask(ctx, arbiter.Ask{Pair: "nosuch", Wish: pause}); !errors.Is(err, arbiter.ErrUnknownPair) {
			t.Errorf("unknown pair: %v", err)
		}
		reply, err := o.Ask(ctx, arbiter.Ask{Pair: string(r.ID), Revision: r.Revision, Epoch: r.Epoch, Wish: pause})
		if got := reply.Live.Record; err != nil || got.Mode != pair.ModeManual || got.Right != pair.RightSole {
			t.Errorf("pause: %v, %v %v", err, got.Mode, got.Right)
		}
		reply, err = o.Ask(ctx, arbiter.Ask{Pair: "sales", Wish: pair.WishSwitchover{By: "me"}})
		if err != nil || reply.Procedure == "" || reply.Live.Record.Procedure.Started == 0 {
			t.Fatalf("switchover: %+v, %v", reply, err)
		}
		wantRefusal(t, ask(0, 0, pair.WishSwitchover{}), pair.ReasonProcedureUnderWay)
		settle(func() { a.beat(func(r *pair.Report) { r.Released, r.ReleasedEverything, r.AskLease = 1, true, false }) })
		settle(func() { b.beat(nil) })
		settle(func() { b.beat(nil) })
		settle(func() { b.beat(func(r *pair.Report) { r.AskLease = true }) })
		if lease, why := b.lease(); lease == 0 {
			t.Errorf("new primary got no lease: %s", why)
		}
		settle(func() { b.beat(func(r *pair.Report) { r.Serving = true }) })
		got := c.look(o, "sales").Record
		if got.Primary != "b" || got.Last == nil || !got.Last.Done || got.Last.Procedure.ID != reply.Procedure {
			t.Errorf("after the switchover: primary %s, last %+v", got.Primary, got.Last)
		}
	})
}

func TestAskWhenTheTermEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, o, _, _ := formed(t)
		c.log.set(func() { c.log.held = true })
		errs := make(chan error, 2)
		go func() {
			_, err := o.Ask(t.Context(), arbiter.Ask{Pair: "sales", Wish: pair.WishRemove{}})
			errs <- err
		}()
		synctest.Wait()
		c.end()
		if err := <-errs; !errors.Is(err, arbiter.ErrNotLeading) {
			t.Errorf("question that was never heard: %v, want %v", err, arbiter.ErrNotLeading)
		}
		c.log.set(func() { c.log.held, c.log.delay = false, time.Hour })
		o = c.lead()
		go func() {
			_, err := o.Create(t.Context(), spec("crm", "c", "d"))
			errs <- err
		}()
		settle(func() {})
		c.end()
		if err := <-errs; !errors.Is(err, arbiter.ErrOutcomeUnknown) {
			t.Errorf("proposal on its way: %v, want %v", err, arbiter.ErrOutcomeUnknown)
		}
		if _, err := o.Look(t.Context(), ""); !errors.Is(err, arbiter.ErrNotLeading) {
			t.Errorf("look in an office that has ended: %v", err)
		}
	})
}

func TestFencing(t *testing.T) {
	for _, tt := range []struct {
		name   string
		result error
		want   pair.FactKind
	}{
		{"succeeds", nil, pair.FactPromoted},
		{"fails", errors.New("power strip does not answer"), pair.FactProcedureFailed},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, o, a, b := formed(t)
				var fenced []pair.HostID
				c.fence = func(_ context.Context, h pair.HostID, p pair.Procedure) error {
					fenced = append(fenced, h)
					return tt.result
				}
				settle(func() {
					a.beat(func(r *pair.Report) { r.Request, r.RequestRevision = pair.RequestExpose, r.Revision })
				})
				time.Sleep(4 * time.Second) // a falls silent, alone in its right
				settle(func() { b.beat(nil) })
				_, err := o.Ask(t.Context(), arbiter.Ask{
					Pair: "sales", Epoch: 1, Wish: pair.WishForce{AcceptLoss: true, By: "me"},
				})
				if err != nil {
					t.Fatal(err)
				}
				for range 100 {
					b.beat(nil)
					time.Sleep(100 * time.Millisecond)
				}
				if !c.happened(tt.want) || len(fenced) != 1 || fenced[0] != "a" {
					t.Errorf("fenced %v, happened %v; want %s", fenced, c.facts(), tt.want)
				}
			})
		})
	}
}

// TestInstanceOfOnePair: two changes that are decided at once do not give one instance to two pairs, and a
// change that was refused keeps none.
func TestInstanceOfOnePair(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, o, _, _ := formed(t)
		ctx := t.Context()
		replace := pair.WishCommand{Body: pair.ReplaceMirror{Member: pair.Member{Host: "c", Instance: "db"}}}
		_, err := o.Ask(ctx, arbiter.Ask{Pair: "sales", Wish: replace})
		wantRefusal(t, err, pair.ReasonRightSole)
		_, err = o.Ask(ctx, arbiter.Ask{Pair: "sales", Revision: 99, Wish: replace})
		wantRefusal(t, err, pair.ReasonStaleRevision)
		_, err = o.Ask(ctx, arbiter.Ask{Pair: "sales", Wish: pair.WishCommand{Body: pair.SetMode{Mode: pair.ModeManual}}})
		if err != nil {
			t.Fatal(err)
		}
		c.log.set(func() { c.log.delay = time.Second })
		done := make(chan error)
		go func() {
			_, err := o.Ask(ctx, arbiter.Ask{Pair: "sales", Wish: replace})
			done <- err
		}()
		time.Sleep(100 * time.Millisecond)
		_, err = o.Create(ctx, spec("crm", "c", "d"))
		wantRefusal(t, err, pair.ReasonHostConflict)
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if _, err := o.Create(ctx, spec("crm", "b", "d")); err != nil {
			t.Errorf("the former mirror's instance is not free: %v", err)
		}
	})
}

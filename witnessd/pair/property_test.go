package pair_test

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/witnessd/witnessd/witnessd/pair"
)

// court is a leader that is driven at random, and what an observer with a notebook knows of its past.
type court struct {
	t *rapid.T
	r pair.Record
	w pair.Watch

	term    pair.Term
	now     pair.Instant
	seq     uint64
	pending *pair.Propose

	leaseEnd pair.Instant // of the latest lease that any leader granted to the present primary
	released bool         // the present primary has said so
	all      bool         // ... with everything on the mirror
}

func newCourt(t *rapid.T) *court {
	c := &court{t: t, term: 1, now: pair.Instant(time.Hour)}
	c.r = applied(forming(), pair.Begin{})
	c.w = pair.NewWatch(c.r, c.term, c.now)
	return c
}

// step checks what every single step must keep.
func (c *court) step(ev pair.Event) {
	undecided := c.w.Pending.Active && c.w.Pending.MovesEpoch
	var acts []pair.Action
	c.w, acts = pair.Step(c.r, c.w, ev, c.now)
	proposals := 0
	for _, act := range acts {
		switch a := act.(type) {
		case pair.Propose:
			proposals++
			if c.pending != nil {
				c.t.Fatalf("%T proposed while %T is pending", a.Command.Body, c.pending.Command.Body)
			}
			c.pending = &a
			c.decided(a)
		case pair.Answer:
			if a.Lease > 0 && (undecided || a.Host != c.r.Primary || c.r.Stage != pair.StageReady) {
				c.t.Fatalf("lease granted: %+v", a)
			}
			if a.Lease > c.r.LongestLease {
				c.t.Fatalf("lease of %v, the longest is %v", a.Lease, c.r.LongestLease)
			}
			if a.Lease > 0 {
				c.leaseEnd = max(c.leaseEnd, ev.(pair.Confirmed).Receipt.Add(a.Lease))
			}
		case pair.Reply, pair.Nudge, pair.RunFence:
		default:
			c.t.Fatalf("unknown action %T", act)
		}
	}
	if proposals > 1 {
		c.t.Fatalf("%T led to %d proposals", ev, proposals)
	}
	if proposals > 0 && !c.w.Pending.Active {
		c.t.Fatal("a proposal is not marked in the same step (R3)")
	}
}

// decided checks a proposal against the notebook.
func (c *court) decided(p pair.Propose) {
	if p.Command.Revision != c.r.Revision || p.Command.Term != c.term {
		c.t.Fatalf("proposed for revision %v in term %d", p.Command.Revision, p.Command.Term)
	}
	if _, _, err := c.r.Apply(p.Command, c.term); err != nil && p.Token == 0 {
		c.t.Fatalf("proposed what must be refused: %T: %v", p.Command.Body, err)
	}
	b, ok := p.Command.Body.(pair.Promote)
	if !ok {
		return
	}
	m, _, heard := c.w.SeenOf(c.r, c.r.Mirror, c.now)
	switch {
	case !c.released && c.now < c.leaseEnd:
		c.t.Fatalf("promoted %v before a lease ends", c.leaseEnd.Sub(c.now))
	case !heard || m.Promise > 0 || m.TermHeard != c.term || m.Epoch != c.r.Epoch || !m.Engine.Promotable:
		c.t.Fatalf("promoted a mirror that says %+v", m)
	case c.r.Right == pair.RightSole && !b.Forced && !(c.released && c.all):
		c.t.Fatal("promoted over a sole primary that has not handed everything over")
	case c.r.Mode != pair.ModeAutomatic && c.r.Procedure == nil:
		c.t.Fatalf("promoted in mode %v", c.r.Mode)
	}
}

// settle ends what is pending, in one of the ways in which a proposal ends.
func (c *court) settle(apply bool) {
	p := c.pending
	c.pending = nil
	if p == nil {
		return
	}
	before := c.r
	after, _, err := c.r.Apply(p.Command, c.term)
	if err != nil || !apply {
		c.step(pair.Dropped{})
		return
	}
	if after.Epoch < before.Epoch || after.Revision < before.Revision || after.LongestLease < after.Policy.Lease {
		c.t.Fatalf("%T took %+v to %+v", p.Command.Body, before, after)
	}
	if after.Epoch != before.Epoch {
		// R4: the commit counts as a grant.
		c.leaseEnd, c.released, c.all = c.now.Add(after.LongestLease), false, false
	}
	c.r = after
	c.step(pair.Applied{Before: before, Body: p.Command.Body})
}

func (c *court) report(t *rapid.T) pair.Report {
	c.seq++
	h := rapid.SampledFrom([]pair.HostID{c.r.Primary, c.r.Mirror}).Draw(t, "host")
	back := rapid.SampledFrom([]pair.Epoch{0, 0, 0, 0, 1}).Draw(t, "epochs behind")
	r := pair.Report{
		Host: h, Start: "1", Sequence: c.seq, FileKnown: true, Epoch: c.r.Epoch - min(back, c.r.Epoch),
		TermHeard: c.term - rapid.SampledFrom([]pair.Term{0, 0, 0, 1}).Draw(t, "terms behind"),
		Revision:  c.r.Revision, LongestLease: c.r.LongestLease, AskLease: true,
		Request:         pair.Request(rapid.IntRange(0, 2).Draw(t, "request")),
		RequestRevision: c.r.Revision - pair.Revision(rapid.IntRange(0, 1).Draw(t, "revisions behind")),
		Promise:         time.Duration(rapid.IntRange(0, 1).Draw(t, "promise")) * time.Second,
		HearsPartner:    rapid.Bool().Draw(t, "hears"), Serving: rapid.Bool().Draw(t, "serving"),
		Unmanaged: rapid.IntRange(0, 9).Draw(t, "unmanaged") == 0,
		Engine:    pair.Engine{Promotable: rapid.Bool().Draw(t, "promotable"), Following: true, SystemID: "7"},
		Member:    pair.Member{Host: h, Instance: "db", LinkAddress: "x", SystemID: "7"},
	}
	if h == c.r.Primary && rapid.IntRange(0, 4).Draw(t, "released") == 0 {
		r.Released, r.ReleasedEverything = r.Epoch, rapid.Bool().Draw(t, "everything")
	}
	if h == c.r.Mirror && c.released && rapid.Bool().Draw(t, "knows of the release") {
		r.PartnerReleased, r.PartnerReleasedEverything = c.r.Epoch, c.all
	}
	return r
}

// TestLeaderKeepsTheRules drives a leader at random through reports, confirmations, wishes, elections and time.
func TestLeaderKeepsTheRules(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := newCourt(t)
		t.Repeat(map[string]func(*rapid.T){
			"heard": func(t *rapid.T) {
				c.t = t
				r := c.report(t)
				if r.Released > 0 && r.Released == c.r.Epoch && r.Host == c.r.Primary {
					c.released, c.all = true, c.all || r.ReleasedEverything
				}
				c.step(pair.Heard{Report: r, Receipt: c.now})
			},
			"confirmed": func(t *rapid.T) {
				c.t = t
				h := rapid.SampledFrom([]pair.HostID{"a", "b"}).Draw(t, "host")
				ago := rapid.IntRange(0, 500).Draw(t, "ms ago")
				c.step(pair.Confirmed{Host: h, Receipt: c.now.Add(-time.Duration(ago) * ms), AskLease: true})
			},
			"time": func(t *rapid.T) {
				c.t = t
				c.now = c.now.Add(time.Duration(rapid.IntRange(1, 4000).Draw(t, "ms")) * ms)
				c.step(pair.Tick{})
			},
			"applied": func(t *rapid.T) { c.t = t; c.settle(true) },
			"dropped": func(t *rapid.T) { c.t = t; c.settle(false) },
			"elected": func(t *rapid.T) {
				c.t = t
				if c.pending != nil && rapid.Bool().Draw(t, "the proposal was committed") {
					c.settle(true)
				}
				c.term, c.pending = c.term+1, nil
				c.w = pair.NewWatch(c.r, c.term, c.now)
			},
			"asked": func(t *rapid.T) {
				c.t = t
				accept := rapid.Bool().Draw(t, "accept loss")
				wish := rapid.SampledFrom([]pair.Wish{
					pair.WishSwitchover{}, pair.WishForce{AcceptLoss: accept}, pair.WishForce{AcceptLoss: accept, HostOff: c.r.Primary},
					pair.WishForce{AcceptLoss: accept, CanFence: true}, pair.WishCommand{Body: pair.SetMode{Mode: pair.ModeAutomatic}},
					pair.WishCommand{Body: pair.SetMode{Mode: pair.ModeManual}}, pair.WishCommand{Body: pair.SetMode{Mode: pair.ModeObserve}},
					pair.WishCommand{Body: pair.SetPolicy{Policy: profile("fast")}},
					pair.WishCommand{Body: pair.SetPolicy{Policy: profile("patient")}},
					pair.WishRemove{},
				}).Draw(t, "wish")
				c.step(pair.Ask{Token: 1, Wish: wish})
			},
			"fenced": func(t *rapid.T) {
				c.t = t
				if p := c.r.Procedure; p != nil {
					c.step(pair.FenceDone{Procedure: p.ID, OK: rapid.Bool().Draw(t, "ok")})
				}
			},
		})
	})
}

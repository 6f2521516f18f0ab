package arbiter

import (
	"fmt"
	"time"

	"github.com/witnessd/witnessd/witnessd/ledger"
	"github.com/witnessd/witnessd/witnessd/pair"
)

// docket is what the office holds of one pair. Its record is that which the watch was told of, and so may be
// a moment behind the ledger's; never ahead.
type docket struct {
	record pair.Record
	watch  pair.Watch
	// due is when the passing of time alone can next change a decision.
	due pair.Instant

	// proposal counts the proposals of this docket; the outcome of an earlier one is none of a later one's.
	proposal uint64
	// asked is the operator's question that is being stepped, waiter the one that waits for the change under way.
	asked  *inquiry
	waiter *inquiry
	// claimed is an instance that the change under way would give to the pair; zero: none.
	claimed place
	// doubt is since when the outcome of the change under way is unknown; zero: it is not.
	doubt pair.Instant
	// dropAt is when the pair is told that its change was dropped: a little late if that happens again and
	// again, or a fault in the rules would fill the log as fast as the disk can write.
	dropAt pair.Instant
	drops  int
}

const (
	// glance is how often a pair is looked at although nothing has happened to it.
	glance = pair.Instant(250 * time.Millisecond)
	// dropDelay doubles with each time that a change was dropped, up to dropLimit.
	dropDelay = 25 * time.Millisecond
	dropLimit = 500 * time.Millisecond
)

// enter puts a pair under the office's eyes.
func (o *Office) enter(d *docket) {
	o.dockets[d.record.ID] = d
	o.names[d.record.Name] = d
	o.index(d)
	for _, m := range d.record.Members {
		o.claims[place{m.Host, m.Instance}] = d.record.Name
	}
}

// index notes which pairs a host has. An entry without an agent costs little and is bounded by the pairs.
func (o *Office) index(d *docket) {
	for _, m := range d.record.Members {
		h := o.host(m.Host)
		h.dockets = insertByID(h.dockets, d)
	}
}

// unindex takes a pair, as it was, out of the indexes.
func (o *Office) unindex(d *docket, r pair.Record) {
	for _, m := range r.Members {
		if h := o.hosts[m.Host]; h != nil {
			h.dockets = without(h.dockets, d)
		}
		delete(o.claims, place{m.Host, m.Instance})
	}
}

// follow takes in one change of the ledger: record, indexes and watch in one step.
func (o *Office) follow(c *ledger.Change) {
	if c.Body == nil {
		return // the list of nodes is none of the arbiter's business
	}
	d := o.dockets[c.After.ID]
	switch {
	case d == nil && c.After.Stage == pair.StageRemoved:
		return
	case d == nil:
		d = &docket{watch: pair.NewWatch(c.After, o.term, o.Clock())}
	case c.Before.Revision != d.record.Revision:
		if c.After.Revision <= d.record.Revision {
			return // it was in the records already when the office read them
		}
		panic(fmt.Sprintf("arbiter: pair %s goes from revision %v to %v, the office holds %v",
			c.After.Name, c.Before.Revision, c.After.Revision, d.record.Revision))
	default:
		o.unindex(d, d.record)
		o.unclaim(d)
	}
	d.record, d.drops, d.dropAt, d.doubt = c.After, 0, 0, 0
	o.enter(d)
	waiter := d.waiter
	d.waiter = nil
	o.step(d, pair.Applied{Before: c.Before, Body: c.Body})
	if create, ok := c.Body.(pair.Create); ok {
		waiter = o.created(create.Name)
	}
	waiter.reply(Reply{Live: o.live(d), Procedure: procedureOf(c), Created: c.Before.ID == ""}, nil)
	if c.After.Stage == pair.StageRemoved {
		o.unindex(d, d.record)
		delete(o.dockets, d.record.ID)
		delete(o.names, d.record.Name)
	}
}

// procedureOf is the procedure that a change has begun.
func procedureOf(c *ledger.Change) string {
	if s, ok := c.Body.(pair.StartProcedure); ok {
		return s.Procedure.ID
	}
	return ""
}

// step is the only place where a watch changes. It returns the answer to a confirmed request.
func (o *Office) step(d *docket, ev pair.Event) (answer pair.Answer) {
	now := o.Clock()
	var actions []pair.Action
	d.watch, actions = pair.Step(d.record, d.watch, ev, now)
	for _, action := range actions {
		switch a := action.(type) {
		case pair.Answer:
			answer = a
		case pair.Propose:
			o.propose(d, a)
		case pair.Reply:
			o.replyTo(d, a)
		case pair.Nudge:
			o.nudge(a.Host)
		case pair.RunFence:
			o.fence(d, a)
		default:
			panic(fmt.Sprintf("arbiter: unknown action %T", action))
		}
	}
	switch ev.(type) {
	case pair.Confirmed, pair.Ask: // these look at nothing but the question, so a wait that has run out still counts
	default:
		d.due = due(d.record, d.watch, now)
	}
	return answer
}

// due is when a Tick can next matter. Most pairs wait for nothing but the end of a lease that is renewed
// again and again; thousands of them need not be looked at in every tick.
func due(r pair.Record, w pair.Watch, now pair.Instant) pair.Instant {
	if r.Procedure != nil {
		return now
	}
	next := now + glance
	if w.LeaseUntil > now {
		next = min(next, w.LeaseUntil)
	}
	return next
}

func insertByID(dockets []*docket, d *docket) []*docket {
	for i, other := range dockets {
		switch {
		case other == d:
			return dockets
		case d.record.ID < other.record.ID:
			return append(dockets[:i:i], append([]*docket{d}, dockets[i:]...)...)
		}
	}
	return append(dockets, d)
}

func without(dockets []*docket, d *docket) []*docket {
	var kept []*docket
	for _, other := range dockets {
		if other != d {
			kept = append(kept, other)
		}
	}
	return kept
}

package arbiter

import (
	"context"
	"slices"
	"strings"

	"github.com/witnessd/witnessd/witnessd/pair"
)

// Live is a pair as the office has it at one moment: what is recorded and what was heard.
type Live struct {
	Record pair.Record
	Watch  pair.Watch
	Now    pair.Instant
	// Agents are those that speak for the hosts, in the order of the record's members; zero: there is none.
	Agents [2]Agent
}

// Look returns the pair of this name or id, or all pairs by name if it is empty. The answer holds everything
// that was accepted before the call. A removed pair is found by its id.
func (o *Office) Look(ctx context.Context, nameOrID string) ([]Live, error) {
	r, err := o.ask(ctx, func(q *inquiry) {
		// What the ledger has applied by now must be in the answer.
		o.catchUp()
		if nameOrID == "" {
			q.end(replied{all: o.allLive()})
			return
		}
		if d := o.find(nameOrID); d != nil {
			q.end(replied{all: []Live{o.live(d)}})
			return
		}
		if record, ok := o.Ledger.Pair(pair.ID(nameOrID)); ok {
			q.end(replied{all: []Live{{Record: record, Now: o.Clock()}}})
			return
		}
		q.end(replied{err: o.unknown(nameOrID)})
	})
	return r.all, err
}

// catchUp follows the changes that are there.
func (o *Office) catchUp() {
	for range len(o.watch.Changes()) {
		if c, ok := <-o.watch.Changes(); ok {
			o.follow(c)
		}
	}
}

func (o *Office) allLive() []Live {
	all := make([]Live, 0, len(o.names))
	for _, d := range o.names {
		all = append(all, o.live(d))
	}
	slices.SortFunc(all, func(a, b Live) int { return strings.Compare(a.Record.Name, b.Record.Name) })
	return all
}

func (o *Office) live(d *docket) Live {
	l := Live{Record: d.record, Watch: d.watch, Now: o.Clock()}
	for i, m := range d.record.Members {
		if h := o.hosts[m.Host]; h != nil && len(h.seats) > 0 {
			l.Agents[i] = h.agent
		}
	}
	return l
}

// States are the words that State can say.
func States() []string {
	return []string{"forming", "restored", "changing", "manual", "observe", "armed", "exposed"}
}

// State sums the record of a pair that is not removed up in one word, for metrics.
func State(r pair.Record) string {
	switch {
	case r.Stage != pair.StageReady:
		return r.Stage.String()
	case r.Procedure != nil:
		return "changing"
	case r.Mode != pair.ModeAutomatic:
		return r.Mode.String()
	case r.Right == pair.RightLeased:
		return "armed"
	default:
		return "exposed"
	}
}

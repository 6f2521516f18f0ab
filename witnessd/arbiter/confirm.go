package arbiter

import (
	"slices"
	"time"

	"github.com/witnessd/witnessd/witnessd/pair"
)

// question is what waits for its confirmation (rule R2): a heartbeat's request, or what an operator asks.
type question struct {
	mark    uint64
	request *request
	inquiry *inquiry
}

// request is the part of a heartbeat that is to be answered.
type request struct {
	seat     *Seat
	sequence uint64
	receipt  pair.Instant
	asks     []pair.ID // pairs for which a lease is asked
	strays   []pair.ID // pairs that the heartbeat names and that may not be the host's any more
}

// wait queues a question. The oldest gives way: its agent has sent another since, or will.
func (o *Office) wait(q question) {
	if len(o.waiting) >= waitingRoom {
		o.waiting[0].inquiry.reply(Reply{}, ErrBusy)
		o.waiting = o.waiting[1:]
		o.Observer.HeartbeatDropped()
	}
	o.waiting = append(o.waiting, q)
}

// confirm answers all questions whose marks are confirmed; one exchange with a quorum serves them all. It
// says false if this node is found not to lead any more.
func (o *Office) confirm() bool {
	if len(o.waiting) == 0 {
		return true
	}
	mark, leading := o.Log.Confirmed(uint64(o.term))
	if !leading {
		return false
	}
	// Marks are taken by many goroutines, so the queue is only nearly in their order.
	var ready []question
	o.waiting = slices.DeleteFunc(o.waiting, func(q question) bool {
		if q.mark > mark {
			return false
		}
		ready = append(ready, q)
		return true
	})
	for _, q := range ready {
		if q.request != nil {
			o.answer(q.request)
		}
		if q.inquiry != nil {
			q.inquiry.heard = true
			q.inquiry.hear(q.inquiry)
		}
	}
	return true
}

// answer tells an agent the records of its pairs, with what leases may be granted now.
func (o *Office) answer(q *request) {
	h := o.hosts[q.seat.agent.Host]
	if h == nil || h.agent.ID != q.seat.agent.ID || h.agent.Start != q.seat.agent.Start {
		return // a newer start speaks for the host
	}
	a := Answer{Sequence: q.sequence, Term: o.term, Pairs: make([]PairAnswer, 0, len(h.dockets))}
	for _, d := range h.dockets {
		said := o.step(d, pair.Confirmed{
			Host: q.seat.agent.Host, Receipt: q.receipt, AskLease: slices.Contains(q.asks, d.record.ID),
		})
		a.Pairs = append(a.Pairs, PairAnswer{
			Record: d.record, Lease: said.Lease, Refused: said.Refused, Mute: said.Mute, Released: d.watch.Released,
			HooksRecorded: d.watch.HooksRecorded(d.record, q.seat.agent.Host, q.seat.agent.Start),
		})
	}
	for _, id := range q.strays {
		if o.gone(id, q.seat.agent.Host) {
			a.Removed = append(a.Removed, id)
		}
	}
	q.seat.out.Answer(a)
	o.Observer.Answered(time.Duration(o.Clock() - q.receipt))
}

// gone says whether a pair that an agent remembers is known not to be the host's any more. A pair of which
// nothing is known may be one that a restored witness has forgotten; nothing is said of that.
func (o *Office) gone(id pair.ID, h pair.HostID) bool {
	if d := o.dockets[id]; d != nil {
		_, member := d.record.Member(h)
		return !member && d.record.Stage == pair.StageReady
	}
	r, ok := o.Ledger.Pair(id)
	return ok && r.Stage == pair.StageRemoved
}

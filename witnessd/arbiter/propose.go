package arbiter

import (
	"errors"

	"github.com/witnessd/witnessd/witnessd/ledger"
	"github.com/witnessd/witnessd/witnessd/pair"
)

// outcome is what became of a proposal, as far as Propose could tell. That a change was applied is learned
// from the ledger, in its turn among the others.
type outcome struct {
	pair     pair.ID
	proposal uint64
	create   string         // name of the pair that is to be created; else empty
	members  [2]pair.Member // of that pair
	refusal  *pair.Refusal
	err      error
}

// propose puts a decision into the log, on a goroutine of its own: a disk may take its time. There is one
// at a time for each pair, because the watch marks it as pending (rule R3).
func (o *Office) propose(d *docket, p pair.Propose) {
	c := p.Command
	c.At = o.Wall()
	switch b := c.Body.(type) {
	case pair.StartProcedure:
		b.Procedure.Started = c.At
		c.Body = b
	case pair.Note:
		if o.Ledger.Level() < 1 { // a node that does not read the field would stop; the host is in the sentence too
			b.Host = ""
			c.Body = b
		}
	}
	d.waiter = nil
	if p.Token != 0 {
		d.waiter = d.asked
	}
	d.proposal++
	o.submit(outcome{pair: c.Pair, proposal: d.proposal}, ledger.EncodeCommand(c))
}

// submit proposes an entry and hands its outcome to the loop.
func (o *Office) submit(out outcome, entry []byte) {
	o.work.Go(func() {
		result, err := o.Log.Propose(o.ctx, entry)
		out.err = err
		if r, ok := result.(ledger.Result); ok {
			out.refusal = r.Refusal
		}
		o.Observer.Proposed(out.word())
		select {
		case o.outcomes <- out:
		case <-o.ctx.Done():
		}
	})
}

func (out outcome) word() string {
	switch {
	case out.err == nil && out.refusal == nil:
		return "applied"
	case out.err == nil:
		return "refused"
	case errors.Is(out.err, ErrNotProposed):
		return "dropped"
	default:
		return "unknown"
	}
}

// settle acts on an outcome. If it is unknown, the change stays pending: either the ledger shows it after
// all, or the term ends and the watch with it. To take it for dropped could grant a lease for an epoch that
// is over (rule R3).
func (o *Office) settle(out outcome) {
	d := o.dockets[out.pair]
	switch {
	case d == nil && out.create != "":
		o.settleCreate(out)
		return
	case d == nil, d.proposal != out.proposal:
		return
	}
	log := o.Logger.With("pair", d.record.Name, "term", uint64(o.term))
	switch {
	case out.err == nil && out.refusal == nil:
	case out.err == nil:
		log.Warn("change refused", "reason", string(out.refusal.Reason), "error", out.refusal)
		d.waiter.reply(Reply{}, out.refusal)
		o.drop(d)
	case errors.Is(out.err, ErrNotProposed):
		log.Warn("change not proposed", "error", out.err)
		d.waiter.reply(Reply{}, ErrBusy)
		o.drop(d)
	case o.ctx.Err() == nil:
		log.Warn("outcome of a change unknown", "error", out.err)
		d.waiter.reply(Reply{}, ErrOutcomeUnknown)
		d.doubt = o.Clock()
	}
}

// drop tells the pair that its change will never be applied; later, if it was told so a moment ago.
func (o *Office) drop(d *docket) {
	d.waiter = nil
	o.unclaim(d)
	d.drops++
	if d.drops == 1 {
		o.step(d, pair.Dropped{})
		return
	}
	delay := min(dropDelay<<min(d.drops, 10), dropLimit)
	d.dropAt = o.Clock().Add(delay)
}

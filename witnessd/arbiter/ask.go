package arbiter

import (
	"context"
	"fmt"

	"github.com/witnessd/witnessd/witnessd/ledger"
	"github.com/witnessd/witnessd/witnessd/pair"
)

// Ask is an operator's wish for a pair.
type Ask struct {
	Pair string // name or id
	// Revision and Epoch are what the operator decided on; zero means "whatever it is now".
	Revision pair.Revision
	Epoch    pair.Epoch
	Wish     pair.Wish
}

// Reply is what became of a wish that was not refused.
type Reply struct {
	Live      Live
	Procedure string // id of the procedure that was started; else empty
	Created   bool   // Create: the pair is new
}

// inquiry is somebody who waits for a reply.
type inquiry struct {
	token uint64
	hear  func(*inquiry)
	heard bool         // by the loop; read by others after the office has ended
	done  chan replied // has room for one
}

type replied struct {
	reply Reply
	all   []Live
	err   error
}

// reply may be called on nil, when nobody waits, and more than once; the first counts.
func (q *inquiry) reply(r Reply, err error) { q.end(replied{reply: r, err: err}) }

func (q *inquiry) end(r replied) {
	if q == nil {
		return
	}
	select {
	case q.done <- r:
	default:
	}
}

// ask runs a question on the loop after its confirmation. A refusal by a leader that was deposed long ago
// would be as wrong as a grant.
func (o *Office) ask(ctx context.Context, hear func(*inquiry)) (replied, error) {
	q := &inquiry{hear: hear, done: make(chan replied, 1)}
	mark := o.Log.Mark()
	if o.ctx.Err() != nil {
		return replied{}, ErrNotLeading
	}
	select {
	case o.calls <- func() { o.wait(question{mark: mark, inquiry: q}) }:
	default:
		return replied{}, ErrBusy
	}
	select {
	case r := <-q.done:
		return r, r.err
	case <-ctx.Done():
		return replied{}, fmt.Errorf("%w: %w", ErrOutcomeUnknown, context.Cause(ctx))
	case <-o.done:
	}
	select {
	case r := <-q.done:
		return r, r.err
	default:
	}
	if !q.heard {
		return replied{}, ErrNotLeading
	}
	return replied{}, ErrOutcomeUnknown
}

// Ask asks for a wish of an operator. The error is a *pair.Refusal if a rule says no.
func (o *Office) Ask(ctx context.Context, a Ask) (Reply, error) {
	r, err := o.ask(ctx, func(q *inquiry) {
		d := o.find(a.Pair)
		if d == nil {
			q.reply(Reply{}, o.unknown(a.Pair))
			return
		}
		if bad := o.prepare(d, &a); bad != nil {
			q.reply(Reply{}, bad)
			return
		}
		o.asked++
		q.token = o.asked
		d.asked = q
		o.step(d, pair.Ask{Token: q.token, Revision: a.Revision, Epoch: a.Epoch, Wish: a.Wish})
		d.asked = nil
		if d.waiter != q {
			o.unclaim(d) // it was refused
		}
	})
	return r.reply, err
}

// prepare looks at what a pair by itself cannot know: the other pairs, and what is configured.
func (o *Office) prepare(d *docket, a *Ask) *pair.Refusal {
	switch wish := a.Wish.(type) {
	case pair.WishForce:
		wish.CanFence = o.Fence != nil
		a.Wish = wish
	case pair.WishCommand:
		if b, ok := wish.Body.(pair.ReplaceMirror); ok {
			return o.claim(d, b.Member)
		}
	}
	return nil
}

func (o *Office) find(nameOrID string) *docket {
	if d := o.names[nameOrID]; d != nil {
		return d
	}
	return o.dockets[pair.ID(nameOrID)]
}

// unknown says that no pair has the name or id, or that the one that had it was removed.
func (o *Office) unknown(nameOrID string) error {
	if r, ok := o.Ledger.Pair(pair.ID(nameOrID)); ok && r.Stage == pair.StageRemoved {
		return &pair.Refusal{Reason: pair.ReasonRemoved, Detail: fmt.Sprintf("pair %s was removed", r.Name)}
	}
	return fmt.Errorf("%w: %s", ErrUnknownPair, nameOrID)
}

// replyTo passes on what the pair replied to the question being asked.
func (o *Office) replyTo(d *docket, r pair.Reply) {
	if d.asked == nil || d.asked.token != r.Token {
		return
	}
	if r.Refusal != nil {
		d.asked.reply(Reply{}, r.Refusal)
		return
	}
	d.asked.reply(Reply{Live: o.live(d)}, nil)
}

// free refuses an instance that another pair has: two pairs would give it two orders.
func (o *Office) free(m pair.Member, name string) *pair.Refusal {
	other, taken := o.claims[place{m.Host, m.Instance}]
	if !taken || other == name {
		return nil
	}
	return &pair.Refusal{
		Reason: pair.ReasonHostConflict,
		Detail: fmt.Sprintf("instance %s of host %s belongs to pair %s", m.Instance, m.Host, other),
		Do:     "name another instance, or remove that pair first",
	}
}

// claim keeps an instance for a pair whose change is about to be proposed.
func (o *Office) claim(d *docket, m pair.Member) *pair.Refusal {
	if bad := o.free(m, d.record.Name); bad != nil {
		return bad
	}
	if p := (place{m.Host, m.Instance}); o.claims[p] == "" {
		o.claims[p], d.claimed = d.record.Name, p
	}
	return nil
}

// unclaim gives an instance free that the pair did not get.
func (o *Office) unclaim(d *docket) {
	if d.claimed != (place{}) {
		delete(o.claims, d.claimed)
		d.claimed = place{}
	}
}

// Create makes a new pair, or returns the pair that is there already and is of the same hosts.
func (o *Office) Create(ctx context.Context, spec pair.Create) (Reply, error) {
	r, err := o.ask(ctx, func(q *inquiry) { o.create(q, spec) })
	return r.reply, err
}

func (o *Office) create(q *inquiry, spec pair.Create) {
	if bad := pair.CheckSpec(spec); bad != nil {
		q.reply(Reply{}, bad)
		return
	}
	if d := o.names[spec.Name]; d != nil {
		if bad := differs(d.record, spec); bad != nil {
			q.reply(Reply{}, bad)
			return
		}
		q.reply(Reply{Live: o.live(d)}, nil)
		return
	}
	if o.creating[spec.Name] != nil {
		q.reply(Reply{}, &pair.Refusal{Reason: pair.ReasonChangeUndecided, Do: "try again",
			Detail: fmt.Sprintf("pair %s is being created", spec.Name)})
		return
	}
	for _, m := range spec.Members {
		if bad := o.free(m, spec.Name); bad != nil {
			q.reply(Reply{}, bad)
			return
		}
	}
	o.creating[spec.Name] = q
	for _, m := range spec.Members {
		o.claims[place{m.Host, m.Instance}] = spec.Name
	}
	id := o.NewID()
	c := pair.Command{
		Pair: id, Revision: o.Ledger.FirstRevision(), Term: o.term, At: o.Wall(), Body: spec,
	}
	o.submit(outcome{pair: id, create: spec.Name, members: spec.Members}, ledger.EncodeCommand(c))
}

// differs says what keeps an existing pair from being the one that is asked for. Roles and mode change in
// the life of a pair, so they are not compared: `create` may be run again at any time.
func differs(r pair.Record, spec pair.Create) *pair.Refusal {
	for _, m := range spec.Members {
		if known, ok := r.Member(m.Host); !ok || known.Instance != m.Instance {
			return &pair.Refusal{Reason: pair.ReasonNameTaken, Do: "choose another name",
				Detail: fmt.Sprintf("pair %s exists with hosts %s and %s", r.Name, r.Members[0].Host, r.Members[1].Host)}
		}
	}
	if r.Policy != spec.Policy {
		return &pair.Refusal{Reason: pair.ReasonNameTaken, Do: "change its policy instead",
			Detail: fmt.Sprintf("pair %s exists with another policy (profile %s)", r.Name, r.Policy.Profile)}
	}
	return nil
}

// created ends the wait for a new pair.
func (o *Office) created(name string) *inquiry {
	q := o.creating[name]
	delete(o.creating, name)
	return q
}

// settleCreate acts on the outcome of a proposal for a new pair that the ledger has not shown.
func (o *Office) settleCreate(out outcome) {
	switch {
	case out.err == nil && out.refusal == nil:
		return // the ledger will show it
	case out.err == nil:
		o.created(out.create).reply(Reply{}, out.refusal)
	case out.word() == "dropped":
		o.created(out.create).reply(Reply{}, ErrBusy)
	default:
		// It may still come to be: its name and its instances stay taken until the term ends.
		o.creating[out.create].reply(Reply{}, ErrOutcomeUnknown)
		return
	}
	for _, m := range out.members {
		delete(o.claims, place{m.Host, m.Instance})
	}
}

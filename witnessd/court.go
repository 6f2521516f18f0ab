package witnessd

import (
	"context"
	"errors"
	"fmt"

	"github.com/witnessd/witnessd/raftstore"
	"github.com/witnessd/witnessd/witnessd/arbiter"
	"github.com/witnessd/witnessd/witnessd/pair"
	"github.com/witnessd/witnessd/witnessd/rpc"
)

// This file fits the parts to each other: each says in its own words what it needs, and none knows another.

// arbiterLog is the replicated log as the arbiter wants it.
type arbiterLog struct{ *raftstore.Store }

// Propose sorts the errors: what is not known to have been kept out of the log is unknown.
func (l arbiterLog) Propose(ctx context.Context, entry []byte) (any, error) {
	result, err := l.Store.Propose(ctx, entry)
	for _, harmless := range []error{
		raftstore.ErrNotLeader, raftstore.ErrTooBusy, raftstore.ErrTooLarge, raftstore.ErrClosed,
	} {
		if errors.Is(err, harmless) && !errors.Is(err, raftstore.ErrOutcomeUnknown) {
			return nil, fmt.Errorf("%w: %w", arbiter.ErrNotProposed, err)
		}
	}
	return result, err
}

// court is the arbiter as the edge wants it.
type court struct{ *arbiter.Arbiter }

// Office returns nil, and not an office of nothing, while there is none.
func (c court) Office() (rpc.Office, <-chan struct{}) {
	o, changed := c.Arbiter.Office()
	if o == nil {
		return nil, changed
	}
	return office{o}, changed
}

// office is one term's. Two values of one office are equal.
type office struct{ *arbiter.Office }

func (o office) Join(ctx context.Context, agent rpc.Agent, out rpc.Outlet) (rpc.Seat, error) {
	s, err := o.Office.Join(ctx, arbiter.Agent(agent), outlet{out})
	if err != nil {
		return nil, edgeError(err)
	}
	return seat{s}, nil
}

func (o office) Ask(ctx context.Context, ask rpc.Ask) (rpc.Reply, error) {
	r, err := o.Office.Ask(ctx, arbiter.Ask(ask))
	return reply(r), edgeError(err)
}

func (o office) Create(ctx context.Context, spec pair.Create) (rpc.Reply, error) {
	r, err := o.Office.Create(ctx, spec)
	return reply(r), edgeError(err)
}

func (o office) Look(ctx context.Context, nameOrID string) ([]rpc.Live, error) {
	all, err := o.Office.Look(ctx, nameOrID)
	lives := make([]rpc.Live, 0, len(all))
	for _, l := range all {
		lives = append(lives, live(l))
	}
	return lives, edgeError(err)
}

type seat struct{ *arbiter.Seat }

func (s seat) Heartbeat(hb rpc.Heartbeat) bool {
	beat := arbiter.Heartbeat{Sequence: hb.Sequence, TermHeard: hb.TermHeard}
	for _, r := range hb.Reports {
		beat.Reports = append(beat.Reports, arbiter.Report(r))
	}
	return s.Seat.Heartbeat(beat)
}

type outlet struct{ rpc.Outlet }

func (o outlet) Answer(a arbiter.Answer) {
	answer := rpc.Answer{Sequence: a.Sequence, Term: a.Term, Removed: a.Removed}
	for _, p := range a.Pairs {
		answer.Pairs = append(answer.Pairs, rpc.PairAnswer(p))
	}
	o.Outlet.Answer(answer)
}

func reply(r arbiter.Reply) rpc.Reply {
	return rpc.Reply{Live: live(r.Live), Procedure: r.Procedure, Created: r.Created}
}

func live(l arbiter.Live) rpc.Live {
	return rpc.Live{
		Record: l.Record, Watch: l.Watch, Now: l.Now,
		Agents: [2]rpc.Agent{rpc.Agent(l.Agents[0]), rpc.Agent(l.Agents[1])},
	}
}

// edgeError says an error of the arbiter in the words of the edge.
func edgeError(err error) error {
	for ours, theirs := range map[error]error{
		arbiter.ErrNotLeading: rpc.ErrNotLeading, arbiter.ErrBusy: rpc.ErrBusy,
		arbiter.ErrOutcomeUnknown: rpc.ErrOutcomeUnknown, arbiter.ErrUnknownPair: rpc.ErrUnknownPair,
	} {
		if errors.Is(err, ours) {
			return fmt.Errorf("%w: %w", theirs, err)
		}
	}
	return err
}

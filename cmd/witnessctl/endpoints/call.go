package endpoints

import (
	"context"
	"errors"
	"slices"
	"time"

	"google.golang.org/grpc"
)

// Call is what is asked.
type Call struct {
	// Do makes the call. It may run several times, also after a try whose outcome is unknown: it must be one
	// that may be repeated.
	Do func(context.Context, grpc.ClientConnInterface) error
	// Reads: it changes nothing, so that a try that was not answered leaves no doubt.
	Reads bool
	// Again are the reasons of refusals that the caller expects to pass, and that are tried again.
	Again []string
}

// Call makes a call that is answered once, with whichever node answers first, until ctx ends.
func (s *Set) Call(ctx context.Context, c Call) error {
	u := &Unanswered{}
	for asked := 0; ; {
		n, err := s.ready(ctx, func(n *node, err error) { u.note(n.address, err.Error()) })
		nobody := err != nil
		if !nobody {
			asked++
			err = s.try(ctx, n, c.Do)
			switch kind, why := classify(err); kind {
			case answered:
				s.first(n)
				return nil
			case failed:
				return err
			case refused:
				r := refusalOf(err, n.address)
				r.Doubt = u.Doubt
				if !r.passing() && !slices.Contains(c.Again, r.Reason) {
					return r
				}
				u.last = r
			case unable:
				u.NoLeader = u.NoLeader || noLeader(err)
				u.note(n.address, why)
				s.after(n)
			case unreached:
				if ctx.Err() == nil {
					s.report(n.address + " " + why + ": asking another node")
				}
				u.Doubt = !c.Reads
				u.put(Try{Endpoint: n.address, Why: why, late: late(err)})
				n.drop()
				s.after(n)
			}
		}
		wait := time.Duration(0)
		if nobody || asked%len(s.nodes) == 0 {
			wait = pause
		}
		s.doing.Store(u.Error())
		if !sleep(ctx, wait) || u.NoLeader && !u.Doubt && left(ctx) < verdict {
			return u.end(ctx)
		}
	}
}

// verdict is how long a node may take to say that there is no leader: it waits for an election first. A
// request that is given up sooner leaves doubt where there is none.
const verdict = 3 * time.Second

// left is the time until the deadline.
func left(ctx context.Context) time.Duration {
	if deadline, ok := ctx.Deadline(); ok {
		return time.Until(deadline)
	}
	return verdict
}

// try gives a node half of the time that is left, so that another has the rest if it freezes.
func (s *Set) try(ctx context.Context, n *node, do func(context.Context, grpc.ClientConnInterface) error) error {
	if deadline, ok := ctx.Deadline(); ok && len(s.nodes) > 1 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, max(time.Until(deadline)/2, verdict))
		defer cancel()
	}
	return do(ctx, n.conn)
}

// sleep waits and says whether the context goes on.
func sleep(ctx context.Context, d time.Duration) bool {
	if d > 0 {
		select {
		case <-ctx.Done():
		case <-time.After(d):
		}
	}
	return ctx.Err() == nil
}

// end is what a call comes to whose time is up.
func (u *Unanswered) end(ctx context.Context) error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return &Interrupted{Doubt: u.Doubt}
	}
	if u.last != nil {
		u.last.Doubt = u.Doubt
		return u.last
	}
	// A node that was still at it may be the leader's, or the leader.
	if slices.ContainsFunc(u.Tries, func(t Try) bool { return t.late }) {
		u.NoLeader = false
	}
	return u
}

package endpoints

import (
	"context"
	"errors"
	"io"
	"time"

	"google.golang.org/grpc"
)

// Patience bounds the following of a stream.
type Patience struct {
	// Quiet: a stream that brings nothing for so long is opened anew, with another node. A connection to a
	// frozen node can stay open for hours without a word.
	Quiet time.Duration
	// Lost: nobody has answered for so long: give up. 0 is never.
	Lost time.Duration
}

// Stream is what to receive and what to do with it.
type Stream[M any] struct {
	// Open starts the stream, or lets it go on with another node where it must go on.
	Open func(context.Context, grpc.ClientConnInterface) (grpc.ServerStreamingClient[M], error)
	// Each takes a message and says whether it was the last that is wanted. Its error ends everything.
	Each func(*M) (done bool, err error)
	// Whole: that the node ends the stream in good order means that all was received.
	Whole bool
}

// Follow receives a stream until it is done, over whichever nodes are there.
func Follow[M any](ctx context.Context, s *Set, p Patience, what Stream[M]) error {
	u := &Unanswered{}
	heard := time.Now()
	for asked := 0; ; {
		attempt, cancel := ctx, context.CancelFunc(func() {})
		if p.Lost > 0 {
			attempt, cancel = context.WithDeadline(ctx, heard.Add(p.Lost))
		}
		n, err := s.ready(attempt, func(n *node, err error) { u.note(n.address, err.Error()) })
		cancel()
		nobody := err != nil
		if !nobody {
			asked++
			f := &follower[M]{Stream: what, quiet: p.Quiet, heard: &heard}
			done, err := f.run(ctx, n)
			if done || f.broken != nil {
				s.first(n)
				return f.broken
			}
			if end := s.lost(ctx, n, u, err, f.silent); end != nil {
				return end
			}
		}
		if p.Lost > 0 && time.Since(heard) >= p.Lost {
			return u
		}
		s.doing.Store(u.Error())
		if nobody || asked%len(s.nodes) == 0 {
			sleep(ctx, pause)
		}
		if ctx.Err() != nil {
			return u.end(ctx)
		}
	}
}

// lost looks at why a stream ended; nil means that it is to be opened with another node.
func (s *Set) lost(ctx context.Context, n *node, u *Unanswered, err error, silent bool) error {
	if ctx.Err() != nil {
		return u.end(ctx)
	}
	kind, why := classify(err)
	switch {
	case kind == refused:
		if r := refusalOf(err, n.address); !r.passing() {
			return r
		}
	case kind == failed && !errors.Is(err, io.EOF):
		return err
	case kind == unable:
		u.NoLeader = u.NoLeader || noLeader(err)
		u.note(n.address, why)
	case silent:
		u.note(n.address, "is silent")
		n.drop()
	default:
		u.note(n.address, why)
		s.report(n.address + " ended the stream: asking another node")
		n.drop()
	}
	s.after(n)
	return nil
}

// follower is one stream with one node.
type follower[M any] struct {
	Stream[M]
	quiet  time.Duration
	heard  *time.Time
	silent bool  // given up because nothing came
	broken error // what Each said
}

func (f *follower[M]) run(ctx context.Context, n *node) (done bool, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	quiet := time.AfterFunc(f.quiet, func() { cancel(errQuiet) })
	defer quiet.Stop()
	stream, err := f.Open(ctx, n.conn)
	for err == nil {
		var m *M
		if m, err = stream.Recv(); err != nil {
			if f.Whole && errors.Is(err, io.EOF) {
				return true, nil
			}
			break
		}
		quiet.Reset(f.quiet)
		if !f.Whole { // a part of what must be whole is no news: the next node begins again
			*f.heard = time.Now()
		}
		if done, f.broken = f.Each(m); done || f.broken != nil {
			return done, nil
		}
	}
	f.silent = errors.Is(context.Cause(ctx), errQuiet)
	return false, err
}

var errQuiet = errors.New("the stream is silent")

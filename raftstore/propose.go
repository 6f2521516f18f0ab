package raftstore

import (
	"context"
	"errors"
	"fmt"

	"github.com/hashicorp/raft"
)

// largestEntry is what raft suggests: entries go over the connections in turn.
const largestEntry = raft.SuggestedMaxDataSize

// Propose puts data into the log and returns what this node's Machine made of it, once it is applied. If ctx
// ends before, the outcome is unknown.
func (s *Store) Propose(ctx context.Context, data []byte) (result any, err error) {
	if len(data) > largestEntry {
		return nil, fmt.Errorf("%w: %d bytes, at most %d", ErrTooLarge, len(data), largestEntry)
	}
	if err := ctx.Err(); err != nil {
		return nil, context.Cause(ctx)
	}
	select {
	case <-s.closing:
		return nil, ErrClosed
	default:
	}
	if s.raft.State() != raft.Leader {
		return nil, ErrNotLeader
	}
	result, err = s.ask(ctx.Done(), func() (any, error) {
		future := s.raft.Apply(data, s.timing.RPC)
		if err := future.Error(); err != nil {
			return nil, proposalError(err)
		}
		return future.Response(), nil
	})
	return result, gaveUp(ctx, err)
}

// proposalError sorts raft's errors by what the proposer may conclude. Whatever is not known to have been
// refused before it was in a log is unknown: also a failure to write our own, for a write that failed may
// be found to have happened.
func proposalError(err error) error {
	switch {
	case errors.Is(err, raft.ErrNotLeader), errors.Is(err, raft.ErrLeadershipTransferInProgress):
		return fmt.Errorf("%w: %w", ErrNotLeader, err)
	case errors.Is(err, raft.ErrEnqueueTimeout):
		return ErrTooBusy
	}
	return fmt.Errorf("%w: %w", ErrOutcomeUnknown, err)
}

// ask runs a request to raft on a goroutine of its own, since raft's futures know no context, and returns
// its answer, or ErrOutcomeUnknown itself when cancelled closes first. Close waits for these goroutines: raft
// answers every future while it runs, but not all of those that it has left when it is shut down.
func (s *Store) ask(cancelled <-chan struct{}, request func() (any, error)) (any, error) {
	type answer struct {
		value any
		err   error
	}
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil, ErrClosed
	}
	answers := make(chan answer, 1)
	s.requests.Go(func() {
		value, err := request()
		answers <- answer{value, err}
	})
	s.mu.Unlock()
	select {
	case a := <-answers:
		return a.value, a.err
	case <-cancelled:
		return nil, ErrOutcomeUnknown
	}
}

// do is ask for a request that has no result but its success.
func (s *Store) do(ctx context.Context, request func() error) error {
	_, err := s.ask(ctx.Done(), func() (any, error) { return nil, request() })
	return gaveUp(ctx, err)
}

// gaveUp adds why nobody waited for the answer.
func gaveUp(ctx context.Context, err error) error {
	if err == ErrOutcomeUnknown { //nolint:errorlint // the bare value is that of ask
		return fmt.Errorf("%w: %w", err, context.Cause(ctx))
	}
	return err
}

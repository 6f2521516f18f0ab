package raftstore

import (
	"context"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// A reign is a time during which this node leads. It begins when raft says so; it counts, for Lead,
// Confirmed and ReadIndex, only once a barrier of its term has been applied here.
type reign struct {
	over chan struct{} // closed when raft says that it is over, or that another has begun
	term uint64        // zero until the barrier is applied. Guarded by Store.mu
}

// watchLeadership is the only reader of raft's LeaderCh, and never calls raft: the channel has one slot, for
// the newest value, so a slow reader misses changes. It may deliver true twice: lost and won again between
// two reads. Runs until Close.
func (s *Store) watchLeadership(news <-chan bool) {
	var entering sync.WaitGroup
	defer entering.Wait()
	for {
		select {
		case leads := <-news:
			s.endReign()
			if leads {
				r := s.beginReign()
				entering.Go(func() { s.enter(r) })
			}
		case <-s.closing:
			s.endReign()
			return
		}
	}
}

func (s *Store) beginReign() *reign {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reign = &reign{over: make(chan struct{})}
	return s.reign
}

func (s *Store) endReign() {
	s.mu.Lock()
	if s.reign != nil {
		close(s.reign.over)
		s.reign = nil
	}
	s.mu.Unlock()
	s.reigns.ring()
	s.confirm.changed.ring()
}

// enter has a barrier applied and opens the reign. Raft announces a leader before its state has caught up,
// and a transfer of leadership that comes to nothing refuses barriers for a while without an announcement.
func (s *Store) enter(r *reign) {
	for {
		// The barrier is in the log of some term of this node. Terms only rise: if it is the same one before
		// and after, it is the barrier's.
		term := s.raft.CurrentTerm()
		_, err := s.ask(r.over, func() (any, error) {
			return nil, s.raft.Barrier(s.timing.RPC).Error()
		})
		if err == nil && s.raft.State() == raft.Leader && s.raft.CurrentTerm() == term {
			s.mu.Lock()
			r.term = term
			s.mu.Unlock()
			s.reigns.ring()
			s.confirm.changed.ring()
			return
		}
		select {
		case <-time.After(s.timing.Commit):
		case <-r.over:
			return
		}
	}
}

// reigning returns the term that this node leads and has applied a barrier of, or zero.
func (s *Store) reigning() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.reign == nil {
		return 0
	}
	return s.reign.term
}

// Lead runs office for each term that this node leads, until ctx ends or the store is closed; it returns
// the reason. Office is started after a barrier of its term has been applied on this node: the machine's
// state then includes all that former leaders were told is accepted. Its context is cancelled when the
// leadership is lost, which this node may notice late: before anything is said to others on the strength of
// leading, see Confirmed.
//
// Two offices never run at once: the next waits until this one has returned, however long it takes. An
// office that returns while its term lasts leaves it vacant. Call Lead once.
func (s *Store) Lead(ctx context.Context, office func(ctx context.Context, term uint64)) error {
	var last *reign
	for {
		r, term, err := s.nextReign(ctx, last)
		if err != nil {
			return err
		}
		last = r
		hold(ctx, r, func(ctx context.Context) { office(ctx, term) })
	}
}

func (s *Store) nextReign(ctx context.Context, last *reign) (*reign, uint64, error) {
	for {
		changed := s.reigns.rung()
		s.mu.Lock()
		r, term := s.reign, uint64(0)
		if r != nil {
			term = r.term
		}
		s.mu.Unlock()
		if ctx.Err() != nil {
			return nil, 0, context.Cause(ctx)
		}
		if term != 0 && r != last {
			return r, term, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
		case <-s.closing:
			return nil, 0, ErrClosed
		}
	}
}

// hold runs office with a context that ends with the reign, and returns when office has.
func hold(ctx context.Context, r *reign, office func(context.Context)) {
	ctx, cancel := context.WithCancelCause(ctx)
	var watch sync.WaitGroup
	watch.Go(func() {
		select {
		case <-r.over:
			cancel(ErrNotLeader)
		case <-ctx.Done():
		}
	})
	office(ctx)
	cancel(nil)
	watch.Wait()
}

package rpc

import (
	"context"
	"sync"
	"time"
)

// keepHome finds, again and again, where the sessions of this node are heard: here while this node leads,
// else at the leader. Runs until ctx ends.
func (s *Server) keepHome(ctx context.Context) {
	for ctx.Err() == nil {
		office, changed := s.court.Office()
		leader := s.group.Leader()
		switch {
		case office != nil:
			s.settle(ctx, officeHome{office})
		case leader != "" && leader != s.node:
			s.relayTo(ctx, leader)
		}
		select {
		case <-ctx.Done():
		case <-changed:
		case <-time.After(again):
		}
	}
}

// settle makes a home the present one until it is gone.
func (s *Server) settle(ctx context.Context, h home) {
	s.log.DebugContext(ctx, "sessions moved", "sessions", s.lobby.count())
	s.lobby.move(h)
	select {
	case <-h.gone():
	case <-ctx.Done():
	}
	s.lobby.move(nil)
}

// relayTo carries the sessions to a leader for as long as it leads.
func (s *Server) relayTo(ctx context.Context, leader string) {
	conn, err := s.peers.ready(ctx, leader)
	if err != nil {
		s.log.DebugContext(ctx, "leader not reached", "leader", leader, "error", err)
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r := newRelay(leader)
	var parts sync.WaitGroup
	defer parts.Wait()
	defer cancel()
	accepted := make(chan struct{})
	parts.Go(func() {
		defer close(r.done)
		err := r.run(ctx, conn, s.node, accepted)
		s.log.DebugContext(ctx, "relay ended", "leader", leader, "error", err)
	})
	parts.Go(func() { s.watchLeader(ctx, cancel, leader) })
	select {
	case <-accepted:
		s.settle(ctx, r)
	case <-r.done:
	case <-time.After(reach): // it does not answer: look again who leads
	case <-ctx.Done():
	}
}

// watchLeader ends a relay when another node leads. That none is known is no reason: the relay may still work.
func (s *Server) watchLeader(ctx context.Context, end func(), leader string) {
	defer end()
	addresses := time.NewTicker(time.Minute)
	defer addresses.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-addresses.C:
			s.forgetPeers()
		case <-time.After(again):
		}
		if now := s.group.Leader(); now != "" && now != leader {
			return
		}
	}
}

// forgetPeers closes connections to nodes that have been removed or have moved.
func (s *Server) forgetPeers() {
	there := make(map[string]bool)
	for _, n := range s.nodes() {
		there[n.APIAddress] = true
	}
	s.peers.keep(there)
}

package raftstore

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/raft"
)

// A leader that was stopped and goes on, or whose messages are held up, does not know that it was deposed.
// Whatever it says on the strength of being leader must therefore wait until a quorum has accepted it once
// more, by messages that were begun after the question arrived.
//
// Marks and sends take their numbers from one sequence. A mark is taken when a question arrives; each
// AppendEntries takes a number before it goes out; for each peer the highest number of a send that it
// accepted is kept. A question is answered once a quorum has accepted a send with a number above its mark.
// The heartbeats that go out anyway do, every tenth to fifth of Timing.Heartbeat, so nothing is sent for it,
// and nothing here waits for a disk.
//
// raft.VerifyLeader would not do, in v1.8.0: it takes answers to messages sent before the call, and answers
// of nonvoters.
type confirmations struct {
	sequence atomic.Uint64 // the number given last, to a mark or to a send

	mu    sync.Mutex
	term  uint64                       // the newest term in which something was accepted
	peers map[raft.ServerID]acceptance // in that term; empty for a new one, so no answer outlives its term

	changed bell
}

// acceptance is what a peer has accepted in the present term.
type acceptance struct {
	send  uint64 // the highest number of a send
	match uint64 // the highest index that the peer's log is known to share with ours
}

func (c *confirmations) number() uint64 { return c.sequence.Add(1) }

// accepted notes that peer accepted the send of that number as from the leader of term. Called on the
// goroutines of raft that replicate to the peer.
func (c *confirmations) accepted(peer raft.ServerID, term, number, match uint64) {
	c.mu.Lock()
	if term > c.term {
		c.term = term
		c.peers = make(map[raft.ServerID]acceptance)
	}
	if term == c.term {
		a := c.peers[peer]
		c.peers[peer] = acceptance{send: max(a.send, number), match: max(a.match, match)}
	}
	c.mu.Unlock()
	c.changed.ring()
}

func (c *confirmations) of(peer raft.ServerID, term uint64) acceptance {
	c.mu.Lock()
	defer c.mu.Unlock()
	if term != c.term {
		return acceptance{}
	}
	return c.peers[peer]
}

// quorum returns the highest number n such that a quorum of the voters accepted, in term, a send numbered n
// or higher. This node accepts itself, if it is a voter, without a message; for everything up to now.
func (c *confirmations) quorum(servers []raft.Server, self raft.ServerID, term uint64) uint64 {
	upToNow := c.sequence.Load()
	var highest []uint64
	for _, s := range servers {
		switch {
		case s.Suffrage != raft.Voter:
		case s.ID == self:
			highest = append(highest, upToNow)
		default:
			highest = append(highest, c.of(s.ID, term).send)
		}
	}
	if len(highest) == 0 {
		return 0
	}
	slices.Sort(highest)
	return highest[(len(highest)-1)/2] // as many as this one and above are a quorum
}

// Mark returns a number for a question that has arrived now. Every message to a peer that is begun after
// this call has a higher number; every one begun before it, a lower one.
func (s *Store) Mark() uint64 { return s.confirm.number() }

// Confirmed returns the highest mark whose questions may be answered: a quorum of the voters has accepted
// this node as the leader of term by a message begun after the mark. leading is false, for ever, once this
// node does not lead that term any more; before a barrier of the term is applied it is false as well.
//
// The answer is true of marks taken before the call. It may be kept and compared with them later: that
// this node led then stays true.
func (s *Store) Confirmed(term uint64) (mark uint64, leading bool) {
	if s.reigning() != term {
		return 0, false
	}
	mark = s.confirm.quorum(s.configuration().Servers, s.id, term)
	// This node's own consent is that it still leads after all the others' were counted. The state is read
	// before the term: terms only rise, and this node led this one, so a leader found with this term still
	// afterwards led it when the state was read.
	if s.raft.State() != raft.Leader || s.raft.CurrentTerm() != term {
		return 0, false
	}
	return mark, true
}

// ConfirmChanged returns a channel that is closed when the result of Confirmed may have changed. Take it
// before calling Confirmed, or a change in between is missed. One such channel serves all that wait.
func (s *Store) ConfirmChanged() <-chan struct{} { return s.confirm.changed.rung() }

// WaitConfirmed waits until mark is confirmed in term. It returns ErrNotLeader as soon as it cannot be.
func (s *Store) WaitConfirmed(ctx context.Context, term, mark uint64) error {
	for {
		changed := s.ConfirmChanged()
		confirmed, leading := s.Confirmed(term)
		if !leading {
			return ErrNotLeader
		}
		if confirmed >= mark {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-s.closing:
			return ErrClosed
		}
	}
}

package raftstore

import (
	"time"

	"github.com/hashicorp/raft"
)

// Role is what a node does in its group.
type Role string

// The roles of a node.
const (
	Follower  Role = "follower"
	Candidate Role = "candidate"
	Leader    Role = "leader"
	Stopped   Role = "stopped"
)

// Status is what one node knows of the group, for people to read. By the time it is read it may be old.
type Status struct {
	ID        string
	Role      Role
	Term      uint64
	Leader    string // empty if this node knows of none
	Committed uint64
	Applied   uint64 // the last entry in the machine's state; barriers and the like do not count
	Last      uint64 // the last entry in this node's log

	// LastContact is when a follower last heard its leader, on this node's clock. Zero for a leader, and for
	// a node that has heard none.
	LastContact time.Time

	Peers []Peer
}

// Peer is what a node knows of another. Only a leader hears of the others.
type Peer struct {
	Server
	Heard time.Time // when it last answered, on this node's clock; zero if never, or if this node never led
	Match uint64    // the last entry that its log is known to share with the leader's
}

// State returns what this node does now.
func (s *Store) State() Role {
	switch s.raft.State() {
	case raft.Leader:
		return Leader
	case raft.Candidate:
		return Candidate
	case raft.Shutdown:
		return Stopped
	default:
		return Follower
	}
}

// CurrentTerm returns the newest term that this node knows of.
func (s *Store) CurrentTerm() uint64 { return s.raft.CurrentTerm() }

// Leader returns the node that this one takes for the leader; a follower that was cut off, for a while
// after the group has another.
func (s *Store) Leader() (Server, bool) {
	address, id := s.raft.LeaderWithID()
	return Server{ID: string(id), Address: string(address)}, id != ""
}

// Status returns what this node knows of the group.
func (s *Store) Status() Status {
	leader, _ := s.Leader()
	st := Status{
		ID:        string(s.id),
		Role:      s.State(),
		Term:      s.raft.CurrentTerm(),
		Leader:    leader.ID,
		Committed: s.raft.CommitIndex(),
		Applied:   s.fsm.applied.Load(),
		Last:      s.raft.LastIndex(),
	}
	if st.Role != Leader {
		st.LastContact = s.raft.LastContact()
	}
	for _, m := range s.configuration().Servers {
		if m.ID == s.id {
			continue
		}
		st.Peers = append(st.Peers, Peer{
			Server: fromRaft(m),
			Heard:  s.peers.heard(m.ID),
			Match:  s.confirm.of(m.ID, st.Term).match,
		})
	}
	return st
}

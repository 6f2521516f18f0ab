package raftstore

import (
	"context"
	"errors"
	"fmt"

	"github.com/hashicorp/raft"
)

// ReadIndex returns an index such that a node whose state includes it (WaitApplied) shows the effect of
// everything that anybody was told is accepted before this call. It needs no entry in the log, only that
// this node leads: it notes what is committed, and then has its leadership confirmed.
func (s *Store) ReadIndex(ctx context.Context) (uint64, error) {
	// Before a barrier of its term is applied, a leader does not know all that is committed: no reign yet.
	term := s.reigning()
	if term == 0 {
		return 0, ErrNotLeader
	}
	index, err := s.lastOfMachine(s.raft.CommitIndex())
	if err != nil {
		return 0, err
	}
	if err := s.WaitConfirmed(ctx, term, s.Mark()); err != nil {
		return 0, err
	}
	return index, nil
}

// Read waits until the state on this node may be read: it includes everything that anybody was told is
// accepted before this call. Only the leader can say so.
func (s *Store) Read(ctx context.Context) error {
	index, err := s.ReadIndex(ctx)
	if err != nil {
		return err
	}
	return s.WaitApplied(ctx, index)
}

// lastOfMachine returns the last index up to the one given whose entry is the machine's. The others, the
// barriers and changes of the group, never reach the machine; to wait for one would be to wait for ever.
func (s *Store) lastOfMachine(committed uint64) (uint64, error) {
	applied := s.fsm.applied.Load()
	for index := committed; index > applied; index-- {
		var entry raft.Log
		if err := s.log.GetLog(index, &entry); errors.Is(err, raft.ErrLogNotFound) {
			break // only what is in a snapshot leaves the log, and a snapshot is of what was applied
		} else if err != nil {
			return 0, fmt.Errorf("read the log at %d: %w", index, err)
		}
		if entry.Type == raft.LogCommand {
			return index, nil
		}
	}
	return applied, nil
}

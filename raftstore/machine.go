package raftstore

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync/atomic"

	"github.com/hashicorp/raft"
)

// A Machine is the state that the log builds. Every node has one; from the same entries each must come to
// the same state. An entry that it does not know, it must not skip: it panics, and with it the process, for
// a node that goes on would differ from the others for ever.
//
// The types are plain ones, so that a machine need not know this package.
type Machine interface {
	// Apply is called for each entry, in the order of the log, on one goroutine. What it returns is what
	// Propose returns on the node that proposed the entry.
	Apply(index, term uint64, data []byte) any

	// Snapshot is called between two calls of Apply, which wait for it: it must take no longer than noting
	// which state it is. The function that it returns writes that state out, while Apply goes on.
	Snapshot() (func(io.Writer) error, error)

	// Restore replaces the state by one that was written out. No other call runs meanwhile.
	Restore(io.Reader) error
}

// fsm is a Machine as raft wants it. Raft calls it on one goroutine of its own.
type fsm struct {
	machine Machine
	applied atomic.Uint64 // the index of the last entry in the machine's state
	moved   bell          // rings when applied has changed
	members *bell         // rings when the group has changed
	refused error         // why a snapshot was not restored last
}

func (f *fsm) Apply(entry *raft.Log) any {
	result := f.machine.Apply(entry.Index, entry.Term, entry.Data)
	f.applied.Store(entry.Index)
	f.moved.ring()
	return result
}

// StoreConfiguration is called when a change of the group is committed. That it exists also makes raft
// count such an entry as applied: else no snapshot is possible between a change of the group and the next
// entry of the machine.
func (f *fsm) StoreConfiguration(uint64, raft.Configuration) { f.members.ring() }

func (f *fsm) Snapshot() (raft.FSMSnapshot, error) {
	write, err := f.machine.Snapshot()
	if err != nil {
		return nil, err
	}
	return snapshot{applied: f.applied.Load(), write: write}, nil
}

func (f *fsm) Restore(from io.ReadCloser) error {
	applied, err := restore(f.machine, from)
	if err != nil {
		f.refused = err
		return err
	}
	f.applied.Store(applied)
	f.moved.ring()
	return nil
}

// A snapshot begins with a line that says what it is and the index of the last entry in it. That may be
// lower than the index raft knows it by, which counts entries that are not the machine's.
const snapshotHead = "witnessd-snapshot 1\n"

type snapshot struct {
	applied uint64
	write   func(io.Writer) error
}

// Persist runs in parallel with Apply, on raft's goroutine for snapshots. Raft cancels the sink if it fails.
func (s snapshot) Persist(sink raft.SnapshotSink) error {
	if err := s.writeTo(sink); err != nil {
		return err
	}
	return sink.Close()
}

func (s snapshot) Release() {}

func (s snapshot) writeTo(w io.Writer) error {
	head := binary.BigEndian.AppendUint64([]byte(snapshotHead), s.applied)
	if _, err := w.Write(head); err != nil {
		return err
	}
	return s.write(w)
}

func restore(m Machine, from io.Reader) (applied uint64, err error) {
	head := make([]byte, len(snapshotHead)+8)
	if _, err := io.ReadFull(from, head); err != nil {
		return 0, fmt.Errorf("read the head of a snapshot: %w", err)
	}
	if string(head[:len(snapshotHead)]) != snapshotHead {
		return 0, errors.New("this snapshot was not written by this program, or by a newer one")
	}
	if err := m.Restore(from); err != nil {
		return 0, fmt.Errorf("restore a snapshot: %w", err)
	}
	return binary.BigEndian.Uint64(head[len(snapshotHead):]), nil
}

// WaitApplied waits until the machine's state on this node includes the entry at index, which must be one
// that ReadIndex returned, here or on another node.
func (s *Store) WaitApplied(ctx context.Context, index uint64) error {
	for {
		moved := s.fsm.moved.rung()
		if s.fsm.applied.Load() >= index {
			return nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-s.closing:
			return ErrClosed
		}
	}
}

package raftstore

import (
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"runtime/debug"

	"github.com/hashicorp/raft"
)

// checkWhole reads the log from end to end, the term, the vote and the snapshots, and says what is missing or
// is not what was written. Raft would panic over most of it, some time later.
func checkWhole(dir string, entries raft.LogStore, promises raft.StableStore, log *raftLog) error {
	snapshots, err := openSnapshots(dir, log)
	if err != nil {
		return fmt.Errorf("open the snapshots in %s: %w", dir, advise(err))
	}
	reaches, err := newestWhole(snapshots)
	if err != nil {
		return fmt.Errorf("look for snapshots in %s: %w", dir, err)
	}
	first, last, err := checkLog(entries, promises, reaches)
	if err != nil {
		return damagedFile(filepath.Join(dir, logFile), err)
	}
	// A snapshot that is not whole had all up to its end: the node has said that it has that, and must have it in
	// its log.
	promised, err := snapshots.promised()
	if err != nil {
		return fmt.Errorf("look for snapshots in %s: %w", dir, err)
	}
	if first <= reaches+1 && max(reaches, last) >= promised {
		return nil
	}
	why := errors.New("no snapshot in it is whole")
	if reaches > 0 {
		why = fmt.Errorf("the newest snapshot that is whole ends with entry %d", reaches)
	}
	return damagedFile(filepath.Join(dir, snapshotDir),
		fmt.Errorf("%w, and of entries up to %d the log has those from %d to %d", why, max(promised, last), first, last))
}

// checkLog reads the term, the vote and every entry. Entries may be missing in the middle up to where the
// snapshots reach: a node that was away gets a snapshot, keeps what it had, and goes on behind the snapshot.
func checkLog(entries raft.LogStore, promises raft.StableStore, reaches uint64) (first, last uint64, err error) {
	term, err := readPromises(promises)
	if err != nil {
		return 0, 0, err
	}
	if first, err = entries.FirstIndex(); err != nil {
		return 0, 0, err
	}
	if last, err = entries.LastIndex(); err != nil || last == 0 {
		return 0, 0, err
	}
	before := uint64(0)
	for index := first; index <= last; index++ {
		var entry raft.Log
		switch err := entries.GetLog(index, &entry); {
		case errors.Is(err, raft.ErrLogNotFound) && index <= reaches:
			index, before = reaches, 0 // what lies before the hole may be an old leader's, of any term
		case errors.Is(err, raft.ErrLogNotFound):
			return 0, 0, fmt.Errorf("entry %d is missing", index)
		case err != nil:
			return 0, 0, err
		case entry.Term < before || entry.Term > term:
			return 0, 0, fmt.Errorf("entry %d is of term %d, the one before it of %d, and the node's term is %d",
				index, entry.Term, before, term)
		default:
			before = entry.Term
		}
	}
	return first, last, nil
}

// readPromises reads the term and the vote.
func readPromises(s raft.StableStore) (term uint64, err error) {
	term, err = s.GetUint64([]byte(keyTerm))
	_, voteErr := s.GetUint64([]byte(keyVoteTerm))
	_, candidateErr := s.Get([]byte(keyVoteCandidate))
	for _, err := range []error{err, voteErr, candidateErr} {
		if err != nil && !absent(err) {
			return 0, err
		}
	}
	return term, nil
}

// newestWhole is the index up to which a snapshot can be restored; 0: there is none.
func newestWhole(s raft.SnapshotStore) (uint64, error) {
	all, err := s.List()
	if err != nil {
		return 0, err
	}
	if len(all) == 0 {
		return 0, nil
	}
	return all[0].Index, nil
}

// protect makes an error of what bbolt does with a file that fails under it: a panic, or a fault in one of the
// pages that it has mapped.
func protect(f func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		what := recover()
		if bug, ok := what.(runtime.Error); ok {
			if _, fault := bug.(interface{ Addr() uintptr }); !fault {
				panic(bug) // ours, or a library's: no disk is to blame
			}
		}
		if what != nil {
			err = fmt.Errorf("%w: %v", ErrDamaged, what)
		}
	}()
	return f()
}

package raftstore

import (
	"bytes"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
)

// disk watches every call that raft makes to its log and to its vote, and ends the node when it can no
// longer be trusted to keep what it says it has. What raft does by itself is not enough: a leader whose
// disk hangs stays leader for ever, since heartbeats do not touch the disk, and nothing is committed.
//
//   - A call that does not return within the limit is a fault.
//   - A log entry that cannot be written is refused by raft, and tried again: the node has then promised
//     nothing. It is a fault when nothing could be written for the whole limit.
//   - It is a fault at once when entries were cut off the end of the log before: raft's idea of where its
//     log ends is then wrong (the TODO in raft.appendEntries, v1.8.0).
//   - A term or a vote that cannot be written is a fault at once: raft would panic over the one.
//   - A failure to read is a fault at once: what was written is not there, or is not what was written, and
//     raft would panic over it. So is a read of a mapped page that the disk does not deliver.
//   - A term that goes back is a fault at once: see transport.SetHeartbeatHandler.
//
// The group goes on without the node. Started again, it knows what is really on its disk. Snapshots are not
// watched: they are written beside all this, and one that fails is missing and nothing else.
type disk struct {
	limit time.Duration
	fault func(error)

	mu        sync.Mutex
	failing   *time.Timer // runs from the first failed write until one succeeds
	truncated bool        // entries were cut off the end, and none written since
	closed    bool

	// raising holds the highest term that was written; whoever takes it may write. A channel and not a
	// mutex, because it is held while the disk is busy.
	raising chan uint64
}

func newDisk(limit time.Duration, fault func(error)) *disk {
	d := &disk{limit: limit, fault: fault, raising: make(chan uint64, 1)}
	d.raising <- 0
	return d
}

// stalled is how much of the limit is measured again before a call is said to hang. A process that was
// itself stopped finds all of the limit gone; this much time it then has to see its call return.
func (d *disk) stalled() time.Duration { return d.limit / 4 }

// call times one call. The timers run on goroutines of their own: the caller may never come back.
func (d *disk) call(what string, f func() error) error {
	var returned atomic.Bool
	first := time.AfterFunc(d.limit-d.stalled(), func() {
		time.AfterFunc(d.stalled(), func() {
			if !returned.Load() {
				d.report(fmt.Errorf("the disk hangs: %s has not returned for %v", what, d.limit))
			}
		})
	})
	err := protect(f)
	returned.Store(true)
	first.Stop()
	return err
}

func (d *disk) report(err error) {
	d.mu.Lock()
	closed := d.closed
	d.mu.Unlock()
	if !closed {
		d.fault(advise(err))
	}
}

// read is a call that does not change anything. That an entry or a key is not there is an answer.
func (d *disk) read(what string, f func() error) error {
	err := d.call(what, f)
	if err != nil && !errors.Is(err, raft.ErrLogNotFound) && !absent(err) {
		d.report(fmt.Errorf("%s: %w", what, err))
	}
	return err
}

// absent recognizes a missing key as raft does: by the text, there is no sentinel.
func absent(err error) bool { return err.Error() == "not found" }

// write is a call that raft tries again when it fails.
func (d *disk) write(what string, f func() error) error {
	err := d.call(what, f)
	if errors.Is(err, ErrDamaged) {
		// bbolt was left in the middle of it: what it wrote next might not fit what it wrote before.
		d.report(fmt.Errorf("%s: %w", what, err))
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case err == nil && d.failing != nil:
		d.failing.Stop()
		d.failing = nil
	case err != nil && d.failing == nil:
		d.failing = time.AfterFunc(d.limit, func() {
			d.report(fmt.Errorf("nothing could be written for %v: %s: %w", d.limit, what, err))
		})
	}
	return err
}

// must is a call that has to succeed.
func (d *disk) must(what string, f func() error) error {
	err := d.call(what, f)
	if err != nil {
		d.report(fmt.Errorf("%s: %w", what, err))
	}
	return err
}

func (d *disk) close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
	if d.failing != nil {
		d.failing.Stop()
	}
}

// watchedLog is the log, watched.
type watchedLog struct {
	log raft.LogStore
	*disk
}

func (l watchedLog) FirstIndex() (i uint64, err error) {
	err = l.read("find the first log entry", func() error { i, err = l.log.FirstIndex(); return err })
	return i, err
}

func (l watchedLog) LastIndex() (i uint64, err error) {
	err = l.read("find the last log entry", func() error { i, err = l.log.LastIndex(); return err })
	return i, err
}

func (l watchedLog) GetLog(index uint64, entry *raft.Log) error {
	return l.read("read a log entry", func() error { return l.log.GetLog(index, entry) })
}

func (l watchedLog) StoreLog(entry *raft.Log) error { return l.StoreLogs([]*raft.Log{entry}) }

func (l watchedLog) StoreLogs(entries []*raft.Log) error {
	err := l.write("write log entries", func() error { return l.log.StoreLogs(entries) })
	l.mu.Lock()
	truncated := l.truncated
	l.truncated = truncated && err != nil
	l.mu.Unlock()
	if truncated && err != nil {
		l.report(fmt.Errorf("write log entries in the place of others: %w", err))
	}
	return err
}

func (l watchedLog) DeleteRange(first, last uint64) error {
	end, err := l.LastIndex()
	if err != nil {
		return err
	}
	err = l.write("delete log entries", func() error { return l.log.DeleteRange(first, last) })
	if err == nil && last >= end {
		l.mu.Lock()
		l.truncated = true
		l.mu.Unlock()
	}
	return err
}

// The keys under which raft v1.8.0 keeps its term and its vote.
const (
	keyTerm          = "CurrentTerm"
	keyVoteTerm      = "LastVoteTerm"
	keyVoteCandidate = "LastVoteCand"
)

// watchedStable is where raft keeps its term and its vote, watched.
//
// Raft writes a vote as two keys, the term first. If the node stopped in between, it would find the new
// term with the candidate of an older one, and if that candidate asked, grant it a vote as one already
// given, without comparing their logs: a leader that lacks committed entries. Here the candidate is
// written first. Then the node finds the new candidate with an older term, in which nobody asks any more.
type watchedStable struct {
	stable raft.StableStore
	*disk
	voteTerm *uint64 // not written yet. Only raft's main goroutine votes
}

func newWatchedStable(s raft.StableStore, d *disk) watchedStable {
	return watchedStable{stable: s, disk: d, voteTerm: new(uint64)}
}

func (s watchedStable) Set(key, value []byte) error {
	if err := s.must("write "+string(key), func() error { return s.stable.Set(key, value) }); err != nil {
		return err
	}
	if !bytes.Equal(key, []byte(keyVoteCandidate)) || *s.voteTerm == 0 {
		return nil
	}
	term := *s.voteTerm
	*s.voteTerm = 0
	return s.must("write "+keyVoteTerm, func() error { return s.stable.SetUint64([]byte(keyVoteTerm), term) })
}

func (s watchedStable) SetUint64(key []byte, value uint64) error {
	switch string(key) {
	case keyVoteTerm:
		*s.voteTerm = value
		return nil
	case keyTerm:
		return s.raise(value)
	}
	return s.must("write "+string(key), func() error { return s.stable.SetUint64(key, value) })
}

// raise writes the term, and never a lower one than before. It may be called on raft's main goroutine and on
// those of heartbeats at once; they take turns, so that the order of the writes is that of the comparisons.
func (s watchedStable) raise(term uint64) error {
	return s.must("write "+keyTerm, func() error {
		highest := <-s.raising
		defer func() { s.raising <- highest }()
		if term < highest {
			return fmt.Errorf("the term would go back from %d to %d", highest, term)
		}
		if err := s.stable.SetUint64([]byte(keyTerm), term); err != nil {
			return err
		}
		highest = term
		return nil
	})
}

func (s watchedStable) Get(key []byte) (value []byte, err error) {
	err = s.read("read "+string(key), func() error { value, err = s.stable.Get(key); return err })
	return value, err
}

func (s watchedStable) GetUint64(key []byte) (value uint64, err error) {
	err = s.read("read "+string(key), func() error { value, err = s.stable.GetUint64(key); return err })
	return value, err
}

package ledger

import (
	"context"
	"fmt"
	"slices"
	"sort"
	"sync"

	"github.com/witnessd/witnessd/witnessd/pair"
)

// Ledger is the replicated state of all pairs. Apply and Restore are for one goroutine, that of the
// replicated log; everything else may be called by any at any time.
type Ledger struct {
	mu      sync.RWMutex
	state   state
	watches map[*Watch]struct{}
	waiters []waiter
}

// waiter is a WaitApplied; its channel is closed once index is applied.
type waiter struct {
	index uint64
	done  chan struct{}
}

// New returns the ledger of a witness without pairs.
func New() *Ledger {
	return &Ledger{state: newState(), watches: map[*Watch]struct{}{}}
}

// Apply carries out one entry of the log and returns a [Result]. An entry that this release does not
// understand ends the process.
func (l *Ledger) Apply(index, term uint64, data []byte) any {
	e, err := decodeEntry(data)
	if err != nil {
		panic(fmt.Sprintf("ledger: log entry %d: %v: %s", index, err, upgrade))
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	result, changes := l.state.apply(index, term, e)
	for _, c := range changes {
		for w := range l.watches {
			w.offer(c)
		}
	}
	l.wake()
	return result
}

// Pair returns the pair, or the tombstone, with this id.
func (l *Ledger) Pair(id pair.ID) (pair.Record, bool) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	e, ok := l.state.pairs[id]
	if !ok {
		return pair.Record{}, false
	}
	return e.record, true
}

// PairByName returns the live pair of this name. A removed pair gives its name free; its tombstone is found
// by id, and its events by either.
func (l *Ledger) PairByName(name string) (pair.Record, bool) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	i, ok := l.state.find(name)
	if !ok {
		return pair.Record{}, false
	}
	return l.state.pairs[l.state.live[i]].record, true
}

// Pairs returns the live pairs by name.
func (l *Ledger) Pairs() []pair.Record {
	entries := l.entries()
	records := make([]pair.Record, len(entries))
	for i, e := range entries {
		records[i] = e.record
	}
	return records
}

// entries holds the lock only for as long as it takes to copy pointers.
func (l *Ledger) entries() []*entry {
	l.mu.RLock()
	defer l.mu.RUnlock()
	entries := make([]*entry, len(l.state.live))
	for i, id := range l.state.live {
		entries[i] = l.state.pairs[id]
	}
	return entries
}

// EventFilter chooses events.
type EventFilter struct {
	// Pair chooses one pair: its events among the last 10,000 of all pairs and in any case its last 100 (of
	// a removed pair its last 10). Empty means all pairs, and the last 10,000 events without gaps.
	Pair pair.ID
	// After chooses events with higher sequences. An asker for all pairs who goes on where it stopped has
	// missed events if the first sequence it gets is not After+1.
	After uint64
	// Limit bounds the answer to the oldest events chosen; zero means no bound.
	Limit int
	// Newest makes Limit keep the newest ones instead.
	Newest bool
}

// Events returns the history, the oldest event first.
func (l *Ledger) Events(f EventFilter) []Event {
	h, e := l.historyOf(f.Pair)
	var chosen []*Event
	switch {
	case f.Pair == "":
		chosen = last(h.window, windowEvents)
	case e != nil:
		chosen = h.of(f.Pair, e)
	}
	chosen = chosen[sort.Search(len(chosen), func(i int) bool { return chosen[i].Sequence > f.After }):]
	if f.Limit > 0 && len(chosen) > f.Limit {
		if f.Newest {
			chosen = last(chosen, f.Limit)
		} else {
			chosen = chosen[:f.Limit]
		}
	}
	events := make([]Event, len(chosen))
	for i, event := range chosen {
		events[i] = *event
	}
	return events
}

func (l *Ledger) historyOf(id pair.ID) (history, *entry) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.state.history, l.state.pairs[id]
}

// Nodes returns the witness's nodes by id.
func (l *Ledger) Nodes() []Node {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return slices.Clone(l.state.nodes)
}

// AppliedIndex is the index of the last entry that this node has applied.
func (l *Ledger) AppliedIndex() uint64 {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.state.applied
}

// Generation counts the restores of the witness (rule R15).
func (l *Ledger) Generation() uint64 {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.state.generation
}

// FirstRevision is the revision at which a new pair starts: a command that creates one must name it. Like
// any revision it is decided on once; a restore in between makes the command stale.
func (l *Ledger) FirstRevision() pair.Revision { return pair.NewRevision(l.Generation()) }

// WaitApplied waits until this node has applied the entry of that index, say to read what was written
// through another node. The index must be that of an entry of this ledger, as in [Result] and [Change]: the
// log also has entries of Raft's own, which never come here.
func (l *Ledger) WaitApplied(ctx context.Context, index uint64) error {
	done := l.await(index)
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		l.forget(done)
		return fmt.Errorf("wait until log entry %d is applied: %w", index, context.Cause(ctx))
	}
}

func (l *Ledger) await(index uint64) chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	done := make(chan struct{})
	l.waiters = append(l.waiters, waiter{index: index, done: done})
	l.wake()
	return done
}

func (l *Ledger) forget(done chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.waiters = slices.DeleteFunc(l.waiters, func(w waiter) bool { return w.done == done })
}

// wake ends the waits that are over. The caller holds the lock.
func (l *Ledger) wake() {
	l.waiters = slices.DeleteFunc(l.waiters, func(w waiter) bool {
		over := w.index <= l.state.applied
		if over {
			close(w.done)
		}
		return over
	})
}

package ledger

import (
	"cmp"
	"slices"
	"sort"

	"github.com/witnessd/witnessd/witnessd/pair"
)

// How much history is kept. All three are bounds on memory and on the size of a snapshot: with 5,000 pairs
// that have all used up their share, about 150 MB.
const (
	// windowEvents are kept of all pairs together, without gaps.
	windowEvents = 10_000
	// keptEvents are kept of each live pair, so that a busy pair does not push out another's last failover.
	keptEvents = 100
	// keptRemoved are kept of each tombstone: who removed the pair, and why.
	keptRemoved = 10
)

// Event is one line of the history.
type Event struct {
	Sequence uint64 // counts the events of all pairs, from 1 and without gaps
	At       int64  // the leader's wall clock in milliseconds; never goes backwards
	Fact     pair.Fact
}

// history holds the events of all pairs. Events are added behind what readers and snapshots hold, never
// changed; a slice that has grown to twice its bound is replaced, not moved.
type history struct {
	sequence uint64 // of the last event
	at       int64  // of the last event
	window   []*Event
}

func (h *history) add(at int64, f pair.Fact) *Event {
	h.sequence++
	h.at = max(h.at, at)
	event := &Event{Sequence: h.sequence, At: h.at, Fact: f}
	h.window = appendKept(h.window, event, windowEvents)
	return event
}

// appendKept appends and, at twice the bound, lets go of all but the last. Sliced from a reader's copy the
// old array stays as it is, hence the new one.
func appendKept(events []*Event, e *Event, bound int) []*Event {
	if len(events) >= 2*bound {
		events = append(make([]*Event, 0, 2*bound), last(events, bound-1)...)
	}
	return append(events, e)
}

// last returns the last n events, or all if there are fewer.
func last(events []*Event, n int) []*Event { return events[max(0, len(events)-n):] }

// all merges the window with what is kept of each pair from before it, in the order of sequences.
func (h history) all(pairs map[pair.ID]*entry) []*Event {
	window := last(h.window, windowEvents)
	var older []*Event
	for _, e := range pairs {
		older = append(older, before(e.keep(), window)...)
	}
	slices.SortFunc(older, bySequence)
	return append(older, window...)
}

// of merges what is kept of a pair with the window's events of it.
func (h history) of(id pair.ID, e *entry) []*Event {
	window := last(h.window, windowEvents)
	events := slices.Clone(before(e.keep(), window))
	for _, event := range window {
		if event.Fact.Pair == id {
			events = append(events, event)
		}
	}
	return events
}

// keep returns the events that are kept for this pair's sake.
func (e *entry) keep() []*Event {
	if e.record.Stage == pair.StageRemoved {
		return last(e.kept, keptRemoved)
	}
	return last(e.kept, keptEvents)
}

// before returns the events with sequences below those of the window.
func before(events, window []*Event) []*Event {
	if len(window) == 0 {
		return events
	}
	return events[:sort.Search(len(events), func(i int) bool { return events[i].Sequence >= window[0].Sequence })]
}

func bySequence(a, b *Event) int { return cmp.Compare(a.Sequence, b.Sequence) }

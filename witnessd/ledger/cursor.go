package ledger

import (
	"cmp"
	"fmt"
	"slices"

	logv1 "github.com/witnessd/witnessd/proto/gen/witnesslog/v1"
)

// Level is what this release reads of what was added to the log's format since the first one.
const Level = 1

// Cursor is how far a webhook has come in the history.
type Cursor struct {
	Webhook  string // its name in the configuration
	Sequence uint64 // of the last event that it is through with
}

// maxCursors bounds what configurations can make the ledger remember, whose names come and go.
const maxCursors = 100

// Level is what every node reads, by the log's own word. What is of a higher level must not be proposed yet:
// a node that does not know it would stop.
func (l *Ledger) Level() uint32 {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.state.level
}

// Delivered says how far a webhook has come; false if it has not begun.
func (l *Ledger) Delivered(webhook string) (sequence uint64, begun bool) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	i, begun := l.state.findCursor(webhook)
	if !begun {
		return 0, false
	}
	return l.state.cursors[i].Sequence, true
}

// LastSequence is that of the newest event; 0 before the first.
func (l *Ledger) LastSequence() uint64 {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.state.history.sequence
}

// raise panics at a level that this release does not know, as at a field: what may follow, it cannot read.
func (s *state) raise(level uint32) {
	if level > Level {
		panic(fmt.Sprintf("ledger: the log is raised to level %d, this release reads %d: %s", level, Level, upgrade))
	}
	s.level = max(s.level, level)
}

// deliver moves cursors on. One that would move back, or beyond the history, comes of a leader that was deposed, or
// of a log that was restored since; it stays where it is.
func (s *state) deliver(moved []*logv1.Cursor) {
	s.cursors = slices.Clone(s.cursors) // snapshots and readers hold the old ones
	for _, m := range moved {
		c := toCursor(m)
		i, begun := s.findCursor(c.Webhook)
		switch {
		case c.Webhook == "", c.Sequence > s.history.sequence:
		case begun:
			s.cursors[i].Sequence = max(s.cursors[i].Sequence, c.Sequence)
		default:
			s.cursors = slices.Insert(s.cursors, i, c)
		}
	}
	for len(s.cursors) > maxCursors { // the one that is farthest behind is of a webhook that is long gone
		least := slices.MinFunc(s.cursors, func(a, b Cursor) int {
			return cmp.Or(cmp.Compare(a.Sequence, b.Sequence), cmp.Compare(a.Webhook, b.Webhook))
		})
		s.cursors = slices.DeleteFunc(s.cursors, func(c Cursor) bool { return c == least })
	}
}

func (s *state) findCursor(webhook string) (int, bool) {
	return slices.BinarySearchFunc(s.cursors, webhook, func(c Cursor, name string) int {
		return cmp.Compare(c.Webhook, name)
	})
}

func (s *state) takeCursor(c Cursor) error {
	if last := len(s.cursors) - 1; last >= 0 && s.cursors[last].Webhook >= c.Webhook {
		return fmt.Errorf("cursor of webhook %s after that of %s", c.Webhook, s.cursors[last].Webhook)
	}
	if c.Sequence > s.history.sequence {
		return fmt.Errorf("webhook %s is at event %d, and the last is %d", c.Webhook, c.Sequence, s.history.sequence)
	}
	s.cursors = append(s.cursors, c)
	return nil
}

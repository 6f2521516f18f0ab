package kv

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// image is what a log says: which database, which history, which values. On a primary the values are
// those of confirmed commits, and pending holds, key by key, the newest change that still waits.
type image struct {
	system  string
	history History
	values  map[string]string
	pending map[string]pendingChange
}

// pendingChange is a change that is in the log but not confirmed, and the end of its record.
type pendingChange struct {
	change
	end int64
}

func newImage() *image {
	return &image{values: map[string]string{}, pending: map[string]pendingChange{}}
}

// take applies a record that is on disk and needs no confirmation: while a log is read, and on a mirror.
func (m *image) take(r record) error {
	switch r.kind {
	case kindSystem:
		id, ok := systemOf(r)
		if !ok {
			return fmt.Errorf("record at %d: not the first record of a demodb log", r.start)
		}
		m.system = id
	case kindTimeline:
		t, ok := timelineOf(r)
		if !ok {
			return fmt.Errorf("record at %d: not a timeline", r.start)
		}
		m.history = append(m.history, t)
	case kindProbe:
	default:
		c, ok := changeOf(r)
		if !ok {
			return fmt.Errorf("record at %d: unknown kind %q", r.start, byte(r.kind))
		}
		m.apply(c)
	}
	return nil
}

func (m *image) apply(c change) {
	if c.remove {
		delete(m.values, c.key)
	} else {
		m.values[c.key] = c.value
	}
}

// await notes a change that is in the log and waits for confirmation.
func (m *image) await(c change, end int64) { m.pending[c.key] = pendingChange{c, end} }

// confirm applies a change that waited.
func (m *image) confirm(c change, end int64) {
	m.apply(c)
	if m.pending[c.key].end == end {
		delete(m.pending, c.key)
	}
}

// newest is the value that the next change of the key builds on: that of the log's end, waiting changes
// included. INCR and DEL need it; a GET must not see it.
func (m *image) newest(key string) (string, bool) {
	if p, ok := m.pending[key]; ok {
		return p.value, !p.remove
	}
	v, ok := m.values[key]
	return v, ok
}

// next is the value after INCR.
func (m *image) next(key string) (int64, error) {
	v, ok := m.newest(key)
	if !ok {
		return 1, nil
	}
	n, err := strconv.ParseInt(v, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("the value of %s is not a number", key)
	}
	return n + 1, nil
}

func (m *image) count(prefix string) int {
	if prefix == "" {
		return len(m.values)
	}
	n := 0
	for k := range m.values {
		if strings.HasPrefix(k, prefix) {
			n++
		}
	}
	return n
}

// scan returns up to limit changes that would make the values with the prefix, in the order of keys.
func (m *image) scan(prefix string, limit int) []change {
	var found []change
	for k, v := range m.values {
		if strings.HasPrefix(k, prefix) {
			found = append(found, change{key: k, value: v})
		}
	}
	slices.SortFunc(found, func(a, b change) int { return strings.Compare(a.key, b.key) })
	return found[:min(limit, len(found))]
}

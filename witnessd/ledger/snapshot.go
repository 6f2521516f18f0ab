package ledger

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"

	logv1 "github.com/witnessd/witnessd/proto/gen/witnesslog/v1"
	"github.com/witnessd/witnessd/witnessd/pair"
)

// Snapshot takes at once a picture of the state; the function it returns writes it, while Apply goes on. Two
// nodes that have applied the same entries write the same bytes.
func (l *Ledger) Snapshot() (func(io.Writer) error, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.state.shared = true
	frozen := l.state
	return frozen.write, nil
}

// Restore replaces the state by that of a snapshot. If the snapshot is damaged, or of a newer release, it
// says so and the state stays as it was.
func (l *Ledger) Restore(r io.Reader) error {
	s, err := readState(r)
	if err != nil {
		return fmt.Errorf("restore ledger: %w", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.state = s
	for w := range l.watches {
		w.end(ErrLagged)
	}
	l.wake()
	return nil
}

// Restored is a snapshot of the next generation, for `witnessd restore` (rule R15).
type Restored struct{ state state }

// ReadSnapshot reads a snapshot and opens the next generation in it: every pair takes a Restore command, just
// as if the log had brought one. at is the wall clock in milliseconds, for the history. What comes out begins
// a new log, so its applied index is 0.
func ReadSnapshot(r io.Reader, at int64) (*Restored, error) {
	s, err := readState(r)
	if err != nil {
		return nil, fmt.Errorf("read snapshot: %w", err)
	}
	result, _ := s.restore(0, 0, at)
	if result.Refusal != nil {
		return nil, fmt.Errorf("read snapshot: %w", result.Refusal)
	}
	s.applied = 0
	return &Restored{state: s}, nil
}

// Generation is the new generation.
func (r *Restored) Generation() uint64 { return r.state.generation }

// Pairs returns the live pairs by name, as the new generation begins with them.
func (r *Restored) Pairs() []pair.Record {
	records := make([]pair.Record, len(r.state.live))
	for i, id := range r.state.live {
		records[i] = r.state.pairs[id].record
	}
	return records
}

// Write writes the snapshot.
func (r *Restored) Write(w io.Writer) error { return r.state.write(w) }

// write must not change the state: it runs beside Apply on the same maps and slices.
func (s state) write(w io.Writer) error {
	out := newPartWriter(w)
	out.put(&logv1.SnapshotPart{Part: &logv1.SnapshotPart_Header{Header: &logv1.SnapshotHeader{
		AppliedIndex: s.applied, Generation: s.generation,
		LastSequence: s.history.sequence, LastAtMs: s.history.at, Level: s.level,
	}}})
	for _, n := range s.nodes {
		out.put(&logv1.SnapshotPart{Part: &logv1.SnapshotPart_Node{Node: fromNode(n)}})
	}
	for _, c := range s.cursors {
		out.put(&logv1.SnapshotPart{Part: &logv1.SnapshotPart_Cursor{Cursor: fromCursor(c)}})
	}
	for _, id := range slices.Sorted(maps.Keys(s.pairs)) {
		out.put(&logv1.SnapshotPart{Part: &logv1.SnapshotPart_Pair{Pair: fromRecord(s.pairs[id].record)}})
	}
	for _, e := range s.history.all(s.pairs) {
		out.put(&logv1.SnapshotPart{Part: &logv1.SnapshotPart_Event{Event: fromEvent(e)}})
	}
	return out.finish()
}

// readState reads a snapshot to its end and checks that it is whole.
func readState(r io.Reader) (state, error) {
	in, err := newPartReader(r)
	if err != nil {
		return state{}, err
	}
	s := newState()
	for {
		part, err := in.next()
		if err != nil {
			return state{}, fmt.Errorf("part %d: %w", in.parts, err)
		}
		if end := part.GetEnd(); end != nil {
			return s, in.finish(end)
		}
		if err := s.take(part, in.parts == 0); err != nil {
			return state{}, fmt.Errorf("part %d: %w", in.parts, err)
		}
		in.parts++
	}
}

// take adds one part to a state that is being read.
func (s *state) take(part *logv1.SnapshotPart, first bool) error {
	if header, ok := part.GetPart().(*logv1.SnapshotPart_Header); ok != first {
		return errors.New("a snapshot has one header, at its beginning")
	} else if ok {
		s.applied, s.generation = header.Header.GetAppliedIndex(), header.Header.GetGeneration()
		s.history.sequence, s.history.at = header.Header.GetLastSequence(), header.Header.GetLastAtMs()
		s.level = header.Header.GetLevel()
		if s.level > Level {
			return fmt.Errorf("snapshot of level %d, this release reads %d: %s", s.level, Level, upgrade)
		}
		return nil
	}
	switch p := part.GetPart().(type) {
	case *logv1.SnapshotPart_Node:
		return s.takeNode(toNode(p.Node))
	case *logv1.SnapshotPart_Cursor:
		return s.takeCursor(toCursor(p.Cursor))
	case *logv1.SnapshotPart_Pair:
		return s.takePair(p.Pair)
	case *logv1.SnapshotPart_Event:
		return s.takeEvent(toEvent(p.Event))
	default:
		return errors.New("nothing that this release knows: " + upgrade)
	}
}

func (s *state) takeNode(n Node) error {
	if last := len(s.nodes) - 1; last >= 0 && s.nodes[last].ID >= n.ID {
		return fmt.Errorf("node %s after node %s", n.ID, s.nodes[last].ID)
	}
	s.nodes = append(s.nodes, n)
	return nil
}

func (s *state) takePair(m *logv1.Pair) error {
	var d decoder
	record := d.record(m)
	if d.err != nil {
		return fmt.Errorf("pair %s: %w: %s", m.GetId(), d.err, upgrade)
	}
	if record.Stage == 0 || record.Revision.Generation() > s.generation {
		return fmt.Errorf("pair %s is of stage %v and revision %v, and the snapshot of generation %d", record.ID,
			record.Stage, record.Revision, s.generation)
	}
	if _, exists := s.pairs[record.ID]; exists {
		return fmt.Errorf("pair %s comes twice", record.ID)
	}
	if _, taken := s.find(record.Name); taken && record.Stage != pair.StageRemoved {
		return fmt.Errorf("pair %s is not the only one called %s", record.ID, record.Name)
	}
	s.put(&entry{record: record}, 0)
	return nil
}

func (s *state) takeEvent(e *Event) error {
	previous := uint64(0)
	if n := len(s.history.window); n > 0 {
		previous = s.history.window[n-1].Sequence
	}
	if e.Sequence <= previous || e.Sequence > s.history.sequence {
		return fmt.Errorf("event %d after event %d, and the last is %d", e.Sequence, previous, s.history.sequence)
	}
	s.history.window = append(s.history.window, e)
	if of, ok := s.pairs[e.Fact.Pair]; ok {
		of.kept = append(of.kept, e)
	}
	return nil
}

package ledger

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"

	logv1 "github.com/witnessd/witnessd/proto/gen/witnesslog/v1"
	"github.com/witnessd/witnessd/witnessd/pair"
)

// Node is one witness node.
type Node struct {
	ID          string // its name in the Raft configuration
	RaftAddress string // host:port where the other nodes reach it
	APIAddress  string // host:port where agents and clients reach it
}

// Result is what became of one log entry, the same on every node.
type Result struct {
	Index uint64
	// Record is the pair as it is after the entry, also after a refusal; if the name of a new pair is taken,
	// it is the pair that has it. It is zero for an unknown pair and for an entry that is of no pair.
	Record  pair.Record
	Facts   []pair.Fact   // what changed; empty after a refusal
	Refusal *pair.Refusal // nil if the entry was accepted
}

// Change is one accepted change: of a pair, or of the list of nodes. All watchers get the same Change; none
// may write to it.
type Change struct {
	Index  uint64
	Term   uint64    // of the log entry
	Body   pair.Body // what the command was; nil if only the nodes changed
	Before pair.Record
	After  pair.Record
	Events []Event
	Nodes  bool // the list of nodes changed
}

// state is what the log has made so far. It is changed by one goroutine at a time, entry by entry; all that
// it points to stays as it is once it is there, so that readers and snapshots need no copy of it.
type state struct {
	applied    uint64 // index of the last entry
	generation uint64
	pairs      map[pair.ID]*entry
	shared     bool      // a snapshot holds pairs too: it must be cloned before it is written to
	live       []pair.ID // pairs that are not removed, by name
	nodes      []Node    // by ID
	cursors    []Cursor  // by webhook
	level      uint32    // what every node reads, see [Ledger.Level]
	history    history
}

// entry is a pair or its tombstone, with the events that are kept for its sake.
type entry struct {
	record pair.Record
	kept   []*Event
}

func newState() state { return state{pairs: map[pair.ID]*entry{}} }

// apply carries out one log entry, which must come after all that were applied before.
func (s *state) apply(index, term uint64, e *logv1.Entry) (Result, []*Change) {
	if index <= s.applied {
		panic(fmt.Sprintf("ledger: log entry %d comes after entry %d", index, s.applied))
	}
	var d decoder
	var result Result
	var changes []*Change
	switch b := e.GetBody().(type) {
	case *logv1.Entry_Command:
		if c := d.command(b.Command); d.err == nil {
			result, changes = s.command(c, term)
		}
	case *logv1.Entry_Restore:
		result, changes = s.restore(term, b.Restore.GetGeneration(), b.Restore.GetAtMs())
	case *logv1.Entry_SetNode:
		result, changes = s.setNode(toNode(b.SetNode.GetNode()))
	case *logv1.Entry_RemoveNode:
		changes = s.removeNode(b.RemoveNode.GetId())
	case *logv1.Entry_Raise:
		s.raise(b.Raise.GetLevel())
	case *logv1.Entry_Delivered:
		s.deliver(b.Delivered.GetCursors())
	default:
		d.fail("no body that this release knows")
	}
	if d.err != nil {
		panic(fmt.Sprintf("ledger: log entry %d: %v: %s", index, d.err, upgrade))
	}
	s.applied = index
	result.Index = index
	for _, c := range changes {
		c.Index, c.Term = index, term
	}
	return result, changes
}

// command changes one pair, or says why not.
func (s *state) command(c pair.Command, term uint64) (Result, []*Change) {
	before, refusal := s.subject(c)
	if refusal != nil {
		return Result{Record: before.record, Refusal: refusal}, nil
	}
	after, facts, err := before.record.Apply(c, pair.Term(term))
	if err != nil {
		if !errors.As(err, &refusal) {
			panic(fmt.Sprintf("ledger: pair %s: %T is not a refusal: %v", c.Pair, err, err))
		}
		if before.record.Stage == 0 {
			return Result{Refusal: refusal}, nil
		}
		return Result{Record: before.record, Refusal: refusal}, nil
	}
	change := &Change{Body: c.Body, Before: before.record, After: after}
	if before.record.Stage == 0 {
		change.Before = pair.Record{}
	}
	next := &entry{record: after, kept: before.kept}
	for _, f := range facts {
		event := s.history.add(c.At, f)
		change.Events = append(change.Events, *event)
		next.kept = appendKept(next.kept, event, keptEvents)
	}
	if after.Stage == pair.StageRemoved {
		next.kept = slices.Clone(last(next.kept, keptRemoved))
	}
	s.put(next, before.record.Stage)
	return Result{Record: after, Facts: facts}, []*Change{change}
}

// subject finds the record that a command is about. For a new pair it is an empty one, at the first revision
// of the generation, which a Create must name like every other command names the revision it was decided on.
func (s *state) subject(c pair.Command) (entry, *pair.Refusal) {
	there, exists := s.pairs[c.Pair]
	b, create := c.Body.(pair.Create)
	switch {
	case !create && !exists:
		return entry{}, &pair.Refusal{
			Reason: pair.ReasonUnknownPair, Detail: fmt.Sprintf("no pair has the id %s", c.Pair),
		}
	case !create:
		return *there, nil
	case c.Pair == "":
		return entry{}, &pair.Refusal{Reason: pair.ReasonBadSpec, Detail: "a new pair must have an id"}
	case exists:
		return *there, &pair.Refusal{
			Reason: pair.ReasonNameTaken, Do: "choose another id",
			Detail: fmt.Sprintf("id %s is that of pair %s", c.Pair, there.record.Name),
		}
	}
	if i, taken := s.find(b.Name); taken {
		return *s.pairs[s.live[i]], &pair.Refusal{
			Reason: pair.ReasonNameTaken, Do: "choose another name",
			Detail: fmt.Sprintf("pair %s exists", b.Name),
		}
	}
	return entry{record: pair.Record{ID: c.Pair, Name: b.Name, Revision: pair.NewRevision(s.generation)}}, nil
}

// put replaces a pair's entry. was is the stage that the pair had before, zero if it is new.
func (s *state) put(e *entry, was pair.Stage) {
	if s.shared {
		s.pairs, s.shared = maps.Clone(s.pairs), false
	}
	wasLive := was != 0 && was != pair.StageRemoved
	if isLive := e.record.Stage != pair.StageRemoved; isLive != wasLive {
		i, _ := s.find(e.record.Name)
		if isLive {
			s.live = slices.Insert(s.live, i, e.record.ID)
		} else {
			s.live = slices.Delete(s.live, i, i+1)
		}
	}
	s.pairs[e.record.ID] = e
}

// find returns the place of a name among the live pairs.
func (s *state) find(name string) (int, bool) {
	return slices.BinarySearchFunc(s.live, name, func(id pair.ID, name string) int {
		return cmp.Compare(s.pairs[id].record.Name, name)
	})
}

// restore opens a new generation: each live pair takes a Restore command as any other (rule R15).
func (s *state) restore(term, generation uint64, at int64) (Result, []*Change) {
	if generation == 0 {
		generation = s.generation + 1
	}
	if generation <= s.generation || generation > pair.MaximumGeneration {
		return Result{Refusal: &pair.Refusal{
			Reason: pair.ReasonStaleRevision,
			Detail: fmt.Sprintf("generation %d does not follow generation %d", generation, s.generation),
		}}, nil
	}
	s.generation = generation
	var result Result
	var changes []*Change
	for _, id := range slices.Clone(s.live) {
		one, change := s.command(pair.Command{
			Pair: id, Revision: s.pairs[id].record.Revision, Term: pair.Term(term), At: at,
			Body: pair.Restore{Generation: generation},
		}, term)
		if one.Refusal != nil {
			panic(fmt.Sprintf("ledger: pair %s refuses generation %d: %v", id, generation, one.Refusal))
		}
		result.Facts = append(result.Facts, one.Facts...)
		changes = append(changes, change...)
	}
	return result, changes
}

func (s *state) setNode(n Node) (Result, []*Change) {
	if n.ID == "" {
		return Result{Refusal: &pair.Refusal{Reason: pair.ReasonBadSpec, Detail: "a node must have an id"}}, nil
	}
	i, found := s.findNode(n.ID)
	switch {
	case found && s.nodes[i] == n:
		return Result{}, nil
	case found:
		s.nodes = slices.Clone(s.nodes)
		s.nodes[i] = n
	default:
		s.nodes = slices.Insert(slices.Clone(s.nodes), i, n)
	}
	return Result{}, []*Change{{Nodes: true}}
}

func (s *state) removeNode(id string) []*Change {
	i, found := s.findNode(id)
	if !found {
		return nil
	}
	s.nodes = slices.Delete(slices.Clone(s.nodes), i, i+1)
	return []*Change{{Nodes: true}}
}

func (s *state) findNode(id string) (int, bool) {
	return slices.BinarySearchFunc(s.nodes, id, func(n Node, id string) int { return cmp.Compare(n.ID, id) })
}

package main

import (
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/witnessd/witnessd/witnessd/pair"
)

// A search is breadth-first: what it finds first is a shortest way to it. States are remembered by a fingerprint of
// 64 bits; that two of ten million share one has a chance of about one in 400,000, and would hide a state, not
// invent one.

const shards = 64

// seen remembers how a state was reached first.
type seen struct {
	parent uint64
	move   move
}

type visited struct {
	shard [shards]struct {
		sync.Mutex
		states map[uint64]seen
	}
}

func newVisited() *visited {
	v := &visited{}
	for k := range v.shard {
		v.shard[k].states = map[uint64]seen{}
	}
	return v
}

// add says whether the state is new.
func (v *visited) add(mark uint64, how seen) bool {
	s := &v.shard[mark%shards]
	s.Lock()
	defer s.Unlock()
	if _, old := s.states[mark]; old {
		return false
	}
	s.states[mark] = how
	return true
}

func (v *visited) has(mark uint64) bool {
	s := &v.shard[mark%shards]
	s.Lock()
	defer s.Unlock()
	_, ok := s.states[mark]
	return ok
}

func (v *visited) how(mark uint64) (seen, bool) {
	s := &v.shard[mark%shards]
	h, ok := s.states[mark]
	return h, ok
}

func (v *visited) count() int {
	n := 0
	for k := range v.shard {
		s := &v.shard[k]
		s.Lock()
		n += len(s.states)
		s.Unlock()
	}
	return n
}

// node is a state that was not explored yet.
type node struct {
	state *state
	mark  uint64
}

// result is what a search has seen.
type result struct {
	family   string
	start    string
	budget   int
	states   int
	moves    int
	depth    int
	complete bool // every state within the budget was seen
	took     time.Duration
	// violation is what was found first, and trace how to get there; empty if nothing was.
	violation string
	trace     string
}

func (r result) String() string {
	how := "complete"
	if !r.complete {
		how = "bounded"
	}
	return fmt.Sprintf("%-10s from %-14s %d faults  %9d states  %10d moves  depth %4d  %-8s %6.1f s", r.family, r.start,
		r.budget, r.states, r.moves, r.depth, how, r.took.Seconds())
}

// search explores what a family of faults can make of a start state.
type search struct {
	family  *family
	limit   int // of states
	workers int
	visited *visited
	good    *visited // states without faults from which the pair is known to come back

	mu    sync.Mutex
	found *finding
	moves int
}

type finding struct {
	what string
	at   uint64
	last *move // from at, if the violation is in the move itself
}

func (q *search) run(start *state, name string, progress io.Writer) result {
	began := time.Now()
	q.visited = newVisited()
	start.faults = q.family.budget
	var e encoder
	first := node{start, e.fingerprint(start)}
	q.visited.add(first.mark, seen{})
	level, depth := []node{first}, 0
	told := began
	for len(level) > 0 && q.found == nil && (q.limit == 0 || q.visited.count() < q.limit) {
		level = q.expand(level)
		depth++
		if time.Since(told) > 2*time.Second && progress != nil {
			told = time.Now()
			_, _ = fmt.Fprintf(progress, "\r  %s from %s: depth %d, %d states, %d to explore ...\x1b[K",
				q.family.name, name, depth, q.visited.count(), len(level))
		}
	}
	if progress != nil {
		_, _ = fmt.Fprint(progress, "\r\x1b[K")
	}
	r := result{family: q.family.name, start: name, budget: q.family.budget, states: q.visited.count(), moves: q.moves,
		depth: depth, complete: len(level) == 0, took: time.Since(began)}
	if q.found != nil {
		r.violation, r.complete = q.found.what, false
		r.trace = q.trace(start, first.mark)
	}
	return r
}

// expand explores the states of one level, and returns those of the next.
func (q *search) expand(level []node) []node {
	next := make([][]node, q.workers)
	var wait sync.WaitGroup
	for w := range q.workers {
		wait.Go(func() {
			var e encoder
			var moves []move
			tried := 0
			for k := w; k < len(level); k += q.workers {
				n := level[k]
				level[k].state = nil // the memory of a level goes while the next one comes
				moves = q.family.moves(n.state, moves[:0])
				for _, m := range moves {
					s := q.family.after(n.state, m)
					if s == nil {
						continue
					}
					tried++
					if s.violation != "" {
						q.report(&finding{what: s.violation, at: n.mark, last: &m})
						return
					}
					mark := e.fingerprint(s)
					if q.visited.add(mark, seen{n.mark, m}) {
						next[w] = append(next[w], node{s, mark})
					}
				}
				if len(n.state.queue) > 0 {
					continue
				}
				if why := q.deadEnd(n.state, &e); why != "" {
					q.report(&finding{what: why, at: n.mark})
					return
				}
			}
			q.mu.Lock()
			q.moves += tried
			q.mu.Unlock()
		})
	}
	wait.Wait()
	var all []node
	for _, part := range next {
		all = append(all, part...)
	}
	return all
}

func (q *search) report(f *finding) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.found == nil {
		q.found = f
	}
}

// comeback is how long a pair may take to be armed again after all faults: two procedures that time out, and the
// longest waits of a restored witness.
const comeback = 60

// deadEnd says why the pair does not end serving and armed if all faults stop now, "" if it does.
func (q *search) deadEnd(s *state, e *encoder) string {
	n := s.successor()
	n.mend()
	var path []uint64
	for range comeback {
		n.rest()
		if n.violation != "" {
			return "when all faults have ended: " + n.violation
		}
		mark := e.fingerprint(n)
		if n.well() || q.good.has(mark) {
			for _, p := range append(path, mark) {
				q.good.add(p, seen{})
			}
			return ""
		}
		path = append(path, mark)
		n.help()
		n.pass()
		n.settle()
	}
	return "dead end: when all faults have ended, the pair does not come back"
}

// mend ends all faults. Messages that were held up are lost; what a database or the log was asked to do comes to its
// end.
func (s *state) mend() {
	s.faults, s.cuts, s.stall, s.off, s.moves = 0, 0, false, -1, 0
	for _, i := range s.late {
		if i.kind == commit || i.kind == done {
			s.queue = append(s.queue, i)
		}
	}
	s.late = nil
	for x := range side(both) {
		switch h := s.hosts[x]; {
		case h.frozen:
			s.wake(x)
		case !h.alive:
			s.boot(x)
		}
	}
	if s.leader == nil {
		s.elect(false)
	}
	s.stale = nil
	s.settle()
}

// rest lets everything of this instant happen.
func (s *state) rest() {
	for len(s.queue) > 0 && s.violation == "" {
		s.moves++
		s.process(s.next(), survives)
		s.settle()
		s.queue = append(s.queue, s.late...)
		s.late = nil
	}
}

// help is what an operator does for a pair that waits for one: resume it, and speak for an epoch file that is gone.
func (s *state) help() {
	switch {
	case s.record.Stage == pair.StageRestored:
		for x := range side(both) {
			if h := s.hosts[x]; !h.known || h.file.Epoch == 0 {
				s.decide(pair.Ask{Wish: pair.WishSpeak{Host: name(x), By: "op"}})
			}
		}
	case s.record.Mode != pair.ModeAutomatic && s.record.Procedure == nil:
		s.wish(resume)
	}
}

// well says that the pair serves, is armed, and has lost nothing.
func (s *state) well() bool {
	p := sideOf(string(s.record.Primary))
	if !s.record.Armed() || s.record.Procedure != nil || !s.open(p) {
		return false
	}
	if s.lacking(p) != 0 {
		s.violate("G2: acknowledged writes are lost")
		return false
	}
	return s.receives(p) && s.hosts[p].db.held
}

// trace replays the way to what was found, for people.
func (q *search) trace(start *state, first uint64) string {
	var path []move
	if q.found.last != nil {
		path = append(path, *q.found.last)
	}
	for at := q.found.at; at != first; {
		how, ok := q.visited.how(at)
		if !ok {
			return "the way there was lost"
		}
		path = append(path, how.move)
		at = how.parent
	}
	t := &tracer{}
	s := start.successor()
	for _, m := range slices.Backward(path) {
		t.move(s, m)
		n := q.family.after(s, m)
		if n == nil {
			return t.String() + "the way there cannot be gone again"
		}
		s = n
		t.state(s)
	}
	if s.violation == "" {
		t.line(s, "all faults end")
		s = s.successor()
		s.mend()
		for range comeback {
			s.rest()
			t.state(s)
			if s.violation != "" || s.well() {
				break
			}
			s.help()
			s.pass()
			s.settle()
		}
	}
	t.line(s, "VIOLATION: "+q.found.what)
	return t.String()
}

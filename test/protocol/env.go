package protocol

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/witnessd/witnessd/witnessd/pair"
)

const (
	hop     = 2 * time.Millisecond  // one message
	confirm = 30 * time.Millisecond // an exchange with a quorum (R2)
	commit  = 5 * time.Millisecond  // a log entry
	tick    = 20 * time.Millisecond
	look    = 200 * time.Millisecond
	writing = 10 * time.Millisecond // between two writes of a client
)

// env is what all pairs share: time, the network, the hosts' agents and the leadership of the witness.
type env struct {
	now    time.Duration
	queue  events
	seq    int
	cuts   map[string]bool // "a>b", "a>w", ...
	agents []*agent        // by name
	pairs  []*world

	reign     *reign // nil: no quorum
	lastReign *reign // the one before, which may not know that it is over
	term      pair.Term
	group     int // how often the witness was restored: its nodes are others after that

	chance
	told   bool // a trace is wanted
	trace  []string
	faults []string // violations
}

// chance is what a random schedule decides as it goes. What is nil, or zero, is as in a scenario: exact.
type chance struct {
	delay  func() time.Duration       // of one message; nil: always one hop
	double func() bool                // whether a message arrives twice
	drop   func(from, to string) bool // whether a message is lost
	// outlive says whether what a leader proposed a moment before its end is in the log; nil: never.
	outlive func() bool
	// linger is how long a leader that was deposed goes on without knowing it.
	linger func() time.Duration
	// stray says whether a command of such a leader gets into the log of a later term, or a heartbeat to it.
	stray func() bool
	clock func() (rate float64, offset pair.Instant) // of a new leader's node

	quorum  func() time.Duration // what an exchange with a quorum takes
	commits func() time.Duration // what a log entry takes
	ticks   func() time.Duration // between two ticks of an agent
	turns   func() time.Duration // between two ticks of a leader
	lag     func() time.Duration // of a fence of level engine
	rhythm  time.Duration        // of a client's writes
	pace    float64              // how many times longer than usual operations of databases take
}

func newEnv() *env { return &env{cuts: map[string]bool{}} }

func (e *env) after(d time.Duration, do func()) {
	e.seq++
	e.queue.push(timed{at: e.now + d, seq: e.seq, do: do})
}

// run lets the world go on for d.
func (e *env) run(d time.Duration) {
	end := e.now + d
	for len(e.queue) > 0 && e.queue[0].at <= end {
		next := e.queue.pop()
		e.now = next.at
		next.do()
		for _, w := range e.pairs {
			w.check()
		}
	}
	e.now = end
}

// until runs until the condition holds, and says whether it did within the limit.
func (e *env) until(limit time.Duration, ok func() bool) bool {
	for end := e.now + limit; e.now < end; {
		if ok() {
			return true
		}
		e.run(10 * time.Millisecond)
	}
	return ok()
}

func (e *env) logf(format string, args ...any) {
	if e.told {
		e.trace = append(e.trace, fmt.Sprintf("%9.3f  ", e.now.Seconds())+fmt.Sprintf(format, args...))
	}
}

func (e *env) String() string { return strings.Join(e.trace, "\n") }

func (e *env) send(from, to string, do func()) {
	if len(e.cuts) > 0 && e.cuts[from+">"+to] || e.drop != nil && e.drop(from, to) {
		return
	}
	if e.delay == nil {
		e.after(hop, do)
		return
	}
	e.after(e.delay(), do)
	if e.double() {
		e.after(e.delay(), do)
	}
}

// cut breaks both directions between two parties ("w" is the witness); heal mends them.
func (e *env) cut(x, y string) {
	e.cuts[x+">"+y], e.cuts[y+">"+x] = true, true
	e.logf("cut %s-%s", x, y)
}

func (e *env) heal(x, y string) {
	delete(e.cuts, x+">"+y)
	delete(e.cuts, y+">"+x)
	e.logf("heal %s-%s", x, y)
}

// oneWay breaks one direction.
func (e *env) oneWay(from, to string) {
	e.cuts[from+">"+to] = true
	e.logf("cut %s>%s", from, to)
}

// linkCut says whether a stream between two hosts cannot exist.
func (e *env) linkCut(x, y string) bool {
	return len(e.cuts) > 0 && (e.cuts[x+">"+y] || e.cuts[y+">"+x])
}

// hostNames is the order in which the world does things to all hosts.
func (e *env) hostNames() []string {
	names := make([]string, 0, len(e.agents))
	for _, a := range e.agents {
		names = append(names, a.name)
	}
	return names
}

// agentOf finds the agent of a host, or sets one up that has never run.
func (e *env) agentOf(name string) *agent {
	i, there := slices.BinarySearchFunc(e.agents, name, func(a *agent, n string) int { return strings.Compare(a.name, n) })
	if !there {
		e.agents = slices.Insert(e.agents, i, newAgent(e, name))
	}
	return e.agents[i]
}

// span is how long something takes: as usual, or as chance has it.
func span(chance func() time.Duration, usual time.Duration) time.Duration {
	if chance == nil {
		return usual
	}
	return chance()
}

// engineTime is how many times longer than usual an operation of a database takes.
func (e *env) engineTime() float64 {
	if e.pace == 0 {
		return 1
	}
	return e.pace
}

// timed is something that will happen.
type timed struct {
	at  time.Duration
	seq int
	do  func()
}

func (t timed) before(u timed) bool { return t.at < u.at || t.at == u.at && t.seq < u.seq }

// events is a binary heap; container/heap would allocate for every event.
type events []timed

func (q *events) push(t timed) {
	*q = append(*q, t)
	h := *q
	i := len(h) - 1
	for i > 0 && t.before(h[(i-1)/2]) {
		h[i] = h[(i-1)/2]
		i = (i - 1) / 2
	}
	h[i] = t
}

func (q *events) pop() timed {
	h := *q
	top, t := h[0], h[len(h)-1]
	h[len(h)-1] = timed{}
	h = h[:len(h)-1]
	*q = h
	if len(h) == 0 {
		return top
	}
	i := 0
	for {
		c := 2*i + 1
		if c >= len(h) {
			break
		}
		if c+1 < len(h) && h[c+1].before(h[c]) {
			c++
		}
		if !h[c].before(t) {
			break
		}
		h[i] = h[c]
		i = c
	}
	h[i] = t
	return top
}

// Package protocol runs the two pure halves of the protocol, pair.Step with Record.Apply on the witness and
// hold.Step on the hosts, against each other in a small simulated world: one pair, two hosts with a
// replicated log each, a witness whose leader can change, a network that can be cut in each direction.
//
// The scenarios are the rows of DESIGN's table "What happens when". Everything that decides is the code that
// ships; the world only carries messages and time.
package protocol

import (
	"container/heap"
	"fmt"
	"strings"
	"time"

	"github.com/witnessd/witnessd/agent/hold"
	"github.com/witnessd/witnessd/witnessd/pair"
)

const (
	hop     = 2 * time.Millisecond  // one message
	confirm = 30 * time.Millisecond // an exchange with a quorum (R2)
	commit  = 5 * time.Millisecond  // a log entry
	tick    = 20 * time.Millisecond
	look    = 200 * time.Millisecond
)

// world is one pair on hosts a and b, and the witness.
type world struct {
	now    time.Duration
	queue  events
	seq    int
	cuts   map[string]bool // "a>b", "a>w", ...
	hosts  map[string]*host
	record pair.Record
	leader *leader // nil: no quorum
	term   pair.Term
	tokens map[uint64]func(*pair.Refusal)
	trace  []string
	wrote  int
	acked  map[int]ack
	faults []string
	delay  func() time.Duration // of one message; nil: always one hop
	double func() bool          // whether a message arrives twice
}

type ack struct {
	host string
	at   time.Duration
}

type leader struct {
	term  pair.Term
	watch pair.Watch
	alive bool
}

type timed struct {
	at  time.Duration
	seq int
	do  func()
}

type events []timed

func (e events) Len() int { return len(e) }
func (e events) Less(i, j int) bool {
	return e[i].at < e[j].at || e[i].at == e[j].at && e[i].seq < e[j].seq
}
func (e events) Swap(i, j int) { e[i], e[j] = e[j], e[i] }
func (e *events) Push(x any)   { *e = append(*e, x.(timed)) }
func (e *events) Pop() any     { old := *e; x := old[len(old)-1]; *e = old[:len(old)-1]; return x }

func newWorld() *world {
	w := &world{cuts: map[string]bool{}, hosts: map[string]*host{}, acked: map[int]ack{}, tokens: map[uint64]func(*pair.Refusal){}}
	members := [2]pair.Member{{Host: "a", Instance: "db"}, {Host: "b", Instance: "db"}}
	create := pair.Command{Pair: "p1", Term: 1, Body: pair.Create{Name: "sales", Members: members,
		Primary: "a", Mode: pair.ModeAutomatic, Policy: pair.DefaultPolicy()}}
	var err error
	if w.record, _, err = (pair.Record{}).Apply(create, 1); err != nil {
		panic(err)
	}
	for _, name := range []string{"a", "b"} {
		w.hosts[name] = newHost(w, name)
	}
	w.hosts["a"].db.log, w.hosts["a"].db.running = []int{}, true
	w.hosts["a"].db.data = true
	w.elect(0)
	for _, h := range w.hosts {
		h.boot()
	}
	w.after(10*time.Millisecond, w.write)
	return w
}

func (w *world) after(d time.Duration, do func()) {
	w.seq++
	heap.Push(&w.queue, timed{at: w.now + d, seq: w.seq, do: do})
}

// run lets the world go on for d.
func (w *world) run(d time.Duration) {
	end := w.now + d
	for w.queue.Len() > 0 && w.queue[0].at <= end {
		e := heap.Pop(&w.queue).(timed)
		w.now = e.at
		e.do()
		w.check()
	}
	w.now = end
}

// until runs until the condition holds, and says whether it did within the limit.
func (w *world) until(limit time.Duration, ok func() bool) bool {
	for end := w.now + limit; w.now < end; {
		if ok() {
			return true
		}
		w.run(10 * time.Millisecond)
	}
	return ok()
}

func (w *world) logf(format string, args ...any) {
	w.trace = append(w.trace, fmt.Sprintf("%9.3f  ", w.now.Seconds())+fmt.Sprintf(format, args...))
}

func (w *world) violate(format string, args ...any) {
	s := fmt.Sprintf(format, args...)
	w.faults = append(w.faults, s)
	w.logf("VIOLATION %s", s)
}

func (w *world) send(from, to string, do func()) {
	if w.cuts[from+">"+to] {
		return
	}
	if w.delay == nil {
		w.after(hop, do)
		return
	}
	w.after(w.delay(), do)
	if w.double() {
		w.after(w.delay(), do)
	}
}

// cut breaks both directions between two parties ("w" is the witness); heal mends them.
func (w *world) cut(x, y string) {
	w.cuts[x+">"+y], w.cuts[y+">"+x] = true, true
	w.logf("cut %s-%s", x, y)
}
func (w *world) heal(x, y string) {
	delete(w.cuts, x+">"+y)
	delete(w.cuts, y+">"+x)
	w.logf("heal %s-%s", x, y)
}

// elect makes a new leader after d; until then there is none.
func (w *world) elect(d time.Duration) {
	w.leader = nil
	w.after(d, func() {
		w.term++
		l := &leader{term: w.term, alive: true, watch: pair.NewWatch(w.record, w.term, w.witnessNow())}
		w.leader = l
		w.logf("leader of term %d", l.term)
		w.tickLeader(l)
	})
}

// loseWitness ends the leadership until elect is called.
func (w *world) loseWitness() { w.leader = nil; w.logf("witness lost") }

func (w *world) witnessNow() pair.Instant { return pair.Instant(1e12) + pair.Instant(w.now) }

func (w *world) tickLeader(l *leader) {
	if w.leader != l {
		return
	}
	w.step(l, pair.Tick{})
	w.after(tick, func() { w.tickLeader(l) })
}

func (w *world) step(l *leader, ev pair.Event) {
	if w.leader != l {
		return
	}
	var acts []pair.Action
	l.watch, acts = pair.Step(w.record, l.watch, ev, w.witnessNow())
	for _, a := range acts {
		w.act(l, a)
	}
}

func (w *world) act(l *leader, a pair.Action) {
	switch a := a.(type) {
	case pair.Propose:
		w.after(commit, func() { w.apply(l, a) })
	case pair.Nudge:
		h := w.hosts[string(a.Host)]
		w.send("w", h.name, func() { h.beat() })
	case pair.Reply:
		if f := w.tokens[a.Token]; f != nil {
			f(a.Refusal)
		}
	case pair.RunFence:
		w.after(time.Second, func() { w.step(l, pair.FenceDone{Procedure: a.Procedure, OK: false, Detail: "no command"}) })
	case pair.Answer:
		panic("answers are made where they were asked for")
	}
}

func (w *world) apply(l *leader, p pair.Propose) {
	if w.leader != l {
		return // lost with its leader
	}
	before := w.record
	after, facts, err := w.record.Apply(p.Command, l.term)
	if f := w.tokens[p.Token]; f != nil && p.Token != 0 {
		var refusal *pair.Refusal
		if err != nil {
			refusal = err.(*pair.Refusal) //nolint:errorlint // Apply returns nothing else
		}
		f(refusal)
	}
	if err != nil {
		w.logf("refused: %v", err)
		w.step(l, pair.Dropped{})
		return
	}
	w.record = after
	for _, f := range facts {
		w.logf("%s", f)
	}
	w.promoted(before, after, p.Command.Body)
	w.step(l, pair.Applied{Before: before, Body: p.Command.Body})
}

// promoted checks G2 at the moment of the decision: the new primary's log has every acknowledged write, unless
// an operator accepted the loss.
func (w *world) promoted(before, after pair.Record, body pair.Body) {
	b, ok := body.(pair.Promote)
	if !ok || b.Forced {
		return
	}
	have := map[int]bool{}
	for _, id := range w.hosts[string(after.Primary)].db.log {
		have[id] = true
	}
	for id, a := range w.acked {
		if !have[id] && a.host == string(before.Primary) {
			w.violate("G2: %s promoted without write %d, acknowledged by %s at %v", after.Primary, id, a.host, a.at)
			return
		}
	}
}

// heartbeat is a report on its way to the leader and its answer on the way back.
func (w *world) heartbeat(h *host, sequence uint64, r hold.Report, sent time.Duration) {
	w.send(h.name, "w", func() {
		l := w.leader
		if l == nil {
			return
		}
		receipt := w.witnessNow()
		w.step(l, pair.Heard{Report: h.convert(sequence, r), Receipt: receipt})
		w.after(confirm, func() {
			if w.leader != l {
				return
			}
			var acts []pair.Action
			l.watch, acts = pair.Step(w.record, l.watch,
				pair.Confirmed{Host: pair.HostID(h.name), Receipt: receipt, AskLease: r.AskLease}, w.witnessNow())
			for _, a := range acts {
				if answer, ok := a.(pair.Answer); ok {
					w.answer(h, l, answer, sent)
				}
			}
		})
	})
}

func (w *world) answer(h *host, l *leader, a pair.Answer, sent time.Duration) {
	if a.Mute {
		return
	}
	says := h.says(w.record, l, a)
	start := h.start
	w.send("w", h.name, func() {
		if h.start == start && h.alive && !h.frozen {
			says.Sent = h.instant(sent)
			h.step(says)
		}
	})
}

// ask is an operator's wish; the outcome is logged.
func (w *world) ask(wish pair.Wish) *pair.Refusal {
	var got *pair.Refusal
	w.tokens[7] = func(r *pair.Refusal) { got = r }
	if w.leader == nil {
		panic("no leader to ask")
	}
	w.step(w.leader, pair.Ask{Token: 7, Wish: wish})
	w.run(2 * commit)
	delete(w.tokens, 7)
	return got
}

// write is a client on each host that writes all the time.
func (w *world) write() {
	for _, name := range []string{"a", "b"} {
		w.hosts[name].db.write()
	}
	w.after(10*time.Millisecond, w.write)
}

// check looks for two primaries that clients can write to.
func (w *world) check() {
	a, b := w.hosts["a"].db, w.hosts["b"].db
	if a.running && a.primary && b.running && b.primary {
		w.violate("G1: both hosts run as primary")
		w.queue = nil
	}
}

// firstAck is when the host acknowledged its first write at or after from.
func (w *world) firstAck(host string, from time.Duration) time.Duration {
	best := time.Duration(-1)
	for _, a := range w.acked {
		if a.host == host && a.at >= from && (best < 0 || a.at < best) {
			best = a.at
		}
	}
	return best
}

// longestGap is the longest time without any acknowledged write since from.
func (w *world) longestGap(from time.Duration) time.Duration {
	last, longest := from, time.Duration(0)
	for id := 1; id <= w.wrote; id++ {
		if a, ok := w.acked[id]; ok && a.at >= from {
			longest, last = max(longest, a.at-last), max(last, a.at)
		}
	}
	return max(longest, w.now-last)
}

func (w *world) String() string { return strings.Join(w.trace, "\n") }

// Package protocol runs the two pure halves of the protocol, pair.Step with Record.Apply on the witness and
// hold.Step on the hosts, against each other in a small simulated world: one pair, two hosts (and spare ones)
// with a replicated log each, a witness whose leader can change, a network that can be cut in each direction.
//
// The scenarios are the rows of DESIGN's table "What happens when", one file for each further idea, and random
// schedules. Everything that decides is the code that ships; the world only carries messages and time.
package protocol

import (
	"container/heap"
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

// world is one pair on hosts a and b, and the witness.
type world struct {
	now    time.Duration
	rate   float64 // of the leader's clock
	queue  events
	seq    int
	cuts   map[string]bool // "a>b", "a>w", ...
	hosts  map[string]*host
	record pair.Record
	leader *leader // nil: no quorum
	term   pair.Term
	tokens map[uint64]func(*pair.Refusal)
	fences func(*host) bool // the configured fencing command; nil: none
	trace  []string
	faults []string
	delay  func() time.Duration // of one message; nil: always one hop
	double func() bool          // whether a message arrives twice
	// outlive says whether what a leader proposed a moment before its end is in the log; nil: never.
	outlive  func() bool
	proposed *proposal // by a leader, and not applied yet

	wrote    int
	acked    []ack        // in the order of the writes of one host
	at       map[int]ack  // by write
	forgiven map[int]bool // lost with an operator's word
	asIs     bool         // the record is one whose past the world cannot know: G2 is not looked at
}

type ack struct {
	id   int
	host string
	at   time.Duration
}

type leader struct {
	term  pair.Term
	watch pair.Watch
}

type proposal struct {
	by *leader
	pair.Propose
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
	w := &world{
		rate: 1, cuts: map[string]bool{}, hosts: map[string]*host{}, at: map[int]ack{}, forgiven: map[int]bool{},
		tokens: map[uint64]func(*pair.Refusal){},
	}
	members := [2]pair.Member{{Host: "a", Instance: "db"}, {Host: "b", Instance: "db"}}
	create := pair.Command{Pair: "p1", Term: 1, Body: pair.Create{Name: "sales", Members: members,
		Primary: "a", Mode: pair.ModeAutomatic, Policy: pair.DefaultPolicy()}}
	var err error
	if w.record, _, err = (pair.Record{}).Apply(create, 1); err != nil {
		panic(err)
	}
	for _, name := range []string{"a", "b"} {
		newHost(w, name)
	}
	w.hosts["a"].db.running, w.hosts["a"].db.data = true, true
	w.elect(0)
	for _, name := range []string{"a", "b"} {
		w.hosts[name].boot()
	}
	w.after(writing, w.write)
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

// oneWay breaks one direction.
func (w *world) oneWay(from, to string) {
	w.cuts[from+">"+to] = true
	w.logf("cut %s>%s", from, to)
}

// linkCut says whether a stream between two hosts cannot exist.
func (w *world) linkCut(x, y string) bool { return w.cuts[x+">"+y] || w.cuts[y+">"+x] }

// elect makes a new leader after d; until then there is none.
func (w *world) elect(d time.Duration) {
	w.leader = nil
	w.after(d, func() {
		if p := w.proposed; p != nil && w.outlive != nil && w.outlive() {
			w.logf("what the leader of term %d proposed last is in the log", p.by.term)
			before := w.record
			if after, _, err := before.Apply(p.Command, p.by.term); err == nil {
				w.record = after
				w.applied(before, after, p.Command.Body)
			}
		}
		w.term, w.proposed = w.term+1, nil
		l := &leader{term: w.term, watch: pair.NewWatch(w.record, w.term, w.witnessNow())}
		w.leader = l
		w.logf("leader of term %d", l.term)
		w.tickLeader(l)
	})
}

// loseWitness ends the leadership until elect is called.
func (w *world) loseWitness() { w.leader = nil; w.logf("witness lost") }

// restore replaces the record by one from a backup, with a new generation and a new leader (rule R15). The new
// group's term may be one that agents heard long ago.
func (w *world) restore(backup pair.Record, term pair.Term) {
	restored, facts, err := backup.Apply(pair.Command{Pair: backup.ID, Revision: backup.Revision,
		Body: pair.Restore{Generation: max(w.record.Revision.Generation(), backup.Revision.Generation()) + 1}}, 0)
	if err != nil {
		panic(err)
	}
	w.record, w.proposed = restored, nil
	w.logf("%s", facts[0])
	w.term = term
	w.elect(100 * time.Millisecond)
}

func (w *world) witnessNow() pair.Instant {
	return pair.Instant(1e12) + pair.Instant(w.rate*float64(w.now))
}

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
		w.proposed = &proposal{by: l, Propose: a}
		w.after(commit, func() { w.apply(l, a) })
	case pair.Nudge:
		if h := w.hosts[string(a.Host)]; h != nil {
			w.send("w", h.name, h.beat)
		}
	case pair.Reply:
		if f := w.tokens[a.Token]; f != nil {
			f(a.Refusal)
		}
	case pair.RunFence:
		done := pair.FenceDone{Procedure: a.Procedure, Detail: "no command"}
		if w.fences != nil {
			done.OK, done.Detail = w.fences(w.hosts[string(a.Host)]), "it ran"
		}
		w.after(time.Second, func() { w.step(l, done) })
	case pair.Answer:
		panic("answers are made where they were asked for")
	}
}

func (w *world) apply(l *leader, p pair.Propose) {
	if w.leader != l {
		return // its leader has ended
	}
	w.proposed = nil
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
		if p.Token == 0 {
			w.violate("the leader proposed what it must know to be refused: %T: %v", p.Command.Body, err)
		}
		w.step(l, pair.Dropped{})
		return
	}
	w.record = after
	for _, f := range facts {
		w.logf("%s", f)
	}
	w.applied(before, after, p.Command.Body)
	w.step(l, pair.Applied{Before: before, Body: p.Command.Body})
}

// applied looks at what every accepted command must keep, and forgives what an operator accepted to lose.
func (w *world) applied(before, after pair.Record, body pair.Body) {
	if after.Epoch < before.Epoch || after.Revision < before.Revision {
		w.violate("epoch or revision went back")
	}
	b, ok := body.(pair.Promote)
	if ok && b.Forced {
		for _, id := range w.lacking(w.hosts[string(after.Primary)].db) {
			w.forgiven[id] = true
		}
	}
}

// heartbeat is a report on its way to the leader and its answer on the way back.
func (w *world) heartbeat(h *host, r pair.Report, sent time.Duration) {
	w.send(h.name, "w", func() {
		l := w.leader
		if l == nil {
			return
		}
		receipt := w.witnessNow()
		w.step(l, pair.Heard{Report: r, Receipt: receipt})
		w.after(confirm, func() {
			if w.leader == l {
				w.answer(h, l, r, receipt, sent)
			}
		})
	})
}

// answer is what the arbiter says to a confirmed heartbeat.
func (w *world) answer(h *host, l *leader, r pair.Report, receipt pair.Instant, sent time.Duration) {
	start := h.start
	tell := func(do func()) {
		w.send("w", h.name, func() {
			if h.start == start && h.alive {
				h.receive(do)
			}
		})
	}
	_, member := w.record.Member(pair.HostID(h.name))
	if w.record.Stage == pair.StageRemoved || !member {
		if r.FileKnown && w.record.Stage != pair.StageRestored {
			tell(h.forget)
		}
		return
	}
	var acts []pair.Action
	l.watch, acts = pair.Step(w.record, l.watch,
		pair.Confirmed{Host: pair.HostID(h.name), Receipt: receipt, AskLease: r.AskLease}, w.witnessNow())
	for _, act := range acts {
		a, ok := act.(pair.Answer)
		if !ok || a.Mute {
			continue
		}
		says := h.says(w.record, l, a)
		says.Sent = h.instant(sent)
		tell(func() {
			if !h.managed {
				h.adopt()
			}
			h.step(says)
		})
	}
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
	if got != nil {
		w.logf("operator was refused: %v", got)
	}
	return got
}

// hostNames is the order in which the world does things to all hosts.
func (w *world) hostNames() []string {
	names := make([]string, 0, len(w.hosts))
	for name := range w.hosts {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// write is a client on each host that writes all the time.
func (w *world) write() {
	for _, name := range w.hostNames() {
		if d := w.hosts[name].db; d.open() && !d.opened {
			d.opened = true
			w.opened(d)
		}
		w.hosts[name].db.write()
	}
	w.after(writing, w.write)
}

func (w *world) ack(id int, host string) {
	a := ack{id: id, host: host, at: w.now}
	w.acked, w.at[id] = append(w.acked, a), a
}

// lacking lists the acknowledged writes that a database does not have.
func (w *world) lacking(d *database) []int {
	var ids []int
	for _, a := range w.acked {
		if _, has := slices.BinarySearch(d.log, a.id); !has && !w.forgiven[a.id] {
			ids = append(ids, a.id)
		}
	}
	return ids
}

// opened checks G2 at the moment when a database becomes the primary: its log has every acknowledged write,
// unless an operator accepted the loss.
func (w *world) opened(d *database) {
	if lost := w.lacking(d); len(lost) > 0 && !w.asIs {
		a := w.at[lost[0]]
		w.violate("G2: %s opens without %d acknowledged writes, the first by %s at %v", d.h.name, len(lost), a.host, a.at)
	}
}

// check looks for two primaries that clients can write to.
func (w *world) check() {
	open := 0
	for _, h := range w.hosts {
		if h.db.open() {
			open++
		}
	}
	if open > 1 {
		w.violate("G1: two hosts run as primary")
		w.queue = nil
	}
}

// firstAck is when the host acknowledged its first write at or after from.
func (w *world) firstAck(host string, from time.Duration) time.Duration {
	for _, a := range w.acked {
		if a.host == host && a.at >= from {
			return a.at
		}
	}
	return -1
}

// longestGap is the longest time without any acknowledged write since from.
func (w *world) longestGap(from time.Duration) time.Duration {
	last, longest := from, time.Duration(0)
	for _, a := range w.acked {
		if a.at >= from {
			longest, last = max(longest, a.at-last), a.at
		}
	}
	return max(longest, w.now-last)
}

// primary is the recorded primary's host.
func (w *world) primary() *host { return w.hosts[string(w.record.Primary)] }

func (w *world) profile(name string) pair.Policy {
	p, ok := pair.ProfilePolicy(name)
	if !ok {
		panic(name)
	}
	return p
}

func (w *world) String() string { return strings.Join(w.trace, "\n") }

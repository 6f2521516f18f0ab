package protocol

import (
	"time"

	"github.com/witnessd/witnessd/agent/hold"
	"github.com/witnessd/witnessd/witnessd/pair"
)

// reign is one node's time as leader, with that node's clock. A node that was frozen or cut off may go on for a
// while after it was deposed: it decides and proposes, but nothing of it is confirmed any more.
type reign struct {
	e       *env
	term    pair.Term
	rate    float64
	offset  pair.Instant
	leaders []*leader // by the place of the pair in env.pairs

	frozen  bool
	queued  []func() // what arrived while it was frozen
	deposed bool
	since   time.Duration // when it was deposed
	linger  time.Duration
	ends    time.Duration // when it knows that it was deposed
}

// leader is what the leader of one term knows of one pair.
type leader struct {
	*reign
	watch pair.Watch
	// record is what it had applied when it was deposed.
	record pair.Record
}

type proposal struct {
	by *leader
	pair.Propose
}

func (r *reign) instant() pair.Instant { return r.offset + pair.Instant(r.rate*float64(r.e.now)) }

// ended says whether it was deposed and knows it.
func (r *reign) ended() bool { return r.deposed && !r.frozen && r.e.now >= r.ends }

// receive lets the node take something in, now or when it goes on.
func (r *reign) receive(do func()) {
	if r.frozen {
		r.queued = append(r.queued, do)
		return
	}
	do()
}

func (r *reign) resume() {
	r.frozen = false
	r.ends = r.e.now + r.linger
	queued := r.queued
	r.queued = nil
	for _, do := range queued {
		do()
	}
}

// witnessNow is the leader's clock.
func (e *env) witnessNow() pair.Instant {
	if e.reign == nil {
		return pair.Instant(1e12) + pair.Instant(e.now)
	}
	return e.reign.instant()
}

// depose ends a leadership, whether its node knows it or not.
func (e *env) depose() {
	r := e.reign
	if r == nil {
		return
	}
	e.reign, e.lastReign = nil, r
	r.deposed, r.since = true, e.now
	if e.linger != nil {
		r.linger = e.linger()
	}
	r.ends = e.now + r.linger
	for i, w := range e.pairs {
		r.leaders[i].record = w.record
		w.leader = nil
	}
}

// elect makes a new leader after d; until then there is none.
func (e *env) elect(d time.Duration) {
	e.depose()
	e.after(d, func() {
		e.depose()
		for _, w := range e.pairs {
			w.outlived()
		}
		e.term++
		r := &reign{e: e, term: e.term, rate: 1, offset: 1e12}
		if e.clock != nil {
			r.rate, r.offset = e.clock()
		}
		e.reign = r
		for _, w := range e.pairs {
			w.leader = &leader{reign: r, watch: pair.NewWatch(w.record, r.term, r.instant())}
			r.leaders = append(r.leaders, w.leader)
		}
		e.logf("leader of term %d", r.term)
		r.tick()
	})
}

// loseWitness ends the leadership until elect is called.
func (e *env) loseWitness() { e.depose(); e.logf("witness lost") }

func (r *reign) tick() {
	if r.ended() {
		return
	}
	if !r.frozen {
		for i, l := range r.leaders {
			r.e.pairs[i].step(l, pair.Tick{})
		}
	}
	r.e.after(span(r.e.turns, tick), r.tick)
}

// restoreAll replaces all records by those of a backup, with a new generation and a new leader (rule R15). The
// new group's term may be one that agents heard long ago.
func (e *env) restoreAll(backup []pair.Record, term pair.Term) {
	e.depose()
	if r := e.lastReign; r != nil {
		r.frozen, r.queued, r.linger, r.ends = false, nil, 0, 0 // its node is gone
	}
	e.group++
	generation := uint64(0)
	for i, w := range e.pairs {
		generation = max(generation, w.record.Revision.Generation(), backup[i].Revision.Generation())
	}
	for i, w := range e.pairs {
		body := pair.Restore{Generation: generation + 1}
		restored, facts, err := backup[i].Apply(pair.Command{Pair: w.record.ID, Revision: backup[i].Revision, Body: body}, 0)
		if err != nil {
			panic(err)
		}
		w.record, w.proposed = restored, nil
		w.logf("%s", facts[0])
	}
	e.term = term
	e.elect(100 * time.Millisecond)
}

// outlived puts into the log what the former leader proposed a moment before its end.
func (w *world) outlived() {
	p := w.proposed
	w.proposed = nil
	if p == nil || w.outlive == nil || !w.outlive() {
		return
	}
	w.logf("what the leader of term %d proposed last is in the log", p.by.term)
	before := w.record
	if after, _, err := before.Apply(p.Command, p.by.term); err == nil {
		w.record = after
		w.applied(before, after, p.Command.Body)
	}
}

func (w *world) step(l *leader, ev pair.Event) {
	if l.ended() {
		return
	}
	var acts []pair.Action
	l.watch, acts = pair.Step(w.recordOf(l), l.watch, ev, l.instant())
	for _, a := range acts {
		w.act(l, a)
	}
}

// recordOf is the record as the leader has applied it.
func (w *world) recordOf(l *leader) pair.Record {
	if l.deposed {
		return l.record
	}
	return w.record
}

func (w *world) act(l *leader, a pair.Action) {
	switch a := a.(type) {
	case pair.Propose:
		if l.deposed {
			w.strayed(a)
			return
		}
		w.proposed = &proposal{by: l, Propose: a}
		w.after(span(w.commits, commit), func() { l.receive(func() { w.apply(l, a) }) })
	case pair.Nudge:
		if h := w.hosts[string(a.Host)]; h != nil {
			w.send("w", h.name, h.soon)
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
		w.after(time.Second, func() { l.receive(func() { w.step(l, done) }) })
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
	if w.told {
		for _, f := range facts {
			w.logf("%s", f)
		}
	}
	w.applied(before, after, p.Command.Body)
	w.step(l, pair.Applied{Before: before, Body: p.Command.Body})
}

// strayed lets a command of a deposed leader get into the log of the present one: its node may lead again, in a
// later term, before the part of it that decides has noticed. The log must refuse it (rule R6).
func (w *world) strayed(p pair.Propose) {
	if w.stray == nil || !w.stray() {
		return
	}
	w.after(span(w.commits, commit), func() {
		l := w.leader
		if l == nil {
			return
		}
		before := w.record
		after, _, err := before.Apply(p.Command, l.term)
		if err != nil {
			w.logf("refused, of a deposed leader: %v", err)
			return
		}
		w.logf("%T of a deposed leader accepted", p.Command.Body)
		w.record = after
		w.applied(before, after, p.Command.Body)
		l.receive(func() { w.step(l, pair.Applied{Before: before, Body: p.Command.Body}) })
	})
}

// said is a report on one pair in a heartbeat.
type said struct {
	h *host
	r pair.Report
}

// answer is what the witness says to that.
type answer struct {
	h      *host
	says   hold.WitnessSays
	forget bool
}

// heartbeat is the reports of a host on their way to the leader and the answer on the way back.
func (e *env) heartbeat(a *agent, reports []said) {
	sent, start, group := a.now(), a.start, e.group
	e.send(a.name, "w", func() {
		if e.group != group {
			return // the session was with nodes that are gone
		}
		if r := e.reign; r != nil {
			r.receive(func() { r.hear(a, reports, sent, start) })
		}
		if r := e.lastReign; r != nil && e.stray != nil && !r.ended() && e.stray() {
			r.receive(func() { r.note(reports, r.instant()) }) // by a node that knows no better
		}
	})
}

func (r *reign) note(reports []said, receipt pair.Instant) {
	for _, s := range reports {
		s.h.w.step(r.leaders[s.h.w.place], pair.Heard{Report: s.r, Receipt: receipt})
	}
}

func (r *reign) hear(a *agent, reports []said, sent hold.Instant, start int) {
	receipt := r.instant()
	r.note(reports, receipt)
	e := r.e
	took := span(e.quorum, confirm)
	half := e.now + took/2
	e.after(took, func() {
		// The quorum has said half way that this leader leads; it may hear of that when it does not any more.
		if r.deposed && r.since < half {
			return
		}
		r.receive(func() {
			if !r.ended() {
				r.answer(a, reports, receipt, sent, start)
			}
		})
	})
}

// answer is what the arbiter says to a confirmed heartbeat.
func (r *reign) answer(a *agent, reports []said, receipt pair.Instant, sent hold.Instant, start int) {
	answers := make([]answer, 0, len(reports))
	for i := range reports {
		s := &reports[i]
		w := s.h.w
		if t, ok := w.answer(r.leaders[w.place], s, receipt); ok {
			t.says.Sent = sent
			answers = append(answers, t)
		}
	}
	group := r.e.group
	r.e.send("w", a.name, func() {
		if a.start == start && a.alive && r.e.group == group {
			a.receive(func() {
				for i := range answers {
					answers[i].h.hear(answers[i])
				}
			})
		}
	})
}

func (w *world) answer(l *leader, s *said, receipt pair.Instant) (answer, bool) {
	t := answer{h: s.h}
	record := w.recordOf(l)
	_, member := record.Member(pair.HostID(s.h.name))
	if record.Stage == pair.StageRemoved || !member {
		t.forget = true
		return t, s.r.FileKnown && record.Stage != pair.StageRestored
	}
	var acts []pair.Action
	l.watch, acts = pair.Step(record, l.watch,
		pair.Confirmed{Host: pair.HostID(s.h.name), Receipt: receipt, AskLease: s.r.AskLease}, l.instant())
	for _, act := range acts {
		if a, ok := act.(pair.Answer); ok && !a.Mute {
			t.says = s.h.says(&record, l, a)
			if a.Lease > 0 {
				left := float64(receipt.Add(a.Lease).Sub(l.instant())) / l.rate
				w.lease.add(record.Epoch, w.now+time.Duration(left))
			}
			return t, true
		}
	}
	return t, false
}

package main

import (
	"github.com/witnessd/witnessd/agent/hold"
	"github.com/witnessd/witnessd/test/wire"
	"github.com/witnessd/witnessd/witnessd/pair"
)

// death says when, while an agent carries out the actions of one step, its process ends.
type death uint8

const (
	survives   death = iota
	beforeSave       // with everything done that stands before the first Save
	afterSave        // with the file written and nothing behind it done
)

// process lets an item happen. It says false if that cannot be: an agent that has nothing to save does not die on
// the way to the disk.
func (s *state) process(i *item, d death) bool {
	switch i.kind {
	case report:
		s.receive(i)
	case confirm:
		s.confirmed(i)
	case commit:
		s.commit(i)
	case answer:
		return s.hear(i, d)
	case asking:
		return s.asked(i, d)
	case reply:
		h := s.hosts[i.host]
		if h.start != i.start {
			return d == survives
		}
		if h.frozen {
			s.waits(i.host, i)
			return d == survives
		}
		return s.step(i.host, hold.PartnerAnswered{Sent: i.sent, Host: i.host.other().String(), Says: *i.says}, d)
	case exit:
		if s.hosts[i.host].start != i.start {
			return d == survives
		}
		return s.step(i.host, hold.EngineExited{Reason: "killed"}, d)
	case done:
		return s.done(i, d)
	}
	return d == survives
}

// receive is a heartbeat at the leader.
func (s *state) receive(i *item) {
	if s.leader == nil {
		return
	}
	s.decide(pair.Heard{Report: *i.report, Receipt: s.witnessNow()})
	s.say(&item{kind: confirm, host: i.host, start: i.start, sent: i.sent, receipt: s.witnessNow(), term: s.term,
		asks: i.asks, report: i.report})
}

// confirmed answers a heartbeat after an exchange with a quorum (R2). The exchange was made when the item was held
// up, if it was; so a leader that has been deposed meanwhile answers too.
func (s *state) confirmed(i *item) {
	l, record := s.leader, s.record
	if l == nil || l.term != i.term {
		if l = s.stale; l == nil || l.term != i.term {
			return
		}
		record = l.record
	}
	h := s.hosts[i.host]
	if _, isMember := record.Member(name(i.host)); record.Stage == pair.StageRemoved || !isMember {
		return
	}
	next := *l
	var acts []pair.Action
	next.watch, acts = pair.Step(*record, l.watch,
		pair.Confirmed{Host: name(i.host), Receipt: i.receipt, AskLease: i.asks}, s.witnessNow())
	if l == s.leader {
		s.leader = &next
	} else {
		s.stale = &next
	}
	for _, act := range acts {
		said, ok := act.(pair.Answer)
		if !ok || said.Mute || h.start != i.start {
			continue
		}
		says := wire.Answer(i.host.String(), *record, next.term, said, next.watch.Released)
		says.Sent = i.sent
		s.say(&item{kind: answer, host: i.host, start: i.start, answer: &says})
	}
}

// decide is a step of the leader.
func (s *state) decide(ev pair.Event) {
	if s.leader == nil {
		return
	}
	next := *s.leader
	var acts []pair.Action
	next.watch, acts = pair.Step(*s.record, next.watch, ev, s.witnessNow())
	s.leader = &next
	for _, act := range acts {
		switch act := act.(type) {
		case pair.Propose:
			s.logf("the leader proposes %T", act.Command.Body)
			s.say(&item{kind: commit, term: s.term, propose: &act})
		case pair.Nudge:
			if x := sideOf(string(act.Host)); s.cuts&fromWitness(x) == 0 {
				s.beat(x)
			}
		case pair.Reply:
			if act.Refusal != nil {
				s.logf("the operator is refused: %v", act.Refusal)
			}
		case pair.RunFence:
			s.decide(pair.FenceDone{Procedure: act.Procedure, Detail: "no command"})
		case pair.Answer:
			s.violate("an answer that nobody asked for")
		}
	}
}

// commit puts a command into the log, with the term of whoever leads now. One that was held up may have been
// decided in an earlier term.
func (s *state) commit(i *item) {
	if s.leader == nil {
		return
	}
	own := i.term == s.term
	before := *s.record
	refused := s.apply(i, s.term)
	switch {
	case !own || i.twice:
	case refused:
		s.decide(pair.Dropped{})
		return
	}
	if !refused {
		s.decide(pair.Applied{Before: before, Body: i.propose.Command.Body})
	}
}

// apply carries a command out on the record.
func (s *state) apply(i *item, entry pair.Term) (refused bool) {
	before := s.record
	after, facts, err := before.Apply(i.propose.Command, entry)
	if err != nil {
		s.logf("refused: %v", err)
		return true
	}
	s.record = &after
	for _, f := range facts {
		s.logf("in the log: %s", f)
	}
	if after.Epoch < before.Epoch || after.Revision < before.Revision {
		s.violate("epoch or revision went back")
	}
	body, ok := i.propose.Command.Body.(pair.Promote)
	if !ok {
		return false
	}
	operator := before.Procedure != nil &&
		(before.Procedure.Kind == pair.KindSwitchover || before.Procedure.Kind == pair.KindForced)
	released := s.hosts[sideOf(string(before.Primary))].file.Released >= hold.Epoch(before.Epoch)
	if before.Right == pair.RightSole && !operator && !released {
		s.violate("a sole right was superseded: no operator asked for it, and it was not given back")
	}
	if body.Forced {
		s.forgiven |= s.lacking(sideOf(string(after.Primary)))
	}
	return false
}

// elect makes a new leader, after a barrier of its own term. What the former one proposed last may be in the log.
func (s *state) elect(outlives bool) {
	former := s.leader
	for k, i := range s.queue {
		if i.kind != commit {
			continue
		}
		s.queue = append(s.queue[:k], s.queue[k+1:]...)
		if outlives {
			s.apply(i, i.term)
		}
		break
	}
	if former != nil {
		former = &leading{term: former.term, watch: former.watch, record: s.record}
	}
	s.stale = former
	s.term++
	s.leader = &leading{term: s.term, watch: pair.NewWatch(*s.record, s.term, s.witnessNow())}
	s.logf("leader of term %d", s.term)
	s.decide(pair.Tick{})
}

// hear is an answer of the witness at the agent that asked.
func (s *state) hear(i *item, d death) bool {
	h := s.hosts[i.host]
	if !h.alive || h.start != i.start {
		return d == survives
	}
	if h.frozen {
		s.waits(i.host, i)
		return d == survives
	}
	if !h.managed {
		h = s.host(i.host)
		h.state = hold.New(h.side.String(), hold.File{Pair: "p1"}, false, hold.Mark{}, s.hostNow())
		h.managed = true
	}
	return s.step(i.host, *i.answer, d)
}

// asked is a partner heartbeat at the other agent.
func (s *state) asked(i *item, d death) bool {
	x := i.host.other()
	if h := s.hosts[x]; !h.alive || !h.managed {
		return d == survives
	} else if h.frozen {
		s.waits(x, i)
		return d == survives
	}
	return s.stepAnd(x, hold.PartnerAsked{Host: i.host.String(), Says: *i.says}, d, func(r hold.Says) {
		s.say(&item{kind: reply, host: i.host, start: i.start, sent: i.sent, says: &r})
	})
}

// done is the end of an operation: its effect, and the agent's knowledge of it if the agent that began it lives.
func (s *state) done(i *item, d death) bool {
	h := s.host(i.host)
	current := h.alive && h.start == i.start && h.op.Op != hold.OpNone && h.op.ID == i.do.ID
	if h.alive && h.start == i.start && !current {
		return d == survives // ended by its agent
	}
	end := i.end
	if end == nil {
		if s.blocked(i.host, i.do) {
			s.holdUp(i)
			return d == survives
		}
		end = &hold.EngineDone{Op: i.do.Op, ID: i.do.ID}
		end.Err, end.Everything = s.carryOut(i.host, i.do.Op)
		end.Engine = s.look(i.host)
	}
	if !current {
		return d == survives
	}
	if h.frozen {
		// What the database does, it does; its agent hears of it when it goes on.
		s.waits(i.host, &item{kind: done, host: i.host, start: i.start, do: i.do, end: end})
		return d == survives
	}
	h.op = hold.Do{}
	return s.step(i.host, *end, d)
}

func (s *state) step(x side, ev hold.Event, d death) bool { return s.stepAnd(x, ev, d, nil) }

// stepAnd is a step of an agent. It says false if the agent should have died at a Save and made none.
func (s *state) stepAnd(x side, ev hold.Event, d death, replies func(hold.Says)) bool {
	if h := s.hosts[x]; !h.alive || h.frozen || !h.managed {
		return d == survives
	}
	h := s.host(x)
	var acts []hold.Action
	h.state, acts = hold.Step(h.state, ev, s.hostNow())
	var beat, partner bool
	for _, act := range acts {
		if save, ok := act.(hold.Save); ok && d != survives {
			if d == afterSave {
				s.save(h, save.File)
			}
			s.logf("the agent of %v dies", x)
			s.kill(x)
			return true
		}
		switch act := act.(type) {
		case hold.Save:
			s.save(h, act.File)
		case hold.Renew:
			h.mark, h.fence, h.endless = hold.Mark(act), act.Until, act.Endless
		case hold.Fence:
			s.logf("%v fences: %s", x, act.Why)
			h.mark, h.fence, h.endless = hold.Mark{}, 0, false
			h.db.kill()
		case hold.Do:
			h.op = act
			if act.Op != hold.OpNone {
				s.logf("%v: %v begins", x, act.Op)
				s.say(&item{kind: done, host: x, start: h.start, do: act})
			}
		case hold.SendWitness:
			beat = true
		case hold.SendPartner:
			partner = true
		case hold.ReplyPartner:
			replies(act.Says)
		case hold.Note:
			s.logf("%v: %s", x, act.Text)
		}
	}
	if beat {
		s.beat(x)
	}
	if partner {
		s.beatPartner(x)
	}
	return d == survives
}

func (s *state) save(h *host, f hold.File) {
	if h.known && (f.Epoch < h.file.Epoch || f.Released < h.file.Released || f.Revision < h.file.Revision) {
		s.violate("the epoch file of %v went back", h.side)
	}
	h.file, h.known = f, true
}

// pass lets a step of time go by: fences close, the leader and the agents look around, heartbeats leave.
func (s *state) pass() {
	s.now += step
	s.moves = 0
	for x := range side(both) {
		if h := s.hosts[x]; h.fence != 0 && !h.endless && s.hostNow() >= h.fence.Add(guard) {
			h = s.host(x)
			h.fence = 0
			h.db.cutOff()
			s.logf("%v: the kernel closes the port", x)
			s.step(x, hold.Fenced{Why: "right ran out"}, survives)
		}
	}
	s.decide(pair.Tick{})
	for x := range side(both) {
		s.step(x, hold.EngineSeen{Engine: s.look(x)}, survives)
		s.step(x, hold.Tick{}, survives)
		s.beat(x)
		s.beatPartner(x)
	}
}

// crash kills a database; its agent hears of it from the kernel.
func (s *state) crash(x side) {
	h := s.host(x)
	h.db.kill()
	s.say(&item{kind: exit, host: x, start: h.start})
}

package main

import (
	"github.com/witnessd/witnessd/agent/hold"
	"github.com/witnessd/witnessd/witnessd/pair"
)

// wish is what an operator asks for.
func (s *state) wish(v verb) {
	body := func(b pair.Body) { s.decide(pair.Ask{Wish: pair.WishCommand{Body: b}}) }
	switch v {
	case switchover:
		s.decide(pair.Ask{Wish: pair.WishSwitchover{By: "op"}})
	case force:
		s.decide(pair.Ask{Wish: pair.WishForce{By: "op"}})
	case forceLoss:
		s.decide(pair.Ask{Wish: pair.WishForce{By: "op", AcceptLoss: true}})
	case forceOff:
		s.forceOff()
	case pause:
		body(pair.SetMode{Mode: pair.ModeManual})
	case resume:
		body(pair.SetMode{Mode: pair.ModeAutomatic})
	case shorter:
		body(pair.SetPolicy{Policy: policy(lease)})
	case longer:
		body(pair.SetPolicy{Policy: policy(2 * lease)})
	case restore:
		s.restore()
	default:
		panic("model: not a move")
	}
}

// forceOff is an operator who makes sure that the primary's host is off, says so, and keeps it off until the
// procedure has ended.
func (s *state) forceOff() {
	primary := sideOf(string(s.record.Primary))
	s.lose(primary)
	s.decide(pair.Ask{Wish: pair.WishForce{By: "op", AcceptLoss: true, HostOff: s.record.Primary}})
	for _, i := range s.queue {
		if i.kind == commit {
			s.off = int8(primary)
		}
	}
	if s.off >= 0 {
		// Until the log has it, nothing else shows that a procedure is under way.
		i := s.queue[len(s.queue)-1]
		s.queue = s.queue[:len(s.queue)-1]
		s.commit(i)
	}
}

// restore puts the record back to the backup, in a new generation (R15).
func (s *state) restore() {
	backup := *s.backup
	restored, _, err := backup.Apply(pair.Command{Pair: backup.ID, Revision: backup.Revision,
		Body: pair.Restore{Generation: s.record.Revision.Generation() + 1}}, 0)
	if err != nil {
		panic(err)
	}
	s.record = &restored
	s.leader, s.stale = nil, nil
	keep := s.late[:0]
	for _, i := range s.late {
		if i.kind != commit && i.kind != confirm {
			keep = append(keep, i)
		}
	}
	s.late = keep
	s.elect(false)
}

// fail is the end of an operation that had no effect.
func (s *state) fail(i *item) {
	h := s.hosts[i.host]
	if h.alive && h.start == i.start && h.op.ID == i.do.ID && h.op.Op != hold.OpNone {
		s.host(i.host).op = hold.Do{}
		s.step(i.host, hold.EngineDone{Op: i.do.Op, ID: i.do.ID, Err: "it failed"}, survives)
	}
}

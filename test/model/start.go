package main

import (
	"fmt"

	"github.com/witnessd/witnessd/witnessd/pair"
)

// starts are the states from which searches begin, by name. Each is come to by letting the pair live.
func startState(name string) *state {
	s := newState()
	if name == "forming" {
		return s
	}
	s.live(20)
	s.backup = s.record
	switch name {
	case "armed":
	case "isolated":
		s.cuts = aToWitness | witnessToA | aToB | bToA
	case "witness-cut":
		s.cuts = aToWitness | witnessToA
	case "mirror-cut":
		s.cuts = aToB | bToA
	case "witness-lost":
		s.leader, s.stale = nil, nil
	case "exposed":
		s.lose(b)
		s.live(4)
	case "promoted":
		s.crash(a)
		s.liveUntil(func() bool { return s.record.Epoch == 2 })
	case "released":
		s.cuts = bToWitness | witnessToB
		s.crash(a)
		s.rest()
	case "shortened":
		s.wish(longer)
		s.live(10)
		s.wish(shorter)
		s.rest()
	case "paused":
		s.wish(pause)
		s.live(3)
	case "restored":
		for range 3 {
			s.wish(switchover)
			s.live(10)
		}
		s.backup = &[]pair.Record{*s.backup}[0]
		s.restore()
	default:
		panic(fmt.Sprintf("model: no start state %q", name))
	}
	if s.violation != "" {
		panic("model: " + s.violation)
	}
	s.moves = 0
	return s
}

// live lets steps of time go by without a fault.
func (s *state) live(steps int) {
	for range steps {
		s.rest()
		s.pass()
		s.settle()
	}
	s.rest()
}

func (s *state) liveUntil(ok func() bool) {
	for range 20 {
		for len(s.queue) > 0 && !ok() {
			s.process(s.next(), survives)
			s.settle()
		}
		if ok() {
			return
		}
		s.pass()
		s.settle()
	}
	panic("model: a start state was not come to")
}

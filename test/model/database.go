package main

import (
	"slices"
	"strconv"

	"github.com/witnessd/witnessd/agent/hold"
)

// database is a copy of the data with what agent/engine asks of one. It remembers only the writes that not both
// copies have.
type database struct {
	data      bool // a usable copy
	running   bool
	primary   bool
	following bool
	held      bool
	opened    bool // clients have been let in since it became the primary
	draining  bool
	run       int
	log       []uint8 // ids of writes; never changed in place
	settled   int     // how many of them were acknowledged, or need not be any more
}

func (d *database) kill() {
	d.running, d.primary, d.following, d.held, d.opened, d.draining = false, false, false, true, false, false
	d.settled = len(d.log)
	d.run++
}

// cutOff ends the connections of all clients: who waits for a commit hears no more of it.
func (d *database) cutOff() { d.settled, d.opened = len(d.log), false }

// receives says whether the mirror's copy receives the changes of x.
func (s *state) receives(x side) bool {
	p, m := &s.hosts[x].db, &s.partner(x).db
	return p.running && p.primary && m.running && m.following && s.cuts&(aToB|bToA) == 0 && begins(m.log, p.log)
}

// begins says whether one log is the beginning of the other.
func begins(part, whole []uint8) bool {
	return len(part) <= len(whole) && slices.Equal(part, whole[:len(part)])
}

func (s *state) look(x side) hold.Engine {
	d := &s.hosts[x].db
	e := hold.Engine{Began: s.hostNow(), Running: d.running, Run: strconv.Itoa(d.run),
		Position: s.written + uint64(len(d.log)), Promotable: d.data, Empty: !d.data}
	if d.data {
		e.SystemID = "x"
	} else {
		e.NotPromotable = "no usable data"
	}
	if !d.running {
		return e
	}
	e.Role, e.Following = hold.RoleMirror, d.following && s.receives(x.other())
	if d.primary {
		e.Role, e.Following, e.Commits = hold.RolePrimary, false, hold.CommitsAlone
		if d.held {
			e.Commits = hold.CommitsHeld
		}
		if s.receives(x) {
			e.MirrorAttached, e.MirrorFlushed = true, s.written+uint64(len(s.partner(x).db.log))
		}
	}
	return e
}

// open says whether clients reach a primary on x. A fence of the kernel may take its whole budget, one guard.
func (s *state) open(x side) bool {
	h := s.hosts[x]
	port := h.endless || h.fence != 0 && s.hostNow() < h.fence.Add(guard)
	return h.db.running && h.db.primary && port
}

// clients write wherever they are let in, and are told what may be told. It looks for two primaries (G1) and for
// commits that a new one lacks (G2).
func (s *state) clients() {
	if s.open(a) && s.open(b) {
		s.violate("G1: both hosts are open")
	}
	for x := range side(both) {
		if d := &s.hosts[x].db; !d.running || !d.primary || s.settled(x) {
			continue
		}
		h := s.host(x)
		if !s.open(x) {
			h.db.cutOff()
			continue
		}
		if !h.db.opened {
			h.db.opened = true
			s.admitted(h)
		}
		if !h.db.draining && len(h.db.log) < maxLog {
			h.db.log = append(slices.Clip(h.db.log), s.freshWrite())
		}
		s.flush(x)
	}
	s.forgetShared()
}

// settled says that nothing of a primary can change by looking at it.
func (s *state) settled(x side) bool {
	d := &s.hosts[x].db
	if !s.open(x) {
		return !d.opened && d.settled == len(d.log)
	}
	full := d.draining || len(d.log) == maxLog
	behind := s.receives(x) && !s.stall && len(s.partner(x).db.log) < len(d.log)
	return d.opened && full && d.settled == len(d.log) && !behind
}

// admitted looks at a primary that lets clients in: it has every acknowledged write (G2), and a later epoch than
// whoever was open before.
func (s *state) admitted(h *host) {
	if lost := s.lacking(h.side); lost != 0 {
		s.violate("G2: %v opens without acknowledged writes", h.side)
	}
	s.logf("%v is open to clients", h.side)
}

// lacking are the acknowledged writes that a copy does not have.
func (s *state) lacking(x side) uint32 {
	lost := s.acked &^ s.forgiven
	for _, id := range s.hosts[x].db.log {
		lost &^= 1 << id
	}
	return lost
}

// freshWrite is an id that nobody remembers.
func (s *state) freshWrite() uint8 {
	used := s.acked
	for _, h := range s.hosts {
		for _, id := range h.db.log {
			used |= 1 << id
		}
	}
	for id := range uint8(32) {
		if used&(1<<id) == 0 {
			return id
		}
	}
	panic("too many writes are remembered")
}

// flush sends the log to the mirror and acknowledges what may be.
func (s *state) flush(x side) {
	h := s.host(x)
	n := h.db.settled
	if s.receives(x) && !s.stall && len(s.partner(x).db.log) < len(h.db.log) {
		s.host(x.other()).db.log = h.db.log
	}
	switch {
	case !s.open(x):
		h.db.cutOff()
		return
	case !h.db.held:
		n = len(h.db.log)
	case s.receives(x):
		n = max(n, len(s.partner(x).db.log))
	}
	for _, id := range h.db.log[h.db.settled:n] {
		s.acked |= 1 << id
	}
	h.db.settled = n
}

// forgetShared drops the writes at the beginning of both logs: nothing can go wrong with them any more.
func (s *state) forgetShared() {
	la, lb := s.hosts[a].db.log, s.hosts[b].db.log
	n := 0
	for n < min(len(la), len(lb)) && la[n] == lb[n] && n < s.hosts[a].db.settledOr() && n < s.hosts[b].db.settledOr() {
		n++
	}
	if n == 0 {
		return
	}
	for _, id := range la[:n] {
		s.acked &^= 1 << id
		s.forgiven &^= 1 << id
	}
	for x := range side(both) {
		d := &s.host(x).db
		d.log, d.settled = slices.Clone(d.log[n:]), max(0, d.settled-n)
	}
	s.written += uint64(n)
}

// settledOr is how many writes of a log nobody waits for.
func (d *database) settledOr() int {
	if d.running && d.primary {
		return d.settled
	}
	return len(d.log)
}

// blocked says whether an operation cannot end now, as a call to a real engine would not return.
func (s *state) blocked(x side, do hold.Do) bool {
	if do.Op != hold.OpHandOver {
		return false
	}
	h := s.host(x)
	h.db.draining = true
	s.flush(x)
	return s.receives(x) && len(s.partner(x).db.log) < len(h.db.log)
}

// carryOut is the effect of an operation of the engine.
func (s *state) carryOut(x side, op hold.Op) (failure string, everything bool) {
	h := s.host(x)
	d, p := &h.db, &s.partner(x).db
	switch op {
	case hold.OpNone, hold.OpLetGo:
	case hold.OpFollow:
		if s.cuts&(aToB|bToA) != 0 || !p.running || !p.primary {
			return "partner's database cannot be reached", false
		}
		if !d.running {
			d.run++
		}
		d.running, d.primary, d.following, d.held, d.data, d.opened, d.draining = true, false, true, true, true, false, false
		if !begins(d.log, p.log) {
			d.log = p.log
		}
		d.settled = len(d.log)
	case hold.OpPromote:
		if !d.data {
			return "no usable data", false
		}
		if !d.running {
			d.run++
		}
		if !d.primary {
			d.settled, d.opened = len(d.log), false
		}
		d.running, d.primary, d.following, d.held, d.draining = true, true, false, true, false
	case hold.OpHold:
		d.held = true
	case hold.OpReleaseCommits:
		d.held = false
		s.flush(x)
	case hold.OpHandOver:
		everything = s.receives(x) && len(p.log) == len(d.log)
		d.kill()
	case hold.OpStop:
		d.kill()
	}
	return "", everything
}

package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/witnessd/witnessd/witnessd/pair"
)

// move is one way in which a state goes on.
type move struct {
	what verb
	arg  uint8
}

type verb uint8

const (
	// What costs nothing.
	proceed verb = iota // the next item of this instant happens
	arrive              // an item that was held up happens (arg: which)
	tick                // nothing is left to do in this instant: time goes by
	heal                // every link is whole again
	wake                // frozen agents go on
	bootUp              // agents that were dead start (arg: host)
	vote                // a witness that was lost has a leader again
	keepUp              // the mirror's copy takes changes in again

	// Faults, and what an operator does. Each costs one of the budget.
	delay    // the next item is held up: it comes later, or never
	double   // the next item happens, and its copy will come too
	dieFirst // its agent dies just before it writes its epoch file
	dieThen  // ... just after
	failOp   // the operation of the database fails
	election // another leader; what the former one proposed is lost
	outlived // another leader; what the former one proposed is in the log
	noQuorum // no leader
	cut      // arg: bits of the links
	stop     // an agent dies (arg: host)
	restart  // an agent starts anew
	forgets  // an agent starts anew, without its epoch file
	crash    // a database dies
	reboot   // a host dies
	freeze   // an agent stands still
	lag      // the mirror's copy takes nothing in
	osStart  // the operating system starts a dead database
	switchover
	force
	forceLoss
	forceOff
	pause
	resume
	shorter // a policy with a shorter lease
	longer  // a policy with a longer one
	restore // the witness goes back to the backup of the start
)

// family is a set of faults that are tried in every combination up to a budget.
type family struct {
	name   string
	about  string
	starts []string // names of start states
	budget int
	verbs  []verb
	cuts   []uint8
}

var words = map[verb]string{
	tick: "one step of time goes by", heal: "all links are whole", wake: "frozen agents go on", vote: "a new leader",
	keepUp: "the mirror's copy takes changes in again", election: "ANOTHER LEADER; what was proposed is lost",
	outlived: "ANOTHER LEADER; what was proposed is in the log", noQuorum: "THE WITNESS IS LOST",
	lag: "THE MIRROR'S COPY TAKES NOTHING IN", switchover: "OPERATOR: SWITCHOVER", force: "OPERATOR: FORCED FAILOVER",
	forceLoss: "OPERATOR: FORCED FAILOVER, LOSS ACCEPTED",
	forceOff:  "OPERATOR: FORCED FAILOVER, LOSS ACCEPTED, THE PRIMARY'S HOST IS OFF AND STAYS OFF",
	pause:     "OPERATOR: PAUSE", resume: "OPERATOR: RESUME", shorter: "OPERATOR: A SHORTER LEASE",
	longer: "OPERATOR: A LONGER LEASE", restore: "THE WITNESS IS RESTORED FROM A BACKUP",
}

var hostWords = map[verb]string{
	bootUp: "agent of %v starts", stop: "AGENT OF %v DIES", restart: "AGENT OF %v STARTS ANEW",
	forgets: "AGENT OF %v STARTS ANEW WITHOUT ITS EPOCH FILE", crash: "DATABASE OF %v DIES", reboot: "HOST %v DIES",
	freeze: "AGENT OF %v STANDS STILL", osStart: "THE OPERATING SYSTEM STARTS THE DATABASE OF %v",
}

// describe says what a move does to a state, for people.
func (m move) describe(s *state) string {
	switch m.what {
	case proceed:
		return s.queue[0].String()
	case arrive:
		return "late: " + s.late[m.arg].String()
	case delay:
		return "HELD UP: " + s.queue[0].String()
	case double:
		return "TWICE: " + s.queue[0].String()
	case dieFirst:
		return "DEATH BEFORE THE EPOCH FILE IS WRITTEN, at: " + s.queue[0].String()
	case dieThen:
		return "DEATH AFTER THE EPOCH FILE IS WRITTEN, at: " + s.queue[0].String()
	case failOp:
		return "FAILS: " + s.queue[0].String()
	case cut:
		return "CUT: " + links(m.arg)
	default:
		if w, ok := hostWords[m.what]; ok {
			return fmt.Sprintf(w, side(m.arg))
		}
		return words[m.what]
	}
}

func links(bits uint8) string {
	names := [...]string{"a>witness", "b>witness", "witness>a", "witness>b", "a>b", "b>a"}
	var out []string
	for k, n := range names {
		if bits&(1<<k) != 0 {
			out = append(out, n)
		}
	}
	return strings.Join(out, ", ")
}

// moves lists every way on from a state.
func (f *family) moves(s *state, out []move) []move {
	if s.arrivable() {
		for k := range s.late {
			out = append(out, move{arrive, uint8(k)})
		}
	}
	if len(s.queue) > 0 {
		out = append(out, move{what: proceed})
		if s.faults > 0 {
			out = f.disturb(s, out)
		}
		return out
	}
	out = append(out, move{what: tick})
	out = s.recover(out)
	if s.faults == 0 {
		return out
	}
	for _, v := range f.verbs {
		switch v {
		case cut:
			for _, bits := range f.cuts {
				if bits&^s.cuts != 0 {
					out = append(out, move{cut, bits})
				}
			}
		case stop, restart, forgets, crash, reboot, freeze, osStart:
			for x := range side(both) {
				if s.can(v, x) {
					out = append(out, move{v, uint8(x)})
				}
			}
		case delay, double, dieFirst, dieThen, failOp:
		default:
			if s.can(v, a) {
				out = append(out, move{what: v})
			}
		}
	}
	return out
}

// arrivable says whether late items may come now: between two steps of time, at the beginning of one, and between a
// decision, a request or the begin of an operation and what becomes of it. Elsewhere they would only change places with
// what does not see them.
func (s *state) arrivable() bool {
	if len(s.queue) == 0 || s.moves == 0 {
		return true
	}
	next := s.queue[0].kind
	return next == commit || next == confirm || next == done
}

// disturb lists what can go wrong with the next item.
func (f *family) disturb(s *state, out []move) []move {
	i := s.queue[0]
	message := i.kind == report || i.kind == answer || i.kind == asking || i.kind == reply
	for _, v := range f.verbs {
		switch v {
		case delay:
			if i.kind != exit {
				out = append(out, move{what: v})
			}
		case double:
			if (message || i.kind == commit) && !i.twice {
				out = append(out, move{what: v})
			}
		case dieFirst, dieThen:
			if i.kind == answer || i.kind == asking || i.kind == reply || i.kind == done || i.kind == exit {
				out = append(out, move{what: v})
			}
		case failOp:
			if i.kind == done {
				out = append(out, move{what: v})
			}
		case election:
			if s.leader != nil {
				out = append(out, move{what: v})
			}
		case outlived:
			if s.leader != nil && i.kind == commit {
				out = append(out, move{what: v})
			}
		default: // see moves
		}
	}
	return out
}

// recover lists the ends of faults.
func (s *state) recover(out []move) []move {
	if s.cuts != 0 {
		out = append(out, move{what: heal})
	}
	if s.hosts[a].frozen || s.hosts[b].frozen {
		out = append(out, move{what: wake})
	}
	for x := range side(both) {
		if !s.hosts[x].alive && s.off != int8(x) {
			out = append(out, move{bootUp, uint8(x)})
		}
	}
	if s.leader == nil {
		out = append(out, move{what: vote})
	}
	if s.stall {
		out = append(out, move{what: keepUp})
	}
	return out
}

// can says whether a fault or a wish makes sense now.
func (s *state) can(v verb, x side) bool {
	h := s.hosts[x]
	switch v {
	case stop, restart, forgets, freeze:
		return h.alive && !h.frozen
	case crash:
		return h.db.running
	case reboot:
		return h.alive || h.db.running
	case osStart:
		return !h.db.running && h.db.data
	case noQuorum, election:
		return s.leader != nil
	case outlived:
		return false // see disturb
	case lag:
		return !s.stall
	case switchover, force, forceLoss, forceOff:
		return s.leader != nil && s.record.Procedure == nil && s.record.Stage == pair.StageReady
	case pause:
		return s.leader != nil && s.record.Mode == pair.ModeAutomatic
	case resume:
		return s.leader != nil && s.record.Mode != pair.ModeAutomatic
	case shorter:
		return s.leader != nil && s.record.Policy.Lease > lease
	case longer:
		return s.leader != nil && s.record.Policy.Lease == lease
	case restore:
		return s.record.Revision.Generation() == 0
	default:
		return true
	}
}

// after is the state after a move; nil if the move cannot be.
func (f *family) after(s *state, m move) *state {
	n := s.successor()
	if m.what >= delay {
		n.faults--
	}
	n.moves++
	if ok := n.do(m); !ok {
		return nil
	}
	n.settle()
	return n
}

// settle is what happens without being asked for, after every move.
func (s *state) settle() {
	s.clients()
	if s.off >= 0 && s.record.Procedure == nil {
		s.off = -1
	}
	ofStale := func(i *item) bool { return i.term == s.stale.term && i.kind == confirm }
	if s.stale != nil && !slices.ContainsFunc(s.late, ofStale) && !slices.ContainsFunc(s.queue, ofStale) {
		s.stale = nil
	}
	s.late = slices.DeleteFunc(s.late, s.vain)
	if s.moves > 300 {
		s.violate("the parties chase each other without an end")
	}
}

// vain says that an item which was held up can have no effect any more, or that it is lost for good.
func (s *state) vain(i *item) bool {
	if s.now-i.born > oldest && i.kind != commit && i.kind != done {
		return true
	}
	switch i.kind {
	case answer, reply, exit:
		return i.start != s.hosts[i.host].start
	case confirm:
		return !(s.leader != nil && s.leader.term == i.term || s.stale != nil && s.stale.term == i.term)
	case asking, report, commit, done:
	}
	return false
}

func (s *state) next() *item {
	i := s.queue[0]
	s.queue = s.queue[1:]
	return i
}

func (s *state) do(m move) bool {
	x := side(m.arg)
	switch m.what {
	case proceed:
		return s.process(s.next(), survives)
	case arrive:
		i := s.late[m.arg]
		s.late = slices.Delete(s.late, int(m.arg), int(m.arg)+1)
		return s.process(i, survives)
	case delay:
		s.holdUp(s.next())
	case double:
		i := s.next()
		twin := *i
		twin.twice = true
		s.holdUp(&twin)
		return s.process(i, survives)
	case dieFirst:
		return s.process(s.next(), beforeSave)
	case dieThen:
		return s.process(s.next(), afterSave)
	case failOp:
		s.fail(s.next())
	case tick:
		s.pass()
	case heal:
		s.cuts = 0
	case wake:
		for x := range side(both) {
			if s.hosts[x].frozen {
				s.wake(x)
			}
		}
	case keepUp:
		s.stall = false
	case lag:
		s.stall = true
	case cut:
		s.cuts |= m.arg
	case bootUp:
		s.boot(x)
	case stop:
		s.kill(x)
	case restart:
		s.kill(x)
		s.boot(x)
	case forgets:
		s.kill(x)
		s.host(x).known = false
		s.boot(x)
	case crash:
		s.crash(x)
	case reboot:
		s.lose(x)
	case freeze:
		s.host(x).frozen = true
	case osStart:
		// R10: what starts by itself comes up unable to serve.
		d := &s.host(x).db
		d.running, d.primary, d.following, d.run = true, false, false, d.run+1
	case vote, election:
		s.elect(false)
	case outlived:
		s.elect(true)
	case noQuorum:
		s.leader, s.stale = nil, nil
	default:
		s.wish(m.what)
	}
	return true
}

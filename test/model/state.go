package main

import (
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/witnessd/witnessd/agent/hold"
	"github.com/witnessd/witnessd/test/wire"
	"github.com/witnessd/witnessd/witnessd/pair"
)

// The pair's timing in steps of one second: the shortest one in which every rule has room. A heartbeat is sent at
// each step, a fence may take its whole guard.
const (
	step    = time.Second
	lease   = 3 * step
	guard   = 1 * step
	origin  = 1000 * step // no instant is 0, which means "never"
	maxLate = 3           // messages on their way at once beside the punctual ones
	oldest  = 6 * step    // of a message that still arrives: more than any lease
	maxLog  = 2           // writes on one copy only; more show nothing new
)

func policy(lease time.Duration) pair.Policy {
	return pair.Policy{Profile: "model", Heartbeat: step, Lease: lease, Guard: guard, MirrorTimeout: 2 * step,
		ReleaseTimeout: 4 * step, PromoteTimeout: 6 * step}
}

// side is one of the two hosts.
type side uint8

const (
	a side = iota
	b
	both = 2
)

func (x side) other() side    { return 1 - x }
func (x side) String() string { return [...]string{"a", "b"}[x] }

func sideOf(h string) side {
	if h == "b" {
		return b
	}
	return a
}

// The directed links, as bits of state.cuts.
const (
	aToWitness = 1 << iota
	bToWitness
	witnessToA
	witnessToB
	aToB
	bToA
	allLinks = 1<<iota - 1
)

func toWitness(x side) uint8   { return aToWitness << x }
func fromWitness(x side) uint8 { return witnessToA << x }
func toPartner(x side) uint8   { return aToB << x }

// state is one moment: the witness, two hosts, and what is on its way between them. A state that was explored is
// never changed; a successor shares with it what did not change.
type state struct {
	now    time.Duration
	record *pair.Record
	leader *leading // nil: no quorum
	stale  *leading // deposed, and does not know it yet
	term   pair.Term
	hosts  [both]*host
	owned  [both]bool // hosts that this state may still change in place

	queue []*item // what happens at this instant, in order
	late  []*item // what was held up; it comes at any time, or never
	cuts  uint8
	moves int // within this instant; too many mean that the parties chase each other

	faults int  // that may still be injected
	stall  bool // the mirror's copy takes nothing in
	off    int8 // the host that an operator keeps off, -1: none
	backup *pair.Record

	acked    uint32 // writes that clients were told are safe, and that not both copies have
	forgiven uint32 // writes lost with an operator's word
	written  uint64 // writes that both copies have

	violation string
	note      func(format string, args ...any) // only in a replay
}

// leading is a node that leads, or believes it: what it knows of the pair.
type leading struct {
	term   pair.Term
	watch  pair.Watch
	record *pair.Record
}

// host is an agent with its database.
type host struct {
	side    side
	alive   bool // the agent runs
	frozen  bool
	managed bool
	start   int
	said    uint64
	state   hold.State
	file    hold.File // on disk
	known   bool
	mark    hold.Mark
	fence   hold.Instant // of the kernel: when it closes the port; 0: closed
	endless bool
	op      hold.Do // what its agent has begun
	// waiting is what came first of each kind while the agent stood still. It takes that in when it goes on.
	waiting [exit + 1]*item
	db      database
}

// kind is what an item is.
type kind uint8

const (
	report  kind = iota // a heartbeat on its way to the leader
	confirm             // it waits for an exchange with a quorum (R2)
	answer              // the leader's answer on its way back
	asking              // a partner heartbeat on its way
	reply               // its answer
	commit              // a command on its way into the log
	done                // an operation of a database comes to its end
	exit                // the kernel's word that a database died
)

// item is something under way. It is never changed.
type item struct {
	kind    kind
	born    time.Duration
	host    side // from or to whom; for partner messages, whose start counts
	start   int
	sent    hold.Instant
	receipt pair.Instant
	term    pair.Term
	asks    bool // for a lease
	report  *pair.Report
	answer  *hold.WitnessSays
	says    *hold.Says
	propose *pair.Propose
	do      hold.Do
	end     *hold.EngineDone // how it ended, if it did already
	twice   bool             // a copy of one that has come already
}

func (i *item) String() string {
	switch i.kind {
	case report:
		return fmt.Sprintf("heartbeat of %v", i.host)
	case confirm:
		return fmt.Sprintf("confirmation for %v", i.host)
	case answer:
		return fmt.Sprintf("answer to %v (revision %d, epoch %d, lease %v)", i.host, i.answer.Revision, i.answer.Epoch,
			i.answer.Lease)
	case asking:
		return fmt.Sprintf("partner heartbeat of %v", i.host)
	case reply:
		return fmt.Sprintf("partner's answer to %v (epoch %d, lease %v)", i.host, i.says.Epoch, i.says.Lease)
	case commit:
		return fmt.Sprintf("%T", i.propose.Command.Body)
	case done:
		return fmt.Sprintf("%v on %v", i.do.Op, i.host)
	case exit:
		return fmt.Sprintf("word of the dead database of %v", i.host)
	}
	return "?"
}

// successor is a copy to go on from.
func (s *state) successor() *state {
	n := *s
	n.owned = [both]bool{}
	n.queue, n.late = slices.Clone(s.queue), slices.Clone(s.late)
	return &n
}

// host returns a host that this state may change.
func (s *state) host(x side) *host {
	if !s.owned[x] {
		h := *s.hosts[x]
		s.hosts[x], s.owned[x] = &h, true
	}
	return s.hosts[x]
}

func (s *state) logf(format string, args ...any) {
	if s.note != nil {
		s.note(format, args...)
	}
}

func (s *state) violate(format string, args ...any) {
	if s.violation == "" {
		s.violation = fmt.Sprintf(format, args...)
	}
}

func (s *state) hostNow() hold.Instant    { return hold.Instant(s.now) }
func (s *state) witnessNow() pair.Instant { return pair.Instant(s.now) }

// say queues something for this instant, unless the link it takes is cut.
func (s *state) say(i *item) {
	i.born = s.now
	switch i.kind {
	case report:
		if s.cuts&toWitness(i.host) != 0 {
			return
		}
	case answer:
		if s.cuts&fromWitness(i.host) != 0 {
			return
		}
	case asking:
		if s.cuts&toPartner(i.host) != 0 {
			return
		}
	case reply:
		if s.cuts&toPartner(i.host.other()) != 0 {
			return
		}
	case confirm, commit, done, exit:
	}
	if i.kind == report || i.kind == asking {
		// One that has not left the host yet says what is so now.
		s.queue = slices.DeleteFunc(s.queue, func(o *item) bool { return o.kind == i.kind && o.host == i.host })
	}
	s.queue = append(s.queue, i)
}

// holdUp keeps an item for later. With too many on their way, the oldest is lost.
func (s *state) holdUp(i *item) {
	if len(s.late) == maxLate {
		s.late = s.late[1:]
	}
	s.late = append(s.late, i)
}

func name(x side) pair.HostID { return pair.HostID(x.String()) }

func member(x side) pair.Member {
	return pair.Member{Host: name(x), Instance: "db", LinkAddress: x.String() + ":1", ServiceAddress: x.String() + ":2",
		Engine: "model", SystemID: "x"}
}

// newState is a pair that is about to form, with data on a and nothing on b.
func newState() *state {
	create := pair.Command{Pair: "p1", Body: pair.Create{Name: "sales", Members: [2]pair.Member{
		{Host: name(a), Instance: "db"}, {Host: name(b), Instance: "db"}}, Primary: name(a), Mode: pair.ModeAutomatic,
		Policy: pair.DefaultPolicy()}}
	record, _, err := pair.Record{}.Apply(create, 0)
	if err != nil {
		panic(err)
	}
	record.Policy, record.LongestLease = policy(lease), lease
	s := &state{now: origin, record: &record, backup: &record, off: -1, written: 1000}
	for x := range side(both) {
		s.hosts[x] = &host{side: x, db: database{data: x == a, held: true, run: 1}}
		s.owned[x] = true
	}
	s.host(a).db.running = true
	s.elect(false)
	for x := range side(both) {
		s.boot(x)
	}
	return s
}

// boot starts the agent of a host.
func (s *state) boot(x side) {
	h := s.host(x)
	h.start++
	h.alive, h.frozen, h.managed, h.waiting = true, false, h.known, [exit + 1]*item{}
	h.state, h.op = hold.State{}, hold.Do{}
	if h.known {
		h.state = hold.New(x.String(), h.file, true, h.mark, s.hostNow())
	}
}

// kill ends the agent of a host and leaves its database, and the fence of the kernel, alone.
func (s *state) kill(x side) {
	h := s.host(x)
	h.alive, h.frozen, h.waiting = false, false, [exit + 1]*item{}
	h.start++
	h.state, h.op = hold.State{}, hold.Do{}
}

// lose ends everything on a host.
func (s *state) lose(x side) {
	s.kill(x)
	h := s.host(x)
	h.db.kill()
	h.mark, h.fence, h.endless = hold.Mark{}, 0, false
}

// wake lets the agent of a host go on.
func (s *state) wake(x side) {
	h := s.host(x)
	h.frozen = false
	for _, i := range h.waiting {
		if i != nil {
			s.queue = append(s.queue, i)
		}
	}
	h.waiting = [exit + 1]*item{}
}

// waits keeps an item for an agent that stands still.
func (s *state) waits(x side, i *item) {
	if s.hosts[x].waiting[i.kind] == nil {
		s.host(x).waiting[i.kind] = i
	}
}

func (s *state) partner(x side) *host { return s.hosts[x.other()] }

// beat sends a heartbeat to the witness.
func (s *state) beat(x side) {
	h := s.host(x)
	if !h.alive || h.frozen {
		return
	}
	h.said++
	said := hold.Report{Engine: s.look(x)}
	if h.managed {
		said = h.state.Report(s.hostNow())
	}
	r := wire.Report(wire.Sender{Host: x.String(), Start: strconv.Itoa(h.start), Sequence: h.said,
		TermHeard: h.state.TermHeard, Member: member(x)}, said)
	r.Member.SystemID = said.Engine.SystemID
	s.say(&item{kind: report, host: x, start: h.start, sent: s.hostNow(), asks: r.AskLease, report: &r})
}

// beatPartner sends a heartbeat to the partner.
func (s *state) beatPartner(x side) {
	h := s.hosts[x]
	if !h.alive || h.frozen || !h.managed || h.state.File.Peer.Host == "" {
		return
	}
	says := h.state.Ask()
	s.say(&item{kind: asking, host: x, start: h.start, sent: s.hostNow(), says: &says})
}

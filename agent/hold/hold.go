package hold

import (
	"fmt"
	"time"
)

// FenceTime is what a fence may need to end service: the witness's MinimumGuard, measured in docs/timing.md.
const FenceTime = 200 * time.Millisecond

// State is everything the agent knows of one pair. It is a value: Step returns a new one.
type State struct {
	Self    string
	Started Instant
	File    File
	Known   bool // the epoch file exists

	// What this start has heard from the witness. Before that, the right is unknown and treated as leased.
	heard     bool
	right     Right
	automatic bool
	ask       Ask
	askEpoch  Epoch
	askAt     Instant // when this was last heard to be asked
	refused   string
	// TermHeard is the term of the answer to the newest request that was answered, sent at termSent. It is not
	// the highest one: a restored witness counts from lower.
	TermHeard uint64
	termSent  Instant

	// gate is rule R10: only an answer to a request sent after it opens the database.
	gate Instant
	open bool
	mark Mark

	witnessLease Instant // holder's end of the witness lease for File.Epoch, the guard taken off
	partnerLease Instant // the same of the partner's

	// armSent is the highest revision named by an arm that was sent, or that a former start may have sent
	// (rule R8).
	armSent     Revision
	request     Request
	requestWhy  string
	exposeNow   bool // just promoted: expose without waiting for the mirror time-out
	hold        holding
	promise     Instant // until when this host has promised not to serve a later epoch (rule R7)
	promiseOf   Epoch   // the newest epoch for which it promised
	partnerOver Epoch   // highest epoch that the partner said it released
	partnerAll  bool    // ... with everything on this host
	partnerSeen Instant
	partnerMet  bool
	peerRole    Role // of the partner's database, as its agent last said

	engine   Engine
	engineOK bool // an observation was made in this start
	mirrorOK Instant
	prepared string // Engine.Run for which OpPromote has put gate and hold in place
	op       Op     // what runs now
	opID     uint64
	opBegan  Instant
	failedOp Op      // the operation that failed last,
	retryAt  Instant // not to be tried again before this
	tries    tries   // how often it failed so
	failures int     // of OpPromote in this epoch
	// followed is the epoch in which an OpFollow succeeded, followSeen when changes were last seen to stream.
	followed   Epoch
	followSeen Instant

	release   release
	hung      hungState
	unmanaged bool
	foreign   bool
	allowed   bool // may serve, as last told to the fence
	renewed   Renew
	complaint string

	toldWitness urgentNews // what the witness and the partner were last told, or are being told
	toldPartner news
}

// Mark is the timed fence that a former start of the agent left (rule R10): until then, and in that epoch,
// an open database may stay open.
type Mark struct {
	Epoch   Epoch
	Until   Instant
	Endless bool
}

// New is the state at the start of the agent. known says whether there was an epoch file.
func New(self string, file File, known bool, mark Mark, now Instant) State {
	s := State{Self: self, Started: now, File: file, Known: known, gate: now, mark: mark, mirrorOK: now}
	if known && file.Epoch > 0 && !(file.Primary == self && mark.Epoch == file.Epoch) {
		// R7: after a restart an agent assumes that it had just promised. A mark of the file's own epoch
		// proves that this host served it, and so had waited for its promise already.
		s.promise, s.promiseOf = now.Add(file.Longest), file.Epoch
	}
	return s
}

// Step takes one event and says what to do. Actions are to be carried out in order.
func Step(s State, ev Event, now Instant) (State, []Action) {
	o := &out{}
	switch e := ev.(type) {
	case WitnessSays:
		s.witnessSays(e, now, o)
	case PartnerAnswered:
		s.partnerAnswered(e, now, o)
	case PartnerAsked:
		s.partnerAsked(e, now, o)
	case EngineSeen:
		s.engineSeen(e.Engine, now)
	case EngineSilent:
		s.engineSilent(now)
	case EngineExited:
		s.engineExited(e, now, o)
	case EngineDone:
		s.engineDone(e, now, o)
	case Fenced:
		s.fenced(e, now, o)
	case Forget:
		s.forget(o)
	case Tick:
	default:
		panic(fmt.Sprintf("hold: unknown event %T", ev))
	}
	if s.Known {
		s.enforce(now, o)
		s.negotiate(now, o)
		s.enforce(now, o)
		s.operate(now, o)
	}
	// Compared with what was last said, not with what was so before this event: a promise ends, and a right
	// runs out, by the passing of time between two events.
	if n := s.urgent(now); n != s.toldWitness {
		s.toldWitness = n
		o.add(SendWitness{})
	}
	if n := s.partnerNews(); n != s.toldPartner {
		s.toldPartner = n
		o.add(SendPartner{})
	}
	return s, o.actions
}

// out collects actions in order.
type out struct{ actions []Action }

func (o *out) add(a Action) { o.actions = append(o.actions, a) }

func (o *out) note(warn bool, format string, args ...any) {
	o.add(Note{Text: fmt.Sprintf(format, args...), Warn: warn})
}

// primary says whether the file names this host primary and it has not given that epoch back.
func (s *State) primary() bool {
	return s.Known && s.File.Epoch > 0 && s.File.Primary == s.Self && s.File.Released < s.File.Epoch
}

// save puts the file on disk before anything after it happens (rule R7).
func (s *State) save(o *out) {
	s.Known = true
	o.add(Save{File: s.File})
}

// trustedSole is the second half of rule R8: "sole" is acted on only above the revision of every arm sent.
func (s *State) trustedSole() bool {
	return s.heard && s.right == RightSole && s.File.Revision > s.armSent
}

// ServeUntil says whether this host may let clients in at now, and until when. It is the one place that
// answers this question.
func (s *State) ServeUntil(now Instant) (until Instant, endless, ok bool) {
	if !s.primary() || s.release.begun && !s.handingOver() {
		return 0, false, false
	}
	if s.unmanaged {
		return 0, true, true
	}
	if m := s.mark; m.Epoch == s.File.Epoch && (m.Endless || now < m.Until) {
		until, endless, ok = m.Until, m.Endless, true
	}
	// R7: a mirror that was told to promote waits until its own promise has run out.
	if now < s.promise || !s.open {
		return until, endless, ok
	}
	if s.trustedSole() {
		return 0, true, true
	}
	if lease := s.leaseEnd(); now < lease {
		return max(until, lease), endless, true
	}
	return until, endless, ok
}

// leaseEnd is when this host must have stopped serving on its leases.
func (s *State) leaseEnd() Instant { return max(s.witnessLease, s.partnerLease) }

// guarded is the holder's end of a lease (rule R1): counted from when the request was sent, less one guard, so that
// a fence that takes its whole budget is still in time. The granter may have heard of a longer lease before this host
// has; the guard in this host's file would then be too short for the difference of clock rates over it (1 % each way).
func (s *State) guarded(sent Instant, lease time.Duration) Instant {
	return sent.Add(lease - max(s.File.Timing.Guard, FenceTime+lease/50))
}

// enforce tells the fence what it must know, before anything that depends on it is done.
func (s *State) enforce(now Instant, o *out) {
	if own := s.open && now >= s.promise && (s.trustedSole() || now < s.leaseEnd()); own && (s.heard || !s.mark.Endless) {
		// This start has a right of its own; what the former start left behind has served its purpose. A sole
		// right is not exchanged for a partner's lease: only the witness can say that it is over.
		s.mark = Mark{}
	}
	until, endless, ok := s.ServeUntil(now)
	switch {
	case ok:
		r := Renew{Epoch: s.File.Epoch, Until: until, Endless: endless}
		if r != s.renewed {
			s.renewed = r
			o.add(r)
		}
	case s.allowed || s.engineOK && s.engine.Running && s.engine.Role == RolePrimary && s.File.Epoch > 0:
		// While the pair is forming (epoch 0), a database that serves is none of this agent's business yet.
		s.shut("no right to serve epoch "+fmt.Sprint(s.File.Epoch), now, o)
	}
	s.allowed = ok
}

// shut ends service at once. Whatever opens again needs an answer to a request sent after this (rule R10).
func (s *State) shut(why string, now Instant, o *out) {
	s.abandon(o)
	o.add(Fence{Why: why})
	s.closeGate(now)
	s.allowed, s.renewed = false, Renew{}
	s.engine = Engine{Began: now}
	s.hold = holding{}
}

// abandon ends an operation that a fence has made pointless; its failure is not the database's.
func (s *State) abandon(o *out) {
	if s.op != OpNone {
		s.do(OpNone, o)
	}
}

func (s *State) closeGate(now Instant) {
	s.gate, s.open, s.prepared = now, false, ""
	s.mark = Mark{}
}

// fenced takes note that the right has run out on the fence's own clock.
func (s *State) fenced(e Fenced, now Instant, o *out) {
	s.abandon(o)
	s.closeGate(now)
	s.allowed, s.renewed = false, Renew{}
	s.engine = Engine{Began: now}
	s.hold = holding{}
	o.note(true, "fenced: %s", e.Why)
}

// urgentNews is what the witness must hear at once and not at the next beat.
type urgentNews struct {
	epoch, released, partnerOver Epoch
	revision                     Revision
	promised, serving, unmanaged bool
	promotable, following        bool
	request                      Request
	complaint                    string
	term                         uint64
}

func (s *State) urgent(now Instant) urgentNews {
	return urgentNews{
		epoch: s.File.Epoch, released: s.File.Released, partnerOver: s.partnerOver, revision: s.File.Revision,
		promised: now < s.promise, serving: s.serving(now), unmanaged: s.unmanaged,
		promotable: s.engine.Promotable, following: s.engine.Following,
		request: s.request, complaint: s.complaint, term: s.TermHeard,
	}
}

// news is what the partner must hear at once.
type news struct {
	epoch, released, asked Epoch
	role                   Role
}

func (s *State) partnerNews() news {
	return news{epoch: s.File.Epoch, released: s.File.Released, asked: s.releaseAsked(), role: s.engine.Role}
}

// releaseAsked is the epoch that an operator wants released, for the partner (rule R14).
func (s *State) releaseAsked() Epoch {
	if s.ask == AskRelease || s.ask == AskWithhold {
		return s.askEpoch
	}
	return 0
}

func (s *State) serving(now Instant) bool {
	_, _, ok := s.ServeUntil(now)
	return ok && s.engine.Running && s.engine.Role == RolePrimary && s.prepared == s.engine.Run
}

// forget ends the management of the pair: the record is a tombstone.
func (s *State) forget(o *out) {
	o.note(true, "pair %s was removed; its instance is no longer managed", s.File.Name)
	if s.op != OpNone {
		o.add(Do{Op: OpNone})
	}
	if copying := s.engine.Running && s.engine.Role == RoleMirror; !copying && !s.allowed {
		// What may run as a primary and has no right to be open is not opened by this agent's going.
		o.add(Fence{Why: "the pair was removed, and this host had no right to serve it"})
	}
	*s = State{Self: s.Self, Started: s.Started, TermHeard: s.TermHeard, engine: s.engine, engineOK: s.engineOK}
}

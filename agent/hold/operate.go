package hold

import (
	"fmt"
	"time"
)

// promoteTries is how often a leased primary tries to bring its database up before it gives the epoch back.
const promoteTries = 2

// reattachTime is how long a mirror's own receiver may try to come back before its agent steps in. PostgreSQL
// retries by itself every few seconds.
const reattachTime = 5 * time.Second

// operate chooses what the engine should be doing and begins it.
func (s *State) operate(now Instant, o *out) {
	s.considerRelease(now, o)
	s.considerRestart(now, o)
	s.enforce(now, o)
	// R16: what is removed is let go of only when the record says sole, and so nobody else can take over.
	// A database that serves is let go of by OpLetGo; one that does not come up is left as it is.
	if s.ask == AskUnmanage && s.primary() && s.trustedSole() && s.engine.Role != RolePrimary && s.failures > 0 &&
		s.op == OpNone {
		s.unmanaged = true
	}
	op := s.next(now)
	if op == s.failedOp && now < s.retryAt {
		op = OpNone
	}
	if op == s.op || s.op != OpNone && !s.preempts(op) {
		return
	}
	s.opBegan = now
	s.do(op, o)
}

func (s *State) do(op Op, o *out) {
	s.op = op
	s.opID++
	if op == OpReleaseCommits {
		// From now on nothing holds for certain: it must be proved anew before the next arm.
		s.hold = holding{notUntil: s.hold.notUntil}
	}
	o.add(Do{Op: op, ID: s.opID, Peer: s.File.Peer})
}

// preempts says whether op may end what is running. Stopping and changing direction may; holding commits
// waits for its turn.
func (s *State) preempts(op Op) bool {
	switch op {
	case OpStop, OpHandOver, OpFollow:
		return true
	case OpPromote:
		return s.op == OpFollow || s.op == OpStop || s.op == OpHandOver
	case OpReleaseCommits:
		return s.op == OpHold
	case OpNone:
		return s.op == OpPromote && !s.allowed
	default:
		return false
	}
}

// next is what the engine should be doing now, by the first reason that applies.
func (s *State) next(now Instant) Op {
	switch {
	case s.File.Epoch == 0 || s.unmanaged:
		return OpNone
	case s.release.begun && !s.release.stopped:
		return s.stopping()
	case s.primary() && s.allowed:
		return s.nextPrimary(now)
	case s.File.Primary != s.Self:
		return s.nextMirror(now)
	case s.File.Released == s.File.Epoch && s.engine.Running:
		return OpStop
	}
	return OpNone
}

func (s *State) nextPrimary(now Instant) Op {
	e := s.engine
	switch {
	case !s.engineOK:
		return OpNone
	case s.mark != Mark{}:
		// R10: what the former start left open runs on as it is; nothing is opened or changed on its strength.
		return OpNone
	case !e.Running || e.Role != RolePrimary || s.prepared != e.Run:
		return OpPromote
	case s.wantHeld(now):
		if proved := e.Commits == CommitsHeld && s.hold.run == e.Run; !proved && e.MirrorAttached {
			return OpHold
		}
		return OpNone
	case e.Commits != CommitsAlone:
		return OpReleaseCommits
	case s.ask == AskUnmanage:
		return OpLetGo
	}
	return OpNone
}

// nextMirror follows, and leaves alone what follows already or may come back by itself.
func (s *State) nextMirror(now Instant) Op {
	e := s.engine
	running := e.Running && e.Role == RoleMirror
	switch {
	case s.foreign || !s.engineOK || s.File.Peer.ServiceAddress == "":
		return OpNone
	case s.op == OpFollow:
		return OpFollow
	case s.hearsPartner(now) && s.peerRole == RoleMirror:
		return OpNone // the partner's database is a mirror itself; it says so when that changes
	case running && s.followed == s.File.Epoch && (e.Following || now.Sub(s.followSeen) < reattachTime):
		return OpNone
	}
	return OpFollow
}

// engineExited takes note that the database died by itself. Leased and with a mirror that was there a moment
// ago, the mirror is the quicker way back; otherwise this host is the only one.
func (s *State) engineExited(e EngineExited, now Instant, o *out) {
	wasPrimary := s.engine.Role == RolePrimary
	synced := s.engine.MirrorAttached
	s.engine = Engine{Began: now}
	if !s.Known {
		return
	}
	o.note(true, "database process ended: %s", e.Reason)
	if s.File.Primary != s.Self {
		s.diedAgain(e, OpFollow, now)
		return
	}
	if s.File.Released == s.File.Epoch {
		return
	}
	s.hold = holding{notUntil: s.hold.notUntil}
	switch {
	case s.release.begun:
	case wasPrimary && synced && !s.trustedSole() && s.witnessed(now):
		s.beginRelease(false, "the database died", o)
	default:
		s.closeGate(now)
		s.diedAgain(e, OpPromote, now)
	}
}

// engineDone takes the end of an operation in.
func (s *State) engineDone(e EngineDone, now Instant, o *out) {
	if e.Op != s.op || e.ID != s.opID {
		return // it was ended because another operation was begun
	}
	s.op = OpNone
	if e.Cut {
		return
	}
	if e.Err != "" {
		s.failed(e, now, o)
		return
	}
	s.complaint, s.foreign, s.retryAt, s.tries = "", false, 0, tries{}
	switch e.Op {
	case OpNone:
	case OpPromote:
		s.prepared, s.failures = e.Engine.Run, 0
	case OpHold:
		s.hold.run, s.hold.since, s.hold.based, s.hold.synced = e.Engine.Run, e.Engine.Began, false, false
	case OpReleaseCommits:
		s.hold = holding{notUntil: now.Add(s.File.Timing.MirrorTimeout)}
	case OpFollow:
		s.followed = s.File.Epoch
	case OpLetGo:
		s.unmanaged = true
	case OpHandOver, OpStop:
		s.release.stopped = s.release.begun
		s.release.everything = e.Everything
	}
	s.engineSeen(e.Engine, now)
}

func (s *State) failed(e EngineDone, now Instant, o *out) {
	s.tries = s.tries.again(e.Op, s.File, e.Err)
	wait := s.tries.wait(now.Sub(s.opBegan))
	s.failedOp, s.retryAt = e.Op, now.Add(wait)
	s.foreign = e.Foreign
	s.complaint = fmt.Sprintf("%v: %s", e.Op, e.Err)
	if !e.Foreign {
		s.complaint += s.tries.words(wait)
	}
	if s.tries.loud() {
		o.note(true, "%s", s.complaint)
	}
	switch e.Op {
	case OpNone, OpFollow, OpHold, OpReleaseCommits, OpStop, OpLetGo:
	case OpPromote:
		s.failures++
	case OpHandOver:
		s.release.noHandOver = true
	}
}

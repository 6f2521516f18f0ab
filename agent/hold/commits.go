package hold

import "fmt"

// holding follows the proof of rule R8: commits are seen to hold first, then a position is read, then the
// mirror is seen to have everything up to it.
type holding struct {
	run      string  // the engine's run in which holding was proved; an engine restart voids the proof
	since    Instant // when the proof was complete; only looks begun later may read the baseline
	baseline uint64
	based    bool
	synced   bool
	keepsUp  int     // consecutive looks at which the mirror had confirmed the position of the look before
	notUntil Instant // do not hold again before this: the mirror was lost while commits waited for it
}

// looksToKeepUp is how many looks in a row a mirror must have confirmed the former position before commits
// are made to wait for it: one could be chance while it is still catching up.
const looksToKeepUp = 2

// engineSeen takes a look at the instance in, and what it proves.
func (s *State) engineSeen(e Engine, now Instant) {
	former := s.engine
	if s.engineOK && e.Began < former.Began {
		return
	}
	s.engine, s.engineOK = e, true
	s.engineHeard(e)
	if e.SystemID != former.SystemID {
		s.foreign = false // somebody has seen to it
	}
	if s.mark != (Mark{}) && !(e.Running && e.Role == RolePrimary) {
		// R10: the mark is of a database that was open; this one is not.
		s.closeGate(now)
	}
	if e.Following {
		s.followSeen = e.Began
	}
	if e.Role != RolePrimary {
		s.hold, s.mirrorOK = holding{notUntil: s.hold.notUntil}, now
		return
	}
	keeps := e.MirrorAttached && former.Run == e.Run && e.MirrorFlushed >= former.Position
	if keeps {
		s.mirrorOK = e.Began
		s.hold.keepsUp++
	} else {
		s.hold.keepsUp = 0
	}
	h := &s.hold
	switch {
	case e.Commits != CommitsHeld || e.Run != h.run || !e.MirrorAttached:
		h.based, h.synced = false, false
	case !h.based && e.Began >= h.since:
		h.based, h.baseline = true, e.Position
	}
	if h.based && e.MirrorFlushed >= h.baseline {
		h.synced = true
	}
}

// mirrorLost says whether the mirror has not kept up for the mirror time-out. It is only asked after a look
// at the instance: without looks nothing is known about the mirror.
func (s *State) mirrorLost() bool {
	return s.engine.Began.Sub(s.mirrorOK) >= s.File.Timing.MirrorTimeout
}

// negotiate decides what to ask of the record (rule R8).
func (s *State) negotiate(now Instant, o *out) {
	former := s.request
	s.request = s.wish(now)
	if s.request != RequestArm || s.armSent >= s.File.Revision {
		return
	}
	// From the instant it asks it behaves as leased, the fence included: enforce runs after this and
	// before anything is sent.
	s.armSent = s.File.Revision
	if former != RequestArm {
		o.note(false, "mirror has everything; asking to arm at revision %v", s.File.Revision)
	}
}

func (s *State) wish(now Instant) Request {
	if !s.primary() || s.release.begun || !s.heard {
		return RequestNone
	}
	switch {
	case s.ask == AskUnmanage && !s.trustedSole():
		s.requestWhy = "the pair is being removed"
		return RequestExpose
	case s.trustedSole():
		s.exposeNow = false
		if s.armable(now) {
			return RequestArm
		}
		return RequestNone
	case s.right == RightSole && s.armSent >= s.File.Revision && s.request == RequestArm && !s.mirrorLost():
		return RequestArm // sent, not answered yet
	case s.right == RightSole:
		s.requestWhy = "agent started; it cannot know what a former start asked"
		return RequestExpose
	case s.exposeNow && !s.hold.synced && s.prepared != "" && s.prepared == s.engine.Run:
		// Not before the database is up: if this host died on the way, the old primary could not take over again.
		s.requestWhy = fmt.Sprintf("new primary of epoch %d has no mirror yet", s.File.Epoch)
		return RequestExpose
	case s.engine.Role == RolePrimary && s.engine.LossBound > 0 && s.hold.run == s.engine.Run &&
		s.engine.Commits == CommitsAlone:
		// The engine did not wait for the record; the sooner the record says so, the less can be lost.
		s.requestWhy = "the engine has stopped holding commits by itself"
		return RequestExpose
	case s.engine.Role == RolePrimary && s.mirrorLost():
		s.requestWhy = fmt.Sprintf("mirror has confirmed nothing for %v", s.engine.Began.Sub(s.mirrorOK))
		return RequestExpose
	}
	return RequestNone
}

// armable says whether the primary may ask to arm: commits seen to hold, mirror seen to have everything, and a
// live lease, or it would stop itself by asking.
func (s *State) armable(now Instant) bool {
	return s.automatic && s.ask == AskNothing && s.hold.synced && !s.mirrorLost() && s.serving(now) &&
		s.File.Timing.Heartbeat < s.leaseEnd().Sub(now)
}

// wantHeld says whether commits should wait for the mirror.
func (s *State) wantHeld(now Instant) bool {
	if !s.trustedSole() {
		return true
	}
	switch {
	case s.ask == AskUnmanage:
		return false
	case s.hold.run == s.engine.Run && s.engine.Commits == CommitsHeld:
		return !s.mirrorLost()
	default:
		return s.hold.keepsUp >= looksToKeepUp && now >= s.hold.notUntil
	}
}

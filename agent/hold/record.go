package hold

// witnessSays takes an answer of the witness in.
func (s *State) witnessSays(e WitnessSays, now Instant, o *out) {
	if e.Sent >= s.termSent {
		s.TermHeard, s.termSent = e.Term, e.Sent
	}
	s.refused = e.Refused
	if s.Known && e.Epoch < s.File.Epoch {
		// The partner has told us of a later epoch; this answer is older than that.
		return
	}
	if !s.heard {
		s.firstWord(e)
	}
	if e.Epoch > s.File.Epoch || !s.Known {
		s.newEpoch(e.Epoch, e.Primary, e.Mirror, now, o)
	}
	// R8: lower revisions are ignored; they were answered before what we already know.
	if e.Revision >= s.File.Revision {
		s.takeRecord(e, o)
	}
	s.heard = true
	if e.Released == s.File.Epoch && s.primary() {
		s.releasedBefore(now, o)
	}
	if s.right == RightLeased {
		s.mark.Endless = false
	}
	if e.Released == s.File.Epoch && s.File.Primary != s.Self {
		s.partnerReleased(e.Released, false, now)
	}
	if !s.primary() || e.Primary != s.Self {
		return
	}
	s.pass(e.Sent)
	if e.Lease > 0 {
		s.witnessLease = max(s.witnessLease, s.guarded(e.Sent, e.Lease))
	}
}

// firstWord is rule R8 for a new start: the first revision heard counts as that of an arm which a former
// start may have sent. A pair that was still forming in this agent's own file was never armed by it.
func (s *State) firstWord(e WitnessSays) {
	if neverArmed := s.Known && s.File.Epoch == 0 || e.Epoch == 0; !neverArmed {
		s.armSent = max(s.armSent, e.Revision, s.File.Revision)
	}
	if !s.Known {
		// R7: without a file nobody knows what was promised; assume the most.
		s.promise, s.promiseOf = s.Started.Add(e.Longest), e.Epoch
		if e.Epoch == 0 {
			s.promise = 0
		}
	}
}

// takeRecord copies what the record says, onto the disk first.
func (s *State) takeRecord(e WitnessSays, o *out) {
	f := s.File
	f.Name, f.Revision, f.Longest, f.Timing = e.Name, e.Revision, e.Longest, e.Timing
	if e.Peer.Host != "" {
		f.Peer = e.Peer
	}
	if f.Epoch == e.Epoch {
		f.Primary, f.Mirror = e.Primary, e.Mirror
	}
	if f != s.File || !s.Known {
		s.File = f
		s.save(o)
	}
	s.right, s.automatic, s.ask, s.askEpoch, s.askAt = e.Right, e.Automatic, e.Ask, e.AskEpoch, e.Sent
	if s.ask != AskUnmanage {
		s.unmanaged = false
	}
}

// newEpoch is the only thing that takes a right away (rule R11), and the only thing that gives one. Epochs
// come from answers of the witness or from the partner's file, and so were applied before (rule R7).
func (s *State) newEpoch(epoch Epoch, primary, mirror string, now Instant, o *out) {
	lost := s.allowed && primary != s.Self
	if lost {
		s.shut("a later epoch names another primary", now, o)
	}
	s.File.Epoch, s.File.Primary, s.File.Mirror = epoch, primary, mirror
	s.save(o)
	s.witnessLease, s.partnerLease = 0, 0
	s.release, s.unmanaged, s.failures, s.retryAt = release{}, false, 0, 0
	s.request, s.hold, s.mark, s.prepared = RequestNone, holding{}, Mark{}, ""
	s.hung.crashes = 0
	// Until the record of this epoch is heard, the more careful of two rights is assumed: leased.
	s.right, s.ask = RightUnknown, AskNothing
	if s.op != OpNone && s.op != OpFollow {
		// It was begun for another epoch, perhaps with another mirror. A clone may go on.
		s.do(OpNone, o)
	}
	if primary == s.Self && epoch > 0 {
		// R8: a new primary exposes at once, before it commits alone.
		s.exposeNow, s.mirrorOK = true, now
		o.note(false, "this host is primary of epoch %d", epoch)
		return
	}
	s.exposeNow = false
	if epoch > 0 {
		o.note(false, "%s is primary of epoch %d", primary, epoch)
	}
}

// pass opens the restart gate for an answer to a request of this start (rule R10).
func (s *State) pass(sent Instant) {
	if sent >= s.gate {
		s.open = true
	}
}

// partnerReleased is rule R9: whoever hears of it need not wait for leases of that epoch.
func (s *State) partnerReleased(epoch Epoch, everything bool, now Instant) {
	if epoch > s.partnerOver {
		s.partnerOver, s.partnerAll = epoch, false
	}
	if epoch == s.partnerOver {
		s.partnerAll = s.partnerAll || everything
	}
	if s.promiseOf <= epoch && now < s.promise {
		s.promise = now
	}
}

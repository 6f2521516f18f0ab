package hold

// partnerAnswered takes the partner's answer in: perhaps a lease, perhaps a later epoch.
func (s *State) partnerAnswered(e PartnerAnswered, now Instant, o *out) {
	if !s.Known || e.Host != s.File.Peer.Host {
		return
	}
	s.hear(e.Says, now, o)
	says := e.Says
	// The holder counts only leases granted by the mirror that the record names, for its own epoch (R7).
	if says.Lease <= 0 || !s.primary() || says.Epoch != s.File.Epoch || e.Host != s.File.Mirror {
		return
	}
	s.pass(e.Sent)
	s.partnerLease = max(s.partnerLease, s.guarded(e.Sent, says.Lease))
}

// partnerAsked answers the partner's heartbeat, with a lease if it may have one.
func (s *State) partnerAsked(e PartnerAsked, now Instant, o *out) {
	if !s.Known || e.Host != s.File.Peer.Host {
		o.add(ReplyPartner{Token: e.Token, Says: Says{Pair: e.Says.Pair, Refused: "NO_EPOCH_FILE"}})
		return
	}
	s.hear(e.Says, now, o)
	reply := s.says()
	reply.AskLease = false
	if e.Says.AskLease {
		reply.Refused = s.refusal(e)
		if reply.Refused == "" {
			reply.Lease = s.File.Timing.Lease
			// R1: the granter counts from receipt, in full; now is not before receipt.
			s.promise, s.promiseOf = max(s.promise, now.Add(reply.Lease)), s.File.Epoch
		}
	}
	o.add(ReplyPartner{Token: e.Token, Says: reply})
}

// refusal says why the partner gets no lease (rule R7): it must be the file's primary of the file's epoch,
// and this host that epoch's mirror.
func (s *State) refusal(e PartnerAsked) string {
	switch {
	case s.File.Epoch == 0:
		return "FORMING"
	case e.Says.Epoch != s.File.Epoch:
		return "STALE_EPOCH"
	case s.File.Primary != e.Host || s.File.Mirror != s.Self:
		return "NOT_PRIMARY"
	case s.partnerOver >= s.File.Epoch:
		return "EPOCH_RELEASED"
	case s.ask == AskWithhold && s.askEpoch == s.File.Epoch && e.Says.Revision <= s.File.Revision:
		// A partner that has a later record knows better what is asked: this host may be cut from the witness.
		return "LEASE_WITHHELD"
	}
	return ""
}

// hear takes in what holds for requests and answers alike.
func (s *State) hear(says Says, now Instant, o *out) {
	s.partnerSeen, s.partnerMet = now, true
	if says.Engine.Role == RolePrimary && s.peerRole != RolePrimary && s.failedOp == OpFollow {
		s.retryAt = 0 // what a follow has waited for
	}
	s.peerRole = says.Engine.Role
	if says.Epoch > s.File.Epoch && says.Primary != "" && !s.formingHere(says) {
		mirror := s.Self
		if says.Primary == s.Self {
			mirror = s.File.Peer.Host
		}
		s.newEpoch(says.Epoch, says.Primary, mirror, now, o)
		// The revision stays that of the record which this host has: the policy in force comes with it, and the
		// witness believes that who has the revision has the policy (R12).
		if says.Longest > s.File.Longest {
			s.File.Longest = says.Longest
			s.save(o)
		}
	}
	if says.Released > 0 && says.Released == s.File.Epoch && s.File.Primary == s.File.Peer.Host {
		s.partnerReleased(says.Released, says.ReleasedEverything, now)
	}
	if says.ReleaseAsked > 0 && says.ReleaseAsked == s.File.Epoch && s.primary() && says.Revision > s.File.Revision {
		// R14: the partner has this from a later record than this host's; it asks on the operator's behalf.
		if s.ask == AskNothing {
			o.note(true, "the partner passes on that an operator asks to release epoch %d", says.ReleaseAsked)
		}
		s.ask, s.askEpoch, s.askAt = AskRelease, says.ReleaseAsked, now
	}
}

// formingHere says whether the partner tells of the pair's first epoch, which is this host's own. The database serves
// already, as nobody's business, and is taken over as it runs; what it needs for that is the witness's word, and the
// partner's, which may be the quicker one, would only end its service for a moment.
func (s *State) formingHere(says Says) bool {
	return s.File.Epoch == 0 && says.Epoch == 1 && says.Primary == s.Self
}

// says is what this host tells its partner.
func (s *State) says() Says {
	return Says{
		Pair: s.File.Pair, Epoch: s.File.Epoch, Primary: s.File.Primary, Revision: s.File.Revision,
		Longest: s.File.Longest, Released: s.File.Released, ReleasedEverything: s.File.ReleasedEverything,
		AskLease: s.wantsLease(), ReleaseAsked: s.releaseAsked(), Engine: s.engine,
	}
}

// hearsPartner says whether the partner's agent was heard within one lease.
func (s *State) hearsPartner(now Instant) bool {
	return s.partnerMet && now.Sub(s.partnerSeen) <= s.File.Timing.Lease
}

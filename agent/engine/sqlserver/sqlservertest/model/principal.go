package model

// This file is the principal's side of a session, and how two partners agree on who is principal.

// Kinds of messages between partners.
const (
	kindSession  = "session"  // either: what I am, once per link
	kindConfig   = "config"   // principal: what holds; answered by an ack
	kindLog      = "log"      // principal: records after LSN
	kindFailover = "failover" // principal: take the role once LSN is redone
	kindResume   = "resume"   // principal: say again what you are
	kindAck      = "ack"      // mirror: hardened up to LSN; configuration Number holds
	kindSwapped  = "swapped"  // mirror: I am principal now
	kindSuspend  = "suspend"  // mirror: suspend the session
	kindWithdraw = "withdraw" // either: my database is lost
	kindOff      = "off"      // either: mirroring is removed
)

// greetPartner says what this partner is. A mirror that has asked the witness for the role waits for the answer first.
func (i *Instance) greetPartner(s *session) {
	if s.db.suspect {
		return
	}
	if s.asking || s.taking != nil {
		s.parked = true
		return
	}
	s.parked, s.greeted = false, true
	i.tell(s, message{
		Kind: kindSession, Role: s.Role, Seq: s.Seq, LSN: s.db.end(), Forks: s.db.forks(), Suspend: s.Asks,
	})
}

// tell sends a message of this session to the partner.
func (i *Instance) tell(s *session, m message) {
	m.Session, m.Database, m.Name = s.GUID, s.Database, i.options.Name
	i.send(s.Partner, m)
}

// reconcile is what the roles come to when the partner has said what it is. The higher role sequence is right.
func (i *Instance) reconcile(s *session, m message) {
	if s.asking || s.taking != nil {
		return
	}
	s.PartnerID = m.Name
	switch {
	case s.Role == rolePrincipal && m.Role == roleMirror:
		i.attach(s, m)
	case s.Role == rolePrincipal && m.Role == rolePrincipal:
		if m.Seq > s.Seq || m.Seq == s.Seq && i.advertise < s.Partner {
			i.stepDown(s, m.Seq)
			i.greetPartner(s)
		}
	}
}

// stepDown makes a principal the mirror. Its clients are cut; its commits in flight have no known outcome.
func (i *Instance) stepDown(s *session, seq int32) {
	s.Role, s.Seq, s.Asks, s.db.restoring = roleMirror, max(s.Seq, seq), false, true
	s.held, s.handing, s.quorum, s.alone, s.connected, s.synced = false, false, false, false, false, false
	s.confirm, s.waiting = false, nil
	i.persist()
	s.db.endSessions()
	i.greetWitness(s)
}

// attach connects the mirror: its log is cut to what both have, unless the session is suspended, and the rest follows.
func (i *Instance) attach(s *session, m message) {
	if m.Seq > s.Seq || m.Suspend && !s.Suspended {
		s.Seq, s.Suspended = max(s.Seq, m.Seq), s.Suspended || m.Suspend
		i.persist()
	}
	s.connected, s.held, s.handing, s.synced, s.quorum = true, false, false, false, true
	s.acked = s.db.common(m.Forks, m.LSN)
	s.catching, s.target = false, s.db.end()
	s.attached = s.number + 1
	i.configureAt(s, !s.Suspended)
	if rest := s.db.after(s.acked); len(rest) > 0 && !s.Suspended {
		i.tell(s, message{Kind: kindLog, LSN: s.acked, Records: rest})
	}
}

// configure tells the mirror what holds.
func (i *Instance) configure(s *session) { i.configureAt(s, false) }

func (i *Instance) configureAt(s *session, cut bool) {
	if !s.connected {
		return
	}
	s.number++
	witness, seq := s.Witness, s.Seq
	if s.offer != nil {
		witness = *s.offer
	}
	i.tell(s, message{
		Kind: kindConfig, Number: s.number, Seq: max(seq, s.bump), Witness: witness, Other: s.prospect,
		Safety: s.Safety, SafetySeq: s.SafetySeq, Timeout: s.Timeout, Suspend: s.Suspended, Synced: s.synced,
		HasQuorum: s.confirm && !s.exposed, Cut: cut, LSN: s.acked,
	})
}

// committed takes a commit of this database: it is hardened here, and done is called when it may be acknowledged.
func (i *Instance) committed(s *session, lsn LSN, done func(error)) {
	s.waiting = append(s.waiting, waiter{lsn, done})
	if n := len(s.db.records); s.connected && !s.Suspended {
		before := LSN{}
		if n > 1 {
			before = s.db.records[n-2].LSN
		}
		i.tell(s, message{Kind: kindLog, LSN: before, Records: s.db.records[n-1:]})
	}
	s.settle()
}

// settle acknowledges the commits that the mirror has hardened, and all of them where nobody could become principal
// without them.
func (s *session) settle() {
	kept := s.waiting[:0]
	for _, w := range s.waiting {
		if s.alone && !s.synced && !s.catching || w.lsn.Compare(s.acked) <= 0 {
			w.done(nil)
		} else {
			kept = append(kept, w)
		}
	}
	s.waiting = kept
}

// fromMirror handles what the mirror says.
func (i *Instance) fromMirror(s *session, m message) {
	switch m.Kind {
	case kindAck:
		i.acknowledged(s, m)
	case kindSuspend:
		i.suspend(s)
	case kindSwapped:
		if s.handing {
			i.stepDown(s, m.Seq)
			i.greetPartner(s)
		}
	}
}

func (i *Instance) acknowledged(s *session, m message) {
	if !s.connected || m.Number < s.attached {
		return
	}
	if !s.Suspended && m.LSN.Compare(s.acked) > 0 {
		s.acked = m.LSN
	}
	s.seen = m.Other
	s.confirmed = max(s.confirmed, m.Number)
	if s.bump > s.Seq && m.Seq == s.bump {
		s.Seq, s.bump = s.bump, 0
		i.persist()
		i.claim(s)
	}
	if m.Number == s.number && !m.Synced && !s.synced {
		s.alone = true
	}
	i.catchUp(s)
	s.settle()
}

// catchUp makes a session SYNCHRONIZED in two steps: when the mirror has what there was at the beginning, new commits
// begin to wait for it; when it has what there was then, it has every acknowledged commit.
func (i *Instance) catchUp(s *session) {
	if s.synced || s.Suspended || s.held || s.Safety != safetyFull || s.acked.Compare(s.target) < 0 {
		return
	}
	if !s.catching {
		s.catching, s.target = true, s.db.end()
		if s.acked.Compare(s.target) < 0 {
			return
		}
	}
	s.synced, s.alone, s.catching = true, false, false
	i.claim(s)
	i.configure(s)
}

// suspend stops the session until RESUME; the principal serves on.
func (i *Instance) suspend(s *session) {
	if s.Suspended {
		return
	}
	s.Suspended = true
	i.persist()
	i.expose(s)
}

// expose leaves the mirror behind: it acknowledges alone as soon as nobody who does not know could promote the mirror.
func (i *Instance) expose(s *session) {
	s.synced, s.catching, s.target = false, false, s.db.end()
	if s.Witness == "" {
		s.alone = true
	}
	i.claim(s)
	i.configure(s)
	s.settle()
}

// lostPartner is called when the partner is gone, or says that its database is.
func (i *Instance) lostPartner(s *session) {
	if s.GUID == "" {
		return
	}
	if s.Role == roleMirror {
		i.lostPrincipal(s)
		return
	}
	s.connected, s.bump = false, 0
	switch {
	case s.handing:
		s.synced, s.catching, s.held = false, false, true
	case s.Witness != "" && !s.confirm:
		i.offline(s)
	default:
		i.expose(s)
	}
}

// offline is the loss of quorum.
func (i *Instance) offline(s *session) {
	s.quorum, s.alone, s.synced, s.catching, s.waiting = false, false, false, false, nil
	s.db.endSessions()
}

// withdraw tells everybody that this partner's database is lost, although the instance is not.
func (i *Instance) withdraw(s *session) {
	i.tell(s, message{Kind: kindWithdraw})
	i.send(s.Witness, message{Kind: kindAway, Session: s.GUID})
	s.connected, s.confirm, s.watching, s.armed = false, false, false, false
	if s.Role == rolePrincipal {
		s.quorum, s.alone, s.synced, s.catching, s.waiting = false, false, false, false, nil
	}
}

// removeSession ends mirroring of a database here.
func (i *Instance) removeSession(s *session) {
	for k, other := range i.sessions {
		if other == s {
			i.sessions = append(i.sessions[:k:k], i.sessions[k+1:]...)
			break
		}
	}
	for _, w := range s.waiting {
		w.done(nil)
	}
	s.waiting = nil
	i.persist()
	s.db.endSessions()
}

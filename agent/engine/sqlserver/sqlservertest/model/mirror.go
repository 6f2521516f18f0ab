package model

// This file is the mirror's side of a session.

// fromPrincipal handles what the principal says.
func (i *Instance) fromPrincipal(s *session, m message) {
	if s.asking || s.taking != nil {
		return
	}
	switch m.Kind {
	case kindConfig:
		i.configured(s, m)
	case kindLog:
		if !s.connected || s.Suspended || s.db.end() != m.LSN {
			return
		}
		if i.knobs.disk(s.Database).LogBad || s.db.append(m.Records...) != nil {
			i.logFailed(s.db)
			return
		}
		i.redo(s)
		i.acknowledge(s)
	case kindFailover:
		if s.connected && s.db.end() == m.LSN {
			s.taking = &takeover{seq: s.Seq + 1, manual: true}
			i.redo(s)
			i.promote(s)
		}
	case kindResume:
		s.Suspended = false
		i.persist()
		i.greetPartner(s)
	}
}

// configured takes what the principal says that holds.
func (i *Instance) configured(s *session, m message) {
	if m.Seq < s.Seq {
		return
	}
	was, saved := s.Witness, s.savedSession
	s.Seq, s.Witness, s.prospect, s.Timeout = m.Seq, m.Witness, m.Other, m.Timeout
	s.Safety, s.SafetySeq, s.Suspended, s.Asks, s.PartnerID = m.Safety, m.SafetySeq, m.Suspend, false, m.Name
	s.connected, s.armed, s.number, s.synced, s.witnessed = true, false, m.Number, m.Synced, m.HasQuorum
	if m.Cut {
		if s.db.truncate(m.LSN) != nil {
			i.logFailed(s.db)
			return
		}
	}
	if s.savedSession != saved {
		i.persist()
	}
	if s.Witness != was {
		s.watching = false
		i.greetWitness(s)
	}
	i.acknowledge(s)
}

// acknowledge tells the principal what is hardened here, what configuration holds, and which witness is reached.
func (i *Instance) acknowledge(s *session) {
	s.told = i.reached(s)
	i.tell(s, message{
		Kind: kindAck, LSN: s.db.end(), Number: s.number, Synced: s.synced, Seq: s.Seq, Other: s.told,
	})
}

// reached is the witness that this mirror reaches: the one that is being tried, or the one that it has.
func (i *Instance) reached(s *session) string {
	switch {
	case s.prospect != "" && i.link(s.prospect) != nil:
		return s.prospect
	case s.watching:
		return s.Witness
	default:
		return ""
	}
}

// redo applies what is hardened, unless the knobs stop it.
func (i *Instance) redo(s *session) {
	stopped, failing := i.knobs.redoOf(s.Database)
	switch {
	case failing && s.db.redone < len(s.db.records):
		if !s.Suspended && s.connected {
			i.tell(s, message{Kind: kindSuspend})
		}
	case !stopped:
		s.db.redo(0)
	}
}

// lostPrincipal notes whether everything was connected and synchronized when the principal was lost: only then may the
// witness be asked for the role.
func (i *Instance) lostPrincipal(s *session) {
	if s.connected {
		s.armed = s.synced && s.Safety == safetyFull && s.witnessed && s.watching && !s.Suspended
	}
	s.connected, s.synced, s.witnessed, s.greeted = false, false, false, false
	if s.taking != nil && s.taking.manual {
		s.taking = nil
	}
}

// tickMirror redoes, ends a change of role that waited for it, and asks the witness.
func (i *Instance) tickMirror(s *session) {
	i.redo(s)
	switch {
	case s.taking != nil:
		i.promote(s)
	case s.armed && s.watching && !s.asking && !s.greeted:
		s.asking = true
		i.send(s.Witness, message{Kind: kindTake, Session: s.GUID, Database: s.Database, Seq: s.Seq + 1})
	}
	if s.connected && s.told != i.reached(s) {
		i.acknowledge(s)
	}
}

// promote makes the mirror principal when its redo queue is empty.
func (i *Instance) promote(s *session) {
	t := s.taking
	if s.db.redone < len(s.db.records) {
		return
	}
	end := s.db.end()
	if s.db.append(s.db.next(record{Fork: newID()})) != nil {
		i.logFailed(s.db)
		return
	}
	s.db.redo(0)
	s.taking, s.Role, s.Seq, s.Suspended, s.db.restoring = nil, rolePrincipal, t.seq, t.forced, false
	s.armed, s.synced, s.connected, s.acked, s.quorum = false, false, false, end, true
	s.claims++ // answers to older claims do not count
	s.confirm, s.exposed = s.Witness != "" && !t.manual, true
	s.alone = s.Witness == "" || s.confirm
	i.persist()
	s.db.endSessions()
	if t.manual {
		i.tell(s, message{Kind: kindSwapped, Seq: s.Seq})
	}
	i.greetWitness(s)
	if i.link(s.Partner) != nil {
		i.greetPartner(s)
	}
}

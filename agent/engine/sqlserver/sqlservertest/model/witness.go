package model

// This file is SQL Server's witness: what it keeps of a session, and what the partners say to it. It keeps one entry
// per session, whose changes are made one after the other: who is principal by which role sequence, and whether that
// principal may be acknowledging commits that its mirror lacks.

// Kinds of messages to a witness, and from it.
const (
	kindClaim  = "claim"  // principal: I am it, and exposed or not; granted or denied
	kindWatch  = "watch"  // mirror: I am here; watching
	kindTake   = "take"   // mirror: the principal is lost, make me it; taken or refused
	kindForget = "forget" // principal: the session has no witness any more; forgotten
	kindAway   = "away"   // partner: my database is lost

	kindGranted   = "granted"
	kindDenied    = "denied"
	kindWatching  = "watching"
	kindTaken     = "taken"
	kindRefused   = "refused"
	kindForgotten = "forgotten"
)

// savedWatch is what a witness remembers of a session.
type savedWatch struct {
	Database, GUID            string
	Principal, Mirror         string // addresses
	PrincipalName, MirrorName string
	Seq                       int32
	Exposed                   bool
	Safety                    int8
	Timeout                   int32
}

type watch struct {
	savedWatch
	connected map[string]bool // partners that have spoken over the present link to them
}

// Witnessed are the rows of sys.database_mirroring_witnesses.
func (i *Instance) Witnessed() []Witnessed {
	var rows []Witnessed
	i.run(func() {
		for _, w := range i.watched {
			row := Witnessed{
				Database: w.Database, Principal: w.PrincipalName, Mirror: w.MirrorName, RoleSequence: w.Seq,
				Safety: w.Safety, SafetyDesc: "FULL", GUID: w.GUID,
				PartnerSyncState: 5, PartnerSyncStateDesc: "SYNCHRONIZED",
			}
			if w.Safety == safetyOff {
				row.SafetyDesc = "OFF"
			}
			if w.Exposed {
				row.PartnerSyncState, row.PartnerSyncStateDesc = 6, "UNSYNCHRONIZED"
			}
			rows = append(rows, row)
		}
	})
	return rows
}

// witness handles what a partner says to the witness.
func (i *Instance) witness(peer string, m message) {
	if i.options.EndpointRole != "WITNESS" && i.options.EndpointRole != "ALL" {
		return
	}
	var w *watch
	for _, each := range i.watched {
		if each.GUID == m.Session {
			w = each
		}
	}
	answer := message{Session: m.Session, Database: m.Database, Number: m.Number}
	switch m.Kind {
	case kindClaim:
		answer.Kind = i.claimed(w, peer, m)
	case kindWatch:
		answer.Kind = i.watch(w, peer, m)
	case kindTake:
		answer.Kind, answer.Alive = i.taken(w, peer, m)
	case kindForget:
		answer.Kind = kindForgotten
		i.forget(w)
		w = nil
	case kindAway:
		if w != nil {
			delete(w.connected, peer)
		}
		return
	}
	if w != nil {
		answer.Seq, answer.Other = w.Seq, w.Principal
	}
	i.send(peer, answer)
}

func (i *Instance) claimed(w *watch, peer string, m message) string {
	if w == nil {
		w = &watch{connected: map[string]bool{}}
		w.Database, w.GUID = m.Database, m.Session
		i.watched = append(i.watched, w)
	} else if m.Seq < w.Seq || m.Seq == w.Seq && w.Principal != peer {
		return kindDenied
	}
	if w.Principal != peer {
		w.MirrorName = ""
	}
	w.Principal, w.Mirror, w.PrincipalName, w.Seq, w.Exposed = peer, m.Other, m.Name, m.Seq, m.Exposed
	w.Safety, w.Timeout = m.Safety, m.Timeout
	if m.Witness != "" {
		w.MirrorName = m.Witness
	}
	w.connected[peer] = true
	i.persist()
	return kindGranted
}

// watch notes that the mirror is here. One that knows of a newer history than the entry corrects it.
func (i *Instance) watch(w *watch, peer string, m message) string {
	if w == nil {
		w = &watch{connected: map[string]bool{}}
		w.Database, w.GUID, w.Seq, w.Principal, w.Mirror, w.Exposed = m.Database, m.Session, m.Seq, m.Other, peer, true
		w.Safety, w.Timeout, w.MirrorName = m.Safety, m.Timeout, m.Name
		i.watched = append(i.watched, w)
		i.persist()
	} else if m.Seq > w.Seq {
		w.Seq, w.Principal, w.Mirror, w.Exposed = m.Seq, m.Other, peer, true
		i.persist()
	}
	w.connected[peer] = true
	return kindWatching
}

// taken makes a mirror principal, if the principal is lost to the witness as well and cannot have acknowledged what the
// mirror lacks; with Force, if it is lost.
func (i *Instance) taken(w *watch, peer string, m message) (kind string, alive bool) {
	if w == nil || m.Seq != w.Seq+1 || w.Principal == peer {
		return kindRefused, false
	}
	if w.connected[w.Principal] {
		return kindRefused, true
	}
	if w.Exposed && !m.Force {
		return kindRefused, false
	}
	w.Principal, w.Mirror, w.PrincipalName, w.MirrorName = peer, w.Principal, w.MirrorName, w.PrincipalName
	w.Seq, w.Exposed = m.Seq, true
	i.persist()
	return kindTaken, false
}

func (i *Instance) forget(w *watch) {
	for k, other := range i.watched {
		if other == w {
			i.watched = append(i.watched[:k:k], i.watched[k+1:]...)
			i.persist()
			return
		}
	}
}

// What the partners do with their witness.

// greetWitness speaks to the witness first, over a new link or in a new role.
func (i *Instance) greetWitness(s *session) {
	switch {
	case s.Witness == "" || s.db.suspect || s.taking != nil || s.held:
	case s.Role == rolePrincipal:
		i.claim(s)
	default:
		i.send(s.Witness, message{
			Kind: kindWatch, Session: s.GUID, Database: s.Database, Name: i.options.Name, Seq: s.Seq,
			Other: s.Partner, Safety: s.Safety, Timeout: s.Timeout,
		})
	}
}

// claim tells the witness that this is the principal, and whether its mirror may lack commits.
func (i *Instance) claim(s *session) {
	if s.Witness == "" || s.Role != rolePrincipal {
		return
	}
	s.claims++
	s.exposed = !s.synced
	i.send(s.Witness, message{
		Kind: kindClaim, Session: s.GUID, Database: s.Database, Name: i.options.Name, Witness: s.PartnerID,
		Number: s.claims, Seq: s.Seq, Other: s.Partner, Exposed: s.exposed, Safety: s.Safety, Timeout: s.Timeout,
	})
}

// fromWitness handles the witness's answers.
func (i *Instance) fromWitness(s *session, m message) {
	switch m.Kind {
	case kindGranted:
		if s.Role != rolePrincipal || m.Number != s.claims {
			return
		}
		s.confirm, s.quorum = true, true
		if s.exposed && !s.synced {
			s.alone = true
		}
		i.configure(s)
		s.settle()
	case kindDenied:
		i.denied(s, m)
	case kindWatching:
		if s.Role == roleMirror {
			s.watching = true
			if s.connected {
				i.acknowledge(s)
			}
		}
	case kindTaken:
		if s.asking {
			s.asking = false
			s.taking = &takeover{seq: m.Seq, forced: s.forcing}
			s.forcing, s.refused = false, false
			i.promote(s)
		}
	case kindRefused:
		if s.asking {
			s.asking, s.refused = false, s.forcing
			s.armed = s.armed && m.Alive && !s.forcing
			s.forcing = false
			i.unparkHello(s)
		}
	case kindForgotten:
		s.forgotten = true
	}
}

// unparkHello speaks to a partner that came back while the witness was asked.
func (i *Instance) unparkHello(s *session) {
	if s.parked {
		i.greetPartner(s)
	}
}

// denied is the witness's word that somebody else is principal, or was later. A principal with its mirror at its side
// is right all the same, if the mirror agrees to a higher role sequence.
func (i *Instance) denied(s *session, m message) {
	if s.Role != rolePrincipal || m.Number != s.claims {
		return
	}
	if s.connected {
		s.bump = m.Seq + 1
		i.configure(s)
		return
	}
	i.stepDown(s, m.Seq)
	if i.link(s.Partner) != nil {
		i.greetPartner(s)
	}
}

// lostWitness is called when the link to the witness is gone.
func (i *Instance) lostWitness(s *session) {
	s.confirm, s.watching = false, false
	if s.Role == roleMirror {
		s.armed, s.refused = false, s.forcing
		if s.asking {
			s.asking, s.forcing = false, false
			i.unparkHello(s)
		}
		return
	}
	if s.GUID == "" || s.held {
		return
	}
	if !s.connected {
		i.offline(s)
		return
	}
	i.configure(s)
}

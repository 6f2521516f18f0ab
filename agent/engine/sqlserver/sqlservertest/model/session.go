package model

import "time"

// Roles and states of a mirroring session, as the views number them.
const (
	rolePrincipal int8 = 1
	roleMirror    int8 = 2

	stateSuspended     int8 = 0
	stateDisconnected  int8 = 1
	stateSynchronizing int8 = 2
	statePending       int8 = 3
	stateSynchronized  int8 = 4

	safetyOff  int8 = 1
	safetyFull int8 = 2
)

// savedSession is what an instance remembers of a mirroring session.
type savedSession struct {
	Database  string
	GUID      string // "" on a mirror that waits for its principal's SET PARTNER
	Role      int8
	Seq       int32
	Safety    int8
	SafetySeq int32
	Partner   string // addresses
	PartnerID string // @@SERVERNAME
	Witness   string
	Timeout   int32
	Suspended bool
	Asks      bool // a mirror that was told to suspend while it was alone
}

// session is one database's mirroring session, as this partner has it.
type session struct {
	savedSession
	db *database

	connected bool // the partners have agreed on their roles over the present link
	synced    bool // both have the whole log, and commits wait for the mirror
	number    int  // of the last configuration that was sent, or received
	acked     LSN  // the mirror has hardened this

	invite     string // before the session: its identity, once the mirror agrees
	setupError *Error // before the session: why the mirror does not agree

	// On a principal.
	waiting   []waiter
	handing   bool    // a manual failover runs
	held      bool    // nobody is served, as a manual failover runs or was broken off by the loss of the partner
	quorum    bool    // may serve
	alone     bool    // may acknowledge without the mirror: whoever could make it principal knows
	claims    int     // number of the last claim
	confirm   bool    // the witness has confirmed the role over the present link to it
	exposed   bool    // what the last claim said
	prospect  string  // a witness that SET WITNESS is trying; on a mirror too
	offer     *string // a witness that the mirror is to take first
	attached  int     // number of the first configuration of this connection
	confirmed int     // the mirror has this configuration
	seen      string  // the witness that the mirror reaches
	catching  bool    // commits wait for the mirror again, and it is not SYNCHRONIZED yet
	target    LSN     // what the mirror must have for the next step of catching up
	bump      int32   // a role sequence that the mirror is to agree to
	forgotten bool    // the witness has forgotten the session

	// On a mirror.
	witnessed bool      // the principal sees its witness
	watching  bool      // the witness has answered over the present link to it
	armed     bool      // the principal was lost while everything was connected and synchronized
	asking    bool      // the witness was asked for the role and has not answered
	forcing   bool      // asking: for a forced service
	refused   bool      // the witness has refused a forced service
	taking    *takeover // becoming principal, once redo is done
	greeted   bool      // the principal is back, and was told what this is: the witness is not asked any more
	parked    bool      // a partner that is back waits for the end of asking or taking
	told      string    // the witness that the principal was told of
}

type waiter struct {
	lsn  LSN
	done func(error)
}

// takeover is a change of role that waits for redo.
type takeover struct {
	seq    int32
	forced bool
	manual bool
}

// session finds a database's session; nil if it has none.
func (i *Instance) session(db string) *session {
	for _, s := range i.sessions {
		if fold(s.Database) == fold(db) {
			return s
		}
	}
	return nil
}

// byGUID finds a session by its identity.
func (i *Instance) byGUID(guid string) *session {
	for _, s := range i.sessions {
		if guid != "" && s.GUID == guid {
			return s
		}
	}
	return nil
}

// state is what the views show.
func (s *session) state() int8 {
	switch {
	case s.Suspended:
		return stateSuspended
	case s.held && s.connected:
		return statePending
	case !s.connected:
		return stateDisconnected
	case s.synced:
		return stateSynchronized
	default:
		return stateSynchronizing
	}
}

func stateDesc(state int8) string {
	switch state {
	case stateSuspended:
		return "SUSPENDED"
	case stateDisconnected:
		return "DISCONNECTED"
	case stateSynchronizing:
		return "SYNCHRONIZING"
	case statePending:
		return "PENDING_FAILOVER"
	default:
		return "SYNCHRONIZED"
	}
}

// access says whether clients are served.
func (s *session) access() *Error {
	switch {
	case s.taking != nil:
		return errTransition(s.Database)
	case s.Role == roleMirror:
		return errIsMirror(s.Database)
	case s.held:
		return errTransition(s.Database)
	case !s.quorum:
		return errNoQuorum(s.Database)
	default:
		return nil
	}
}

// describe completes the row of sys.databases.
func (s *session) describe(row *Database) {
	if row.State != "SUSPECT" && s.Role == rolePrincipal && !s.quorum && !s.held {
		row.State, row.StateCode = "RECOVERY_PENDING", 3
	}
}

// Mirroring are the rows of sys.database_mirroring: one for every database.
func (i *Instance) Mirroring() []Mirroring {
	var rows []Mirroring
	i.run(func() {
		for _, d := range i.databases {
			row := Mirroring{Database: d.name, ID: d.id}
			if s := i.session(d.name); s != nil && s.GUID != "" {
				i.describeSession(s, &row)
			}
			rows = append(rows, row)
		}
	})
	return rows
}

func (i *Instance) describeSession(s *session, row *Mirroring) {
	row.GUID, row.RoleSequence, row.Role, row.RoleDesc = s.GUID, s.Seq, s.Role, "PRINCIPAL"
	row.State, row.Desc = s.state(), stateDesc(s.state())
	row.Safety, row.SafetyDesc, row.SafetySequence = s.Safety, "FULL", s.SafetySeq
	if s.Safety == safetyOff {
		row.SafetyDesc = "OFF"
	}
	row.Partner, row.PartnerInstance, row.Witness, row.Timeout = url(s.Partner), s.PartnerID, url(s.Witness), s.Timeout
	row.WitnessStateDesc = "UNKNOWN"
	if s.Witness != "" {
		row.WitnessState, row.WitnessStateDesc = 2, "DISCONNECTED"
		if s.confirm && s.Role == rolePrincipal || s.watching && s.Role == roleMirror {
			row.WitnessState, row.WitnessStateDesc = 1, "CONNECTED"
		}
	}
	row.EndOfLog, row.FailoverLSN = s.db.end(), s.acked
	if s.Role == roleMirror {
		row.RoleDesc, row.FailoverLSN = "MIRROR", s.db.end()
		row.RedoQueueKB = (s.db.redoQueue() + 1023) / 1024
		return
	}
	var send int64
	for _, r := range s.db.after(s.acked) {
		send += r.size()
	}
	row.SendQueueKB = (send + 1023) / 1024
}

// silence is how long nothing need be heard before the partner, or the witness, is lost; a ping comes on top.
func (i *Instance) silence(s *session) time.Duration {
	timeout := s.Timeout
	if timeout == 0 {
		timeout = defaultTimeout
	}
	return time.Duration(timeout) * i.options.Second
}

// defaultTimeout is PARTNER TIMEOUT, in seconds, if nobody sets it.
const defaultTimeout = 10

// mirroringPeers tells what links the sessions want. A witness dials nobody: the partners dial it.
func (i *Instance) mirroringPeers(want func(peer string, silence time.Duration, dial bool)) {
	for _, s := range i.sessions {
		want(s.Partner, i.silence(s), true)
		for _, witness := range []string{s.Witness, s.prospect} {
			if witness != "" {
				want(witness, i.silence(s), true)
			}
		}
	}
	for _, w := range i.watched {
		silence := time.Duration(max(w.Timeout, 1)) * i.options.Second
		want(w.Principal, silence, false)
		want(w.Mirror, silence, false)
	}
}

// startSessions gives every session its state after a start. A principal without witness needs nobody's word.
func (i *Instance) startSessions() {
	for _, d := range i.databases {
		s := i.session(d.name)
		if s == nil || s.GUID == "" {
			if !d.restoring {
				d.redo(0)
			}
			continue
		}
		if s.Role == rolePrincipal {
			d.redo(0)
			s.quorum = s.Witness == ""
			s.alone = s.Witness == ""
		}
	}
}

// mirroringLinked is called when a link has come up.
func (i *Instance) mirroringLinked(peer string) {
	for _, s := range i.sessions {
		if s.Partner == peer && s.GUID != "" {
			i.greetPartner(s)
		}
		if s.Witness == peer && s.GUID != "" {
			i.greetWitness(s)
		}
	}
}

// mirroringLost is called when a link is gone.
func (i *Instance) mirroringLost(peer string) {
	for _, s := range append([]*session{}, i.sessions...) {
		if s.Witness == peer {
			i.lostWitness(s)
		}
		if s.Partner == peer {
			i.lostPartner(s)
		}
	}
	for _, w := range i.watched {
		delete(w.connected, peer)
	}
}

// mirroringReceived hands a message to the one that it is for.
func (i *Instance) mirroringReceived(peer string, m message) {
	switch m.Kind {
	case kindInvite, kindInvited:
		i.invited(peer, m)
		return
	case kindClaim, kindWatch, kindTake, kindForget, kindAway:
		i.witness(peer, m)
		return
	}
	s := i.byGUID(m.Session)
	switch {
	case s == nil || s.db == nil || s.db.suspect:
	case m.Kind == kindGranted || m.Kind == kindDenied || m.Kind == kindWatching || m.Kind == kindTaken ||
		m.Kind == kindRefused || m.Kind == kindForgotten:
		if peer == s.Witness || peer == s.prospect {
			i.fromWitness(s, m)
		}
	case peer != s.Partner:
	case m.Kind == kindOff:
		i.removeSession(s)
	case m.Kind == kindSession:
		i.reconcile(s, m)
	case m.Kind == kindWithdraw:
		i.lostPartner(s)
	case s.Role == rolePrincipal:
		i.fromMirror(s, m)
	default:
		i.fromPrincipal(s, m)
	}
}

// persist saves; an instance that cannot remember its roles must not go on.
func (i *Instance) persist() {
	if err := i.save(); err != nil {
		i.post(i.end)
	}
}

// end is Crash from the loop itself.
func (i *Instance) end() {
	i.mutex.Lock()
	defer i.mutex.Unlock()
	if !i.ended {
		i.ended = true
		close(i.dead)
	}
}

func (i *Instance) tickMirroring(at time.Time) {
	for _, s := range append([]*session{}, i.sessions...) {
		if s.GUID == "" || s.db == nil {
			continue
		}
		if s.Role == roleMirror {
			i.tickMirror(s)
		}
	}
}

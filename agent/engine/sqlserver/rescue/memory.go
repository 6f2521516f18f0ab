package rescue

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/witnessd/witnessd/agent/engine/sqlserver"
)

// Stand is where a session is with its witness.
type Stand string

// The stands.
const (
	StandHome  Stand = "home"  // it has its own witness
	StandOff   Stand = "off"   // a caretaker took the witness out
	StandSpare Stand = "spare" // a caretaker gave it a spare
	StandHand  Stand = "hand"  // a person changed it: it is left alone
)

// Session is what is remembered of one mirroring session, over restarts of the agent.
type Session struct {
	Database string `json:"database"`
	// Home is the witness that it has in good times.
	Home  string `json:"home"`
	Stand Stand  `json:"stand"`
	// Witness is what it has, or should have, as far as is known; "" if none.
	Witness string `json:"witness"`
	// Intent is what a statement that may have been sent asks for, so that its effect is not taken for a person's; nil
	// if none is under way.
	Intent *string `json:"intent,omitempty"`

	// What follows is forgotten with the agent: it counts looks.
	gone     time.Time // since when the principal has not been connected to its witness; zero: it is
	goneAt   time.Time // when that was seen last
	odd      int       // how often in a row the witness was not the expected one
	failures int       // failed steps in a row
	rest     time.Time // no step before
	seen     time.Time // the last look that had it
}

// memory is what the caretaker knows.
type memory struct {
	cfg      sqlserver.RescueConfig
	sessions map[string]*Session // by mirroring_guid
	answers  map[string]*answer  // by address
	// bad are witnesses that were set and did not connect, or were taken out because they were gone, and until when
	// they are not set again.
	bad map[string]time.Time // by address in upper case
}

// answer is what dialing an address has shown.
type answer struct {
	since time.Time // the first of an unbroken row of answers; zero: the last dial failed
	last  time.Time
}

// forgetAfter is for how long a session may not be seen before it is forgotten: a database that cannot be opened shows
// none, and comes back.
const forgetAfter = time.Hour

// gap is the longest pause between two looks that still makes them a row: an agent that stood still has seen nothing.
const gap = 5 * time.Second

func newMemory(cfg sqlserver.RescueConfig) *memory {
	return &memory{
		cfg: cfg, sessions: map[string]*Session{}, answers: map[string]*answer{}, bad: map[string]time.Time{},
	}
}

// heard takes the outcome of a dial in.
func (m *memory) heard(address string, ok bool, at time.Time) {
	a := m.answers[address]
	if a == nil {
		a = &answer{}
		m.answers[address] = a
	}
	if !ok {
		*a = answer{last: at}
		return
	}
	if a.since.IsZero() || at.Sub(a.last) > 2*gap {
		a.since = at
	}
	a.last = at
}

// answering is for how long an address has answered, -1 if it does not.
func (m *memory) answering(address string, now time.Time) time.Duration {
	a := m.answers[address]
	if a == nil || a.since.IsZero() || now.Sub(a.last) > 2*gap {
		return -1
	}
	return now.Sub(a.since)
}

// addresses are those worth dialing.
func (m *memory) addresses() []string {
	all := slices.Clone(m.cfg.Spares)
	for _, s := range m.sessions {
		if s.Home != "" && !contains(all, s.Home) {
			all = append(all, s.Home)
		}
	}
	slices.Sort(all)
	return all
}

// shun keeps a witness from being set for a while.
func (m *memory) shun(address string, until time.Time) { m.bad[strings.ToUpper(address)] = until }

// shunned says whether a witness is not to be set yet.
func (m *memory) shunned(address string, now time.Time) bool {
	return now.Before(m.bad[strings.ToUpper(address)])
}

func contains(addresses []string, address string) bool {
	return slices.ContainsFunc(addresses, func(a string) bool { return sqlserver.SamePartnerAddress(a, address) })
}

// see takes a look in and returns what is worth telling a person.
func (m *memory) see(rows []sqlserver.MirroringRow, now time.Time) []note {
	var notes []note
	for _, r := range rows {
		s := m.sessions[r.GUID]
		if s == nil {
			s, more := m.meet(r)
			m.sessions[r.GUID] = s
			notes = append(notes, more...)
		} else {
			s.Database = r.Database
			notes = append(notes, m.compare(s, r)...)
		}
		m.sessions[r.GUID].watch(r, now)
	}
	for guid, s := range m.sessions {
		if s.seen.IsZero() {
			s.seen = now // of an earlier run of the agent
		}
		if now.Sub(s.seen) > forgetAfter {
			delete(m.sessions, guid)
		}
	}
	return notes
}

// note is something that happened to a session without the caretaker.
type note struct{ database, text string }

// meet begins to remember a session.
func (m *memory) meet(r sqlserver.MirroringRow) (*Session, []note) {
	s := &Session{Database: r.Database, Home: m.cfg.Witness, Witness: r.Witness}
	if s.Home == "" {
		s.Home = r.Witness
	}
	switch {
	case r.Witness != "" && sqlserver.SamePartnerAddress(r.Witness, s.Home):
		s.Stand = StandHome
	case contains(m.cfg.Spares, r.Witness):
		s.Stand = StandSpare
	default:
		s.Stand = StandHand
		return s, []note{{r.Database, m.strange(s, r)}}
	}
	return s, nil
}

// strange says of a session that it is left alone.
func (m *memory) strange(s *Session, r sqlserver.MirroringRow) string {
	switch {
	case r.Witness != "":
		return fmt.Sprintf("its witness is %s, set by hand: it is left alone; name it in rescue.witness to have it "+
			"looked after", r.Witness)
	case s.Home != "":
		return fmt.Sprintf("it has no witness, taken out by hand: it is left alone until it has %s again", s.Home)
	default:
		return "it has no witness: there is nothing to look after until it gets one"
	}
}

// compare finds out who changed a witness that is not the expected one.
func (m *memory) compare(s *Session, r sqlserver.MirroringRow) []note {
	if sqlserver.SamePartnerAddress(r.Witness, s.Witness) {
		s.odd, s.Intent = 0, nil
		return nil
	}
	// One look may fall into the middle of a change.
	if s.odd++; s.odd < 2 {
		return nil
	}
	s.odd = 0
	ours := s.Intent != nil && sqlserver.SamePartnerAddress(*s.Intent, r.Witness)
	was := s.Witness
	s.Witness, s.Intent = r.Witness, nil
	if s.Home == "" {
		s.Home = r.Witness
	}
	switch {
	case r.Witness != "" && sqlserver.SamePartnerAddress(r.Witness, s.Home):
		s.Stand = StandHome
		return []note{{r.Database, "it has its witness " + s.Home + " again"}}
	case contains(m.cfg.Spares, r.Witness):
		s.Stand = StandSpare
		return []note{{r.Database, "it has the spare witness " + r.Witness}}
	case r.Witness == "" && (ours || m.partnersDoing(s, r)):
		s.Stand = StandOff
		return []note{{r.Database, "its witness " + was + " was taken out because it was gone"}}
	default:
		s.Stand = StandHand
		return []note{{r.Database, m.strange(s, r)}}
	}
}

// partnersDoing says of a witness that is no longer set whether the partner's caretaker took it out: it does so from
// the principal only, and when the witness was gone.
func (m *memory) partnersDoing(s *Session, r sqlserver.MirroringRow) bool {
	return r.Role == sqlserver.RoleMirror && !s.gone.IsZero() && s.goneAt.Sub(s.gone) >= m.cfg.Patience/2
}

// watch counts for how long the witness has been gone.
func (s *Session) watch(r sqlserver.MirroringRow, now time.Time) {
	s.seen = now
	if r.Witness == "" {
		return // What was seen before it was taken out says who did it.
	}
	if r.WitnessState != sqlserver.WitnessDisconnected {
		s.gone, s.goneAt = time.Time{}, time.Time{}
		return
	}
	if s.gone.IsZero() || now.Sub(s.goneAt) > gap {
		s.gone = now
	}
	s.goneAt = now
}

package rescue

import (
	"errors"
	"fmt"
	"time"

	"github.com/witnessd/witnessd/agent/engine/sqlserver"
)

// step is one statement that is due.
type step struct {
	guid, database string
	// want is the witness that the session has afterwards, "" for none.
	want string
	// gone is the witness that is taken out because it does not answer; "" if there is another reason.
	gone string
	why  string
}

func (s step) statement() sqlserver.Statement {
	if s.want == "" {
		return sqlserver.WitnessOff(s.database)
	}
	return sqlserver.WitnessSet(s.database, s.want)
}

// decide returns the steps that are due, one for each session at most, and why nothing is done although something
// is due, "" if nothing is. Nothing is done while any session is not SYNCHRONIZED: SQL Server would refuse to set a
// witness, and without its witness a session that is not synchronized has nobody to say who goes on.
func decide(rows []sqlserver.MirroringRow, m *memory, now time.Time) ([]step, string) {
	var due []step
	for _, r := range rows {
		s := m.sessions[r.GUID]
		if s == nil || r.Role != sqlserver.RolePrincipal || s.odd > 0 || now.Before(s.rest) {
			continue
		}
		if one, ok := m.next(s, r, now); ok {
			due = append(due, one)
		}
	}
	if len(due) == 0 {
		return nil, ""
	}
	for _, r := range rows {
		if r.State != sqlserver.StateSynchronized {
			return nil, fmt.Sprintf("%s is %s: witnesses are changed only while everything is SYNCHRONIZED",
				r.Database, r.State)
		}
		if r.Safety != sqlserver.SafetyIsFull {
			return nil, fmt.Sprintf("%s has SAFETY %s: witnesses are changed only while it is FULL", r.Database, r.Safety)
		}
	}
	return due, ""
}

// next is what a session on its principal needs now.
func (m *memory) next(s *Session, r sqlserver.MirroringRow, now time.Time) (step, bool) {
	one := step{guid: r.GUID, database: r.Database}
	switch s.Stand {
	case StandHome, StandSpare:
		if away := s.goneAt.Sub(s.gone); !s.gone.IsZero() && away >= m.cfg.Patience {
			one.gone = r.Witness
			one.why = fmt.Sprintf("the witness %s has been gone for %v", r.Witness, away.Round(time.Second))
			return one, true
		}
		if s.Stand == StandSpare && m.mayReturn(s, now) {
			one.why = fmt.Sprintf("the first witness %s has answered for %v; it gets its place back", s.Home,
				m.answering(s.Home, now).Round(time.Second))
			return one, true
		}
		return step{}, false
	case StandOff:
		one.want, one.why = m.choose(s, now)
		return one, one.want != ""
	default:
		return step{}, false
	}
}

// choose is the witness that a session without one gets: the first one if it has proven itself, else the first
// spare that answers.
func (m *memory) choose(s *Session, now time.Time) (address, why string) {
	if m.mayReturn(s, now) {
		return s.Home, fmt.Sprintf("the first witness has answered for %v", m.answering(s.Home, now).Round(time.Second))
	}
	for _, spare := range m.cfg.Spares {
		if !sqlserver.SamePartnerAddress(spare, s.Home) && m.answering(spare, now) >= 0 && !m.shunned(spare, now) {
			return spare, "the spare answers"
		}
	}
	return "", ""
}

func (m *memory) mayReturn(s *Session, now time.Time) bool {
	return s.Home != "" && m.answering(s.Home, now) >= m.cfg.ReturnAfter && !m.shunned(s.Home, now)
}

// The pauses after failed steps.
const (
	restRetry     = 2 * time.Second
	restOther     = 10 * time.Second
	restLongest   = 5 * time.Minute
	restHuman     = 10 * time.Minute
	doublingsMost = 6
)

// done takes the outcome of a step in: what was read back, or why it failed.
func (m *memory) done(one step, err error, now time.Time) {
	s := m.sessions[one.guid]
	if s == nil {
		return
	}
	s.Intent = nil
	if err == nil {
		s.failures, s.rest, s.Witness, s.gone, s.goneAt = 0, time.Time{}, one.want, time.Time{}, time.Time{}
		if one.gone != "" {
			// Its port may answer although the sessions cannot use it.
			m.shun(one.gone, now.Add(m.cfg.ReturnAfter))
		}
		switch {
		case one.want == "":
			s.Stand = StandOff
		case sqlserver.SamePartnerAddress(one.want, s.Home):
			s.Stand = StandHome
		default:
			s.Stand = StandSpare
		}
		return
	}
	s.failures++
	class := sqlserver.ClassOf(err)
	if errors.Is(err, errNotDone) {
		class = sqlserver.ClassRetry
	}
	s.rest = now.Add(restFor(class, s.failures))
	if one.want == "" {
		return
	}
	switch class {
	case sqlserver.ClassWrongHost, sqlserver.ClassNotMirrored:
	case sqlserver.ClassHuman:
		m.shun(one.want, now.Add(max(restHuman, m.cfg.ReturnAfter)))
	default:
		// Another witness may do where this one does not.
		m.shun(one.want, now.Add(min(2*s.rest.Sub(now), restLongest)))
	}
}

func restFor(class sqlserver.Class, failures int) time.Duration {
	first := restOther
	switch class {
	case sqlserver.ClassRetry:
		first = restRetry
	case sqlserver.ClassWrongHost, sqlserver.ClassNotMirrored:
		return 0 // The next look shows that it is not ours any more.
	case sqlserver.ClassHuman, sqlserver.ClassLogin:
		return restHuman
	default:
	}
	return min(first<<min(failures-1, doublingsMost), restLongest)
}

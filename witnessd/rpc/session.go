package rpc

import (
	"context"
	"sync"

	witnessv1 "github.com/witnessd/witnessd/proto/gen/witness/v1"
	"github.com/witnessd/witnessd/witnessd/pair"
)

// session is one agent's stream on this node. Its receiver gives heartbeats to the home, that is to the
// office on this node or to a relay to the leader; what comes back waits here for its sender.
type session struct {
	number uint64
	agent  Agent

	out    chan func() *witnessv1.SessionResponse // called by the sender: the office must not be kept waiting
	nudged chan struct{}                          // has room for one: two nudges are one
	ended  chan struct{}                          // closed when the witness ends the session
	once   sync.Once
	why    *pair.Refusal // set before ended is closed
}

func newSession(number uint64, agent Agent) *session {
	return &session{
		number: number, agent: agent, out: make(chan func() *witnessv1.SessionResponse, sessionRoom),
		nudged: make(chan struct{}, 1), ended: make(chan struct{}),
	}
}

// send drops what finds no room: an agent that does not read will ask again when it does.
func (s *session) send(message func() *witnessv1.SessionResponse) {
	select {
	case s.out <- message:
	default:
	}
}

// Answer, Nudge and End make a session the outlet of its seat.
func (s *session) Answer(a Answer) {
	s.send(func() *witnessv1.SessionResponse { return answered(fromAnswer(s.agent.Host, a)) })
}

func (s *session) relayed(a *witnessv1.Answer) {
	s.send(func() *witnessv1.SessionResponse { return answered(a) })
}

func answered(a *witnessv1.Answer) *witnessv1.SessionResponse {
	return &witnessv1.SessionResponse{Message: &witnessv1.SessionResponse_Answer{Answer: a}}
}

func (s *session) Nudge() {
	select {
	case s.nudged <- struct{}{}:
	default:
	}
}

func (s *session) End(why *pair.Refusal) {
	s.once.Do(func() {
		s.why = why
		close(s.ended)
	})
}

// home is where the sessions of a node are heard for the time of one leader. Only a session's receiver calls
// enter, heartbeat and leave for it.
type home interface {
	// enter begins the session there. A refusal is final; with another error the next home is tried.
	enter(context.Context, *session) (stay, error)
	// gone is closed when the home is no more.
	gone() <-chan struct{}
}

// stay is one session's time in a home.
type stay interface {
	heartbeat(*witnessv1.Heartbeat, Heartbeat)
	leave()
}

// officeHome is the home while this node leads.
type officeHome struct{ office Office }

func (h officeHome) gone() <-chan struct{} { return h.office.Done() }

func (h officeHome) enter(ctx context.Context, s *session) (stay, error) {
	seat, err := h.office.Join(ctx, s.agent, s)
	if err != nil {
		return nil, err
	}
	return officeStay{seat}, nil
}

type officeStay struct{ seat Seat }

func (o officeStay) heartbeat(_ *witnessv1.Heartbeat, hb Heartbeat) { o.seat.Heartbeat(hb) }
func (o officeStay) leave()                                         { o.seat.Leave() }

// lobby is all sessions of this node, and where they are heard now.
type lobby struct {
	mu       sync.Mutex
	sessions map[uint64]*session
	next     uint64
	home     home // nil: there is no leader, or it is being looked for
}

func newLobby() *lobby { return &lobby{sessions: make(map[uint64]*session)} }

// admit takes a session in, if there is room.
func (l *lobby) admit(agent Agent) (*session, *pair.Refusal) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.sessions) >= maxSessions {
		return nil, &pair.Refusal{Reason: "TOO_MANY_SESSIONS", Detail: "this node has too many sessions",
			Do: "use another node"}
	}
	l.next++
	s := newSession(l.next, agent)
	l.sessions[s.number] = s
	return s, nil
}

func (l *lobby) dismiss(s *session) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.sessions, s.number)
}

func (l *lobby) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.sessions)
}

func (l *lobby) current() home {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.home
}

// move makes another home the present one. All agents are asked for a heartbeat: the new leader knows
// nothing yet, and counts what it hears only from agents that have heard it (rule R5).
func (l *lobby) move(h home) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.home = h
	if h == nil {
		return
	}
	for _, s := range l.sessions {
		s.Nudge()
	}
}

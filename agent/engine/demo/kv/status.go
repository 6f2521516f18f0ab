package kv

import "os"

// Commits is how a primary treats a commit.
type Commits string

// The ways to treat a commit.
const (
	CommitsHeld  Commits = "held"  // proved to be held for the mirror
	CommitsAlone Commits = "alone" // acknowledged by this disk alone
)

// Status is one look at a server. Everything in it was read at one instant.
type Status struct {
	Run      string   `json:"run"`
	PID      int      `json:"pid"`
	Listen   string   `json:"listen"` // as the server was told
	Role     Role     `json:"role"`
	Stopping bool     `json:"stopping,omitempty"`
	System   string   `json:"system,omitempty"`
	Data     Data     `json:"data"`
	Reason   string   `json:"reason,omitempty"` // why the data cannot be promoted
	Position Position `json:"position"`         // end of what this disk holds
	Keys     int      `json:"keys"`

	// On a primary.
	Commits       Commits `json:"commits,omitempty"` // "" while nothing is proved
	Mirror        string  `json:"mirror,omitempty"`  // whom commits are, or were, held for
	Attached      bool    `json:"attached,omitempty"`
	MirrorFlushed int64   `json:"mirror_flushed,omitempty"`
	Committed     int64   `json:"committed"`
	Waiting       int     `json:"waiting,omitempty"` // commits that wait to be acknowledged

	// On a mirror.
	Upstream  *UpstreamStatus `json:"upstream,omitempty"`
	Discarded int             `json:"discarded,omitempty"` // commits cut off in this run
}

// UpstreamStatus is what a mirror's receiver does.
type UpstreamStatus struct {
	Address string `json:"address"`
	Name    string `json:"name"`
	Step    Step   `json:"step"`
	Error   string `json:"error,omitempty"` // of the last attempt
	Done    int64  `json:"done,omitempty"`
	Total   int64  `json:"total,omitempty"`
	Rate    int64  `json:"rate,omitempty"` // bytes per second
	Detail  string `json:"detail,omitempty"`
}

// Step is what a receiver does right now.
type Step string

// The steps of a receiver.
const (
	StepAttach    Step = "attach"      // dialling, or waiting until the upstream is a primary
	StepRewind    Step = "rewind"      // cutting off what the primary does not have
	StepKeepAside Step = "keep-aside"  // putting the old log aside before a copy
	StepClone     Step = "clone"       // copying everything
	StepCatchUp   Step = "catch-up"    // receiving what is missing after a rewind
	StepStreaming Step = "streaming"   // receiving changes as they happen
	StepForeign   Step = "foreign"     // ended: the upstream is another database
	StepNeedsCopy Step = "needs-clone" // ended: only a full copy would help and it is not allowed
)

// Ended says that the receiver does not try again by itself.
func (s Step) Ended() bool { return s == StepForeign || s == StepNeedsCopy }

// Following says that changes come in.
func (u *UpstreamStatus) Following() bool {
	return u != nil && (u.Step == StepStreaming || u.Step == StepClone || u.Step == StepCatchUp)
}

// Status looks at the server.
func (s *Server) Status() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := &s.commits
	st := Status{
		Run: s.run, PID: os.Getpid(), Listen: s.opts.Listen, Role: s.role, Stopping: s.closing,
		System: s.image.system, Keys: len(s.image.values),
		Position:  Position{Timeline: s.image.history.last().Number, Offset: p.flushed},
		Committed: p.committed, Waiting: len(p.waiting), Discarded: s.discarded,
	}
	st.Data, st.Reason = s.data()
	if s.role == RolePrimary {
		st.Mirror = p.mirror
		switch {
		case !p.held:
			st.Commits = CommitsAlone
		case p.proven:
			st.Commits = CommitsHeld
		}
		if f := s.mirrors[p.mirror]; f != nil {
			st.Attached, st.MirrorFlushed = true, f.ack
		}
	}
	if s.recv != nil {
		up := s.recv.status
		st.Upstream = &up
	}
	return st
}

// data classifies what this copy holds. Called with mu held.
func (s *Server) data() (Data, string) {
	switch {
	case s.journal.damaged != "":
		return DataDamaged, s.journal.damaged
	case s.incomplete:
		return DataIncomplete, reasonIncomplete
	case s.commits.flushed == 0:
		return DataEmpty, "there is no data yet; let it follow a primary"
	default:
		return DataPresent, ""
	}
}

package pair

import "time"

// Member is one host's half of a pair: the name it is called by, and what its agent has announced.
type Member struct {
	Host     HostID
	Instance string // the database instance on that host, by the agent's configuration

	// Announced by the agent; empty until it has connected once, LinkAddress also when the primary has not heard
	// of a new mirror yet.
	LinkAddress    string // host:port of the agent's partner link
	ServiceAddress string // host:port where clients and the partner's instance reach the database
	Engine         string // postgres, sqlserver, mariadb, demo
	SystemID       string // identity of the database both copies must share
}

// Pause says who asked the witness not to decide, and why.
type Pause struct {
	By     string
	Reason string
}

// Procedure is what is under way. It lives in the record so that a new leader resumes it (rule R13).
type Procedure struct {
	ID     string
	Kind   ProcedureKind
	Step   ProcedureStep
	Epoch  Epoch // the epoch that it ends; an abort or a late step for another epoch is refused
	Target HostID
	// Timeout bounds the current step. Deadlines are counted by the leader from when it first saw the step;
	// they never enter the log.
	Timeout time.Duration
	// AcceptLoss replaces the condition on the right, never a wait (R5, R14).
	AcceptLoss bool
	// HostOff is the host that the operator states to be off or cut from its clients, typed by name (R14).
	HostOff HostID
	By      string
	Reason  string
	Started int64 // wall-clock milliseconds of the leader that started it, for people only
}

// Outcome is how a procedure ended; the last one is kept so that a client that waits on its id learns it.
type Outcome struct {
	Procedure Procedure
	Done      bool // false: aborted or failed
	Reason    Reason
	Detail    string
	Ended     int64 // wall-clock milliseconds, for people only
}

// Record is the replicated state of a pair, the same on every node.
type Record struct {
	ID       ID
	Name     string
	Stage    Stage
	Revision Revision
	Epoch    Epoch
	Primary  HostID
	Mirror   HostID
	Members  [2]Member
	Right    Right
	Mode     Mode
	Pause    Pause
	Policy   Policy
	// LongestLease is the longest length of a lease that may be outstanding (rule R12).
	LongestLease time.Duration
	Procedure    *Procedure // nil when nothing is under way; never changed in place
	Last         *Outcome   // nil before the first procedure ended; never changed in place
	// Changed is the wall-clock time, in milliseconds, of the last accepted command, for people only.
	Changed int64
	// EpochChanged is the wall-clock time, in milliseconds, at which the present epoch was committed.
	EpochChanged int64
}

// Member returns the half of the pair on that host.
func (r Record) Member(h HostID) (Member, bool) {
	for _, m := range r.Members {
		if m.Host == h {
			return m, true
		}
	}
	return Member{}, false
}

// Partner returns the other host of the pair.
func (r Record) Partner(h HostID) HostID {
	switch h {
	case r.Members[0].Host:
		return r.Members[1].Host
	case r.Members[1].Host:
		return r.Members[0].Host
	default:
		return ""
	}
}

// knowsMirror says whether the primary's agent has heard who its mirror is. Until then the mirror of before may
// vouch for it, and that one need not know of a promotion (rule R16).
func (r Record) knowsMirror() bool {
	m, _ := r.Member(r.Primary)
	return m.LinkAddress != ""
}

// index returns the place of a host in Members, and so in a Watch's Seen; -1 for a stranger.
func (r Record) index(h HostID) int {
	for i, m := range r.Members {
		if m.Host == h {
			return i
		}
	}
	return -1
}

// Armed says whether the record permits a promotion.
func (r Record) Armed() bool {
	return r.Stage == StageReady && r.Right == RightLeased && r.Mode == ModeAutomatic
}

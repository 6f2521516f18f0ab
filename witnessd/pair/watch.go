package pair

import "time"

// Seen is the newest report of a host that this leader received itself, in its own term.
type Seen struct {
	Report Report
	At     Instant // of receipt at the leader
	Heard  bool
}

// Pending marks a command that was proposed and whose outcome is not known yet. One at a time: every command
// is conditional on the revision, so that a second one could only fail.
type Pending struct {
	Active     bool
	MovesEpoch bool // rule R3: no lease while this is set
}

// stepClock counts a procedure's step on the present leader's clock (rule R13).
type stepClock struct {
	ID    string
	Step  ProcedureStep
	Since Instant
}

// Watch is what the leader of one term knows of a pair and the log does not hold. It dies with the term
// (rule R4): a watch computed in an older term is not a fact.
type Watch struct {
	Term  Term
	Since Instant // when the first barrier of this term was applied
	// LeaseUntil is the end, on this leader's clock, of every witness lease that the present primary may
	// hold, a predecessor's grants included.
	LeaseUntil Instant
	Pending    Pending
	Seen       [2]Seen // by the place of the host in Record.Members

	// Released is the highest epoch of which this leader has heard the release, from whomever.
	Released           Epoch
	ReleasedEverything bool
	ReleasedAt         Instant

	// idle says that the primary's agent is heard and its database does not serve, idleSince from when on.
	idle      bool
	idleSince Instant

	step stepClock
	// fence is the outcome of the fencing command of a procedure's StepFence.
	fence struct {
		asked bool
		done  bool
		ok    bool
		why   string
	}
	// agreed says that both agents' files hold the record's revision, agreedSince from when on (R12).
	agreed      bool
	agreedSince Instant
	noted       Epoch   // epoch for which a "would fail over" or "suspended" note was written
	spoken      [2]bool // an operator spoke for this host's missing epoch file (R15)
	// hooks is what of the hosts' hooks is in the history; nil while none were reported, never changed in place.
	hooks *hooksHeard
}

// NewWatch starts a term for a pair: empty, and as if the predecessor had granted every lease a moment
// before the election (rule R4). now is when the first barrier of the term was applied.
func NewWatch(r Record, term Term, now Instant) Watch {
	return Watch{Term: term, Since: now, LeaseUntil: now.Add(r.LongestLease)}
}

// seen returns what was last heard of a host.
func (w Watch) seen(r Record, h HostID) Seen {
	if i := r.index(h); i >= 0 {
		return w.Seen[i]
	}
	return Seen{}
}

// fresh says whether a host was heard within one lease.
func (w Watch) fresh(r Record, h HostID, now Instant) bool {
	s := w.seen(r, h)
	return s.Heard && now.Sub(s.At) <= r.Policy.Lease
}

// released says whether the present epoch was given back.
func (w Watch) released(r Record) bool { return r.Epoch > 0 && w.Released == r.Epoch }

// SeenOf shows what was last heard of a host and how long ago, for screens.
func (w Watch) SeenOf(r Record, h HostID, now Instant) (Report, time.Duration, bool) {
	s := w.seen(r, h)
	return s.Report, now.Sub(s.At), s.Heard
}

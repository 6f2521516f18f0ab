package pair

import (
	"fmt"
	"strings"
)

// Reason is why the answer is no. Clients switch on reasons, never on text; a reason is never renamed.
type Reason string

// The reasons of the witness.
const (
	ReasonNone               Reason = ""
	ReasonUnknownPair        Reason = "UNKNOWN_PAIR"
	ReasonNameTaken          Reason = "NAME_TAKEN"
	ReasonBadSpec            Reason = "BAD_SPEC"
	ReasonStaleRevision      Reason = "STALE_REVISION"
	ReasonStaleTerm          Reason = "STALE_TERM"
	ReasonStaleEpoch         Reason = "STALE_EPOCH"
	ReasonForming            Reason = "FORMING"
	ReasonRestored           Reason = "WITNESS_RESTORED"
	ReasonRemoved            Reason = "PAIR_REMOVED"
	ReasonProcedureUnderWay  Reason = "PROCEDURE_UNDER_WAY"
	ReasonChangeUndecided    Reason = "CHANGE_UNDECIDED"
	ReasonNoProcedure        Reason = "NO_SUCH_PROCEDURE"
	ReasonNotAutomatic       Reason = "MODE_NOT_AUTOMATIC"
	ReasonExposed            Reason = "EXPOSED"
	ReasonLeaseOutstanding   Reason = "LEASE_OUTSTANDING"
	ReasonGrace              Reason = "GRACE"
	ReasonMirrorSilent       Reason = "MIRROR_SILENT"
	ReasonMirrorNotHeardTerm Reason = "MIRROR_NOT_HEARD_THIS_LEADER"
	ReasonPromiseOutstanding Reason = "PROMISE_OUTSTANDING"
	ReasonNotPromotable      Reason = "MIRROR_NOT_PROMOTABLE"
	ReasonNotFollowing       Reason = "MIRROR_NOT_FOLLOWING"
	ReasonPrimarySilent      Reason = "PRIMARY_SILENT"
	ReasonPrimaryHeard       Reason = "MIRROR_HEARS_PRIMARY"
	ReasonHostOffUnconfirmed Reason = "HOST_OFF_NOT_CONFIRMED"
	ReasonRightSole          Reason = "RIGHT_SOLE"
	ReasonAlreadyPrimary     Reason = "ALREADY_PRIMARY"
	ReasonNotPrimary         Reason = "NOT_PRIMARY"
	ReasonReleased           Reason = "EPOCH_RELEASED"
	ReasonWithheld           Reason = "LEASE_WITHHELD"
	ReasonAhead              Reason = "AGENT_AHEAD_OF_RECORD"
	ReasonHostBusy           Reason = "HOST_HAS_OTHER_RIGHT"
	ReasonHostConflict       Reason = "HOST_CONFLICT"
	ReasonLossNotAccepted    Reason = "LOSS_NOT_ACCEPTED"
	ReasonTimedOut           Reason = "TIMED_OUT"
	ReasonAborted            Reason = "ABORTED"
	ReasonFenceFailed        Reason = "FENCING_FAILED"
	ReasonPrimaryData        Reason = "PRIMARY_DATA_NOT_USABLE"
	ReasonForeignData        Reason = "DATA_OF_ANOTHER_DATABASE"
	ReasonHostSilent         Reason = "HOST_SILENT"
	ReasonFileMissing        Reason = "EPOCH_FILE_MISSING"
	ReasonFenceNeedsAgent    Reason = "FENCE_NEEDS_AGENT"
	ReasonLossNotExcluded    Reason = "LOSS_NOT_EXCLUDED"
	ReasonWatched            Reason = "ONLY_WATCHED"
)

// Refusal is a rule that says no: a value, not a failure.
type Refusal struct {
	Reason Reason
	Detail string // what, with the values concerned
	Do     string // what the operator can do about it; may be empty
}

// Error makes a Refusal usable as an error.
func (r *Refusal) Error() string {
	if r.Do == "" {
		return r.Detail
	}
	return r.Detail + "; " + r.Do
}

func refuse(reason Reason, do, format string, args ...any) *Refusal {
	return &Refusal{Reason: reason, Detail: fmt.Sprintf(format, args...), Do: do}
}

// Precondition is one thing that must hold before a decision is taken, with the values that decide it.
type Precondition struct {
	Name   string
	OK     bool
	Reason Reason // why not, if not OK
	Detail string // value, limit and age, as a sentence without a stop
	// PrimaryLoss marks the preconditions that a healthy primary breaks by being healthy; without them the
	// verdict says whether the pair would fail over if the primary were lost now.
	PrimaryLoss bool
}

// Inquiry names a question for programs; a name is never changed.
type Inquiry string

// The questions.
const (
	AskFailover   Inquiry = "FAILOVER"
	AskSwitchover Inquiry = "SWITCHOVER"
	AskFence      Inquiry = "FENCE"
	AskForm       Inquiry = "FORM"
	AskAdopt      Inquiry = "ADOPT"
)

// Verdict is an answer with its reasons: `explain`, refusals, tooltips and the history are this one value.
type Verdict struct {
	Asked         Inquiry
	Question      string
	Preconditions []Precondition
}

// OK says whether every precondition holds.
func (v Verdict) OK() bool {
	for _, p := range v.Preconditions {
		if !p.OK {
			return false
		}
	}
	return true
}

// Ready says whether everything holds that does not depend on the primary being lost.
func (v Verdict) Ready() bool {
	for _, p := range v.Preconditions {
		if !p.OK && !p.PrimaryLoss {
			return false
		}
	}
	return true
}

// Refusal returns the first failing precondition as a refusal, nil if all hold.
func (v Verdict) Refusal() *Refusal {
	for _, p := range v.Preconditions {
		if !p.OK {
			return &Refusal{Reason: p.Reason, Detail: p.Detail}
		}
	}
	return nil
}

// String lists the failing preconditions in one line.
func (v Verdict) String() string {
	var no []string
	for _, p := range v.Preconditions {
		if !p.OK {
			no = append(no, p.Detail)
		}
	}
	if len(no) == 0 {
		return "yes"
	}
	return "no: " + strings.Join(no, "; ")
}

// inquiry comes to a verdict, one precondition after the other. A brief one takes no notes: the leader asks at
// each step of each pair, and sentences are for people.
type inquiry struct {
	verdict  Verdict
	brief    bool
	no       bool // a precondition fails
	noOnLoss bool // one fails that a lost primary would not mend
}

func inquire(asked Inquiry, question string) *inquiry {
	return &inquiry{verdict: Verdict{Asked: asked, Question: question}}
}

// require is asked for what must hold also when the primary is lost.
func (q *inquiry) require(ok bool, name string, reason Reason, detail func() string) {
	q.noOnLoss = q.noOnLoss || !ok
	q.note(Precondition{Name: name, OK: ok, Reason: reason}, detail)
}

// requireLoss is asked for what a healthy primary breaks by being healthy.
func (q *inquiry) requireLoss(ok bool, name string, reason Reason, detail func() string) {
	q.note(Precondition{Name: name, OK: ok, Reason: reason, PrimaryLoss: true}, detail)
}

func (q *inquiry) note(p Precondition, detail func() string) {
	q.no = q.no || !p.OK
	if q.brief {
		return
	}
	if p.OK {
		p.Reason = ReasonNone
	}
	p.Detail = detail()
	q.verdict.Preconditions = append(q.verdict.Preconditions, p)
}

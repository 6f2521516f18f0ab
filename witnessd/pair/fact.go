package pair

import "fmt"

// FactKind names what changed; the list is closed and each name is stable for programs.
type FactKind string

// The facts that Apply can return.
const (
	FactCreated            FactKind = "CREATED"
	FactAnnounced          FactKind = "ANNOUNCED"
	FactFormed             FactKind = "FORMED"
	FactArmed              FactKind = "ARMED"
	FactExposed            FactKind = "EXPOSED"
	FactPromoted           FactKind = "PROMOTED"
	FactReinstated         FactKind = "REINSTATED"
	FactModeChanged        FactKind = "MODE_CHANGED"
	FactPolicyChanged      FactKind = "POLICY_CHANGED"
	FactLongestLowered     FactKind = "LONGEST_LEASE_LOWERED"
	FactProcedureStarted   FactKind = "PROCEDURE_STARTED"
	FactProcedureStepped   FactKind = "PROCEDURE_STEPPED"
	FactProcedureDone      FactKind = "PROCEDURE_DONE"
	FactProcedureFailed    FactKind = "PROCEDURE_FAILED"
	FactMirrorReplaced     FactKind = "MIRROR_REPLACED"
	FactRemoved            FactKind = "REMOVED"
	FactRestored           FactKind = "RESTORED"
	FactAdopted            FactKind = "ADOPTED"
	FactWouldFailOver      FactKind = "WOULD_FAIL_OVER"
	FactDecisionsSuspended FactKind = "DECISIONS_SUSPENDED"
	FactHookDone           FactKind = "HOOK_DONE"
	FactHookFailed         FactKind = "HOOK_FAILED"
	FactRescued            FactKind = "RESCUED"
	FactRescueFailed       FactKind = "RESCUE_FAILED"
)

// FactKinds lists them all.
func FactKinds() []FactKind {
	return []FactKind{
		FactCreated, FactAnnounced, FactFormed, FactArmed, FactExposed, FactPromoted, FactReinstated, FactModeChanged,
		FactPolicyChanged, FactLongestLowered, FactProcedureStarted, FactProcedureStepped, FactProcedureDone,
		FactProcedureFailed, FactMirrorReplaced, FactRemoved, FactRestored, FactAdopted, FactWouldFailOver,
		FactDecisionsSuspended, FactHookDone, FactHookFailed, FactRescued, FactRescueFailed,
	}
}

// Fact is one thing that changed, or that an operator must know. Facts go to the log, the history, the
// dashboard and the metrics with the same text.
type Fact struct {
	Kind      FactKind
	Pair      ID
	PairName  string
	Revision  Revision
	Epoch     Epoch
	Host      HostID // whom it is about, if one host
	Procedure string // procedure id, if one is concerned
	Cause     string // why, in a sentence without a stop
	By        string // operator, empty for the witness itself
}

// String is the sentence that people read.
func (f Fact) String() string {
	s := fmt.Sprintf("%s: %s", f.PairName, f.Cause)
	if f.By != "" {
		s += " (asked by " + f.By + ")"
	}
	return s
}

func (r Record) fact(kind FactKind, host HostID, format string, args ...any) Fact {
	f := Fact{
		Kind: kind, Pair: r.ID, PairName: r.Name, Revision: r.Revision, Epoch: r.Epoch,
		Host: host, Cause: fmt.Sprintf(format, args...),
	}
	if r.Procedure != nil {
		f.Procedure = r.Procedure.ID
		f.By = r.Procedure.By
	}
	return f
}

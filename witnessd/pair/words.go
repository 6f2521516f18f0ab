package pair

import (
	"fmt"
	"time"
)

// ID names a pair for ever. It is never reused, also not after a removal, because an agent's epoch file
// may remember it for as long as the host lives.
type ID string

// HostID is the name of a host, as its agent states it.
type HostID string

// Epoch counts who may serve. It rises whenever the right to serve moves or is given back.
type Epoch uint64

// Term is the Raft term of the leader that decided, or of the log entry that carries the decision.
type Term uint64

// Revision counts the accepted commands of a pair. Its high part is the witness's generation (rule R15), so
// that every revision after a restore is higher than every revision before it.
type Revision uint64

// generationShift leaves room for 2^40 accepted commands of one pair between two restores.
const generationShift = 40

// MaximumGeneration is the last one that a revision has room for.
const MaximumGeneration = 1<<(64-generationShift) - 1

// NewRevision is the first revision of a generation.
func NewRevision(generation uint64) Revision { return Revision(generation << generationShift) }

// Generation counts the restores of the witness that this revision has seen.
func (r Revision) Generation() uint64 { return uint64(r) >> generationShift }

// String prints generation.counter after a restore, and the counter alone before the first.
func (r Revision) String() string {
	counter := uint64(r) & (1<<generationShift - 1)
	if g := r.Generation(); g > 0 {
		return fmt.Sprintf("%d.%d", g, counter)
	}
	return fmt.Sprintf("%d", counter)
}

// Instant is a moment on the leader's boot-time clock in nanoseconds. It is not a time.Time, so that
// neither a wall clock nor another machine's clock can be compared with it by accident.
type Instant int64

// Add returns the instant d later.
func (t Instant) Add(d time.Duration) Instant { return t + Instant(d) }

// Sub returns how much later t is than u.
func (t Instant) Sub(u Instant) time.Duration { return time.Duration(t - u) }

// later returns the later of two instants.
func later(a, b Instant) Instant { return max(a, b) }

// Right says on what the primary's service rests (DESIGN section 3).
type Right int

// The rights a primary can hold.
const (
	// RightSole forbids every automatic promotion; the primary needs no lease.
	RightSole Right = iota + 1
	// RightLeased permits a promotion; the primary serves only with a live lease.
	RightLeased
)

// String names the right.
func (r Right) String() string { return name([]string{"sole", "leased"}, int(r)) }

// Mode says who decides.
type Mode int

// The modes of a pair.
const (
	ModeAutomatic Mode = iota + 1 // the witness fails over by itself
	ModeManual                    // only an operator moves the right (pause)
	ModeObserve                   // as manual, and the witness says what it would have done
)

// String names the mode.
func (m Mode) String() string { return name([]string{"automatic", "manual", "observe"}, int(m)) }

// Stage is where a pair is in its life.
type Stage int

// The stages of a pair.
const (
	// StageForming waits until both agents have reported no right and no promise under another id (R16).
	StageForming Stage = iota + 1
	// StageReady is the working life.
	StageReady
	// StageRestored waits, after a restore of the witness, for both agents' epoch files (R15).
	StageRestored
	// StageRemoved is a tombstone: the id stays taken.
	StageRemoved
)

// String names the stage.
func (s Stage) String() string {
	return name([]string{"forming", "ready", "restored", "removed"}, int(s))
}

// ProcedureKind is what a procedure does.
type ProcedureKind int

// The kinds of procedure (rule R13).
const (
	KindFailover ProcedureKind = iota + 1
	KindSwitchover
	KindForced
	KindReinstate
	KindRemove
)

// String names the kind.
func (k ProcedureKind) String() string {
	return name([]string{"failover", "switchover", "forced failover", "reinstate", "remove"}, int(k))
}

// ProcedureStep is what a procedure waits for.
type ProcedureStep int

// The steps of procedures, in the order in which they can come.
const (
	// StepRelease waits for the primary to stop and release its epoch (R9).
	StepRelease ProcedureStep = iota + 1
	// StepWithhold refuses leases until the primary's have run out (forced failover with right leased).
	StepWithhold
	// StepFence waits for the configured fencing command to cut the old primary off (R14).
	StepFence
	// StepPromote waits for the new primary of a committed epoch to serve.
	StepPromote
	// StepUnmanage waits for the primary to confirm that it is no longer managed (remove, R16).
	StepUnmanage
)

// String names the step.
func (s ProcedureStep) String() string {
	return name([]string{"release", "withhold", "fence", "promote", "unmanage"}, int(s))
}

// name looks an enum's value up; enums start at 1 so that the zero value is never a valid word.
func name(words []string, i int) string {
	if i < 1 || i > len(words) {
		return "unspecified"
	}
	return words[i-1]
}

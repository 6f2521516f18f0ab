package pair

import "time"

// Command is a proposed change of one pair's record. It names the revision and the term it was decided on,
// and Apply refuses it if either is no longer so (rule R6).
type Command struct {
	Pair     ID
	Revision Revision
	Term     Term
	// At is the leader's wall clock in milliseconds, for the history only; Apply never lets it go backwards.
	At   int64
	Body Body
}

// Body is what a command changes: one of the types below and no other.
type Body interface{ body() }

// Create makes a new pair in StageForming.
type Create struct {
	Name    string
	Members [2]Member
	Primary HostID
	Mode    Mode
	Policy  Policy
	By      string
}

// Announce records what a host's agent says of itself.
type Announce struct{ Member Member }

// Begin ends the forming: the first epoch, sole (rule R16).
type Begin struct{}

// Arm makes the right leased, at the primary's own request (rule R8).
type Arm struct{ Host HostID }

// Expose makes the right sole, at the primary's own request (rule R8).
type Expose struct {
	Host  HostID
	Cause string
}

// Promote moves the right to the mirror with a new epoch. It leaves the right as it was.
type Promote struct {
	To HostID
	// Procedure is the running procedure's id, or that of the failover which this command starts.
	Procedure string
	// Forced says that loss was accepted; it is refused unless the procedure accepts loss.
	Forced bool
	Cause  string
}

// Reinstate gives the right back to the same primary with a new epoch (rule R9).
type Reinstate struct{ Cause string }

// SetMode pauses, resumes or observes. Every mode but automatic makes the right sole; automatic leaves the
// right as it is, because only the primary's own request arms (rule R8).
type SetMode struct {
	Mode  Mode
	Pause Pause
}

// SetPolicy changes the policy. A longer lease counts from now on as outstanding (rule R12).
type SetPolicy struct {
	Policy Policy
	By     string
}

// LowerLongest lowers the longest outstanding lease to the policy's (rule R12).
type LowerLongest struct{ To time.Duration }

// StartProcedure begins a procedure.
type StartProcedure struct{ Procedure Procedure }

// StepProcedure moves a procedure to its next step.
type StepProcedure struct {
	ID      string
	Step    ProcedureStep
	Timeout time.Duration
	Cause   string
}

// EndProcedure ends a procedure, done or not.
type EndProcedure struct {
	ID     string
	Done   bool
	Reason Reason
	Detail string
}

// ReplaceMirror puts another host in the mirror's place, with a new epoch and only while sole (rule R16).
type ReplaceMirror struct {
	Member Member
	By     string
}

// Remove makes the record a tombstone (rule R16).
type Remove struct{ Cause string }

// Restore marks the pair after a restore of the witness and opens a new generation (rule R15).
type Restore struct{ Generation uint64 }

// Adopt ends the wait after a restore: highest epoch heard + 1, that epoch's primary, sole (rule R15).
type Adopt struct {
	Epoch   Epoch
	Primary HostID
	Cause   string
}

// Note changes nothing and writes a fact into the history (observe mode, suspended decisions, hooks).
type Note struct {
	Kind  FactKind
	Cause string
	Host  HostID // whom it is about; empty: the primary
}

func (Create) body()         {}
func (Announce) body()       {}
func (Begin) body()          {}
func (Arm) body()            {}
func (Expose) body()         {}
func (Promote) body()        {}
func (Reinstate) body()      {}
func (SetMode) body()        {}
func (SetPolicy) body()      {}
func (LowerLongest) body()   {}
func (StartProcedure) body() {}
func (StepProcedure) body()  {}
func (EndProcedure) body()   {}
func (ReplaceMirror) body()  {}
func (Remove) body()         {}
func (Restore) body()        {}
func (Adopt) body()          {}
func (Note) body()           {}

// MovesEpoch says whether a command changes the epoch: from the moment it is decided until its outcome is
// known, no lease is granted (rule R3).
func MovesEpoch(b Body) bool {
	switch b.(type) {
	case Begin, Promote, Reinstate, ReplaceMirror, Remove, Adopt:
		return true
	default:
		return false
	}
}

package hold

import (
	"fmt"
	"strconv"
	"time"
)

// Instant is a moment on this host's boot-time clock in nanoseconds. It is not a time.Time, so that no wall
// clock and no other machine's clock can be compared with it by accident.
type Instant int64

// Add returns the instant d later.
func (t Instant) Add(d time.Duration) Instant { return t + Instant(d) }

// Sub returns how much later t is than u.
func (t Instant) Sub(u Instant) time.Duration { return time.Duration(t - u) }

// Epoch counts who may serve.
type Epoch uint64

// Revision counts the accepted commands of a pair. Its high part is the witness's generation (rule R15).
type Revision uint64

// generationShift is where the witness puts its generation.
const generationShift = 40

// String prints generation.counter after a restore, and the counter alone before the first, as the witness does.
func (r Revision) String() string {
	generation, counter := r>>generationShift, r&(1<<generationShift-1)
	if generation > 0 {
		return fmt.Sprintf("%d.%d", uint64(generation), uint64(counter))
	}
	return strconv.FormatUint(uint64(counter), 10)
}

// Right says on what the primary's service rests.
type Right int

// The rights a primary can hold.
const (
	RightUnknown Right = iota // the witness has not spoken to this start of the agent: treated as leased
	RightSole
	RightLeased
)

// String names the right.
func (r Right) String() string {
	switch r {
	case RightSole:
		return "sole"
	case RightLeased:
		return "leased"
	default:
		return "unknown"
	}
}

// Ask is what the procedure under way asks of this host.
type Ask int

// What a procedure can ask of a host.
const (
	AskNothing  Ask = iota
	AskHandOver     // switchover: stop so that the mirror has everything, then release
	AskRelease      // forced failover: stop and release, with everything on the mirror if possible
	AskWithhold     // forced failover without a release: grant nothing, let the leases run out
	AskUnmanage     // remove: let go of the instance
)

// Request is what the primary asks of the record (rule R8).
type Request int

// The requests.
const (
	RequestNone Request = iota
	RequestArm
	RequestExpose
)

// Role is what a database instance is right now.
type Role int

// The roles of an instance.
const (
	RoleNone Role = iota
	RolePrimary
	RoleMirror
)

// String names the role.
func (r Role) String() string {
	switch r {
	case RolePrimary:
		return "primary"
	case RoleMirror:
		return "mirror"
	default:
		return "none"
	}
}

// Commits is how a primary treats a commit.
type Commits int

// The ways a primary treats a commit.
const (
	CommitsUnknown Commits = iota
	CommitsHeld            // seen to hold
	CommitsAlone
)

// String names how commits are treated.
func (c Commits) String() string {
	switch c {
	case CommitsHeld:
		return "held"
	case CommitsAlone:
		return "alone"
	default:
		return "unknown"
	}
}

// Timing is the part of a pair's policy that an agent acts on.
type Timing struct {
	Heartbeat     time.Duration
	Lease         time.Duration
	Guard         time.Duration
	MirrorTimeout time.Duration
}

// Peer is the partner's half of the pair, as its agent announced it.
type Peer struct {
	Host           string
	Instance       string
	LinkAddress    string
	ServiceAddress string
	SystemID       string
}

// File is the epoch file: what an agent must not forget (rule R7). It is on disk before anything in it is
// acted on or answered.
type File struct {
	Pair     string
	Name     string
	Epoch    Epoch // highest epoch heard; 0 while the pair is forming
	Primary  string
	Mirror   string
	Revision Revision
	Longest  time.Duration // longest lease that may be outstanding
	Released Epoch         // highest epoch that this host released
	// ReleasedEverything says that the mirror had everything when Released was written.
	ReleasedEverything bool
	// Timing and Peer let the agent find its partner and keep its rhythm when it starts while the witness is
	// away. They carry no right.
	Timing Timing
	Peer   Peer
}

// Engine is one look at the database instance.
type Engine struct {
	Began          Instant // when the look began: nothing in it is older
	Running        bool
	Run            string // differs after each start of the process
	Role           Role
	SystemID       string
	Empty          bool
	Timeline       uint64
	Position       uint64
	MirrorAttached bool
	MirrorFlushed  uint64
	Commits        Commits
	Following      bool
	Promotable     bool
	NotPromotable  string
	Step           string
	// Stalled is for how long the instance, although it answers, has brought no commit or no new client to an end.
	Stalled time.Duration
	Warning string // for operators; hold decides nothing by it
	// LossBound is for how long commits may go to clients that the mirror lacks; above 0 the engine stops holding
	// commits by its own decision.
	LossBound    time.Duration
	NeedsRelease bool          // for the witness's verdict; hold decides nothing by it
	ServeIn      time.Duration // for operators; hold decides nothing by it
	Watched      bool          // somebody else decides about the instance: its pair never begins
	Databases    []Database    // for operators; hold decides nothing by it
	Replayed     uint64        // mirror: what reading clients can see of Position; hold decides nothing by it
}

// Database is one database of an instance, in the words of its engine.
type Database struct {
	Name, Role, Status, Detail string
	Sets                       []string
}

// Says is what two agents of a pair tell each other (one message of the partner link).
type Says struct {
	Pair               string
	Epoch              Epoch
	Primary            string
	Revision           Revision
	Longest            time.Duration
	Released           Epoch
	ReleasedEverything bool
	AskLease           bool          // request
	Lease              time.Duration // response: granted for Epoch
	Refused            string        // response: why not
	ReleaseAsked       Epoch         // an operator asks the primary to release this epoch
	Engine             Engine
	GateAddress        string // for the partner's gate; hold decides nothing by it
	Serving            bool   // for the partner's gate; hold decides nothing by it
}

package pair

import "time"

// Request is what a primary's agent asks of the record (rule R8).
type Request int

// The requests of an agent.
const (
	RequestNone Request = iota
	RequestArm
	RequestExpose
)

// Engine is the state of a database instance as its agent sees it, for decisions and for people.
type Engine struct {
	Running        bool
	Role           string // primary, mirror, none: what the instance is, whatever the record says
	SystemID       string
	Timeline       uint64
	Position       uint64 // primary: end of its own durable log; mirror: received and durable
	Replayed       uint64 // mirror: what reading clients can see of Position
	MirrorAttached bool   // primary: the mirror receives changes now
	MirrorFlushed  uint64 // primary: what the mirror has confirmed
	Commits        string // held, alone, unknown
	Following      bool   // mirror: receives changes now
	Promotable     bool
	NotPromotable  string // why not
	Step           string // what a long step is doing ("clone 45 %")
	Warning        string // what an operator should mend although the host does its part
	// LossBound is for how long clients may have been told of commits that the mirror lacks, if the primary ends without
	// proof; 0: the engine holds commits.
	LossBound    time.Duration
	NeedsRelease bool          // mirror: promoted only if the primary has released, or somebody accepts a loss
	ServeIn      time.Duration // from a promotion until it serves; 0: at once, or not known
	Watched      bool          // its agent only looks at it
	Databases    []Database    // those that move together, for people
}

// Database is one database of an instance, in the words of its engine.
type Database struct {
	Name, Role, Status, Detail string
	Sets                       []string
}

// Report is what an agent says of one pair in one heartbeat. It is a fact about that host at the moment it
// was sent, never a decision.
type Report struct {
	Host  HostID
	Start string // identifies this start of the agent
	// Sequence rises with every report of this start: an agent sends by all nodes when answers are late, so
	// that an older report can arrive after a newer one.
	Sequence uint64
	// TermHeard is the term of the newest answer this start has had: a promise or a release reported to a
	// leader that the agent has not heard could have been overtaken (rule R5).
	TermHeard Term

	// The epoch file (rule R7).
	FileKnown          bool
	Epoch              Epoch
	EpochPrimary       HostID
	Revision           Revision
	LongestLease       time.Duration
	Released           Epoch // highest epoch that this host released
	ReleasedEverything bool  // the release said that the mirror has everything

	// PartnerReleased is the highest epoch that the partner told this host it had released.
	PartnerReleased           Epoch
	PartnerReleasedEverything bool

	AskLease        bool
	Request         Request
	RequestRevision Revision
	RequestCause    string

	Promise      time.Duration // how long this host's own promise to the primary still runs; 0 = none
	HearsPartner bool          // the partner's agent answered within one lease
	Serving      bool          // lets clients write as primary of Epoch
	ServesFor    time.Duration // how long the right still lasts; negative = no end (sole)
	Unmanaged    bool          // confirmed for a remove: the agent has let go of the instance
	OtherRight   bool          // a right or a promise is outstanding under another pair id (R16)
	FenceLevel   string        // kernel, gate, watchdog, engine
	FenceNote    string        // why no stronger fence is in force; empty at level kernel
	Watchdog     bool          // a watchdog ends the agent, or the host, when the agent hangs
	Complaint    string        // what keeps the host from its part, with what to do; empty if nothing
	Member       Member        // what the agent announces of itself
	Engine       Engine
}

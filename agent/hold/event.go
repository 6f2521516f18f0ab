package hold

import "time"

// Event is something that happened on this host. The set is closed.
type Event interface{ event() }

// WitnessSays is the record, in an answer to a request of this start.
type WitnessSays struct {
	Sent     Instant // when the request left; the answer came later (rule R1)
	Term     uint64
	Forming  bool
	Revision Revision
	Epoch    Epoch
	Primary  string
	Mirror   string
	Right    Right
	// Automatic says that the mode lets the primary arm.
	Automatic bool
	Timing    Timing
	Longest   time.Duration
	Ask       Ask   // what the procedure under way asks of the primary
	AskEpoch  Epoch // the epoch that the procedure ends
	Peer      Peer
	Name      string
	Lease     time.Duration // granted for Epoch; 0: none
	Refused   string
	Released  Epoch // highest epoch of which the witness heard the release
}

// PartnerAnswered is the partner's answer to a request of this start.
type PartnerAnswered struct {
	Sent Instant // when the request left (rule R1)
	Host string
	Says Says
}

// PartnerAsked is a request of the partner's agent; it is answered by the ReplyPartner action.
type PartnerAsked struct {
	Token uint64
	Host  string
	Says  Says
}

// EngineSeen is a successful look at the instance.
type EngineSeen struct{ Engine Engine }

// EngineSilent says that a look at the instance got no answer within its limit of time. A look that is answered with
// an error is none: it tells nothing.
type EngineSilent struct{}

// EngineExited says that the instance's process ended, not by our hand.
type EngineExited struct {
	Reason string
	Soon   bool // it ended a moment after an operation had brought it up
}

// EngineDone is the end of an operation that a Do action began.
type EngineDone struct {
	Op         Op
	ID         uint64 // of the Do that began it
	Engine     Engine // a look begun after the operation ended; without one the operation counts as failed
	Err        string
	Cut        bool // a fence has cut it short: that says nothing about the database
	Foreign    bool // the engine refused to touch data of another database
	Everything bool // OpHandOver: the mirror has everything
}

// Fenced says that the fence has ended service by itself (the right ran out) or by our Fence action.
type Fenced struct{ Why string }

// Forget says that the pair was removed.
type Forget struct{}

// Tick is the passing of time.
type Tick struct{}

func (WitnessSays) event()     {}
func (PartnerAnswered) event() {}
func (PartnerAsked) event()    {}
func (EngineSeen) event()      {}
func (EngineSilent) event()    {}
func (EngineExited) event()    {}
func (EngineDone) event()      {}
func (Fenced) event()          {}
func (Forget) event()          {}
func (Tick) event()            {}

// Action is what the agent must do, in order.
type Action interface{ action() }

// Save writes the epoch file and waits for the disk. If it fails, the agent must fence and stop: it can no
// longer keep a promise over a restart.
type Save struct{ File File }

// Renew tells the fence until when clients may be let in. Endless: the right is sole.
type Renew struct {
	Epoch   Epoch
	Until   Instant
	Endless bool
}

// Fence ends service now.
type Fence struct{ Why string }

// Do begins an operation of the engine, ending whatever operation runs (OpNone: only end it).
type Do struct {
	Op   Op
	ID   uint64 // comes back in EngineDone, so that the end of an abandoned operation is not taken for this one's
	Peer Peer
}

// SendWitness sends a heartbeat now instead of at the next beat.
type SendWitness struct{}

// SendPartner sends a partner heartbeat now.
type SendPartner struct{}

// ReplyPartner answers a PartnerAsked.
type ReplyPartner struct {
	Token uint64
	Says  Says
}

// Note tells an operator.
type Note struct {
	Text string
	Warn bool
}

func (Save) action()         {}
func (Renew) action()        {}
func (Fence) action()        {}
func (Do) action()           {}
func (SendWitness) action()  {}
func (SendPartner) action()  {}
func (ReplyPartner) action() {}
func (Note) action()         {}

// Op is an operation of the engine.
type Op int

// The operations; their meaning is in agent/engine.
const (
	OpNone Op = iota
	OpFollow
	OpPromote
	OpHold
	OpReleaseCommits
	OpHandOver
	OpStop
	OpLetGo
)

// String names the operation.
func (o Op) String() string {
	return [...]string{"none", "follow", "promote", "hold commits", "release commits", "hand over", "stop", "let go"}[o]
}

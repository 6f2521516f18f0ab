package pair

import "time"

// Event is something the leader saw. The set is closed.
type Event interface{ event() }

// Heard is a report that the leader received.
type Heard struct {
	Report  Report
	Receipt Instant // the leader's, never a relay's (R1)
}

// Hooked tells how hooks ended on a host, oldest first. It comes with each heartbeat that reports them, until the
// host hears that they are recorded. No decision depends on it.
type Hooked struct {
	Host  HostID
	Start string // of the agent
	Hooks []Hook
}

// Confirmed says that an exchange with a quorum begun after Receipt has succeeded in this term, so that the
// request may be answered (rule R2).
type Confirmed struct {
	Host     HostID
	Receipt  Instant
	AskLease bool
}

// Applied says that a command was applied; the record given to Step is the one after it.
type Applied struct {
	Before Record
	Body   Body
}

// Dropped says that the pending command is known not to have been applied and never to be.
type Dropped struct{}

// Tick is the passing of time.
type Tick struct{}

// Ask is an operator's wish. Token comes back in a Reply or in the Propose it leads to.
type Ask struct {
	Token uint64
	// Revision and Epoch are what the operator decided on; zero means "whatever it is now".
	Revision Revision
	Epoch    Epoch
	Wish     Wish
}

// FenceDone is the outcome of the fencing command that RunFence asked for.
type FenceDone struct {
	Procedure string
	OK        bool
	Detail    string
}

func (Heard) event()     {}
func (Hooked) event()    {}
func (Confirmed) event() {}
func (Applied) event()   {}
func (Dropped) event()   {}
func (Tick) event()      {}
func (Ask) event()       {}
func (FenceDone) event() {}

// Wish is what an operator can ask for. The set is closed.
type Wish interface{ wish() }

// WishSwitchover asks for a planned change of primary.
type WishSwitchover struct {
	Target HostID // empty: the mirror
	By     string
	Reason string
}

// WishForce asks for a forced failover (rule R14).
type WishForce struct {
	AcceptLoss bool
	HostOff    HostID // typed by the operator; empty: not stated
	CanFence   bool   // a fencing command is configured
	By         string
	Reason     string
}

// WishRemove asks for the removal of the pair (rule R16).
type WishRemove struct {
	HostOff HostID
	By      string
	Reason  string
}

// WishSpeak states, after a restore, that the host's epoch file is gone for good (rules R14, R15).
type WishSpeak struct {
	Host HostID
	By   string
}

// WishCommand asks for a command that needs no procedure: pause, resume, policy, another mirror.
type WishCommand struct{ Body Body }

func (WishSwitchover) wish() {}
func (WishForce) wish()      {}
func (WishRemove) wish()     {}
func (WishSpeak) wish()      {}
func (WishCommand) wish()    {}

// Action is what the arbiter must do. The set is closed.
type Action interface{ action() }

// Answer replies to a request of Host: with the record, and with a lease if Lease is not zero.
type Answer struct {
	Host  HostID
	Lease time.Duration
	// Refused says why there is no lease although one was asked for.
	Refused Reason
	// Mute means that not even the record may be told (rule R15).
	Mute bool
}

// Propose puts a command into the log. Token is not zero if an operator waits for the outcome.
type Propose struct {
	Command Command
	Token   uint64
}

// Reply answers an operator's wish without a command.
type Reply struct {
	Token   uint64
	Refusal *Refusal // nil: done
}

// Nudge asks a host's agent to send a heartbeat now; it carries no decision (rule R13).
type Nudge struct{ Host HostID }

// RunFence runs the configured fencing command against Host and reports by FenceDone.
type RunFence struct {
	Procedure string
	Host      HostID
}

func (Answer) action()   {}
func (Propose) action()  {}
func (Reply) action()    {}
func (Nudge) action()    {}
func (RunFence) action() {}

package rpc

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/witnessd/witnessd/witnessd/ledger"
	"github.com/witnessd/witnessd/witnessd/pair"
)

// What an Office can answer beside a *pair.Refusal.
var (
	// ErrNotLeading means that this node does not lead; nothing was heard and nothing was changed.
	ErrNotLeading = errors.New("this node does not lead")
	// ErrBusy means that too much is waiting; nothing was changed.
	ErrBusy = errors.New("too many questions are waiting")
	// ErrOutcomeUnknown means that a change may or may not come to pass.
	ErrOutcomeUnknown = errors.New("it is not known whether the change was accepted")
	// ErrUnknownPair means that no pair has the name or id.
	ErrUnknownPair = errors.New("no such pair")
)

// Court is where questions about pairs are decided while this node leads.
type Court interface {
	// Office returns nil while this node does not lead, and a channel that is closed when that changes.
	Office() (Office, <-chan struct{})
}

// Office answers for one term. What it says has been confirmed by a quorum; when its term has ended it says
// ErrNotLeading.
type Office interface {
	Done() <-chan struct{}
	Join(ctx context.Context, agent Agent, out Outlet) (Seat, error)
	Ask(ctx context.Context, ask Ask) (Reply, error)
	Create(ctx context.Context, spec pair.Create) (Reply, error)
	// Look returns the pair of that name or id, or all by name.
	Look(ctx context.Context, nameOrID string) ([]Live, error)
}

// Seat is the place of an agent's session in an office.
type Seat interface {
	// Heartbeat never blocks; it says false if the heartbeat was dropped.
	Heartbeat(Heartbeat) bool
	Leave()
}

// Outlet takes what goes to an agent; its methods must not block.
type Outlet interface {
	Answer(Answer)
	Nudge()
	End(*pair.Refusal)
}

// Agent is how an agent introduces itself.
type Agent struct {
	Host        pair.HostID
	ID          string
	Start       string
	Version     string
	HTTPAddress string
}

// Report is what an agent says of one instance, and of its pair if it knows of one.
type Report struct {
	Pair  pair.ID
	Said  pair.Report
	Hooks []pair.Hook
}

// Heartbeat is what an agent says of all its instances at one moment.
type Heartbeat struct {
	Sequence  uint64
	TermHeard pair.Term
	Reports   []Report
}

// PairAnswer is what the witness says of one pair to one of its hosts.
type PairAnswer struct {
	Record   pair.Record
	Lease    time.Duration
	Refused  pair.Reason
	Mute     bool
	Released pair.Epoch
	// HooksRecorded is up to which sequence the hooks of this start of the agent are in the history.
	HooksRecorded uint64
}

// Answer answers one heartbeat.
type Answer struct {
	Sequence uint64
	Term     pair.Term
	Pairs    []PairAnswer
	Removed  []pair.ID
}

// Ask is an operator's wish for a pair.
type Ask struct {
	Pair     string
	Revision pair.Revision
	Epoch    pair.Epoch
	Wish     pair.Wish
}

// Reply is what became of a wish.
type Reply struct {
	Live      Live
	Procedure string
	Created   bool
}

// Live is a pair with what its leader has heard of it at one moment.
type Live struct {
	Record pair.Record
	Watch  pair.Watch
	Now    pair.Instant
	Agents [2]Agent // in the order of the record's members; zero: none has a session
}

// Group is the witness itself: its nodes and the log they share.
type Group interface {
	// Leader is the node that this one takes for the leader; empty: none.
	Leader() string
	// Status is what this node knows by itself.
	Status() Status
	// Read waits until this node's ledger holds all that was accepted before the call. Only the leader can;
	// another node says ErrNotLeading.
	Read(ctx context.Context) error
	// AddNode, RemoveNode, Transfer and Backup are for the leader; another node says ErrNotLeading.
	AddNode(ctx context.Context, n ledger.Node) error
	RemoveNode(ctx context.Context, id string) error
	Transfer(ctx context.Context, to string) error
	Backup(ctx context.Context, w io.Writer) error
}

// Status is what a node knows of the group by itself.
type Status struct {
	Term      uint64
	Committed uint64
	Applied   uint64
	// LeaderHeard is how long ago this node heard its leader; zero on the leader, negative: never.
	LeaderHeard time.Duration
	Members     []Member
}

// Member is a node that takes part in the log.
type Member struct {
	ID          string
	RaftAddress string
	Voter       bool
	Heard       time.Duration // how long ago the leader heard it; negative: never, or this node does not lead
}

// Package engine is what the agent needs a database engine to do: show its state, follow a partner,
// become primary, hold commits for its mirror, hand over, and stop serving at once.
//
// An engine only obeys. Whether a host may serve is decided in agent/hold; an engine never takes a right
// by itself, and whatever starts it (the agent, the operating system, a person), it comes up as a copy
// that lets no client write (rule R10).
//
// Every method but [Engine.Fence], [Engine.Observe], [Engine.Exits] and the two that only name things is
// called from one goroutine, one at a time. Fence and Observe may be called at any time, also while
// another call runs.
package engine

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Role is what a running instance is right now.
type Role int

// The roles of an instance.
const (
	RoleNone    Role = iota // not running, or not known
	RolePrimary             // accepts writes, if commits are not held up
	RoleMirror              // follows, or waits for somebody to follow; refuses writes
)

// String names the role in the project's words.
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
	CommitsUnknown Commits = iota // not a primary, or nothing proved yet in this run of the process
	CommitsHeld                   // seen to hold: a commit is acknowledged only when the mirror has it on disk
	CommitsAlone                  // a commit is acknowledged by the primary's own disk alone
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

// Position is a place in an engine's log of changes. Offsets are only comparable on one timeline.
type Position struct {
	Timeline uint64 // history of promotions; 0 when the engine is not known to have any log
	Offset   uint64 // bytes (PostgreSQL: LSN) or entries, as the engine counts
}

// String prints timeline and offset the way PostgreSQL people read them (1/0/3000148 becomes 1:3000148).
func (p Position) String() string { return fmt.Sprintf("%d:%X", p.Timeline, p.Offset) }

// Data is what lies in the instance's data directory.
type Data int

// What may lie in a data directory.
const (
	DataUnknown    Data = iota
	DataEmpty           // nothing there: a mirror is cloned
	DataPresent         // a database of this engine
	DataIncomplete      // a clone or rewind that did not finish: must never be promoted
)

// MirrorSeen is the mirror's copy as the primary's engine sees it.
type MirrorSeen struct {
	Attached bool     // the mirror receives changes right now
	Flushed  Position // what the mirror has confirmed to have on disk, on the primary's timeline
}

// State is one look at an instance. It is a set of observations, none of them older than the call that
// returned it.
type State struct {
	Running bool
	// Run identifies this run of the engine's process; it differs after every start, so that a proof
	// taken in an earlier run is not believed in a later one.
	Run  string
	Role Role
	Data Data
	// SystemID names the database that both hosts hold copies of ("" while unknown or empty).
	SystemID string
	// Position is, on a primary, the end of what its own disk holds; on a mirror, the end of what it
	// has received and has on disk.
	Position Position
	// Replayed is, on a mirror, the part of Position that a client that reads there can see.
	Replayed Position
	Commits  Commits
	Mirror   MirrorSeen // meaningful on a primary
	// Following is true on a mirror that receives changes from its upstream right now.
	Following bool
	// Promotable says that Promote is expected to succeed; if not, NotPromotable says why.
	Promotable    bool
	NotPromotable string
	// Stalled is for how long the instance, although it answers, has brought nothing to an end: on a primary a
	// commit of its own (the mirror's part left out), on any instance the greeting of a new client. It counts only
	// time in which it was looked at, and is 0 below a second.
	Stalled time.Duration
	// Warning is what an operator should mend although the instance does its part, several joined by "; ". No
	// decision rests on it.
	Warning string
	// Step is what a long Follow is doing right now ("clone 45 % 120 MB/s"), empty otherwise.
	Step string
	// LossBound is for how long, at most, clients may have been told of commits that the mirror lacks, when a primary
	// ends without proof that there were none. 0: none, the engine holds commits until the record allows otherwise. An
	// engine with a bound stops holding commits by its own decision.
	LossBound time.Duration
	// NeedsRelease says of a mirror that it is promoted only if the primary has released its epoch, or somebody has
	// accepted a loss: the configuration refuses what is not proven.
	NeedsRelease bool
	// ServeIn is how long the instance would take from its promotion until it serves; 0: at once, or not known.
	ServeIn time.Duration
	// Watched says that the agent only looks at the instance: something else decides who serves. Such a pair never
	// begins.
	Watched bool
	// Databases are the databases of the instance that move together, in their order; empty where an engine has no
	// such thing. They are for people.
	Databases []DatabaseState
}

// DatabaseState is one database of an instance, in the words of its engine.
type DatabaseState struct {
	Name   string
	Sets   []string // the sets that the configuration names it in
	Role   string   // Principal, Mirror, Primary, Secondary, Resolving; empty: not known
	Status string   // Synchronized, Synchronizing, Suspended, Disconnected, ...
	Detail string   // what is to be known besides: queues, states other than online
}

// Peer is the other host's instance of the same pair.
type Peer struct {
	Pair     string // pair id; names the mirror's receiver, so that no other receiver acknowledges in its place
	Host     string // partner host's name
	Address  string // host:port where the partner's instance serves its engine protocol
	SystemID string // of the partner's database, "" when not known yet
	// Lease is the longest lease in force, 0 when not known yet.
	Lease time.Duration
}

// Progress is told while a long step runs.
type Progress struct {
	Step        string // attach, rewind, clone, keep-aside, catch-up
	Done, Total int64  // bytes; Total 0 when not known. Total may grow while the primary writes
	Rate        int64  // bytes of Done in a second; 0 while not known
	// Left is how long the step takes at the pace so far; 0 while not known, negative if what is left does
	// not become less.
	Left   time.Duration
	Detail string
}

// Handover is the outcome of a clean stop of a primary.
type Handover struct {
	Final Position
	// MirrorHasEverything is proved by the mirror's own confirmation of Final, never assumed.
	MirrorHasEverything bool
}

// Exit tells that the engine's process ended, by its own fault or by somebody's hand.
type Exit struct {
	Run    string
	Reason string
}

// Errors that the agent tells apart. Each is wrapped with what was being done and what to do next.
var (
	// ErrForeign refuses to touch data of another database: another system identifier, or a mirror
	// that holds data unrelated to the primary's. Nothing is overwritten.
	ErrForeign = errors.New("data of another database")
	// ErrNeedsClone says that only a new clone would help and that the policy does not allow one.
	ErrNeedsClone = errors.New("needs a new clone")
	// ErrFenced says that the call was cut short by Fence.
	ErrFenced = errors.New("fenced")
	// ErrHung says that the instance runs and will not answer; a call that had no answer in time says
	// context.DeadlineExceeded.
	ErrHung = errors.New("the instance hangs")
	// ErrNoData says that the instance to be promoted has no usable data.
	ErrNoData = errors.New("no usable data")
)

// Engine drives one database instance on this host.
type Engine interface {
	// Kind is the engine's name in configurations and on screens: "postgres", "demo".
	Kind() string
	// Address is where clients and the partner's instance reach this one (host:port).
	Address() string

	// Observe looks at the instance without changing it. It returns within the deadline of ctx also
	// when the instance hangs; a hanging instance is an error, not a state.
	Observe(ctx context.Context) (State, error)
	// Exits delivers the end of the engine's process within milliseconds, told by the kernel and not by
	// polling, also for a process that an earlier agent started. Ends that the agent asked for
	// (Stop, HandOver, Fence, restarts inside Follow and Promote) are not delivered.
	Exits() <-chan Exit

	// Follow makes the instance a running mirror of its peer, from whatever state it is in: attach if
	// possible, else rewind, else clone if the configuration allows it (the diverged data directory is
	// kept aside). It returns nil when changes stream in. It never touches foreign data (ErrForeign).
	// An instance that already follows the peer is left alone.
	Follow(ctx context.Context, peer Peer, progress func(Progress)) error
	// Standby makes the instance run as a copy that refuses writes, without an upstream, if it has
	// data and is stopped; a running instance in RoleMirror is left alone. Used while the agent does not yet
	// know whom to follow.
	Standby(ctx context.Context) error
	// Promote makes the instance the primary, from whatever state it is in (running mirror, stopped,
	// already primary), with commits held for the peer from the first commit on, and with the restart gate
	// in place (a start by anybody else comes up as a mirror) before the first commit can be acknowledged.
	Promote(ctx context.Context, peer Peer) error
	// HoldCommits makes the primary hold commits for the peer and returns nil only after holding was
	// seen; from then on Observe reports CommitsHeld for this run. It must not hold up clients longer than
	// the proof takes.
	HoldCommits(ctx context.Context, peer Peer) error
	// ReleaseCommits lets the primary acknowledge commits alone, those that wait included.
	ReleaseCommits(ctx context.Context) error
	// HandOver drains and stops a primary so that its mirror ends with everything: new writes are
	// refused, the log is flushed and sent, the process ends cleanly.
	HandOver(ctx context.Context, peer Peer) (Handover, error)
	// Stop ends the instance (whatever its state; clean if it can be) and makes sure that whoever starts it
	// next gets a mirror.
	Stop(ctx context.Context) error
	// Fence ends service to clients at once and unconditionally, and makes sure that whoever starts
	// the instance next gets a mirror. When it returns nil no client can be acknowledged any more. Its budget
	// is less than the guard (300 ms by default). Calls running at the same time end with ErrFenced.
	Fence(ctx context.Context) error
	// LetGo gives the instance back to its administrator, because its pair was removed: what the agent
	// manages is taken out (restart gate, commit holding, slot), so that a primary which serves now goes on to
	// serve, commits alone, and comes up as a primary also after a restart by anybody. It changes no data and
	// stops nothing.
	LetGo(ctx context.Context) error
	// Close lets go of the process and leaves it as it is (agent stopped for an upgrade).
	Close() error
}

// TimedFence is what an engine has that can end service by itself, also when the agent does nothing any more.
type TimedFence interface {
	// Extend lets clients in for left, counted from when it is called; a right without end is extended again and
	// again. It is called from a goroutine of its own, never after Fence was called until the next Promote.
	Extend(ctx context.Context, left time.Duration) error
}

// Act is one thing that a Caretaker did, or failed to do.
type Act struct {
	What   string // the statement, or the step, in a few words
	Detail string // why, and what was read back
	Err    error  // why it failed
	Took   time.Duration
}

// Caretaker is an engine that looks after an instance about which somebody else decides.
type Caretaker interface {
	// Care works until ctx ends and tells everything that it did. told is safe for all goroutines and does not wait.
	Care(ctx context.Context, told func(Act))
}

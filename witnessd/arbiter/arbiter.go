package arbiter

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/witnessd/witnessd/witnessd/ledger"
	"github.com/witnessd/witnessd/witnessd/pair"
)

// The errors that callers tell apart, with errors.Is. A rule that says no is a *pair.Refusal instead.
var (
	// ErrNotLeading means that this node does not lead, or that its term ended before the answer was sure.
	// Nothing was changed.
	ErrNotLeading = errors.New("this node does not lead")
	// ErrBusy means that too many questions are waiting. Nothing was changed.
	ErrBusy = errors.New("too many questions are waiting")
	// ErrNotProposed is what a Log wraps around the reason why an entry certainly is not in the log.
	ErrNotProposed = errors.New("the entry was not proposed")
	// ErrOutcomeUnknown means that a change was proposed and that it may or may not come to pass.
	ErrOutcomeUnknown = errors.New("it is not known whether the change was accepted")
	// ErrUnknownPair means that no pair has this name or id.
	ErrUnknownPair = errors.New("no such pair")
)

// Log is the replicated log, as the arbiter uses it.
type Log interface {
	// Propose returns the ledger's result once the entry is applied on this node. An error that does not
	// wrap ErrNotProposed means that the outcome is unknown.
	Propose(ctx context.Context, entry []byte) (any, error)
	// Mark, Confirmed and ConfirmChanged are those of raftstore: a question that took its mark when it
	// arrived may be answered once Confirmed has reached the mark. That leading is false is final.
	Mark() uint64
	Confirmed(term uint64) (mark uint64, leading bool)
	ConfirmChanged() <-chan struct{}
}

// Observer is told what happens, for metrics. Its methods are called by several goroutines and must not block.
type Observer interface {
	// HeartbeatTaken and HeartbeatDropped are called once for each heartbeat that reaches this leader.
	HeartbeatTaken()
	HeartbeatDropped()
	// Answered is called for each answer, with the time since the heartbeat's receipt.
	Answered(after time.Duration)
	// Proposed is called for each proposal when its outcome is known: applied, refused, dropped or unknown.
	Proposed(outcome string)
}

// Options say what an arbiter works with. All but Fence, Observer and Logger are needed.
type Options struct {
	Log    Log
	Ledger *ledger.Ledger
	// Clock is this node's clock; it must count the time in which the machine is suspended (rule R1).
	Clock func() pair.Instant
	// Wall is the wall clock in milliseconds, for the history only.
	Wall func() int64
	// NewID makes an id that was never given to a pair before.
	NewID func() pair.ID
	// Fence cuts a host off its clients and returns nil only if that is certain (rule R14). Nil: no fencing
	// command is configured.
	Fence    func(ctx context.Context, host pair.HostID, p pair.Procedure) error
	Observer Observer
	Logger   *slog.Logger
}

// Arbiter holds at most one office at a time.
type Arbiter struct {
	options Options

	mu      sync.Mutex
	office  *Office       // nil while this node does not lead
	changed chan struct{} // closed when office changes
}

// New returns an arbiter without an office.
func New(o Options) *Arbiter {
	if o.Observer == nil {
		o.Observer = blind{}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &Arbiter{options: o, changed: make(chan struct{})}
}

// Serve holds the office of a term until ctx ends or leadership is found to be lost; then it returns nil. It
// must be called after a barrier of the term was applied to the ledger, and never twice at once. With an
// error the term goes on but nobody holds its office: the caller should give the leadership away.
func (a *Arbiter) Serve(ctx context.Context, term pair.Term) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	o := open(ctx, a.options, term)
	a.set(o)
	a.options.Logger.InfoContext(ctx, "office opened", "term", uint64(term), "pairs", len(o.dockets))
	err := o.run()
	a.set(nil)
	cancel()
	o.close()
	a.options.Logger.InfoContext(ctx, "office closed", "term", uint64(term))
	return err
}

func (a *Arbiter) set(o *Office) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.office = o
	close(a.changed)
	a.changed = make(chan struct{})
}

// Office returns the office that is open on this node, or nil, and a channel that is closed when that changes.
func (a *Arbiter) Office() (*Office, <-chan struct{}) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.office, a.changed
}

// blind is the observer of those who need none.
type blind struct{}

func (blind) HeartbeatTaken()        {}
func (blind) HeartbeatDropped()      {}
func (blind) Answered(time.Duration) {}
func (blind) Proposed(string)        {}

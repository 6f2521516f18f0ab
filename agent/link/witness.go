package link

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/witnessd/witnessd/agent/hold"
	witnessv1 "github.com/witnessd/witnessd/proto/gen/witness/v1"
)

// WitnessOptions say who speaks, with whom, and who listens. The callbacks come from the sessions'
// goroutines, several at a time; one that does not return holds up its own session and no other.
type WitnessOptions struct {
	Host        string // as pairs name it
	AgentID     string // of the agent's state directory, for ever
	Start       string // of this start of the agent
	Version     string
	HTTPAddress string // of the agent's own HTTP endpoints; may be empty

	Endpoints []string     // host:port of nodes; the others are learned from them
	Dial      dialFunc     // nil: TCP
	Logger    *slog.Logger // nil: none

	OnAnswer func(Answer)
	// OnNudge asks for a heartbeat now. Every node may pass the same nudge on. May be nil.
	OnNudge func()
	// OnState is called when what is known of a session has changed, and when one is up. A heartbeat that was
	// sent while no session was up is lost, so the first one up is a reason to send another. May be nil.
	OnState func(SessionState)
}

// SessionState is what is known of one endpoint.
type SessionState struct {
	Endpoint string
	Node     string // who was reached there last; empty: nobody yet
	Up       bool
	Reason   string // why not, for programs: the other side's, or one of this package's
	Detail   string // why not, for people
	// Forgotten: the endpoint was learned, leads nowhere, and is not tried any more.
	Forgotten bool
}

// PairReport is what a heartbeat says of one instance.
type PairReport struct {
	hold.Report
	Member     Member
	OtherRight bool   // a right or a promise is outstanding under another pair id (rule R16)
	FenceLevel string // the strongest in force
	FenceNote  string // why no stronger one is, with what to do
	Watchdog   bool   // ends the agent, or the host, when the agent hangs
	// Hooks ended, and the witness has not confirmed them; oldest first. The caller keeps them few.
	Hooks []HookResult
}

// HookResult is how one command that ran on a change of role ended.
type HookResult struct {
	Sequence uint64 // rises with every hook of this start of the agent
	Event    string // primary, mirror, fenced
	Epoch    hold.Epoch
	Command  string // its first word
	OK       bool   // exit status 0 within its time limit
	Detail   string // how it ended, and the end of what it printed
	Took     time.Duration
}

// Member is what an agent announces of itself and of one instance.
type Member struct {
	Host           string
	Instance       string
	LinkAddress    string
	ServiceAddress string
	Engine         string
	SystemID       string
}

// Heartbeat reports and asks for all pairs of this host.
type Heartbeat struct {
	Sequence  uint64 // rises with every heartbeat of this start, from 1
	TermHeard uint64
	Pairs     []PairReport
}

// PairAnswer is what the witness says of one pair.
type PairAnswer struct {
	Pair     string
	Name     string
	Instance string // this host's
	// Mute: the witness says nothing about the pair now, or not all of it was understood. Of Says only Term,
	// Name and Refused are set, to be shown; it must not reach hold.Step.
	Mute bool
	// Says leaves Sent zero: when the heartbeat was sent only its sender knows (rule R1).
	Says hold.WitnessSays
	// HooksRecorded: hooks of this start of the agent up to this sequence need not be reported again. It holds for
	// a mute answer too.
	HooksRecorded uint64
}

// Answer answers one heartbeat. The same heartbeat may be answered over several nodes.
type Answer struct {
	Node     string // over which it came
	Sequence uint64 // of the heartbeat; one that was given to Send
	Term     uint64
	Pairs    []PairAnswer
	Removed  []string // ids of pairs to forget; nothing else tells that a pair was removed
}

// Witness keeps a session with every node of the witness.
type Witness struct {
	options  WitnessOptions
	hello    *witnessv1.SessionRequest
	oddly    oddities
	running  sync.WaitGroup   // one for each session
	welcomes outbox[struct{}] // rung when one has come

	mu       sync.Mutex
	sessions map[string]*session // by endpoint
	// preferred was the first to answer the newest heartbeat that was answered, and is up. Nil: heartbeats go
	// by all.
	preferred *session
	answered  uint64 // that heartbeat
	sent      uint64 // the newest given to Send
}

// NewWitness prepares the sessions; Run opens them.
func NewWitness(o WitnessOptions) *Witness {
	if o.Dial == nil {
		o.Dial = dialTCP
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.OnNudge == nil {
		o.OnNudge = func() {}
	}
	if o.OnState == nil {
		o.OnState = func(SessionState) {}
	}
	return &Witness{
		options: o,
		hello: &witnessv1.SessionRequest{Message: &witnessv1.SessionRequest_Hello{Hello: &witnessv1.Hello{
			Host: utf(o.Host), AgentId: utf(o.AgentID), Start: utf(o.Start), Version: utf(o.Version),
			HttpAddress: utf(o.HTTPAddress),
		}}},
		oddly:    oddities{log: o.Logger},
		welcomes: newOutbox[struct{}](),
		sessions: map[string]*session{},
	}
}

// Run keeps the sessions until ctx ends. An error means that the options cannot work. It is called once.
func (w *Witness) Run(ctx context.Context) error {
	if err := w.options.check(); err != nil {
		return fmt.Errorf("sessions with the witness: %w", err)
	}
	w.mu.Lock()
	for _, endpoint := range w.options.Endpoints {
		if w.sessions[endpoint] == nil {
			w.begin(ctx, endpoint, true)
		}
	}
	w.mu.Unlock()
	for {
		select {
		case <-w.welcomes:
			w.review(ctx)
		case <-ctx.Done():
			w.running.Wait()
			return nil
		}
	}
}

func (o *WitnessOptions) check() error {
	if len(o.Endpoints) == 0 {
		return errors.New("no endpoints")
	}
	for _, endpoint := range o.Endpoints {
		if err := checkAddress(endpoint); err != nil {
			return err
		}
	}
	return cmp.Or(checkName("host", o.Host), checkName("agent id", o.AgentID), checkName("start", o.Start))
}

// Send sends by the preferred node, or by all if there is none or everywhere says so. It never waits. A
// session that is not up gets nothing: by the time it is, the report would be old.
func (w *Witness) Send(h Heartbeat, everywhere bool) {
	request := heartbeatRequest(h) // one for all sessions: nobody changes it
	w.mu.Lock()
	defer w.mu.Unlock()
	w.sent = max(w.sent, h.Sequence)
	if p := w.preferred; p != nil && !everywhere {
		p.out.put(request)
		return
	}
	for _, s := range w.sessions {
		if s.up() {
			s.out.put(request)
		}
	}
}

// accept takes note of an answer, and refuses one that answers nothing.
func (w *Witness) accept(s *session, sequence uint64) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if sequence == 0 || sequence > w.sent {
		return malformed("answer to heartbeat %d, the newest is %d", sequence, w.sent)
	}
	if sequence > w.answered {
		w.answered = sequence
		if s.up() { // it may just have been dropped
			w.preferred = s
		}
	}
	return nil
}

package availability

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/witnessd/witnessd/agent/engine"
	"github.com/witnessd/witnessd/agent/engine/sqlserver"
	"github.com/witnessd/witnessd/agent/engine/sqlserver/service"
)

// exitQueue is how many ends of processes wait for a reader. Each needs a start by the reader's own command or by a
// person, so more than a few means that nobody reads; then the oldest goes.
const exitQueue = 16

// Engine drives the local replica of one availability group.
type Engine struct {
	cfg     sqlserver.Config
	log     *slog.Logger
	process service.Service
	client  *sqlserver.Client
	// A fence and the write lease do not wait in line behind a statement that takes long.
	urgent *sqlserver.Client
	leases *sqlserver.Client
	health *sqlserver.Health
	memory *memory
	exits  chan engine.Exit
	settle time.Duration  // settleTime, but in tests
	done   chan struct{}  // closed by Close
	work   sync.WaitGroup // of the goroutines that watch the process and write the file

	starting chan struct{} // a token: over a start of the process, whose end a fence waits for
	looking  sync.Mutex    // over what a look leaves behind

	mu     sync.Mutex // never held over anything that can take long: Fence needs it
	cut    context.CancelCauseFunc
	closed bool
	last   look // the newest look
	waits  int  // calls that wait for the instance to take logins
	taking bool // a failover to this replica was asked for, and may still come to its end
	// allowed lets the write lease be extended: from the beginning of Promote until a fence, a hand-over, a stop or the
	// end of the process. opened says that Promote has come to its end since.
	allowed, opened bool
	extend          context.CancelFunc // ends the extension under way
	idle            time.Time          // when Stop last found nothing to do
	stuck           time.Time          // since when, by this clock, a change of configuration has not ended; zero: none

	looks sqlserver.Looks // guarded by looking
	at    uint64          // the number of the newest look at a primary; guarded by looking
}

var (
	_ engine.Engine     = (*Engine)(nil)
	_ engine.TimedFence = (*Engine)(nil)
)

// New makes an engine of a configuration and adopts the instance if it runs.
func New(cfg sqlserver.Config, logger *slog.Logger) (*Engine, error) {
	if err := cfg.Validate(sqlserver.ModeAvailability); err != nil {
		return nil, err
	}
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	process, err := service.Open(cfg.Service, logger)
	if err != nil {
		return nil, err
	}
	e, err := open(cfg, process, logger)
	if err != nil {
		return nil, errors.Join(err, process.Close())
	}
	return e, nil
}

// open makes an engine of its parts.
func open(cfg sqlserver.Config, process service.Service, logger *slog.Logger) (*Engine, error) {
	m, err := openMemory(cfg.StateFile)
	if err != nil {
		return nil, err
	}
	address := cfg.ConnectAddress()
	e := &Engine{
		cfg: cfg, log: logger, process: process, memory: m, client: sqlserver.NewClient(cfg, address),
		urgent: sqlserver.NewClient(cfg, address), leases: sqlserver.NewClient(cfg, address),
		settle: settleTime, exits: make(chan engine.Exit, exitQueue), done: make(chan struct{}),
		starting: make(chan struct{}, 1),
	}
	e.health = sqlserver.NewHealth(cfg, e.client)
	e.work.Go(e.watch)
	return e, nil
}

// Kind names the engine.
func (e *Engine) Kind() string { return "sqlserver-ag" }

// Address is where clients and the partner's agent reach the instance.
func (e *Engine) Address() string { return e.cfg.Address() }

// Exits delivers the ends of the process that nobody asked for.
func (e *Engine) Exits() <-chan engine.Exit { return e.exits }

// Close lets go of the instance, which goes on running.
func (e *Engine) Close() error {
	e.mu.Lock()
	if e.closed {
		e.mu.Unlock()
		return nil
	}
	e.closed = true
	close(e.done)
	if e.cut != nil {
		e.cut(errClosed)
	}
	e.mu.Unlock()
	e.work.Wait()
	e.health.Close()
	return errors.Join(e.process.Close(), e.client.Close(), e.urgent.Close(), e.leases.Close(), e.memory.save())
}

// spawn runs something beside the call that asks for it; not when the engine is closed.
func (e *Engine) spawn(do func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.closed {
		e.work.Go(do)
	}
}

// errClosed says that a call was cut short by Close.
var errClosed = errors.New("the engine is closed")

// perform runs one call of the agent's so that Fence can cut it short.
func (e *Engine) perform(ctx context.Context, what string, do func(context.Context) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	e.mu.Lock()
	if e.closed {
		e.mu.Unlock()
		return fmt.Errorf("%s: %w", what, errClosed)
	}
	e.cut = cancel
	e.mu.Unlock()
	err := do(ctx)
	e.mu.Lock()
	e.cut = nil
	e.mu.Unlock()
	// Whatever came of it, the group serves nobody here now.
	if errors.Is(context.Cause(ctx), engine.ErrFenced) {
		return fmt.Errorf("%s: %w", what, engine.ErrFenced)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// watch tells the agent of the ends that nobody asked for.
func (e *Engine) watch() {
	for {
		select {
		case <-e.done:
			return
		case exit, ok := <-e.process.Exits():
			if !ok {
				return
			}
			e.over()
			e.deliver(exit)
		}
	}
}

// deliver puts an end into the queue; if the queue is full, the oldest goes.
func (e *Engine) deliver(exit engine.Exit) {
	for {
		select {
		case e.exits <- exit:
			return
		default:
		}
		select {
		case <-e.exits:
		default:
		}
	}
}

// over notes that nobody is let in any more, and that what a look showed has passed.
func (e *Engine) over() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.allowed, e.opened, e.taking, e.last = false, false, false, look{}
}

package mirroring

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

const (
	// exitQueue is how many ends of processes wait for a reader. Each needs a start by the reader's own command or by a
	// person, so more than a few means that nobody reads; then the oldest goes.
	exitQueue = 16
	// unknownLease is taken for the longest lease until the agent has spoken of one.
	unknownLease = 3 * time.Second
	// fenceTime is what it takes at most, with the guard, from the end of a right until no client is served.
	fenceTime = 500 * time.Millisecond

	endNotOnDisk = "how the primary's process ended is not on disk; if the agent ends now, its databases are not " +
		"resumed by themselves"
)

// Engine drives the mirrored databases of one instance.
type Engine struct {
	cfg     sqlserver.Config
	log     *slog.Logger
	process service.Service
	client  *sqlserver.Client
	health  *sqlserver.Health
	memory  *memory
	exits   chan engine.Exit
	done    chan struct{}  // closed by Close
	settle  time.Duration  // settleTime; shorter in tests
	work    sync.WaitGroup // of the goroutines that watch the process and write the file

	starting chan struct{} // a token: over a start of the process, whose end a fence waits for
	looking  sync.Mutex    // over what a look leaves behind: looks, and what the file keeps of them

	mu     sync.Mutex // never held over anything that can take long: Fence needs it
	cut    context.CancelCauseFunc
	closed bool
	last   sight       // the newest look
	begun  incarnation // of the instance, for the process that runs
	held   string      // the run in which HoldCommits has succeeded
	handed string      // the run in which HandOver left nothing here that a client could write to
	joins  bool        // Follow is at work
	waits  int         // calls that wait for the instance to take logins
	gate   restartGate
	looks  sqlserver.Looks // guarded by looking
	idle   time.Time       // when Stop last found nothing to do
}

// incarnation is when the instance of a run started, by its own word.
type incarnation struct{ run, started string }

var _ engine.Engine = (*Engine)(nil)

// New makes an engine of a configuration and adopts the instance if it runs.
func New(cfg sqlserver.Config, logger *slog.Logger) (*Engine, error) {
	if err := cfg.Validate(sqlserver.ModeMirroring); err != nil {
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
	e := &Engine{
		cfg: cfg, log: logger, process: process, client: sqlserver.NewClient(cfg, cfg.ConnectAddress()), memory: m,
		exits: make(chan engine.Exit, exitQueue), done: make(chan struct{}), starting: make(chan struct{}, 1),
		settle: settleTime,
	}
	e.health = sqlserver.NewHealth(cfg, e.client)
	e.work.Go(e.watch)
	return e, nil
}

// Kind names the engine.
func (e *Engine) Kind() string { return "sqlserver-mirroring" }

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
	return errors.Join(e.process.Close(), e.client.Close(), e.memory.save())
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
	// Whatever came of it, the instance is gone now.
	if errors.Is(context.Cause(ctx), engine.ErrFenced) {
		return fmt.Errorf("%s: %w", what, engine.ErrFenced)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// watch tells the agent of the ends that nobody asked for, and notes what the last look said about each.
func (e *Engine) watch() {
	for {
		select {
		case <-e.done:
			return
		case exit, ok := <-e.process.Exits():
			if !ok {
				return
			}
			e.ended(exit.Run)
			e.deliver(exit)
			if err := e.memory.save(); err != nil {
				e.log.Error(endNotOnDisk, "error", err)
			}
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

// ended notes that a run of the process is over: what was open is open no more, and what the last look says about
// what clients were told. It does not wait for the disk.
func (e *Engine) ended(run string) {
	at := now()
	e.mu.Lock()
	last := e.last
	if run != "" && last.run != run {
		last = sight{}
	}
	e.last, e.held, e.handed = sight{}, "", ""
	e.mu.Unlock()
	var came *ending
	e.memory.set(func(m *stored) {
		if len(m.Opened) == 0 {
			return // nobody was let in: what is known of an earlier end still holds
		}
		end := endingOf(last, at.Sub(last.began))
		if len(end.Sequences) == 0 {
			end.Sequences = map[string]int32{}
			for guid, o := range m.Opened {
				end.Sequences[guid] = o.Sequence
			}
		}
		m.Ended, m.Opened = &end, nil
		came = &end
	})
	if came != nil {
		e.log.Info("a primary's process ended", "run", run, "nothing_lost", came.Proven, "why", came.Why)
	}
}

// lease is the longest lease that the agent has spoken of.
func (e *Engine) lease() time.Duration {
	if l := e.memory.read().Lease; l > 0 {
		return l
	}
	return unknownLease
}

// noteLease keeps the longest lease; the bound on what can be lost depends on it.
func (e *Engine) noteLease(peer engine.Peer) {
	if peer.Lease > 0 {
		e.memory.set(func(m *stored) { m.Lease = peer.Lease })
	}
}

package demo

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"

	"github.com/witnessd/witnessd/agent/engine"
	"github.com/witnessd/witnessd/agent/engine/demo/kv"
)

// exitQueue is how many ends of processes wait for a reader. Each needs a start by the reader's own
// command or by a person, so more than a few means that nobody reads; then the oldest goes.
const exitQueue = 16

// Engine drives one demodb.
type Engine struct {
	cfg     Config
	log     *slog.Logger
	program string
	exits   chan engine.Exit
	// watchers are the goroutines that wait for the ends of processes; Close waits for them.
	watchers sync.WaitGroup
	seen     inspection

	mu      sync.Mutex // never held over anything that can take long: Fence needs it
	proc    *process   // the process that is known to run; nil if none is
	watched map[*process]struct{}
	cut     context.CancelCauseFunc // ends the call that runs; nil if none does
	closed  bool
}

var _ engine.Engine = (*Engine)(nil)

// New makes an engine of a configuration and adopts a demodb that runs already.
func New(cfg Config, logger *slog.Logger) (*Engine, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	program, err := findProgram(cfg.Program)
	if err != nil {
		return nil, err
	}
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	e := &Engine{
		cfg: cfg, log: logger, program: program, exits: make(chan engine.Exit, exitQueue),
		watched: map[*process]struct{}{},
	}
	p, err := e.attach()
	if err != nil {
		return nil, err
	}
	if p != nil {
		e.log.Info("adopted a running demodb", "pid", p.pid, "dir", cfg.DataDir)
	}
	return e, nil
}

// findProgram returns the absolute path of demodb.
func findProgram(configured string) (string, error) {
	if configured != "" {
		if _, err := exec.LookPath(configured); err != nil {
			return "", fmt.Errorf("find demodb: %w", err)
		}
		return configured, nil
	}
	if self, err := os.Executable(); err == nil {
		beside, err := exec.LookPath(filepath.Join(filepath.Dir(self), "demodb"))
		if err == nil {
			return beside, nil
		}
	}
	path, err := exec.LookPath("demodb")
	if err != nil {
		return "", fmt.Errorf("find demodb beside the agent or in PATH: %w; set program", err)
	}
	return filepath.Abs(path)
}

// Kind names the engine.
func (e *Engine) Kind() string { return "demo" }

// Address is where clients and the partner's demodb reach this one.
func (e *Engine) Address() string {
	if e.cfg.Advertise != "" {
		return e.cfg.Advertise
	}
	return e.cfg.Listen
}

// Exits delivers the ends of demodb that nobody asked for.
func (e *Engine) Exits() <-chan engine.Exit { return e.exits }

// Close lets go of demodb, which goes on running.
func (e *Engine) Close() error {
	e.mu.Lock()
	e.closed = true
	var errs []error
	for p := range e.watched {
		errs = append(errs, p.release())
	}
	e.mu.Unlock()
	e.watchers.Wait()
	return errors.Join(errs...)
}

// perform runs one call of the agent's so that Fence can cut it short.
func (e *Engine) perform(ctx context.Context, what string, do func(context.Context) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	e.mu.Lock()
	if e.closed {
		e.mu.Unlock()
		return fmt.Errorf("%s: the engine is closed", what)
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

// attach returns the process that owns the data directory, whoever started it, and watches it; nil if
// there is none.
func (e *Engine) attach() (*process, error) {
	for {
		owner, err := kv.FindOwner(e.cfg.DataDir)
		if err != nil {
			return nil, err
		}
		e.mu.Lock()
		known := e.proc
		e.mu.Unlock()
		if owner.PID == 0 || known != nil && known.pid == owner.PID {
			return known, nil // One that was just started may not have claimed the directory yet.
		}
		p, err := openProcess(owner.PID, nil)
		if errors.Is(err, syscall.ESRCH) || errors.Is(err, fs.ErrNotExist) {
			continue // It ended in between.
		}
		if err != nil {
			return nil, fmt.Errorf("adopt demodb %d: %w", owner.PID, err)
		}
		// The number may have gone to another process since the kernel named it; if it still owns the
		// directory, it is the one.
		again, err := kv.FindOwner(e.cfg.DataDir)
		if err != nil {
			return nil, errors.Join(err, p.release())
		}
		if again.PID != owner.PID {
			if err := p.release(); err != nil {
				return nil, err
			}
			continue
		}
		p.admin = kv.Admin{Socket: again.Admin}
		return e.register(p)
	}
}

// register makes a process the one that runs, and watches it. If it is known already, because a look
// came upon it while it was being started, the known one goes on and learns that it is our child.
func (e *Engine) register(p *process) (*process, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return nil, errors.Join(errors.New("the engine is closed"), p.release())
	}
	if e.proc != nil && e.proc.run == p.run {
		if p.child != nil {
			e.proc.child, e.proc.admin = p.child, p.admin
		}
		return e.proc, p.release()
	}
	e.proc = p
	e.watched[p] = struct{}{}
	e.watchers.Go(func() { e.watch(p) })
	return p, nil
}

// watch waits for the end of a process and tells the agent, unless the agent asked for it.
func (e *Engine) watch(p *process) {
	ended := p.wait()
	e.mu.Lock()
	delete(e.watched, p)
	if !ended {
		e.mu.Unlock()
		return // Let go of by Close.
	}
	if e.proc == p {
		e.proc = nil
	}
	asked, child := p.asked, p.child
	e.mu.Unlock()
	close(p.gone) // Before the handle goes: who finds it closed knows why.
	reason := e.reap(child)
	if err := p.release(); err != nil {
		e.log.Warn("closing the handle of demodb", "pid", p.pid, "error", err)
	}
	if asked {
		return
	}
	e.log.Warn("demodb ended", "pid", p.pid, "reason", reason)
	e.deliver(engine.Exit{Run: p.run, Reason: reason})
}

// reap returns how a process ended, and what it said if it ended by itself. Only its parent can know.
func (e *Engine) reap(child *os.Process) string {
	if child == nil {
		return "process ended"
	}
	state, err := child.Wait()
	if err != nil {
		return "process ended: " + err.Error()
	}
	reason := state.String()
	if line := e.lastOutput(); state.Exited() && !state.Success() && line != "" {
		reason += ": " + line
	}
	return reason
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

// expectEnd marks the end of a process as asked for, or not, from here on.
func (e *Engine) expectEnd(p *process, asked bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	p.asked = asked
}

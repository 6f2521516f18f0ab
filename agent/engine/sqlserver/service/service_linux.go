package service

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/witnessd/witnessd/agent/engine"
)

// exitQueue is how many ends wait for a reader. Each needs a start, so more than a few means that nobody reads; then
// the oldest goes.
const exitQueue = 16

// killPause is the wait between two looks for a process that something starts again.
const killPause = 5 * time.Millisecond

// manager is who starts and stops the process: systemd, or this agent.
type manager interface {
	// find lists the instance's processes, the main one first.
	find(ctx context.Context) ([]int, error)
	start(ctx context.Context) error
	stop(ctx context.Context) error
	// hold keeps the manager from starting the process again while it is being killed; it does not wait.
	hold(ctx context.Context) error
	gate(ctx context.Context) (string, error)
	name() string
}

// linux is a Service on pidfds.
type linux struct {
	manager manager
	log     *slog.Logger
	exits   chan engine.Exit
	watches sync.WaitGroup

	mu     sync.Mutex
	known  map[string]*handle // by run: every main process that was seen and has not ended
	closed bool
}

func open(c Config, log *slog.Logger) (Service, error) {
	l := &linux{log: log, exits: make(chan engine.Exit, exitQueue), known: map[string]*handle{}}
	switch {
	case c.Unit != "":
		l.manager = &unit{unit: c.Unit}
	case len(c.Command) > 0:
		l.manager = &command{words: c.Command, output: c.Output}
	default:
		return nil, fmt.Errorf("service: windows_service (%s) is for Windows; set unit or command", c.WindowsService)
	}
	return l, nil
}

func (l *linux) Exits() <-chan engine.Exit { return l.exits }

func (l *linux) RestartGate(ctx context.Context) (string, error) { return l.manager.gate(ctx) }

// Look finds the process and watches it.
func (l *linux) Look(ctx context.Context) (Process, error) {
	for {
		pids, err := l.manager.find(ctx)
		if err != nil {
			return Process{}, fmt.Errorf("find the process of %s: %w", l.manager.name(), err)
		}
		if len(pids) == 0 {
			return Process{}, nil
		}
		h, err := l.take(pids[0])
		if errors.Is(err, unix.ESRCH) {
			continue // it ended in between
		}
		if err != nil {
			return Process{}, fmt.Errorf("take hold of process %d of %s: %w", pids[0], l.manager.name(), err)
		}
		return Process{PID: h.pid, Run: h.run, Running: true}, nil
	}
}

// take returns the handle of a process, and watches one that is new.
func (l *linux) take(pid int) (*handle, error) {
	run, err := runOf(pid)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if h := l.known[run]; h != nil {
		return h, nil
	}
	if l.closed {
		return nil, errors.New("the service is closed")
	}
	h, err := openHandle(pid)
	if err != nil {
		return nil, err
	}
	if h.run != run {
		return nil, errors.Join(unix.ESRCH, h.release()) // the number went to another in between
	}
	l.known[run] = h
	l.watches.Go(func() { l.watch(h) })
	return h, nil
}

// watch waits for the end of a process and tells it, unless it was asked for.
func (l *linux) watch(h *handle) {
	ended := h.wait()
	l.mu.Lock()
	delete(l.known, h.run)
	asked := h.asked
	l.mu.Unlock()
	if err := h.release(); err != nil {
		l.log.Warn("close the handle of a process", "pid", h.pid, "error", err)
	}
	if !ended {
		return // let go of by Close
	}
	close(h.gone)
	if asked {
		return
	}
	l.log.Warn("SQL Server's process ended", "pid", h.pid, "service", l.manager.name())
	l.deliver(engine.Exit{Run: h.run, Reason: fmt.Sprintf("process %d of %s ended", h.pid, l.manager.name())})
}

func (l *linux) deliver(exit engine.Exit) {
	for {
		select {
		case l.exits <- exit:
			return
		default:
		}
		select {
		case <-l.exits:
		default:
		}
	}
}

// Start starts the process unless it runs.
func (l *linux) Start(ctx context.Context) error {
	if p, err := l.Look(ctx); err != nil || p.Running {
		return err
	}
	if err := l.manager.start(ctx); err != nil {
		return fmt.Errorf("start %s: %w", l.manager.name(), err)
	}
	for {
		p, err := l.Look(ctx)
		if err != nil || p.Running {
			return err
		}
		if err := pause(ctx, killPause); err != nil {
			return fmt.Errorf("start %s: no process of it is seen: %w", l.manager.name(), err)
		}
	}
}

// ask marks the ends of all that runs as asked for, and returns their handles.
func (l *linux) ask(pids []int) ([]*handle, error) {
	var list []*handle
	for _, pid := range pids {
		h, err := l.take(pid)
		if errors.Is(err, unix.ESRCH) {
			continue
		}
		if err != nil {
			return nil, err
		}
		l.mu.Lock()
		h.asked = true
		l.mu.Unlock()
		list = append(list, h)
	}
	return list, nil
}

// Stop asks the manager, and waits until nothing of the instance runs.
func (l *linux) Stop(ctx context.Context) error {
	pids, err := l.manager.find(ctx)
	if err == nil && len(pids) > 0 {
		if _, err = l.ask(pids); err == nil {
			err = l.manager.stop(ctx)
		}
	}
	for err == nil {
		if pids, err = l.manager.find(ctx); err != nil || len(pids) == 0 {
			break
		}
		err = pause(ctx, killPause)
	}
	if err != nil {
		return fmt.Errorf("stop %s: %w", l.manager.name(), err)
	}
	return nil
}

// Kill ends every process of the instance until none is found.
func (l *linux) Kill(ctx context.Context) error {
	// Beside the killing: asking a manager takes longer than that may.
	held := make(chan error, 1)
	go func() { held <- l.manager.hold(context.WithoutCancel(ctx)) }()
	for {
		pids, err := l.manager.find(ctx)
		if err != nil {
			// What was seen before can be killed without being found again.
			pids = l.seen()
		}
		if len(pids) == 0 {
			if err != nil {
				return fmt.Errorf("kill %s: %w", l.manager.name(), err)
			}
			break
		}
		if err := l.killAll(ctx, pids); err != nil {
			return fmt.Errorf("kill %s: %w", l.manager.name(), err)
		}
		if err != nil {
			break // the manager cannot be asked; all that is known is gone
		}
	}
	select {
	case err := <-held:
		if err != nil {
			l.log.WarnContext(ctx, "the service manager may start SQL Server again", "service", l.manager.name(), "error", err)
		}
	default: // it goes on beside; its word is not needed for what is dead already
	}
	return nil
}

// seen are the processes that are known and have not ended.
func (l *linux) seen() []int {
	l.mu.Lock()
	defer l.mu.Unlock()
	var pids []int
	for _, h := range l.known {
		pids = append(pids, h.pid)
	}
	return pids
}

func (l *linux) killAll(ctx context.Context, pids []int) error {
	handles, err := l.ask(pids)
	if err != nil {
		return err
	}
	for _, h := range handles {
		if err := h.signal(unix.SIGKILL); err != nil {
			return err
		}
	}
	for _, h := range handles {
		select {
		case <-h.gone:
		case <-ctx.Done():
			return fmt.Errorf("process %d was killed and is not gone yet: %w", h.pid, context.Cause(ctx))
		}
	}
	return nil
}

// Close ends the watches.
func (l *linux) Close() error {
	l.mu.Lock()
	l.closed = true
	var errs []error
	for _, h := range l.known {
		errs = append(errs, h.release())
	}
	l.mu.Unlock()
	l.watches.Wait()
	return errors.Join(errs...)
}

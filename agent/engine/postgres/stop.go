//go:build linux

package postgres

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"github.com/witnessd/witnessd/agent/engine"
)

const (
	// fenceBudget is what Fence may take in all; the agent's guard is 300 ms.
	fenceBudget = 250 * time.Millisecond
	// fenceGrace is how long the server may end by itself, which tells its clients why, before it is
	// killed.
	fenceGrace = 30 * time.Millisecond
)

// Fence ends service to clients at once: when it returns nil, no process of the instance is left that could
// acknowledge a commit. It waits for no other call and for no answer of the server.
func (e *Engine) Fence(ctx context.Context) error {
	e.mu.Lock()
	e.fencing++
	if e.cancel != nil {
		e.cancel(engine.ErrFenced)
	}
	r := e.current
	if r != nil {
		r.asked.Store(true)
	}
	e.mu.Unlock()
	defer func() {
		e.mu.Lock()
		e.fencing--
		e.mu.Unlock()
	}()
	began := now()
	if r != nil {
		// Before all else, because on a host that has no time to spare the rest may take a while.
		if err := r.signal(unix.SIGQUIT); err != nil {
			e.log.WarnContext(ctx, "immediate shutdown not asked for", slog.Any("error", err))
		}
	}
	// A caller that gave up must not leave a half-fenced server behind.
	ctx, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), fenceBudget, errStillThere)
	defer cancel()
	if err := urgently(func() error { return e.kill(ctx, fenceGrace) }); err != nil {
		return fmt.Errorf("fence: %w", err)
	}
	// The gate lies there already, unless a promotion was cut short; but the disk may hang.
	done := make(chan error, 1)
	go func() { done <- e.gateIfData() }()
	select {
	case err := <-done:
		if err != nil {
			return fmt.Errorf("fence: the server is dead, but a start by hand may come up as primary: %w", err)
		}
	case <-ctx.Done():
		return errors.New("fence: the server is dead, but its disk does not answer, so it is not known " +
			"that a start by hand would come up as a copy")
	}
	e.log.InfoContext(ctx, "fenced", slog.Duration("took", since(began)))
	return nil
}

// urgently runs work before all ordinary processes, if the agent may ask for that: a host without time to
// spare, where a hundred backends wait for a processor, is one that has to be fenced.
func urgently(work func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // For good: the thread ends with this goroutine, and its rank with it.
		_ = unix.SchedSetAttr(0, &unix.SchedAttr{
			Size: unix.SizeofSchedAttr, Policy: unix.SCHED_RR, Priority: 1,
			Flags: unix.SCHED_FLAG_RESET_ON_FORK,
		}, 0)
		done <- work()
	}()
	return <-done
}

var errStillThere = errors.New("processes of the server did not end")

// gateIfData puts the gate in place if there is a database to gate.
func (e *Engine) gateIfData() error {
	if data, _ := e.data(); data != engine.DataPresent && data != engine.DataIncomplete {
		return nil
	}
	if !exists(e.path("PG_VERSION")) {
		return nil
	}
	return e.assureGate()
}

// kill ends every process of the instance: for the time of grace by asking the postmaster for an immediate
// shutdown, then by force. Only a postmaster begets processes, so once it is dead the list can only grow
// shorter; processes that lost their postmaster are found by their working directory.
func (e *Engine) kill(ctx context.Context, grace time.Duration) error {
	graceEnds := time.NewTimer(grace)
	defer graceEnds.Stop()
	force := grace == 0
	for {
		left, err := serverProcesses(e.cfg.DataDir)
		if err != nil {
			return err
		}
		all := left.all()
		if len(all) == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("kill %d processes of the server: %w", len(all), context.Cause(ctx))
		case <-graceEnds.C:
			force = true
		default:
			force = force || len(left.masters) == 0 // Nobody is left who could be asked.
		}
		signal, whom := unix.SIGQUIT, left.masters
		if force {
			signal, whom = unix.SIGKILL, all
		}
		for _, p := range whom {
			if err := signalProcess(p, signal); err != nil {
				return err
			}
		}
		if err := awaitEnd(all, killRound); err != nil {
			return err
		}
	}
}

// killRound is how long kill waits before it looks again for what is left.
const killRound = 10 * time.Millisecond

// sweep kills what outlived its postmaster, and waits until the kernel has done away with it. A server does
// not start beside such a process, because both would write to the same files.
func (e *Engine) sweep(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, 5*time.Second, errStillThere)
	defer cancel()
	for {
		found, err := serverProcesses(e.cfg.DataDir)
		if err != nil {
			return err
		}
		left := found.orphans()
		if len(left) == 0 && !e.attached() {
			return nil
		}
		for _, p := range left {
			if err := signalProcess(p, unix.SIGKILL); err != nil {
				return err
			}
		}
		if err := pause(ctx); err != nil {
			return fmt.Errorf("kill %d processes that outlived their server: %w", len(left), err)
		}
	}
}

// attached says whether a process still holds the memory of the last server. A killed process does for some
// milliseconds, though it runs no more and /proc no longer tells what it was.
func (e *Engine) attached() bool {
	file, err := readPidFile(e.cfg.DataDir)
	if err != nil || file.shmID < 0 || serves(file.pid, e.cfg.DataDir) {
		return false
	}
	var memory unix.SysvShmDesc
	_, err = unix.SysvShmCtl(file.shmID, unix.IPC_STAT, &memory)
	return err == nil && memory.Nattch > 0
}

// Stop ends the instance, clean if it can be.
func (e *Engine) Stop(ctx context.Context) error {
	return e.call(ctx, "stop", func(ctx context.Context) error {
		if err := e.gateIfData(); err != nil {
			return err
		}
		r, err := e.server()
		if err != nil {
			return err
		}
		if r == nil {
			return e.sweep(ctx)
		}
		return e.stopServer(ctx, r)
	})
}

// stopServer asks for a fast shutdown, and kills the server if that takes too long.
func (e *Engine) stopServer(ctx context.Context, r *run) error {
	if e.askToEnd(ctx, r) {
		return e.sweep(ctx)
	}
	if errors.Is(context.Cause(ctx), engine.ErrFenced) {
		return engine.ErrFenced
	}
	e.log.WarnContext(ctx, "server did not stop in time; it is killed", slog.String("run", r.id))
	killing, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), 2*time.Second, errStillThere)
	defer cancel()
	return e.kill(killing, fenceGrace)
}

// askToEnd asks for a fast shutdown and says whether the server ended in time.
func (e *Engine) askToEnd(ctx context.Context, r *run) bool {
	r.asked.Store(true)
	ctx, cancel := context.WithTimeout(ctx, stopPatience)
	defer cancel()
	if err := r.signal(unix.SIGINT); err != nil {
		e.log.WarnContext(ctx, "fast shutdown not asked for", slog.Any("error", err))
		return false
	}
	select {
	case <-r.gone:
		return true
	case <-ctx.Done():
		return false
	}
}

// Standby makes the instance run as a copy without an upstream.
func (e *Engine) Standby(ctx context.Context) error {
	return e.call(ctx, "run as a copy", func(ctx context.Context) error {
		if err := e.finishSwap(); err != nil {
			return err
		}
		r, err := e.server()
		if err != nil {
			return err
		}
		if r == nil {
			_, err := e.running(ctx)
			return err
		}
		if err := e.awaitReady(ctx, r); err != nil {
			return err
		}
		recovering, err := e.inRecovery(ctx, r)
		if err != nil || recovering {
			return err
		}
		if err := e.stopServer(ctx, r); err != nil {
			return err
		}
		_, err = e.running(ctx)
		return err
	})
}

// inRecovery says whether run r is a copy.
func (e *Engine) inRecovery(ctx context.Context, r *run) (bool, error) {
	rows, err := e.acting.query(ctx, r, "select pg_is_in_recovery()")
	if err != nil {
		return false, err
	}
	return rows[0].true(0), nil
}

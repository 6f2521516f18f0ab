package agent

import (
	"context"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// guardLook is how often the guard reads the marks; it is how late the end of a right is noticed.
	guardLook = 50 * time.Millisecond
	// guardProbe bounds the guard's look at the database: what is left of a lease's guard is for the fence. A database
	// that does not answer is ended.
	guardProbe = 100 * time.Millisecond
	// guardIdle is after which a guard ends that guards nobody: its agent was uninstalled.
	guardIdle = time.Minute
)

// Guard is a second process beside the agent, where no kernel's fence and no supervisor's last act ends a dead agent's
// right (Windows). It ends the service of this host's databases when a right has run out that nobody renews: because
// the agent was killed, or because it is frozen. It decides nothing; like [AtEnd] it goes by the marks. It returns
// when another guard is there already, and when for a minute no agent was.
func Guard(ctx context.Context, config Config, opts Options) error {
	if opts.Clock == nil {
		opts.Clock = BootClock
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	lock, err := lockFile(guardLock(config))
	if err != nil {
		opts.Logger.InfoContext(ctx, "another guard is there", "reason", err)
		return nil
	}
	defer lock.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	// One goroutine tries the agent's lock: two would take each other for an agent.
	var alive atomic.Bool
	alive.Store(true)
	var all sync.WaitGroup
	for _, c := range config.Instances {
		if c.watched() {
			continue
		}
		all.Go(func() { guardInstance(ctx, config, c, opts, alive.Load) })
	}
	last := opts.Clock()
	for opts.Clock().Sub(last) < guardIdle {
		there := lookedAfter(config)
		if alive.Store(there); there {
			last = opts.Clock()
		}
		if pause(ctx, guardLook) != nil {
			break // told to end
		}
	}
	cancel()
	all.Wait()
	return nil
}

func guardLock(config Config) string { return filepath.Join(config.StateDir, "guard.lock") }

// guarded says whether a guard runs.
func (a *Agent) guarded() bool {
	lock, err := lockFile(guardLock(a.config))
	if err == nil {
		_ = lock.Close()
	}
	return err != nil
}

// guardInstance ends the instance's service whenever its right has run out.
func guardInstance(ctx context.Context, config Config, c Instance, opts Options, alive func() bool) {
	e := &atEnd{
		host: &Agent{config: config, boot: bootID(), log: opts.Logger}, instance: c, clock: opts.Clock,
		log: opts.Logger.With("instance", c.Name), engine: opts.Engines[c.Name], probe: guardProbe,
		alive: alive,
	}
	own := e.engine == nil
	e.began = opts.Clock()
	for {
		e.looked = false
		if e.alive() {
			e.began = opts.Clock() // from when no agent is there, a right without a mark has one longest lease
		}
		wait := guardLook
		// The right of a mark that is renewed is never due; one that is due and was not renewed is an agent's that is
		// dead or frozen.
		if due, owed := e.due(); owed && opts.Clock() >= due.Add(guardLate) {
			if _, err := e.end(ctx); err != nil && ctx.Err() == nil {
				e.log.ErrorContext(ctx, "service has not ended; trying on", "error", err)
				wait = atEndAgain
			} else {
				wait = atEndProbe // it stays due until somebody renews it, and is looked at again
			}
			if own {
				e.closeEngine() // the agent drives the database, not this process
				e.engine = nil
			}
		}
		if pause(ctx, wait) != nil {
			return
		}
	}
}

// guardLate is left to the agent's own fence, which a guard of the lease pays for: its host's clock is this one.
const guardLate = 20 * time.Millisecond

// keepGuard has a guard run for as long as the agent does, and longer: it is started again when it has ended.
func (a *Agent) keepGuard(ctx context.Context) {
	if a.opts.StartGuard == nil {
		return
	}
	for ctx.Err() == nil {
		there := a.guarded()
		a.hasGuard.Store(there)
		if !there {
			if err := a.opts.StartGuard(); err != nil {
				a.log.ErrorContext(ctx, "no guard: a killed or frozen agent does not fence", "error", err)
			}
		}
		if pause(ctx, guardStart) != nil {
			return
		}
	}
}

// guardStart is how soon a guard that has ended is noticed.
const guardStart = 2 * time.Second

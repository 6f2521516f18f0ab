package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/witnessd/witnessd/agent/engine"
	"github.com/witnessd/witnessd/agent/hold"
)

// AtEnd ends the service of this host's databases when the right that a dead agent has left behind runs out, unless a
// new agent looks after it by then. The supervisor starts it (witness-agent fence at-end) after each end of the agent,
// so that a crash, a kill, a watchdog's verdict or a stop that nobody follows up ends in closed databases on a host
// whose kernel cannot fence, and for clients over Unix sockets on every host.
//
// It goes by the mark, which says until when the record allowed service. A later mark proves that an agent's loop
// turns: who writes it has a watchdog of its own and an AtEnd of its own when it dies. It goes on trying until service
// has ended, or an agent looks after it.
func AtEnd(ctx context.Context, config Config, opts Options) error {
	if opts.Clock == nil {
		opts.Clock = BootClock
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	ended := make([]error, len(config.Instances))
	var all sync.WaitGroup
	for n, c := range config.Instances {
		// Side by side: one database that hangs must not keep the others open.
		all.Go(func() {
			e := &atEnd{
				host: &Agent{config: config, boot: bootID(), log: opts.Logger}, instance: c, clock: opts.Clock,
				log: opts.Logger.With("instance", c.Name), began: opts.Clock(), engine: opts.Engines[c.Name],
				alive: func() bool { return lookedAfter(config) },
			}
			ended[n] = e.run(ctx)
		})
	}
	all.Wait()
	return errors.Join(ended...)
}

const (
	// atEndLook bounds how late the end of a right is noticed; Go's timers do not count suspend, the clock does.
	atEndLook = 20 * time.Millisecond
	// atEndPatience is how long a file that cannot be read may become readable again.
	atEndPatience = 3 * time.Second
	// atEndProbe bounds a look at the database. One that does not answer is ended.
	atEndProbe = time.Second
	// atEndAgain is the pause after a fence that failed.
	atEndAgain = 200 * time.Millisecond
)

// atEnd is the watch over one instance.
type atEnd struct {
	host     *Agent // its files, no more
	instance Instance
	engine   engine.Engine // nil: not made yet
	clock    Clock
	log      *slog.Logger
	began    hold.Instant
	probe    time.Duration // bounds a look at the database; 0: atEndProbe
	first    hold.Mark     // what the dead agent has left
	looked   bool
	alive    func() bool // whether an agent runs
}

// run waits for the end of the right and ends service then.
func (e *atEnd) run(ctx context.Context) error {
	defer e.closeEngine()
	for {
		due, owed := e.due()
		if !owed {
			return nil
		}
		wait := atEndLook
		if e.clock() >= due {
			ended, err := e.end(ctx)
			if ended {
				return nil
			}
			e.log.ErrorContext(ctx, "service has not ended; trying on", "error", err)
			wait = atEndAgain
		}
		if err := pause(ctx, wait); err != nil {
			return fmt.Errorf("instance %s: wait for the end of its right: %w", e.instance.Name, err)
		}
	}
}

// due says when the instance's service must end. A sole right has no end, what has no epoch or another primary needs
// none, and what an agent has renewed is that agent's.
func (e *atEnd) due() (at hold.Instant, owed bool) {
	file, known, err := e.host.epochFileOf(e.instance.Name).load()
	if err != nil {
		// Nothing says that this host may serve, and no agent starts with this file; but its disk may come back.
		return e.began.Add(atEndPatience), true
	}
	if !known || file.Epoch == 0 || file.Primary != e.host.config.Host {
		return 0, false
	}
	m := e.host.markFileOf(e.instance.Name).load()
	if !e.looked {
		e.looked, e.first = true, m
	}
	switch {
	case m.Epoch != file.Epoch:
		// There is none: an agent that has no right takes it away, and one whose directory is full cannot write it. While
		// one runs, it is waited for what becomes of it.
		if e.alive() {
			return e.clock().Add(file.Longest), true
		}
		return e.began.Add(file.Longest), true
	case m.Endless:
		return 0, false
	case m.Until > e.first.Until && e.alive():
		return 0, false
	}
	return m.Until, true
}

// lookedAfter says whether an agent runs.
func lookedAfter(config Config) bool {
	lock, err := lockDir(config.StateDir)
	if err == nil {
		_ = lock.Close()
	}
	return err != nil
}

// end fences the database, unless it lets no client write anyway. An agent that runs does not keep it from that: the
// mark says that there is no right, and an agent that has one writes a later mark before it uses it.
func (e *atEnd) end(ctx context.Context) (ended bool, err error) {
	if e.engine == nil {
		if e.engine, err = e.host.newEngine(e.instance); err != nil {
			return false, err
		}
	}
	looking, cancel := context.WithTimeout(ctx, cmp.Or(e.probe, atEndProbe))
	st, err := e.engine.Observe(looking)
	cancel()
	if err == nil && (!st.Running || st.Role == engine.RoleMirror) {
		return true, nil
	}
	if err := e.engine.Fence(ctx); err != nil {
		return false, err
	}
	e.log.WarnContext(ctx, "the right that a dead agent has left behind has run out: service ended")
	return true, nil
}

func (e *atEnd) closeEngine() {
	if e.engine != nil {
		_ = e.engine.Close() // it leaves the database as it is; there is nobody to tell
	}
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

package agent

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/witnessd/witnessd/agent/engine"
	"github.com/witnessd/witnessd/agent/hold"
)

// AtEnd ends the service of this host's databases when the right that a dead agent has left behind runs out, unless a
// new agent is there by then. The supervisor starts it after each end of the agent (`witness-agent fence at-end`),
// so that a crash, a kill, a watchdog's verdict or a stop that nobody follows up ends in closed databases on a host
// whose kernel cannot fence, and for clients over Unix sockets on every host.
//
// It waits by the boot-time clock, reads the mark again at its end (a later agent may have renewed it before it died
// as well), and holds the state directory's lock while it fences, so that no agent starts in between.
func AtEnd(ctx context.Context, config Config, opts Options) error {
	e := &atEnd{config: config, opts: opts, log: opts.Logger, clock: opts.Clock, boot: bootID()}
	if e.clock == nil {
		e.clock = BootClock
	}
	if e.log == nil {
		e.log = slog.New(slog.DiscardHandler)
	}
	due := map[string]hold.Instant{}
	for _, c := range config.Instances {
		if at, owed := e.due(c, e.longestFrom(c)); owed {
			due[c.Name] = at
		}
	}
	var failed error
	for len(due) > 0 {
		if err := pause(ctx, atEndLook); err != nil {
			return err
		}
		for _, c := range config.Instances {
			at, waits := due[c.Name]
			if !waits || e.clock() < at {
				continue
			}
			delete(due, c.Name)
			switch later, owed := e.due(c, at); {
			case !owed:
				continue
			case later > e.clock():
				due[c.Name] = later
				continue
			}
			if err := e.end(ctx, c); err != nil {
				failed = err
			}
		}
	}
	return failed
}

// atEndLook bounds how late the end of a right is noticed; Go's timers do not count suspend, the clock does.
const atEndLook = 20 * time.Millisecond

type atEnd struct {
	config Config
	opts   Options
	log    *slog.Logger
	clock  Clock
	boot   string
}

// due says when the instance's service must end: with the mark of the former agent, and without one at the moment
// given. A sole right has no end, and what has no epoch, or another primary, needs none.
func (e *atEnd) due(c Instance, unmarked hold.Instant) (at hold.Instant, owed bool) {
	a := Agent{config: e.config, boot: e.boot}
	file, known, err := a.epochFileOf(c.Name).load()
	if err != nil {
		// Nothing says that this host may serve; the agent does not start with this file either.
		return unmarked, true
	}
	if !known || file.Epoch == 0 || file.Primary != e.config.Host {
		return 0, false
	}
	switch m := a.markFileOf(c.Name).load(); {
	case m.Epoch != file.Epoch:
		return unmarked, true
	case m.Endless:
		return 0, false
	default:
		return m.Until, true
	}
}

// longestFrom is when the longest lease of an instance without a mark is over: the mark may be what could not be
// written, and then the former agent may have had a right.
func (e *atEnd) longestFrom(c Instance) hold.Instant {
	a := Agent{config: e.config}
	file, _, _ := a.epochFileOf(c.Name).load()
	return e.clock().Add(file.Longest)
}

// end fences the instance, unless an agent runs: then its right is that agent's business.
func (e *atEnd) end(ctx context.Context, c Instance) error {
	lock, err := lockDir(e.config.StateDir)
	if err != nil {
		e.log.InfoContext(ctx, "an agent runs again; service is its business", "instance", c.Name)
		return nil
	}
	defer lock.Close()
	eng := e.opts.Engines[c.Name]
	if eng == nil {
		a := Agent{log: e.log}
		if eng, err = a.newEngine(c); err != nil {
			return fmt.Errorf("end service of instance %s: %w", c.Name, err)
		}
	}
	defer func() { _ = eng.Close() }()
	if st, err := eng.Observe(ctx); err == nil && st.Running && st.Role == engine.RoleMirror {
		return nil // a copy lets no client write
	}
	if err := eng.Fence(ctx); err != nil {
		return fmt.Errorf("end service of instance %s: %w", c.Name, err)
	}
	e.log.WarnContext(ctx, "no agent runs and its right has run out: service ended", "instance", c.Name)
	return nil
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

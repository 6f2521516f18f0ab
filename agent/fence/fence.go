// Package fence makes a right end by itself (DESIGN section 4). The agent says until when clients may be
// let in; when that moment passes without a renewal, the fence ends service, whatever the rest of the
// agent does.
//
// The level here is "engine": a goroutine of its own with its own timer stops the database. It is independent of
// the agent's decisions and of its disk, but not of the agent's process: a killed or frozen agent does not
// fence. Levels that are independent of the process (kernel, gate, watchdog) implement the same interface.
package fence

import (
	"context"
	"sync"
	"time"

	"github.com/witnessd/witnessd/agent/hold"
)

// Level names how service is ended, from the strongest to the weakest that an agent has.
type Level string

// LevelEngine stops the database process from within the agent's process.
const LevelEngine Level = "engine"

// Fence ends service when the right ends.
type Fence interface {
	// Level is what `pair show` names for this host.
	Level() Level
	// Renew lets clients in until the instant, or without end if endless. It never shortens what Shut ended:
	// after Shut only a later Renew opens again.
	Renew(until hold.Instant, endless bool)
	// Shut ends service now and returns when it has ended.
	Shut(ctx context.Context, why string) error
	// Close stops the fence's own goroutine and leaves service as it is.
	Close()
}

// Clock reads the host's boot-time clock.
type Clock func() hold.Instant

// Engine is the level "engine".
type Engine struct {
	ctx    context.Context // the process's; an end of it must not keep the fence from stopping the database
	clock  Clock
	budget time.Duration
	stop   func(ctx context.Context) error
	onEnd  func(why string, err error)

	mu      sync.Mutex
	until   hold.Instant
	endless bool
	armed   bool // clients may be in
	wake    chan struct{}
	done    chan struct{}
	ended   sync.WaitGroup
}

// NewEngine starts a fence that calls stop, which must end service within budget. onEnd is called from the
// fence's goroutine each time a right ran out, after stop returned; it must not block.
func NewEngine(ctx context.Context, clock Clock, budget time.Duration, stop func(context.Context) error,
	onEnd func(why string, err error),
) *Engine {
	f := &Engine{
		ctx: ctx, clock: clock, budget: budget, stop: stop, onEnd: onEnd,
		wake: make(chan struct{}, 1), done: make(chan struct{}),
	}
	f.ended.Go(f.watch)
	return f
}

// Level implements Fence.
func (f *Engine) Level() Level { return LevelEngine }

// Renew implements Fence.
func (f *Engine) Renew(until hold.Instant, endless bool) {
	f.mu.Lock()
	f.until, f.endless, f.armed = until, endless, true
	f.mu.Unlock()
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// Shut implements Fence.
func (f *Engine) Shut(ctx context.Context, _ string) error {
	f.mu.Lock()
	f.armed = false
	f.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, f.budget)
	defer cancel()
	return f.stop(ctx)
}

// Close implements Fence.
func (f *Engine) Close() {
	close(f.done)
	f.ended.Wait()
}

// left says how long the right still lasts; ok is false when there is nothing to watch.
func (f *Engine) left() (d time.Duration, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.until.Sub(f.clock()), f.armed && !f.endless
}

// longestSleep bounds a sleep, because Go's timers do not count suspend and the boot-time clock does.
const longestSleep = 100 * time.Millisecond

// watch is the fence's goroutine: it sleeps until the right ends and then ends service.
func (f *Engine) watch() {
	timer := time.NewTimer(longestSleep)
	defer timer.Stop()
	for {
		d, ok := f.left()
		if ok && d <= 0 {
			f.expire()
			continue
		}
		if !ok || d > longestSleep {
			d = longestSleep
		}
		timer.Reset(d)
		select {
		case <-timer.C:
		case <-f.wake:
		case <-f.done:
			return
		}
	}
}

// expire disarms before it stops: a renewal that comes while the database is being stopped is for a
// database that its sender has yet to start again.
func (f *Engine) expire() {
	f.mu.Lock()
	f.armed = false
	f.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(f.ctx), f.budget)
	defer cancel()
	err := f.stop(ctx)
	f.onEnd("the right to serve has run out", err)
}

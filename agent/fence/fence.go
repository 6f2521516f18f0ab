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
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/witnessd/witnessd/agent/hold"
)

// Level names how service is ended, from the strongest to the weakest that an agent has.
type Level string

// The levels beside [LevelKernel], from the strongest to the weakest.
const (
	// LevelGate: clients have no other way than through the agent's gate, which is closed when the agent is dead.
	LevelGate Level = "gate"
	// LevelWatchdog: what watches over the agent ends it when it hangs, and then the database.
	LevelWatchdog Level = "watchdog"
	// LevelEngine stops the database process from within the agent's process.
	LevelEngine Level = "engine"
)

// Fence ends service when the right ends.
type Fence interface {
	// Level is what `pair show` names for this host.
	Level() Level
	// Renew lets clients in until the instant, or without end if endless. It never shortens what Shut ended:
	// after Shut only a later Renew opens again.
	Renew(until hold.Instant, endless bool)
	// Shut ends service now and returns when it has ended.
	Shut(ctx context.Context, why string) error
	// Within runs work that opens the database, or needs it open, only while clients may be in, and ends its
	// context with [ErrEnded] before service is ended. Work that was put off until after the end, by a stopped
	// process or a disk, would open what nobody closes any more.
	Within(ctx context.Context, work func(context.Context) error) error
	// Close stops the fence's own goroutine and leaves service as it is.
	Close()
}

// ErrEnded says that clients may not be in.
var ErrEnded = errors.New("there is no right to serve")

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
	armed   bool                    // clients may be in
	owed    bool                    // service was to be ended and stop has failed
	cut     context.CancelCauseFunc // of the work that Within runs
	stops   chan struct{}           // one token for each call of stop that runs
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
		stops: make(chan struct{}, maxStops), wake: make(chan struct{}, 1), done: make(chan struct{}),
	}
	f.ended.Go(f.watch)
	return f
}

// Level implements Fence.
func (f *Engine) Level() Level { return LevelEngine }

// Renew implements Fence.
func (f *Engine) Renew(until hold.Instant, endless bool) {
	f.mu.Lock()
	f.until, f.endless, f.armed, f.owed = until, endless, true, false
	f.mu.Unlock()
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// Shut implements Fence.
func (f *Engine) Shut(ctx context.Context, _ string) error {
	f.disarm()
	return f.end(ctx)
}

// Within implements Fence. There is one such work at a time.
func (f *Engine) Within(ctx context.Context, work func(context.Context) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	f.mu.Lock()
	if !f.armed || !f.endless && f.clock() >= f.until {
		f.mu.Unlock()
		return ErrEnded
	}
	f.cut = cancel
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		f.cut = nil
		f.mu.Unlock()
	}()
	return work(ctx)
}

// disarm is done before stop is called, so that nothing can begin behind its back.
func (f *Engine) disarm() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.armed = false
	if f.cut != nil {
		f.cut(ErrEnded)
	}
}

// maxStops bounds the calls of stop that run at a time: two are usual, when the loop and this fence's timer
// notice the end of a right together; more only pile up where stop does not return.
const maxStops = 4

// end calls stop and waits for it, but not for ever: an agent that waits for one hanging database would let the
// rights of all others run out.
func (f *Engine) end(ctx context.Context) error {
	select {
	case f.stops <- struct{}{}:
	default:
		f.owe(true)
		return fmt.Errorf("%d former attempts to end service still run", maxStops)
	}
	ctx, cancel := context.WithTimeout(ctx, f.budget)
	ended := make(chan error, 1)
	go func() {
		defer cancel()
		ended <- f.stop(ctx)
		<-f.stops
	}()
	patience := time.NewTimer(2 * f.budget)
	defer patience.Stop()
	select {
	case err := <-ended:
		f.owe(err != nil)
		return err
	case <-patience.C:
		f.owe(true)
		return fmt.Errorf("the database has not been stopped after %v", 2*f.budget)
	}
}

// owe notes whether service is still to be ended; not if it was allowed again meanwhile.
func (f *Engine) owe(yes bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.owed = yes && !f.armed
}

func (f *Engine) owes() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.owed
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
		if f.owes() {
			// The rest of the agent asks again only when it sees the database serve, and one that hangs is not seen.
			_ = f.end(context.WithoutCancel(f.ctx))
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
	f.disarm()
	err := f.end(context.WithoutCancel(f.ctx))
	f.onEnd("the right to serve has run out", err)
}

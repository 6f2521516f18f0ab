package agent

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/witnessd/witnessd/agent/engine"
	"github.com/witnessd/witnessd/agent/hold"
)

const (
	// endlessLease is what a right without end is given at a time; the agent of a sole primary that is killed costs the
	// service no sooner than that, and its next start takes over.
	endlessLease = 30 * time.Second
	// extendEvery is how often that is done.
	extendEvery = 5 * time.Second
	// extendPatience bounds one attempt: a late one must not be believed for longer than a right lasts.
	extendPatience = time.Second
)

// extender passes the right on to an engine that ends service by itself when it runs out ([engine.TimedFence]). It has
// a goroutine of its own: a slow database must not hold up the loop.
type extender struct {
	fence engine.TimedFence // nil: the engine has none
	clock Clock
	log   *slog.Logger
	wake  chan struct{}

	mu    sync.Mutex
	right hold.Renew // zero: none
}

func newExtender(eng engine.Engine, clock Clock, log *slog.Logger) *extender {
	x := &extender{clock: clock, log: log, wake: make(chan struct{}, 1)}
	x.fence, _ = eng.(engine.TimedFence)
	return x
}

// open takes the right over that the loop has renewed.
func (x *extender) open(r hold.Renew) { x.set(r) }

// shut ends the extensions; what was extended last runs out.
func (x *extender) shut() { x.set(hold.Renew{}) }

func (x *extender) set(r hold.Renew) {
	if x.fence == nil {
		return
	}
	x.mu.Lock()
	x.right = r
	x.mu.Unlock()
	select {
	case x.wake <- struct{}{}:
	default:
	}
}

// left is how long the right lasts now; 0: there is none.
func (x *extender) left() time.Duration {
	x.mu.Lock()
	defer x.mu.Unlock()
	switch {
	case x.right == hold.Renew{}:
		return 0
	case x.right.Endless:
		return endlessLease
	default:
		return max(0, x.right.Until.Sub(x.clock()))
	}
}

// run works until ctx ends.
func (x *extender) run(ctx context.Context) {
	if x.fence == nil {
		return
	}
	ticker := time.NewTicker(extendEvery)
	defer ticker.Stop()
	failing := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-x.wake:
		case <-ticker.C:
		}
		left := x.left()
		if left <= 0 {
			continue
		}
		try, cancel := context.WithTimeout(ctx, min(extendPatience, left))
		err := x.fence.Extend(try, left)
		cancel()
		if err != nil && !failing && ctx.Err() == nil {
			x.log.WarnContext(ctx, "the engine's own lease could not be extended; it goes on trying", "error", err)
		}
		failing = err != nil
	}
}

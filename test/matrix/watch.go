package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/witnessd/witnessd/test/fleet"
)

// watch looks at the pair's record all the time. A pair that is armed for a moment, because nobody has noticed the
// fault yet, is not one that is armed again.
type watch struct {
	cancel context.CancelFunc
	ended  sync.WaitGroup

	mu    sync.Mutex
	since time.Time // armed without a break; zero: not armed, or not known
}

// watchEvery is often enough for a figure that is measured in seconds.
const watchEvery = 200 * time.Millisecond

func watchPair(ctx context.Context, f *fleet.Fleet, pair string) *watch {
	ctx, cancel := context.WithCancel(ctx)
	w := &watch{cancel: cancel}
	w.ended.Go(func() {
		for ctx.Err() == nil {
			p, err := f.Get(ctx, pair)
			w.saw(time.Now(), err == nil && fleet.Armed(p))
			_ = sleep(ctx, watchEvery)
		}
	})
	return w
}

func (w *watch) saw(now time.Time, armed bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case !armed:
		w.since = time.Time{}
	case w.since.IsZero():
		w.since = now
	}
}

func (w *watch) armedSince() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.since
}

func (w *watch) stop() {
	w.cancel()
	w.ended.Wait()
}

const (
	// steady is for how long a pair must be armed: longer than a lease and a mirror time-out.
	steady = 4 * time.Second
	// hopeless is when nobody waits for redundancy any more.
	hopeless = 3 * redundancyLimit
)

// armedFrom waits until the pair is armed for good, and says how long after mended that began. It ends the watch.
func (w *watch) armedFrom(ctx context.Context, mended time.Time) (time.Duration, error) {
	defer w.stop()
	for ; ; time.Sleep(watchEvery) {
		now, since := time.Now(), w.armedSince()
		if !since.IsZero() && now.Sub(since) >= steady && now.Sub(mended) >= steady {
			return max(0, since.Sub(mended)), nil
		}
		if now.Sub(mended) > hopeless || ctx.Err() != nil {
			return 0, fmt.Errorf("the pair was not armed within %v of the mending", hopeless)
		}
	}
}

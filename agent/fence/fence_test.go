package fence

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/witnessd/witnessd/agent/hold"
)

const budget = 190 * time.Millisecond

// bench is a fence with a virtual clock and a stop that the test writes.
type bench struct {
	*Engine
	start time.Time
	stops atomic.Int32
	ended atomic.Int32
	last  atomic.Int64
}

func newBench(t *testing.T, stop func(ctx context.Context) error) *bench {
	t.Helper()
	b := &bench{start: time.Now()}
	b.Engine = NewEngine(t.Context(), b.now, budget, func(ctx context.Context) error {
		b.stops.Add(1)
		b.last.Store(int64(b.now()))
		return stop(ctx)
	}, func(string, error) { b.ended.Add(1) })
	return b
}

func (b *bench) now() hold.Instant { return hold.Instant(time.Since(b.start)) + 1 }

func good(context.Context) error { return nil }

func TestEndsAtTheInstant(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, good)
		defer b.Close()
		until := b.now().Add(2700 * time.Millisecond)
		b.Renew(until, false)
		time.Sleep(5 * time.Second)
		if b.stops.Load() != 1 || hold.Instant(b.last.Load()) != until || b.ended.Load() != 1 {
			t.Errorf("stopped %d times, last at %v, told %d times; want once at %v",
				b.stops.Load(), b.last.Load(), b.ended.Load(), until)
		}
	})
}

func TestWithin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, good)
		defer b.Close()
		begun := false
		work := func(ctx context.Context) error {
			begun = true
			<-ctx.Done()
			return context.Cause(ctx)
		}
		if err := b.Within(t.Context(), work); !errors.Is(err, ErrEnded) || begun {
			t.Errorf("before any right: begun %t, %v", begun, err)
		}
		b.Renew(b.now().Add(time.Second), false)
		before := time.Now()
		if err := b.Within(t.Context(), work); !errors.Is(err, ErrEnded) || time.Since(before) != time.Second {
			t.Errorf("ended with %v after %v, want %v after 1s", err, time.Since(before), ErrEnded)
		}
		begun = false
		if err := b.Within(t.Context(), work); !errors.Is(err, ErrEnded) || begun {
			t.Errorf("after the right: begun %t, %v", begun, err)
		}
		b.Renew(0, true)
		go func() {
			time.Sleep(time.Second)
			_ = b.Shut(t.Context(), "test")
		}()
		if err := b.Within(t.Context(), work); !errors.Is(err, ErrEnded) {
			t.Errorf("shut: %v", err)
		}
	})
}

// A right may have ended on the clock a moment before the timer says so, above all after the process was stopped.
func TestWithinLooksAtTheClock(t *testing.T) {
	now := hold.Instant(100)
	f := &Engine{clock: func() hold.Instant { return now }, armed: true, until: 100}
	err := f.Within(t.Context(), func(context.Context) error { t.Error("begun"); return nil })
	if !errors.Is(err, ErrEnded) {
		t.Error(err)
	}
}

func TestShutDoesNotWaitForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		b := newBench(t, func(context.Context) error { <-release; return nil })
		b.Renew(0, true)
		before := time.Now()
		if err := b.Shut(t.Context(), "test"); err == nil || time.Since(before) > 2*budget {
			t.Errorf("shut: %v after %v", err, time.Since(before))
		}
		time.Sleep(time.Minute)
		if n := b.stops.Load(); n > maxStops {
			t.Errorf("%d stops run at a time", n)
		}
		close(release)
		synctest.Wait()
		b.Close()
	})
}

// A database that hangs is not seen by the agent, so nobody else asks again.
func TestFailedStopIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var works atomic.Bool
		b := newBench(t, func(context.Context) error {
			if works.Load() {
				return nil
			}
			return errors.New("disk does not answer")
		})
		defer b.Close()
		b.Renew(b.now().Add(time.Second), false)
		time.Sleep(3 * time.Second)
		failed := b.stops.Load()
		if failed < 2 || b.ended.Load() != 1 {
			t.Errorf("tried %d times, told %d times", failed, b.ended.Load())
		}
		works.Store(true)
		time.Sleep(3 * time.Second)
		if n := b.stops.Load() - failed; n != 1 {
			t.Errorf("stopped %d times once it worked, want 1", n)
		}
	})
}

func TestRenewalEndsTheTries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, func(context.Context) error { return errors.New("disk does not answer") })
		defer b.Close()
		_ = b.Shut(t.Context(), "test")
		b.Renew(0, true)
		time.Sleep(time.Second)
		if n := b.stops.Load(); n != 1 {
			t.Errorf("stopped %d times with a right, want 1", n)
		}
	})
}

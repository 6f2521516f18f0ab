package fence

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/witnessd/witnessd/agent/hold"
)

// run is the fence's goroutine: the only one that talks to the kernel.
func (k *Kernel) run() {
	timer := time.NewTimer(longestSleep)
	defer timer.Stop()
	for {
		k.begin()
		err := k.turn()
		k.finish(err)
		timer.Reset(k.sleep(err))
		select {
		case <-timer.C:
		case <-k.wake:
			if err != nil {
				// A caller that waits wakes this goroutine in a circle.
				time.Sleep(retryAfter)
			}
		case <-k.rules.changes():
			k.suspect = true
		case <-k.done:
			return
		}
	}
}

// turn makes true what is wanted now: what must be closed first.
func (k *Kernel) turn() error {
	err := k.shutDue()
	now := k.o.Clock()
	if err == nil && (k.suspect || now.Sub(k.checked) >= checkEvery) {
		err = k.rules.intact()
		k.checked, k.suspect = now, err != nil
	}
	if err != nil || k.misshapen() {
		lost := err
		if err = k.arrange(); err == nil {
			err = k.shutDue()
		}
		k.tellLost(lost, err)
	}
	if err == nil {
		err = k.openDue()
	}
	if err != nil {
		k.suspect = true
	}
	return err
}

// sleep is until a right ends, so that it is closed then and not only by the kernel, but never long: Go's
// timers do not count suspend, and the clock does.
func (k *Kernel) sleep(err error) time.Duration {
	if err != nil {
		return retryAfter
	}
	d := longestSleep
	now := k.o.Clock()
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, w := range k.wishes {
		if w.owed && !w.right.Endless {
			d = min(d, max(w.right.Until.Sub(now), 0))
		}
	}
	return d
}

// begin notes since when the kernel may keep this goroutine waiting.
func (k *Kernel) begin() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.busy = k.o.Clock()
}

// finish notes how a turn went, and tells of a failure that lasts.
func (k *Kernel) finish(err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch now := k.o.Clock(); {
	case err == nil:
		if k.told {
			k.o.Logger.InfoContext(k.ctx, "fence of the kernel does as told again")
		}
		k.told = false
	case k.err == nil:
		k.failing = now
	case !k.told && now.Sub(k.failing) >= hold.FenceTime:
		k.told = true
		k.o.Logger.ErrorContext(k.ctx, "fence of the kernel does not do as told; trying on", "error", err)
	}
	k.err, k.busy = err, 0
	close(k.turned)
	k.turned = make(chan struct{})
}

func (k *Kernel) misshapen() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.arranged != k.shape
}

// tellLost reports that the rules were not as they should be, if they were not.
func (k *Kernel) tellLost(lost, err error) {
	if !errors.Is(lost, errLost) {
		return
	}
	k.mu.Lock()
	k.stats.Rebuilt++
	k.mu.Unlock()
	k.o.Logger.WarnContext(k.ctx, "the kernel fence's rules were gone or changed; put back", "table", k.o.Table,
		"cause", lost, "error", err)
	if k.o.OnLost != nil {
		k.o.OnLost(errors.Join(lost, err))
	}
}

// shutDue closes what no right stands behind any more. Services that were not arranged yet come last and by themselves:
// they may have no sets, and then their transaction fails.
func (k *Kernel) shutDue() error {
	if err := k.shutSome(false); err != nil {
		return err
	}
	if err := k.shutSome(true); !errors.Is(err, errLost) {
		return err
	}
	return nil // they are arranged next, and closed then
}

func (k *Kernel) shutSome(fresh bool) error {
	now := k.o.Clock()
	numbers := map[*wish]uint64{}
	var due []Service
	k.mu.Lock()
	for _, w := range k.wishes {
		if w.fresh == fresh && w.owed && !w.live(now) {
			due = append(due, w.service)
			numbers[w] = w.number
		}
	}
	k.mu.Unlock()
	if len(due) == 0 {
		return nil
	}
	if err := k.rules.shut(due); err != nil {
		return fmt.Errorf("close %s: %w", names(due), err)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for w, n := range numbers {
		if w.number == n {
			w.done, w.owed, w.endless = n, false, false
		} else {
			// It was opened since, and closed before that: whoever waits for the closing has it.
			w.done = max(w.done, n)
		}
	}
	return nil
}

// arrange makes the kernel's rules those of the services.
func (k *Kernel) arrange() error {
	var shape uint64
	numbers := map[*wish]uint64{}
	err := k.rules.arrange(func() plan {
		now := k.o.Clock()
		k.o.at("clock read")
		k.mu.Lock()
		defer k.mu.Unlock()
		shape = k.shape
		p := plan{letGo: slices.Collect(maps.Keys(k.going))}
		for _, w := range k.wishes {
			p.states = append(p.states, w.state(now))
			numbers[w] = w.number
		}
		return p
	})
	if err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.arranged = shape
	maps.DeleteFunc(k.going, func(_ string, since uint64) bool { return since <= shape })
	for w, n := range numbers {
		if w.fresh && w.number == n {
			w.endless = w.right.Endless
		}
		w.fresh = false
	}
	return nil
}

// openDue tells the kernel of renewals.
func (k *Kernel) openDue() error {
	if !k.anyDue() {
		return nil
	}
	var read hold.Instant
	numbers := map[*wish]uint64{}
	err := k.rules.renew(func() []state {
		read = k.o.Clock()
		k.o.at("clock read")
		k.mu.Lock()
		defer k.mu.Unlock()
		var list []state
		for _, w := range k.wishes {
			// The wish of now, not that of before the token: a Shut may have come between.
			if w.done != w.number && w.live(read) {
				list = append(list, w.state(read))
				numbers[w] = w.number
			}
		}
		return list
	})
	delay := k.o.Clock().Sub(read)
	k.mu.Lock()
	defer k.mu.Unlock()
	if err != nil {
		k.stats.Late++
		return fmt.Errorf("renew: %w", err)
	}
	k.stats.LastDelay, k.stats.LongestDelay = delay, max(k.stats.LongestDelay, delay)
	if delay > tokenLife {
		// The token kept the opening in time by the kernel's clock. Yet the host may have slept in between, so
		// look again: by now the right may be over.
		k.stats.Late++
		return nil
	}
	for w, n := range numbers {
		w.done = max(w.done, n)
		if w.number == n {
			w.endless = w.right.Endless
		}
	}
	return nil
}

func (k *Kernel) anyDue() bool {
	now := k.o.Clock()
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, w := range k.wishes {
		if w.done != w.number && w.live(now) {
			return true
		}
	}
	return false
}

func names(list []Service) string {
	var out []byte
	for i, s := range list {
		if i > 0 {
			out = append(out, ", "...)
		}
		out = append(out, s.Name...)
	}
	return string(out)
}

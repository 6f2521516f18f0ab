package main

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/witnessd/witnessd/test/protocol"
)

// tally is what all schedules so far came to.
type tally struct {
	done    int
	virtual time.Duration
	pairs   int
	faults  int
	commits int
	failed  *protocol.Outcome // the one with the lowest seed
}

func (t *tally) add(o protocol.Outcome) {
	t.done++
	t.virtual += o.Virtual
	t.pairs += o.Pairs
	t.faults += o.Faults
	t.commits += o.Commits
	if len(o.Violations) > 0 && (t.failed == nil || o.Seed < t.failed.Seed) {
		t.failed = &o
	}
}

// search plays one schedule after the other until one fails.
func search(o options) int {
	began := time.Now()
	outcomes := play(o)
	progress := time.NewTicker(o.every)
	defer progress.Stop()
	var t tally
	for {
		select {
		case outcome, more := <-outcomes:
			if more {
				t.add(outcome)
				continue
			}
		case <-progress.C:
			fmt.Println(t.line(o.seeds, time.Since(began)))
			continue
		}
		break
	}
	fmt.Println(t.line(o.seeds, time.Since(began)))
	if t.failed != nil {
		complain(*t.failed)
		return 1
	}
	fmt.Printf("every promise was kept: %d schedules, seeds %d to %d, of %.1f pairs, %.0f faults and %.0f s each\n",
		t.done, o.first, o.first+o.seeds-1, t.mean(t.pairs), t.mean(t.faults), t.virtual.Seconds()/float64(t.done))
	return 0
}

// play runs the schedules on all workers; after the first that fails no other is begun.
func play(o options) <-chan protocol.Outcome {
	outcomes := make(chan protocol.Outcome, o.workers)
	var taken atomic.Uint64
	var stop atomic.Bool
	var workers sync.WaitGroup
	for range o.workers {
		workers.Go(func() {
			for !stop.Load() {
				n := taken.Add(1) - 1
				if n >= o.seeds {
					return
				}
				outcome := protocol.Run(o.first+n, false)
				if len(outcome.Violations) > 0 {
					stop.Store(true)
				}
				outcomes <- outcome
			}
		})
	}
	go func() {
		workers.Wait()
		close(outcomes)
	}()
	return outcomes
}

func (t *tally) mean(n int) float64 { return float64(n) / float64(max(1, t.done)) }

func (t *tally) line(of uint64, spent time.Duration) string {
	return fmt.Sprintf("%6d of %d schedules, %4.0f/s; %6.1f h of virtual time, %d faults, %d commits acknowledged",
		t.done, of, float64(t.done)/spent.Seconds(), t.virtual.Hours(), t.faults, t.commits)
}

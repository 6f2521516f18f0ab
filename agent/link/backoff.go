package link

import (
	"context"
	"math/rand/v2"
	"time"
)

// How long to wait before the next try of a connection.
const (
	minDelay = 50 * time.Millisecond
	maxDelay = 2 * time.Second
	// refusedDelay is for a side that refused: only a person or a restart can change its mind.
	refusedDelay = 2 * time.Second
	// settleTime is how long a connection must have been up for its end to count as a first failure.
	// Shorter-lived ones add up, so that a side that takes every connection and drops it is not hammered.
	settleTime = 2 * time.Second
)

// pace spreads tries out: twice as long after each failure, and by chance, so that the agents of a hundred
// hosts do not come back at the same instant.
type pace struct{ failures int }

// delay is how long to wait after a failure.
func (p *pace) delay(settled, refused bool) time.Duration {
	if settled {
		p.failures = 0
	}
	p.failures++
	if refused {
		return refusedDelay + rand.N(refusedDelay/4)
	}
	longest := maxDelay
	if doublings := p.failures; doublings < 10 {
		longest = min(maxDelay, minDelay<<doublings)
	}
	return longest/2 + rand.N(longest/2)
}

// pause waits for d; false: ctx ended first.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// ready says whether a timer's channel has fired; a nil one never has.
func ready(timer <-chan time.Time) bool {
	select {
	case <-timer:
		return true
	default:
		return false
	}
}

package demo

import (
	"context"
	"time"
)

// The clock of this package divides the time that a caller gave. What may be done until when is decided
// by the agent, whose clock counts suspend; its deadline ends every wait here.

// remaining is the time until the deadline of ctx; the standard if it has none.
func remaining(ctx context.Context, standard time.Duration) time.Duration {
	deadline, ok := ctx.Deadline()
	if !ok {
		return standard
	}
	return time.Until(deadline)
}

// stopwatch returns how long ago it was made, for the log.
func stopwatch() func() time.Duration {
	begun := time.Now()
	return func() time.Duration { return time.Since(begun) }
}

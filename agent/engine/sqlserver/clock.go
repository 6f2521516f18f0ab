package sqlserver

import (
	"context"
	"time"
)

// The clock of this package bounds waits and measures rates between two looks. What may be done until when is
// decided by the agent, whose clock counts suspend.

// clock is the time by which looks are told apart.
func clock() time.Time { return time.Now() }

// remaining is the time until the deadline of ctx, at most the standard.
func remaining(ctx context.Context, standard time.Duration) time.Duration {
	deadline, ok := ctx.Deadline()
	if !ok {
		return standard
	}
	return min(time.Until(deadline), standard)
}

// past is a deadline that has gone by: what waits on a connection ends at once.
func past() time.Time { return time.Unix(1, 0) }

// soon is a deadline a moment from now.
func soon(d time.Duration) time.Time { return time.Now().Add(d) }

// stopwatch returns how long ago it was made.
func stopwatch() func() time.Duration {
	begun := time.Now()
	return func() time.Duration { return time.Since(begun) }
}

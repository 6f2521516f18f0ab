package availability

import (
	"context"
	"time"
)

// The clock of this package spaces looks and bounds waits. What may be done until when is decided by the agent, whose
// clock counts suspend.

// now is an instant of that clock.
func now() time.Time { return time.Now() }

// remaining is the time until the deadline of ctx, at most the standard.
func remaining(ctx context.Context, standard time.Duration) time.Duration {
	deadline, ok := ctx.Deadline()
	if !ok {
		return standard
	}
	return min(time.Until(deadline), standard)
}

// pause waits, or ends with the cause of ctx.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

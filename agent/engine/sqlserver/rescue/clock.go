package rescue

import (
	"context"
	"time"
)

// The clock of this package counts how long witnesses have been gone. No right to serve rests on it.

func clock() time.Time { return time.Now() }

// stopwatch returns how long ago it was made.
func stopwatch() func() time.Duration {
	begun := time.Now()
	return func() time.Duration { return time.Since(begun) }
}

// pause waits, or ends with ctx and says so.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

package kv

import (
	"context"
	"time"
)

// The clock of this package bounds waits, names files and measures rates. Nothing depends on it that may
// not be lost: while the machine sleeps it stands still, and then a wait is merely longer.

// after is the deadline for something that may take so long.
func after(d time.Duration) time.Time { return time.Now().Add(d) }

// now is for people and for rates.
func now() time.Time { return time.Now() }

// waitOf tells a server how long the caller waits; "" if for ever.
func waitOf(ctx context.Context) string {
	deadline, ok := ctx.Deadline()
	if !ok {
		return ""
	}
	return max(time.Until(deadline), time.Millisecond).String()
}

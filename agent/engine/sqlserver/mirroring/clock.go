package mirroring

import (
	"context"
	"time"
)

// The clock of this package spaces looks, bounds waits, and tells how old the last look was when a process ended. What
// may be done until when is decided by the agent, whose clock counts suspend. A host that sleeps between the last look
// and the end of a process makes the look seem younger than it is; its sessions cannot have changed meanwhile.

// now is an instant of that clock.
func now() time.Time { return time.Now() }

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

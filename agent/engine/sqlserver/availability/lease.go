package availability

import (
	"context"
	"time"

	"github.com/witnessd/witnessd/agent/engine/sqlserver"
)

// leaseMargin is at least kept of a right for the way to SQL Server: the lease is counted from when it arrives there.
const leaseMargin = 250 * time.Millisecond

// Extend lets clients write for what is left of the agent's right, and never for longer: SQL Server counts in whole
// seconds, so less than a second more than the margin extends nothing. If the agent dies, SQL Server ends the writes
// by itself.
func (e *Engine) Extend(ctx context.Context, left time.Duration) error {
	seconds := validity(left, e.cfg.WriteLease)
	if seconds <= 0 {
		return nil
	}
	// An answer that comes later would mean a lease that ends later than the right.
	ctx, cancel := context.WithTimeout(ctx, left-seconds)
	defer cancel()
	e.mu.Lock()
	if !e.allowed || e.closed {
		e.mu.Unlock()
		return nil
	}
	opened := e.opened
	e.extend = cancel
	e.mu.Unlock()
	err := e.leases.Exec(ctx, sqlserver.GroupLease(e.cfg.Group, seconds))
	e.mu.Lock()
	e.extend = nil
	allowed := e.allowed
	e.mu.Unlock()
	switch {
	case sqlserver.ClassOf(err) == sqlserver.ClassDone, !allowed:
		return nil // it lasts longer already; or nobody is let in any more
	case !opened && err != nil && mayPass(err):
		return nil // a promotion is under way; it is extended again
	}
	return err
}

// validity is the lease that is asked for when a right lasts for left: whole seconds, less than left by the margin,
// and never more than the group was created with.
func validity(left, most time.Duration) time.Duration {
	return min(left-leaseMargin, most).Truncate(time.Second)
}

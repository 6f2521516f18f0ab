package mirroring

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/witnessd/witnessd/agent/engine"
	"github.com/witnessd/witnessd/agent/engine/sqlserver"
)

// holdPatience is how long HoldCommits waits for databases that are about to be synchronized.
const holdPatience = 5 * time.Second

// HoldCommits makes commits wait for the mirror's disk, and returns nil only when SQL Server says that they do: every
// database SYNCHRONIZED with SAFETY FULL. It refuses where a right that ends would not end in time.
func (e *Engine) HoldCommits(ctx context.Context, peer engine.Peer) error {
	return e.perform(ctx, "hold commits", func(ctx context.Context) error {
		e.noteLease(peer)
		l, err := e.look(ctx)
		if err != nil {
			return err
		}
		if err := e.same(l, peer); err != nil {
			return err
		}
		if err := holdable(l, e.lease()); err != nil {
			return err
		}
		for _, d := range l.unit {
			if d.Safety == sqlserver.SafetyIsFull {
				continue
			}
			if err := e.achieve(ctx, e.client, makeSafe(d.Database)); err != nil {
				return fmt.Errorf("set SAFETY FULL for %s: %w", d.Database, err)
			}
			e.log.InfoContext(ctx, "commits wait for the mirror from now on", "database", d.Database)
		}
		l, held, err := e.until(ctx, holdPatience, func(l look) bool { return l.all(holds) })
		if err != nil {
			return err
		}
		if !held {
			return fmt.Errorf("not synchronized yet: %s", names(l.these(func(d database) bool { return !holds(d) })))
		}
		if err := e.memory.save(); err != nil {
			return err
		}
		e.mu.Lock()
		defer e.mu.Unlock()
		e.held = l.run
		return nil
	})
}

// holds says that no commit of this database is told to a client before the mirror has it on disk.
func holds(d database) bool { return d.principal() && d.safe() && !witnessed(d) }

// holdable says what would make the promise worthless.
func holdable(l look, lease time.Duration) error {
	if len(l.unit) == 0 {
		return errors.New("no database of this instance is mirrored")
	}
	for _, d := range l.unit {
		switch {
		case !d.mirrored:
			return fmt.Errorf("%s is not mirrored: set up mirroring, or take it out of the agent's configuration", d.Database)
		case !d.principal():
			return fmt.Errorf("%s is not principal here", d.Database)
		case witnessed(d):
			return fmt.Errorf("%s has a witness of SQL Server's, %s, and would fail over by itself: run ALTER DATABASE [%s] "+
				"SET WITNESS OFF, or use the engine sqlserver-rescue, which leaves the decision to that witness",
				d.Database, d.Witness, d.Database)
		case lease+fenceTime >= d.Timeout:
			return fmt.Errorf("%s stops waiting for its mirror after %v (PARTNER TIMEOUT), and a primary that is cut off is "+
				"fenced only after %v (lease %v, fence %v): run ALTER DATABASE [%s] SET PARTNER TIMEOUT %d, or choose a "+
				"shorter lease", d.Database, d.Timeout, lease+fenceTime, lease, fenceTime, d.Database, longEnough(lease))
		}
	}
	return nil
}

// longEnough is a PARTNER TIMEOUT for a lease, in seconds: never less than SQL Server's own choice.
func longEnough(lease time.Duration) int {
	const least = 10
	return max(least, int((2*(lease+fenceTime)+time.Second-1)/time.Second))
}

// ReleaseCommits lets the primary acknowledge commits alone. A principal does so by itself as soon as its mirror is
// gone, so there is nothing to tell SQL Server; with the mirror there, commits go on to wait for it.
func (e *Engine) ReleaseCommits(ctx context.Context) error {
	return e.perform(ctx, "release commits", func(context.Context) error {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.held = ""
		return nil
	})
}

// LetGo forgets what the engine remembers. It changes nothing of SQL Server's: a principal goes on to serve, and
// comes up as principal whoever starts it.
func (e *Engine) LetGo(ctx context.Context) error {
	return e.perform(ctx, "let go", func(ctx context.Context) error {
		if err := e.openLink(ctx); err != nil {
			return err
		}
		e.mu.Lock()
		e.held, e.handed = "", ""
		e.mu.Unlock()
		return e.memory.forget()
	})
}

package availability

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/witnessd/witnessd/agent/engine"
	"github.com/witnessd/witnessd/agent/engine/sqlserver"
)

// HoldCommits makes SQL Server acknowledge no commit that the other replica has not on its disk, and returns nil only
// when that is read back, with the other replica having everything. It does not begin while commits would have to wait
// for a replica that still catches up.
func (e *Engine) HoldCommits(ctx context.Context, peer engine.Peer) error {
	return e.perform(ctx, "hold commits", func(ctx context.Context) error {
		l, err := e.look(ctx)
		if err != nil {
			return err
		}
		if err := e.same(l, peer); err != nil {
			return err
		}
		if err := e.usable(l.view); err != nil {
			return err
		}
		if !l.primary() {
			return fmt.Errorf("this replica is %s, not the primary", l.group.Role)
		}
		if l.group.Required < 1 {
			if why := behind(l); why != "" {
				return fmt.Errorf("the mirror does not have everything yet: %s", why)
			}
		}
		if err := e.memory.change(func(m *stored) { m.Alone = "" }); err != nil {
			return err
		}
		if l, err = e.achieve(ctx, e.require(1)); err != nil {
			return err
		}
		if why := behind(l); why != "" {
			// Whether it goes on to be held is the agent's decision: it asks the record, and then releases commits.
			return fmt.Errorf("commits are held, and the mirror does not have everything: %s", why)
		}
		return nil
	})
}

// behind says why the other replica may lack something; "" if it has everything.
func behind(l look) string {
	other, ok := l.other()
	switch {
	case l.synchronized():
		return ""
	case !ok:
		return "there is not exactly one other data replica"
	case other.Connected == disconnected:
		return other.Server + " is not connected"
	case !l.paired():
		return "not every database has joined on " + other.Server
	default:
		return without(l.remote(), complete)
	}
}

// ReleaseCommits lets the primary acknowledge commits alone, those that wait included. The agent asks for it only
// after the record says that nobody else can take over.
func (e *Engine) ReleaseCommits(ctx context.Context) error {
	return e.perform(ctx, "release commits", e.release)
}

func (e *Engine) release(ctx context.Context) error {
	l, err := e.achieve(ctx, e.require(0))
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%w. SQL Server changes a group's configuration only while more than half of its replicas "+
			"answer: with two of them that is both; a configuration-only replica on a third host makes it two of three", err)
	}
	if err != nil {
		return err
	}
	e.log.InfoContext(ctx, "commits are acknowledged without the mirror", "group", e.cfg.Group)
	return e.memory.change(func(m *stored) { m.Alone = l.run })
}

// partingLease is what clients of a group with a write lease get when the agent stops looking after it.
const partingLease = 7 * 24 * time.Hour

// LetGo lets commits go on alone and forgets what the engine remembers. The group serves until its instance ends; SQL
// Server then brings it up as RESOLVING, as it does with every group of CLUSTER_TYPE = EXTERNAL, until somebody fails
// it over.
func (e *Engine) LetGo(ctx context.Context) error {
	return e.perform(ctx, "let go", func(ctx context.Context) error {
		l, err := e.look(ctx)
		if err != nil {
			return err
		}
		if l.primary() {
			if err := e.release(ctx); err != nil {
				return err
			}
			if e.cfg.WriteLease > 0 {
				if err := e.send(ctx, sqlserver.GroupLease(e.cfg.Group, partingLease)); err != nil {
					return fmt.Errorf("extend the write lease a last time: %w", err)
				}
				e.log.WarnContext(ctx, "the write lease runs out if no other cluster manager extends it", "left", partingLease)
			}
			e.log.WarnContext(ctx, "after its next restart the group waits until somebody fails it over: SQL Server itself "+
				"does not for CLUSTER_TYPE = EXTERNAL", "group", e.cfg.Group)
		}
		return e.memory.forget()
	})
}

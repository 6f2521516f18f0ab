package availability

import (
	"context"
	"errors"
	"fmt"

	"github.com/witnessd/witnessd/agent/engine"
	"github.com/witnessd/witnessd/agent/engine/sqlserver"
)

// Errors by which a caller can tell why a promotion was refused.
var (
	// ErrLacks says that SQL Server knows of commits that this replica may lack. It wraps [engine.ErrNoData]: no
	// repetition helps as long as the other replica stays away.
	ErrLacks = fmt.Errorf("SQL Server refuses to fail over without loss: %w", engine.ErrNoData)
	// ErrHuman says that only a person can decide: what would have to be done may discard commits.
	ErrHuman = errors.New("a person has to decide")
)

// errorLacks is the refusal of a failover that might lose commits.
const errorLacks = 41142

// Promote makes this replica the primary by FAILOVER, which SQL Server refuses unless every database has everything.
// It never forces. It returns when the databases serve, with commits held for the other replica.
func (e *Engine) Promote(ctx context.Context, peer engine.Peer) error {
	return e.perform(ctx, "promote", func(ctx context.Context) error {
		e.allow()
		l, err := e.running(ctx)
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
			// What was allowed in an earlier term of this primary is not allowed in this one.
			if err := e.memory.change(func(m *stored) { m.Alone = "" }); err != nil {
				return err
			}
			e.setTaking(true)
			if l, err = e.achieve(ctx, e.takeOver()); err != nil {
				e.setTaking(sqlserver.NumberOf(err) != errorLacks)
				return e.refused(err)
			}
			e.setTaking(false)
			e.log.WarnContext(ctx, "failed over to this replica", "group", e.cfg.Group)
		}
		// An agent that starts anew beside a primary which was allowed to go on alone does not hold its clients up again.
		if e.memory.read().Alone != l.run {
			if _, err := e.achieve(ctx, e.require(1)); err != nil {
				return err
			}
		}
		if err := e.online(ctx); err != nil {
			return err
		}
		return e.serves(ctx)
	})
}

// allow lets the write lease be extended again: the agent asks for a promotion only with a right.
func (e *Engine) allow() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.allowed = true
}

// setTaking notes that a failover may still come to its end here, whatever is seen now: SQL Server answers before the
// role has changed, and a statement whose answer was not waited for may be carried out.
func (e *Engine) setTaking(may bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.taking = may
}

// mayTake says that this replica may become primary by a failover that was asked for and not refused.
func (e *Engine) mayTake() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.taking
}

// refused says what SQL Server's last word means for whoever reads it.
func (e *Engine) refused(err error) error {
	if sqlserver.NumberOf(err) != errorLacks {
		return err
	}
	return fmt.Errorf("%w: %w. This agent never forces: bring the other replica back. To accept the loss, run on this "+
		"host, in one batch: EXEC sp_set_session_context @key = N'external_cluster', @value = N'yes'; ALTER AVAILABILITY "+
		"GROUP [%s] FORCE_FAILOVER_ALLOW_DATA_LOSS; the agent goes on from there", ErrLacks, err, e.cfg.Group)
}

// online waits until every database can be opened: a new primary redoes its queue first.
func (e *Engine) online(ctx context.Context) error {
	l, ok, err := e.until(ctx, e.cfg.Target.Recovery, func(l look) bool {
		return !l.primary() || all(l.local(), isOnline)
	})
	switch {
	case err != nil:
		return err
	case !l.primary():
		return fmt.Errorf("the replica has become %s again while its databases opened: look at SQL Server's error log",
			l.group.Role)
	case !ok:
		return fmt.Errorf("not online after %v: %s; look at SQL Server's error log", e.cfg.Target.Recovery, notOnline(l))
	}
	return nil
}

func isOnline(d sqlserver.GroupDatabaseRow) bool { return d.DatabaseState == sqlserver.DatabaseOnline }

func notOnline(l look) string {
	text := ""
	for _, d := range l.local() {
		if !isOnline(d) {
			text = joined(text, d.Database+" "+d.DatabaseState)
		}
	}
	if text == "" {
		return "no database of the group is there"
	}
	return text
}

// serves reads back, last, that this replica is primary and commits are as they should be.
func (e *Engine) serves(ctx context.Context) error {
	l, err := e.look(ctx)
	switch {
	case err != nil:
		return err
	case !l.primary():
		return fmt.Errorf("the replica is %s again: look at SQL Server's error log", l.group.Role)
	case l.group.Required < 1 && e.memory.read().Alone != l.run:
		return errors.New("REQUIRED_SYNCHRONIZED_SECONDARIES_TO_COMMIT was set to 1 and is 0 again: something else changes " +
			"this group; see that no other cluster manager looks after it")
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.opened = true
	return nil
}

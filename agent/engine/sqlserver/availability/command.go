package availability

import (
	"context"
	"fmt"
	"time"

	"github.com/witnessd/witnessd/agent/engine/sqlserver"
)

const (
	// commandTries is how often a statement is sent whose failure may pass.
	commandTries = 3
	// commandPatience bounds one statement. A change of the group's configuration waits for a majority of its
	// replicas, without end if there is none.
	commandPatience = 20 * time.Second
	// settleTime is how long what was acknowledged may show no effect: such a command can still fail, silently.
	settleTime = 2 * time.Second
	// unansweredTime is how long it is looked for the effect of a command that failed or had no answer.
	unansweredTime = 300 * time.Millisecond
	// commandPause is between two tries.
	commandPause = 200 * time.Millisecond
)

// aim is one change of the group.
type aim struct {
	what      string
	statement sqlserver.Statement
	reached   func(look) bool
	// underway says that the change goes on: it is waited for as long as a failover may take. nil: it takes no time.
	underway func(look) bool
}

// achieve sends a statement until the state that it is for is read back. What was done already, by a former start of
// the agent or by a person, is not done again.
func (e *Engine) achieve(ctx context.Context, a aim) (look, error) {
	var last error
	for try := range commandTries {
		if try > 0 {
			if err := pause(ctx, commandPause); err != nil {
				return look{}, err
			}
		}
		l, err := e.look(ctx)
		switch {
		case err == nil && a.reached(l):
			return l, nil
		case err == nil && (a.underway == nil || !a.underway(l)):
			err = e.send(ctx, a.statement)
		}
		if ctx.Err() != nil {
			return l, context.Cause(ctx)
		}
		if err != nil && !mayPass(err) {
			return l, fmt.Errorf("%s: %w", a.what, err)
		}
		last = err
		patience := e.settle
		if err != nil {
			patience = min(patience, unansweredTime)
		}
		l, reached, err := e.settled(ctx, a, patience)
		if err != nil || reached {
			return l, err
		}
		if last == nil {
			last = fmt.Errorf("SQL Server said yes to %q, and the group is still %s, %s", a.statement.Text(), l.group.Role,
				l.group.OperationalState)
		}
	}
	return look{}, fmt.Errorf("%s: %w (tried %d times)", a.what, last, commandTries)
}

// send sends one statement, for a bounded time.
func (e *Engine) send(ctx context.Context, s sqlserver.Statement) error {
	ctx, cancel := context.WithTimeout(ctx, commandPatience)
	defer cancel()
	err := e.client.Exec(ctx, s)
	if err != nil {
		e.log.DebugContext(ctx, "statement refused", "statement", s.Text(), "error", err)
	}
	return err
}

// mayPass says that the same statement may succeed in a moment, or has done so unseen.
func mayPass(err error) bool {
	switch sqlserver.ClassOf(err) {
	case sqlserver.ClassRetry, sqlserver.ClassWrongHost, sqlserver.ClassUnreachable, sqlserver.ClassDone:
		return true
	default:
		return false
	}
}

// settled waits until a change is seen, or is not to be expected any more.
func (e *Engine) settled(ctx context.Context, a aim, patience time.Duration) (look, bool, error) {
	begun, still := now(), now()
	var l look
	for {
		seen, err := e.look(ctx)
		if ctx.Err() != nil {
			return l, false, context.Cause(ctx)
		}
		if err == nil {
			l = seen
			switch {
			case a.reached(l):
				return l, true, nil
			case a.underway != nil && a.underway(l):
				still = now()
			}
		}
		if now().Sub(still) > patience || now().Sub(begun) > e.cfg.Target.Recovery {
			return l, false, nil
		}
		if err := pause(ctx, lookPause); err != nil {
			return l, false, err
		}
	}
}

// pendingFailover is the operational_state_desc of a replica that becomes primary.
const pendingFailover = "PENDING_FAILOVER"

// pending says that the replica is changing its role.
func pending(l look) bool {
	return l.group.OperationalState == pendingFailover || l.group.OperationalState == "PENDING"
}

// takeOver makes this replica the primary, if SQL Server knows that it lacks nothing.
func (e *Engine) takeOver() aim {
	return aim{
		what: "fail over to this replica", statement: sqlserver.GroupFailover(e.cfg.Group),
		reached: func(l look) bool { return l.primary() }, underway: pending,
	}
}

// goOffline ends the primary's role: RESOLVING, which serves nobody.
func (e *Engine) goOffline() aim {
	return aim{
		what: "take the availability group offline", statement: sqlserver.GroupOffline(e.cfg.Group),
		reached: func(l look) bool { return l.known && !l.primary() },
	}
}

// join makes a RESOLVING replica follow.
func (e *Engine) join() aim {
	return aim{
		what: "make this replica a secondary", statement: sqlserver.GroupSecondary(e.cfg.Group),
		reached: func(l look) bool { return l.secondary() }, underway: pending,
	}
}

// require sets how many synchronized secondaries a commit needs. As long as SQL Server shows a change of the
// configuration that has not ended, it is not known to be in force.
func (e *Engine) require(secondaries int32) aim {
	return aim{
		what:      fmt.Sprintf("set REQUIRED_SYNCHRONIZED_SECONDARIES_TO_COMMIT to %d", secondaries),
		statement: sqlserver.GroupRequire(e.cfg.Group, int(secondaries)),
		reached:   func(l look) bool { return l.primary() && l.group.Required == secondaries && l.settled() },
	}
}

package mirroring

import (
	"context"
	"fmt"
	"time"

	"github.com/witnessd/witnessd/agent/engine/sqlserver"
)

const (
	// commandTries is how often a statement is sent whose failure may pass.
	commandTries = 3
	// settleTime is how long what was acknowledged may show no effect: such a command can still fail, silently.
	settleTime = 2 * time.Second
	// commandPause is between two tries.
	commandPause = 200 * time.Millisecond
)

// aim is one change of one database.
type aim struct {
	database  string
	statement sqlserver.Statement
	reached   func(database) bool
	// underway says that the change goes on: it is waited for as long as a failover may take.
	underway func(database) bool
}

// achieve sends a statement until the state that it is for is read back. What was done already, by a former start of
// the agent or by a person, is not done again.
func (e *Engine) achieve(ctx context.Context, client *sqlserver.Client, a aim) error {
	var last error
	for try := range commandTries {
		if try > 0 {
			if err := pause(ctx, commandPause); err != nil {
				return err
			}
		}
		d, err := e.readBack(ctx, client, a.database)
		if err == nil && a.reached(d) {
			return nil
		}
		last = err
		sent := err == nil && !a.underway(d)
		if sent {
			last = client.Exec(ctx, a.statement)
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if last != nil && !mayPass(last) {
			return last
		}
		d, reached, err := e.settled(ctx, client, a)
		if err != nil || reached {
			return err
		}
		if last == nil && sent {
			last = fmt.Errorf("%s was acknowledged, and %s is still %s, %s", a.statement.Text(), a.database, d.Role, d.State)
		}
		if last == nil {
			last = fmt.Errorf("%s is %s, %s", a.database, d.Role, d.State)
		}
	}
	return fmt.Errorf("%w (tried %d times)", last, commandTries)
}

// mayPass says that the same statement may succeed in a moment, or has done so unseen.
func mayPass(err error) bool {
	switch sqlserver.ClassOf(err) {
	case sqlserver.ClassRetry, sqlserver.ClassPrecondition, sqlserver.ClassUnreachable, sqlserver.ClassDone:
		return true
	default:
		return false
	}
}

// settled waits until a change is seen, or is not to be expected any more.
func (e *Engine) settled(ctx context.Context, client *sqlserver.Client, a aim) (database, bool, error) {
	begun, still := now(), now()
	var d database
	for {
		seen, err := e.readBack(ctx, client, a.database)
		if ctx.Err() != nil {
			return d, false, context.Cause(ctx)
		}
		if err == nil {
			d = seen
			switch {
			case a.reached(d):
				return d, true, nil
			case a.underway(d):
				still = now()
			}
		}
		if now().Sub(still) > e.settle || now().Sub(begun) > e.cfg.Target.Recovery {
			return d, false, nil
		}
		if err := pause(ctx, lookPause); err != nil {
			return d, false, err
		}
	}
}

// readBack reads one database anew. On this host it is a look like any other, so that what must be remembered is.
func (e *Engine) readBack(ctx context.Context, client *sqlserver.Client, name string) (database, error) {
	if client == e.client {
		l, err := e.look(ctx)
		if err != nil {
			return database{}, err
		}
		d, ok := l.one(name)
		if !ok {
			return database{}, fmt.Errorf("%s is not mirrored any more", name)
		}
		return d, nil
	}
	unit, err := e.partner(ctx, client)
	if err != nil {
		return database{}, err
	}
	d, ok := look{unit: unit}.one(name)
	if !ok {
		return database{}, fmt.Errorf("%s is not mirrored on %s", name, client.Address())
	}
	return d, nil
}

// exchange is the change that makes a principal a mirror, with nothing lost; it is sent to the principal.
func exchange(name string) aim {
	return aim{
		database: name, statement: sqlserver.PartnerFailover(name), reached: database.mirror,
		underway: func(d database) bool {
			return d.principal() && (d.State == sqlserver.StatePendingFailover || d.State == sqlserver.StateSynchronizing)
		},
	}
}

// force makes a mirror the principal although the principal is gone.
func force(name string) aim {
	return aim{
		database: name, statement: sqlserver.ForceService(name), reached: database.principal,
		underway: func(database) bool { return false },
	}
}

// resume lets a suspended session go on; it is sent to the principal.
func resume(name string) aim {
	return aim{
		database: name, statement: sqlserver.PartnerResume(name), reached: func(d database) bool { return d.Connected() },
		underway: func(database) bool { return false },
	}
}

// makeSafe makes commits wait for the mirror's disk.
func makeSafe(name string) aim {
	return aim{
		database: name, statement: sqlserver.SafetyFull(name),
		reached:  func(d database) bool { return d.principal() && d.Safety == sqlserver.SafetyIsFull },
		underway: func(database) bool { return false },
	}
}

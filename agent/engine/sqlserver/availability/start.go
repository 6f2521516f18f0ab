package availability

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/witnessd/witnessd/agent/engine/sqlserver"
)

// startPatience is how long an instance may take until it takes logins: it recovers its system databases first, and
// may be upgrading them.
const startPatience = 5 * time.Minute

// running returns a look at the instance, started if need be, once it takes logins.
func (e *Engine) running(ctx context.Context) (look, error) {
	e.mu.Lock()
	e.waits++
	e.mu.Unlock()
	defer func() {
		e.mu.Lock()
		e.waits--
		e.mu.Unlock()
	}()
	begun := now()
	for {
		l, err := e.look(ctx)
		if errors.Is(err, errStopped) {
			if err := e.start(ctx); err != nil {
				return look{}, err
			}
			continue
		}
		switch {
		case err == nil:
			return l, nil
		case ctx.Err() != nil:
			return look{}, context.Cause(ctx)
		case sqlserver.ClassOf(err) != sqlserver.ClassUnreachable || now().Sub(begun) > startPatience:
			return look{}, err
		}
		if err := pause(ctx, lookPause); err != nil {
			return look{}, err
		}
	}
}

// start starts the process. A fence that comes meanwhile waits for this and kills what came of it.
func (e *Engine) start(ctx context.Context) error {
	e.starting <- struct{}{}
	defer func() { <-e.starting }()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err := e.process.Start(ctx); err != nil {
		return fmt.Errorf("start SQL Server: %w", err)
	}
	e.log.InfoContext(ctx, "started sql server")
	return nil
}

// Standby starts the instance if it is stopped. SQL Server brings its replica up as RESOLVING, which serves nobody.
func (e *Engine) Standby(ctx context.Context) error {
	return e.perform(ctx, "stand by", func(ctx context.Context) error {
		if e.memory.read().Group == "" {
			// It is not known what is there: a group with CLUSTER_TYPE = NONE would come up as primary.
			return nil
		}
		p, err := e.process.Look(ctx)
		if err != nil || p.Running {
			return err
		}
		_, err = e.running(ctx)
		return err
	})
}

package availability

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/witnessd/witnessd/agent/engine"
	"github.com/witnessd/witnessd/agent/engine/sqlserver"
)

const (
	// stopPatience is how long an orderly stop of the process may take before it is killed.
	stopPatience = 10 * time.Second
	// killTime is kept of a fence's budget for ending the process, with proof.
	killTime = 90 * time.Millisecond
	// fenceStandard is the budget of a fence whose caller gave none.
	fenceStandard = 300 * time.Millisecond
	// idlePause is at least between two calls of Stop that find nothing to do: the agent asks again as soon as one ends.
	idlePause = 200 * time.Millisecond
)

// Stop ends the group's service here. The instance goes on to run, with the group RESOLVING or a secondary, which SQL
// Server keeps over every restart; only if that cannot be had is the process ended.
func (e *Engine) Stop(ctx context.Context) error {
	return e.perform(ctx, "stop", func(ctx context.Context) error {
		e.shut()
		l, err := e.look(ctx)
		switch {
		case errors.Is(err, errStopped):
			return e.waitIdle(ctx)
		case err == nil && gated(l) && !e.mayTake():
			return e.waitIdle(ctx)
		case err == nil && l.primary() && l.group.ClusterType == sqlserver.ClusterExternal:
			if _, err = e.achieve(ctx, e.goOffline()); err == nil {
				return nil
			}
			e.log.WarnContext(ctx, "the group does not go offline; sql server is stopped", "error", err)
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return e.end(ctx)
	})
}

// gated says that the instance serves none of the group's databases, and that no restart changes that.
func gated(l look) bool {
	return l.known && !l.primary() && l.group.ClusterType == sqlserver.ClusterExternal
}

// waitIdle spaces calls that find nothing to do.
func (e *Engine) waitIdle(ctx context.Context) error {
	e.mu.Lock()
	since := now().Sub(e.idle)
	e.mu.Unlock()
	defer func() {
		e.mu.Lock()
		e.idle = now()
		e.mu.Unlock()
	}()
	if since < idlePause {
		return pause(ctx, idlePause-since)
	}
	return nil
}

// end makes the process end: it asks, and kills what does not go.
func (e *Engine) end(ctx context.Context) error {
	asked, cancel := context.WithTimeout(ctx, stopPatience)
	defer cancel()
	err := e.process.Stop(asked)
	if err != nil && ctx.Err() == nil {
		e.log.WarnContext(ctx, "sql server does not stop and is killed", "error", err)
		err = e.process.Kill(ctx)
	}
	if err != nil {
		return err
	}
	e.over()
	return nil
}

// Fence takes the group offline and reads back that it is; if SQL Server does not do that in the time there is, it
// kills the process, with the kernel's word that it is gone. What was seen before proves nothing: only an answer to a
// question that was asked after the call began.
func (e *Engine) Fence(ctx context.Context) error {
	begun := now()
	e.mu.Lock()
	e.allowed, e.opened = false, false
	if e.cut != nil {
		e.cut(engine.ErrFenced)
	}
	if e.extend != nil {
		e.extend()
	}
	e.mu.Unlock()
	if e.tryOffline(ctx) {
		e.log.InfoContext(ctx, "fenced: the group is offline", "took", now().Sub(begun).String())
		return nil
	}
	err := e.process.Kill(ctx)
	select {
	case e.starting <- struct{}{}:
		<-e.starting
	default:
		err = errors.Join(err, e.killStarted(ctx))
	}
	if err != nil {
		return fmt.Errorf("fence: %w", err)
	}
	e.over()
	e.log.WarnContext(ctx, "fenced: the group did not go offline in time, and sql server was killed", "took",
		now().Sub(begun).String())
	return nil
}

// tryOffline says that the group is seen not to serve here, and that no restart changes that.
func (e *Engine) tryOffline(ctx context.Context) bool {
	select {
	case e.starting <- struct{}{}:
		<-e.starting
	default:
		return false // a start is under way: what comes of it is not known
	}
	if e.mayTake() {
		return false // it could become primary after it was seen not to be
	}
	ctx, cancel := context.WithTimeout(ctx, remaining(ctx, fenceStandard)-killTime)
	defer cancel()
	e.mu.Lock()
	send := e.last.primary()
	e.mu.Unlock()
	for {
		if send {
			// Whether it was carried out is seen below.
			if err := e.urgent.Exec(ctx, sqlserver.GroupOffline(e.cfg.Group)); err != nil {
				e.log.DebugContext(ctx, "the group does not go offline", "error", err)
			}
		}
		group, known, err := e.urgent.Group(ctx, e.cfg.Group)
		switch {
		case err != nil || !known || group.ClusterType != sqlserver.ClusterExternal ||
			group.OperationalState == pendingFailover:
			return false
		case group.Role != sqlserver.GroupRolePrimary:
			return true
		case send:
			return false
		}
		send = true
	}
}

// killStarted kills what comes of a start that was under way when the fence came: it may have looked for the cut
// before that was made, and the fence for the process before that was there.
func (e *Engine) killStarted(ctx context.Context) error {
	select {
	case e.starting <- struct{}{}:
		defer func() { <-e.starting }()
		return e.process.Kill(ctx)
	case <-ctx.Done():
		return fmt.Errorf("a start of SQL Server was under way and has not ended: %w", context.Cause(ctx))
	}
}

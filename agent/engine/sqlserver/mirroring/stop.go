package mirroring

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/witnessd/witnessd/agent/engine"
)

const (
	// stopPatience is how long an orderly stop may take before the process is killed.
	stopPatience = 10 * time.Second
	// askFirst is how much of a fence's time may go by with the question whether there is anything to end.
	askFirst = 60 * time.Millisecond
	// idlePause is at least between two calls of Stop that find nothing to do: the agent asks again as soon as one ends.
	idlePause = 200 * time.Millisecond
)

// Stop ends the instance, in order if it can be. One whose databases are all mirrors of a living partner is left
// running: no client can write there, SQL Server keeps it so over every restart, and the partner needs its mirror.
func (e *Engine) Stop(ctx context.Context) error {
	return e.perform(ctx, "stop", func(ctx context.Context) error {
		if l, err := e.look(ctx); err == nil && l.all(joined) || e.handedOver(ctx, lookPatience) {
			return e.waitIdle(ctx)
		}
		return e.end(ctx)
	})
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

// handedOver says that this run of the instance has handed everything over, and that it is seen, now, to be principal
// of nothing.
func (e *Engine) handedOver(ctx context.Context, patience time.Duration) bool {
	e.mu.Lock()
	handed := e.handed
	e.mu.Unlock()
	if handed == "" {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	l, err := e.look(ctx)
	return err == nil && l.run == handed && l.all(database.mirror)
}

// end makes the process end: it asks, and kills what does not go.
func (e *Engine) end(ctx context.Context) error {
	p, err := e.process.Look(ctx)
	if err != nil {
		return fmt.Errorf("look for the SQL Server process: %w", err)
	}
	if !p.Running {
		return nil
	}
	asked, cancel := context.WithTimeout(ctx, stopPatience)
	defer cancel()
	err = e.process.Stop(asked)
	if err != nil && ctx.Err() == nil {
		e.log.WarnContext(ctx, "sql server does not stop and is killed", "error", err)
		err = e.process.Kill(ctx)
	}
	if err != nil {
		return err
	}
	e.ended(p.Run)
	return e.memory.save()
}

// Fence kills the process and returns nil when the kernel says that it is gone. Only an instance that has handed
// everything over, and shows in a fraction of the time that it is principal of nothing, is left running: there is
// nothing that a client could be told.
func (e *Engine) Fence(ctx context.Context) error {
	begun := now()
	e.mu.Lock()
	if e.cut != nil {
		e.cut(engine.ErrFenced)
	}
	run := e.last.run
	e.mu.Unlock()
	if e.handedOver(ctx, askFirst) {
		e.log.InfoContext(ctx, "nothing to fence: every database was handed over")
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
	e.ended(run)
	e.spawn(func() {
		if err := e.memory.save(); err != nil {
			e.log.ErrorContext(ctx, endNotOnDisk, "error", err)
		}
	})
	e.log.InfoContext(ctx, "fenced", "took", now().Sub(begun).String())
	return nil
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

package demo

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/witnessd/witnessd/agent/engine"
)

const (
	// cleanPatience is how long demodb may take to end cleanly; it needs little more than half a second
	// at most. What is left of a shorter deadline is divided between asking and killing.
	cleanPatience = 2 * time.Second
	// drainPatience bounds a hand-over whose caller gave no deadline.
	drainPatience = 10 * time.Second
	// endReserve is what a hand-over keeps of its time for the end of the process.
	endReserve = time.Second
)

// HandOver drains and stops a primary. Without a confirmation in time it stops all the same and says
// that the mirror has not got everything.
func (e *Engine) HandOver(ctx context.Context, peer engine.Peer) (engine.Handover, error) {
	var h engine.Handover
	err := e.perform(ctx, "hand over to "+peer.Host, func(ctx context.Context) error {
		p, err := e.running()
		if err != nil {
			return err
		}
		left := remaining(ctx, drainPatience+endReserve)
		wait := left - min(endReserve, left/2)
		e.expectEnd(p, true)
		result, err := e.adminOf(p).HandOver(ctx, peer.Pair, wait)
		if err != nil {
			e.expectEnd(p, false)
			return err
		}
		if err := e.end(ctx, p); err != nil {
			return err
		}
		h = engine.Handover{
			Final: positionOf(result.Final), MirrorHasEverything: result.MirrorHasEverything,
		}
		return nil
	})
	return h, err
}

// Stop ends demodb, cleanly if it can.
func (e *Engine) Stop(ctx context.Context) error {
	return e.perform(ctx, "stop", func(ctx context.Context) error {
		p, err := e.attach()
		if err != nil || p == nil {
			return err
		}
		return e.end(ctx, p)
	})
}

// end makes a process end: it asks, and kills what does not go.
func (e *Engine) end(ctx context.Context, p *process) error {
	e.expectEnd(p, true)
	patience := min(cleanPatience, remaining(ctx, 2*cleanPatience)/2)
	if err := p.signal(syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case <-p.gone:
		return nil
	case <-ctx.Done():
	case <-time.After(patience):
		e.log.WarnContext(ctx, "demodb does not end and is killed", "pid", p.pid)
	}
	return e.kill(ctx, p)
}

// kill ends a process and returns when the kernel says that it is gone.
func (e *Engine) kill(ctx context.Context, p *process) error {
	if err := p.signal(syscall.SIGKILL); err != nil {
		return err
	}
	select {
	case <-p.gone:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("demodb %d was killed and is not gone yet: %w", p.pid, context.Cause(ctx))
	}
}

// Fence kills demodb and returns nil when the kernel says that it is gone, with its sockets: they are
// closed before that is told, and connections with them (demodb has the kernel reset them, so that not
// even what was written and not sent arrives later). What is started next is a mirror by itself.
func (e *Engine) Fence(ctx context.Context) error {
	took := stopwatch()
	e.mu.Lock()
	// First the call that runs: it checks this after it has registered a process that it started, and
	// before it makes that a primary.
	if e.cut != nil {
		e.cut(engine.ErrFenced)
	}
	p := e.proc
	if p != nil {
		p.asked = true
	}
	e.mu.Unlock()
	var killed error
	if p != nil {
		killed = e.kill(ctx, p)
	}
	// Then whatever else owns the directory: one that a person started since the last look.
	other, err := e.attach()
	if err == nil && other != nil && other != p {
		e.expectEnd(other, true)
		err = e.kill(ctx, other)
	}
	if err := errors.Join(killed, err); err != nil {
		return fmt.Errorf("fence: %w", err)
	}
	e.log.InfoContext(ctx, "fenced", "found", p != nil || other != nil, "took", took().String())
	return nil
}

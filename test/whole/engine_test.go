package whole

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/witnessd/witnessd/agent/engine"
)

// How long operations of the database take.
const (
	promoteTime  = 20 * time.Millisecond
	settingTime  = 5 * time.Millisecond
	followLimit  = time.Second
	pollInterval = time.Millisecond
)

// memory is the engine.Engine of a database in memory.
type memory struct{ d *database }

var _ engine.Engine = memory{}

func (e memory) Kind() string              { return "memory" }
func (e memory) Address() string           { return e.d.address }
func (e memory) Exits() <-chan engine.Exit { return e.d.exits }
func (e memory) Close() error              { return nil }

func (e memory) Observe(ctx context.Context) (engine.State, error) {
	e.d.w.mu.Lock()
	if !e.d.hung {
		defer e.d.w.mu.Unlock()
		return e.d.state(), nil
	}
	e.d.w.mu.Unlock()
	<-ctx.Done()
	return engine.State{}, ctx.Err()
}

// after waits until the process answers and the time is over, and then acts, unless ctx has ended: an operation
// that was cut short has no effect.
func (e memory) after(ctx context.Context, took time.Duration, act func() error) error {
	for {
		select {
		case <-time.After(took):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		done, err := e.attempt(ctx, act)
		if done {
			return err
		}
		took = 10 * time.Millisecond
	}
}

func (e memory) attempt(ctx context.Context, act func() error) (done bool, err error) {
	e.d.w.mu.Lock()
	defer e.d.w.mu.Unlock()
	if ctx.Err() != nil {
		return true, context.Cause(ctx)
	}
	if e.d.hung {
		return false, nil
	}
	return true, act()
}

func (e memory) Follow(ctx context.Context, peer engine.Peer, _ func(engine.Progress)) error {
	d := e.d
	err := e.after(ctx, settingTime, func() error {
		if d.open() {
			d.end("demoted")
		}
		d.start()
		if r := d.receiver; r == nil || r.upstream != peer.Address {
			d.follow(peer.Address)
		}
		return nil
	})
	for began := time.Now(); err == nil; time.Sleep(pollInterval) {
		d.w.mu.Lock()
		r := d.receiver
		live, foreign := r != nil && r.live, r != nil && r.refused == "foreign"
		d.w.mu.Unlock()
		switch {
		case live:
			return nil
		case foreign:
			err = fmt.Errorf("follow %s: %w", peer.Address, engine.ErrForeign)
		case r == nil || ctx.Err() != nil:
			err = fmt.Errorf("follow %s: %w", peer.Address, engine.ErrFenced)
		case time.Since(began) > followLimit:
			err = errors.New("partner's database cannot be followed")
		}
	}
	return err
}

func (e memory) Standby(ctx context.Context) error {
	return e.after(ctx, settingTime, func() error {
		e.d.start()
		return nil
	})
}

func (e memory) Promote(ctx context.Context, peer engine.Peer) error {
	return e.after(ctx, promoteTime, func() error {
		if !e.d.data {
			return engine.ErrNoData
		}
		e.d.become(peer.Host)
		return nil
	})
}

func (e memory) HoldCommits(ctx context.Context, peer engine.Peer) error {
	return e.after(ctx, settingTime, func() error {
		if !e.d.open() {
			return errors.New("not a primary")
		}
		e.d.held, e.d.peer = true, peer.Host
		return nil
	})
}

func (e memory) ReleaseCommits(ctx context.Context) error {
	return e.after(ctx, settingTime, func() error {
		if !e.d.open() {
			return errors.New("not a primary")
		}
		e.d.held = false
		e.d.flushed()
		return nil
	})
}

// HandOver takes no new commits, waits until the mirror has all there are, and ends the process.
func (e memory) HandOver(ctx context.Context, peer engine.Peer) (engine.Handover, error) {
	d := e.d
	err := e.after(ctx, settingTime, func() error {
		d.draining, d.peer = true, peer.Host
		return nil
	})
	for ; err == nil; time.Sleep(pollInterval) {
		d.w.mu.Lock()
		final := len(d.log)
		switch {
		case !d.open():
			err = engine.ErrFenced
		case ctx.Err() != nil:
			d.draining = false
			err = context.Cause(ctx)
		case !d.hung && d.mirrorHas() == final:
			d.end("handed over")
			d.w.mu.Unlock()
			position := engine.Position{Timeline: d.timeline(), Offset: uint64(final)}
			return engine.Handover{Final: position, MirrorHasEverything: true}, nil
		}
		d.w.mu.Unlock()
	}
	return engine.Handover{}, err
}

func (e memory) Stop(context.Context) error {
	e.d.w.mu.Lock()
	defer e.d.w.mu.Unlock()
	e.d.end("stopped")
	return nil
}

// Fence is a kill: at once, also of a process that hangs.
func (e memory) Fence(context.Context) error {
	e.d.w.mu.Lock()
	defer e.d.w.mu.Unlock()
	e.d.end("fenced")
	return nil
}

func (e memory) LetGo(context.Context) error { return nil }

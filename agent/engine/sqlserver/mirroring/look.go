package mirroring

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/witnessd/witnessd/agent/engine"
	"github.com/witnessd/witnessd/agent/engine/sqlserver"
)

const (
	// lookPatience bounds a look whose caller gave no deadline, and each of the looks that wait for something.
	lookPatience = 2 * time.Second
	// lookPause is between two looks at something that is expected to change.
	lookPause = 50 * time.Millisecond
)

// errStopped says that there is no process to look at.
var errStopped = errors.New("the SQL Server process does not run")

// look reads the instance and keeps what must be remembered of it.
func (e *Engine) look(ctx context.Context) (look, error) {
	ctx, cancel := context.WithTimeout(ctx, lookPatience)
	defer cancel()
	began := now()
	p, err := e.process.Look(ctx)
	if err != nil {
		return look{}, fmt.Errorf("look for the SQL Server process: %w", err)
	}
	if m := e.memory.read(); len(m.Opened) > 0 && (!p.Running || p.Run != m.Run) {
		e.ended(m.Run) // before the word of its end came, or while no agent was there to hear it
	}
	if !p.Running {
		return look{}, errStopped
	}
	started, err := e.startedAt(ctx, p.Run)
	if err != nil {
		return look{}, err
	}
	rows, err := e.client.Mirroring(ctx)
	if err != nil {
		return look{}, err
	}
	all, err := e.client.Databases(ctx)
	if err != nil {
		return look{}, err
	}
	l := look{began: began, run: p.Run, started: started, unit: unitOf(e.cfg, rows, all), rows: all}
	l.others = othersOf(l.unit, all)
	l.joined = e.keep(l)
	return l, nil
}

// startedAt is when the instance of a run started; it is asked for once.
func (e *Engine) startedAt(ctx context.Context, run string) (string, error) {
	e.mu.Lock()
	known := e.begun
	e.mu.Unlock()
	if known.run == run && known.started != "" {
		return known.started, nil
	}
	started, err := e.client.Started(ctx)
	if err != nil {
		return "", err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.begun = incarnation{run, started}
	return started, nil
}

// keep remembers what a look says for certain. What a later look has said already is left alone. The disk is not
// waited for: a look has to end in time whatever the disk does, and what rests on the file writes it first.
func (e *Engine) keep(l look) (joined map[string]time.Time) {
	e.looking.Lock()
	defer e.looking.Unlock()
	e.mu.Lock()
	newest := !l.began.Before(e.last.began)
	if newest {
		e.last = sightOf(l, e.last)
	}
	joined = e.last.joined
	e.mu.Unlock()
	if !newest {
		return joined
	}
	m := e.memory.read()
	proofs, principal, system := proofsAfter(l, m.Proofs), len(l.these(database.principal)) > 0, systemID(l.unit)
	if system == "" {
		system = m.System
	}
	if sameProofs(proofs, m.Proofs) && principal == m.Principal && system == m.System {
		return joined
	}
	e.memory.set(func(m *stored) { m.Proofs, m.Principal, m.System = proofs, principal, system })
	e.spawn(func() {
		if err := e.memory.save(); err != nil {
			e.log.Error("what a look has proved is not on disk; an agent that starts now would not know it", "error", err)
		}
	})
	return joined
}

// same refuses to touch the sessions of another pair. Sessions are told apart by their GUIDs, of which the partner's
// name for the unit is made.
func (e *Engine) same(l look, peer engine.Peer) error {
	own := systemID(l.unit)
	if own == "" {
		own = e.memory.read().System
	}
	if own == "" || peer.SystemID == "" || own == peer.SystemID {
		return nil
	}
	return fmt.Errorf("%w: the mirroring sessions of this instance are %s, the partner's are %s; nothing was changed. "+
		"See that both hosts name the same databases, and that each is mirrored to the other host", engine.ErrForeign,
		own, peer.SystemID)
}

// until looks again and again until done says so or patience has passed.
func (e *Engine) until(ctx context.Context, patience time.Duration, done func(look) bool) (look, bool, error) {
	begun := now()
	var last error
	for {
		l, err := e.look(ctx)
		if err == nil && done(l) {
			return l, true, nil
		}
		if ctx.Err() != nil {
			return l, false, context.Cause(ctx)
		}
		last = err
		if now().Sub(begun) > patience {
			return l, false, last
		}
		if err := pause(ctx, lookPause); err != nil {
			return l, false, err
		}
	}
}

// partner reads the same unit on the other host.
func (e *Engine) partner(ctx context.Context, client *sqlserver.Client) ([]database, error) {
	ctx, cancel := context.WithTimeout(ctx, lookPatience)
	defer cancel()
	rows, err := client.Mirroring(ctx)
	if err != nil {
		return nil, err
	}
	all, err := client.Databases(ctx)
	if err != nil {
		return nil, err
	}
	return unitOf(e.cfg, rows, all), nil
}

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
	// handBackPatience is how long a partner that is still principal may take to hand its databases back by itself.
	handBackPatience = 2 * time.Second
	// reachPatience is how long the partner's instance may take to answer at all. A host that is gone without a word costs
	// so much more outage.
	reachPatience = 500 * time.Millisecond
	// linkPatience is how long a stopped endpoint may take to be noticed.
	linkPatience = 5 * time.Second
	// promoteRounds bounds how often a promotion begins anew because sessions have changed under it.
	promoteRounds = 5
)

// Promote makes every database principal here, by the mildest means that serve: what is principal already is only
// opened; what a living partner can hand back is asked for; service is forced only where the partner is gone, or its
// agent and its clients are, and on evidence that this copy has everything.
func (e *Engine) Promote(ctx context.Context, peer engine.Peer) error {
	return e.perform(ctx, "promote", func(ctx context.Context) error {
		e.noteLease(peer)
		if err := e.memory.save(); err != nil {
			return err
		}
		l, err := e.running(ctx)
		if err != nil {
			return err
		}
		if err := e.same(l, peer); err != nil {
			return err
		}
		if err := e.prevail(ctx, l, peer); err != nil {
			return err
		}
		if err := e.openLink(ctx); err != nil {
			return err
		}
		if err := e.online(ctx); err != nil {
			return err
		}
		return e.opened(ctx)
	})
}

// prevail returns when every database is principal here.
func (e *Engine) prevail(ctx context.Context, l look, peer engine.Peer) error {
	asked := false
	for range promoteRounds {
		if err := ready(l); err != nil {
			return err
		}
		if l.all(database.principal) {
			return nil
		}
		var err error
		switch {
		case len(l.these(linked)) > 0 && !asked:
			asked = true
			begun, unreached := now(), false
			if err := e.askBack(ctx, l, peer); err != nil {
				unreached = errors.Is(err, errNotReached)
				e.log.WarnContext(ctx, "the partner does not hand its databases back; service is forced once the link to "+
					"it is closed, if this copy has everything", "partner", peer.Host, "error", err)
			}
			// A host that is gone without a word looks connected until PARTNER TIMEOUT. What the question has taken is
			// not waited for again.
			left := handBackPatience - now().Sub(begun)
			if unreached {
				left = 0
			}
			l, _, err = e.until(ctx, left, func(l look) bool { return len(l.these(linked)) == 0 })
		default:
			l, err = e.overrule(ctx, l)
		}
		if err != nil {
			return err
		}
	}
	return fmt.Errorf("the sessions change all the time: %s mirror here", names(l.these(database.mirror)))
}

// errNotReached says that the partner's instance has not answered: nobody there will hand anything back.
var errNotReached = errors.New("the partner's instance is not reached")

// linked is a mirror whose partner is connected, and so principal.
func linked(d database) bool { return d.mirror() && d.Connected() }

// ready refuses a unit of which a part cannot be promoted at all.
func ready(l look) error {
	if len(l.unit) == 0 {
		return fmt.Errorf("%w: no database of this instance is mirrored; set up mirroring first", engine.ErrNoData)
	}
	for _, d := range l.unit {
		if !d.mirrored {
			return fmt.Errorf("%s is not mirrored here: set up mirroring, or take it out of the agent's configuration; "+
				"nothing was changed", d.Database)
		}
	}
	return nil
}

// askBack asks the partner's SQL Server to exchange the roles of what it is principal of. Its agent need not live; the
// fence of its host lets this host's agent in. Nothing is lost, and the partner goes on as a mirror.
func (e *Engine) askBack(ctx context.Context, l look, peer engine.Peer) (err error) {
	client := sqlserver.NewClient(e.cfg, peer.Address)
	defer func() { err = errors.Join(err, client.Close()) }()
	reaching, cancel := context.WithTimeout(ctx, reachPatience)
	there, err := e.partner(reaching, client)
	cancel()
	if err != nil {
		return fmt.Errorf("%w: %w", errNotReached, err)
	}
	for _, d := range l.unit {
		if !linked(d) {
			continue
		}
		other, ok := look{unit: there}.one(d.Database)
		switch {
		case !ok || other.GUID != d.GUID:
			return fmt.Errorf("%w: %s has no session with %s on %s; nothing was changed",
				engine.ErrForeign, d.Database, d.GUID, client.Address())
		case other.mirror():
			continue // it is on its way
		case other.State != sqlserver.StateSynchronized && other.State != sqlserver.StatePendingFailover:
			return fmt.Errorf("%s is %s on %s", d.Database, other.State, client.Address())
		}
		if err := e.achieve(ctx, client, exchange(d.Database)); err != nil {
			return fmt.Errorf("exchange the roles of %s on %s: %w", d.Database, client.Address(), err)
		}
		e.log.InfoContext(ctx, "asked back from the partner", "database", d.Database)
	}
	return nil
}

// overrule makes mirrors principal against a partner that is gone or does not answer. What speaks against the first
// database speaks against all: nothing is forced before everything may be.
func (e *Engine) overrule(ctx context.Context, l look) (look, error) {
	if why := unproven(l, e.memory.read().Proofs); why != "" {
		return l, fmt.Errorf("service is not forced, because commits could be lost: %s; wait for the partner, or let a "+
			"person decide", why)
	}
	if len(l.these(linked)) > 0 {
		var err error
		if l, err = e.closeLink(ctx); err != nil {
			return l, err
		}
	}
	if err := e.memory.save(); err != nil {
		return l, err
	}
	for _, name := range l.these(database.mirror) {
		// The partner may have come back and gone since the others were forced.
		fresh, err := e.look(ctx)
		if err != nil {
			return l, err
		}
		d, _ := fresh.one(name)
		if why := lacks(d, fresh.started, e.memory.read().Proofs); why != "" {
			return l, fmt.Errorf("service is not forced, because commits could be lost: %s", why)
		}
		if err := e.achieve(ctx, e.client, force(name)); err != nil {
			return l, fmt.Errorf("force service of %s: %w", name, err)
		}
		e.log.WarnContext(ctx, "service forced", "database", name)
	}
	return e.look(ctx)
}

// closeLink stops the mirroring endpoint, so that the partner's connection does not forbid to force service. That it
// has to be started again is on disk before: a stopped endpoint stays so over restarts.
func (e *Engine) closeLink(ctx context.Context) (look, error) {
	endpoint, ok, err := e.client.Endpoint(ctx)
	if err != nil {
		return look{}, err
	}
	if !ok {
		return look{}, errors.New("the instance has no mirroring endpoint, and yet a session is connected")
	}
	if err := e.memory.change(func(m *stored) { m.Endpoint = endpoint.Name }); err != nil {
		return look{}, err
	}
	if err := e.client.Exec(ctx, sqlserver.EndpointStop(endpoint.Name)); err != nil {
		return look{}, fmt.Errorf("stop the mirroring endpoint: %w", err)
	}
	e.log.WarnContext(ctx, "mirroring endpoint stopped, to force service", "endpoint", endpoint.Name)
	l, closed, err := e.until(ctx, linkPatience, func(l look) bool { return len(l.these(linked)) == 0 })
	if err == nil && !closed {
		err = fmt.Errorf("the mirroring endpoint was stopped, and %s stay connected", names(l.these(linked)))
	}
	return l, err
}

// openLink starts the mirroring endpoint again if this engine has stopped it, in this or in an earlier call.
func (e *Engine) openLink(ctx context.Context) error {
	name := e.memory.read().Endpoint
	if name == "" {
		return nil
	}
	if err := e.client.Exec(ctx, sqlserver.EndpointStart(name)); err != nil {
		return fmt.Errorf("start the mirroring endpoint again: %w", err)
	}
	endpoint, ok, err := e.client.Endpoint(ctx)
	if err != nil {
		return fmt.Errorf("see that the mirroring endpoint is started: %w", err)
	}
	if !ok || endpoint.State != sqlserver.EndpointStarted {
		return fmt.Errorf("the mirroring endpoint %s was started and is %s", name, endpoint.State)
	}
	e.log.InfoContext(ctx, "mirroring endpoint started again", "endpoint", name)
	return e.memory.change(func(m *stored) { m.Endpoint = "" })
}

// online waits until every database can be opened: a new principal redoes its queue first.
func (e *Engine) online(ctx context.Context) error {
	open := func(d database) bool { return d.principal() && d.DatabaseState == sqlserver.DatabaseOnline }
	l, ok, err := e.until(ctx, e.cfg.Target.Recovery, func(l look) bool { return l.all(open) })
	if err != nil || ok {
		return err
	}
	return fmt.Errorf("not online after %v: %s; look at SQL Server's error log", e.cfg.Target.Recovery,
		names(l.these(func(d database) bool { return !open(d) })))
}

// opened writes down what clients may write to from now on, before they may.
func (e *Engine) opened(ctx context.Context) error {
	l, err := e.look(ctx)
	if err != nil {
		return err
	}
	if !l.all(database.principal) {
		return fmt.Errorf("the roles have changed again: %s mirror here", names(l.these(database.mirror)))
	}
	e.mu.Lock()
	e.handed = ""
	e.mu.Unlock()
	return e.memory.change(func(m *stored) {
		m.Managed, m.Run, m.Ended, m.Opened = true, l.run, nil, map[string]opening{}
		for _, d := range l.unit {
			m.Opened[d.GUID] = opening{d.Database, d.RoleSequence}
		}
	})
}

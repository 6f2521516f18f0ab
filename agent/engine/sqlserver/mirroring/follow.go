package mirroring

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/witnessd/witnessd/agent/engine"
	"github.com/witnessd/witnessd/agent/engine/sqlserver"
)

// joinPatience is how long a session may take to find its partner again: SQL Server tries every few seconds.
const joinPatience = 30 * time.Second

// ErrHuman says that only a person can decide: what would have to be done may discard commits.
var ErrHuman = errors.New("a person has to decide")

// Follow makes every database a mirror of the peer's, and returns nil when all sessions are connected. A former
// principal is started only when the partner can be seen to be principal: until it reaches its partner it serves, and
// only the agent's fence keeps clients out. A suspended session is resumed only when that discards nothing.
func (e *Engine) Follow(ctx context.Context, peer engine.Peer, progress func(engine.Progress)) error {
	return e.perform(ctx, "follow "+peer.Host, func(ctx context.Context) error {
		if peer.Address == "" {
			return errors.New("the peer's address is not known")
		}
		e.noteLease(peer)
		if err := e.memory.change(func(m *stored) { m.Managed = true }); err != nil {
			return err
		}
		e.join(true)
		defer e.join(false)
		client := sqlserver.NewClient(e.cfg, peer.Address)
		err := e.follow(ctx, client, peer, progress)
		return errors.Join(err, client.Close())
	})
}

// join says that a former principal is being made a mirror.
func (e *Engine) join(yes bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.joins = yes
	if yes {
		e.handed = ""
	}
}

func (e *Engine) follow(
	ctx context.Context, client *sqlserver.Client, peer engine.Peer, progress func(engine.Progress),
) error {
	l, err := e.look(ctx)
	if errors.Is(err, errStopped) {
		if err := e.mayStart(ctx, client); err != nil {
			return err
		}
	}
	if err != nil {
		if l, err = e.running(ctx); err != nil {
			return err
		}
	}
	if err := e.same(l, peer); err != nil {
		return err
	}
	if err := ready(l); err != nil {
		return err
	}
	// What it was opened as is over; from here on it is a principal that nobody has opened, if it is one.
	if err := e.memory.change(func(m *stored) { m.Opened = nil }); err != nil {
		return err
	}
	if err := e.openLink(ctx); err != nil {
		return err
	}
	told := ""
	tell := func(l look) {
		if text := names(l.these(func(d database) bool { return !joined(d) })); progress != nil && text != told {
			told = text
			progress(engine.Progress{Step: "attach", Detail: text})
		}
	}
	for _, d := range l.unit {
		tell(l)
		if err := e.joinOne(ctx, client, d.Database); err != nil {
			return err
		}
		if l, err = e.look(ctx); err != nil {
			return err
		}
	}
	return e.together(ctx)
}

// joined is a mirror that receives changes.
func joined(d database) bool { return d.mirror() && d.Connected() }

// mayStart refuses to start a former principal that would not find its partner.
func (e *Engine) mayStart(ctx context.Context, client *sqlserver.Client) error {
	if m := e.memory.read(); !m.Principal && m.System != "" {
		return nil // SQL Server keeps the role of a mirror over restarts
	}
	unit, err := e.partner(ctx, client)
	if err != nil {
		return fmt.Errorf("this host's databases may be principal, and would serve until they reach the partner; they "+
			"are not started before it answers: %w", err)
	}
	if there := (look{unit: unit}); !there.all(database.principal) {
		return fmt.Errorf("this host's databases may be principal, and the partner is not principal of %s: they are not "+
			"started", names(there.these(func(d database) bool { return !d.principal() })))
	}
	return nil
}

// joinOne makes one database a mirror that receives changes.
func (e *Engine) joinOne(ctx context.Context, client *sqlserver.Client, name string) error {
	begun := now()
	for {
		l, err := e.look(ctx)
		if err != nil {
			return err
		}
		d, ok := l.one(name)
		switch {
		case !ok || !d.mirrored:
			return fmt.Errorf("%s is not mirrored any more", name)
		case joined(d):
			return nil
		case d.State == sqlserver.StateSuspended:
			return e.resumed(ctx, client, d)
		case d.principal() && (d.State == sqlserver.StateSynchronized || d.State == sqlserver.StatePendingFailover):
			if err := e.achieve(ctx, e.client, exchange(name)); err != nil {
				return fmt.Errorf("hand %s back to the partner: %w", name, err)
			}
			e.log.InfoContext(ctx, "handed back to the partner", "database", name)
			continue
		}
		// Only a session that has not found its partner yet has a limit; one that catches up takes its time.
		if !d.Connected() && now().Sub(begun) > joinPatience {
			return e.unjoined(ctx, d)
		}
		if err := pause(ctx, lookPause); err != nil {
			return err
		}
	}
}

// unjoined says why a session does not find its partner, as far as this host can see.
func (e *Engine) unjoined(ctx context.Context, d database) error {
	why := "see that the mirroring endpoints of both hosts are started and reach each other"
	if endpoint, ok, err := e.client.Endpoint(ctx); err == nil && (!ok || endpoint.State != sqlserver.EndpointStarted) {
		why = "this instance's mirroring endpoint is not started: ALTER ENDPOINT ... STATE = STARTED"
	}
	return fmt.Errorf("%s has not found its partner %s for %v (%s, %s): %s", d.Database, d.Partner, joinPatience, d.Role,
		d.State, why)
}

// resumed lets the new principal go on with this host as its mirror, if that discards nothing that a client was told.
func (e *Engine) resumed(ctx context.Context, client *sqlserver.Client, d database) error {
	if d.principal() {
		return fmt.Errorf("%w: %s is SUSPENDED, and principal here", ErrHuman, d.Database)
	}
	if why := suspended(d, e.memory.read().Ended); why != "" {
		return fmt.Errorf("%w: %s", ErrHuman, why)
	}
	unit, err := e.partner(ctx, client)
	if err != nil {
		return fmt.Errorf("resume %s on the partner: %w", d.Database, err)
	}
	there, ok := look{unit: unit}.one(d.Database)
	switch {
	case !ok || there.GUID != d.GUID:
		return fmt.Errorf("%w: %s has no session %s on %s; nothing was changed",
			engine.ErrForeign, d.Database, d.GUID, client.Address())
	case !there.principal() || there.RoleSequence != d.RoleSequence:
		return fmt.Errorf("%s is %s with role_sequence %d on %s, and %s with %d here: resumed only when they agree",
			d.Database, there.Role, there.RoleSequence, client.Address(), d.Role, d.RoleSequence)
	}
	if err := e.achieve(ctx, client, resume(d.Database)); err != nil {
		return fmt.Errorf("resume %s on the partner: %w", d.Database, err)
	}
	e.log.InfoContext(ctx, "resumed: nothing that clients were told of is discarded", "database", d.Database)
	return e.awaitJoined(ctx, d.Database)
}

// awaitJoined waits until this host sees what was read on the partner.
func (e *Engine) awaitJoined(ctx context.Context, name string) error {
	_, ok, err := e.until(ctx, joinPatience, func(l look) bool {
		d, found := l.one(name)
		return found && joined(d)
	})
	if err == nil && !ok {
		err = fmt.Errorf("%s was resumed on the partner, and is not connected here", name)
	}
	return err
}

// together is the last look: all of them are mirrors, at once. What the end of the former primary's process left open
// is settled then.
func (e *Engine) together(ctx context.Context) error {
	l, ok, err := e.until(ctx, lookPatience, func(l look) bool { return l.all(joined) })
	if err != nil {
		return err
	}
	if !ok {
		return fmt.Errorf("connected and lost again: %s", names(l.these(func(d database) bool { return !joined(d) })))
	}
	return e.memory.change(func(m *stored) { m.Ended = nil })
}

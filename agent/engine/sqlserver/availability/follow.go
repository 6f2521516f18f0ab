package availability

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/witnessd/witnessd/agent/engine"
	"github.com/witnessd/witnessd/agent/engine/sqlserver"
)

// joinPatience is how long a secondary may take to find its primary: SQL Server tries every few seconds.
const joinPatience = 30 * time.Second

// Follow makes this replica a secondary of the peer, and returns nil when changes of every database stream in. A
// RESOLVING replica is made a secondary only when the peer is seen to be primary of the same group: before that, it
// would only make a later promotion of this replica harder.
func (e *Engine) Follow(ctx context.Context, peer engine.Peer, progress func(engine.Progress)) error {
	return e.perform(ctx, "follow "+peer.Host, func(ctx context.Context) error {
		if peer.Address == "" {
			return errors.New("the peer's address is not known")
		}
		l, err := e.running(ctx)
		if err != nil {
			return err
		}
		if err := e.same(l, peer); err != nil {
			return err
		}
		if err := e.usable(l.view); err != nil {
			return err
		}
		if l.secondary() && l.group.Connected != disconnected && all(l.local(), flows) {
			return nil
		}
		return e.follow(ctx, peer, progress)
	})
}

func (e *Engine) follow(ctx context.Context, peer engine.Peer, progress func(engine.Progress)) error {
	there, err := e.partner(ctx, peer)
	if err != nil {
		return err
	}
	l, err := e.look(ctx)
	if err != nil {
		return err
	}
	if l.primary() {
		if l, err = e.achieve(ctx, e.goOffline()); err != nil {
			return err
		}
		e.shut()
		e.log.WarnContext(ctx, "was primary beside the partner; taken offline", "group", e.cfg.Group)
	}
	if !l.secondary() {
		if _, err = e.achieve(ctx, e.join()); err != nil {
			return err
		}
		e.log.InfoContext(ctx, "became a secondary", "group", e.cfg.Group)
	}
	return e.stream(ctx, there, progress)
}

// partner looks at the group on the peer's instance, which must be primary of the same group.
func (e *Engine) partner(ctx context.Context, peer engine.Peer) (v view, err error) {
	ctx, cancel := context.WithTimeout(ctx, 2*lookPatience)
	defer cancel()
	client := sqlserver.NewClient(e.cfg, peer.Address)
	defer func() { err = errors.Join(err, client.Close()) }()
	v, err = e.view(ctx, client)
	own := e.memory.read().Group
	switch {
	case err != nil:
		return v, fmt.Errorf("see what the partner's instance is: %w", err)
	case !v.known:
		return v, fmt.Errorf("the instance at %s has no availability group %s", peer.Address, e.cfg.Group)
	case v.group.ID != own:
		return v, fmt.Errorf("%w: the availability group %s is %s here and %s at %s; nothing was changed", engine.ErrForeign,
			e.cfg.Group, own, v.group.ID, peer.Address)
	case !v.primary():
		return v, fmt.Errorf("the replica at %s is %s, not primary yet", peer.Address, v.group.Role)
	}
	return v, nil
}

// stream waits until the changes of every database arrive, and resumes what is suspended where that discards nothing.
func (e *Engine) stream(ctx context.Context, there view, progress func(engine.Progress)) error {
	begun, told := now(), ""
	var resumed []string
	for {
		l, err := e.look(ctx)
		if err != nil && !mayPass(err) {
			return err
		}
		if err == nil {
			if missing := unjoined(l.view, there); missing != "" && now().Sub(begun) > joinPatience {
				return fmt.Errorf("%s of the group has not joined on this replica: set SEEDING_MODE = AUTOMATIC, or restore "+
					"it here WITH NORECOVERY and run ALTER DATABASE [%s] SET HADR AVAILABILITY GROUP = [%s]", missing, missing,
					e.cfg.Group)
			} else if missing == "" && l.secondary() && l.group.Connected != disconnected && all(l.local(), flows) {
				return nil
			}
			if resumed, err = e.resume(ctx, l, resumed); err != nil {
				return err
			}
			if text := without(l.local(), flows); progress != nil && text != told {
				told = text
				progress(engine.Progress{Step: "attach", Detail: text})
			}
			if !l.secondary() {
				return fmt.Errorf("the replica is %s again", l.group.Role)
			}
			if now().Sub(begun) > joinPatience && l.group.Connected == disconnected {
				return fmt.Errorf("has not found the primary for %v: see that the database mirroring endpoints of both "+
					"instances are started and reach each other", joinPatience)
			}
			if now().Sub(begun) > e.cfg.Target.Recovery {
				return fmt.Errorf("changes do not stream in: %s; look at SQL Server's error log", told)
			}
		}
		if err := pause(ctx, lookPause); err != nil {
			return err
		}
	}
}

// unjoined is a database that the primary has and this replica has not; "" if there is none.
func unjoined(here, there view) string {
	for _, d := range there.local() {
		if !slices.ContainsFunc(here.local(), func(o sqlserver.GroupDatabaseRow) bool { return o.GroupID == d.GroupID }) {
			return d.Database
		}
	}
	return ""
}

// resume lets databases go on that SQL Server has suspended by itself, each once.
func (e *Engine) resume(ctx context.Context, l look, done []string) ([]string, error) {
	for _, d := range l.local() {
		if !d.Suspended || slices.Contains(done, d.GroupID) {
			continue
		}
		if why := pinned(d); why != "" {
			return done, fmt.Errorf("%w: %s", ErrHuman, why)
		}
		if err := e.send(ctx, sqlserver.HadrResume(d.Database)); err != nil && !mayPass(err) {
			return done, fmt.Errorf("resume %s: %w", d.Database, err)
		}
		e.log.InfoContext(ctx, "resumed", "database", d.Database, "was", d.SuspendReason)
		done = append(done, d.GroupID)
	}
	return done, nil
}

package mirroring

import (
	"context"
	"errors"
	"fmt"

	"github.com/witnessd/witnessd/agent/engine"
	"github.com/witnessd/witnessd/agent/engine/sqlserver"
)

// HandOver exchanges the roles of every database, one after the other, in order. Nothing is lost: SQL Server ends the
// sessions of a database, sends what is left of its log, and makes it a mirror here. The instance goes on to run, as
// the new primary's mirror. A call after one that was cut short goes on where that was.
func (e *Engine) HandOver(ctx context.Context, peer engine.Peer) (engine.Handover, error) {
	var h engine.Handover
	err := e.perform(ctx, "hand over to "+peer.Host, func(ctx context.Context) error {
		e.noteLease(peer)
		// A database that moved a moment ago, in a call that was cut short, finds its partner again first.
		l, _, err := e.until(ctx, linkPatience, func(l look) bool { return movable(l) == nil || !returning(l) })
		if err != nil {
			return err
		}
		if err := e.same(l, peer); err != nil {
			return err
		}
		if err := movable(l); err != nil {
			return err
		}
		if err := e.move(ctx, l); err != nil {
			return err
		}
		// The sessions begin anew in their new form. That they do is not needed for the proof: a mirror that was made one
		// by an exchange has given everything away.
		if l, _, err = e.until(ctx, linkPatience, func(l look) bool { return l.all(joined) }); err != nil {
			return fmt.Errorf("look at what was handed over: %w", err)
		}
		if !l.all(database.mirror) {
			return errSplit(l, errors.New("the roles have changed again"))
		}
		e.mu.Lock()
		e.handed, e.held = l.run, ""
		e.mu.Unlock()
		h.Final = engine.Position{Timeline: l.exchanges(), Offset: l.ends().Number()}
		h.MirrorHasEverything = true
		return nil
	})
	return h, err
}

// returning says that some databases are mirrors which have not found their partner.
func returning(l look) bool {
	return l.split() && len(l.these(func(d database) bool { return d.mirror() && !d.Connected() })) > 0
}

// movable refuses what would fail half way.
func movable(l look) error {
	if len(l.unit) == 0 {
		return errors.New("no database of this instance is mirrored")
	}
	for _, d := range l.unit {
		switch {
		case !d.mirrored:
			return fmt.Errorf("%s is not mirrored: set up mirroring, or take it out of the agent's configuration; nothing "+
				"was changed", d.Database)
		case d.mirror() && d.Connected():
		case !d.principal():
			return fmt.Errorf("%s is %s %s here: only a principal is handed over; nothing was changed",
				d.Database, d.Role, d.State)
		case d.Safety != sqlserver.SafetyIsFull:
			return fmt.Errorf("%s has SAFETY %s: the mirror may lack commits; set it to FULL and wait until it is "+
				"SYNCHRONIZED; nothing was changed", d.Database, d.Safety)
		case d.State != sqlserver.StateSynchronized && d.State != sqlserver.StatePendingFailover:
			return fmt.Errorf("%s is %s: wait until it is SYNCHRONIZED; nothing was changed", d.Database, d.State)
		}
	}
	return nil
}

// move exchanges the roles of those that are principal here.
func (e *Engine) move(ctx context.Context, l look) error {
	for _, d := range l.unit {
		if !d.principal() {
			continue
		}
		if err := e.achieve(ctx, e.client, exchange(d.Database)); err != nil {
			after, looked := e.look(ctx)
			if looked != nil {
				return fmt.Errorf("exchange the roles of %s: %w (what has become of the others is not known: %w)",
					d.Database, err, looked)
			}
			return errSplit(after, fmt.Errorf("exchange the roles of %s: %w", d.Database, err))
		}
		e.log.InfoContext(ctx, "roles exchanged", "database", d.Database)
	}
	return nil
}

// errSplit says which databases are where after a move that failed.
func errSplit(l look, cause error) error {
	moved, left := l.these(database.mirror), l.these(func(d database) bool { return !d.mirror() })
	if len(moved) == 0 {
		return fmt.Errorf("%w; nothing has moved", cause)
	}
	return fmt.Errorf("%w; the pair is split: %s moved to the partner, %s not; the partner's agent hands back what has "+
		"moved, or brings the rest over", cause, names(moved), names(left))
}

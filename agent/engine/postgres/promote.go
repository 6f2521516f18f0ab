//go:build linux

package postgres

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/witnessd/witnessd/agent/engine"
)

// Promote makes the instance the primary. The way is the same from every state: a copy that holds commits
// for nobody is promoted, the restart gate is put back, a commit is seen to wait, and only then are commits
// held for the peer, which is the first setting under which one can be acknowledged.
func (e *Engine) Promote(ctx context.Context, peer engine.Peer) error {
	receiver := e.named(peer)
	return e.call(ctx, "promote", func(ctx context.Context) error {
		began := now()
		if err := e.usable(); err != nil {
			return err
		}
		r, err := e.toPromote(ctx)
		if err != nil {
			return err
		}
		recovering, err := e.inRecovery(ctx, r)
		if err != nil {
			return err
		}
		if recovering {
			if err := e.checkReached(ctx, r); err != nil {
				return err
			}
			if err := e.endRecovery(ctx, r); err != nil {
				return err
			}
		}
		err = e.hold(ctx, r, receiver)
		if errors.Is(err, errStranger) {
			// The primary is up and, if it was a copy, holds commits for nobody. Whoever has the mirror's name must
			// not keep a pair from its primary; the mirror is not taken as attached, and State says why.
			e.log.ErrorContext(ctx, "commits not held for the mirror", slog.Any("error", err))
			err = nil
		}
		if err != nil {
			return err
		}
		e.log.InfoContext(ctx, "promoted", slog.String("run", r.id), slog.Bool("was_primary", !recovering),
			slog.Duration("took", since(began)))
		return nil
	})
}

// endRecovery turns a copy into a primary that holds all commits. PostgreSQL first replays everything that
// the copy has received.
func (e *Engine) endRecovery(ctx context.Context, r *run) error {
	if err := e.checkRest(ctx); err != nil {
		return err
	}
	if err := e.heldBefore(ctx, r); err != nil {
		return err
	}
	// From here to the gate's return, a start by hand would come up as a primary; the rest file lets it
	// acknowledge nothing.
	rows, err := e.acting.query(ctx, r, "select pg_promote(false)")
	if err != nil {
		return fmt.Errorf("end recovery: %w", err)
	}
	if !rows[0].true(0) {
		return errors.New("end recovery: the server did not take the signal; see its log")
	}
	for {
		recovering, err := e.inRecovery(ctx, r)
		if err != nil {
			return fmt.Errorf("wait for the end of recovery: %w", err)
		}
		if !recovering {
			return e.assureGate()
		}
		if err := pause(ctx); err != nil {
			return fmt.Errorf("wait for the end of recovery: %w", err)
		}
	}
}

// heldBefore makes sure that a copy will hold its first commit as a primary: the setting must be in force in
// the checkpointer, which tells all others. It reads its settings before it first rests, so a checkpointer
// that rests, or that has run for some time, has read them; and a copy's setting is the same from its start.
func (e *Engine) heldBefore(ctx context.Context, r *run) error {
	const sql = `select current_setting('synchronous_standby_names'), exists (
		select from pg_stat_activity where backend_type = 'checkpointer'
		and (wait_event is not null or backend_start < clock_timestamp() - interval '2 seconds'))`
	ctx, cancel := context.WithTimeoutCause(ctx, 3*time.Second, errors.New("the checkpointer does not rest"))
	defer cancel()
	for {
		rows, err := e.acting.query(ctx, r, sql)
		if err != nil {
			return err
		}
		if held := rows[0].text(0); held != heldForNobody {
			return fmt.Errorf("the copy runs with synchronous_standby_names = '%s', so its first commits as "+
				"primary could be acknowledged alone; run ALTER SYSTEM RESET synchronous_standby_names", held)
		}
		if rows[0].true(1) {
			return nil
		}
		if err := pause(ctx); err != nil {
			return fmt.Errorf("see that commits will be held: %w", err)
		}
	}
}

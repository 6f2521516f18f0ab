//go:build linux

package postgres

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strconv"

	"github.com/witnessd/witnessd/agent/engine"
)

// lookSQL sees all that State needs at once. A primary's timeline is in the name of the file that it writes
// to: pg_control learns of a promotion only at the next checkpoint.
const lookSQL = `
select r.recovering,
	case when r.recovering
		then greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn(), '0/0')
		else pg_current_wal_flush_lsn() end,
	case when r.recovering
		then (select received_tli from pg_stat_wal_receiver)
		else ('x' || substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8))::bit(32)::int end,
	(select system_identifier from pg_control_system()),
	current_setting('synchronous_standby_names'),
	(select status from pg_stat_wal_receiver) = 'streaming',
	m.attached,
	m.flush_lsn,
	case when r.recovering then coalesce(pg_last_wal_replay_lsn(), '0/0') end,
	m.stranger,
	current_setting('primary_slot_name'),
	(select latest_end_lsn from pg_stat_wal_receiver where status = 'streaming')
from (select pg_is_in_recovery() as recovering offset 0) r
left join lateral (
	select count(*) = 1 and bool_and(own and state <> 'stopping') as attached,
		max(flush_lsn) filter (where own) as flush_lsn,
		count(*) filter (where not own) > 0 as stranger
	from (` + sendersSQL + `) s
) m on true`

// Observe looks at the instance without changing it.
func (e *Engine) Observe(ctx context.Context) (engine.State, error) {
	// A look also reads files. If their disk hangs, the look stays behind and the caller does not; and
	// no second one is sent after it.
	select {
	case e.lookTurn <- struct{}{}:
	case <-ctx.Done():
		return engine.State{}, fmt.Errorf("look at the instance: an earlier look has not ended: %w", ctx.Err())
	}
	type seen struct {
		state engine.State
		err   error
	}
	result := make(chan seen, 1)
	go func() {
		defer func() { <-e.lookTurn }()
		state, err := e.look(ctx)
		result <- seen{state, err}
	}()
	select {
	case s := <-result:
		return s.state, s.err
	case <-ctx.Done():
		return engine.State{}, fmt.Errorf("look at the instance: %w", ctx.Err())
	}
}

func (e *Engine) look(ctx context.Context) (engine.State, error) {
	state := engine.State{}
	e.mu.Lock()
	state.Step = e.step
	e.mu.Unlock()
	state.Data, state.NotPromotable = e.data()

	r, err := e.server()
	if err != nil {
		return engine.State{}, err
	}
	if r != nil {
		err = e.lookAtServer(ctx, r, &state)
		if err == nil && state.Role != engine.RoleNone {
			e.lookAtHealth(ctx, r, &state)
		}
		if !r.alive() || !serves(r.pid, e.cfg.DataDir) { // It ended while it was looked at.
			r, state.Running, state.Run, state.Role = nil, false, "", engine.RoleNone
		}
	}
	if r == nil {
		err = e.lookAtFiles(ctx, &state)
	}
	if err != nil {
		return engine.State{}, fmt.Errorf("look at the instance: %w", err)
	}
	if state.NotPromotable == "" && state.Step != "" {
		state.NotPromotable = "it is being made a mirror: " + state.Step
	}
	if state.Step == "" && state.Following {
		state.Step = e.catching.text
	}
	if gate := e.lastCheck(); state.NotPromotable == "" && gate != nil {
		state.NotPromotable = gate.Error()
	}
	state.Promotable = state.NotPromotable == ""
	return state, nil
}

// lookAtFiles fills in what a stopped instance's files tell. The position is a lower bound then: what lies
// in the log beyond the last checkpoint is known when the server has replayed it.
func (e *Engine) lookAtFiles(ctx context.Context, state *engine.State) error {
	if state.Data != engine.DataPresent && state.Data != engine.DataIncomplete {
		return nil
	}
	if _, err := os.Stat(e.path("global/pg_control")); err != nil {
		return nil //nolint:nilerr // A rewind under way has moved the directory aside.
	}
	c, err := e.readControl(ctx, e.cfg.DataDir)
	if err != nil {
		return err
	}
	state.SystemID = c.systemID
	state.Position = c.least().position()
	if state.NotPromotable == "" && c.backup {
		state.NotPromotable = "a base backup was restored and not yet replayed to its end"
	}
	if state.NotPromotable == "" {
		state.NotPromotable = e.stoppedBehind(c)
	}
	return nil
}

// lookAtServer fills in what the server tells.
func (e *Engine) lookAtServer(ctx context.Context, r *run, state *engine.State) error {
	state.Running, state.Run = true, r.id
	if p, err := readProcess(r.pid); err == nil && p.stopped() {
		return fmt.Errorf("%w: process %d of the server is suspended", engine.ErrHung, r.pid)
	}
	e.mu.Lock()
	receiver, proof := e.receiver, e.proof
	e.mu.Unlock()
	rows, err := e.looking.query(ctx, r, lookSQL, receiver)
	if errors.Is(err, errNotReady) {
		if state.NotPromotable == "" {
			state.NotPromotable = err.Error()
		}
		return e.lookAtFiles(ctx, state)
	}
	if err != nil {
		return err
	}
	row := rows[0]
	at, err := parseLSN(row.text(1))
	if err != nil {
		return err
	}
	state.SystemID = row.text(3)
	timeline, err := e.timelineOf(ctx, r, row[2], at)
	if err != nil {
		return err
	}
	state.Position = point{timeline: timeline, at: at}.position()
	if row.true(0) {
		state.Role = engine.RoleMirror
		state.Following = row.true(5)
		replayed, err := parseLSN(row.text(8))
		if err != nil {
			return err
		}
		state.Replayed = point{timeline: timeline, at: replayed}.position()
		look := copyLook{systemID: state.SystemID, own: point{timeline: timeline, at: at}, replayed: replayed}
		if state.Following {
			look.slot = row.text(10)
		}
		if err := e.lookBehind(ctx, r, at, row[11]); err != nil {
			return err
		}
		if why := e.lookAtReached(ctx, r, look); state.NotPromotable == "" {
			state.NotPromotable = why
		}
		return nil
	}
	state.Role = engine.RolePrimary
	state.Commits = proof.commits(r, row.text(4), row.true(9))
	state.Mirror.Attached = row.true(6)
	if row[7] != nil {
		flushed, err := parseLSN(row.text(7))
		if err != nil {
			return err
		}
		state.Mirror.Flushed = point{timeline: timeline, at: flushed}.position()
	}
	return nil
}

// knownTimeline is the timeline of a copy without a receiver, as asked for last. It cannot change while the
// position stays.
type knownTimeline struct {
	run string
	point
}

// timelineOf is the timeline of what the server has. A copy without a receiver shows it only in the answer
// to a replication command.
func (e *Engine) timelineOf(ctx context.Context, r *run, shown []byte, at lsn) (uint32, error) {
	if shown != nil {
		n, err := strconv.ParseUint(string(shown), 10, 32)
		if err != nil {
			return 0, fmt.Errorf("timeline %q: %w", shown, err)
		}
		return uint32(n), nil
	}
	e.mu.Lock()
	known := e.timeline
	e.mu.Unlock()
	if known.run == r.id && known.at == at {
		return known.timeline, nil
	}
	id, err := e.identifySelf(ctx, r)
	if err != nil {
		// Follow will say what is wrong. Until then what pg_control knew last is near enough to show.
		e.log.DebugContext(ctx, "timeline not told by the server", slog.Any("error", err))
		c, err := e.readControl(ctx, e.cfg.DataDir)
		return c.least().timeline, err
	}
	e.mu.Lock()
	e.timeline = knownTimeline{run: r.id, point: point{timeline: id.end.timeline, at: at}}
	e.mu.Unlock()
	return id.end.timeline, nil
}

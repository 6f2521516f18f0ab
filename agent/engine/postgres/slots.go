//go:build linux

package postgres

import (
	"context"
	"fmt"
	"log/slog"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/witnessd/witnessd/agent/engine"
)

// dropOwnSlots removes a mirror's own slots, from its time as a primary: they would keep its log until its
// disk is full.
func (e *Engine) dropOwnSlots(ctx context.Context, r *run) error {
	_, err := e.acting.query(ctx, r, `select pg_drop_replication_slot(slot_name) from pg_replication_slots
		where slot_name like 'witness\_%' and slot_type = 'physical' and not active`)
	if err != nil {
		return fmt.Errorf("drop the slots of a former primary: %w", err)
	}
	return nil
}

// Bounds of what a slot may keep before an operator hears of it.
const (
	slotShare     = 0.8     // of max_slot_wal_keep_size
	slotUnbounded = 8 << 30 // bytes, where there is no bound: what the agent's own would be
	slotDisk      = 0.25    // of the log's disk, where there is no bound
)

// slotWarning says what is wrong with the slot that keeps a primary's log for its mirror; "" if nothing is.
func (e *Engine) slotWarning(ctx context.Context, _ *run, ask asker) string {
	s, err := e.slotState(ctx, ask)
	if err != nil {
		e.log.DebugContext(ctx, "slot not looked at", slog.Any("error", err))
	}
	return s.warning()
}

func (e *Engine) slotState(ctx context.Context, ask asker) (slotState, error) {
	rows, err := ask(ctx, `select slot_name, coalesce(wal_status, ''), active,
			coalesce(pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn), 0)::bigint,
			(select setting from pg_settings where name = 'max_slot_wal_keep_size')
		from pg_replication_slots
		where slot_name like 'witness\_%' and slot_type = 'physical' and not pg_is_in_recovery()
		order by slot_name limit 1`)
	if err != nil || len(rows) == 0 {
		return slotState{}, err
	}
	row := rows[0]
	held, err := strconv.ParseInt(row.text(3), 10, 64)
	if err != nil {
		return slotState{}, fmt.Errorf("what the slot holds: %w", err)
	}
	megabytes, err := strconv.ParseInt(row.text(4), 10, 64)
	if err != nil {
		return slotState{}, fmt.Errorf("max_slot_wal_keep_size: %w", err)
	}
	s := slotState{
		name: row.text(0), status: row.text(1), active: row.true(2), held: held, bound: megabytes << 20,
	}
	var disk unix.Statfs_t
	if err := unix.Statfs(e.path("pg_wal"), &disk); err == nil {
		s.disk, s.free = int64(disk.Blocks)*disk.Frsize, int64(disk.Bavail)*disk.Frsize
	}
	return s, nil
}

// slotState is what a primary's slot keeps for the mirror; without a name there is none.
type slotState struct {
	name   string
	status string // reserved, extended, unreserved, lost
	active bool
	held   int64 // bytes of log
	bound  int64 // bytes; negative: none
	disk   int64 // size of the log's disk in bytes; 0: not known
	free   int64
}

func (s slotState) warning() string {
	who := "which is away"
	if s.active {
		who = "which is attached and behind"
	}
	switch {
	case s.name == "":
		return ""
	case s.status == "lost":
		return fmt.Sprintf("slot %s has lost the mirror's place in the log, because it kept more than "+
			"max_slot_wal_keep_size%s: the mirror is cloned anew when it comes back", s.name, s.boundText())
	case s.status == "unreserved":
		return fmt.Sprintf("slot %s keeps %s of log for the mirror, %s, and is beyond its bound%s: the log goes at "+
			"one of the next checkpoints, and the mirror is then cloned anew", s.name, engine.Bytes(s.held), who,
			s.boundText())
	case s.bound < 0:
		text := "max_slot_wal_keep_size is -1, so a mirror that stays away fills this primary's disk; set it in " +
			"postgresql.conf (8GB if in doubt) and reload"
		if s.held > slotUnbounded || s.disk > 0 && float64(s.held) > slotDisk*float64(s.disk) {
			text = fmt.Sprintf("slot %s keeps %s of log for the mirror, %s; %s are free on the disk. ", s.name,
				engine.Bytes(s.held), who, engine.Bytes(s.free)) + text
		}
		return text
	case float64(s.held) > slotShare*float64(s.bound):
		return fmt.Sprintf("slot %s keeps %s of log for the mirror, %s: %.0f %% of max_slot_wal_keep_size%s; beyond it "+
			"the mirror has to be cloned anew", s.name, engine.Bytes(s.held), who,
			100*float64(s.held)/float64(max(1, s.bound)), s.boundText())
	default:
		return ""
	}
}

func (s slotState) boundText() string {
	if s.bound < 0 {
		return ""
	}
	return " (" + engine.Bytes(s.bound) + ")"
}

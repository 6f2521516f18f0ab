//go:build linux

package postgres

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/witnessd/witnessd/agent/engine"
)

// identity is a server's answer to IDENTIFY_SYSTEM.
type identity struct {
	systemID string
	// end is what the server has on disk: written, or as a copy received and replayed.
	end point
	// copy is true for a server that is in recovery.
	copy bool
}

// command runs one replication command and returns its first row, of at least so many columns.
func command(ctx context.Context, conn *pgconn.PgConn, sql string, columns int) (values, error) {
	results, err := conn.Exec(ctx, sql).ReadAll()
	switch {
	case err != nil:
		return nil, err
	case columns == 0:
		return nil, nil
	case len(results) == 0 || len(results[0].Rows) == 0 || len(results[0].Rows[0]) < columns:
		return nil, fmt.Errorf("the answer to %s has less than %d columns", sql, columns)
	}
	return results[0].Rows[0], nil
}

func identify(ctx context.Context, conn *pgconn.PgConn) (identity, error) {
	row, err := command(ctx, conn, "IDENTIFY_SYSTEM", 3)
	if err != nil {
		return identity{}, fmt.Errorf("identify the server: %w", err)
	}
	timeline, err := strconv.ParseUint(row.text(1), 10, 32)
	if err != nil {
		return identity{}, fmt.Errorf("identify the server: timeline: %w", err)
	}
	at, err := parseLSN(row.text(2))
	if err != nil {
		return identity{}, fmt.Errorf("identify the server: %w", err)
	}
	return identity{
		systemID: row.text(0),
		end:      point{timeline: uint32(timeline), at: at},
		copy:     conn.ParameterStatus("in_hot_standby") == "on",
	}, nil
}

// identifySelf asks the instance's own server.
func (e *Engine) identifySelf(ctx context.Context, r *run) (identity, error) {
	conn, err := e.dialLocal(ctx, r, agentName, map[string]string{"replication": "true"})
	if err != nil {
		return identity{}, fmt.Errorf("identify this server (pg_hba.conf must let %s in for replication "+
			"over the socket): %w", e.cfg.Superuser, err)
	}
	defer closeConn(ctx, conn)
	return identify(ctx, conn)
}

// upstream is a primary that this instance may follow, and a connection for replication commands to it.
type upstream struct {
	identity
	conn *pgconn.PgConn
	log  lineage
}

func (u *upstream) close(ctx context.Context) { closeConn(ctx, u.conn) }

// askUpstream connects to the peer's server and learns its history.
func (e *Engine) askUpstream(ctx context.Context, peer engine.Peer) (*upstream, error) {
	conn, err := e.dialPartner(ctx, peer.Address, e.cfg.Database, true)
	if err != nil {
		return nil, err
	}
	u := &upstream{conn: conn}
	if err := u.learn(ctx); err != nil {
		u.close(ctx)
		return nil, fmt.Errorf("ask %s at %s: %w", peer.Host, peer.Address, err)
	}
	switch {
	case peer.SystemID != "" && peer.SystemID != u.systemID:
		err = fmt.Errorf("%w: %s at %s serves database system %s, not the pair's %s; set the partner's "+
			"address right", engine.ErrForeign, peer.Host, peer.Address, u.systemID, peer.SystemID)
	case u.copy:
		err = fmt.Errorf("%s at %s is a copy itself; it can be followed when it has been promoted",
			peer.Host, peer.Address)
	}
	if err != nil {
		u.close(ctx)
		return nil, err
	}
	return u, nil
}

// learn reads the upstream's identity and history. On a primary the timeline comes first: its position is
// only meaningful on it.
func (u *upstream) learn(ctx context.Context) error {
	id, err := identify(ctx, u.conn)
	if err != nil {
		return err
	}
	history := ""
	if id.end.timeline > 1 {
		row, err := command(ctx, u.conn, fmt.Sprintf("TIMELINE_HISTORY %d", id.end.timeline), 2)
		if err != nil {
			return fmt.Errorf("read the history of timeline %d: %w", id.end.timeline, err)
		}
		history = row.text(1)
	}
	u.identity = id
	u.log, err = newLineage(history, id.end)
	return err
}

// PostgreSQL's error codes that mean something to the engine.
const (
	codeDuplicate     = "42710" // duplicate_object
	codeUndefined     = "42704" // undefined_object
	codeInUse         = "55006" // object_in_use
	codeUndefinedFile = "58P01" // undefined_file: a segment of the log is gone
)

func hasCode(err error, code string) bool {
	var refused *pgconn.PgError
	return errors.As(err, &refused) && refused.Code == code
}

// ensureSlot makes the primary keep its log for the mirror from now on. A slot that exceeded
// max_slot_wal_keep_size has lost its place and is made anew.
func (u *upstream) ensureSlot(ctx context.Context, name string) error {
	row, err := command(ctx, u.conn, "READ_REPLICATION_SLOT "+name, 2)
	if err != nil {
		return fmt.Errorf("look at the slot %s: %w", name, err)
	}
	if row[0] != nil && row[1] != nil {
		return nil
	}
	if row[0] != nil {
		if _, err := command(ctx, u.conn, "DROP_REPLICATION_SLOT "+name, 0); err != nil {
			return fmt.Errorf("drop the lost slot %s: %w", name, err)
		}
	}
	_, err = command(ctx, u.conn, "CREATE_REPLICATION_SLOT "+name+" PHYSICAL RESERVE_WAL", 0)
	if err != nil && !hasCode(err, codeDuplicate) {
		return fmt.Errorf("make the slot %s: %w", name, err)
	}
	return nil
}

//go:build linux

package postgres

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// When clients have taken every connection, superusers' own included, the engine comes in by the side: places for
// replication are counted apart from those of clients, and a connection for logical replication takes ordinary
// statements too. Otherwise a restart of the agent, or of the server, in a storm of connections would leave a
// server that nobody governs.

// codeTooMany is PostgreSQL's too_many_connections.
const codeTooMany = "53300"

// sideDoor marks such a connection. It understands the simple protocol only.
const sideDoor = "side door"

func connectBeside(ctx context.Context, cfg *pgconn.Config) (*pgconn.PgConn, error) {
	cfg = cfg.Copy()
	cfg.RuntimeParams["replication"] = "database"
	// What literal makes of a value rests on it.
	cfg.RuntimeParams["standard_conforming_strings"] = "on"
	conn, err := pgconn.ConnectConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("every connection is taken, and none for replication is to be had: %w", err)
	}
	conn.CustomData()[sideDoor] = true
	return conn, nil
}

// queryPlain is query for such a connection.
func queryPlain(ctx context.Context, conn *pgconn.PgConn, sql string, args []string) ([]values, error) {
	var filled []string
	for i := len(args); i > 0; i-- { // $10 before $1: the first that fits is taken
		filled = append(filled, "$"+strconv.Itoa(i), literal(args[i-1]))
	}
	results, err := conn.Exec(ctx, strings.NewReplacer(filled...).Replace(sql)).ReadAll()
	if err != nil {
		return nil, fmt.Errorf("ask the server: %w", err)
	}
	var rows []values
	for _, result := range results {
		for _, row := range result.Rows {
			rows = append(rows, row)
		}
	}
	return rows, nil
}

func literal(value string) string { return "'" + strings.ReplaceAll(value, "'", "''") + "'" }

// crowdWarning says when ordinary clients are turned away.
func (e *Engine) crowdWarning(ctx context.Context, _ *run, ask asker) string {
	rows, err := ask(ctx, `select used, most, used >= most from
		(select count(*) as used from pg_stat_activity where backend_type = 'client backend') a,
		(select current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
			as most) b`)
	if err != nil || !rows[0].true(2) {
		return ""
	}
	return fmt.Sprintf("%s of the %s connections that clients may have are taken; more are refused",
		rows[0].text(0), rows[0].text(1))
}

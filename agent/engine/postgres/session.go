//go:build linux

package postgres

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// Names under which the engine's own connections show in pg_stat_activity and pg_stat_replication. None can
// be a receiver's: those begin with "witness_".
const (
	agentName = "witness-agent"
	probeName = "witness-agent probe"
	cloneName = "witness-agent clone"
)

// session is a kept connection to the instance, over its socket, for one caller at a time.
type session struct {
	engine *Engine
	turn   chan struct{}
	run    string
	conn   *pgconn.PgConn
}

func newSession(e *Engine) *session {
	return &session{engine: e, turn: make(chan struct{}, 1)}
}

// values is one row of an answer, in PostgreSQL's text form; nil is NULL.
type values [][]byte

func (v values) text(i int) string { return string(v[i]) }
func (v values) true(i int) bool   { return string(v[i]) == "t" }

// query runs one statement in run r and returns its rows. A broken connection is replaced once: the server
// drops connections at the end of a recovery conflict, or when somebody terminates them.
func (s *session) query(ctx context.Context, r *run, sql string, args ...string) ([]values, error) {
	select {
	case s.turn <- struct{}{}:
		defer func() { <-s.turn }()
	case <-ctx.Done():
		return nil, fmt.Errorf("wait for the connection to the server: %w", context.Cause(ctx))
	}
	kept := s.conn != nil && s.run == r.id && !s.conn.IsClosed()
	for {
		if !kept {
			s.drop(ctx)
			conn, err := s.engine.dialLocal(ctx, r, agentName, nil)
			if err != nil {
				return nil, err
			}
			s.conn, s.run = conn, r.id
		}
		rows, err := query(ctx, s.conn, sql, args...)
		var refused *pgconn.PgError
		switch {
		case err == nil, errors.As(err, &refused) && refused.Severity == "ERROR":
			return rows, err
		case kept && ctx.Err() == nil:
			kept = false
		default:
			s.drop(ctx)
			return nil, err
		}
	}
}

// drop closes the connection. Its caller has the turn.
func (s *session) drop(ctx context.Context) {
	if s.conn == nil {
		return
	}
	closeConn(ctx, s.conn)
	s.conn = nil
}

// close drops the connection at the engine's end; a caller that hangs keeps it until its own deadline.
func (s *session) close(ctx context.Context) {
	select {
	case s.turn <- struct{}{}:
		s.drop(ctx)
	default:
	}
}

func closeConn(ctx context.Context, conn *pgconn.PgConn) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 100*time.Millisecond)
	defer cancel()
	_ = conn.Close(ctx)
}

// query runs one statement with text parameters.
func query(ctx context.Context, conn *pgconn.PgConn, sql string, args ...string) ([]values, error) {
	if conn.CustomData()[sideDoor] != nil {
		return queryPlain(ctx, conn, sql, args)
	}
	params := make([][]byte, len(args))
	for i, arg := range args {
		params[i] = []byte(arg)
	}
	result := conn.ExecParams(ctx, sql, params, nil, nil, nil).Read()
	if result.Err != nil {
		return nil, fmt.Errorf("ask the server: %w", result.Err)
	}
	rows := make([]values, len(result.Rows))
	for i, row := range result.Rows {
		rows[i] = row
	}
	return rows, nil
}

// dialLocal connects to run r over its socket, at the place that its pid file names: a server that somebody
// else started may be elsewhere than the agent would have put it.
func (e *Engine) dialLocal(
	ctx context.Context, r *run, name string, params map[string]string,
) (*pgconn.PgConn, error) {
	file, err := readPidFile(e.cfg.DataDir)
	if err != nil {
		return nil, err
	}
	if file.pid != r.pid {
		return nil, fmt.Errorf("connect to the server: process %d serves now, not %d", file.pid, r.pid)
	}
	if file.socketDir == "" {
		return nil, errNotReady
	}
	cfg, err := pgconn.ParseConfig(dsn(map[string]string{
		"host": file.socketDir, "port": strconv.Itoa(int(file.port)), "user": e.cfg.Superuser,
		"dbname": e.cfg.Database, "sslmode": "disable",
	}))
	if err != nil {
		return nil, fmt.Errorf("connect to the server: %w", err)
	}
	cfg.DialFunc = e.user.dial
	cfg.RuntimeParams = map[string]string{
		"application_name": name,
		// The engine's own changes never wait for the mirror, but for the probe, which sets it anew.
		"synchronous_commit": "local",
		// Whatever the administrator set for clients must not end or refuse the engine's own work.
		"statement_timeout": "0", "lock_timeout": "0", "idle_session_timeout": "0",
		"default_transaction_read_only": "off", "client_encoding": "UTF8",
	}
	maps.Copy(cfg.RuntimeParams, params)
	conn, err := pgconn.ConnectConfig(ctx, cfg)
	if hasCode(err, codeTooMany) {
		conn, err = connectBeside(ctx, cfg)
	}
	var refused *pgconn.PgError
	if errors.As(err, &refused) && refused.Code == "57P03" { // cannot_connect_now
		return nil, fmt.Errorf("%w: %s", errNotReady, refused.Message)
	}
	if err != nil {
		return nil, fmt.Errorf("connect to the server at %s as %s: %w", file.socketDir, e.cfg.Superuser, err)
	}
	return conn, nil
}

// errNotReady is a server that runs and does not accept connections yet, or does not any more.
var errNotReady = errors.New("the server does not accept connections now")

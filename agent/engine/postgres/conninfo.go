//go:build linux

package postgres

import (
	"context"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// dsn writes a connection string.
func dsn(params map[string]string) string {
	var b strings.Builder
	for _, key := range slices.Sorted(maps.Keys(params)) {
		value := strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(params[key])
		fmt.Fprintf(&b, "%s='%s' ", key, value)
	}
	return strings.TrimSpace(b.String())
}

// partnerParams is how this host reaches the partner's instance.
func (e *Engine) partnerParams(address string) (map[string]string, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("partner's address %q must be host:port: %w", address, err)
	}
	params := map[string]string{
		"host": host, "port": port, "user": e.cfg.ReplicationUser, "connect_timeout": "3",
	}
	if e.cfg.ReplicationPassfile != "" {
		params["passfile"] = e.cfg.ReplicationPassfile
	}
	maps.Copy(params, e.cfg.ReplicationTLS)
	return params, nil
}

// toolConninfo is what pg_basebackup, pg_rewind and the receiver connect with; they use libpq.
func (e *Engine) toolConninfo(address, name string) (map[string]string, error) {
	params, err := e.partnerParams(address)
	if err != nil {
		return nil, err
	}
	maps.Copy(params, map[string]string{
		"application_name": name, "keepalives_idle": "5", "keepalives_interval": "2",
		"keepalives_count": "3", "tcp_user_timeout": "5000",
	})
	return params, nil
}

// receiverConninfo is the mirror's primary_conninfo. The host's address is looked up here and not by the
// receiver: a promotion waits for the receiver to end, and a receiver that asks a dead name server cannot
// be interrupted.
func (e *Engine) receiverConninfo(ctx context.Context, address, receiver string) (string, error) {
	params, err := e.toolConninfo(address, receiver)
	if err != nil {
		return "", err
	}
	if net.ParseIP(params["host"]) == nil {
		found, err := net.DefaultResolver.LookupHost(ctx, params["host"])
		if err != nil {
			return "", fmt.Errorf("look up the partner's address: %w", err)
		}
		slices.Sort(found) // The same answer in another order is no change of upstream.
		params["hostaddr"] = found[0]
	}
	return dsn(params), nil
}

// dialPartner connects to the partner's instance: to a database, or with replication set for replication
// commands.
func (e *Engine) dialPartner(
	ctx context.Context, address, database string, replication bool,
) (*pgconn.PgConn, error) {
	params, err := e.partnerParams(address)
	if err != nil {
		return nil, err
	}
	params["dbname"] = database
	cfg, err := pgconn.ParseConfig(dsn(params))
	if err != nil {
		return nil, fmt.Errorf("connect to the partner's instance: %w", err)
	}
	cfg.RuntimeParams = map[string]string{"application_name": agentName, "client_encoding": "UTF8"}
	if replication {
		cfg.RuntimeParams["replication"] = "true"
	}
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	conn, err := pgconn.ConnectConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("connect to the partner's instance at %s as %s: %w",
			address, e.cfg.ReplicationUser, err)
	}
	return conn, nil
}

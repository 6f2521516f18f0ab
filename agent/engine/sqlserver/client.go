package sqlserver

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"net"
	"time"
)

const (
	// attentionPatience is how long a server that is told to stop a statement may take to say that it has. The driver
	// would wait for five seconds, twice.
	attentionPatience = 50 * time.Millisecond
	// lookPatience and commandPatience bound calls whose caller gave no deadline.
	lookPatience    = 5 * time.Second
	commandPatience = 60 * time.Second
	// idleFor is after how long a connection that nobody uses is closed.
	idleFor = time.Minute
)

// Client sends the statements of this package to one instance. It keeps a few connections: two for looks, one for
// commands, so that a command that takes long does not hold up a look, and two for what may hang for its own reasons
// (diagnostics, probes). Every call ends at its context's deadline, whatever the server does. It is safe for several
// goroutines.
type Client struct {
	address  string
	looks    *sql.DB
	commands *sql.DB
	slow     *sql.DB
}

// NewClient makes a client for the instance at an address, host:port, with the login of a configuration. It connects
// when it is first used.
func NewClient(cfg Config, address string) *Client {
	open := func(most int) *sql.DB {
		db := sql.OpenDB(connector{cfg, address})
		db.SetMaxOpenConns(most)
		db.SetMaxIdleConns(most)
		db.SetConnMaxIdleTime(idleFor)
		return db
	}
	return &Client{address: address, looks: open(2), commands: open(1), slow: open(2)}
}

// Address is where the client connects.
func (c *Client) Address() string { return c.address }

// Close closes all connections.
func (c *Client) Close() error {
	return errors.Join(c.looks.Close(), c.commands.Close(), c.slow.Close())
}

// Exec sends a command and waits for the answer. SQL Server may say yes and fail later: whoever needs the outcome
// looks again.
func (c *Client) Exec(ctx context.Context, s Statement) error {
	return c.exec(ctx, c.commands, commandPatience, s)
}

// Probe writes to a database; it may hang for as long as that database's disk, or mirror, does.
func (c *Client) Probe(ctx context.Context, database string) error {
	return c.exec(ctx, c.slow, commandPatience, WriteProbe(database))
}

func (c *Client) exec(ctx context.Context, db *sql.DB, patience time.Duration, s Statement) error {
	return c.with(ctx, db, patience, s, func(ctx context.Context, one *sql.Conn) error {
		_, err := one.ExecContext(ctx, s.text)
		return err
	})
}

// query runs a look and hands every row to read.
func (c *Client) query(ctx context.Context, s Statement, read func(*sql.Rows) error, args ...any) error {
	return c.queryOn(ctx, c.looks, lookPatience, s, read, args...)
}

func (c *Client) queryOn(
	ctx context.Context, db *sql.DB, patience time.Duration, s Statement, read func(*sql.Rows) error, args ...any,
) error {
	return c.with(ctx, db, patience, s, func(ctx context.Context, one *sql.Conn) error {
		rows, err := one.QueryContext(ctx, s.text, args...)
		if err != nil {
			return err
		}
		for rows.Next() {
			if err := read(rows); err != nil {
				return errors.Join(err, rows.Close())
			}
		}
		return errors.Join(rows.Err(), rows.Close())
	})
}

// with runs do on one connection and cuts that connection when the time is over: the driver's own way to stop a
// statement waits for the server's consent.
func (c *Client) with(
	ctx context.Context, db *sql.DB, patience time.Duration, s Statement,
	do func(context.Context, *sql.Conn) error,
) error {
	ctx, cancel := context.WithTimeout(ctx, remaining(ctx, patience))
	defer cancel()
	one, err := db.Conn(ctx)
	if err != nil {
		return newError(ctx, short(s.text), err)
	}
	defer one.Close()
	var raw net.Conn
	if err := one.Raw(func(below any) error {
		raw = below.(*conn).raw
		return nil
	}); err != nil {
		return newError(ctx, short(s.text), err)
	}
	stop := context.AfterFunc(ctx, func() {
		//nolint:errcheck // it fails only on a closed connection, on which nobody waits
		raw.SetDeadline(soon(attentionPatience))
	})
	err = do(ctx, one)
	if !stop() {
		// Its deadline is set, or about to be: the next user would be cut.
		//nolint:errcheck // this error is how database/sql is told to throw the connection away
		one.Raw(func(any) error { return driver.ErrBadConn })
	}
	return newError(ctx, short(s.text), err)
}

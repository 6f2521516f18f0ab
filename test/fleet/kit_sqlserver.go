package fleet

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	mssql "github.com/microsoft/go-mssqldb"
)

// The login of every fake SQL Server.
const (
	fakeUser     = "sa"
	fakePassword = "fake"
)

// fakeDatabases are those of a pair: enough to be split over two hosts if something is wrong.
var fakeDatabases = []string{"rtcab", "rtcxds", "xds"}

// sqlserverKit is a fake SQL Server: a process of agent/engine/sqlserver/sqlservertest/fakesql.
type sqlserverKit struct {
	h        *Host
	engine   string
	endpoint string // host:port of the mirroring endpoint
	control  string
}

func newSQLServerKit(engine string, h *Host) (*sqlserverKit, error) {
	if h.space != nil {
		at := net.JoinHostPort(h.space.address.String(), "5022")
		return &sqlserverKit{h: h, engine: engine, endpoint: at, control: "127.0.0.1:5023"}, nil
	}
	ports, err := freePorts(2)
	if err != nil {
		return nil, err
	}
	return &sqlserverKit{h: h, engine: engine, endpoint: ports[0], control: ports[1]}, nil
}

func (k *sqlserverKit) data() string     { return filepath.Join(k.h.dir, "data") }
func (k *sqlserverKit) password() string { return filepath.Join(k.h.dir, "password") }

// command starts the instance; the agent is given the same.
func (k *sqlserverKit) command() []string {
	return []string{filepath.Join(k.h.fleet.bin, "fakesql"), "--dir", k.data(), "--name", k.h.Name,
		"--listen", k.h.Database, "--endpoint", k.endpoint, "--control", k.control, "--ping", "200ms",
		"--login", fakeUser + ":" + fakePassword}
}

// initialize does nothing: a session of two instances is made by together.
func (k *sqlserverKit) initialize(context.Context) error { return nil }

func (k *sqlserverKit) section() string {
	var quoted []string
	for _, word := range k.command() {
		quoted = append(quoted, fmt.Sprintf("%q", word))
	}
	text := fmt.Sprintf("    engine: %s\n    sqlserver:\n      listen: %s\n      user: %s\n      password_file: %s\n"+
		"      encrypt: disable\n", k.engine, k.h.Database, fakeUser, k.password())
	if k.engine == "sqlserver-ag" {
		text += "      group: " + groupName + "\n"
	} else {
		text += fmt.Sprintf("      databases: [%s]\n      sets: {User: [rtcab, rtcxds], CMS: [xds]}\n",
			strings.Join(fakeDatabases, ", "))
	}
	return text + fmt.Sprintf("      service:\n        command: [%s]\n        output: %s\n", strings.Join(quoted, ", "),
		filepath.Join(k.h.dir, "log"))
}

// groupName is the availability group of every pair.
const groupName = "pool"

func (k *sqlserverKit) pid() (int, error) {
	for _, pid := range below(k.h.dir) {
		exe, _ := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
		if filepath.Base(exe) == "fakesql" {
			return pid, nil
		}
	}
	return 0, errors.New("no fakesql process")
}

// together starts both instances and makes a session of them, as an administrator has before the agents come.
func (k *sqlserverKit) together(ctx context.Context, mirror engineKit) error {
	m, ok := mirror.(*sqlserverKit)
	if !ok {
		return fmt.Errorf("partner is a %T", mirror)
	}
	for _, one := range []*sqlserverKit{k, m} {
		if err := os.WriteFile(one.password(), []byte(fakePassword+"\n"), 0o600); err != nil {
			return err
		}
		command := one.command()
		p, err := start(program{
			space: one.h.space, log: filepath.Join(one.h.dir, "log"), path: command[0], args: command[1:],
		})
		if err != nil {
			return err
		}
		one.h.fleet.beside(p)
		if err := one.answers(ctx); err != nil {
			return err
		}
	}
	if k.engine == "sqlserver-ag" {
		return k.groupWith(ctx, m)
	}
	return k.mirrorTo(ctx, m)
}

func (k *sqlserverKit) mirrorTo(ctx context.Context, m *sqlserverKit) error {
	for _, name := range fakeDatabases {
		if err := k.exec(ctx, fmt.Sprintf("CREATE DATABASE [%s]", name)); err != nil {
			return err
		}
		for _, at := range []struct{ here, there *sqlserverKit }{{m, k}, {k, m}} {
			set := fmt.Sprintf("ALTER DATABASE [%s] SET PARTNER = N'TCP://%s'", name, at.there.endpoint)
			if err := at.here.exec(ctx, set); err != nil {
				return err
			}
		}
		timeout := fmt.Sprintf("ALTER DATABASE [%s] SET PARTNER TIMEOUT 10", name)
		if err := k.exec(ctx, timeout); err != nil {
			return err
		}
	}
	return nil
}

func (k *sqlserverKit) groupWith(ctx context.Context, m *sqlserverKit) error {
	for _, name := range fakeDatabases {
		if err := k.exec(ctx, fmt.Sprintf("CREATE DATABASE [%s]", name)); err != nil {
			return err
		}
	}
	replica := func(one *sqlserverKit) string {
		return fmt.Sprintf("N'%s' WITH (ENDPOINT_URL = N'TCP://%s', AVAILABILITY_MODE = SYNCHRONOUS_COMMIT, "+
			"FAILOVER_MODE = EXTERNAL, SEEDING_MODE = AUTOMATIC, SESSION_TIMEOUT = 5)", one.h.Name, one.endpoint)
	}
	create := fmt.Sprintf("CREATE AVAILABILITY GROUP [%s] WITH (CLUSTER_TYPE = EXTERNAL) "+
		"FOR DATABASE [%s] REPLICA ON %s, %s", groupName, strings.Join(fakeDatabases, "], ["), replica(k), replica(m))
	if err := k.exec(ctx, create); err != nil {
		return err
	}
	for _, join := range []string{
		fmt.Sprintf("ALTER AVAILABILITY GROUP [%s] JOIN WITH (CLUSTER_TYPE = EXTERNAL)", groupName),
		fmt.Sprintf("ALTER AVAILABILITY GROUP [%s] GRANT CREATE ANY DATABASE", groupName),
	} {
		if err := m.exec(ctx, join); err != nil {
			return err
		}
	}
	return nil
}

// answers waits until the instance takes logins.
func (k *sqlserverKit) answers(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	for {
		err := k.exec(ctx, "SELECT 1")
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("fake SQL Server of %s: %w", k.h.Name, err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func (k *sqlserverKit) exec(ctx context.Context, statement string) error {
	db, err := k.open("master")
	if err != nil {
		return err
	}
	defer db.Close()
	if _, err := db.ExecContext(ctx, statement); err != nil {
		return fmt.Errorf("%s on %s: %w", statement, k.h.Name, err)
	}
	return nil
}

// open is a client from outside of all hosts.
func (k *sqlserverKit) open(database string) (*sql.DB, error) {
	host, port, err := net.SplitHostPort(k.h.Database)
	if err != nil {
		return nil, err
	}
	connector, err := mssql.NewConnector(fmt.Sprintf("server=%s;port=%s;user id=%s;password=%s;database=%s;"+
		"encrypt=disable;dial timeout=1;app name=fleet", host, port, fakeUser, fakePassword, database))
	if err != nil {
		return nil, err
	}
	connector.Dialer = outsideDialer{k.h.fleet.outside}
	return sql.OpenDB(connector), nil
}

// outsideDialer connects from where clients are that live on no host.
type outsideDialer struct{ space *namespace }

func (d outsideDialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	return d.space.dial(ctx, network, address)
}

func (k *sqlserverKit) connect(ctx context.Context) (conn, error) {
	c := &sqlserverConn{}
	for _, name := range fakeDatabases {
		db, err := k.open(name)
		if err != nil {
			c.close()
			return nil, err
		}
		db.SetMaxOpenConns(1)
		c.databases = append(c.databases, db)
	}
	if err := c.databases[0].PingContext(ctx); err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

// sqlserverConn is a client with a connection to each database of the pair. It writes to them in turn.
type sqlserverConn struct {
	databases []*sql.DB
	made      [3]bool
}

func (c *sqlserverConn) write(ctx context.Context, row int64) error {
	i := int(row) % len(c.databases)
	if !c.made[i] {
		_, err := c.databases[i].ExecContext(ctx, "CREATE TABLE acknowledged (row bigint)")
		if err != nil && !strings.Contains(err.Error(), "already an object") {
			return err
		}
		c.made[i] = true
	}
	_, err := c.databases[i].ExecContext(ctx, fmt.Sprintf("INSERT INTO acknowledged VALUES (%d)", row))
	return err
}

func (c *sqlserverConn) rows(ctx context.Context, _ int64) (map[int64]bool, error) {
	found := map[int64]bool{}
	for _, db := range c.databases {
		if err := rowsOf(ctx, db, found); err != nil {
			return nil, err
		}
	}
	return found, nil
}

func rowsOf(ctx context.Context, db *sql.DB, found map[int64]bool) error {
	rows, err := db.QueryContext(ctx, "SELECT row FROM acknowledged")
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var n int64
		if err := rows.Scan(&n); err != nil {
			return err
		}
		found[n] = true
	}
	return rows.Err()
}

func (c *sqlserverConn) close() {
	for _, db := range c.databases {
		_ = db.Close()
	}
}

// resume is what a person decides after a lost host: what only the lost primary had, if it had anything, is given up.
func (k *sqlserverKit) resume(ctx context.Context) error {
	if k.engine != "sqlserver-mirroring" {
		return nil // a group that was not forced has nothing to give up
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for _, name := range fakeDatabases {
		for {
			err := k.exec(ctx, fmt.Sprintf("ALTER DATABASE [%s] SET PARTNER RESUME", name))
			if err == nil {
				break
			}
			select {
			case <-ctx.Done():
				return err
			case <-time.After(200 * time.Millisecond): // its partner is not back yet
			}
		}
	}
	return nil
}

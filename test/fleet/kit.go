package fleet

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/witnessd/witnessd/agent/engine/demo/kv"
	"github.com/witnessd/witnessd/agent/engine/postgres/postgrestest"
)

// engineKit is what the fleet must know of a kind of database.
type engineKit interface {
	// initialize makes a new database for the host; it leaves nothing running.
	initialize(ctx context.Context) error
	// section is the engine's part of the agent's configuration, indented for an instance.
	section() string
	// pid is the main process.
	pid() (int, error)
	// connect makes a connection of one client to this host's database.
	connect(ctx context.Context) (conn, error)
}

// togetherKit is of a kind of database whose copies an administrator has to introduce to each other.
type togetherKit interface {
	together(ctx context.Context, mirror engineKit) error
}

// resumeKit is of a kind of database where a person decides what becomes of a lost primary's copy.
type resumeKit interface {
	resume(ctx context.Context) error
}

// Resume does on a new primary what its administrator does when the old one's host is back. Most databases need nobody.
func (h *Host) Resume(ctx context.Context) error {
	if k, ok := h.engine.(resumeKit); ok {
		return k.resume(ctx)
	}
	return nil
}

// MirrorsReadable says whether a client can look at the rows of a mirror.
func (f *Fleet) MirrorsReadable() bool { return !f.opts.sqlServer() }

// conn is a client's connection to one host's database, primary or not.
type conn interface {
	// write stores the row and returns nil only if the database acknowledged it.
	write(ctx context.Context, row int64) error
	// rows returns every row that is there, of those numbered up to newest.
	rows(ctx context.Context, newest int64) (map[int64]bool, error)
	close()
}

func newKit(engine string, h *Host) (engineKit, error) {
	switch engine {
	case "demo":
		return &demoKit{h: h}, nil
	case "postgres":
		bin, err := postgrestest.Binaries()
		if err != nil {
			return nil, err
		}
		k := &postgresKit{h: h, bin: bin, own: bin}
		if h.clock != nil {
			k.own = filepath.Join(h.dir, "programs")
			err = h.clock.steppedPrograms(k.own, bin, h.fleet.clockLibrary)
		}
		return k, err
	case "sqlserver-mirroring", "sqlserver-ag":
		return newSQLServerKit(engine, h)
	default:
		return nil, fmt.Errorf("engine %q must be demo, postgres, sqlserver-mirroring or sqlserver-ag", engine)
	}
}

type demoKit struct{ h *Host }

func (k *demoKit) data() string { return filepath.Join(k.h.dir, "data") }

func (k *demoKit) initialize(ctx context.Context) error {
	cmd := exec.CommandContext(ctx, filepath.Join(k.h.fleet.bin, "demodb"), "init", "--dir", k.data())
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

func (k *demoKit) section() string {
	return fmt.Sprintf("    engine: demo\n    demo:\n      data_dir: %s\n      listen: %s\n", k.data(), k.h.Database)
}

func (k *demoKit) pid() (int, error) {
	for _, pid := range below(k.h.dir) {
		exe, _ := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
		if filepath.Base(exe) == "demodb" {
			return pid, nil
		}
	}
	return 0, errors.New("no demodb process")
}

func (k *demoKit) connect(context.Context) (conn, error) {
	return &demoConn{address: k.h.Database, client: &kv.Client{Addresses: []string{k.h.Database}, Any: true}}, nil
}

type demoConn struct {
	address string
	client  *kv.Client
}

// rowsPerShard keeps a scan of one prefix below what the server shows at most.
const rowsPerShard = 5000

func shard(n int64) string { return fmt.Sprintf("row-%d-", n) }

func (c *demoConn) write(ctx context.Context, row int64) error {
	return c.client.Set(ctx, fmt.Sprintf("%s%d", shard(row/rowsPerShard), row), "x")
}

func (c *demoConn) close() { _ = c.client.Close() }

// rows asks with the line protocol itself: the client has no use for a scan otherwise.
func (c *demoConn) rows(ctx context.Context, newest int64) (map[int64]bool, error) {
	var d net.Dialer
	s, err := d.DialContext(ctx, "tcp", c.address)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	if deadline, ok := ctx.Deadline(); ok {
		_ = s.SetDeadline(deadline)
	}
	found, lines := map[int64]bool{}, bufio.NewScanner(s)
	for n := int64(0); n <= newest/rowsPerShard; n++ {
		if _, err := fmt.Fprintf(s, "SCAN %s %d\n", shard(n), 2*rowsPerShard); err != nil {
			return nil, err
		}
		if err := scanShard(lines, shard(n), found); err != nil {
			return nil, err
		}
	}
	return found, nil
}

func scanShard(lines *bufio.Scanner, prefix string, found map[int64]bool) error {
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		switch {
		case len(fields) > 0 && fields[0] == "END":
			return nil
		case len(fields) > 1 && fields[0] == "KEY":
			n, err := strconv.ParseInt(strings.TrimPrefix(fields[1], prefix), 10, 64)
			if err != nil {
				return err
			}
			found[n] = true
		default:
			return fmt.Errorf("scan: unexpected answer %q", lines.Text())
		}
	}
	return errors.New("scan ended early")
}

type postgresKit struct {
	h   *Host
	bin string // PostgreSQL's programs
	own string // the same for the host's agent, with the host's clock if it has one
}

func (k *postgresKit) data() string { return filepath.Join(k.h.data(), "data") }

func (k *postgresKit) initialize(ctx context.Context) error {
	if err := k.directories(); err != nil {
		return err
	}
	if err := postgrestest.InitPrimary(ctx, k.options()); err != nil {
		return err
	}
	if k.h.space == nil {
		return nil
	}
	// The mirror's database is a clone and has the same file.
	rules, err := os.OpenFile(filepath.Join(k.data(), "pg_hba.conf"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(rules, "host all all %s trust\nhost replication all %s trust\n", laboratory, laboratory)
	return errors.Join(err, rules.Close())
}

// options are those of a database that is made new. On a small disk its log is small too, in small files of which none
// is used again: a full disk is felt when the next one is to be made, and else would not be for as long as the mirror
// keeps up.
func (k *postgresKit) options() postgrestest.Options {
	o := postgrestest.Options{BinDir: k.bin, DataDir: k.data()}
	room := k.h.fleet.opts.DiskMB
	if wal := k.h.fleet.opts.WalMB; wal > 0 {
		room = wal
		o.InitArgs = append(o.InitArgs, "--waldir="+filepath.Join(k.h.log(), "pg_wal"))
	}
	if room > 0 {
		o.InitArgs = append(o.InitArgs, "--wal-segsize=1")
		o.Settings = map[string]string{"min_wal_size": "4MB", "max_wal_size": fmt.Sprintf("%dMB", max(8, room/4)),
			"wal_recycle": "off"}
	}
	return o
}

// directories makes what the database's user must be able to write to.
func (k *postgresKit) directories() error {
	for _, dir := range []string{k.h.data(), k.h.log(), k.socketDir()} {
		if err := postgrestest.OwnDir(dir, postgrestest.OSUser()); err != nil {
			return err
		}
	}
	return nil
}

func (k *postgresKit) socketDir() string { return filepath.Join(k.h.dir, "s") }

func (k *postgresKit) section() string {
	// The mirror's directories are made here because only it is never initialized.
	_ = k.directories()
	listen := k.h.Database
	if k.h.space != nil {
		listen = "0.0.0.0:5432" // 127.0.0.1 too, as many a real server does
	}
	return fmt.Sprintf("    engine: postgres\n    postgres:\n      bin_dir: %s\n      data_dir: %s\n"+
		"      listen: %s\n      advertise: %s\n      socket_dir: %s\n      os_user: %s\n",
		k.own, k.data(), listen, k.h.Database, k.socketDir(), postgrestest.OSUser())
}

func (k *postgresKit) pid() (int, error) {
	raw, err := os.ReadFile(filepath.Join(k.data(), "postmaster.pid"))
	if err != nil {
		return 0, err
	}
	first, _, _ := strings.Cut(string(raw), "\n")
	return strconv.Atoi(strings.TrimSpace(first))
}

func (k *postgresKit) connect(ctx context.Context) (conn, error) {
	ctx, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
	defer cancel()
	c, err := dialPostgres(ctx, k.h.fleet.outside, k.h.Database)
	if err != nil {
		return nil, err
	}
	return &postgresConn{c: c}, nil
}

// dialPostgres connects from inside a namespace.
func dialPostgres(ctx context.Context, from *namespace, addresses ...string) (*pgconn.PgConn, error) {
	config, err := postgresConfig(from, addresses...)
	if err != nil {
		return nil, err
	}
	return pgconn.ConnectConfig(ctx, config)
}

func postgresConfig(from *namespace, addresses ...string) (*pgconn.Config, error) {
	var hosts, ports []string
	for _, a := range addresses {
		host, port, err := net.SplitHostPort(a)
		if err != nil {
			return nil, err
		}
		hosts, ports = append(hosts, host), append(ports, port)
	}
	config, err := pgconn.ParseConfig(fmt.Sprintf("host=%s port=%s user=postgres dbname=postgres sslmode=disable",
		strings.Join(hosts, ","), strings.Join(ports, ",")))
	if err != nil {
		return nil, err
	}
	config.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
		ctx, cancel := context.WithTimeout(ctx, dialTimeout)
		defer cancel()
		return from.dial(ctx, network, address)
	}
	return config, nil
}

type postgresConn struct {
	c    *pgconn.PgConn
	made bool
}

func (c *postgresConn) exec(ctx context.Context, sql string) ([]*pgconn.Result, error) {
	return c.c.Exec(ctx, sql).ReadAll()
}

func (c *postgresConn) write(ctx context.Context, row int64) error {
	if !c.made {
		// Asked first, because a mirror refuses "create" also when there is nothing to create.
		found, err := c.exec(ctx, "select to_regclass('acknowledged') is not null")
		if err != nil {
			return err
		}
		if string(found[0].Rows[0][0]) != "t" {
			if _, err := c.exec(ctx, "create table if not exists acknowledged (row bigint primary key)"); err != nil {
				return err
			}
		}
		c.made = true
	}
	_, err := c.exec(ctx, fmt.Sprintf("insert into acknowledged values (%d)", row))
	return err
}

func (c *postgresConn) rows(ctx context.Context, _ int64) (map[int64]bool, error) {
	results, err := c.exec(ctx, "select row from acknowledged")
	if err != nil {
		return nil, err
	}
	found := map[int64]bool{}
	for _, r := range results[0].Rows {
		n, err := strconv.ParseInt(string(r[0]), 10, 64)
		if err != nil {
			return nil, err
		}
		found[n] = true
	}
	return found, nil
}

func (c *postgresConn) close() {
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	_ = c.c.Close(ctx)
}

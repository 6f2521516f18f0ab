//go:build linux

package postgres

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/sys/unix"

	"github.com/witnessd/witnessd/agent/engine"
	"github.com/witnessd/witnessd/agent/engine/postgres/postgrestest"
)

// templates are data directories made once for all tests: initdb takes longer than most tests.
var templates struct {
	sync.Mutex
	dir  string
	made map[string]string
}

func TestMain(m *testing.M) {
	code := m.Run()
	if templates.dir != "" {
		_ = os.RemoveAll(templates.dir)
	}
	os.Exit(code)
}

// template makes the data directory of a database; each name is another database system.
func template(t *testing.T, name string) string {
	t.Helper()
	postgrestest.Require(t)
	templates.Lock()
	defer templates.Unlock()
	if templates.made == nil {
		dir, err := os.MkdirTemp(scratch(), "pgt") //nolint:usetesting // Outlives the test; in memory.
		check(t, err)
		check(t, os.Chmod(dir, 0o755))
		templates.dir, templates.made = dir, map[string]string{}
	}
	if dir := templates.made[name]; dir != "" {
		return dir
	}
	dir := filepath.Join(templates.dir, name)
	check(t, postgrestest.InitPrimary(t.Context(), postgrestest.Options{
		DataDir: dir,
		// Small segments: every copy of the directory has two of them.
		InitArgs: []string{"--wal-segsize=1"},
		// A killed server leaves nothing in /dev/shm when its directory is deleted.
		Settings: map[string]string{"dynamic_shared_memory_type": "mmap"},
	}))
	templates.made[name] = dir
	return dir
}

// scratch is where data directories are made: in memory if there is room, because a disk takes longer to make
// their thousand files than the tests take.
func scratch() string {
	var fs unix.Statfs_t
	if err := unix.Statfs("/dev/shm", &fs); err == nil && fs.Bavail*uint64(fs.Bsize) > 2<<30 {
		return "/dev/shm"
	}
	return "/tmp"
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// A host is one of a pair's two: an engine, and what a test needs to see behind it.
type host struct {
	*Engine
	t    *testing.T
	cfg  Config
	name string
}

// newHosts makes two hosts: the first with a database that was never started, the second empty.
func newHosts(t *testing.T, change ...func(*Config)) (a, b *host) {
	t.Helper()
	from := template(t, "one")
	base, err := os.MkdirTemp(scratch(), "pg") //nolint:usetesting // Short, for sockets; in memory.
	check(t, err)
	check(t, os.Chmod(base, 0o755))
	t.Cleanup(func() { _ = os.RemoveAll(base) })
	a, b = newHost(t, base, "a", change...), newHost(t, base, "b", change...)
	copyDir(t, from, a.cfg.DataDir)
	return a, b
}

func copyDir(t *testing.T, from, to string) {
	t.Helper()
	check(t, os.RemoveAll(to))
	out, err := exec.CommandContext(t.Context(), "cp", "-a", from, to).CombinedOutput()
	if err != nil {
		t.Fatalf("copy %s: %v: %s", from, err, out)
	}
}

func newHost(t *testing.T, base, name string, change ...func(*Config)) *host {
	t.Helper()
	dir := filepath.Join(base, name)
	check(t, postgrestest.OwnDir(dir, postgrestest.OSUser()))
	check(t, postgrestest.OwnDir(filepath.Join(dir, "data"), postgrestest.OSUser()))
	cfg := Default()
	cfg.DataDir, cfg.SocketDir = filepath.Join(dir, "data"), dir
	cfg.StateFile = filepath.Join(dir, "reached") // Whatever a test does must not look like an older disk.
	cfg.OSUser = postgrestest.OSUser()
	var err error
	cfg.Listen, err = postgrestest.FreeAddress()
	check(t, err)
	for _, f := range change {
		f(&cfg)
	}
	h := &host{t: t, cfg: cfg, name: name}
	h.open()
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("log of %s ends with:\n%s", name, strings.ReplaceAll(h.lastLog(), "; ", "\n"))
		}
		if err := h.kill(context.Background(), time.Second); err != nil {
			t.Errorf("servers of %s left behind: %v", name, err)
		}
		_ = h.Engine.Close()
	})
	return h
}

// open makes the host's engine, as a new start of the agent would.
func (h *host) open() {
	h.t.Helper()
	e, err := New(h.cfg, testLogger(h.t).With("host", h.name))
	check(h.t, err)
	h.Engine = e
}

func testLogger(t *testing.T) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// peer is this host as its partner knows it.
func (h *host) peer() engine.Peer {
	return engine.Peer{Pair: "Sales-DB", Host: h.name, Address: h.Address()}
}

// within bounds a step of a test.
func within(t *testing.T, limit time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	t.Cleanup(cancel)
	return ctx
}

const ample = 20 * time.Second

// serve makes the host the primary.
func (h *host) serve(partner *host) {
	h.t.Helper()
	check(h.t, h.Promote(within(h.t, ample), partner.peer()))
}

// follows makes the host the partner's mirror.
func (h *host) follows(partner *host) {
	h.t.Helper()
	check(h.t, h.Follow(within(h.t, ample), partner.peer(), nil))
}

func (h *host) see() engine.State {
	h.t.Helper()
	state, err := h.Observe(within(h.t, 5*time.Second))
	check(h.t, err)
	return state
}

// until waits for a state.
func (h *host) until(what string, right func(engine.State) bool) engine.State {
	h.t.Helper()
	var last engine.State
	eventually(h.t, h.name+": "+what, func() error {
		state, err := h.Observe(within(h.t, 5*time.Second))
		last = state
		if err == nil && !right(state) {
			err = fmt.Errorf("%+v", state)
		}
		return err
	})
	return last
}

func eventually(t *testing.T, what string, done func() error) {
	t.Helper()
	var err error
	for deadline := time.Now().Add(ample); time.Now().Before(deadline); time.Sleep(2 * time.Millisecond) {
		if err = done(); err == nil {
			return
		}
	}
	t.Fatalf("%s: not within %v: %v", what, ample, err)
}

// A client is a program that uses the database.
type client struct {
	t *testing.T
	*pgconn.PgConn
}

func (h *host) client() *client {
	h.t.Helper()
	c, err := h.connect(within(h.t, 5*time.Second))
	check(h.t, err)
	return c
}

func (h *host) connect(ctx context.Context) (*client, error) {
	address, port, err := net.SplitHostPort(h.cfg.Listen)
	if err != nil {
		return nil, err
	}
	conn, err := pgconn.Connect(ctx, dsn(map[string]string{
		"host": address, "port": port, "user": h.cfg.Superuser, "dbname": "postgres", "sslmode": "disable",
	}))
	if err != nil {
		return nil, err
	}
	h.t.Cleanup(func() { _ = conn.Conn().Close() })
	return &client{h.t, conn}, nil
}

func (c *client) exec(sql string, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	_, err := c.Exec(ctx, sql).ReadAll()
	return err
}

func (c *client) must(sql string) {
	c.t.Helper()
	if err := c.exec(sql, ample); err != nil {
		c.t.Fatalf("%s: %v", sql, err)
	}
}

func (c *client) one(sql string) string {
	c.t.Helper()
	rows, err := query(within(c.t, ample), c.PgConn, sql)
	check(c.t, err)
	return rows[0].text(0)
}

// mustWait commits and sees that it is not acknowledged.
func (h *host) mustWait(sql string) {
	h.t.Helper()
	c := h.client()
	if err := c.exec(sql, 300*time.Millisecond); !errors.Is(err, context.DeadlineExceeded) {
		h.t.Fatalf("%s: %s was not held back: %v", h.name, sql, err)
	}
}

// processes of the host's server.
func (h *host) processes() []process {
	h.t.Helper()
	found, err := serverProcesses(h.Engine.cfg.DataDir)
	check(h.t, err)
	return found.all()
}

// crash kills every process of the host's server, as a lost machine would.
func (h *host) crash() {
	h.t.Helper()
	h.postmaster(unix.SIGKILL)
	check(h.t, h.kill(within(h.t, ample), 0))
}

// postmaster signals the server's first process and returns its pid.
func (h *host) postmaster(signal syscall.Signal) int {
	h.t.Helper()
	file, err := readPidFile(h.Engine.cfg.DataDir)
	check(h.t, err)
	check(h.t, syscall.Kill(file.pid, signal))
	return file.pid
}

// byHand runs pg_ctl as a person would who knows nothing of an agent.
func (h *host) byHand(args ...string) string {
	h.t.Helper()
	cmd := h.command(within(h.t, ample), "pg_ctl", append([]string{"-D", h.Engine.cfg.DataDir}, args...)...)
	cmd.SysProcAttr.Pdeathsig = 0
	cmd.SysProcAttr.Setpgid = false
	// A server that keeps a pipe open would keep this call waiting.
	out, err := os.CreateTemp(h.t.TempDir(), "out")
	check(h.t, err)
	cmd.Stdout, cmd.Stderr = out, out
	err = cmd.Run()
	text, _ := os.ReadFile(out.Name())
	if err != nil {
		h.t.Fatalf("pg_ctl %v: %v: %s", args, err, text)
	}
	return string(text)
}

// handOptions are what a start by hand needs in a test, where postgresql.conf has the default port.
func (h *host) handOptions() string {
	_, port, _ := net.SplitHostPort(h.cfg.Listen)
	return "-c port=" + port + " -c listen_addresses=127.0.0.1 -c unix_socket_directories=" + h.cfg.SocketDir
}

func (h *host) kept() []string {
	found, err := filepath.Glob(h.cfg.DataDir + divergedInfix + "*")
	check(h.t, err)
	return found
}

func number(t *testing.T, s string) int {
	t.Helper()
	n, err := strconv.Atoi(s)
	check(t, err)
	return n
}

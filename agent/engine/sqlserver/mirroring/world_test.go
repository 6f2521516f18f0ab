package mirroring

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/witnessd/witnessd/agent/engine"
	"github.com/witnessd/witnessd/agent/engine/sqlserver"
	"github.com/witnessd/witnessd/agent/engine/sqlserver/service"
	"github.com/witnessd/witnessd/agent/engine/sqlserver/sqlservertest"
)

const (
	// ping and second make the fake instances ten times as quick as SQL Server: PARTNER TIMEOUT is one second.
	ping   = 50 * time.Millisecond
	second = 100 * time.Millisecond
	// lease is what the tests' agents speak of.
	lease = 3 * time.Second
)

// host is an instance and the engine that drives it.
type host struct {
	name     string
	instance *sqlservertest.Instance
	service  *inProcess
	cfg      sqlserver.Config
	engine   *Engine
	partner  *host

	stop  context.CancelFunc
	looks sync.WaitGroup
	mu    sync.Mutex
	seen  engine.State
	err   error
}

// inProcess is the operating system's hold on an instance that runs in the test's own process.
type inProcess struct {
	t        *testing.T
	instance *sqlservertest.Instance
	exits    chan engine.Exit
	starting func() // called within Start, before the instance starts

	mu      sync.Mutex
	runs    int
	running bool
	kills   int
	gate    string
}

func (p *inProcess) Look(context.Context) (service.Process, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return service.Process{PID: 1, Run: fmt.Sprintf("run-%d", p.runs), Running: p.running}, nil
}

func (p *inProcess) Start(context.Context) error {
	if p.starting != nil {
		p.starting()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.running {
		p.instance.Restart(p.t)
		p.runs++
		p.running = true
	}
	return nil
}

func (p *inProcess) Stop(context.Context) error {
	p.end()
	return nil
}

func (p *inProcess) Kill(context.Context) error {
	p.mu.Lock()
	p.kills++
	p.mu.Unlock()
	p.end()
	return nil
}

func (p *inProcess) end() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	ran := p.running
	p.running = false
	p.instance.Crash()
	return ran
}

func (p *inProcess) killed() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.kills
}

func (p *inProcess) Exits() <-chan engine.Exit { return p.exits }

func (p *inProcess) RestartGate(context.Context) (string, error) { return p.gate, nil }

func (p *inProcess) Close() error { return nil }

// crash is the instance's own end, which nobody asked for.
func (p *inProcess) crash() {
	run, _ := p.Look(context.Background())
	if p.end() {
		p.exits <- engine.Exit{Run: run.Run, Reason: "killed"}
	}
}

// newHost starts an instance and its engine.
func newHost(t *testing.T, name string, options sqlservertest.Options) *host {
	t.Helper()
	t.Setenv("FAKE_PASSWORD", "fake")
	options.Name, options.Ping, options.Second = name, ping, second
	h := &host{name: name, instance: sqlservertest.Start(t, options)}
	h.service = &inProcess{
		t: t, instance: h.instance, exits: make(chan engine.Exit, 8), running: true, runs: 1,
	}
	h.cfg = sqlserver.Default()
	h.cfg.Listen, h.cfg.User, h.cfg.PasswordEnv = h.instance.Address(), "sa", "FAKE_PASSWORD"
	h.cfg.Encrypt, h.cfg.StateFile = "disable", filepath.Join(t.TempDir(), name+".sqlserver")
	h.cfg.Target.Recovery = 10 * time.Second
	return h
}

// run starts the engine and looks at the instance all the time, as an agent does.
func (h *host) run(t *testing.T) {
	t.Helper()
	level := slog.LevelWarn
	if testing.Verbose() {
		level = slog.LevelInfo
	}
	logger := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: level})).With("host", h.name)
	e, err := open(h.cfg, h.service, logger)
	if err != nil {
		t.Fatal(err)
	}
	e.settle = 500 * time.Millisecond
	h.engine = e
	h.seen, h.err = engine.State{}, errors.New("no look yet")
	ctx, stop := context.WithCancel(t.Context())
	h.stop = stop
	h.looks.Go(func() {
		for pause(ctx, 20*time.Millisecond) == nil {
			look, cancel := context.WithTimeout(ctx, time.Second)
			st, err := e.Observe(look)
			cancel()
			h.mu.Lock()
			h.seen, h.err = st, err
			h.mu.Unlock()
		}
	})
}

// end ends the engine, and not the instance: the agent was stopped, or has died.
func (h *host) end(t *testing.T) {
	t.Helper()
	if h.engine == nil {
		return
	}
	h.stop()
	h.looks.Wait()
	if err := h.engine.Close(); err != nil {
		t.Error(err)
	}
	h.engine = nil
}

// pair starts two hosts with mirrored databases, the first principal, and their engines.
func pair(t *testing.T, databases ...string) (a, b *host) {
	t.Helper()
	a, b = hosts(t)
	sqlservertest.Mirror(t, databases, a.instance, b.instance, nil, 0)
	a.cfg.Databases, b.cfg.Databases = databases, databases
	a.run(t)
	b.run(t)
	return a, b
}

// hosts starts two hosts, with nothing mirrored and no engines.
func hosts(t *testing.T) (a, b *host) {
	t.Helper()
	a, b = newHost(t, "a", sqlservertest.Options{}), newHost(t, "b", sqlservertest.Options{})
	a.partner, b.partner = b, a
	t.Cleanup(func() {
		a.end(t)
		b.end(t)
	})
	return a, b
}

// armed starts a pair and brings it to where commits are held.
func armed(t *testing.T, databases ...string) (a, b *host) {
	t.Helper()
	a, b = pair(t, databases...)
	a.must(t, "promote")
	b.must(t, "follow")
	a.must(t, "hold")
	a.until(t, "holds commits", func(s engine.State) bool { return s.Commits == engine.CommitsHeld })
	b.until(t, "can be promoted", func(s engine.State) bool { return s.Promotable && s.Following })
	return a, b
}

// peer is how the host's agent speaks of the other one.
func (h *host) peer() engine.Peer {
	return engine.Peer{Pair: "lync", Host: h.partner.name, Address: h.partner.instance.Address(), Lease: lease}
}

// do has the engine do one thing.
func (h *host) do(t *testing.T, what string) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	switch what {
	case "promote":
		return h.engine.Promote(ctx, h.peer())
	case "follow":
		return h.engine.Follow(ctx, h.peer(), nil)
	case "hold":
		return h.engine.HoldCommits(ctx, h.peer())
	case "release":
		return h.engine.ReleaseCommits(ctx)
	case "hand over":
		got, err := h.engine.HandOver(ctx, h.peer())
		if err == nil && !got.MirrorHasEverything {
			err = errors.New("handed over, and the mirror has not everything")
		}
		return err
	case "stop":
		return h.engine.Stop(ctx)
	case "fence":
		return h.engine.Fence(ctx)
	case "let go":
		return h.engine.LetGo(ctx)
	default:
		t.Fatalf("do %q", what)
		return nil
	}
}

func (h *host) must(t *testing.T, what string) {
	t.Helper()
	if err := h.do(t, what); err != nil {
		t.Fatalf("%s: %v", h.name, err)
	}
}

// refuses has the engine do one thing, which must fail and say certain things.
func (h *host) refuses(t *testing.T, what string, want ...string) {
	t.Helper()
	err := h.do(t, what)
	if err == nil {
		t.Fatalf("%s: %s has succeeded", h.name, what)
	}
	for _, w := range want {
		if !strings.Contains(err.Error(), w) {
			t.Fatalf("%s: %s says %q, want %q in it", h.name, what, err, w)
		}
	}
}

// state is a fresh look.
func (h *host) state(t *testing.T) engine.State {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	s, err := h.engine.Observe(ctx)
	if err != nil {
		t.Fatalf("%s: %v", h.name, err)
	}
	return s
}

// until waits until a look shows something.
func (h *host) until(t *testing.T, what string, is func(engine.State) bool) engine.State {
	t.Helper()
	var last engine.State
	sqlservertest.Eventually(t, h.name+" "+what, func() (bool, string) {
		h.mu.Lock()
		defer h.mu.Unlock()
		last = h.seen
		return h.err == nil && is(h.seen), fmt.Sprintf("%+v %v", h.seen, h.err)
	})
	return last
}

// roles are the roles and states of the databases, as the instance has them: "a P SYNCHRONIZED, b M SYNCHRONIZED".
func (h *host) roles() string {
	var list []string
	for _, m := range h.instance.Model().Mirroring() {
		if m.GUID != "" {
			list = append(list, fmt.Sprintf("%s %.1s %s", m.Database, m.RoleDesc, m.Desc))
		}
	}
	slices.Sort(list)
	return strings.Join(list, ", ")
}

// becomes waits for roles.
func (h *host) becomes(t *testing.T, want string) {
	t.Helper()
	sqlservertest.Eventually(t, h.name+" becomes "+want, func() (bool, string) {
		got := h.roles()
		return got == want, got
	})
}

// client writes rows to a database and remembers those that it was told are committed.
type client struct {
	db   *sql.DB
	mu   sync.Mutex
	told []string
	n    int
}

func (h *host) client(t *testing.T, database string) *client {
	t.Helper()
	return &client{db: h.instance.DB(t, database)}
}

// write writes one row; it says whether it was acknowledged.
func (c *client) write(ctx context.Context) error {
	c.mu.Lock()
	c.n++
	value := fmt.Sprintf("row %d", c.n)
	c.mu.Unlock()
	if _, err := c.db.ExecContext(ctx, "INSERT INTO t VALUES (@p1)", value); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.told = append(c.told, value)
	return nil
}

// busy writes until the returned function is called, or the server ends.
func (c *client) busy(t *testing.T) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	var writer sync.WaitGroup
	writer.Go(func() {
		for c.write(ctx) == nil {
		}
	})
	return func() {
		cancel()
		writer.Wait()
	}
}

// written waits until at least n rows were acknowledged.
func (c *client) written(t *testing.T, n int) {
	t.Helper()
	sqlservertest.Eventually(t, "rows are acknowledged", func() (bool, string) {
		c.mu.Lock()
		defer c.mu.Unlock()
		return len(c.told) >= n, fmt.Sprint(len(c.told))
	})
}

// mustHave checks that every acknowledged row is on a host.
func (c *client) mustHave(t *testing.T, on *host, database string) {
	t.Helper()
	rows, err := on.instance.DB(t, database).QueryContext(t.Context(), "SELECT v FROM t")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	there := map[string]bool{}
	for rows.Next() {
		var v string
		if err := rows.Scan(&v); err != nil {
			t.Fatal(err)
		}
		there[v] = true
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, v := range c.told {
		if !there[v] {
			t.Errorf("%s of %d was acknowledged, and %s does not have it", v, len(c.told), on.name)
		}
	}
}

package availability

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

const groupName = "lync"

// process is the service of an instance that lives in this test.
type process struct {
	t        *testing.T
	instance *sqlservertest.Instance
	exits    chan engine.Exit

	mu     sync.Mutex
	run    int
	killed int
}

func (p *process) running() bool {
	select {
	case <-p.instance.Ended():
		return false
	default:
		return true
	}
}

func (p *process) name() string { return fmt.Sprintf("%s-%d", p.instance.Name(), p.run) }

func (p *process) Look(context.Context) (service.Process, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return service.Process{PID: 1, Run: p.name(), Running: p.running()}, nil
}

func (p *process) Start(context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.running() {
		p.run++
		p.instance.Restart(p.t)
	}
	return nil
}

func (p *process) Stop(ctx context.Context) error { return p.Kill(ctx) }

func (p *process) Kill(context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.running() {
		p.killed++
		p.instance.Crash()
	}
	return nil
}

func (p *process) kills() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.killed
}

// crash ends the process as nobody asked for.
func (p *process) crash() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.instance.Crash()
	p.exits <- engine.Exit{Run: p.name(), Reason: "crash"}
}

func (p *process) Exits() <-chan engine.Exit                   { return p.exits }
func (p *process) RestartGate(context.Context) (string, error) { return "", nil }
func (p *process) Close() error                                { return nil }

// host is one data replica with its engine.
type host struct {
	*sqlservertest.Instance
	t       *testing.T
	cfg     sqlserver.Config
	process *process
	engine  *Engine
}

func startHost(t *testing.T, name string) *host {
	t.Helper()
	i := sqlservertest.Start(t, sqlservertest.Options{Name: name, Ping: 20 * time.Millisecond, Second: 100 * time.Millisecond})
	cfg := sqlserver.Default()
	cfg.Listen, cfg.User, cfg.PasswordEnv, cfg.Encrypt = i.Address(), "sa", "FAKE_PASSWORD", "disable"
	cfg.Group, cfg.StateFile = groupName, filepath.Join(t.TempDir(), "state")
	cfg.Target.Recovery = 10 * time.Second
	h := &host{Instance: i, t: t, cfg: cfg, process: &process{t: t, instance: i, exits: make(chan engine.Exit, 1)}}
	t.Cleanup(func() { h.closeAgent() })
	return h
}

// agent starts an engine, as an agent that starts anew does.
func (h *host) agent() {
	h.t.Helper()
	h.closeAgent()
	e, err := open(h.cfg, h.process, slog.New(slog.DiscardHandler))
	if err != nil {
		h.t.Fatal(err)
	}
	e.settle = 200 * time.Millisecond
	h.engine = e
}

func (h *host) closeAgent() {
	if h.engine == nil {
		return
	}
	if err := h.engine.Close(); err != nil {
		h.t.Error(err)
	}
	h.engine = nil
}

func (h *host) observe() engine.State {
	h.t.Helper()
	s, err := h.engine.Observe(h.t.Context())
	if err != nil {
		h.t.Fatal(err)
	}
	return s
}

// until observes until a condition holds.
func (h *host) until(what string, holds func(engine.State) bool) engine.State {
	h.t.Helper()
	var s engine.State
	sqlservertest.Eventually(h.t, h.Name()+": "+what, func() (bool, string) {
		var err error
		s, err = h.engine.Observe(h.t.Context())
		if err != nil {
			return false, err.Error()
		}
		return holds(s), fmt.Sprintf("%+v", s)
	})
	return s
}

func (h *host) peer() engine.Peer {
	return engine.Peer{Host: strings.ToLower(h.Name()), Address: h.Address(), Lease: 3 * time.Second}
}

// write commits a row within a time.
func (h *host) write(database, value string, patience time.Duration) error {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.t.Context(), patience)
	defer cancel()
	db := h.open(database)
	defer db.Close()
	_, err := db.ExecContext(ctx, "INSERT INTO t VALUES (@p1)", value)
	return err
}

func (h *host) open(database string) *sql.DB {
	return h.DB(h.t, database)
}

func (h *host) rows(database string) []string {
	h.t.Helper()
	rows, err := h.open(database).QueryContext(h.t.Context(), "SELECT v FROM t")
	if err != nil {
		h.t.Fatal(err)
	}
	defer rows.Close()
	var all []string
	for rows.Next() {
		var v string
		if err := rows.Scan(&v); err != nil {
			h.t.Fatal(err)
		}
		all = append(all, v)
	}
	if err := rows.Err(); err != nil {
		h.t.Fatal(err)
	}
	return all
}

// pair is a group of two databases on two hosts, perhaps with a third replica that holds no data.
func pair(t *testing.T, configurationOnly bool) (a, b *host) {
	t.Helper()
	t.Setenv("FAKE_PASSWORD", "fake")
	a, b = startHost(t, "SQL1"), startHost(t, "SQL2")
	replicas := []*sqlservertest.Instance{a.Instance, b.Instance}
	if configurationOnly {
		replicas = append(replicas, sqlservertest.Start(t, sqlservertest.Options{
			Name: "SQL3", EndpointRole: "WITNESS", Ping: 20 * time.Millisecond, Second: 100 * time.Millisecond,
		}))
	}
	sqlservertest.Group(t, groupName, []string{"rtcxds", "rtcab"}, replicas...)
	a.agent()
	b.agent()
	b.until("knows that it has everything", func(s engine.State) bool { return s.Promotable && s.Following })
	return a, b
}

// held is a pair whose primary holds commits.
func held(t *testing.T, configurationOnly bool) (a, b *host) {
	t.Helper()
	a, b = pair(t, configurationOnly)
	must(t, a.engine.Promote(t.Context(), b.peer()))
	must(t, a.engine.HoldCommits(t.Context(), b.peer()))
	return a, b
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantError(t *testing.T, err, want error, words string) {
	t.Helper()
	if err == nil || want != nil && !errors.Is(err, want) || !strings.Contains(err.Error(), words) {
		t.Fatalf("got %v; want %v with the words %q", err, want, words)
	}
}

func wantRows(t *testing.T, h *host, database string, want ...string) {
	t.Helper()
	if got := h.rows(database); !slices.Equal(got, want) {
		t.Fatalf("%s has %v in %s, want %v", h.Name(), got, database, want)
	}
}

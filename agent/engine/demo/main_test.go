//go:build linux

package demo

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/witnessd/witnessd/agent/engine"
	"github.com/witnessd/witnessd/agent/engine/demo/kv"
)

// patience is far longer than anything here takes; a test that needs it has failed.
const patience = 10 * time.Second

// program is the demodb that TestMain built.
var program string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "demodb")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		program = filepath.Join(dir, "demodb")
		build := exec.Command("go", "build", "-o", program, "github.com/witnessd/witnessd/cmd/demodb")
		if out, err := build.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "build demodb: %v\n%s", err, out)
			return 1
		}
		return m.Run()
	}())
}

// host is one host of a pair: an engine and what it was made of.
type host struct {
	*Engine
	t   *testing.T
	cfg Config
}

// newHost makes an engine on an empty directory.
func newHost(t *testing.T) *host {
	t.Helper()
	cfg := Default()
	cfg.Program, cfg.DataDir, cfg.Listen = program, t.TempDir(), freeAddress(t)
	h := &host{t: t, cfg: cfg}
	h.open()
	t.Cleanup(h.clear)
	return h
}

// newPrimary makes an engine with a new database, promoted.
func newPrimary(t *testing.T) *host {
	t.Helper()
	h := newHost(t)
	if _, err := kv.Init(h.cfg.DataDir); err != nil {
		t.Fatal(err)
	}
	h.promote()
	return h
}

// newPair makes a primary and a mirror that follows it.
func newPair(t *testing.T) (primary, mirror *host) {
	t.Helper()
	primary, mirror = newPrimary(t), newHost(t)
	mirror.follow(primary)
	return primary, mirror
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func (h *host) open() {
	h.t.Helper()
	var logger *slog.Logger
	if testing.Verbose() {
		logger = slog.New(slog.NewTextHandler(h.t.Output(), nil))
	}
	e, err := New(h.cfg, logger)
	if err != nil {
		h.t.Fatal(err)
	}
	h.Engine = e
}

// clear ends what the test left running.
func (h *host) clear() {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := h.Fence(ctx); err != nil {
		h.t.Error(err)
	}
	if err := h.Close(); err != nil {
		h.t.Error(err)
	}
}

// peer is how the other host of the pair knows this one.
func (h *host) peer() engine.Peer {
	return engine.Peer{Pair: "sales", Host: "other", Address: h.Address()}
}

func (h *host) ctx() context.Context {
	ctx, cancel := context.WithTimeout(h.t.Context(), patience)
	h.t.Cleanup(cancel)
	return ctx
}

func (h *host) must(err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatal(err)
	}
}

func (h *host) promote() {
	h.t.Helper()
	h.must(h.Promote(h.ctx(), engine.Peer{Pair: "sales", Host: "other"}))
}

func (h *host) follow(primary *host) {
	h.t.Helper()
	h.must(h.Follow(h.ctx(), primary.peer(), nil))
}

func (h *host) state() engine.State {
	h.t.Helper()
	s, err := h.Observe(h.ctx())
	h.must(err)
	return s
}

// until observes until the state is as wanted.
func (h *host) until(what string, ok func(engine.State) bool) engine.State {
	h.t.Helper()
	ctx := h.ctx()
	for {
		s, err := h.Observe(ctx)
		if err == nil && ok(s) {
			return s
		}
		select {
		case <-ctx.Done():
			h.t.Fatalf("waiting until %s: %+v %v", what, s, err)
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// pid is the process's, which must run.
func (h *host) pid() int {
	h.t.Helper()
	o, err := kv.FindOwner(h.cfg.DataDir)
	h.must(err)
	if o.PID == 0 {
		h.t.Fatal("demodb does not run")
	}
	return o.PID
}

func (h *host) signal(sig syscall.Signal) {
	h.t.Helper()
	h.must(syscall.Kill(h.pid(), sig))
}

// exit waits for the end of the process.
func (h *host) exit() engine.Exit {
	h.t.Helper()
	select {
	case x := <-h.Exits():
		return x
	case <-time.After(patience):
		h.t.Fatal("no end was told")
		panic("unreachable")
	}
}

// quiet checks that no end was told.
func (h *host) quiet() {
	h.t.Helper()
	select {
	case x := <-h.Exits():
		h.t.Errorf("an end was told that was asked for: %+v", x)
	default:
	}
}

// client connects to the primary among the hosts.
func client(t *testing.T, hosts ...*host) *kv.Client {
	t.Helper()
	var addresses []string
	for _, h := range hosts {
		addresses = append(addresses, h.Address())
	}
	c, err := kv.Dial(hosts[0].ctx(), addresses...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// startByHand runs demodb as a person would.
func startByHand(t *testing.T, cfg Config) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(program, "--dir", cfg.DataDir, "--listen", cfg.Listen)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return cmd
}

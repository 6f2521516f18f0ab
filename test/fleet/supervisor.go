package fleet

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Supervision is what deploy/systemd/witness-agent.service says about an agent.
type Supervision struct {
	// Watchdog is WatchdogSec: an agent that does not say within it that it turns is killed. 0: none.
	Watchdog time.Duration
	// AtEnd are the arguments of ExecStopPost, which is witness-agent too; the configuration's path follows them.
	// nil: none.
	AtEnd []string
}

// AtEnd is the unit's ExecStopPost.
func AtEnd() []string { return []string{"fence", "at-end", "--config"} }

// restartAfter is the unit's RestartSec.
const restartAfter = 100 * time.Millisecond

// supervisor stands in for systemd, of which a test has none: it starts an agent again when it ends
// (Restart=always), kills one that does not feed its watchdog, and runs a command after each end. It is part of
// this program, so it goes on when "every process of a host" is stopped.
type supervisor struct {
	host   *Host
	notify *notifySocket

	mu      sync.Mutex
	agent   *process
	held    bool // an agent that ends stays down
	off     bool // no agent is started any more
	silent  bool // no command is run after the end: the host has lost its power
	atOnce  bool // the next start does not wait: the end was ordered
	started int
	hung    int // killed by the watchdog

	ended chan struct{}
}

// supervise starts the agent and keeps it running.
func supervise(h *Host) (*supervisor, error) {
	s := &supervisor{host: h, ended: make(chan struct{})}
	var err error
	if s.notify, err = listenNotify(filepath.Join(h.dir, "notify")); err != nil {
		return nil, err
	}
	if err := s.start(); err != nil {
		s.notify.close()
		return nil, err
	}
	go s.run()
	return s, nil
}

func (s *supervisor) run() {
	defer close(s.ended)
	defer s.notify.close()
	for {
		s.watch(s.running())
		s.afterEnd()
		if !s.mayStart() {
			return
		}
		if err := s.start(); err != nil {
			s.host.fleet.sayf("supervisor of %s: %v", s.host.Name, err)
			return
		}
	}
}

func (s *supervisor) running() *process {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.agent
}

// start starts the agent as the unit would.
func (s *supervisor) start() error {
	h := s.host
	s.notify.reset()
	p := h.program("run", "--config", h.config)
	p.env = append(p.env, "NOTIFY_SOCKET="+s.notify.path)
	if d := h.Supervision.Watchdog; d > 0 {
		p.env = append(p.env, fmt.Sprintf("WATCHDOG_USEC=%d", d.Microseconds()))
	}
	if h.Supervision.AtEnd != nil {
		p.env = append(p.env, "WITNESS_AGENT_AT_END=1")
	}
	// Nice=-10. A test's machine is a busy one.
	p.before = append([]string{"nice", "-n", "-10"}, p.before...)
	agent, err := start(p)
	if err != nil {
		return fmt.Errorf("start agent of %s: %w", h.Name, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.agent = agent
	s.started++
	return nil
}

// watch returns when the agent has ended, and ends it if it is not fed.
func (s *supervisor) watch(agent *process) {
	limit := s.host.Supervision.Watchdog
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for {
		select {
		case <-agent.done:
			return
		case <-ticker.C:
		}
		if limit > 0 && s.notify.unfed() > limit {
			s.mu.Lock()
			s.hung++
			s.mu.Unlock()
			// WatchdogSignal=SIGKILL: a stopped process acts on no other.
			agent.kill()
			return
		}
	}
}

// afterEnd runs ExecStopPost. What it leaves behind lives on.
func (s *supervisor) afterEnd() {
	s.mu.Lock()
	silent := s.silent
	s.mu.Unlock()
	if silent || s.host.Supervision.AtEnd == nil {
		return
	}
	p, err := start(s.host.program(append(slices.Clone(s.host.Supervision.AtEnd), s.host.config)...))
	if err != nil {
		s.host.fleet.sayf("supervisor of %s: command after the agent's end: %v", s.host.Name, err)
		return
	}
	select {
	case <-p.done:
	case <-time.After(2 * time.Second): // TimeoutStopSec
		p.kill()
		s.host.fleet.sayf("supervisor of %s: command after the agent's end did not end within 2 s", s.host.Name)
		return
	}
	if code := p.cmd.ProcessState.ExitCode(); code != 0 {
		s.host.fleet.sayf("supervisor of %s: command after the agent's end: exit code %d", s.host.Name, code)
	}
}

// mayStart waits until the agent is to be started again, and says whether it ever is.
func (s *supervisor) mayStart() bool {
	s.mu.Lock()
	wait := !s.atOnce
	s.atOnce = false
	s.mu.Unlock()
	if wait {
		time.Sleep(restartAfter)
	}
	for {
		s.mu.Lock()
		held, off := s.held, s.off
		s.mu.Unlock()
		switch {
		case off:
			return false
		case !held:
			return true
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// set changes what the supervisor does with the next end of its agent.
func (s *supervisor) set(change func(*supervisor)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(s)
}

// stop ends the agent in an orderly way, for good.
func (s *supervisor) stop() {
	s.set(func(s *supervisor) { s.off = true })
	s.running().signal(syscall.SIGTERM)
	<-s.ended
}

// notifySocket is where an agent tells its supervisor how it is.
type notifySocket struct {
	path  string
	conn  *net.UnixConn
	ready atomic.Bool
	fed   atomic.Pointer[time.Time] // nil: never yet
}

func listenNotify(path string) (*notifySocket, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("listen for an agent's notices: %w", err)
	}
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return nil, fmt.Errorf("listen for an agent's notices: %w", err)
	}
	n := &notifySocket{path: path, conn: conn}
	go n.read()
	return n, nil
}

func (n *notifySocket) read() {
	buffer := make([]byte, 4096)
	for {
		size, _, err := n.conn.ReadFromUnix(buffer)
		if err != nil {
			return
		}
		now := time.Now()
		for line := range strings.SplitSeq(string(buffer[:size]), "\n") {
			switch line {
			case "READY=1":
				n.ready.Store(true)
				n.fed.Store(&now)
			case "WATCHDOG=1":
				n.fed.Store(&now)
			}
		}
	}
}

func (n *notifySocket) reset() {
	n.ready.Store(false)
	n.fed.Store(nil)
}

// unfed is how long ago the agent last said that it turns. The watchdog begins with the agent's readiness.
func (n *notifySocket) unfed() time.Duration {
	if fed := n.fed.Load(); n.ready.Load() && fed != nil {
		return time.Since(*fed)
	}
	return 0
}

func (n *notifySocket) close() { _ = n.conn.Close() }

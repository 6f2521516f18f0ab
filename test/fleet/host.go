package fleet

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/google/nftables"
)

// Host is one agent and its database.
type Host struct {
	Name     string
	Database string // host:port for clients
	Link     string
	HTTP     string
	Gate     string // host:port of the gate, if the fleet has gates

	// FenceLevel is the agent's fence.level. It counts from the next Configure on.
	FenceLevel string
	// Supervision counts from the agent's next start on; it needs namespaces.
	Supervision Supervision
	// WithoutNetAdmin takes from the agent what it needs to change the kernel's packet filter. It counts from the
	// agent's next start on.
	WithoutNetAdmin bool

	dir        string
	config     string
	engine     engineKit
	space      *namespace
	process    *process    // on the machine's own network
	supervisor *supervisor // in a namespace
	dark       bool        // in a namespace: without power
	clock      *clock      // nil: the machine's
	disk, wal  *disk       // of the database and of its log; nil: the fleet's
	fleet      *Fleet
}

// NewHost makes a host's directory, addresses and configuration. Nothing runs yet, and its database is empty.
func (f *Fleet) NewHost(name string) (*Host, error) {
	dir := filepath.Join(f.dir, name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	h := &Host{Name: name, dir: dir, config: filepath.Join(dir, "witness-agent.yaml"), fleet: f, FenceLevel: "auto"}
	if err := h.addresses(); err != nil {
		return nil, err
	}
	f.hosts = append(f.hosts, h)
	if err := h.addDisks(); err != nil {
		return nil, err
	}
	var err error
	if f.opts.Clocks {
		if h.clock, err = newClock(filepath.Join(dir, "clock")); err != nil {
			return nil, err
		}
	}
	if h.engine, err = newKit(f.opts.Engine, h); err != nil {
		return nil, err
	}
	return h, h.Configure(name)
}

// addresses chooses free ports, or, in a namespace of the host's own, the ports of real life.
func (h *Host) addresses() error {
	if h.fleet.network == nil {
		ports, err := freePorts(3)
		if err != nil {
			return err
		}
		h.Database, h.Link, h.HTTP = ports[0], ports[1], ports[2]
		return nil
	}
	var err error
	if h.space, err = h.fleet.network.join(h.Name); err != nil {
		return err
	}
	at := func(port string) string { return net.JoinHostPort(h.space.address.String(), port) }
	h.Database, h.Link, h.HTTP = at("5432"), at("7412"), at("7413")
	if h.fleet.opts.sqlServer() {
		h.Database = at("1433")
	}
	if h.fleet.opts.Gates {
		h.Gate = at("6432")
	}
	return nil
}

// Configure writes the agent's configuration, under the name given: another than the host's own is a mistake that
// tests make on purpose.
func (h *Host) Configure(name string) error {
	return os.WriteFile(h.config, []byte(h.fleet.agentConfig(h, name)), 0o600)
}

// Initialize makes a new database on the host.
func (h *Host) Initialize(ctx context.Context) error {
	if err := h.engine.initialize(ctx); err != nil {
		return fmt.Errorf("initialize database of %s: %w", h.Name, err)
	}
	return nil
}

// program is witness-agent on this host.
func (h *Host) program(args ...string) program {
	p := program{
		space: h.space, log: filepath.Join(h.dir, "log"), path: filepath.Join(h.fleet.bin, "witness-agent"), args: args,
		env: h.clock.env(),
	}
	if h.WithoutNetAdmin {
		p.before = []string{"setpriv", "--bounding-set", "-net_admin", "--inh-caps", "-net_admin"}
	}
	return p
}

// Start starts the host's agent, which starts the database.
func (h *Host) Start() error {
	if h.space != nil {
		if h.dark {
			if err := h.space.powerOn(); err != nil {
				return fmt.Errorf("power for %s: %w", h.Name, err)
			}
			h.dark = false
		}
		var err error
		h.supervisor, err = supervise(h)
		return err
	}
	p, err := start(h.program("run", "--config", h.config))
	if err != nil {
		return fmt.Errorf("start agent of %s: %w", h.Name, err)
	}
	h.process = p
	return nil
}

// Kill ends every process of the host with SIGKILL, as a power cut would.
func (h *Host) Kill() {
	if h.space != nil {
		h.powerCut()
		return
	}
	h.process.signal(syscall.SIGKILL)
	killBelow(h.dir)
	h.process.kill()
	killBelow(h.dir)
}

// powerCut leaves nothing of the host but its disk.
func (h *Host) powerCut() {
	if h.dark {
		return
	}
	h.dark = true
	if h.supervisor != nil {
		h.supervisor.set(func(s *supervisor) { s.off, s.silent = true, true })
	}
	if err := h.space.powerOff(); err != nil {
		h.fleet.sayf("power cut of %s: %v", h.Name, err)
	}
	if h.supervisor != nil {
		<-h.supervisor.ended
	}
}

// ForgetFilter empties the packet filter of the host's kernel, as a boot does.
func (h *Host) ForgetFilter() error {
	filter, err := nftables.New(nftables.WithNetNSFd(int(h.space.file.Load().Fd())))
	if err == nil {
		filter.FlushRuleset()
		err = filter.Flush()
	}
	if err != nil {
		return fmt.Errorf("forget packet filter of %s: %w", h.Name, err)
	}
	return nil
}

// agent is the agent's process.
func (h *Host) agent() *process {
	if h.supervisor != nil {
		return h.supervisor.running()
	}
	return h.process
}

// StopAgent ends the agent in an orderly way and leaves the database alone.
func (h *Host) StopAgent() {
	if h.supervisor != nil {
		h.supervisor.stop()
		return
	}
	h.process.signal(syscall.SIGTERM)
	h.process.wait()
}

// RestartAgent ends the agent in an orderly way and has its supervisor start it at once, as `systemctl restart` does.
func (h *Host) RestartAgent() {
	before := h.agent()
	h.supervisor.set(func(s *supervisor) { s.atOnce = true })
	before.signal(syscall.SIGTERM)
	before.wait()
}

// KillAgent ends only the agent with SIGKILL. Its supervisor, if it has one, starts it again.
func (h *Host) KillAgent() { h.agent().kill() }

// KeepDown keeps the supervisor from starting an agent that ended, until LetStart.
func (h *Host) KeepDown() { h.supervisor.set(func(s *supervisor) { s.held = true }) }

// LetStart undoes KeepDown.
func (h *Host) LetStart() { h.supervisor.set(func(s *supervisor) { s.held = false }) }

// Starts is how often the supervisor started the agent, and how often it killed one that had hung.
func (h *Host) Starts() (started, hung int) {
	h.supervisor.set(func(s *supervisor) { started, hung = s.started, s.hung })
	return started, hung
}

// KillDatabase ends the database's main process with SIGKILL and leaves the agent alone.
func (h *Host) KillDatabase() error { return h.signalMain(syscall.SIGKILL) }

// signalMain signals the database's main process; one that is gone is no error.
func (h *Host) signalMain(s syscall.Signal) error {
	pid, err := h.engine.pid()
	if err != nil {
		return fmt.Errorf("find database of %s: %w", h.Name, err)
	}
	if err := syscall.Kill(pid, s); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("send %v to database of %s: %w", s, h.Name, err)
	}
	return nil
}

// FreezeAgent stops the agent with SIGSTOP.
func (h *Host) FreezeAgent() { h.agent().signal(syscall.SIGSTOP) }

// ThawAgent lets a stopped agent go on.
func (h *Host) ThawAgent() { h.agent().signal(syscall.SIGCONT) }

// FreezeDatabase stops every process of the database with SIGSTOP.
func (h *Host) FreezeDatabase() { freeze(h.databasePids) }

// ThawDatabase lets a stopped database go on.
func (h *Host) ThawDatabase() { signalAll(h.databasePids(), syscall.SIGCONT) }

// StopDatabaseMain stops the database's main process alone with SIGSTOP: sessions that are open go on, new ones hang.
func (h *Host) StopDatabaseMain() error { return h.signalMain(syscall.SIGSTOP) }

// ThawDatabaseMain lets a stopped main process go on.
func (h *Host) ThawDatabaseMain() error { return h.signalMain(syscall.SIGCONT) }

// Freeze stops every process of the host with SIGSTOP.
func (h *Host) Freeze() { freeze(h.space.pids) }

// Thaw lets every process of the host go on, the database first: what it still has to say should find the agent asleep.
func (h *Host) Thaw() {
	h.ThawDatabase()
	signalAll(h.space.pids(), syscall.SIGCONT)
}

// freeze looks several times, because a process may give birth to another while it is looked for.
func freeze(find func() []int) {
	for range 3 {
		signalAll(find(), syscall.SIGSTOP)
	}
}

func signalAll(pids []int, s syscall.Signal) {
	for _, pid := range pids {
		_ = syscall.Kill(pid, s)
	}
}

// databasePids are the database's processes: all that run the same program as its main process.
func (h *Host) databasePids() []int {
	pid, err := h.engine.pid()
	if err != nil {
		return nil
	}
	program, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
	if err != nil {
		return nil
	}
	var pids []int
	for _, one := range h.space.pids() {
		if other, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", one)); err == nil && other == program {
			pids = append(pids, one)
		}
	}
	return pids
}

// Logs returns the end of a host's agent log.
func (h *Host) Logs(lines int) string { return tail(filepath.Join(h.dir, "log"), lines) }

// LogTime is when the host's agent first logged a line with all of these words after since.
func (h *Host) LogTime(since time.Time, words ...string) (time.Time, bool) {
	return logTime(filepath.Join(h.dir, "log"), since, words)
}

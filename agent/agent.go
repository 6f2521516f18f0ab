package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/witnessd/witnessd/agent/engine"
	"github.com/witnessd/witnessd/agent/fence"
	"github.com/witnessd/witnessd/agent/hold"
	"github.com/witnessd/witnessd/agent/hook"
	"github.com/witnessd/witnessd/agent/link"
	"github.com/witnessd/witnessd/agent/watchdog"
)

// Clock reads the host's boot-time clock.
type Clock func() hold.Instant

// Options are the seams of the agent: what a whole-system test replaces. The zero value is production.
type Options struct {
	Clock   Clock
	Dial    func(ctx context.Context, address string) (net.Conn, error)
	Listen  func(address string) (net.Listener, error)
	Engines map[string]engine.Engine // by instance name, instead of those the configuration names
	Lookup  func(ctx context.Context, host string) ([]netip.Addr, error)
	Kernel  func(ctx context.Context, o fence.KernelOptions) (kernelFence, error)
	Version string
	Logger  *slog.Logger
	// StartGuard starts a process that runs [Guard] with the same configuration, where a host has nothing better
	// (Windows); nil: none.
	StartGuard func() error
}

// Agent is one host's agent. It is made by New and used once, by Run.
type Agent struct {
	config Config
	opts   Options
	clock  Clock
	log    *slog.Logger
	boot   string
	id     string // of the state directory, for ever
	start  string // of this start

	kernel    kernelFence // nil: there is none,
	kernelBad error       // and this is why
	names     *names
	users     map[string]uint32 // whom the databases run as, by instance
	hooks     *hook.Runner
	watchdog  *watchdog.Watchdog
	hasGuard  atomic.Bool // a guard was seen a moment ago
	atEnd     bool        // the unit ends service when this agent is dead and its right has run out

	instances  []*instance
	witness    *link.Witness
	partners   *link.Partners
	events     chan event
	stopped    chan struct{} // closed when the loop has ended
	failed     chan error    // background work that the agent is of no use without
	background sync.WaitGroup

	beat    beat // owned by the loop
	peers   map[string]*peerBeat
	status  atomic.Pointer[snapshot]
	metrics *metrics
	reg     *prometheus.Registry
}

// ErrUnsafe says that the agent can no longer keep a promise over a restart and has fenced its databases.
var ErrUnsafe = errors.New("agent cannot keep its promises")

// New prepares an agent: directories, identity and engines. Nothing is started yet.
func New(config Config, opts Options) (*Agent, error) {
	a := &Agent{
		config: config, opts: opts, clock: opts.Clock, log: opts.Logger, boot: bootID(),
		start: uuid.NewString(), events: make(chan event, 1024),
		stopped: make(chan struct{}), failed: make(chan error, 1), peers: map[string]*peerBeat{},
		reg: prometheus.NewRegistry(),
	}
	if a.clock == nil {
		a.clock = BootClock
	}
	if a.log == nil {
		a.log = slog.New(slog.DiscardHandler)
	}
	if opts.Listen == nil {
		a.opts.Listen = func(address string) (net.Listener, error) { return net.Listen("tcp", address) }
	}
	if opts.Kernel == nil {
		a.opts.Kernel = func(ctx context.Context, o fence.KernelOptions) (kernelFence, error) {
			return fence.OpenKernel(ctx, o)
		}
	}
	a.metrics = newMetrics(a.reg)
	for _, dir := range []string{config.StateDir, config.RunDir} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("make directory %s: %w", dir, err)
		}
	}
	var err error
	if a.id, err = identity(filepath.Join(config.StateDir, "agent-id")); err != nil {
		return nil, err
	}
	a.names = newNames(filepath.Join(config.RunDir, "addresses.json"), func() { a.post(namesChanged{}) })
	if opts.Lookup != nil {
		a.names.lookup = opts.Lookup
	}
	a.atEnd = os.Getenv(atEndVariable) == "1"
	return a, nil
}

// atEndVariable is set by a unit that runs `witness-agent fence at-end` when the agent has ended.
const atEndVariable = "WITNESS_AGENT_AT_END"

// identity reads or makes the id of this state directory. Two agents that claim one host differ in it.
func identity(path string) (string, error) {
	raw, err := os.ReadFile(path)
	if err == nil {
		return strings.TrimSpace(string(raw)), nil
	}
	if !errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("read agent id: %w", err)
	}
	id := uuid.NewString()
	if err := replace(path, []byte(id+"\n"), true); err != nil {
		return "", fmt.Errorf("write agent id: %w", err)
	}
	return id, nil
}

// Run works until ctx ends. Then databases are left as they are, for the next start to take over within the
// lease; the error is nil. ErrUnsafe means that a promise can no longer be kept and service was ended.
func (a *Agent) Run(ctx context.Context) error {
	lock, err := lockDir(a.config.StateDir)
	if err != nil {
		return err
	}
	defer lock.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer a.background.Wait()
	defer cancel()
	a.openWatchdog(ctx)
	a.openHooks(ctx)
	defer a.closeHooks()
	// Before anything is looked at or started: no client comes in from here on without a right.
	if err := a.openKernel(ctx); err != nil {
		return err
	}
	defer a.closeKernel()
	if err := a.openInstances(ctx); err != nil {
		a.closeInstances()
		return err
	}
	defer a.closeInstances()
	a.dropKernel(ctx)
	if err := a.openGates(ctx); err != nil {
		return err
	}
	listener, err := a.opts.Listen(a.config.Link.Listen)
	if err != nil {
		return fmt.Errorf("listen for partners on %s: %w", a.config.Link.Listen, err)
	}
	a.connect(ctx, listener)
	if err := a.serveHTTP(ctx); err != nil {
		return err
	}
	a.background.Go(func() { a.report(ctx, "name lookups", a.names.run(ctx)) })
	a.background.Go(func() { a.keepGuard(ctx) })
	a.sayLevels(ctx)
	a.watchdog.Ready(ctx)
	return a.loop(ctx)
}

func (a *Agent) openInstances(ctx context.Context) error {
	for _, c := range a.config.Instances {
		eng := a.opts.Engines[c.Name]
		if eng == nil {
			var err error
			if eng, err = a.newEngine(c); err != nil {
				return fmt.Errorf("instance %s: %w", c.Name, err)
			}
		}
		i, err := a.openInstance(ctx, c, eng)
		if err != nil {
			return fmt.Errorf("instance %s: %w", c.Name, err)
		}
		a.instances = append(a.instances, i)
	}
	return nil
}

// openWatchdog must come before any child of the agent is started: see watchdog.Open.
func (a *Agent) openWatchdog(ctx context.Context) {
	w, err := watchdog.Open(watchdog.Options{Device: a.config.Fence.WatchdogDevice, Logger: a.log})
	if err != nil {
		a.log.ErrorContext(ctx, "watchdog is not in force", "error", err)
	}
	a.watchdog = w
}

// sayLevels says at the start of the agent how the rights of its instances end.
func (a *Agent) sayLevels(ctx context.Context) {
	a.log.InfoContext(ctx, "agent started", "host", a.config.Host, "instances", len(a.instances), "start", a.start)
	for _, i := range a.instances {
		level, note := a.level(i)
		if level == fence.LevelEngine {
			note = "a killed or frozen agent does not fence at this level; " + note
		}
		i.log.InfoContext(ctx, "fence level", "fence", string(level), "note", note)
	}
}

func (a *Agent) closeInstances() {
	for _, i := range a.instances {
		i.close()
	}
}

// connect starts the sessions. Their callbacks run on gRPC's goroutines and only post events.
func (a *Agent) connect(ctx context.Context, listener net.Listener) {
	a.witness = link.NewWitness(link.WitnessOptions{
		Host: a.config.Host, AgentID: a.id, Start: a.start, Version: a.opts.Version,
		HTTPAddress: a.config.HTTP.Listen, Endpoints: a.config.Witness.Endpoints, Dial: a.opts.Dial,
		Logger:   a.log,
		OnAnswer: func(answer link.Answer) { a.post(witnessAnswer{answer}) },
		OnNudge:  func() { a.post(nudge{}) },
		OnState:  func(s link.SessionState) { a.post(sessionState{s}) },
	})
	a.partners = link.NewPartners(link.PartnerOptions{
		Host: a.config.Host, Start: a.start, Dial: a.opts.Dial, Logger: a.log,
		OnAnswer: func(partner string, seq uint64, says []hold.Says) {
			a.post(partnerAnswer{partner: partner, seq: seq, says: says})
		},
		OnAsk: a.askLoop,
	})
	a.background.Go(func() { a.report(ctx, "witness sessions", a.witness.Run(ctx)) })
	a.background.Go(func() { a.report(ctx, "partner links", a.partners.Run(ctx)) })
	a.background.Go(func() { a.report(ctx, "partner listener", a.partners.Serve(ctx, listener)) })
}

// report ends the agent when what it needs has ended: a new start may do better, and an agent that goes on
// without its sessions looks well and is not.
func (a *Agent) report(ctx context.Context, what string, err error) {
	if err == nil || errors.Is(err, context.Canceled) {
		return
	}
	a.log.ErrorContext(ctx, "background work ended", "what", what, "error", err)
	select {
	case a.failed <- fmt.Errorf("%s: %w", what, err):
	default:
	}
}

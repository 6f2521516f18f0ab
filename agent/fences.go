package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/witnessd/witnessd/agent/fence"
	"github.com/witnessd/witnessd/agent/gate"
	"github.com/witnessd/witnessd/agent/hold"
)

// kernelFence is what the agent asks of the kernel's fence ([fence.Kernel]); a test has one of its own.
type kernelFence interface {
	Guard(s fence.Service, r fence.Right) error
	Open(instance string, r fence.Right)
	OpenNow(instance string, r fence.Right) error
	Bounded(instance string) bool
	OpenForReads(instance string, until hold.Instant)
	Shut(instance string) error
	LetGo(instance string) error
	Healthy() error
	Stats() fence.KernelStats
	Close() error
}

// kernelGuard is one instance's part in the kernel's fence. It is owned by the loop, but for fence and on, which are
// safe for all.
type kernelGuard struct {
	fence   kernelFence // nil: not used
	service fence.Service
	on      atomic.Bool  // rules are in force, or the kernel's fence goes on trying to put them there
	bad     error        // why the rules are not those of the latest service, or there are none
	again   hold.Instant // when what was refused is tried again
	endless bool         // the last opening had no end
	readers hold.Instant // until when a mirror's readers were let in
}

// guardAgain is how long a refusal of the kernel's fence stands: its cause may be a name that leads elsewhere soon.
const guardAgain = time.Second

// openKernel puts the fence of the kernel in place before anything else happens to a database. What a former
// start left open for a right that lasts stays open; what it left closed stays closed, also if this start ends in an
// error.
func (a *Agent) openKernel(ctx context.Context) error {
	if !a.wantsKernel() {
		a.kernelBad = errors.New("the configuration chose a weaker level (fence.level)")
		return nil
	}
	a.users = map[string]uint32{} // asked for once: a directory service may take its time, and the loop has none
	for _, c := range a.config.Instances {
		a.users[c.Name] = c.uid()
	}
	// Says which names must be known; most of them the former start has left behind.
	if _, err := a.leftOpen(); err != nil {
		return err
	}
	first, cancel := context.WithTimeout(ctx, namesFirst)
	a.names.refresh(first)
	cancel()
	services, err := a.leftOpen()
	if err != nil {
		return err
	}
	kernel, err := a.opts.Kernel(ctx, fence.KernelOptions{
		Table: a.config.Fence.Table, Clock: fence.Clock(a.clock), Logger: a.log, Services: services,
	})
	if err == nil {
		a.kernel = kernel
		return nil
	}
	if a.config.Fence.Level == FenceKernel {
		return fmt.Errorf("fence.level is kernel: %w", err)
	}
	a.kernelBad = err
	a.log.ErrorContext(ctx, "no fence of the kernel; a weaker level is used. A table that an earlier start has left "+
		"behind closes the databases' ports when its last right runs out: start the agent again once the cause is mended, "+
		"or run witness-agent fence remove, as root", "table", a.config.Fence.Table, "error", err)
	return nil
}

func (a *Agent) wantsKernel() bool {
	return a.config.Fence.Level == FenceAuto || a.config.Fence.Level == FenceKernel
}

// dropKernel takes away what an earlier configuration has left: its ports would close when its last right ends. What
// has no right is ended first, as only the kernel may have kept its clients out.
func (a *Agent) dropKernel(ctx context.Context) {
	if a.wantsKernel() || a.config.Fence.Level == "" {
		return // without a level it is not from a file: a test, whose databases no kernel knows
	}
	for _, i := range a.instances {
		if _, _, ok := i.state.ServeUntil(a.clock()); ok || !i.managed || i.state.File.Epoch == 0 {
			continue
		}
		if seen, err := i.observe(ctx, a.clock); err == nil && (!seen.Running || seen.Role == hold.RoleMirror) {
			continue
		}
		a.shut(ctx, i, "the kernel's fence is given up, and this host has no right to serve")
	}
	if err := fence.RemoveTable(a.config.Fence.Table); err != nil {
		a.log.WarnContext(ctx, "a table of an earlier start may still close ports; remove it with witness-agent "+
			"fence remove, as root", "table", a.config.Fence.Table, "error", err)
	}
}

// leftOpen is what the files say of the former start: which instances are in a pair, and until when they were open.
func (a *Agent) leftOpen() ([]fence.StartService, error) {
	var list []fence.StartService
	for _, c := range a.config.Instances {
		file, known, err := a.epochFileOf(c.Name).load()
		if err != nil {
			return nil, fmt.Errorf("instance %s: %w", c.Name, err)
		}
		if !known || file.Epoch == 0 {
			continue
		}
		s := fence.StartService{Service: a.service(c, file.Peer)}
		if m := a.markFileOf(c.Name).load(); m.Epoch == file.Epoch && file.Primary == a.config.Host {
			s.Right = fence.Right{Until: m.Until, Endless: m.Endless}
		}
		list = append(list, s)
	}
	return list, nil
}

func (a *Agent) epochFileOf(instance string) epochFile {
	return epochFile{path: filepath.Join(a.config.StateDir, instance+".epoch")}
}

func (a *Agent) markFileOf(instance string) markFile {
	return markFile{path: filepath.Join(a.config.RunDir, instance+".mark"), boot: a.boot}
}

// service is what the kernel must know of an instance. Names that are not resolved yet are left out; their
// addresses come with a later call.
func (a *Agent) service(c Instance, peer hold.Peer) fence.Service {
	s := fence.Service{Name: c.Name, User: a.users[c.Name]}
	host, port := split(c.listen())
	s.Port = port
	if ip, err := netip.ParseAddr(host); err == nil && !ip.IsUnspecified() {
		s.Addresses = []netip.Addr{ip.Unmap()}
	}
	link, _ := split(peer.LinkAddress)
	served, partnerPort := split(peer.ServiceAddress)
	s.PartnerPort = partnerPort
	s.Partners = a.names.addresses(link, served)
	return s
}

func split(address string) (host string, port uint16) {
	host, text, err := net.SplitHostPort(address)
	if err != nil {
		return "", 0
	}
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return host, 0
	}
	return host, uint16(n)
}

// guardKernel puts the instance's rules in force, or changes them, once it is in a pair that has an epoch. While a pair
// forms, what serves is none of this agent's business.
func (a *Agent) guardKernel(ctx context.Context, i *instance) {
	k := &i.kernel
	if k.fence == nil || !i.managed || i.state.File.Epoch == 0 {
		return
	}
	s, now := a.service(i.config, i.state.File.Peer), a.clock()
	if sameService(s, k.service) && (k.on.Load() && k.bad == nil || k.bad != nil && now < k.again) {
		return
	}
	var right fence.Right
	if until, endless, ok := i.state.ServeUntil(now); ok {
		right = fence.Right{Until: until, Endless: endless}
	}
	before, bad := k.on.Load(), k.bad
	err := k.fence.Guard(s, right)
	k.service, k.bad, k.again = s, nil, now.Add(guardAgain)
	if err != nil && !errors.Is(err, fence.ErrTryingOn) {
		// Rules that are in force stay so, and go on to be opened and shut.
		k.bad = err
		if bad == nil || bad.Error() != err.Error() {
			i.log.WarnContext(ctx, "no fence of the kernel for this instance as it is now; a weaker level counts",
				"error", err)
		}
		return
	}
	k.on.Store(true)
	k.endless = k.endless || !before && right.Endless
	if !before {
		i.log.InfoContext(ctx, "fence of the kernel in force", "table", a.config.Fence.Table, "port", s.Port)
	}
}

func sameService(x, y fence.Service) bool {
	return fmt.Sprint(x) == fmt.Sprint(y)
}

// open lets clients in at the kernel's fence. It waits for the kernel only where a right without end gets one, which is
// what a primary does before it asks to arm (rule R8).
func (i *instance) open(ctx context.Context, r hold.Renew) {
	i.closing.Store(false)
	i.extend.open(r)
	k := &i.kernel
	if !k.on.Load() {
		return
	}
	right := fence.Right{Until: r.Until, Endless: r.Endless}
	k.readers = 0
	if k.endless && !r.Endless {
		if err := k.fence.OpenNow(i.name, right); err != nil {
			i.log.WarnContext(ctx, "the kernel's fence has no end yet; the pair is not armed before it has", "error", err)
		}
	} else {
		k.fence.Open(i.name, right)
	}
	k.endless = r.Endless
}

// mayArm is the kernel's part in rule R8: from the instant an arm is asked for, the right must end by itself, also if
// this process does nothing any more.
func (i *instance) mayArm() bool {
	return !i.kernel.on.Load() || i.kernel.fence.Bounded(i.name)
}

// openForReads lets clients read at a mirror for one lease after it was last seen to be one: long enough to bridge a
// slow look, and short enough that a database which does not answer, or whose agent is dead, is not open for ever.
func (i *instance) openForReads(now hold.Instant, wanted bool) {
	lease, e := i.state.File.Timing.Lease, i.state.Status(now).Engine
	copies := i.managed && i.state.File.Epoch > 0 && i.state.File.Primary != i.state.Self && e.Running &&
		e.Role == hold.RoleMirror
	until := e.Began.Add(lease)
	if !wanted || !i.kernel.on.Load() || !copies || until.Sub(i.kernel.readers) < lease/4 {
		return
	}
	i.kernel.readers = until
	i.kernel.fence.OpenForReads(i.name, until)
}

// stopNow ends service by every way there is, the quickest first. It runs on the fence's goroutines.
func (i *instance) stopNow(ctx context.Context) error {
	i.closing.Store(true)
	i.extend.shut()
	if i.gate != nil {
		i.gate.Route(gate.Route{}) // cuts, without waiting for it
	}
	if !i.kernel.on.Load() {
		return i.engine.Fence(ctx)
	}
	shut := make(chan error, 1)
	go func() { shut <- i.kernel.fence.Shut(i.name) }()
	err := i.engine.Fence(ctx)
	if failed := <-shut; failed != nil {
		i.log.WarnContext(ctx, "the kernel's fence was not shut at once; it goes on trying", "error", failed)
	}
	return err
}

// atEndMargin is what it takes, after a watchdog has ended the agent, to start `witness-agent fence at-end`.
const atEndMargin = 300 * time.Millisecond

// level is the strongest fence in force for the instance, and why no stronger one is.
func (a *Agent) level(i *instance) (fence.Level, string) {
	why := a.kernelBad
	if i.kernel.fence != nil {
		// Before the pair's first epoch no rules are there yet; they will be.
		if why = errors.Join(i.kernel.bad, i.kernel.fence.Healthy()); why == nil {
			return fence.LevelKernel, ""
		}
	}
	note := "kernel: not used"
	if why != nil {
		note = "kernel: " + oneLine(why.Error())
	}
	if i.config.Engine == engineMirroring && !i.config.Gate.Exclusive {
		note += "; without it a former primary serves clients from its start until it has reached its partner"
	}
	if i.config.Gate.Exclusive && a.config.Fence.Level != FenceEngine {
		return fence.LevelGate, note
	}
	limit, timing := a.watchdog.Limit(), i.state.File.Timing
	switch {
	case a.opts.StartGuard != nil && a.hasGuard.Load():
		return fence.LevelWatchdog, note + "; a second process ends service when the agent does not"
	case limit == 0:
		note += "; watchdog: none is on (systemd's WatchdogSec)"
	case !a.atEnd:
		note += "; watchdog: the unit lacks ExecStopPost with witness-agent fence at-end"
	case i.managed && limit+atEndMargin > timing.Lease-timing.Guard:
		note += fmt.Sprintf("; watchdog: its limit of %v is too long for a lease of %v", limit, timing.Lease)
	default:
		return fence.LevelWatchdog, note
	}
	return fence.LevelEngine, note
}

// letGoKernel takes the instance's rules away: its pair was removed.
func (i *instance) letGoKernel(ctx context.Context) {
	if i.kernel.fence == nil {
		return
	}
	i.kernel.on.Store(false)
	i.kernel.bad, i.kernel.service = nil, fence.Service{}
	if err := i.kernel.fence.LetGo(i.name); err != nil {
		i.log.ErrorContext(ctx, "the kernel's fence still closes the port of a database that is not managed any more; run "+
			"witness-agent fence remove, as root", "error", err)
	}
}

// kernelStats counts for the metrics.
func (a *Agent) kernelStats() fence.KernelStats {
	if a.kernel == nil {
		return fence.KernelStats{}
	}
	return a.kernel.Stats()
}

// closeKernel leaves what is open open, for as long as its right lasts: the next start takes over.
func (a *Agent) closeKernel() {
	if a.kernel == nil {
		return
	}
	if err := a.kernel.Close(); err != nil {
		a.log.Warn("close the kernel's fence", "error", err)
	}
}

package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/witnessd/witnessd/agent/fence"
	"github.com/witnessd/witnessd/agent/hold"
)

// kernelFence is what the agent asks of the kernel's fence ([fence.Kernel]); a test has one of its own.
type kernelFence interface {
	Guard(s fence.Service) error
	Open(instance string, r fence.Right)
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
	on      atomic.Bool  // the rules are in force
	bad     error        // why they are not
	readers hold.Instant // until when a mirror's readers were let in
}

// openKernel puts the fence of the kernel in place before anything else happens to a database. What a former
// start left open for a right that lasts stays open.
func (a *Agent) openKernel(ctx context.Context) error {
	if a.config.Fence.Level != FenceAuto && a.config.Fence.Level != FenceKernel {
		a.kernelBad = errors.New("the configuration chose a weaker level (fence.level)")
		return a.dropKernel(ctx)
	}
	a.users = map[string]uint32{} // asked for once: a directory service may take its time, and the loop has none
	for _, c := range a.config.Instances {
		a.users[c.Name] = c.uid()
	}
	a.leftOpen() // says which names must be known; most of them the former start has left behind
	first, cancel := context.WithTimeout(ctx, namesFirst)
	a.names.refresh(first)
	cancel()
	kernel, err := a.opts.Kernel(ctx, fence.KernelOptions{
		Table: a.config.Fence.Table, Clock: fence.Clock(a.clock), Logger: a.log, Services: a.leftOpen(),
	})
	if err == nil {
		a.kernel = kernel
		return nil
	}
	if a.config.Fence.Level == FenceKernel {
		return fmt.Errorf("fence.level is kernel: %w", err)
	}
	a.kernelBad = err
	a.log.WarnContext(ctx, "no fence of the kernel; a weaker level is used", "error", err)
	return nil
}

// dropKernel takes away what an earlier configuration has left: its ports would close when its last right ends.
func (a *Agent) dropKernel(ctx context.Context) error {
	if a.config.Fence.Level == "" {
		return nil // not from a file: a test, whose databases no kernel knows
	}
	if err := fence.RemoveTable(a.config.Fence.Table); err != nil {
		a.log.WarnContext(ctx, "a table of an earlier start may still close ports; remove it with witness-agent "+
			"fence remove, as root", "table", a.config.Fence.Table, "error", err)
	}
	return nil
}

// leftOpen is what the files say of the former start: which instances are in a pair, and until when they were open.
func (a *Agent) leftOpen() []fence.StartService {
	var list []fence.StartService
	for _, c := range a.config.Instances {
		file, known, err := a.epochFileOf(c.Name).load()
		if err != nil || !known || file.Epoch == 0 {
			continue // a damaged file ends the start a moment later
		}
		s := fence.StartService{Service: a.service(c, file.Peer)}
		if m := a.markFileOf(c.Name).load(); m.Epoch == file.Epoch && file.Primary == a.config.Host {
			s.Right = fence.Right{Until: m.Until, Endless: m.Endless}
		}
		list = append(list, s)
	}
	return list
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

// listen is where the instance's database takes clients.
func (i Instance) listen() string {
	if i.Engine == "postgres" {
		return i.Postgres.Listen
	}
	return i.Demo.Listen
}

// uid is whom the instance's database runs as.
func (i Instance) uid() uint32 {
	if i.Engine == "postgres" {
		if u, err := user.Lookup(i.Postgres.OSUser); err == nil {
			if n, err := strconv.ParseUint(u.Uid, 10, 32); err == nil {
				return uint32(n)
			}
		}
	}
	return uint32(os.Geteuid())
}

// guardKernel puts the instance's rules in force, or changes them, once it is in a pair that has an epoch. While a pair
// forms, what serves is none of this agent's business.
func (a *Agent) guardKernel(ctx context.Context, i *instance) {
	k := &i.kernel
	if k.fence == nil || !i.managed || i.state.File.Epoch == 0 {
		return
	}
	s := a.service(i.config, i.state.File.Peer)
	if k.on.Load() && sameService(s, k.service) {
		return
	}
	err := k.fence.Guard(s)
	refused := errors.Is(err, fence.ErrPartnerHere) || s.Port == 0
	if err != nil && (k.bad == nil || k.bad.Error() != err.Error()) {
		i.log.WarnContext(ctx, "no fence of the kernel for this instance; a weaker level is used", "error", err)
	}
	if err == nil && !k.on.Load() {
		i.log.InfoContext(ctx, "fence of the kernel in force", "table", a.config.Fence.Table, "port", s.Port)
	}
	k.service, k.bad = s, nil
	if refused {
		k.bad = err
	}
	k.on.Store(!refused) // after another error it goes on trying, and says so itself
}

func sameService(x, y fence.Service) bool {
	return fmt.Sprint(x) == fmt.Sprint(y)
}

// open lets clients in at the kernel's fence. It does not block.
func (i *instance) open(r hold.Renew) {
	i.closing.Store(false)
	if i.kernel.on.Load() {
		i.kernel.fence.Open(i.name, fence.Right{Until: r.Until, Endless: r.Endless})
		i.kernel.readers = 0
	}
}

// openForReads lets clients read at a mirror, for as long as it was just seen to be one. A lease is long enough to
// bridge a slow look, and short enough that a mirror whose agent is dead does not answer for ever.
func (i *instance) openForReads(now hold.Instant, wanted bool) {
	lease := i.state.File.Timing.Lease
	st := i.state.Status(now)
	copies := st.Managed && !st.Primary && i.state.File.Primary != i.state.Self && st.Engine.Running &&
		st.Engine.Role == hold.RoleMirror
	if !wanted || !i.kernel.on.Load() || !copies || i.kernel.readers.Sub(now) > lease/2 {
		return
	}
	i.kernel.readers = now.Add(lease)
	i.kernel.fence.OpenForReads(i.name, i.kernel.readers)
}

// stopNow ends service by every way there is, the quickest first. It runs on the fence's goroutines.
func (i *instance) stopNow(ctx context.Context) error {
	i.closing.Store(true)
	if i.gate != nil {
		i.gate.Shut("the right to serve has ended")
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
		note = "kernel: " + oneLine(why)
	}
	if i.config.Gate.Exclusive && a.config.Fence.Level != FenceEngine {
		return fence.LevelGate, note
	}
	limit, timing := a.watchdog.Limit(), i.state.File.Timing
	switch {
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
	if !i.kernel.on.Load() {
		return
	}
	i.kernel.on.Store(false)
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

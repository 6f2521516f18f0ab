package fence

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
)

// OpenKernel puts the rules of the services in force, atomically: what is in the table of the former start stays
// open as [StartService] says, and nothing else opens. A service that cannot be fenced is left out, as is said
// in the log; what the table has of it stays, closed. Yet one whose partner is here ([ErrPartnerHere]) and that has
// rules keeps rules that obey: those of the service without the partner's addresses that are of this host.
// Guard says what is wrong again.
func OpenKernel(ctx context.Context, o KernelOptions) (*Kernel, error) {
	o = o.whole()
	own, err := o.addresses()
	if err != nil {
		return nil, fmt.Errorf("fence of the kernel: read the addresses of this host: %w", err)
	}
	k := &Kernel{
		ctx: context.WithoutCancel(ctx), o: o, wishes: map[string]*wish{}, going: map[string]uint64{}, shape: 1,
		turned: make(chan struct{}), wake: make(chan struct{}, 1), done: make(chan struct{}),
	}
	if k.rules, err = o.dial(o); err != nil {
		return nil, fmt.Errorf("fence of the kernel: %w", err)
	}
	left, err := k.rules.left()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("fence of the kernel: read what is in force: %w", err), k.rules.close())
	}
	k.wishAtStart(own, left)
	err = k.arrange()
	for try := 1; try < startTries && (errors.Is(err, errTokenOut) || errors.Is(err, errLost)); try++ {
		err = k.arrange()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("fence of the kernel: put the rules in force: %w", err), k.rules.close())
	}
	k.checked = o.Clock()
	k.ended.Go(k.run)
	return k, nil
}

// whole fills in what was not given.
func (o KernelOptions) whole() KernelOptions {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.addresses == nil {
		o.addresses = hostAddresses
	}
	if o.at == nil {
		o.at = func(string) {}
	}
	if o.dial == nil {
		o.dial = openRuleset
	}
	return o
}

// wishAtStart notes what is wanted of the services, and warns of rules whose instance is not among them: they
// keep a port closed, and nobody but the administrator can know whether they should.
func (k *Kernel) wishAtStart(own []netip.Addr, left []Shown) {
	for _, s := range k.o.Services {
		service := plain(s.Service)
		err := check(service, own)
		if err != nil {
			k.o.Logger.WarnContext(k.ctx, "instance not fenced by the kernel", "instance", service.Name, "error", err)
		}
		has := slices.ContainsFunc(left, func(l Shown) bool { return l.Instance == service.Name })
		if errors.Is(err, ErrPartnerHere) && has {
			service.Partners = slices.DeleteFunc(service.Partners, func(p netip.Addr) bool { return isHere(p, own) })
			err = nil
		}
		if err == nil {
			k.wishes[service.Name] = &wish{
				service: service, right: s.Right, owed: s.Right != Right{}, endless: true, fresh: true,
			}
		}
	}
	for _, l := range left {
		if k.wishes[l.Instance] == nil {
			k.o.Logger.WarnContext(k.ctx, "the kernel's fence has rules of an instance that this start cannot fence; its port "+
				"stays closed to clients, or closes when its time is over. If the instance is not in a pair any more, take "+
				"them away with witness-agent fence remove; a running agent puts those of the others back",
				"instance", l.Instance, "port", l.Port, "table", k.o.Table)
		}
	}
}

// longestName leaves room for a prefix in what the kernel allows for the name of a set.
const longestName = 200

// check says why the kernel cannot fence a service. The addresses of the service and of the host are plain.
func check(s Service, own []netip.Addr) error {
	switch {
	case s.Name == "" || len(s.Name) > longestName || strings.ContainsRune(s.Name, 0):
		return fmt.Errorf("the name of the instance (%q) must have 1 to %d bytes", s.Name, longestName)
	case s.Port == 0:
		return errors.New("the port where the database listens is not known")
	}
	for _, p := range s.Partners {
		if isHere(p, own) {
			return fmt.Errorf("%w (%v); use a fence of another level, or hosts with addresses of their own",
				ErrPartnerHere, p)
		}
	}
	return nil
}

func isHere(a netip.Addr, own []netip.Addr) bool { return a.IsLoopback() || slices.Contains(own, a) }

// hostAddresses lists the addresses of this host.
func hostAddresses() ([]netip.Addr, error) {
	list, err := net.InterfaceAddrs()
	if err != nil {
		return nil, err
	}
	var out []netip.Addr
	for _, a := range list {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			out = append(out, p.Addr().Unmap().WithZone(""))
		}
	}
	return out, nil
}

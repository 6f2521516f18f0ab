package agent

import (
	"context"
	"fmt"
	"net"
	"net/netip"

	"github.com/witnessd/witnessd/agent/gate"
	"github.com/witnessd/witnessd/agent/hold"
)

// peerWord is what the partner's agent last said that concerns clients. It is owned by the loop.
type peerWord struct {
	engine  hold.Engine
	at      hold.Instant // when it came; 0: never
	epoch   hold.Epoch
	gate    string // where its gate is
	serving bool   // it lets clients write
}

// heardPartner keeps the partner's word for gates and endpoints; no right rests on it.
func (i *instance) heardPartner(from string, says hold.Says, now hold.Instant) {
	if from == i.state.File.Peer.Host {
		i.peer = peerWord{
			engine: says.Engine, at: now, epoch: says.Epoch, gate: says.GateAddress, serving: says.Serving,
		}
	}
}

// tell adds to what hold says what only concerns the partner's gate.
func (i *instance) tell(says hold.Says, now hold.Instant) hold.Says {
	if i.gate != nil {
		says.GateAddress = i.config.Gate.reachable()
	}
	says.Serving = i.takesClients(i.state.Status(now))
	return says
}

// takesClients says whether a client that comes now is well served here.
func (i *instance) takesClients(st hold.Status) bool {
	return i.managed && st.Serving && !st.HandingOver && !i.closing.Load()
}

// openGates listens where clients connect. An agent that cannot is of no use to them and ends with an error.
func (a *Agent) openGates(ctx context.Context) error {
	for _, i := range a.instances {
		c := i.config.Gate
		if c.Listen == "" {
			continue
		}
		listener, err := a.opts.Listen(c.Listen)
		if err != nil {
			return fmt.Errorf("listen for clients of instance %s on %s (gate.listen): %w", i.name, c.Listen, err)
		}
		i.gate = gate.New(gate.Options{
			Instance: i.name, Allow: c.networks(), MaxConnections: c.MaxConnections, Wait: c.Wait,
			ProxyProtocol: c.ProxyProtocol, Database: reachable(i.config.listen()), Clock: a.clock,
			Logger: i.log, Registerer: a.reg,
		})
		a.background.Go(func() { a.report(ctx, "gate of "+i.name, i.gate.Serve(ctx, listener)) })
	}
	return nil
}

// reachable turns an address to listen on into one to connect to.
func reachable(listen string) string {
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return listen
	}
	ip, err := netip.ParseAddr(host)
	switch {
	case host == "" || host == "*" || err == nil && ip.IsUnspecified() && ip.Is4():
		return net.JoinHostPort("127.0.0.1", port)
	case err == nil && ip.IsUnspecified():
		return net.JoinHostPort("::1", port)
	}
	return listen
}

// route tells the gate where clients belong now.
func (a *Agent) route(i *instance, st hold.Status, now hold.Instant) {
	if i.gate == nil {
		return
	}
	r := gate.Route{}
	if i.takesClients(st) {
		r.Local, r.Endless, r.Until = true, st.ServesFor < 0, now.Add(st.ServesFor)
	}
	file := i.state.File
	link, _ := split(file.Peer.LinkAddress)
	partnerGate, _ := split(i.peer.gate)
	r.PartnerHosts = a.names.addresses(link, partnerGate)
	if i.managed && file.Primary == file.Peer.Host && i.peer.serving && i.peer.epoch == file.Epoch {
		r.Partner = i.peer.gate
	}
	i.gate.Route(r)
}

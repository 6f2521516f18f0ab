package gate

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"time"
)

// newcomer is a client that has no connection to a database yet.
type newcomer struct {
	conn     net.Conn
	client   net.Addr // whom the gate serves: the peer, or whom the partner's gate speaks for
	to       net.Addr // where the client connected to
	fromGate bool     // the peer is the partner's gate
	first    []byte   // what was read from the client while looking for a header
}

// Reasons of refusals, as the metrics and the log name them.
const (
	refusedFull    = "full"
	refusedAddress = "address"
	refusedHeader  = "header"
	refusedNoRoute = "no_route" // nobody served within Options.Wait
	clientGone     = "gone"     // the client went away while it waited
)

// An attempt to connect may take this long, and the next one follows after a pause that doubles: a database that
// is being promoted refuses connections for a moment, and its backlog may be full.
const (
	dialLimit    = 2 * time.Second
	firstBackOff = 5 * time.Millisecond
	lastBackOff  = 250 * time.Millisecond
)

// admit is a new client's goroutine: who is it, where may it go, connect it. It ends when the client's connection
// is in the hands of a carrier.
func (g *Gate) admit(ctx context.Context, c net.Conn) {
	g.waiting.Add(1)
	defer g.waiting.Add(-1)
	came := g.o.Clock()
	n, reason := g.meet(c)
	if reason == "" {
		var p *passage
		if p, reason = g.connect(ctx, n); reason == "" {
			g.m.wait.Observe(g.o.Clock().Sub(came).Seconds())
			g.carry(p)
			return
		}
	}
	g.clients.Add(-1)
	g.m.refused.WithLabelValues(reason).Inc()
	if reason != clientGone && ctx.Err() == nil {
		g.say(ctx, reason, "the gate refused a client", "client", c.RemoteAddr(), "reason", reason)
	}
	abort(c)
}

// meet finds out who the client is and whether it may come in.
func (g *Gate) meet(c net.Conn) (n newcomer, refused string) {
	tune(c)
	n = newcomer{conn: c, client: c.RemoteAddr(), to: c.LocalAddr()}
	if g.isPartner(ipOf(n.client)) {
		if err := n.hear(); err != nil {
			return n, refusedHeader
		}
	}
	if len(g.o.Allow) == 0 {
		return n, ""
	}
	ip := ipOf(n.client)
	for _, network := range g.o.Allow {
		if network.Contains(ip) {
			return n, ""
		}
	}
	return n, refusedAddress
}

// ipOf is the address of a TCP peer, an IPv4 address always as such; the zero address for any other peer.
func ipOf(a net.Addr) netip.Addr {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.Addr{}
	}
	ip, _ := netip.AddrFromSlice(tcp.IP)
	return ip.Unmap()
}

// connect waits until somebody serves and connects the client to them.
func (g *Gate) connect(ctx context.Context, n newcomer) (p *passage, refused string) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	patience := time.NewTimer(g.o.Wait)
	defer patience.Stop()
	attend := attendant{conn: n.conn, left: func() { cancel(errLeft) }}
	defer attend.dismiss()
	pause := firstBackOff
	for tries := 0; ; tries++ {
		w, changed := g.current(n.fromGate)
		var again <-chan time.Time
		if w != nil {
			p, err := g.dial(ctx, n, w)
			if err == nil {
				return p, "" // carry ends w.making
			}
			w.making.Done()
			again = time.After(pause)
			pause = min(2*pause, lastBackOff)
		}
		attend.watch()
		select {
		case <-again:
		case <-changed:
			pause = firstBackOff
		case <-patience.C:
			return nil, refusedNoRoute
		case <-ctx.Done():
			if errors.Is(context.Cause(ctx), errLeft) {
				return nil, clientGone
			}
			return nil, refusedNoRoute
		}
	}
}

// errLeft ends all that is done for a client when it goes away.
var errLeft = errors.New("the client went away")

// dial makes one attempt to connect a client, which ends with the way.
func (g *Gate) dial(ctx context.Context, n newcomer, w *way) (*passage, error) {
	ctx, cancel := context.WithTimeout(ctx, dialLimit)
	defer cancel()
	go func() {
		select {
		case <-w.done:
			cancel()
		case <-ctx.Done():
		}
	}()
	address := g.o.Database
	if !w.local {
		address = w.partner
	}
	first, err := g.introduction(n, w)
	if err != nil {
		return nil, err
	}
	server, err := g.o.Dial(ctx, address)
	if err != nil {
		if ctx.Err() == nil || errors.Is(ctx.Err(), context.DeadlineExceeded) {
			g.m.dialErrors.WithLabelValues(w.name()).Inc()
			g.say(ctx, "dial", "the gate cannot connect a client; it tries again while the client may wait",
				"to", address, "error", err)
		}
		return nil, err
	}
	tune(server)
	if !w.local {
		tunePartner(server)
	}
	return &passage{way: w, client: n.conn, server: server, first: first}, nil
}

// dialTCP is the system's way to connect.
func dialTCP(ctx context.Context, address string) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, "tcp", address)
}

// A silent peer is found out after a minute, on either side.
const (
	keepAliveIdle     = 30 * time.Second
	keepAliveInterval = 10 * time.Second
	keepAliveCount    = 3
)

func tune(c net.Conn) {
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.SetNoDelay(true)
		_ = tcp.SetKeepAliveConfig(net.KeepAliveConfig{
			Enable: true, Idle: keepAliveIdle, Interval: keepAliveInterval, Count: keepAliveCount,
		})
	}
}

// attendant notices that a client goes away while it waits for a primary.
type attendant struct {
	conn  net.Conn
	left  func()
	ended chan struct{}
}

// watch starts it, once. A client that only shuts down its sending side counts as gone too: nothing tells the two
// apart before there is an answer to send.
func (a *attendant) watch() {
	if a.ended != nil {
		return
	}
	a.ended = make(chan struct{})
	go func() {
		defer close(a.ended)
		if untilGone(a.conn) {
			a.left()
		}
	}()
}

// dismiss ends it. The connection is as it was.
func (a *attendant) dismiss() {
	if a.ended == nil {
		return
	}
	_ = a.conn.SetReadDeadline(longAgo())
	<-a.ended
	_ = a.conn.SetReadDeadline(time.Time{})
}

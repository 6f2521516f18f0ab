// Package raftstoretest is a network and disks for tests in virtual time (testing/synctest): hosts with
// names, cuts in one direction, hosts that vanish, disks that hang or fail. The network carries anything
// that takes a net.Listener and a dial function, so a whole witness can run on it: Raft through Host.Stream,
// gRPC through Host.Listen and Host.Dial.
//
// It behaves as TCP does where that matters to a protocol. What is sent into a cut is not lost but held, and
// arrives when the cut heals, however late; neither side hears of the cut, only its own deadlines. A
// connection is opened only while both directions work.
package raftstoretest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// Network connects hosts. Make it inside the bubble of a test, and close what uses it before the bubble ends.
type Network struct {
	mu        sync.Mutex
	latency   time.Duration
	cut       map[link]bool
	isolated  map[string]bool
	listeners map[string]*listener // by address
	conns     map[*conn]struct{}   // both ends of each connection
	changed   chan struct{}        // closed when a cut or a listener changes
}

// link is one direction between two hosts.
type link struct{ from, to string }

// NewNetwork returns a network without hosts, on which everything arrives at once.
func NewNetwork() *Network {
	return &Network{
		cut:       make(map[link]bool),
		isolated:  make(map[string]bool),
		listeners: make(map[string]*listener),
		conns:     make(map[*conn]struct{}),
		changed:   make(chan struct{}),
	}
}

// SetLatency makes whatever is sent from now on arrive so much later.
func (n *Network) SetLatency(d time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.latency = d
}

// Cut holds what from sends to to, until Heal. The other direction goes on working.
func (n *Network) Cut(from, to string) { n.set(func() { n.cut[link{from, to}] = true }) }

// Heal ends a cut of this direction.
func (n *Network) Heal(from, to string) { n.set(func() { delete(n.cut, link{from, to}) }) }

// CutBoth cuts both directions between two hosts.
func (n *Network) CutBoth(a, b string) { n.Cut(a, b); n.Cut(b, a) }

// HealBoth heals both directions between two hosts.
func (n *Network) HealBoth(a, b string) { n.Heal(a, b); n.Heal(b, a) }

// Isolate cuts the host from all others, in both directions, until Rejoin.
func (n *Network) Isolate(host string) { n.set(func() { n.isolated[host] = true }) }

// Rejoin ends Isolate. Single cuts stay.
func (n *Network) Rejoin(host string) { n.set(func() { delete(n.isolated, host) }) }

// HealAll ends every cut.
func (n *Network) HealAll() { n.set(func() { clear(n.cut); clear(n.isolated) }) }

// Reset breaks every connection of the host, as its restart would: whoever reads or writes sees an error,
// and what was on the way is lost.
func (n *Network) Reset(host string) {
	n.set(func() {
		for c := range n.conns {
			if c.in.link.to == host || c.in.link.from == host {
				// It stays listed until it is closed: its readers are woken by a later Rejoin too.
				c.in.reset, c.in.queue, c.in.held = true, nil, 0
			}
		}
	})
}

// set changes the network and lets everybody who waits look again.
func (n *Network) set(change func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for c := range n.conns {
		defer c.in.moved.Broadcast()
	}
	change()
	n.wake()
}

func (n *Network) wake() {
	close(n.changed)
	n.changed = make(chan struct{})
}

func (n *Network) isCut(l link) bool {
	if l.from == l.to {
		return false
	}
	return n.cut[l] || n.isolated[l.from] || n.isolated[l.to]
}

// Host returns the host of that name.
func (n *Network) Host(name string) *Host { return &Host{network: n, name: name} }

// Host is one machine on the network.
type Host struct {
	network *Network
	name    string
}

// Name returns the host's name.
func (h *Host) Name() string { return h.name }

// Listen listens on a port of the host. The address is "name:port".
func (h *Host) Listen(port int) (net.Listener, error) { return h.listen(port) }

func (h *Host) listen(port int) (*listener, error) {
	n := h.network
	l := &listener{
		network: n,
		address: address(fmt.Sprintf("%s:%d", h.name, port)),
		waiting: make(chan net.Conn, 256),
		closed:  make(chan struct{}),
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.listeners[string(l.address)] != nil {
		return nil, &net.OpError{Op: "listen", Net: "mem", Addr: l.address, Err: syscall.EADDRINUSE}
	}
	n.listeners[string(l.address)] = l
	n.wake()
	return l, nil
}

// Dial connects from this host to an address. It waits while a cut is in the way.
func (h *Host) Dial(ctx context.Context, to string) (net.Conn, error) {
	c, err := h.dial(ctx, to)
	if err != nil {
		return nil, &net.OpError{Op: "dial", Net: "mem", Addr: address(to), Err: err}
	}
	return c, nil
}

func (h *Host) dial(ctx context.Context, to string) (net.Conn, error) {
	host, _, err := net.SplitHostPort(to)
	if err != nil {
		return nil, err
	}
	n := h.network
	there, back := link{h.name, host}, link{host, h.name}
	for {
		n.mu.Lock()
		changed, roundTrip := n.changed, 2*n.latency
		blocked := n.isCut(there) || n.isCut(back)
		if !blocked && roundTrip == 0 {
			defer n.mu.Unlock()
			return n.connect(there, to)
		}
		n.mu.Unlock()
		if blocked {
			select {
			case <-changed:
				continue
			case <-ctx.Done():
				return nil, deadline(ctx)
			}
		}
		select {
		case <-time.After(roundTrip):
		case <-ctx.Done():
			return nil, deadline(ctx)
		}
		n.mu.Lock()
		defer n.mu.Unlock()
		return n.connect(there, to)
	}
}

// deadline is the error of a dial that took too long, as package net has it.
func deadline(ctx context.Context) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return os.ErrDeadlineExceeded
	}
	return ctx.Err()
}

// connect makes both ends of a connection. Called with n.mu held.
func (n *Network) connect(there link, to string) (net.Conn, error) {
	l := n.listeners[to]
	if l == nil {
		return nil, syscall.ECONNREFUSED
	}
	from := address(there.from + ":0")
	out, back := newHalf(n, there), newHalf(n, link{there.to, there.from})
	dialled := &conn{local: from, remote: l.address, in: back, out: out}
	accepted := &conn{local: l.address, remote: from, in: out, out: back}
	select {
	case l.waiting <- accepted:
	default:
		return nil, syscall.ECONNREFUSED
	}
	n.conns[dialled], n.conns[accepted] = struct{}{}, struct{}{}
	return dialled, nil
}

// Stream is a port of a host with the means to dial from it: a raftstore.StreamLayer.
type Stream struct {
	net.Listener
	host *Host
}

// Stream listens on a port of the host, for raftstore.Options.
func (h *Host) Stream(port int) (*Stream, error) {
	l, err := h.listen(port)
	if err != nil {
		return nil, err
	}
	return &Stream{Listener: l, host: h}, nil
}

// Dial connects from the stream's host.
func (s *Stream) Dial(to string, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	return s.host.Dial(ctx, to)
}

type listener struct {
	network *Network
	address address
	waiting chan net.Conn
	closed  chan struct{}
	once    sync.Once
}

func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.waiting:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close also closes the connections that nobody has accepted.
func (l *listener) Close() error {
	l.once.Do(func() {
		l.network.mu.Lock()
		delete(l.network.listeners, string(l.address))
		l.network.mu.Unlock()
		close(l.closed)
		for {
			select {
			case c := <-l.waiting:
				_ = c.Close()
			default:
				return
			}
		}
	})
	return nil
}

func (l *listener) Addr() net.Addr { return l.address }

type address string

func (address) Network() string  { return "mem" }
func (a address) String() string { return string(a) }

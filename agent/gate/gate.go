package gate

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/witnessd/witnessd/agent/hold"
)

// Options say for whom a gate is and where its database listens.
type Options struct {
	// Instance names the database instance in logs, metrics and toward the partner's gate.
	Instance string
	// Allow lists the networks from which clients may come; none: from everywhere.
	Allow []netip.Prefix
	// MaxConnections bounds the clients, waiting ones included; 0: no bound.
	MaxConnections int
	// Wait is how long a new connection waits for a primary. One attempt to connect is made in any case, so a
	// client is told within Wait and two seconds.
	Wait time.Duration
	// ProxyProtocol sends the client's address to the local database (PROXY protocol, version 2).
	ProxyProtocol bool
	// Database is where the local database listens (host:port).
	Database string
	// Clock reads the host's boot-time clock. It is called before every transfer, from several goroutines.
	Clock func() hold.Instant
	// Logger is where refusals and ended rights are told; nil: nowhere.
	Logger *slog.Logger
	// Registerer takes the gate's metrics while Serve runs; nil: none.
	Registerer prometheus.Registerer
	// Dial makes a TCP connection; nil: the system's. Shut waits for it, so it must end when ctx does.
	Dial func(ctx context.Context, address string) (net.Conn, error)
	// Threads move the bytes on Linux; 0: half of GOMAXPROCS, at most four. GOMAXPROCS should be twice the number of
	// processors: see mostThreads.
	Threads int
}

// mostThreads is what a gate takes by itself: an agent may have several gates, and one thread passes 50,000 small
// messages or a gigabyte a second.
//
// A thread that waits for events holds one of the Go scheduler's processors. If none is idle, the scheduler takes
// that one away each time, which costs more than to pass a message, and the rest of the agent waits for those that
// are busy, its heartbeats too. Therefore there should be more of them than threads: they are only a number.
const mostThreads = 4

// Gate passes connections to the primary. It does nothing until Serve, and lets nobody in until Route.
type Gate struct {
	o     Options
	limit limiter
	m     *metrics

	mu      sync.Mutex // never held over anything that waits
	route   Route
	way     *way          // what new connections get; nil: they wait
	changed chan struct{} // closed when way changes
	crew    []carrier     // while Serve runs

	wake    chan struct{}   // tells watch that a right may end earlier than it knows
	next    atomic.Uint64   // spreads passages over the crew
	clients atomic.Int64    // taken in and not yet ended, waiting ones included
	waiting atomic.Int64    // clients that have no connection to a database yet
	passing [2]atomic.Int64 // passages by destination
	cuts    atomic.Uint64
	admits  sync.WaitGroup // goroutines that admit
}

// New makes a gate. It starts nothing.
func New(o Options) *Gate {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Dial == nil {
		o.Dial = dialTCP
	}
	if o.Threads == 0 {
		o.Threads = min(max(runtime.GOMAXPROCS(0)/2, 1), mostThreads)
	}
	g := &Gate{
		o: o, changed: make(chan struct{}), wake: make(chan struct{}, 1),
		limit: limiter{clock: o.Clock, last: map[string]*saying{}},
	}
	g.m = newMetrics(g)
	return g
}

// Serve takes in the listener's clients until ctx is done; then it cuts them all and returns nil. Any other end
// is an error. It closes the listener. A gate serves one listener at a time.
func (g *Gate) Serve(ctx context.Context, l net.Listener) error {
	defer l.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	unregister, err := g.m.register(g.o.Registerer, g.o.Instance)
	if err != nil {
		return fmt.Errorf("gate of %s: register its metrics: %w", g.o.Instance, err)
	}
	defer unregister()
	if err := g.muster(); err != nil {
		return fmt.Errorf("gate of %s: %w", g.o.Instance, err)
	}
	var own sync.WaitGroup
	own.Go(func() { g.watch(ctx) })
	own.Go(func() {
		<-ctx.Done()
		_ = l.Close()
	})
	err = g.accept(ctx, l)
	cancel()
	own.Wait()
	g.admits.Wait()
	g.dismiss()
	if err != nil {
		return fmt.Errorf("gate of %s: take in clients: %w", g.o.Instance, err)
	}
	return nil
}

// muster starts those who carry bytes.
func (g *Gate) muster() error {
	crew, err := newCrew(g)
	if err != nil {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.crew != nil {
		disband(crew)
		return errors.New("it serves another listener already")
	}
	g.crew = crew
	return nil
}

// dismiss cuts everything and ends those who carry bytes.
func (g *Gate) dismiss() {
	g.mu.Lock()
	crew := g.crew
	g.crew = nil
	g.mu.Unlock()
	disband(crew)
}

// Bounds of the pause after a failed accept: descriptors may have run out, and only the end of others helps.
const (
	shortestPause = 10 * time.Millisecond
	longestPause  = time.Second
)

// accept ends with ctx, or with an error when somebody else has closed the listener.
func (g *Gate) accept(ctx context.Context, l net.Listener) error {
	pause := shortestPause
	for {
		c, err := l.Accept()
		switch {
		case err == nil:
			pause = shortestPause
			g.take(ctx, c)
			continue
		case ctx.Err() != nil:
			return nil //nolint:nilerr // it was told to end
		case errors.Is(err, net.ErrClosed):
			return err
		}
		g.say(ctx, "accept", "the gate cannot take in a client; it tries again", "error", err)
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
		pause = min(2*pause, longestPause)
	}
}

// take starts to admit a client, if there is room for it.
func (g *Gate) take(ctx context.Context, c net.Conn) {
	g.m.accepted.Inc()
	if n := g.clients.Add(1); g.o.MaxConnections > 0 && n > int64(g.o.MaxConnections) {
		g.clients.Add(-1)
		g.m.refused.WithLabelValues(refusedFull).Inc()
		g.say(ctx, refusedFull, "the gate is full: a client was refused; raise gate.max_connections or find who "+
			"leaves connections open", "client", c.RemoteAddr(), "max_connections", g.o.MaxConnections)
		abort(c)
		return
	}
	g.admits.Go(func() { g.admit(ctx, c) })
}

// carry hands a made connection to one who moves its bytes.
func (g *Gate) carry(p *passage) {
	defer p.way.making.Done()
	g.passing[p.way.destination()].Add(1)
	g.mu.Lock()
	crew := g.crew
	g.mu.Unlock()
	// The last of the crew takes what the others cannot.
	first := int(g.next.Add(1) % uint64(max(len(crew)-1, 1)))
	if !crew[first].carry(p) {
		crew[len(crew)-1].carry(p)
	}
}

// ended is called once for each passage, by whoever carried it, when both its sockets are closed.
func (g *Gate) ended(p *passage, cut bool) {
	g.passing[p.way.destination()].Add(-1)
	g.clients.Add(-1)
	if cut {
		g.cuts.Add(1)
	}
}

// abort closes a connection so that its peer hears a reset: "refused" or "broken", never "all has been said".
func abort(c net.Conn) {
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = c.Close()
}

package gate

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/witnessd/witnessd/agent/hold"
)

// clockFrom is a clock as the boot-time clock is while nothing is suspended.
func clockFrom(base time.Time) func() hold.Instant {
	return func() hold.Instant { return hold.Instant(time.Since(base)) + hold.Instant(time.Hour) }
}

// patience is how long tests wait for what must happen; nothing that holds takes so long.
const patience = 20 * time.Second

// house is a gate that serves on loopback, and its database.
type house struct {
	*Gate
	t       *testing.T
	address string
	db      *database
	clock   func() hold.Instant
	stop    func()
}

// carriage is how the bytes of a test are carried.
type carriage struct {
	name  string
	plain bool
}

func carriages() []carriage { return []carriage{{"fast", false}, {"plain", true}} }

// each runs a test with the system's carriers and with the plain one.
func each(t *testing.T, f func(t *testing.T, plain bool)) {
	for _, c := range carriages() {
		t.Run(c.name, func(t *testing.T) { f(t, c.plain) })
	}
}

// opaque hides that a connection is TCP, so that only the plain carrier takes it.
type opaque struct{ net.Conn }

func (o opaque) CloseWrite() error { return o.Conn.(*net.TCPConn).CloseWrite() }

func newHouse(t *testing.T, plain bool, change func(*Options)) *house {
	t.Helper()
	return newHouseOn(t, "127.0.0.1", plain, change)
}

func newHouseOn(t *testing.T, host string, plain bool, change func(*Options)) *house {
	t.Helper()
	h := &house{t: t, db: newDatabase(t, host), clock: clockFrom(time.Now())}
	o := Options{
		Instance: t.Name(), Wait: patience, Database: h.db.address, Clock: h.clock,
		Logger: slog.New(slog.NewTextHandler(tester{t}, nil)),
	}
	o.Dial = dialAsGate(plain)
	if change != nil {
		change(&o)
	}
	h.Gate = New(o)
	l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		t.Fatal(err)
	}
	h.address = l.Addr().String()
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- h.Serve(ctx, l) }()
	h.stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-served:
			if err != nil {
				t.Errorf("serve: %v", err)
			}
		case <-time.After(patience):
			t.Error("the gate does not stop")
		}
		if s := h.Stats(); s.Waiting+s.Local+s.Partner != 0 {
			t.Errorf("when it has stopped: %+v", s)
		}
	})
	t.Cleanup(h.stop)
	return h
}

type tester struct{ t *testing.T }

func (w tester) Write(b []byte) (int, error) {
	w.t.Log(strings.TrimSpace(string(b)))
	return len(b), nil
}

// serve gives the gate a right for a while.
func (h *house) serve(d time.Duration) {
	h.Route(Route{Local: true, Until: h.clock().Add(d), PartnerHosts: loopback()})
}

func (h *house) follow(partner *house) {
	h.Route(Route{Partner: partner.address, PartnerHosts: loopback()})
}

// gateHost is the address that gates connect from here, so that they can be told from clients; ::1 has no such
// neighbour.
const gateHost = "127.0.0.2"

func loopback() []netip.Addr {
	return []netip.Addr{netip.MustParseAddr(gateHost), netip.MustParseAddr("::1")}
}

func dialAsGate(plain bool) func(context.Context, string) (net.Conn, error) {
	return func(ctx context.Context, address string) (net.Conn, error) {
		var d net.Dialer
		if strings.HasPrefix(address, "127.") {
			d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(gateHost)}
		}
		c, err := d.DialContext(ctx, "tcp", address)
		if err != nil || !plain {
			return c, err
		}
		return opaque{c}, nil
	}
}

// dial is a client's connection to the gate.
func (h *house) dial() *net.TCPConn {
	h.t.Helper()
	return dial(h.t, h.address)
}

func dial(t testing.TB, address string) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c.(*net.TCPConn)
}

// ask sends a word and expects it back.
func ask(t testing.TB, c net.Conn, word string) {
	t.Helper()
	if err := tryAsk(c, word); err != nil {
		t.Fatalf("ask for %q: %v", word, err)
	}
}

func tryAsk(c net.Conn, word string) error {
	if _, err := io.WriteString(c, word); err != nil {
		return err
	}
	got := make([]byte, len(word))
	_ = c.SetReadDeadline(time.Now().Add(patience))
	if _, err := io.ReadFull(c, got); err != nil {
		return err
	}
	if string(got) != word {
		return errors.New("got " + string(got))
	}
	return nil
}

// mustEnd waits until the connection is over and says how.
func mustEnd(t testing.TB, c net.Conn) error {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(patience))
	_, err := io.Copy(io.Discard, c)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatal("the connection goes on")
	}
	return err
}

// mustReset waits for a reset.
func mustReset(t testing.TB, c net.Conn) {
	t.Helper()
	if err := mustEnd(t, c); !errors.Is(err, syscall.ECONNRESET) {
		t.Fatalf("the connection ended with %v, want a reset", err)
	}
}

func eventually(t testing.TB, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !f(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}

// database is a server that gives each connection to the test's handler; without one it sends back what comes.
type database struct {
	address string
	t       testing.TB
	listen  net.Listener

	mu    sync.Mutex
	serve func(net.Conn)
	conns []net.Conn
}

func newDatabase(t testing.TB, host string) *database {
	t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		t.Fatal(err)
	}
	d := &database{t: t, address: l.Addr().String(), listen: l}
	d.handle(func(c net.Conn) {
		defer c.Close()
		_, _ = io.Copy(c, c)
	})
	go d.accept(l)
	t.Cleanup(d.close)
	return d
}

func (d *database) handle(f func(net.Conn)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.serve = f
}

func (d *database) accept(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		d.mu.Lock()
		d.conns = append(d.conns, c)
		serve := d.serve
		d.mu.Unlock()
		go serve(c)
	}
}

// came is how many connections there have been.
func (d *database) came() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.conns)
}

func (d *database) close() {
	_ = d.listen.Close()
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, c := range d.conns {
		_ = c.Close()
	}
}

// arrivals makes the database hand its connections to the test.
func (d *database) arrivals() <-chan *net.TCPConn {
	ch := make(chan *net.TCPConn, 10000)
	d.handle(func(c net.Conn) { ch <- c.(*net.TCPConn) })
	return ch
}

func next(t testing.TB, ch <-chan *net.TCPConn) *net.TCPConn {
	t.Helper()
	select {
	case c := <-ch:
		return c
	case <-time.After(patience):
		t.Fatal("no connection has come to the database")
		return nil
	}
}

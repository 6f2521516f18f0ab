package link_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/test/bufconn"
)

// network connects addresses in memory, so that a test runs in virtual time.
type network struct {
	mu        sync.Mutex
	listeners map[string]*bufconn.Listener
	cuts      map[string]bool
	open      map[string][]*wire
	dials     map[string][]time.Time
}

func newNetwork() *network {
	return &network{
		listeners: map[string]*bufconn.Listener{}, cuts: map[string]bool{},
		open: map[string][]*wire{}, dials: map[string][]time.Time{},
	}
}

func (n *network) listen(address string) net.Listener {
	l := bufconn.Listen(256 << 10)
	n.mu.Lock()
	defer n.mu.Unlock()
	n.listeners[address] = l
	return l
}

// off makes dials of the address fail at once, as on a host where nothing listens.
func (n *network) off(address string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.listeners, address)
}

// cut makes a black hole of the address: what is open there hears nothing any more, for ever, and dials get no
// answer.
func (n *network) cut(address string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cuts[address] = true
	for _, w := range n.open[address] {
		w.dead.Store(true)
	}
	n.open[address] = nil
}

// heal lets new connections through.
func (n *network) heal(address string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.cuts, address)
}

func (n *network) dial(ctx context.Context, address string) (net.Conn, error) {
	n.mu.Lock()
	n.dials[address] = append(n.dials[address], time.Now())
	cut, l := n.cuts[address], n.listeners[address]
	n.mu.Unlock()
	if cut {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	if l == nil {
		return nil, errors.New("connection refused")
	}
	conn, err := l.DialContext(ctx)
	if err != nil {
		return nil, err
	}
	w := newWire(conn)
	n.mu.Lock()
	defer n.mu.Unlock()
	n.open[address] = append(n.open[address], w)
	return w, nil
}

func (n *network) dialled(address string) []time.Time {
	n.mu.Lock()
	defer n.mu.Unlock()
	return append([]time.Time(nil), n.dials[address]...)
}

// stick makes the open connections to the address take nothing more: writing to them waits until they are
// closed, as it does when the system's buffers are full.
func (n *network) stick(address string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, w := range n.open[address] {
		w.stuck.Store(true)
	}
}

// wire is the dialling end of a connection. Once dead it swallows what goes either way.
type wire struct {
	net.Conn
	dead, stuck atomic.Bool
	closed      chan struct{}
	close       func() error
}

func newWire(conn net.Conn) *wire {
	w := &wire{Conn: conn, closed: make(chan struct{})}
	w.close = sync.OnceValue(func() error {
		close(w.closed)
		return conn.Close()
	})
	return w
}

func (w *wire) Close() error { return w.close() }

func (w *wire) Write(b []byte) (int, error) {
	if w.stuck.Load() {
		<-w.closed
		return 0, net.ErrClosed
	}
	if w.dead.Load() {
		return len(b), nil
	}
	return w.Conn.Write(b)
}

func (w *wire) Read(b []byte) (int, error) {
	for {
		n, err := w.Conn.Read(b)
		if !w.dead.Load() || err != nil {
			return n, err
		}
	}
}

// list collects what callbacks are called with.
type list[T any] struct {
	mu    sync.Mutex
	items []T
}

func (l *list[T]) add(item T) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.items = append(l.items, item)
}

func (l *list[T]) all() []T {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]T(nil), l.items...)
}

// take returns what has come and forgets it.
func (l *list[T]) take() []T {
	l.mu.Lock()
	defer l.mu.Unlock()
	items := l.items
	l.items = nil
	return items
}

// logged collects log lines.
type logged struct{ lines list[string] }

func (l *logged) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

func (l *logged) Write(b []byte) (int, error) {
	l.lines.add(string(b))
	return len(b), nil
}

func (l *logged) with(part string) int {
	found := 0
	for _, line := range l.lines.all() {
		if strings.Contains(line, part) {
			found++
		}
	}
	return found
}

func expect(t *testing.T, what string, got, want any) {
	t.Helper()
	if g, w := fmt.Sprintf("%+v", got), fmt.Sprintf("%+v", want); g != w {
		t.Errorf("%s: got %s, want %s", what, g, w)
	}
}

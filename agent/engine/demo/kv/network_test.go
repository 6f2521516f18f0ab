package kv

import (
	"context"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func contextFor(t *testing.T, d time.Duration) (context.Context, context.CancelFunc) {
	t.Helper()
	return context.WithTimeout(t.Context(), d)
}

// virtualNetwork carries connections within a test and can swallow everything, as a cut cable does.
type virtualNetwork struct {
	t         *testing.T
	swallow   atomic.Bool
	mu        sync.Mutex
	listeners map[string]*virtualListener
}

func newVirtualNetwork(t *testing.T) *virtualNetwork {
	return &virtualNetwork{t: t, listeners: map[string]*virtualListener{}}
}

func (n *virtualNetwork) cut(on bool) { n.swallow.Store(on) }

func (n *virtualNetwork) listen(name string) net.Listener {
	l := &virtualListener{name: name, conns: make(chan net.Conn), closed: make(chan struct{})}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.listeners[name] = l
	return l
}

func (n *virtualNetwork) dial(ctx context.Context, address string) (net.Conn, error) {
	n.mu.Lock()
	l := n.listeners[address]
	n.mu.Unlock()
	if l == nil {
		return nil, fmt.Errorf("no such host %s", address)
	}
	if n.swallow.Load() {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	mine, hop1 := net.Pipe()
	hop2, theirs := net.Pipe()
	go n.carry(hop1, hop2)
	go n.carry(hop2, hop1)
	select {
	case l.conns <- theirs:
		return mine, nil
	case <-l.closed:
		return nil, fmt.Errorf("%s refuses", address)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// carry moves bytes one way until either end closes.
func (n *virtualNetwork) carry(from, to net.Conn) {
	defer from.Close()
	defer to.Close()
	buf := make([]byte, 64<<10)
	for {
		got, err := from.Read(buf)
		if err != nil {
			return
		}
		if n.swallow.Load() {
			continue
		}
		if _, err := to.Write(buf[:got]); err != nil {
			return
		}
	}
}

type virtualListener struct {
	name   string
	conns  chan net.Conn
	once   sync.Once
	closed chan struct{}
}

func (l *virtualListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *virtualListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *virtualListener) Addr() net.Addr { return virtualAddr(l.name) }

type virtualAddr string

func (virtualAddr) Network() string  { return "virtual" }
func (a virtualAddr) String() string { return string(a) }

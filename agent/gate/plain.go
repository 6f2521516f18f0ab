package gate

import (
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
)

// plain carries with two goroutines per passage and copies. It takes any kind of connection, on any system.
type plain struct {
	gate *Gate

	up, down atomic.Uint64

	mu    sync.Mutex
	all   map[*passage]*trip
	trips sync.WaitGroup
}

// trip is a passage under way.
type trip struct {
	*passage
	once sync.Once
	cut  bool // by us, because the way was over
}

func newPlain(g *Gate) *plain { return &plain{gate: g, all: map[*passage]*trip{}} }

func (c *plain) carry(p *passage) bool {
	t := &trip{passage: p}
	c.mu.Lock()
	c.all[p] = t
	// Looked at under mu: what is closed from now on is found in the map by cut.
	open := p.way.open(c.gate.o.Clock)
	c.mu.Unlock()
	if !open {
		t.reset(true)
	}
	c.trips.Go(func() {
		var back sync.WaitGroup
		back.Go(func() { c.copy(t, p.client, p.server, &c.down) })
		if c.send(t, p.server, p.first, &c.up) {
			c.copy(t, p.server, p.client, &c.up)
		}
		back.Wait()
		t.close()
		c.mu.Lock()
		delete(c.all, p)
		cut := t.cut
		c.mu.Unlock()
		c.gate.ended(p, cut)
	})
	return true
}

// copy passes bytes one way until there are no more, and passes that on.
func (c *plain) copy(t *trip, to, from net.Conn, count *atomic.Uint64) {
	buf := make([]byte, blockSize)
	for {
		n, err := from.Read(buf)
		if n > 0 && !c.send(t, to, buf[:n], count) {
			return
		}
		if err == nil {
			continue
		}
		half, ok := to.(interface{ CloseWrite() error })
		if errors.Is(err, io.EOF) && ok && half.CloseWrite() == nil {
			return
		}
		t.reset(false)
		return
	}
}

// send writes if the way is open; otherwise, or if it cannot, it resets both connections.
func (c *plain) send(t *trip, to net.Conn, b []byte, count *atomic.Uint64) bool {
	if len(b) == 0 {
		return true
	}
	// Between this look and the write a process may be stopped for any time; then what is in b passes late, and
	// nothing after it.
	open := t.way.open(c.gate.o.Clock)
	if open {
		if _, err := to.Write(b); err == nil {
			count.Add(uint64(len(b)))
			return true
		}
	}
	t.reset(!open)
	return false
}

func (t *trip) reset(cut bool) {
	t.once.Do(func() {
		t.cut = cut
		abort(t.client)
		abort(t.server)
	})
}

func (t *trip) close() {
	t.once.Do(func() {
		_ = t.client.Close()
		_ = t.server.Close()
	})
}

func (c *plain) cut(w *way) <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, t := range c.all {
		if t.way == w {
			t.reset(true)
		}
	}
	done := make(chan struct{})
	close(done)
	return done
}

func (c *plain) carried() (toServers, toClients uint64) { return c.up.Load(), c.down.Load() }

func (c *plain) stop() {
	c.mu.Lock()
	for _, t := range c.all {
		t.reset(true)
	}
	c.mu.Unlock()
	c.trips.Wait()
}

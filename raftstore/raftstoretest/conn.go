package raftstoretest

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// conn is one end of a connection: it reads from one half and writes into the other.
type conn struct {
	local, remote address
	in, out       *half
}

// half is one direction of a connection. All of its fields are guarded by the network's lock.
type half struct {
	network *Network
	link    link
	moved   *sync.Cond // data, deadlines, cuts and ends: everybody looks again

	queue []segment
	held  int // bytes in queue

	closed  bool // the writer has closed; the reader reads on to the end
	gone    bool // the reader has closed; what is written is lost
	reset   bool
	reading deadlineTimer
	writing deadlineTimer
}

// segment is what one Write sent, and when it arrives if nothing holds it.
type segment struct {
	data []byte
	at   time.Time
}

// window is how much a writer can send ahead of the reader, a little more than kernels allow by default.
const window = 1 << 20

func newHalf(n *Network, l link) *half {
	return &half{network: n, link: l, moved: sync.NewCond(&n.mu)}
}

func (c *conn) Read(p []byte) (int, error) {
	n, err := c.in.read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = &net.OpError{Op: "read", Net: "mem", Source: c.remote, Addr: c.local, Err: err}
	}
	return n, err
}

func (h *half) read(p []byte) (int, error) {
	h.network.mu.Lock()
	defer h.network.mu.Unlock()
	for {
		cut := h.network.isCut(h.link)
		switch {
		case h.gone:
			return 0, net.ErrClosed
		case h.reading.passed():
			return 0, os.ErrDeadlineExceeded
		case cut: // nothing arrives
		case h.reset:
			return 0, syscall.ECONNRESET
		case len(h.queue) > 0 && !h.queue[0].at.After(time.Now()):
			n := copy(p, h.queue[0].data)
			if h.queue[0].data = h.queue[0].data[n:]; len(h.queue[0].data) == 0 {
				h.queue = h.queue[1:]
			}
			h.held -= n
			h.moved.Broadcast()
			return n, nil
		case len(h.queue) == 0 && h.closed:
			return 0, io.EOF
		}
		h.moved.Wait()
	}
}

func (c *conn) Write(p []byte) (int, error) {
	n, err := c.out.write(p)
	if err != nil {
		err = &net.OpError{Op: "write", Net: "mem", Source: c.local, Addr: c.remote, Err: err}
	}
	return n, err
}

func (h *half) write(p []byte) (sent int, err error) {
	h.network.mu.Lock()
	defer h.network.mu.Unlock()
	for len(p) > 0 {
		heard := !h.network.isCut(h.link) && !h.network.isCut(link{h.link.to, h.link.from})
		switch {
		case h.closed:
			return sent, net.ErrClosed
		case h.writing.passed():
			return sent, os.ErrDeadlineExceeded
		case h.reset && heard:
			return sent, syscall.ECONNRESET
		case h.gone && heard:
			return sent, syscall.EPIPE
		}
		n := min(len(p), window-h.held)
		if n == 0 {
			h.moved.Wait()
			continue
		}
		if !h.gone && !h.reset {
			h.send(p[:n])
		}
		sent, p = sent+n, p[n:]
	}
	return sent, nil
}

func (h *half) send(p []byte) {
	at := time.Now().Add(h.network.latency)
	h.queue = append(h.queue, segment{data: append([]byte(nil), p...), at: at})
	h.held += len(p)
	if h.network.latency > 0 {
		time.AfterFunc(h.network.latency, h.wake)
	}
	h.moved.Broadcast()
}

func (h *half) wake() {
	h.network.mu.Lock()
	defer h.network.mu.Unlock()
	h.moved.Broadcast()
}

// Close ends both directions. The other end reads what is on the way to it, then the end.
func (c *conn) Close() error {
	n := c.in.network
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.conns, c)
	c.out.closed = true
	c.in.gone, c.in.queue, c.in.held = true, nil, 0
	for _, h := range []*half{c.in, c.out} {
		h.moved.Broadcast()
	}
	c.in.reading.stop()
	c.out.writing.stop()
	return nil
}

func (c *conn) LocalAddr() net.Addr  { return c.local }
func (c *conn) RemoteAddr() net.Addr { return c.remote }

func (c *conn) SetDeadline(t time.Time) error {
	_ = c.SetReadDeadline(t)
	return c.SetWriteDeadline(t)
}

func (c *conn) SetReadDeadline(t time.Time) error {
	c.in.network.mu.Lock()
	defer c.in.network.mu.Unlock()
	c.in.reading.set(t, c.in)
	return nil
}

func (c *conn) SetWriteDeadline(t time.Time) error {
	c.out.network.mu.Lock()
	defer c.out.network.mu.Unlock()
	c.out.writing.set(t, c.out)
	return nil
}

// deadlineTimer wakes those who wait when their deadline has passed.
type deadlineTimer struct {
	at    time.Time
	timer *time.Timer
}

func (d *deadlineTimer) passed() bool { return !d.at.IsZero() && !d.at.After(time.Now()) }

func (d *deadlineTimer) stop() {
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
}

func (d *deadlineTimer) set(t time.Time, h *half) {
	d.stop()
	d.at = t
	if !t.IsZero() {
		d.timer = time.AfterFunc(time.Until(t), h.wake)
	}
	h.moved.Broadcast()
}

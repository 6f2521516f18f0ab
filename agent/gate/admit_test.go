package gate

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// TestWaits: between two primaries a client waits, and is served when there is one.
func TestWaits(t *testing.T) {
	each(t, func(t *testing.T, plain bool) {
		h, other := newHouse(t, plain, nil), newHouse(t, plain, nil)
		other.serve(time.Minute)
		waits := func() *net.TCPConn {
			c := h.dial()
			if _, err := io.WriteString(c, "first "); err != nil {
				t.Fatal(err)
			}
			eventually(t, "the client waits", func() bool { return h.Stats().Waiting == 1 })
			return c
		}
		served := func(c *net.TCPConn) {
			t.Helper()
			got := make([]byte, 6)
			if _, err := io.ReadFull(c, got); err != nil || string(got) != "first " {
				t.Fatalf("got %q, %v", got, err)
			}
			ask(t, c, "second")
		}
		c := waits()
		h.serve(time.Minute)
		served(c)
		h.Shut("test")
		mustReset(t, c)
		c = waits()
		h.follow(other)
		served(c)
		// A right that is over before it is heard of lets nobody in.
		h.Route(Route{})
		c = waits()
		h.serve(-time.Millisecond)
		time.Sleep(20 * time.Millisecond)
		if s := h.Stats(); s.Waiting != 1 {
			t.Errorf("with a right that is over: %+v", s)
		}
		h.serve(time.Minute)
		served(c)
	})
}

func TestWaitEnds(t *testing.T) {
	h := newHouse(t, false, func(o *Options) { o.Wait = 100 * time.Millisecond })
	began := time.Now()
	mustReset(t, h.dial())
	if took := time.Since(began); took < 100*time.Millisecond || took > patience/2 {
		t.Errorf("refused after %v", took)
	}
	eventually(t, "it is counted", func() bool { return refusals(h, refusedNoRoute) == 1 })
	// Without any wait there is one attempt.
	h = newHouse(t, false, func(o *Options) { o.Wait = 0 })
	h.serve(time.Minute)
	ask(t, h.dial(), "at once")
}

func refusals(h *house, reason string) int {
	return int(value(h.t, h.m.refused.WithLabelValues(reason)))
}

// value is what a counter says now.
func value(t testing.TB, c prometheus.Collector) float64 {
	t.Helper()
	reg := prometheus.NewRegistry()
	reg.MustRegister(c)
	families, err := reg.Gather()
	if err != nil || len(families) != 1 {
		t.Fatalf("%v, %v", families, err)
	}
	return families[0].GetMetric()[0].GetCounter().GetValue()
}

// TestLeavesWhileWaiting: a client that has gone does not take another's place until the wait is over.
func TestLeavesWhileWaiting(t *testing.T) {
	ends := map[string]func(c *net.TCPConn){
		"close":          func(c *net.TCPConn) { _ = c.Close() },
		"reset":          func(c *net.TCPConn) { abort(c) },
		"after it spoke": func(c *net.TCPConn) { _, _ = io.WriteString(c, "hello"); _ = c.Close() },
		"close of its side": func(c *net.TCPConn) {
			_ = c.CloseWrite()
		},
	}
	for name, end := range ends {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t, false, nil)
			c := h.dial()
			eventually(t, "it waits", func() bool { return h.Stats().Waiting == 1 })
			end(c)
			eventually(t, "its place is free", func() bool { return h.clients.Load() == 0 })
			if n := refusals(h, clientGone); n != 1 {
				t.Errorf("counted %d times", n)
			}
		})
	}
}

// TestDatabaseComesLater: the route is local, but the database does not take connections yet.
func TestDatabaseComesLater(t *testing.T) {
	h := newHouse(t, false, nil)
	h.serve(time.Minute)
	_ = h.db.listen.Close()
	c := h.dial()
	eventually(t, "it is tried again", func() bool {
		return value(t, h.m.dialErrors.WithLabelValues(localName)) >= 2
	})
	l, err := net.Listen("tcp", h.db.address)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go h.db.accept(l)
	ask(t, c, "hello")
}

// TestRightEndsWhileDialing: a connection that the database has not taken yet ends with the right, and the client
// waits for the next primary.
func TestRightEndsWhileDialing(t *testing.T) {
	h, other := newHouse(t, false, nil), newHouse(t, false, nil)
	other.serve(time.Minute)
	// A socket whose queue is full does not answer.
	full, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(full)
	if err := errors.Join(syscall.Bind(full, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}),
		syscall.Listen(full, 0)); err != nil {
		t.Fatal(err)
	}
	sa, err := syscall.Getsockname(full)
	if err != nil {
		t.Fatal(err)
	}
	address := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(sa.(*syscall.SockaddrInet4).Port)).String()
	for range 2 {
		if c, err := net.DialTimeout("tcp", address, 50*time.Millisecond); err == nil {
			defer c.Close()
		}
	}
	h.o.Database = address
	h.serve(time.Minute)
	c := h.dial()
	eventually(t, "it waits", func() bool { return h.Stats().Waiting == 1 })
	time.Sleep(10 * time.Millisecond)
	began := time.Now()
	h.follow(other)
	ask(t, c, "hello")
	if took := time.Since(began); took > dialLimit/2 {
		t.Errorf("served %v after the route has changed", took)
	}
}

func TestMaxConnections(t *testing.T) {
	each(t, func(t *testing.T, plain bool) {
		h := newHouse(t, plain, func(o *Options) { o.MaxConnections = 2 })
		waiting := h.dial()
		eventually(t, "one waits", func() bool { return h.Stats().Waiting == 1 })
		h.serve(time.Minute)
		ask(t, waiting, "a")
		second := h.dial()
		ask(t, second, "b")
		if third, err := net.Dial("tcp", h.address); err == nil { // the reset may come before the connection is seen
			mustReset(t, third)
		}
		if n := refusals(h, refusedFull); n != 1 {
			t.Errorf("refused %d", n)
		}
		_ = second.Close()
		eventually(t, "one has left", func() bool { return h.clients.Load() == 1 })
		ask(t, h.dial(), "c")
		ask(t, waiting, "d")
	})
}

func TestAllow(t *testing.T) {
	tests := []struct {
		name  string
		host  string
		allow []string
		ok    bool
	}{
		{"all", "127.0.0.1", nil, true},
		{"the address", "127.0.0.1", []string{"127.0.0.1/32"}, true},
		{"the network", "127.0.0.1", []string{"10.0.0.0/8", "127.0.0.0/8"}, true},
		{"another", "127.0.0.1", []string{"10.0.0.0/8"}, false},
		{"another family", "127.0.0.1", []string{"::/0"}, false},
		{"IPv6", "::1", []string{"::1/128"}, true},
		{"IPv4 only", "::1", []string{"0.0.0.0/0"}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := newHouseOn(t, tt.host, false, func(o *Options) {
				for _, a := range tt.allow {
					o.Allow = append(o.Allow, netip.MustParsePrefix(a))
				}
			})
			h.Route(Route{Local: true, Endless: true})
			if tt.ok {
				ask(t, h.dial(), "hello")
				return
			}
			c, err := net.Dial("tcp", h.address)
			if err == nil { // the reset may come before the connection is seen
				mustReset(t, c)
			}
			if n := refusals(h, refusedAddress); n != 1 || h.db.came() != 0 {
				t.Errorf("refused %d, at the database %d", n, h.db.came())
			}
		})
	}
}

// TestSecondListener: one at a time, and again when the first has ended.
func TestSecondListener(t *testing.T) {
	h := newHouse(t, false, nil)
	h.serve(time.Minute)
	c := h.dial()
	ask(t, c, "hello")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Serve(t.Context(), l); err == nil {
		t.Error("it serves two listeners")
	}
	ask(t, c, "still")
	h.stop()
	mustReset(t, c)
	if _, err := net.DialTimeout("tcp", h.address, time.Second); err == nil {
		t.Error("somebody listens when the gate has stopped")
	}
	h.Shut("a gate that has stopped is shut")
	h.Route(Route{})
}

// TestListenerLost: a gate that cannot take in clients any more says so.
func TestListenerLost(t *testing.T) {
	g := New(Options{Clock: clockFrom(time.Now())})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
	if err := g.Serve(t.Context(), l); !errors.Is(err, net.ErrClosed) {
		t.Errorf("serve: %v", err)
	}
}

// TestOutOfDescriptors: accept fails for a while, and the gate goes on.
func TestOutOfDescriptors(t *testing.T) {
	g := New(Options{Clock: clockFrom(time.Now()), Wait: patience})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	poor := &poor{Listener: l, failures: 3}
	served := make(chan error, 1)
	go func() { served <- g.Serve(t.Context(), poor) }()
	c := dial(t, l.Addr().String())
	eventually(t, "it is taken in", func() bool { return g.Stats().Waiting == 1 })
	_ = c.Close()
	eventually(t, "it is let go", func() bool { return g.Stats().Waiting == 0 })
	_ = l.Close()
	if err := <-served; err == nil {
		t.Error("a lost listener is no error")
	}
}

// poor is a listener in a process that has no descriptors left.
type poor struct {
	net.Listener
	failures int
}

func (p *poor) Accept() (net.Conn, error) {
	if p.failures > 0 {
		p.failures--
		return nil, os.NewSyscallError("accept4", syscall.EMFILE)
	}
	return p.Listener.Accept()
}

func TestMetrics(t *testing.T) {
	reg := prometheus.NewRegistry()
	a := newHouse(t, false, func(o *Options) { o.Instance, o.Registerer = "a", reg })
	b := newHouse(t, false, func(o *Options) { o.Instance, o.Registerer = "b", reg })
	a.serve(time.Minute)
	b.follow(a)
	ask(t, b.dial(), "hello")
	values := func() map[string]float64 {
		families, err := reg.Gather()
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]float64{}
		for _, f := range families {
			for _, m := range f.GetMetric() {
				name := f.GetName()
				for _, l := range m.GetLabel() {
					name += " " + l.GetValue()
				}
				got[name] = m.GetGauge().GetValue() + m.GetCounter().GetValue() + float64(m.GetHistogram().GetSampleCount())
			}
		}
		return got
	}
	eventually(t, "the bytes are counted", func() bool {
		return values()["witness_agent_gate_bytes_total to_client b"] == 5
	})
	got := values()
	for name, want := range map[string]float64{
		"witness_agent_gate_connections local a":     1,
		"witness_agent_gate_connections partner a":   0,
		"witness_agent_gate_connections partner b":   1,
		"witness_agent_gate_accepted_total b":        1,
		"witness_agent_gate_bytes_total to_client b": 5,
		"witness_agent_gate_bytes_total to_client a": 5,
		"witness_agent_gate_wait_seconds b":          1,
		"witness_agent_gate_waiting b":               0,
		"witness_agent_gate_cuts_total b":            0,
	} {
		if v, ok := got[name]; !ok || v != want {
			t.Errorf("%s = %v (there: %t), want %v", name, v, ok, want)
		}
	}
	a.stop()
	b.stop()
	if got := values(); len(got) > 0 {
		t.Errorf("metrics of gates that have stopped: %v", got)
	}
}

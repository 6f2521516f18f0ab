package raftstoretest_test

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/nettest"

	"github.com/witnessd/witnessd/raftstore/raftstoretest"
)

// TestConn holds the connections against what everybody expects of a net.Conn. It runs in real time.
func TestConn(t *testing.T) {
	nettest.TestConn(t, func() (dialled, accepted net.Conn, stop func(), err error) {
		n := raftstoretest.NewNetwork()
		l, err := n.Host("b").Listen(1)
		if err != nil {
			return nil, nil, nil, err
		}
		if dialled, err = n.Host("a").Dial(t.Context(), "b:1"); err != nil {
			return nil, nil, nil, err
		}
		accepted, err = l.Accept()
		return dialled, accepted, func() { _, _, _ = dialled.Close(), accepted.Close(), l.Close() }, err
	})
}

// pair returns both ends of a connection from a to b.
func pair(t *testing.T, n *raftstoretest.Network) (a, b net.Conn) {
	t.Helper()
	l, err := n.Host("b").Listen(1)
	if err != nil {
		t.Fatal(err)
	}
	if a, err = n.Host("a").Dial(t.Context(), "b:1"); err != nil {
		t.Fatal(err)
	}
	if b, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _, _ = a.Close(), b.Close(), l.Close() })
	return a, b
}

// arrival reads once and says what it got, and how long it took in virtual time.
func arrival(c net.Conn, patience time.Duration) (string, time.Duration, error) {
	began := time.Now()
	_ = c.SetReadDeadline(began.Add(patience))
	p := make([]byte, 64)
	n, err := c.Read(p)
	return string(p[:n]), time.Since(began), err
}

func TestNetwork(t *testing.T) {
	send := func(t *testing.T, c net.Conn, text string) {
		t.Helper()
		if _, err := c.Write([]byte(text)); err != nil {
			t.Fatalf("write: %v", err)
		}
	}
	tests := map[string]func(t *testing.T, n *raftstoretest.Network){
		"a cut holds what is sent and lets it go when it heals": func(t *testing.T, n *raftstoretest.Network) {
			a, b := pair(t, n)
			n.Cut("a", "b")
			send(t, a, "late")
			if _, _, err := arrival(b, time.Second); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Fatalf("read across a cut: %v", err)
			}
			time.AfterFunc(3*time.Second, func() { n.Heal("a", "b") })
			if got, after, err := arrival(b, time.Minute); got != "late" || after != 3*time.Second {
				t.Fatalf("got %q after %v, %v", got, after, err)
			}
		},
		"a cut has one direction": func(t *testing.T, n *raftstoretest.Network) {
			a, b := pair(t, n)
			n.Cut("a", "b")
			send(t, b, "back")
			if got, _, err := arrival(a, time.Second); got != "back" {
				t.Fatalf("got %q, %v", got, err)
			}
		},
		"an end does not cross a cut": func(t *testing.T, n *raftstoretest.Network) {
			a, b := pair(t, n)
			n.Isolate("a")
			_ = a.Close()
			if _, _, err := arrival(b, time.Second); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Fatalf("read: %v", err)
			}
			n.Rejoin("a")
			if _, _, err := arrival(b, time.Second); !errors.Is(err, io.EOF) {
				t.Fatalf("read: %v", err)
			}
			if _, err := b.Write([]byte("x")); !errors.Is(err, syscall.EPIPE) {
				t.Fatalf("write to a closed end: %v", err)
			}
		},
		"a dial waits for a cut to heal, or for its own end": func(t *testing.T, n *raftstoretest.Network) {
			l, err := n.Host("b").Listen(1)
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			n.Cut("b", "a") // one direction is enough
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			var timeout net.Error
			if _, err := n.Host("a").Dial(ctx, "b:1"); !errors.As(err, &timeout) || !timeout.Timeout() {
				t.Fatalf("dial: %v", err)
			}
			time.AfterFunc(time.Second, n.HealAll)
			if _, err := n.Host("a").Dial(t.Context(), "b:1"); err != nil {
				t.Fatalf("dial: %v", err)
			}
		},
		"nobody listens": func(t *testing.T, n *raftstoretest.Network) {
			if _, err := n.Host("a").Dial(t.Context(), "b:1"); !errors.Is(err, syscall.ECONNREFUSED) {
				t.Fatalf("dial: %v", err)
			}
		},
		"latency": func(t *testing.T, n *raftstoretest.Network) {
			a, b := pair(t, n)
			n.SetLatency(20 * time.Millisecond)
			send(t, a, "one")
			if got, after, err := arrival(b, time.Second); got != "one" || after != 20*time.Millisecond {
				t.Fatalf("got %q after %v, %v", got, after, err)
			}
			began := time.Now()
			if _, err := n.Host("a").Dial(t.Context(), "b:1"); err != nil || time.Since(began) != 40*time.Millisecond {
				t.Fatalf("dial took %v, %v", time.Since(began), err)
			}
		},
		"a reset breaks both ends and loses what was on the way": func(t *testing.T, n *raftstoretest.Network) {
			a, b := pair(t, n)
			send(t, a, "lost")
			n.Reset("b")
			if got, _, err := arrival(b, time.Second); !errors.Is(err, syscall.ECONNRESET) {
				t.Fatalf("read: %q, %v", got, err)
			}
			if _, err := a.Write([]byte("x")); !errors.Is(err, syscall.ECONNRESET) {
				t.Fatalf("write: %v", err)
			}
		},
		"a writer waits when the other end does not read": func(t *testing.T, n *raftstoretest.Network) {
			a, b := pair(t, n)
			_ = a.SetWriteDeadline(time.Now().Add(time.Second))
			if _, err := a.Write(make([]byte, 2<<20)); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Fatalf("write: %v", err)
			}
			_ = a.SetWriteDeadline(time.Time{})
			go func() { _, _ = io.Copy(io.Discard, b) }()
			send(t, a, "fits again")
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { test(t, raftstoretest.NewNetwork()) })
		})
	}
}

package gate

import (
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/witnessd/witnessd/agent/hold"
)

func TestWay(t *testing.T) {
	now := hold.Instant(1000)
	clock := func() hold.Instant { return now }
	w := newWay(Route{Local: true, Until: 1010})
	if !w.open(clock) || w.expire(1009) {
		t.Error("it is over before its end")
	}
	if ok, earlier := w.renew(1020, clock); !ok || earlier {
		t.Error("a renewal in time does not count")
	}
	if now = 1019; !w.open(clock) {
		t.Error("it is over before its new end")
	}
	if ok, earlier := w.renew(1019, clock); !ok || !earlier {
		t.Error("a renewal to an earlier end does not say so")
	}
	if w.open(clock) {
		t.Error("it is open at its end")
	}
	if ok, _ := w.renew(2000, clock); ok || w.open(clock) {
		t.Error("it comes to life again after its end")
	}
	for range 2 {
		if !w.expire(now) {
			t.Error("it does not expire")
		}
	}
	w.close()
	<-w.done
	endlessly := newWay(Route{Local: true, Endless: true})
	if now = 1 << 62; !endlessly.open(clock) || endlessly.expire(now) {
		t.Error("an endless one ends")
	}
	if endlessly.close(); endlessly.open(clock) {
		t.Error("a closed one is open")
	}
}

func TestLocal(t *testing.T) {
	each(t, func(t *testing.T, plain bool) {
		h := newHouse(t, plain, nil)
		h.serve(time.Minute)
		c := h.dial()
		ask(t, c, "hello")
		h.serve(2 * time.Minute)
		h.Route(Route{Local: true, Endless: true})
		ask(t, c, "again")
		// Bytes are counted after they have been passed.
		eventually(t, "all is counted", func() bool {
			return h.Stats() == Stats{Local: 1, ToServers: 10, ToClients: 10}
		})
		_ = c.Close()
		eventually(t, "the passage ends", func() bool { return h.Stats().Local == 0 })
		if s := h.Stats(); s.Cuts != 0 {
			t.Errorf("%+v", s)
		}
	})
}

func TestPartner(t *testing.T) {
	each(t, func(t *testing.T, plain bool) {
		mirror, primary := newHouse(t, plain, nil), newHouse(t, plain, nil)
		primary.serve(time.Minute)
		mirror.follow(primary)
		c := mirror.dial()
		ask(t, c, "hello")
		if mirror.db.came() != 0 || primary.db.came() != 1 {
			t.Errorf("connections: %d at the mirror's database, %d at the primary's", mirror.db.came(), primary.db.came())
		}
		if s := mirror.Stats(); s.Partner != 1 || s.Local != 0 {
			t.Errorf("at the mirror's gate: %+v", s)
		}
		// A right of its own, and the partner is not primary any more.
		mirror.serve(time.Minute)
		mustReset(t, c)
		ask(t, mirror.dial(), "here")
		if mirror.db.came() != 1 {
			t.Error("the new connection is not at the new primary")
		}
		if s := mirror.Stats(); s.Partner != 0 || s.Local != 1 || s.Cuts != 1 {
			t.Errorf("at the new primary's gate: %+v", s)
		}
	})
}

func TestCut(t *testing.T) {
	end := map[string]func(h *house){
		"shut":          func(h *house) { h.Shut("test") },
		"right lost":    func(h *house) { h.Route(Route{}) },
		"to partner":    func(h *house) { h.Route(Route{Partner: "127.0.0.1:1"}) },
		"own clock":     func(h *house) { h.serve(5 * time.Millisecond) },
		"late renewal":  func(h *house) { h.serve(-time.Millisecond) },
		"two orders":    func(h *house) { h.Route(Route{}); h.Shut("test") },
		"serving again": func(h *house) { h.Route(Route{}); h.serve(time.Minute) },
	}
	for name, end := range end {
		t.Run(name, func(t *testing.T) {
			each(t, func(t *testing.T, plain bool) {
				h := newHouse(t, plain, nil)
				arrivals := h.db.arrivals()
				var took []time.Duration
				for range 15 {
					h.serve(time.Minute)
					c := h.dial()
					server := next(t, arrivals)
					eventually(t, "it is carried", func() bool { return h.Stats().Local == 1 })
					before := time.Now()
					end(h)
					mustReset(t, c)
					took = append(took, time.Since(before))
					if err := mustEnd(t, server); !plain && err == nil {
						t.Error("the database has heard an orderly end")
					}
					eventually(t, "it is counted", func() bool { return h.Stats().Local == 0 })
				}
				slices.Sort(took)
				t.Logf("cut after %v, at the longest %v", took[len(took)/2], took[len(took)-1])
				if median := took[len(took)/2]; median > 20*time.Millisecond {
					t.Errorf("cut after %v", median)
				}
				if s := h.Stats(); s.Cuts != 15 {
					t.Errorf("cuts: %+v", s)
				}
			})
		})
	}
}

// TestShutReturns: when it does, no connection to the database is left. The clients' kernel has heard it by then.
func TestShutReturns(t *testing.T) {
	h := newHouse(t, false, nil)
	arrivals := h.db.arrivals()
	for range 5 {
		h.serve(time.Minute)
		var conns []*net.TCPConn
		for range 100 {
			conns = append(conns, h.dial(), next(t, arrivals))
		}
		eventually(t, "all are carried", func() bool { return h.Stats().Local == 100 })
		h.Shut("test")
		if s := h.Stats(); s.Local != 0 {
			t.Errorf("%d connections when Shut has returned", s.Local)
		}
		for _, c := range conns {
			_ = c.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
			if _, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
				t.Fatalf("a connection that Shut left: %v", err)
			}
		}
	}
}

// TestClockBeforeTransfer carries without the gate's own timer: what is sent after the end arrives nowhere.
func TestClockBeforeTransfer(t *testing.T) {
	each(t, func(t *testing.T, plain bool) {
		for _, from := range []string{"client", "database"} {
			t.Run(from, func(t *testing.T) {
				var now atomic.Int64
				now.Store(1000)
				db := newDatabase(t, "127.0.0.1")
				arrivals := db.arrivals()
				g := New(Options{Clock: func() hold.Instant { return hold.Instant(now.Load()) }})
				if err := g.muster(); err != nil {
					t.Fatal(err)
				}
				defer g.dismiss()
				w := newWay(Route{Local: true, Until: 2000})
				gateSide, client := socketPair(t)
				toServer := net.Conn(dial(t, db.address))
				if plain {
					toServer = opaque{toServer}
				}
				g.clients.Add(1)
				w.making.Add(1)
				g.carry(&passage{way: w, client: gateSide, server: toServer})
				server := next(t, arrivals)
				talk := func(from, to net.Conn) {
					if _, err := io.WriteString(from, "in time"); err != nil {
						t.Fatal(err)
					}
					got := make([]byte, 7)
					if _, err := io.ReadFull(to, got); err != nil {
						t.Fatal(err)
					}
				}
				talk(client, server)
				talk(server, client)
				// Nobody else reads the clock while nothing is sent.
				now.Store(2000)
				a, b := net.Conn(client), net.Conn(server)
				if from == "database" {
					a, b = b, a
				}
				if _, err := io.WriteString(a, "late"); err != nil {
					t.Fatal(err)
				}
				_ = b.SetReadDeadline(time.Now().Add(patience))
				if got, _ := io.ReadAll(b); len(got) > 0 {
					t.Errorf("%q has passed after the end", got)
				}
				eventually(t, "it is cut", func() bool { return g.Stats().Cuts == 1 })
			})
		}
	})
}

// socketPair is two ends of a TCP connection.
func socketPair(t *testing.T) (a, b *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	b = dial(t, l.Addr().String())
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c.(*net.TCPConn), b
}

// BenchmarkRenewal is what the agent's loop pays with each heartbeat.
func BenchmarkRenewal(b *testing.B) {
	clock := clockFrom(time.Now())
	g := New(Options{Clock: clock})
	r := Route{Local: true, PartnerHosts: loopback()}
	for b.Loop() {
		r.Until = clock().Add(time.Minute)
		g.Route(r)
	}
}

package gate

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/pires/go-proxyproto"
)

// TestProxyProtocol: the database hears who the client is, directly or by way of the partner's gate.
func TestProxyProtocol(t *testing.T) {
	each(t, func(t *testing.T, plain bool) {
		for _, host := range []string{"127.0.0.1", "::1"} {
			for _, way := range []string{"local", "partner"} {
				t.Run(host+" "+way, func(t *testing.T) {
					proxied := func(o *Options) { o.ProxyProtocol = true }
					front, primary := newHouseOn(t, host, plain, nil), newHouseOn(t, host, plain, proxied)
					arrivals := primary.db.arrivals()
					primary.serve(time.Minute)
					front.follow(primary)
					if way == "local" {
						front = primary
					}
					c := front.dial()
					server := next(t, arrivals)
					if _, err := io.WriteString(c, "hello"); err != nil {
						t.Fatal(err)
					}
					r := bufio.NewReader(server)
					header, err := proxyproto.Read(r)
					if err != nil {
						t.Fatal(err)
					}
					if header.SourceAddr.String() != c.LocalAddr().String() ||
						header.DestinationAddr.String() != c.RemoteAddr().String() {
						t.Errorf("from %v to %v, want %v to %v", header.SourceAddr, header.DestinationAddr,
							c.LocalAddr(), c.RemoteAddr())
					}
					if tlvs, err := header.TLVs(); err != nil || len(tlvs) > 0 {
						t.Errorf("the database hears %v, %v", tlvs, err)
					}
					got := make([]byte, 5)
					if _, err := io.ReadFull(r, got); err != nil || string(got) != "hello" {
						t.Errorf("after the header: %q, %v", got, err)
					}
				})
			}
		}
	})
}

// TestAllowByGate: the list is about clients, not about the host of the partner's gate.
func TestAllowByGate(t *testing.T) {
	tests := []struct {
		allow string
		ok    bool
	}{{"127.0.0.1/32", true}, {gateHost + "/32", false}}
	for _, tt := range tests {
		front := newHouse(t, false, nil)
		primary := newHouse(t, false, func(o *Options) { o.Allow = []netip.Prefix{netip.MustParsePrefix(tt.allow)} })
		primary.serve(time.Minute)
		front.follow(primary)
		c := front.dial()
		if tt.ok {
			ask(t, c, "hello")
		} else {
			mustReset(t, c)
		}
	}
}

// TestNoLoop: both gates believe that the other's host is primary.
func TestNoLoop(t *testing.T) {
	each(t, func(t *testing.T, plain bool) {
		brief := func(o *Options) { o.Wait = 300 * time.Millisecond }
		a, b := newHouse(t, plain, brief), newHouse(t, plain, brief)
		a.follow(b)
		b.follow(a)
		began := time.Now()
		if err := mustEnd(t, a.dial()); err == nil {
			t.Error("it ends without an error")
		}
		if took := time.Since(began); took > patience/2 {
			t.Errorf("ended after %v", took)
		}
		accepted := func(h *house) float64 { return value(t, h.m.accepted) }
		if accepted(a) != 1 || accepted(b) != 1 {
			t.Errorf("the gates have taken in %v and %v connections, want one each", accepted(a), accepted(b))
		}
		// A connection that a gate has handed on is served as soon as its gate may.
		c := a.dial()
		eventually(t, "it waits at the other gate", func() bool { return b.Stats().Waiting == 1 })
		b.serve(time.Minute)
		ask(t, c, "hello")
	})
}

// gateHello is what a gate says first.
func gateHello(t testing.TB, greet string, command proxyproto.ProtocolVersionAndCommand) []byte {
	t.Helper()
	client := &net.TCPAddr{IP: net.ParseIP("10.1.2.3"), Port: 4000}
	h := proxyproto.HeaderProxyFromAddrs(2, client, &net.TCPAddr{IP: net.ParseIP("10.1.2.4"), Port: 5432})
	h.Command = command
	if greet != "" {
		if err := h.SetTLVs([]proxyproto.TLV{{Type: gateTLV, Value: []byte(greet)}}); err != nil {
			t.Fatal(err)
		}
	}
	b, err := h.Format()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestHear: what a connection from the partner's host, or from another, says first, and what the database gets.
func TestHear(t *testing.T) {
	const sslRequest = "\x00\x00\x00\x08\x04\xd2\x16\x2f"
	gateSays := string(gateHello(t, gateGreet+"x", proxyproto.PROXY))
	otherSays := string(gateHello(t, "", proxyproto.PROXY))
	tests := []struct {
		name   string
		gates  bool // it comes from the partner's host
		parts  []string
		want   string
		within time.Duration
	}{
		{"the gate", true, []string{gateSays, "hello"}, "hello", 0},
		{"the gate, in one packet with the client", true, []string{gateSays + "hello"}, "hello", 0},
		{"the gate, in pieces", true, []string{gateSays[:5], gateSays[5:14], gateSays[14:30], gateSays[30:], "hello"}, "hello", 0},
		{"another's header", true, []string{otherSays, "hello"}, otherSays + "hello", 0},
		{"a gate's of another version", true, []string{string(gateHello(t, "witness-gate 2 x", proxyproto.PROXY))},
			string(gateHello(t, "witness-gate 2 x", proxyproto.PROXY)), 0},
		{"a header of version 1", true, []string{"PROXY TCP4 1.2.3.4 1.2.3.5 1 2\r\n"}, "PROXY TCP4 1.2.3.4 1.2.3.5 1 2\r\n", 0},
		{"a client that waits for an answer", true, []string{sslRequest}, sslRequest, signatureLimit / 2},
		{"a beginning only", true, []string{gateSays[:5]}, gateSays[:5], 0},
		{"a header with an end only", true, []string{gateSays[:13]}, gateSays[:13], 0},
		{"a long header", true, []string{otherSays[:14] + "\xff\xff" + strings.Repeat("x", 3000)},
			otherSays[:14] + "\xff\xff" + strings.Repeat("x", 3000), 0},
		{"a gate's header from elsewhere", false, []string{gateSays, "hello"}, gateSays + "hello", 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h := newHouse(t, false, nil)
			arrivals := h.db.arrivals()
			h.serve(time.Minute)
			from := h.dial
			if tt.gates {
				from = func() *net.TCPConn { return dialFromGateHost(t, h.address) }
			}
			c := from()
			began := time.Now()
			for i, part := range tt.parts {
				if i > 0 {
					time.Sleep(5 * time.Millisecond)
				}
				if _, err := io.WriteString(c, part); err != nil {
					t.Fatal(err)
				}
			}
			server := next(t, arrivals)
			took := time.Since(began)
			got := make([]byte, len(tt.want))
			if _, err := io.ReadFull(server, got); err != nil || string(got) != tt.want {
				t.Errorf("the database got %.60q, %v; want %.60q", got, err, tt.want)
			}
			_ = c.CloseWrite()
			if rest, err := io.ReadAll(server); err != nil || len(rest) > 0 {
				t.Errorf("and then %q, %v", rest, err)
			}
			if tt.within > 0 && took > tt.within {
				t.Errorf("connected after %v, want within %v", took, tt.within)
			}
		})
	}
}

func dialFromGateHost(t *testing.T, address string) *net.TCPConn {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(gateHost)}}
	c, err := d.DialContext(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c.(*net.TCPConn)
}

// TestSilentClient: where the server speaks first, a client on the partner's host is silent.
func TestSilentClient(t *testing.T) {
	h := newHouse(t, false, nil)
	h.db.handle(func(c net.Conn) { _, _ = io.WriteString(c, "welcome") })
	h.serve(time.Minute)
	c := dialFromGateHost(t, h.address)
	got := make([]byte, 7)
	_ = c.SetReadDeadline(time.Now().Add(patience))
	if _, err := io.ReadFull(c, got); err != nil {
		t.Fatal(err)
	}
}

// TestGateWithoutClient: a gate that does not say for whom it speaks is not let in, whatever the list says.
func TestGateWithoutClient(t *testing.T) {
	h := newHouse(t, false, nil)
	h.serve(time.Minute)
	c := dialFromGateHost(t, h.address)
	if _, err := c.Write(gateHello(t, gateGreet+"x", proxyproto.LOCAL)); err != nil {
		t.Fatal(err)
	}
	mustReset(t, c)
	if n := refusals(h, refusedHeader); n != 1 {
		t.Errorf("refused %d", n)
	}
}

// FuzzHear: whatever comes from the partner's host, what is not a gate's header is the client's, byte for byte.
func FuzzHear(f *testing.F) {
	f.Add(gateHello(f, gateGreet+"x", proxyproto.PROXY))
	f.Add(gateHello(f, "", proxyproto.PROXY))
	f.Add(gateHello(f, gateGreet+"x", proxyproto.LOCAL))
	f.Add([]byte("PROXY TCP4 1.2.3.4 1.2.3.5 1 2\r\n"))
	f.Add([]byte("\x00\x00\x00\x08\x04\xd2\x16\x2f"))
	f.Fuzz(func(t *testing.T, said []byte) {
		ours, theirs := net.Pipe()
		go func() {
			_, _ = theirs.Write(said)
			_ = theirs.Close()
		}()
		n := newcomer{conn: ours}
		err := n.hear()
		rest, _ := io.ReadAll(ours)
		_ = ours.Close()
		got := append(bytes.Clone(n.first), rest...)
		switch {
		case err != nil:
			if !bytes.HasPrefix(said, proxyproto.SIGV2) {
				t.Errorf("%q: %v", said, err)
			}
		case n.fromGate:
			if !bytes.HasSuffix(said, got) || !bytes.Contains(said[:len(said)-len(got)], []byte(gateGreet)) {
				t.Errorf("%q: taken for a gate's, and %q left", said, got)
			}
		case !bytes.Equal(got, said):
			t.Errorf("%q became %q", said, got)
		}
	})
}

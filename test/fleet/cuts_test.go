package fleet

import (
	"net"
	"testing"
	"time"
)

// trio is three parties, the first of which answers.
type trio struct {
	t       *testing.T
	a, b, c *namespace
	at      string // where a answers
	loop    string
}

func trioOf(t *testing.T, lines bool) *trio {
	t.Helper()
	_, at := wiredLaboratory(t, lines, "a", "b", "c")
	port := echo(t, at["a"])
	return &trio{t: t, a: at["a"], b: at["b"], c: at["c"], at: net.JoinHostPort(at["a"].address.String(), port),
		loop: net.JoinHostPort("127.0.0.1", port)}
}

func (l *trio) must(err error) {
	l.t.Helper()
	if err != nil {
		l.t.Fatal(err)
	}
}

func (l *trio) expect(when string, from *namespace, address string, reached bool) {
	l.t.Helper()
	name := "the machine's own network"
	if from != nil {
		name = from.name
	}
	got := reach(l.t, from, address)
	// A machine with other work may be slow to connect. What is cut stays cut, however long one looks.
	for end := time.Now().Add(10 * time.Second); reached && got != "" && time.Now().Before(end); {
		got = reach(l.t, from, address)
	}
	if (got == "") != reached {
		l.t.Errorf("%s: from %s to %s: %q, want reached %v", when, name, address, got, reached)
	}
}

// all expects what b and c reach.
func (l *trio) all(when string, fromB, fromC bool) {
	l.t.Helper()
	l.expect(when, l.b, l.at, fromB)
	l.expect(when, l.c, l.at, fromC)
	// What happens to the cable is nothing to those inside.
	l.expect(when, l.a, l.at, true)
	l.expect(when, l.a, l.loop, true)
}

func TestCablesAndCuts(t *testing.T) {
	for name, lines := range map[string]bool{"the kernel's cables": false, "lines": true} {
		t.Run(name, func(t *testing.T) {
			l := trioOf(t, lines)
			a, b := l.a, l.b
			l.all("wired", true, true)
			l.must(cut(a, b))
			l.all("a and b cut", false, true)
			l.must(mend(a, b))
			l.all("mended", true, true)
			l.must(a.unplug())
			l.all("unplugged", false, false)
			l.must(a.plug())
			l.all("plugged", true, true)
			l.must(a.isolate())
			l.all("the switch loses all", false, false)
			l.must(a.rejoin())
			l.all("the switch forwards", true, true)
			l.must(a.powerOff())
			l.expect("power off", b, l.at, false)
			l.expect("the machine's own network", nil, l.at, false)
			l.must(a.powerOn())
			l.at = net.JoinHostPort(a.address.String(), echo(t, a))
			l.expect("power on", b, l.at, true)
		})
	}
}

// What is lost one way arrives the other way.
func TestOneWayLoss(t *testing.T) {
	l := trioOf(t, false)
	a, b := l.a, l.b
	// heard says who hears a datagram that the other sends.
	heard := func(from, by *namespace) bool {
		t.Helper()
		var ear net.PacketConn
		var mouth net.Conn
		l.must(by.inside(func() error {
			var err error
			ear, err = net.ListenPacket("udp4", "0.0.0.0:0")
			return err
		}))
		defer ear.Close()
		_, port, _ := net.SplitHostPort(ear.LocalAddr().String())
		l.must(from.inside(func() error {
			var err error
			mouth, err = net.Dial("udp4", net.JoinHostPort(by.address.String(), port))
			return err
		}))
		defer mouth.Close()
		if _, err := mouth.Write([]byte("x")); err != nil {
			t.Errorf("a loss is no error, but: %v", err)
		}
		_ = ear.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
		_, _, err := ear.ReadFrom(make([]byte, 1))
		return err == nil
	}
	both := func(when string, fromA, fromB bool) {
		t.Helper()
		if gotA, gotB := heard(a, b), heard(b, a); gotA != fromA || gotB != fromB {
			t.Errorf("%s: a is heard %v, b is heard %v; want %v and %v", when, gotA, gotB, fromA, fromB)
		}
	}
	both("wired", true, true)
	l.must(a.lose(b))
	both("what a sends to b is lost", false, true)
	if got := reach(t, l.c, l.at); got != "" {
		t.Errorf("c to a: %s", got)
	}
	l.must(a.deliver(b))
	l.must(b.lose(a))
	both("what b sends to a is lost", true, false)
	l.must(b.deliver(a))
	both("mended", true, true)
}

package fleet

import (
	"encoding/binary"
	"io"
	"net"
	"slices"
	"testing"
	"time"
)

// connect makes a connection of b's to a.
func (l *trio) connect() net.Conn {
	l.t.Helper()
	c, err := l.b.dial(l.t.Context(), "tcp4", l.at)
	l.must(err)
	l.t.Cleanup(func() { _ = c.Close() })
	return c
}

// roundTrips are times of n echoes of one byte, shortest first.
func roundTrips(t *testing.T, c net.Conn, n int) []time.Duration {
	t.Helper()
	var list []time.Duration
	one := []byte{1}
	for range n {
		began := time.Now()
		if _, err := c.Write(one); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(c, one); err != nil {
			t.Fatal(err)
		}
		list = append(list, time.Since(began))
	}
	slices.Sort(list)
	return list
}

// throughput is bits per second from b to a and back at the same time, counted once.
func throughput(t *testing.T, c net.Conn, size int) float64 {
	t.Helper()
	began := time.Now()
	go func() {
		chunk := make([]byte, 1<<18)
		for sent := 0; sent < size; sent += len(chunk) {
			if _, err := c.Write(chunk); err != nil {
				return
			}
		}
	}()
	if _, err := io.CopyN(io.Discard, c, int64(size)); err != nil {
		t.Fatal(err)
	}
	return float64(size) * 8 / time.Since(began).Seconds()
}

// A good line is so good that nothing else of a fleet is changed by it. The figures are a tenth of what a quiet
// machine has.
func TestGoodLine(t *testing.T) {
	for name, lines := range map[string]bool{"the kernel's cables": false, "lines": true} {
		t.Run(name, func(t *testing.T) {
			c := trioOf(t, lines).connect()
			trips := roundTrips(t, c, 500)
			speed := throughput(t, c, 256<<20)
			t.Logf("round trip: median %v, 99 in 100 below %v; %.1f Gbit/s echoed", trips[250], trips[495], speed/1e9)
			if trips[250] > time.Millisecond || speed < 2e8 {
				t.Errorf("round trip %v, %.1f Gbit/s: worse than 1 ms or 0.2 Gbit/s", trips[250], speed/1e9)
			}
		})
	}
}

func TestBadLines(t *testing.T) {
	l := trioOf(t, true)
	c := l.connect()
	l.must(l.b.setLine(Line{Delay: 20 * time.Millisecond}))
	if got := roundTrips(t, c, 10); got[0] < 40*time.Millisecond || got[5] > 60*time.Millisecond {
		t.Errorf("20 ms each way: round trips %v", got)
	}
	arrived, disorder := l.datagrams(500)
	if arrived != 500 || disorder != 0 {
		t.Errorf("with delay alone: %d of 500 arrived, %d overtaken", arrived, disorder)
	}
	l.must(l.b.setLine(Line{Delay: 10 * time.Millisecond, Jitter: 10 * time.Millisecond}))
	if arrived, disorder = l.datagrams(500); arrived != 500 || disorder < 50 {
		t.Errorf("with jitter: %d of 500 arrived, %d overtaken", arrived, disorder)
	}
	l.must(l.b.setLine(Line{Loss: 0.3}))
	if arrived, _ = l.datagrams(1000); arrived < 600 || arrived > 800 {
		t.Errorf("with a loss of 30 in 100: %d of 1000 arrived", arrived)
	}
	l.must(l.b.setLine(Line{}))
	if got := roundTrips(t, c, 100); got[50] > 2*time.Millisecond {
		t.Errorf("good again: median round trip %v", got[50])
	}
	if err := l.b.setLine(Line{Loss: 30}); err == nil {
		t.Error("a loss of 30 was taken")
	}
}

// datagrams sends n from b to a, each with its number, and says how many arrived, and how many of them after a later
// one.
func (l *trio) datagrams(n int) (arrived, disorder int) {
	l.t.Helper()
	var ear, mouth net.PacketConn
	listen := func(s *namespace, c *net.PacketConn) {
		l.must(s.inside(func() error {
			var err error
			*c, err = net.ListenPacket("udp4", net.JoinHostPort(s.address.String(), "0"))
			return err
		}))
	}
	listen(l.a, &ear)
	listen(l.b, &mouth)
	defer ear.Close()
	defer mouth.Close()
	go func() {
		for i := range n {
			text := binary.BigEndian.AppendUint32(nil, uint32(i))
			if _, err := mouth.WriteTo(text, ear.LocalAddr()); err != nil {
				l.t.Error(err)
				return
			}
			if i%50 == 49 {
				time.Sleep(2 * time.Millisecond) // the receiver's buffer is small
			}
		}
	}()
	text, newest := make([]byte, 4), -1
	for arrived < n {
		_ = ear.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
		if _, _, err := ear.ReadFrom(text); err != nil {
			break
		}
		arrived++
		number := int(binary.BigEndian.Uint32(text))
		if number < newest {
			disorder++
		}
		newest = max(newest, number)
	}
	return arrived, disorder
}

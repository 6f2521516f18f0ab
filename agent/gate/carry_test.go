package gate

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"sync"
	"testing"
	"time"
)

// TestHalfClose: a client that has said all still gets its answer, and the other way round.
func TestHalfClose(t *testing.T) {
	each(t, func(t *testing.T, plain bool) {
		for _, size := range []int{0, 5, blockSize, 3 << 20} {
			for _, first := range []string{"client", "database"} {
				t.Run(fmt.Sprint(first, " ", size), func(t *testing.T) {
					h := newHouse(t, plain, nil)
					arrivals := h.db.arrivals()
					h.serve(time.Minute)
					a := h.dial()
					b := next(t, arrivals)
					if first == "database" {
						a, b = b, a
					}
					for _, end := range []struct{ from, to *net.TCPConn }{{a, b}, {b, a}} {
						go func() {
							_, _ = end.from.Write(bytes.Repeat([]byte("x"), size))
							_ = end.from.CloseWrite()
						}()
						_ = end.to.SetReadDeadline(time.Now().Add(patience))
						if got, err := io.ReadAll(end.to); err != nil || len(got) != size {
							t.Fatalf("%d bytes, %v; want %d", len(got), err, size)
						}
					}
					eventually(t, "it is over", func() bool { return h.clients.Load() == 0 })
				})
			}
		}
	})
}

// TestBytes: whatever the sizes and the pauses, what is sent one way and the other is what arrives.
func TestBytes(t *testing.T) {
	each(t, func(t *testing.T, plain bool) {
		h := newHouse(t, plain, nil)
		arrivals := h.db.arrivals()
		h.serve(time.Minute)
		var all sync.WaitGroup
		for i := range 8 {
			c := h.dial()
			server := next(t, arrivals)
			for j, ends := range [][2]*net.TCPConn{{c, server}, {server, c}} {
				all.Go(func() { transfer(t, uint64(2*i+j), ends[0], ends[1]) })
			}
		}
		all.Wait()
		eventually(t, "all is over", func() bool { return h.clients.Load() == 0 })
	})
}

func transfer(t *testing.T, seed uint64, from, to *net.TCPConn) {
	random := rand.New(rand.NewPCG(seed, 1))
	sent, got := sha256.New(), sha256.New()
	go func() {
		noise := make([]byte, 2<<20)
		for i := range noise {
			noise[i] = byte(random.Uint32())
		}
		for range 60 {
			b := noise[random.IntN(1000):]
			b = b[:1+random.IntN(1<<(1+random.IntN(20)))]
			sent.Write(b)
			if _, err := from.Write(b); err != nil {
				t.Error(err)
			}
			if random.IntN(4) == 0 {
				time.Sleep(time.Duration(random.IntN(2000)) * time.Microsecond)
			}
		}
		_ = from.CloseWrite()
	}()
	slow := rand.New(rand.NewPCG(seed, 2))
	buf := make([]byte, 100<<10)
	for {
		n, err := to.Read(buf[:1+slow.IntN(len(buf))])
		got.Write(buf[:n])
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Error(err)
			return
		}
		if slow.IntN(50) == 0 {
			time.Sleep(time.Millisecond)
		}
	}
	if !bytes.Equal(sent.Sum(nil), got.Sum(nil)) {
		t.Errorf("transfer %d: other bytes have arrived", seed)
	}
}

// TestSlowReader: what nobody reads stays with its sender, and the others go on.
func TestSlowReader(t *testing.T) {
	each(t, func(t *testing.T, plain bool) {
		const streams = 12
		h := newHouse(t, plain, nil)
		arrivals := h.db.arrivals()
		h.serve(time.Minute)
		before := heap()
		var clients []*net.TCPConn
		written := make(chan int, streams)
		chunk := make([]byte, 64<<10)
		for range streams {
			c := h.dial()
			clients = append(clients, c)
			server := next(t, arrivals)
			go func() {
				n, still := 0, 0
				for still < 5 { // as long as nothing moves for a second
					_ = server.SetWriteDeadline(time.Now().Add(200 * time.Millisecond))
					m, err := server.Write(chunk)
					n += m
					still++
					if m > 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
						still = 0
					}
				}
				_ = server.CloseWrite()
				written <- n
			}()
		}
		total := 0
		for range streams {
			total += <-written
		}
		grown := heap() - before
		t.Logf("%d MB are under way on %d connections; the heap has grown by %d KB", total>>20, streams, grown>>10)
		// A block for each and what was set aside; the rest is in the kernel's buffers, which bound themselves.
		if limit := int64(streams*2*blockSize + 4<<20); grown > limit {
			t.Errorf("the heap has grown by %d, want at most %d", grown, limit)
		}
		h.db.handle(func(c net.Conn) {
			defer c.Close()
			_, _ = io.Copy(c, c)
		})
		ask(t, h.dial(), "hello")
		arrived := 0
		for _, c := range clients {
			_ = c.SetReadDeadline(time.Now().Add(patience))
			n, err := io.Copy(io.Discard, c)
			if err != nil {
				t.Fatal(err)
			}
			arrived += int(n)
		}
		if arrived != total {
			t.Errorf("%d bytes have arrived of %d", arrived, total)
		}
	})
}

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapInuse)
}

// TestPeerBreaks: a reset on one side is a reset on the other, also while nothing can be written.
func TestPeerBreaks(t *testing.T) {
	for _, state := range []string{"idle", "its reader is slow", "it reads slowly"} {
		for _, first := range []string{"client", "database"} {
			t.Run(first+" breaks when "+state, func(t *testing.T) {
				h := newHouse(t, false, nil)
				arrivals := h.db.arrivals()
				h.serve(time.Minute)
				a := h.dial()
				b := next(t, arrivals)
				// Before a word has gone through, the gate may not know yet that its connection was accepted: a reset
				// would be one of an attempt, which it makes again.
				pass(t, a, b)
				if first == "database" {
					a, b = b, a
				}
				if state != "idle" {
					from := a
					if state == "it reads slowly" {
						from = b
					}
					_ = from.SetWriteDeadline(time.Now().Add(300 * time.Millisecond))
					if _, err := io.Copy(from, zeros{}); !errors.Is(err, os.ErrDeadlineExceeded) {
						t.Fatal(err)
					}
				}
				abort(a)
				eventually(t, "it is over", func() bool { return h.clients.Load() == 0 })
				mustReset(t, b)
				if s := h.Stats(); s.Cuts != 0 {
					t.Errorf("counted as cut: %+v", s)
				}
			})
		}
	}
}

// pass sends a word through the gate.
func pass(t *testing.T, from, to net.Conn) {
	t.Helper()
	word := []byte("hello")
	if _, err := from.Write(word); err != nil {
		t.Fatal(err)
	}
	_ = to.SetReadDeadline(time.Now().Add(patience))
	if _, err := io.ReadFull(to, word); err != nil {
		t.Fatal(err)
	}
	_ = to.SetReadDeadline(time.Time{})
}

// TestSlowReaderOfMessages: what is left of a message that could be written only in part is the same when the loop
// has used its block for others.
func TestSlowReaderOfMessages(t *testing.T) {
	each(t, func(t *testing.T, plain bool) {
		h := newHouse(t, plain, func(o *Options) { o.Threads = 1 })
		arrivals := h.db.arrivals()
		h.serve(time.Minute)
		chatter := h.dial()
		answerer := next(t, arrivals)
		go func() { _, _ = io.Copy(answerer, answerer) }()
		slow := h.dial()
		server := next(t, arrivals)
		message := bytes.Repeat([]byte("message "), 1000) // less than a block
		sent := 0
		for {
			_ = server.SetWriteDeadline(time.Now().Add(200 * time.Millisecond))
			n, err := server.Write(message)
			if sent += n; err != nil {
				break
			}
			ask(t, chatter, "something else")
		}
		got := make([]byte, len(message))
		for left := sent; left > 0; left -= len(got) {
			got = got[:min(left, len(got))]
			_ = slow.SetReadDeadline(time.Now().Add(patience))
			if _, err := io.ReadFull(slow, got); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, message[:len(got)]) {
				t.Fatalf("%d bytes before the end: other bytes have arrived", left)
			}
		}
	})
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { return len(b), nil }

// TestNothingIsLeft: when a gate has stopped, no descriptor and no goroutine of it is left, however its connections
// ended.
func TestNothingIsLeft(t *testing.T) {
	each(t, func(t *testing.T, plain bool) {
		run := func() {
			h := newHouse(t, plain, nil)
			other := newHouse(t, plain, nil)
			arrivals := h.db.arrivals()
			h.serve(time.Minute)
			var mine []net.Conn
			for i := range 30 {
				c := h.dial()
				server := next(t, arrivals)
				mine = append(mine, c, server)
				go func() { _, _ = io.CopyN(server, zeros{}, 4<<20) }()
				switch i % 3 {
				case 0:
					_, _ = io.CopyN(io.Discard, c, 4<<20)
					_ = c.Close()
					_ = server.Close()
				case 1:
					abort(c)
				}
			}
			h.Shut("test")
			h.follow(other)
			mine = append(mine, h.dial())
			// More than one, if Shut came while a connection to the database was being made.
			eventually(t, "one waits at the other", func() bool { return other.Stats().Waiting >= 1 })
			h.stop()
			other.stop()
			h.db.close()
			other.db.close()
			for _, c := range mine {
				_ = c.Close()
			}
		}
		run()
		files, routines := descriptors(t), runtime.NumGoroutine()
		for range 3 {
			run()
		}
		eventually(t, fmt.Sprintf("%d goroutines and %d descriptors are left", routines, files), func() bool {
			return runtime.NumGoroutine() <= routines && descriptors(t) <= files
		})
	})
}

func descriptors(t *testing.T) int {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip("this system does not list a process's descriptors")
	}
	return len(entries)
}

package gate

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/witnessd/witnessd/agent/hold"
)

// TestMain lets this program be the process of a gate.
func TestMain(m *testing.M) {
	if database := os.Getenv("GATE_TEST_DATABASE"); database != "" {
		if err := serveAlone(database, os.Getenv("GATE_TEST_FOR")); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func bootClock() hold.Instant {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		panic(err)
	}
	return hold.Instant(ts.Nano())
}

// serveAlone is a gate that has a right once, for a while, and says where it listens.
func serveAlone(database, duration string) error {
	d, err := time.ParseDuration(duration)
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	g := New(Options{Instance: "alone", Wait: patience, Database: database, Clock: bootClock})
	g.Route(Route{Local: true, Until: bootClock().Add(d)})
	fmt.Println(l.Addr())
	return g.Serve(context.Background(), l)
}

type child struct {
	*exec.Cmd
	address string
	ends    time.Time // of its right, or a little later
}

func startChild(t *testing.T, database string, right time.Duration) *child {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self)
	cmd.Env = append(os.Environ(), "GATE_TEST_DATABASE="+database, "GATE_TEST_FOR="+right.String())
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return &child{cmd, strings.TrimSpace(line), time.Now().Add(right)}
}

// freeze stops the process and returns when its right is over; thaw lets it go on.
func (c *child) freeze(t *testing.T) (thaw func()) {
	t.Helper()
	if err := c.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it stands still", func() bool {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", c.Process.Pid))
		return err == nil && strings.Contains(string(b), ") T ")
	})
	if time.Now().After(c.ends) {
		t.Fatal("it stands still too late for this test")
	}
	time.Sleep(time.Until(c.ends) + 50*time.Millisecond)
	return func() {
		if err := c.Process.Signal(syscall.SIGCONT); err != nil {
			t.Fatal(err)
		}
	}
}

// TestFrozenStream: a process that was stopped in the middle of a stream passes no more than one call can, once it
// goes on after the end of the right.
func TestFrozenStream(t *testing.T) {
	const right = 700 * time.Millisecond
	var most int64
	for range 5 {
		db := newDatabase(t, "127.0.0.1")
		db.handle(func(c net.Conn) { _, _ = io.Copy(c, zeros{}) })
		gate := startChild(t, db.address, right)
		c := dial(t, gate.address)
		var got atomic.Int64
		var read sync.WaitGroup
		var ended error
		read.Go(func() {
			buf := make([]byte, 1<<20)
			for ended == nil {
				var n int
				n, ended = c.Read(buf)
				got.Add(int64(n))
			}
		})
		eventually(t, "it streams", func() bool { return got.Load() > 50<<20 })
		thaw := gate.freeze(t)
		// What the process passed in time may still be in the kernel's buffers; the client reads all the time.
		before := got.Load()
		thaw()
		read.Wait()
		late := got.Load() - before
		most = max(most, late)
		if !errors.Is(ended, syscall.ECONNRESET) {
			t.Errorf("the connection ended with %v, want a reset", ended)
		}
		if late > spliceSize {
			t.Errorf("%d bytes have come after the end of the right, one call passes %d", late, spliceSize)
		}
	}
	t.Logf("at most %d bytes late", most)
}

// TestFrozenMessages: what is said to a gate that is stopped, and whose right is over when it goes on, arrives
// nowhere.
func TestFrozenMessages(t *testing.T) {
	db := newDatabase(t, "127.0.0.1")
	arrivals := db.arrivals()
	gate := startChild(t, db.address, 500*time.Millisecond)
	var clients, servers []*net.TCPConn
	for range 20 {
		c := dial(t, gate.address)
		s := next(t, arrivals)
		clients, servers = append(clients, c), append(servers, s)
		for _, ends := range [][2]*net.TCPConn{{c, s}, {s, c}} {
			if _, err := io.WriteString(ends[0], "in time"); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(ends[1], make([]byte, 7)); err != nil {
				t.Fatal(err)
			}
		}
	}
	thaw := gate.freeze(t)
	for i := range clients {
		for _, c := range []*net.TCPConn{clients[i], servers[i]} {
			if _, err := io.WriteString(c, "late"); err != nil {
				t.Fatal(err)
			}
		}
	}
	thaw()
	for i := range clients {
		for _, c := range []*net.TCPConn{clients[i], servers[i]} {
			_ = c.SetReadDeadline(time.Now().Add(patience))
			if b, err := io.ReadAll(c); len(b) > 0 || !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("%q has passed, then %v; want a reset", b, err)
			}
		}
	}
}

// TestIdle: connections that only wait cost next to nothing.
func TestIdle(t *testing.T) {
	const connections = 5000
	db := newDatabase(t, "127.0.0.1")
	arrivals := db.arrivals()
	gate := startChild(t, db.address, time.Hour)
	for range connections {
		c := dial(t, gate.address)
		s := next(t, arrivals)
		for _, ends := range [][2]*net.TCPConn{{c, s}, {s, c}} {
			if _, err := io.WriteString(ends[0], "hello"); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(ends[1], make([]byte, 5)); err != nil {
				t.Fatal(err)
			}
		}
	}
	memory := resident(t, gate.Process.Pid)
	t.Logf("%d idle connections: %.1f MB", connections, float64(memory)/1e6)
	if memory > 100e6 && !raceDetector {
		t.Errorf("the process has %d bytes", memory)
	}
	b, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", gate.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	if len(b) < 2*connections || len(b) > 2*connections+50 {
		t.Errorf("the process has %d descriptors, want two for each connection and a few", len(b))
	}
}

func resident(t *testing.T, pid int) int64 {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			n, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return n << 10
		}
	}
	t.Fatal("no VmRSS")
	return 0
}

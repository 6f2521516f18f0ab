package watchdog

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"
)

// supervisor stands in for systemd: a socket that takes what a service says.
type supervisor struct {
	t    *testing.T
	conn *net.UnixConn
}

// supervise sets what systemd sets for a service. limit 0: no watchdog.
func supervise(t *testing.T, name string, limit time.Duration) *supervisor {
	t.Helper()
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	t.Setenv("NOTIFY_SOCKET", name)
	t.Setenv("WATCHDOG_USEC", "")
	t.Setenv("WATCHDOG_PID", strconv.Itoa(os.Getpid()))
	if limit > 0 {
		t.Setenv("WATCHDOG_USEC", strconv.FormatInt(limit.Microseconds(), 10))
	}
	return &supervisor{t: t, conn: conn}
}

func socketOf(t *testing.T) string { return filepath.Join(t.TempDir(), "notify") }

// heard returns what has come since it was called last. It waits for nothing: what was sent is there.
func (s *supervisor) heard() []string {
	s.t.Helper()
	raw, err := s.conn.SyscallConn()
	if err != nil {
		s.t.Fatal(err)
	}
	var list []string
	buf := make([]byte, 4096)
	if err := raw.Read(func(fd uintptr) bool {
		for {
			n, _, err := unix.Recvfrom(int(fd), buf, unix.MSG_DONTWAIT)
			if err != nil {
				return true
			}
			list = append(list, string(buf[:n]))
		}
	}); err != nil {
		s.t.Fatal(err)
	}
	return list
}

func open(t *testing.T, o Options) *Watchdog {
	t.Helper()
	w, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func status(text string) func() string { return func() string { return text } }

func TestWhatSystemdHears(t *testing.T) {
	for _, name := range []string{socketOf(t), "@witness-watchdog-test-" + strconv.Itoa(os.Getpid())} {
		s := supervise(t, name, 2*time.Second)
		w := open(t, Options{})
		if got := w.Limit(); got != 2*time.Second {
			t.Errorf("limit %v", got)
		}
		w.Ready(t.Context())
		w.Turn(t.Context(), time.Hour, status("payroll: mirror, follows"))
		w.Stop(t.Context())
		got := strings.Join(s.heard(), ", ")
		if want := "READY=1, WATCHDOG=1, STATUS=payroll: mirror, follows, STOPPING=1"; got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}

// TestFedByTheLoopOnly: a loop that turns feeds four times within the limit, however fast it turns; one that is stuck
// feeds nobody, whatever else goes on in the process.
func TestFedByTheLoopOnly(t *testing.T) {
	s := supervise(t, socketOf(t), 2*time.Second)
	w := open(t, Options{})
	synctest.Test(t, func(t *testing.T) {
		turning, stop := context.WithCancel(t.Context())
		var all sync.WaitGroup
		began := time.Now()
		all.Go(func() { // the loop
			for time.Since(began) < 10*time.Second {
				w.Turn(turning, time.Since(began), status("turns"))
				time.Sleep(20 * time.Millisecond)
			}
			<-turning.Done() // it hangs
		})
		all.Go(func() { // all the rest of the agent
			for turning.Err() == nil {
				time.Sleep(10 * time.Millisecond)
			}
		})
		// feeds are counted once a second: the kernel keeps ten messages for a supervisor and no more.
		feeds := func(seconds int) (n int) {
			for range seconds {
				time.Sleep(time.Second)
				for _, m := range s.heard() {
					if m == "WATCHDOG=1" {
						n++
					}
				}
			}
			return n
		}
		if n := feeds(10); n < 19 || n > 21 {
			t.Errorf("fed %d times in 10 s, want once in 500 ms", n)
		}
		if n := feeds(60); n != 0 {
			t.Errorf("fed %d times while the loop was stuck", n)
		}
		stop()
		all.Wait()
	})
}

func TestStatusIsToldAtMostOnceASecond(t *testing.T) {
	s := supervise(t, socketOf(t), 0)
	w := open(t, Options{})
	if w.Limit() != 0 {
		t.Errorf("limit %v without a watchdog", w.Limit())
	}
	asked := 0
	for now := time.Hour; now < time.Hour+10*time.Second; now += 20 * time.Millisecond {
		w.Turn(t.Context(), now, func() string {
			asked++
			return []string{"serves for 2.4 s", "serves for 2.1 s"}[asked/5%2]
		})
	}
	if got := s.heard(); asked != 10 || len(got) != 3 {
		t.Errorf("asked for %d times, told %q", asked, got)
	}
}

// TestChildrenDoNotFeed: a database or a hook that inherits the socket could keep a dead agent looking alive.
func TestChildrenDoNotFeed(t *testing.T) {
	supervise(t, socketOf(t), time.Second)
	open(t, Options{})
	out, err := exec.CommandContext(t.Context(), "/usr/bin/env").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"} {
		if bytes.Contains(out, []byte(name)) {
			t.Errorf("a child finds %s", name)
		}
	}
}

// TestForAnotherProcess: what systemd has set for the parent is none of this process's business.
func TestForAnotherProcess(t *testing.T) {
	supervise(t, socketOf(t), time.Second)
	t.Setenv("WATCHDOG_PID", "1")
	if w := open(t, Options{}); w.Limit() != 0 {
		t.Errorf("limit %v", w.Limit())
	}
}

func TestWithoutSystemd(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	t.Setenv("WATCHDOG_USEC", "2000000")
	for _, w := range []*Watchdog{open(t, Options{}), {}} {
		w.Ready(t.Context())
		w.Turn(t.Context(), 1, func() string { t.Error("a status for nobody"); return "" })
		w.Stop(t.Context())
		if w.Limit() != 0 || w.Failures() != 0 {
			t.Errorf("limit %v, %d failures", w.Limit(), w.Failures())
		}
	}
}

func TestOddEnvironment(t *testing.T) {
	for _, env := range [][2]string{{"NOTIFY_SOCKET", "vsock:2:1234"}, {"WATCHDOG_USEC", "soon"}, {"WATCHDOG_USEC", "-1"}} {
		supervise(t, socketOf(t), time.Second)
		t.Setenv(env[0], env[1])
		w, err := Open(Options{})
		if err == nil || w == nil || w.Limit() != 0 {
			t.Errorf("%v: %v", env, err)
			continue
		}
		w.Turn(t.Context(), 1, status(""))
	}
}

// TestNobodyListens: a failure is counted each time and logged once; a supervisor that is full or gone does not hold
// up the loop.
func TestNobodyListens(t *testing.T) {
	tests := map[string]func(s *supervisor, w *Watchdog){
		"gone": func(s *supervisor, _ *Watchdog) { _ = s.conn.Close() },
		"full": func(_ *supervisor, w *Watchdog) {
			for w.systemd.send("STATUS=x") == nil {
				continue
			}
		},
	}
	for name, spoil := range tests {
		t.Run(name, func(t *testing.T) {
			s := supervise(t, socketOf(t), time.Second)
			var log bytes.Buffer
			w := open(t, Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
			spoil(s, w)
			began := time.Now()
			for i := range 10 {
				w.Turn(t.Context(), time.Duration(i)*time.Second, status("x"))
			}
			if took := time.Since(began); took > time.Second {
				t.Errorf("ten turns took %v", took)
			}
			if n := strings.Count(log.String(), "watchdog not fed"); w.Failures() != 10 || n != 1 {
				t.Errorf("%d failures, logged %d times: %s", w.Failures(), n, &log)
			}
		})
	}
}

// fakeDevice is a plain file that takes what is written; it has no timer, restarts nobody, and knows no timeout. This
// kernel may have no watchdog, and a test that armed a real one would restart the machine.
func fakeDevice(t *testing.T) string {
	path := filepath.Join(t.TempDir(), "watchdog")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestDevice(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	path := fakeDevice(t)
	written := func() string {
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return string(raw)
	}
	w, err := Open(Options{Device: path})
	if err == nil || !strings.Contains(err.Error(), "it is not known when "+path+" restarts the host") || w.Limit() != 0 {
		t.Fatalf("a device without a timeout: %v, limit %v", err, w.Limit())
	}
	for now := time.Hour; now < time.Hour+10*time.Second; now += 20 * time.Millisecond {
		w.Turn(t.Context(), now, status(""))
	}
	if got := written(); got != "\x00\x00\x00\x00" {
		t.Errorf("fed %q in 10 s", got)
	}
	w.Stop(t.Context())
	if got := written(); !strings.HasSuffix(got, "V") {
		t.Errorf("an orderly stop leaves %q", got)
	}
	w.Turn(t.Context(), 2*time.Hour, status(""))
	if got := written(); !strings.HasSuffix(got, "V") {
		t.Errorf("fed after the stop: %q", got)
	}
}

// TestCrashLeavesTheDeviceArmed: what ends without Stop does not write the letter that disarms.
func TestCrashLeavesTheDeviceArmed(t *testing.T) {
	if path := os.Getenv("WATCHDOG_TEST_DEVICE"); path != "" {
		w, _ := Open(Options{Device: path})
		w.Turn(t.Context(), time.Hour, status(""))
		panic("this agent crashes")
	}
	path := fakeDevice(t)
	child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestCrashLeavesTheDeviceArmed$")
	child.Env = append(os.Environ(), "WATCHDOG_TEST_DEVICE="+path, "NOTIFY_SOCKET=")
	if out, err := child.CombinedOutput(); err == nil {
		t.Fatalf("the child did not crash: %s", out)
	}
	if raw, err := os.ReadFile(path); err != nil || string(raw) != "\x00" {
		t.Errorf("written: %q, %v", raw, err)
	}
}

func TestNoDevice(t *testing.T) {
	s := supervise(t, socketOf(t), time.Second)
	w, err := Open(Options{Device: filepath.Join(t.TempDir(), "none")})
	if err == nil || !strings.Contains(err.Error(), "the host is not restarted when the agent hangs") {
		t.Errorf("%v", err)
	}
	w.Turn(t.Context(), 1, status("x"))
	if got := s.heard(); len(got) != 2 || w.Limit() != time.Second {
		t.Errorf("without the device systemd hears %q, limit %v", got, w.Limit())
	}
}

//go:build linux

package postgres

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/witnessd/witnessd/agent/engine"
)

// watched looks at a host as an agent does, for so long, and returns the last look.
func (h *host) watched(limit time.Duration, enough func(engine.State) bool) engine.State {
	h.t.Helper()
	var last engine.State
	for end := time.Now().Add(limit); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if last = h.see(); enough(last) {
			return last
		}
	}
	return last
}

// TestHungDisk: looks are answered from memory and no commit ends. The engine notices it by a commit of its own,
// without a look being held up, on a server to which no client writes.
func TestHungDisk(t *testing.T) {
	s := newShim(t)
	a, _ := newPair(t, s.under())
	if got := a.watched(3*time.Second, func(engine.State) bool { return false }); got.Stalled != 0 || got.Warning != "" {
		t.Fatalf("a well disk: stalled %v, %q", got.Stalled, got.Warning)
	}
	mend := s.do("hang")
	began := time.Now()
	got := a.watched(ample, func(st engine.State) bool {
		if st.Stalled > time.Since(began) {
			t.Errorf("stalled for %v since %v ago", st.Stalled, time.Since(began))
		}
		return st.Stalled > 2*time.Second
	})
	if got.Stalled <= 2*time.Second || !strings.Contains(got.Warning, "has taken no commit") {
		t.Fatalf("a hung disk: stalled %v, %q", got.Stalled, got.Warning)
	}
	t.Logf("2 s of a stall were seen after %v", time.Since(began))
	mend()
	got = a.watched(ample, func(st engine.State) bool { return st.Stalled == 0 && st.Warning == "" })
	if got.Stalled != 0 || got.Warning != "" {
		t.Fatalf("a mended disk: stalled %v, %q", got.Stalled, got.Warning)
	}
	fenceHung(t, s, a)
}

// fenceHung: a server whose disk hangs can be fenced at once.
func fenceHung(t *testing.T, s *shim, a *host) {
	t.Helper()
	mend := s.do("hang")
	a.watched(ample, func(st engine.State) bool { return st.Stalled > 0 })
	began := time.Now()
	a.fence()
	if took := time.Since(began); took > fenceBudget {
		t.Errorf("a fence on a hung disk took %v", took)
	}
	mend()
}

// TestSlowDisk: a disk under a storm of checkpoints is slow, and nothing hangs.
func TestSlowDisk(t *testing.T) {
	s := newShim(t)
	a, _ := newPair(t, s.under())
	mend := s.do("slow")
	defer mend()
	load := a.client()
	for end := time.Now().Add(4 * time.Second); time.Now().Before(end); {
		load.must("checkpoint")
		if got := a.see(); got.Stalled != 0 {
			t.Fatalf("slow was taken for hung: %v, %s", got.Stalled, got.Warning)
		}
	}
}

// TestDeafPostmaster: the server answers on the connections that it has, and no new client gets in.
func TestDeafPostmaster(t *testing.T) {
	s := newShim(t)
	a, _ := newPair(t, s.under())
	a.watched(time.Second, func(engine.State) bool { return false })
	mend := s.do("deaf")
	got := a.watched(ample, func(st engine.State) bool { return st.Stalled > 2*time.Second })
	if got.Stalled <= 2*time.Second || !strings.Contains(got.Warning, "no new client") {
		t.Fatalf("a deaf postmaster: stalled %v, %q", got.Stalled, got.Warning)
	}
	mend()
	if got = a.watched(ample, func(st engine.State) bool { return st.Stalled == 0 }); got.Stalled != 0 {
		t.Fatalf("it hears again: stalled %v, %q", got.Stalled, got.Warning)
	}
}

// TestFullBacklog: where no more clients may even wait, the kernel refuses at once. That is a server which answers
// none, and not a knock that has ended.
func TestFullBacklog(t *testing.T) {
	dir := t.TempDir()
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	check(t, err)
	t.Cleanup(func() { _ = unix.Close(fd) })
	name := filepath.Join(dir, ".s.PGSQL.5")
	check(t, unix.Bind(fd, &unix.SockaddrUnix{Name: name}))
	check(t, unix.Listen(fd, 1))
	for {
		conn, err := net.Dial("unix", name)
		if errors.Is(err, unix.EAGAIN) {
			break
		}
		check(t, err)
		t.Cleanup(func() { _ = conn.Close() })
	}
	check(t, os.WriteFile(filepath.Join(dir, "postmaster.pid"), []byte("77\nx\n0\n5\n"+dir+"\n*\n"), 0o600))
	e := &Engine{}
	e.cfg.DataDir = dir
	knock := func(limit time.Duration) error { return e.knock(within(t, limit), &run{process: process{pid: 77}}) }
	if err := knock(200 * time.Millisecond); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a full backlog: %v", err)
	}
	go func() { // The server hears again.
		for {
			client, _, err := unix.Accept(fd)
			if err != nil {
				return
			}
			go func() {
				_, _ = unix.Read(client, make([]byte, 8))
				_, _ = unix.Write(client, []byte("N"))
				_ = unix.Close(client)
			}()
		}
	}()
	check(t, knock(ample))
}

// TestKnockRefused: a server that nobody can reach is told of.
func TestKnockRefused(t *testing.T) {
	a, _ := newPair(t)
	a.watched(time.Second, func(engine.State) bool { return false })
	file, err := readPidFile(a.Engine.cfg.DataDir)
	check(t, err)
	socket := filepath.Join(file.socketDir, ".s.PGSQL."+strconv.Itoa(int(file.port)))
	check(t, os.Rename(socket, socket+".away"))
	got := a.watched(ample, func(st engine.State) bool { return st.Warning != "" })
	if !strings.Contains(got.Warning, "a new client gets no answer") {
		t.Errorf("without its socket: %q", got.Warning)
	}
	check(t, os.Rename(socket+".away", socket))
	got = a.watched(ample, func(st engine.State) bool { return st.Warning == "" })
	if got.Warning != "" {
		t.Errorf("with it again: %q", got.Warning)
	}
}

// TestSuspended: a suspended postmaster, and a server that is suspended as a whole, are no states but hang.
func TestSuspended(t *testing.T) {
	a, b := newPair(t)
	for name, h := range map[string]*host{"primary": a, "mirror": b} {
		h.see()
		h.postmaster(unix.SIGSTOP)
		eventually(t, name+", postmaster suspended", func() error {
			if _, err := h.Observe(within(t, time.Second)); !errors.Is(err, engine.ErrHung) {
				return errors.Join(errors.New("it is not seen to hang"), err)
			}
			return nil
		})
		h.postmaster(unix.SIGCONT)
		h.until("goes on", func(st engine.State) bool { return st.Stalled == 0 })
		found, err := serverProcesses(h.cfg.DataDir)
		check(t, err)
		for _, p := range found.children {
			_ = unix.Kill(p.pid, unix.SIGSTOP) // What greets a client is gone a moment later.
		}
		if _, err := h.Observe(within(t, 300*time.Millisecond)); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s, all but its postmaster suspended: %v", name, err)
		}
		for _, p := range h.processes() {
			_ = unix.Kill(p.pid, unix.SIGCONT)
		}
		h.until("goes on", func(st engine.State) bool { return st.Running })
	}
}

// TestReadOnlyDisk: a server that cannot write its log ends, also if no client writes: the engine's own commit
// makes it notice.
func TestReadOnlyDisk(t *testing.T) {
	s := newShim(t)
	a, _ := newPair(t, s.under())
	a.see()
	mend := s.do("readonly")
	defer mend()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case <-a.Exits():
				return
			case <-time.After(50 * time.Millisecond):
				_, _ = a.Observe(t.Context())
			}
		}
	}()
	select {
	case <-ended:
	case <-time.After(ample):
		t.Fatal("the server lives on a read-only disk")
	}
	check(t, a.Stop(within(t, ample)))
	if got := a.see(); got.Running {
		t.Errorf("%+v", got)
	}
}

//go:build linux

package demo

import (
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/witnessd/witnessd/agent/engine"
	"github.com/witnessd/witnessd/agent/engine/demo/kv"
)

// Data of another database is never touched, whatever the call.
func TestForeignDatabase(t *testing.T) {
	a, b := newPrimary(t), newPrimary(t)
	before := b.state()
	peer := a.peer()
	if err := b.Follow(b.ctx(), peer, nil); !errors.Is(err, engine.ErrForeign) {
		t.Errorf("follow, system not told: %v", err)
	}
	peer.SystemID = a.state().SystemID
	if err := b.Follow(b.ctx(), peer, nil); !errors.Is(err, engine.ErrForeign) {
		t.Errorf("follow: %v", err)
	}
	if err := b.Promote(b.ctx(), peer); !errors.Is(err, engine.ErrForeign) {
		t.Errorf("promote: %v", err)
	}
	if after := b.state(); after.SystemID != before.SystemID || after.Position != before.Position {
		t.Errorf("%+v became %+v", before, after)
	}
	empty := newHost(t)
	peer.SystemID = before.SystemID
	if err := empty.Follow(empty.ctx(), peer, nil); !errors.Is(err, engine.ErrForeign) {
		t.Errorf("follow another database than was told: %v", err)
	}
}

// A directory of something else stays as it is: nothing is started there, no file is put there.
func TestForeignDirectory(t *testing.T) {
	a, h := newPrimary(t), newHost(t)
	name := filepath.Join(h.cfg.DataDir, "thesis.txt")
	h.must(os.WriteFile(name, []byte("years of work"), 0o600))
	for what, err := range map[string]error{
		"follow":   h.Follow(h.ctx(), a.peer(), nil),
		"stand by": h.Standby(h.ctx()),
		"promote":  h.Promote(h.ctx(), a.peer()),
	} {
		if !errors.Is(err, engine.ErrForeign) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if s := h.state(); s.Data != engine.DataUnknown || s.Promotable || s.NotPromotable == "" {
		t.Errorf("state: %+v", s)
	}
	entries, err := os.ReadDir(h.cfg.DataDir)
	h.must(err)
	if len(entries) != 1 {
		t.Errorf("files: %v", entries)
	}
}

func TestEmptyDirectory(t *testing.T) {
	h := newHost(t)
	h.must(h.Standby(h.ctx()))
	if s := h.state(); s.Running || s.Data != engine.DataEmpty || s.Promotable {
		t.Errorf("state: %+v", s)
	}
	if err := h.Promote(h.ctx(), h.peer()); !errors.Is(err, engine.ErrNoData) {
		t.Errorf("promote: %v", err)
	}
	h.must(h.Stop(h.ctx()))
	h.must(h.Fence(h.ctx()))
	if _, err := h.HandOver(h.ctx(), h.peer()); err == nil {
		t.Error("handed over what does not run")
	}
}

// While a copy is under way the data is incomplete and not promoted, also not after a crash; it is
// finished later.
func TestInterruptedClone(t *testing.T) {
	a, b := newPrimary(t), newHost(t)
	a.must(a.ReleaseCommits(a.ctx()))
	c := client(t, a)
	for _, key := range []string{"a", "b", "c", "d", "e", "f"} {
		a.must(c.Set(a.ctx(), key, strings.Repeat("v", 100<<10)))
	}
	line := newLine(t, a.Address(), 400<<10)
	peer := a.peer()
	peer.Address = line.address
	result, cloning := make(chan error, 1), make(chan engine.Progress, 1)
	go func() {
		result <- b.Follow(b.ctx(), peer, func(p engine.Progress) {
			if p.Step != "clone" || p.Done == 0 {
				return
			}
			select {
			case cloning <- p:
			default:
			}
		})
	}()
	if p := <-cloning; p.Total != int64(a.state().Position.Offset) || p.Done >= p.Total {
		t.Errorf("told: %+v", p)
	}
	if s := b.state(); s.Data != engine.DataIncomplete || s.Promotable || s.Step == "" {
		t.Errorf("half a copy: %+v", s)
	}
	b.must(b.Fence(b.ctx()))
	if err := <-result; !errors.Is(err, engine.ErrFenced) {
		t.Errorf("follow: %v", err)
	}
	if err := b.Promote(b.ctx(), a.peer()); !errors.Is(err, engine.ErrNoData) {
		t.Errorf("promote half a copy: %v", err)
	}
	if s := b.state(); s.Data != engine.DataIncomplete || s.Promotable {
		t.Errorf("half a copy, stopped: %+v", s)
	}
	b.follow(a)
	if s := b.state(); s.Data != engine.DataPresent || !s.Promotable || s.Position != a.state().Position {
		t.Errorf("whole copy: %+v", s)
	}
}

// line carries so many bytes from a server and then stands still, with the connection open.
type line struct {
	address string
	left    int64
}

func newLine(t *testing.T, to string, bytes int64) *line {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &line{address: listener.Addr().String(), left: bytes}
	var conns sync.WaitGroup
	t.Cleanup(func() { _ = listener.Close(); conns.Wait() })
	conns.Go(func() {
		for {
			from, err := listener.Accept()
			if err != nil {
				return
			}
			l.carry(from, to) // One connection after the other; a mirror has one.
		}
	})
	return l
}

func (l *line) carry(from net.Conn, to string) {
	defer from.Close()
	server, err := net.DialTimeout("tcp", to, time.Second)
	if err != nil {
		return
	}
	defer server.Close()
	var back sync.WaitGroup
	back.Go(func() {
		n, _ := io.Copy(from, io.LimitReader(server, l.left))
		l.left -= n
	})
	_, _ = io.Copy(server, from) // Ends when the mirror hangs up.
	_ = server.Close()
	back.Wait()
}

// Only a clone helps a damaged copy; without leave nothing is done, and with it the old log is kept.
func TestDamagedCopy(t *testing.T) {
	a, b := newPair(t)
	a.must(client(t, a).Set(a.ctx(), "a", "1"))
	b.must(b.Stop(b.ctx()))
	name := filepath.Join(b.cfg.DataDir, "commits.log")
	log, err := os.ReadFile(name)
	b.must(err)
	log[len(log)-1] ^= 0xff
	b.must(os.WriteFile(name, log, 0o600))
	if s := b.state(); s.Promotable || s.Data != engine.DataIncomplete {
		t.Errorf("damaged: %+v", s)
	}
	b.must(b.Close())
	b.cfg.Rejoin.AllowClone = false
	b.open()
	if err := b.Follow(b.ctx(), a.peer(), nil); !errors.Is(err, engine.ErrNeedsClone) {
		t.Fatalf("follow: %v", err)
	}
	b.must(b.Stop(b.ctx()))
	b.must(b.Close())
	b.cfg.Rejoin.AllowClone = true
	b.open()
	b.follow(a)
	aside, err := filepath.Glob(filepath.Join(b.cfg.DataDir, "aside-*.log"))
	if err != nil || len(aside) != 1 {
		t.Fatalf("kept aside: %v %v", aside, err)
	}
	if kept, err := os.ReadFile(aside[0]); err != nil || string(kept) != string(log) {
		t.Errorf("kept %d bytes, %v; want the damaged log", len(kept), err)
	}
}

// Commits that nobody confirmed are cut off, counted and kept.
func TestRewind(t *testing.T) {
	a, b := newPair(t)
	b.must(b.Stop(b.ctx()))
	c := client(t, a)
	before := a.state().Position
	waits := make(chan error, 1)
	go func() { waits <- c.Set(a.ctx(), "lost", "1") }()
	a.until("the commit is on the primary's disk", func(s engine.State) bool { return s.Position != before })
	a.must(a.Fence(a.ctx()))
	if err := <-waits; !errors.Is(err, kv.ErrOutcomeUnknown) {
		t.Errorf("commit that nobody confirmed: %v", err)
	}
	b.promote()
	var last engine.Progress
	a.must(a.Follow(a.ctx(), b.peer(), func(p engine.Progress) { last = p }))
	if !strings.HasPrefix(last.Detail, "1 commits cut off, kept in diverged-") {
		t.Errorf("told: %+v", last)
	}
	if s := a.state(); s.Position != b.state().Position || !s.Following {
		t.Errorf("after the rewind: %+v", s)
	}
	kept, err := filepath.Glob(filepath.Join(a.cfg.DataDir, "diverged-*.log"))
	if err != nil || len(kept) != 1 {
		t.Fatalf("kept: %v %v", kept, err)
	}
	if text, err := os.ReadFile(kept[0]); err != nil || string(text) != "SET lost 1\n" {
		t.Errorf("kept: %q %v", text, err)
	}
}

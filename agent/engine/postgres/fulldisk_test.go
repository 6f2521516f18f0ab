//go:build linux

package postgres

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/witnessd/witnessd/agent/engine"
	"github.com/witnessd/witnessd/agent/engine/postgres/postgrestest"
)

// onSmallDisk gives a directory a file system of its own, of so many megabytes, and returns what fills it.
func onSmallDisk(t *testing.T, dir string, megabytes int) (fill func() (free func())) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can mount a file system")
	}
	check(t, postgrestest.OwnDir(dir, postgrestest.OSUser()))
	check(t, unix.Mount("tmpfs", dir, "tmpfs", 0, "size="+strconv.Itoa(megabytes)+"m"))
	t.Cleanup(func() { check(t, unix.Unmount(dir, unix.MNT_DETACH)) })
	check(t, postgrestest.OwnDir(dir, postgrestest.OSUser()))
	return func() func() {
		path := filepath.Join(dir, "full")
		f, err := os.Create(path)
		check(t, err)
		defer f.Close()
		for block := make([]byte, 4096); err == nil; {
			_, err = f.Write(block)
		}
		return func() { check(t, os.Remove(path)) }
	}
}

// logOn moves a host's log to a directory elsewhere, as administrators do who give it a disk of its own.
func (h *host) logOn(dir string) {
	h.t.Helper()
	copyDir(h.t, filepath.Join(h.cfg.DataDir, "pg_wal"), filepath.Join(dir, "pg_wal"))
	check(h.t, os.RemoveAll(filepath.Join(h.cfg.DataDir, "pg_wal")))
	check(h.t, os.Symlink(filepath.Join(dir, "pg_wal"), filepath.Join(h.cfg.DataDir, "pg_wal")))
}

// TestDataDiskFull: statements that need room fail, the server lives, and an operator is told before and then. The
// engine leaves it alone.
func TestDataDiskFull(t *testing.T) {
	a, b := newHosts(t)
	fill := onSmallDisk(t, a.cfg.DataDir, 64)
	copyInto(t, template(t, "one"), a.cfg.DataDir)
	a.logOn(filepath.Dir(a.cfg.DataDir))
	a.serve(b)
	check(t, a.ReleaseCommits(within(t, ample)))
	c := a.client()
	c.must("create table t (n int)")
	free := fill()
	err := c.exec("insert into t select generate_series(1, 1000000)", ample)
	if err == nil || !strings.Contains(err.Error(), "No space left on device") {
		t.Fatalf("an insert on a full disk: %v", err)
	}
	a.until("says so", func(s engine.State) bool {
		return strings.Contains(s.Warning, "data's disk") && strings.Contains(s.Warning, "100 % full")
	})
	got := a.watched(3*time.Second, func(s engine.State) bool { return s.Stalled > 0 || s.Role != engine.RolePrimary })
	if got.Stalled > 0 || got.Role != engine.RolePrimary {
		t.Fatalf("%+v", got)
	}
	free()
	c.must("insert into t values (1)")
	a.until("is content", func(s engine.State) bool { return s.Warning == "" })
}

// copyInto copies into a directory that is there and must stay, because something is mounted on it.
func copyInto(t *testing.T, from, to string) {
	t.Helper()
	names, err := os.ReadDir(from)
	check(t, err)
	for _, name := range names {
		copyDir(t, filepath.Join(from, name.Name()), filepath.Join(to, name.Name()))
	}
	check(t, os.Chmod(to, 0o700))
}

// TestLogDiskFull: a server that cannot write its log ends, which is told at once. It can be stopped for good on the
// full disk, does not come up on it, and does when there is room.
func TestLogDiskFull(t *testing.T) {
	a, b := newHosts(t)
	wal := filepath.Join(filepath.Dir(a.cfg.DataDir), "wal")
	fill := onSmallDisk(t, wal, 24)
	a.logOn(wal)
	a.serve(b)
	check(t, a.ReleaseCommits(within(t, ample)))
	c := a.client()
	c.must("create table t (n int)")
	free := fill()
	if err := c.exec("insert into t select generate_series(1, 1000000)", ample); err == nil {
		t.Fatal("acknowledged on a full disk")
	}
	select {
	case <-a.Exits():
	case <-time.After(ample):
		t.Fatal("the server lives")
	}
	check(t, a.Stop(within(t, ample)))
	if err := a.Promote(within(t, ample), b.peer()); err == nil {
		t.Error("promoted on a full disk")
	}
	check(t, a.Stop(within(t, ample)))
	free()
	a.serve(b)
	if n := a.client().one("select count(*) from t"); n != "0" {
		t.Errorf("%s rows of a transaction that failed", n)
	}
}

// TestMirrorDiskFull: a mirror that cannot write what it receives is not seen as attached any more, so that its
// primary goes on without it.
func TestMirrorDiskFull(t *testing.T) {
	a, b := newPair(t)
	fill := onSmallDisk(t, filepath.Join(filepath.Dir(b.cfg.DataDir), "wal"), 24)
	check(t, b.Stop(within(t, ample)))
	b.logOn(filepath.Join(filepath.Dir(b.cfg.DataDir), "wal"))
	b.follows(a)
	fill()
	check(t, a.ReleaseCommits(within(t, ample)))
	a.client().must("insert into t select generate_series(1, 300000)")
	a.until("alone", func(s engine.State) bool {
		return !s.Mirror.Attached || s.Mirror.Flushed.Offset+1<<20 < s.Position.Offset
	})
	time.Sleep(100 * time.Millisecond)
	if got := a.see(); got.Mirror.Attached && got.Mirror.Flushed.Offset >= got.Position.Offset {
		t.Errorf("%+v", got)
	}
}

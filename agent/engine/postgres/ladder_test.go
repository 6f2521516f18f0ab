//go:build linux

package postgres

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/witnessd/witnessd/agent/engine"
	"github.com/witnessd/witnessd/agent/engine/postgres/postgrestest"
)

// TestThrottledClone: clone_rate is obeyed, and how far the clone is can be seen all the while.
func TestThrottledClone(t *testing.T) {
	a, b := newHosts(t)
	a.serve(b)
	const rate = 4 << 20
	b.Engine.cfg.Rejoin.CloneRate = "4M"
	var seen []engine.Progress
	began := time.Now()
	check(t, b.Follow(within(t, ample), a.peer(), func(p engine.Progress) {
		if p.Step == "clone" && p.Total > 0 {
			seen = append(seen, p)
		}
	}))
	took := time.Since(began)
	if len(seen) < 3 {
		t.Fatalf("told %d times: %v", len(seen), seen)
	}
	last := seen[len(seen)-1]
	if least := time.Duration(float64(last.Total) / rate * 0.7 * float64(time.Second)); took < least {
		t.Errorf("%d bytes took %v, at least %v is the limit's", last.Total, took, least)
	}
	middle := seen[0]
	for _, p := range seen {
		if p.Left > 0 {
			middle = p
		}
	}
	if middle.Rate < rate/2 || middle.Rate > rate*3/2 || middle.Left <= 0 || middle.Left > took {
		t.Errorf("in the middle: %v of %v", middle, last)
	}
	t.Logf("%v; took %v", middle, took)
}

// TestTablespaces: a clone puts them beside what is there, a rewind goes through them, and what is replaced keeps
// its own until it is deleted.
func TestTablespaces(t *testing.T) {
	a, b := newHosts(t)
	a.serve(b)
	check(t, a.ReleaseCommits(within(t, ample)))
	place := filepath.Join(filepath.Dir(filepath.Dir(a.cfg.DataDir)), "fast")
	check(t, postgrestest.OwnDir(place, a.cfg.OSUser))
	c := a.client()
	c.must("create tablespace fast location '" + place + "'")
	c.must("create table t (n int) tablespace fast")
	b.follows(a)
	check(t, a.HoldCommits(within(t, ample), b.peer()))

	spaces := func() []string {
		found, err := filepath.Glob(place + "*")
		check(t, err)
		return found
	}
	if got := spaces(); len(got) != 2 || !strings.Contains(got[1], copiedSuffix) {
		t.Fatalf("after the clone: %v", got)
	}
	diverge(t, a, b)
	if steps := a.rejoin(b); steps != "rewind keep-aside rewind catch-up" {
		t.Fatalf("came back by %q", steps)
	}
	a.hasRows("2")

	b.client().must("revoke pg_checkpoint from " + a.cfg.ReplicationUser)
	for range 2 { // The second one deletes what the first has kept.
		check(t, a.Stop(within(t, ample)))
		check(t, os.WriteFile(a.path(incompleteFile), nil, 0o600))
		check(t, os.Rename(a.Engine.cfg.DataDir, a.Engine.cfg.DataDir+rewindingSuffix))
		if steps := a.rejoin(b); steps != "clone keep-aside catch-up" {
			t.Fatalf("came back by %q", steps)
		}
		a.hasRows("2")
		got := spaces()
		kept := a.kept()
		if len(got) != 3 || len(kept) != 1 {
			t.Errorf("tablespaces %v, kept %v", got, kept)
		}
		links, err := ownTablespaces(kept[0])
		check(t, err)
		for _, target := range links {
			if !strings.HasSuffix(target, divergedInfix+strings.SplitN(kept[0], divergedInfix, 2)[1]) || !exists(target) {
				t.Errorf("the replaced copy's tablespace is at %s", target)
			}
		}
	}
	b.client().must("insert into t values (3)")
	a.hasRows("3")
}

// TestSettleCut: a clone that is left unfinished after its tablespaces have got their last names takes them along when
// it is deleted, and nothing of anybody else's.
func TestSettleCut(t *testing.T) {
	_, h := newHosts(t)
	dir, place := h.cfg.DataDir+cloningSuffix, filepath.Join(filepath.Dir(h.cfg.DataDir), "fast")
	clone := func() *following {
		check(t, os.RemoveAll(dir))
		check(t, os.MkdirAll(filepath.Join(dir, "pg_tblspc"), 0o700))
		space := tablespace{oid: "1", source: place, base: place}
		check(t, os.MkdirAll(filepath.Join(space.work(), "PG_15"), 0o700))
		check(t, os.Symlink(space.work(), filepath.Join(dir, "pg_tblspc", "1")))
		f := &following{Engine: h.Engine}
		check(t, f.settle(dir, []tablespace{space}))
		return f
	}
	for _, left := range []string{cloningSuffix, clonedSuffix} {
		f := clone()
		if !exists(filepath.Join(place, "PG_15")) {
			t.Fatal("the tablespace has not its path by right")
		}
		if left == clonedSuffix {
			check(t, os.Rename(dir, h.cfg.DataDir+left))
		}
		check(t, f.removeClone(h.cfg.DataDir+left))
		if exists(place) || exists(h.cfg.DataDir+left) {
			t.Errorf("left behind by a clone that ended as %s", left)
		}
	}
	f := clone()
	check(t, os.RemoveAll(place)) // Deleted by hand, and somebody else's now.
	check(t, os.MkdirAll(filepath.Join(place, "PG_15"), 0o700))
	check(t, f.mark(place, h.cfg.DataDir+" another time\n"))
	check(t, f.removeClone(dir))
	if !exists(filepath.Join(place, "PG_15")) {
		t.Error("somebody else's tablespace was deleted")
	}
}

// TestCloneOntoMount: a data directory that is a mount point is refused before anything is copied.
func TestCloneOntoMount(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("mounts a disk")
	}
	a, b := newHosts(t)
	a.serve(b)
	check(t, unix.Mount("small", b.cfg.DataDir, "tmpfs", 0, "size=1m,mode=0700"))
	t.Cleanup(func() { check(t, unix.Unmount(b.cfg.DataDir, 0)) })
	steps := 0
	err := b.Follow(within(t, ample), a.peer(), func(engine.Progress) { steps++ })
	if err == nil || !strings.Contains(err.Error(), "is a mount point") || steps != 0 {
		t.Errorf("after %d steps: %v", steps, err)
	}
	for _, suffix := range []string{cloningSuffix, clonedSuffix} {
		if exists(b.cfg.DataDir + suffix) {
			t.Errorf("%s is left", suffix)
		}
	}
}

// TestFollowsInName: a receiver that the primary refuses says for a moment, again and again, that it streams. That is
// not taken for following.
func TestFollowsInName(t *testing.T) {
	a, b := newHosts(t, func(c *Config) {
		c.Settings = map[string]string{"wal_retrieve_retry_interval": "1ms"}
	})
	a.serve(b)
	b.follows(a)
	f := &following{Engine: b.Engine, peer: a.peer(), receiver: b.named(a.peer())}
	var err error
	f.conninfo, err = b.receiverConninfo(t.Context(), a.peer().Address, f.receiver)
	check(t, err)
	// A primary's own commit, as its agent makes it every second.
	a.client().must("select pg_switch_wal(); create table t (n int)")
	eventually(t, "follows", func() error {
		if r, err := f.already(t.Context()); r == nil {
			return errors.Join(errors.New("not yet"), err)
		}
		return nil
	})
	c := a.client()
	c.must("select pg_terminate_backend(active_pid) from pg_replication_slots")
	eventually(t, "the slot is gone", func() error {
		return c.exec("select pg_drop_replication_slot('"+f.receiver+"')", time.Second)
	})
	streams, mirror := 0, b.client()
	for end := time.Now().Add(2 * time.Second); time.Now().Before(end); {
		if r, err := f.already(t.Context()); r != nil {
			t.Fatalf("it follows a primary that refuses it: %v", err)
		}
		if mirror.one("select count(*) from pg_stat_wal_receiver where status = 'streaming'") == "1" {
			streams++
		}
	}
	t.Logf("it was seen to stream %d times", streams)
}

// TestNoRoom: a clone that the disk cannot hold is refused in figures, before anything is touched; what a clone
// would delete in the end makes room if that helps.
func TestNoRoom(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("mounts a small disk")
	}
	template(t, "one")
	disk, err := os.MkdirTemp("", "small") //nolint:usetesting // The instance's owner must get in.
	check(t, err)
	t.Cleanup(func() { check(t, os.Remove(disk)) })
	check(t, unix.Mount("small", disk, "tmpfs", 0, "size=150m,mode=0755"))
	t.Cleanup(func() { check(t, unix.Unmount(disk, 0)) })
	a, b := newHosts(t, func(c *Config) {
		if strings.HasSuffix(filepath.Dir(c.DataDir), "/b") {
			c.DataDir = filepath.Join(disk, "data")
			check(t, postgrestest.OwnDir(c.DataDir, c.OSUser))
		}
	})
	a.serve(b)
	check(t, a.ReleaseCommits(within(t, ample)))
	check(t, os.Chown(disk, b.user.uid, b.user.gid))
	kept := b.cfg.DataDir + divergedInfix + "20260101T000000.000Z"
	check(t, os.Mkdir(kept, 0o700))
	fill := func(name string, size int) {
		check(t, os.WriteFile(name, make([]byte, size), 0o600))
	}
	fill(filepath.Join(disk, "other"), 90<<20)
	err = b.Follow(within(t, ample), a.peer(), nil)
	if !errors.Is(err, errNoRoom) || !strings.Contains(err.Error(), "MB in "+disk) ||
		!strings.Contains(err.Error(), "MB are free") {
		t.Fatalf("got %v", err)
	}
	t.Log(err)
	if !exists(kept) || exists(b.cfg.DataDir+cloningSuffix) {
		t.Error("something was touched")
	}
	check(t, os.Remove(filepath.Join(disk, "other")))
	fill(filepath.Join(kept, "old"), 90<<20)
	if err := b.Follow(within(t, ample), a.peer(), nil); !errors.Is(err, errNoRoom) || !exists(kept) {
		t.Errorf("what is to be kept: %v", err)
	}
	b.Engine.cfg.Rejoin.KeepDiverged = 0
	b.follows(a)
	if exists(kept) {
		t.Error("what is not to be kept is still there")
	}
}

// TestSlots: after a change of primary the new one keeps its log from its promotion on, and the old one keeps none.
func TestSlots(t *testing.T) {
	a, b := newPair(t)
	slots := func(h *host) string {
		return h.client().one(`select coalesce(string_agg(slot_name || ' ' || wal_status, ','), 'none')
			from pg_replication_slots`)
	}
	check(t, b.Stop(within(t, ample)))
	check(t, a.ReleaseCommits(within(t, ample)))
	a.crash()
	b.serve(a)
	if got := slots(b); got != receiverName(a.peer().Pair)+" reserved" {
		t.Errorf("right after the promotion: %s", got)
	}
	check(t, b.ReleaseCommits(within(t, ample)))
	a.rejoin(b)
	if got := slots(a); got != "none" {
		t.Errorf("on the old primary: %s", got)
	}
	// A slot that came back while nobody looked goes with the next call.
	a.client().must("select pg_create_physical_replication_slot('witness_old', true)")
	a.follows(b)
	if got := slots(a); got != "none" {
		t.Errorf("after following again: %s", got)
	}
}

// TestLostSlot: a mirror that is away for too long does not fill the primary's disk. The operator is told on the way,
// and the mirror is cloned.
func TestLostSlot(t *testing.T) {
	a, b := newHosts(t, func(c *Config) {
		c.Settings = map[string]string{"max_slot_wal_keep_size": "8MB", "wal_keep_size": "0", "max_wal_size": "4MB",
			"min_wal_size": "2MB"}
	})
	a.serve(b)
	b.follows(a)
	check(t, a.HoldCommits(within(t, ample), b.peer()))
	check(t, b.Stop(within(t, ample)))
	check(t, a.ReleaseCommits(within(t, ample)))
	c := a.client()
	c.must("create table filler (t text)")
	ask := func(ctx context.Context, sql string, args ...string) ([]values, error) {
		return query(ctx, c.PgConn, sql, args...)
	}
	told := map[string]bool{}
	for range 30 {
		c.must("insert into filler select repeat('x', 100) from generate_series(1, 5000)")
		c.must("checkpoint")
		warning := a.slotWarning(within(t, ample), nil, ask)
		for _, part := range []string{"% of max_slot_wal_keep_size (8.4 MB)", "beyond its bound", "has lost"} {
			if strings.Contains(warning, part) {
				told[part] = true
			}
		}
		if told["has lost"] {
			break
		}
	}
	if !told["has lost"] || !told["% of max_slot_wal_keep_size (8.4 MB)"] {
		t.Errorf("told %v", told)
	}
	if steps := b.rejoin(a); steps != "clone keep-aside catch-up" {
		t.Errorf("came back by %q", steps)
	}
	if got := a.slotWarning(within(t, ample), nil, ask); got != "" {
		t.Errorf("afterwards: %s", got)
	}
}

func TestSlotWarning(t *testing.T) {
	const gb = 1 << 30
	for _, test := range []struct {
		s    slotState
		want string
	}{
		{slotState{}, ""},
		{slotState{name: "w", status: "reserved", held: 6 * gb, bound: 8 * gb}, ""},
		{slotState{name: "w", status: "extended", held: 7 * gb, bound: 8 * gb}, "7.5 GB of log for the mirror, which is away: 88 %"},
		{slotState{name: "w", status: "unreserved", active: true, held: 9 * gb, bound: 8 * gb}, "beyond its bound (8.6 GB)"},
		{slotState{name: "w", status: "lost", bound: 8 * gb}, "cloned anew when it comes back"},
		{slotState{name: "w", status: "reserved", bound: -1}, "max_slot_wal_keep_size is -1"},
		{slotState{name: "w", status: "extended", held: 3 * gb, bound: -1, disk: 10 * gb, free: gb}, "1.1 GB are free"},
		{slotState{name: "w", status: "extended", held: 9 * gb, bound: -1, disk: 900 * gb, free: gb}, "keeps 9.7 GB"},
	} {
		if got := test.s.warning(); !strings.Contains(got, test.want) || test.want == "" && got != "" {
			t.Errorf("%+v:\n got %q\nwant %q", test.s, got, test.want)
		}
	}
}

func TestDump(t *testing.T) {
	d := newDump()
	for line := range strings.Lines(`rmgr: Heap        len (rec/tot):     59/    59, tx:        735, lsn: 0/0152E5A8, prev 0/0152E570, desc: INSERT off 1 flags 0x00, blkref #0: rel 1663/5/16384 blk 0
rmgr: Heap        len (rec/tot):     59/   159, tx:        736, lsn: 0/0152E5A8, prev 0/0152E570, desc: INSERT off 1 flags 0x00, blkref #0: rel 1663/5/16385 blk 0 FPW
rmgr: Standby     len (rec/tot):     50/    50, tx:          0, lsn: 0/0152E5A8, prev 0/0152E570, desc: RUNNING_XACTS nextXid 735
rmgr: Transaction len (rec/tot):     34/    34, tx:        735, lsn: 0/0152E5A8, prev 0/0152E570, desc: COMMIT 2026-11-23 22:12:01.123456 UTC; subxacts: 736; inval msgs: catcache 80
rmgr: Transaction len (rec/tot):     34/    34, tx:        737, lsn: 0/0152E5A8, prev 0/0152E570, desc: ABORT 2026-11-23 22:12:02 UTC
rmgr: Transaction len (rec/tot):     34/    34, tx:        738, lsn: 0/0152E5A8, prev 0/0152E570, desc: PREPARE gid x: 2026-11-23 22:12:02 UTC
rmgr: Transaction len (rec/tot):     34/    34, tx:        739, lsn: 0/0152E5A8, prev 0/0152E570, desc: PREPARE gid y: 2026-11-23 22:12:02 UTC
rmgr: Transaction len (rec/tot):     34/    34, tx:          0, lsn: 0/0152E5A8, prev 0/0152E570, desc: COMMIT_PREPARED 739: 2026-11-23 22:12:03 UTC
rmgr: Heap        len (rec/tot):     59/    59, tx:        740, lsn: 0/0152E5A8, prev 0/0152E570, desc: DELETE off 1
pg_waldump: error: error in WAL record at 0/1: invalid record length`) {
		d.line(strings.TrimSpace(line))
	}
	var s summary
	d.fill(&s)
	if s.Records != 9 || s.Committed != 2 || s.Unfinished != 2 || len(s.Transactions) != 5 || len(s.Relations) != 2 {
		t.Errorf("%+v", s)
	}
	if first := s.Transactions[0]; first != (transaction{735, outcomeCommitted, "2026-11-23 22:12:01.123456 UTC", 3, 252, 0}) {
		t.Errorf("with its part: %+v", first)
	}
}

//go:build linux

package postgres

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/sys/unix"

	"github.com/witnessd/witnessd/agent/engine"
)

// What a commit's acknowledgement promises, and what it does not. Each test shows one case; docs/guarantees.md
// has a line about each.

// waiting begins a statement on a connection of its own and returns when its commit waits for the mirror.
type waiting struct {
	*client
	notices chan string
	done    chan error
}

func (h *host) waits(sql string) *waiting {
	h.t.Helper()
	address, port, err := net.SplitHostPort(h.cfg.Listen)
	check(h.t, err)
	cfg, err := pgconn.ParseConfig(dsn(map[string]string{
		"host": address, "port": port, "user": h.cfg.Superuser, "dbname": "postgres", "sslmode": "disable",
	}))
	check(h.t, err)
	w := &waiting{notices: make(chan string, 10), done: make(chan error, 1)}
	cfg.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) { w.notices <- n.Message + ": " + n.Detail }
	conn, err := pgconn.ConnectConfig(within(h.t, ample), cfg)
	check(h.t, err)
	h.t.Cleanup(func() { _ = conn.Conn().Close() })
	w.client = &client{h.t, conn}
	go func() { w.done <- w.exec(sql, ample) }()
	pid := strconv.Itoa(int(conn.PID()))
	look := h.client()
	eventually(h.t, sql+" waits", func() error {
		select {
		case err := <-w.done:
			h.t.Fatalf("%s was not held back: %v", sql, err)
		default:
		}
		if got := look.one("select coalesce(max(wait_event), '') from pg_stat_activity where pid = " + pid); got != "SyncRep" {
			return errors.New(got)
		}
		return nil
	})
	return w
}

// rows is how many rows a client sees.
func (h *host) rows() string {
	h.t.Helper()
	return h.client().one("select count(*) from t")
}

// takeOver makes b the primary after a is gone.
func takeOver(t *testing.T, a, b *host) {
	t.Helper()
	a.crash()
	b.serve(a)
	check(t, b.ReleaseCommits(within(t, ample)))
}

// TestWaitCancelled: whoever ends the wait of a commit for its mirror makes it visible. A client that is told a
// warning has been told that the mirror may not have it, and a failover may lose it.
func TestWaitCancelled(t *testing.T) {
	for _, test := range []struct {
		by   string
		sql  string
		ends bool // the connection, before the client is told an outcome
	}{
		{"cancel", "select pg_cancel_backend(%d)", false},
		{"terminate", "select pg_terminate_backend(%d)", true},
	} {
		t.Run(test.by, func(t *testing.T) {
			a, b := newPair(t)
			b.crash()
			w := a.waits("insert into t values (1)")
			if n := a.rows(); n != "0" {
				t.Errorf("%s rows are visible while the commit waits", n)
			}
			a.client().must(fmt.Sprintf(test.sql, w.PID()))
			if err := <-w.done; (err != nil) != test.ends || w.IsClosed() != test.ends {
				t.Errorf("the client was told %v", err)
			}
			if got := <-w.notices; !strings.Contains(got, "committed locally") {
				t.Errorf("the client was warned: %s", got)
			}
			if n := a.rows(); n != "1" {
				t.Errorf("%s rows are visible after the wait was ended", n)
			}
			takeOver(t, a, b)
			if n := b.rows(); n != "0" {
				t.Errorf("%s rows after the failover", n)
			}
		})
	}
}

// TestLoweredBySession: a session may choose not to wait for the mirror's disk, and may then lose what it was
// told is committed. No other session is touched by its choice.
func TestLoweredBySession(t *testing.T) {
	a, b := newPair(t)
	b.crash()
	for _, level := range []string{"off", "local"} {
		c := a.client()
		c.must("set synchronous_commit = " + level)
		c.must("insert into t values (1)")
	}
	for _, level := range []string{"remote_write", "on", "remote_apply"} {
		a.waits("set synchronous_commit = " + level + "; insert into t values (2)")
	}
	if n := a.rows(); n != "2" {
		t.Errorf("%s rows are visible", n)
	}
	takeOver(t, a, b)
	if n := b.rows(); n != "0" {
		t.Errorf("%s rows after the failover", n)
	}
}

// TestRemoteWrite: a session that waits for the mirror's memory only is acknowledged before the mirror's disk has
// its commit.
func TestRemoteWrite(t *testing.T) {
	hold, bin := slowDisk(t)
	a, b := newHosts(t)
	b.cfg.BinDir = bin
	b.reopen()
	a.serve(b)
	b.follows(a)
	a.client().must("create table t (n int)")
	check(t, os.WriteFile(hold, nil, 0o600))
	c := a.client()
	c.must("set synchronous_commit = remote_write")
	c.must("insert into t values (1)")
	a.waits("insert into t values (2)")
	check(t, os.Remove(hold))
	a.until("on the mirror's disk", func(s engine.State) bool { return s.Mirror.Flushed.Offset >= s.Position.Offset })
	if n := a.rows(); n != "2" {
		t.Errorf("%s rows", n)
	}
}

// slowDisk makes programs whose writes to disk take as long as a file exists.
func slowDisk(t *testing.T) (hold, bin string) {
	t.Helper()
	dir := t.TempDir()
	for d := dir; d != "/" && d != os.TempDir(); d = filepath.Dir(d) {
		check(t, os.Chmod(d, 0o755))
	}
	hold, bin = filepath.Join(dir, "hold"), filepath.Join(dir, "bin")
	source, library := filepath.Join(dir, "slow.c"), filepath.Join(dir, "slow.so")
	check(t, os.WriteFile(source, []byte(`#include <unistd.h>
#include <sys/syscall.h>
int fdatasync(int fd) { while (access("`+hold+`", F_OK) == 0) usleep(1000); return syscall(SYS_fdatasync, fd); }
`), 0o644))
	out, err := exec.CommandContext(t.Context(), "cc", "-shared", "-fPIC", "-o", library, source).CombinedOutput()
	if err != nil {
		t.Fatalf("a C compiler is needed: %v: %s", err, out)
	}
	programs, err := FindBinaries()
	check(t, err)
	check(t, os.Mkdir(bin, 0o755))
	for _, name := range []string{"pg_controldata", "pg_basebackup", "pg_rewind", "pg_ctl"} {
		check(t, os.Symlink(filepath.Join(programs, name), filepath.Join(bin, name)))
	}
	check(t, os.WriteFile(filepath.Join(bin, "postgres"), []byte("#!/bin/sh\nLD_PRELOAD="+library+
		" exec "+filepath.Join(programs, "postgres")+" \"$@\"\n"), 0o755))
	return hold, bin
}

// TestPreparedTransactions: both halves of a two-phase commit wait for the mirror, and what was prepared survives
// a failover and is committed on the new primary.
func TestPreparedTransactions(t *testing.T) {
	a, b := newPair(t, func(c *Config) { c.Settings = map[string]string{"max_prepared_transactions": "5"} })
	c := a.client()
	for _, name := range []string{"one", "two", "three"} {
		c.must("begin; insert into t values (1); prepare transaction '" + name + "'")
	}
	c.must("commit prepared 'one'")

	thaw := b.freezeReceiver()
	prepare := a.waits("begin; insert into t values (1); prepare transaction 'four'")
	commit := a.waits("commit prepared 'two'")
	if n := a.rows(); n != "1" {
		t.Errorf("%s rows are visible", n)
	}
	thaw()
	check(t, <-prepare.done)
	check(t, <-commit.done)
	takeOver(t, a, b)
	if n := b.rows(); n != "2" {
		t.Errorf("%s rows after the failover", n)
	}
	c = b.client()
	if got := c.one("select string_agg(gid, ' ' order by gid) from pg_prepared_xacts"); got != "four three" {
		t.Errorf("prepared after the failover: %s", got)
	}
	c.must("commit prepared 'three'")
	c.must("rollback prepared 'four'")
	if n := b.rows(); n != "3" {
		t.Errorf("%s rows at last", n)
	}
}

// TestCrashWhileWaiting: a commit that waits when the primary crashes was acknowledged to nobody, and is visible
// after the recovery. When the same host is primary again it holds commits from the first on, and the mirror is
// not seen to have everything before it has what the recovery found too.
func TestCrashWhileWaiting(t *testing.T) {
	a, b := newPair(t)
	b.crash()
	a.waits("insert into t values (1)")
	if n := a.rows(); n != "0" {
		t.Errorf("%s rows are visible before the crash", n)
	}
	a.crash()
	a.serve(b)
	if n := a.rows(); n != "1" {
		t.Errorf("%s rows are visible after the recovery", n)
	}
	a.waits("insert into t values (2)")
	baseline := a.see()
	if baseline.Commits != engine.CommitsHeld || baseline.Mirror.Attached ||
		baseline.Mirror.Flushed.Offset >= baseline.Position.Offset {
		t.Fatalf("the same primary again: %+v", baseline)
	}
	b.follows(a)
	a.until("the mirror has everything", func(s engine.State) bool {
		return s.Mirror.Attached && s.Mirror.Flushed.Offset >= baseline.Position.Offset
	})
	takeOver(t, a, b)
	if n := b.rows(); n != "2" {
		t.Errorf("%s rows after the failover", n)
	}
}

// TestArmAfterAlone: holding does not reach back. What was acknowledged alone is on the mirror only when the
// mirror has confirmed a position that was read after the hold was proved, which is what an arm waits for.
func TestArmAfterAlone(t *testing.T) {
	a, b := newPair(t)
	check(t, a.ReleaseCommits(within(t, ample)))
	thaw := b.freezeReceiver()
	a.client().must("insert into t select generate_series(1, 1000)")
	check(t, a.HoldCommits(within(t, ample), b.peer()))
	baseline := a.see()
	if baseline.Commits != engine.CommitsHeld || !baseline.Mirror.Attached ||
		baseline.Mirror.Flushed.Offset >= baseline.Position.Offset {
		t.Fatalf("held, and the mirror without what was acknowledged before: %+v", baseline)
	}
	w := a.waits("insert into t values (1)")
	thaw()
	check(t, <-w.done)
	a.until("the mirror has everything", func(s engine.State) bool {
		return s.Mirror.Flushed.Offset >= baseline.Position.Offset
	})
	takeOver(t, a, b)
	if n := b.rows(); n != "1001" {
		t.Errorf("%s rows after the failover", n)
	}
}

// TestCheckpointerStuck: the reload is not the hold. While the checkpointer has not read the setting, commits are
// acknowledged alone, and holding is not reported.
func TestCheckpointerStuck(t *testing.T) {
	a, b := newPair(t)
	check(t, a.ReleaseCommits(within(t, ample)))
	c := a.client()
	checkpointer := number(t, c.one("select pid from pg_stat_activity where backend_type = 'checkpointer'"))
	check(t, unix.Kill(checkpointer, unix.SIGSTOP))
	t.Cleanup(func() { _ = unix.Kill(checkpointer, unix.SIGCONT) })
	held := make(chan error, 1)
	go func() { held <- a.HoldCommits(within(t, ample), b.peer()) }()
	c.one("select pg_sleep(0.2)")
	if got := c.one("show synchronous_standby_names"); got != heldForNobody {
		t.Errorf("the reload is through, and the setting is %q", got)
	}
	c.must("insert into t values (1)") // Acknowledged, though the setting says that it is held for nobody.
	if got := a.see(); got.Commits == engine.CommitsHeld {
		t.Errorf("taken as held: %+v", got)
	}
	err := <-held
	if err == nil || !strings.Contains(err.Error(), "checkpointer is stuck") {
		t.Fatalf("got %v", err)
	}
	if got := a.see(); got.Commits == engine.CommitsHeld {
		t.Errorf("taken as held: %+v", got)
	}
	check(t, unix.Kill(checkpointer, unix.SIGCONT))
	check(t, a.HoldCommits(within(t, ample), b.peer()))
	if got := a.see(); got.Commits != engine.CommitsHeld {
		t.Errorf("after it goes on: %+v", got)
	}
}

// A writer commits one row after the other, on whichever host lets it, and remembers what was acknowledged.
type writer struct {
	stop    chan struct{}
	stopped sync.WaitGroup
	acked   []int
	longest time.Duration // between two acknowledgements
}

func write(hosts ...*host) *writer {
	w := &writer{stop: make(chan struct{})}
	w.stopped.Go(func() {
		last := time.Now()
		var c *client
		for n := 0; ; n++ {
			select {
			case <-w.stop:
				return
			default:
			}
			if c == nil {
				c = writable(hosts)
			}
			if c == nil {
				time.Sleep(5 * time.Millisecond)
				continue
			}
			if err := c.exec("insert into t values ("+strconv.Itoa(n)+")", 5*time.Second); err != nil {
				_ = c.Conn().Close()
				c = nil
				continue
			}
			w.acked = append(w.acked, n)
			w.longest = max(w.longest, time.Since(last))
			last = time.Now()
		}
	})
	return w
}

// writable connects to the first host that lets a client write.
func writable(hosts []*host) *client {
	for _, h := range hosts {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		c, err := h.connect(ctx)
		cancel()
		if err != nil {
			continue
		}
		if c.ParameterStatus("in_hot_standby") == "off" {
			return c
		}
		_ = c.Conn().Close()
	}
	return nil
}

// end stops the writer and looks up on the host what was acknowledged.
func (w *writer) end(t *testing.T, h *host) {
	t.Helper()
	close(w.stop)
	w.stopped.Wait()
	t.Logf("%d rows acknowledged, the longest pause %v", len(w.acked), w.longest)
	rows, err := query(within(t, ample), h.client().PgConn, "select n from t")
	check(t, err)
	found := map[string]bool{}
	for _, row := range rows {
		found[row.text(0)] = true
	}
	for _, n := range w.acked {
		if !found[strconv.Itoa(n)] {
			t.Errorf("row %d was acknowledged and is not on %s", n, h.name)
		}
	}
}

// TestSwitchoversAttach: the last record of a primary that hands over is its shutdown checkpoint, and the mirror
// has it. So the old primary's log is the beginning of the new one's, and it follows without a rewind; back and
// forth, and under load.
func TestSwitchoversAttach(t *testing.T) {
	a, b := newPair(t)
	w := write(a, b)
	from, to := a, b
	for i := range 3 {
		time.Sleep(100 * time.Millisecond)
		got, err := from.HandOver(within(t, ample), to.peer())
		check(t, err)
		if !got.MirrorHasEverything {
			t.Fatalf("hand-over %d: %+v", i, got)
		}
		to.serve(from)
		if steps := from.rejoin(to); steps != "attach catch-up" {
			t.Errorf("after hand-over %d the old primary came back by %q", i, steps)
		}
		from.until("level", func(s engine.State) bool { return s.Promotable && s.Following })
		from, to = to, from
	}
	w.end(t, from)
	if from.see().Position.Timeline != 5 || len(from.kept())+len(to.kept()) != 0 || exists(a.cfg.DataDir+".discarded") {
		t.Errorf("%+v, kept %v %v", from.see(), from.kept(), to.kept())
	}
}

// TestTraps: roles and databases whose commits do not wait are named to operators, and refuse nothing.
func TestTraps(t *testing.T) {
	a, _ := newPair(t)
	c := a.client()
	c.must(`create role "the app" login`)
	c.must("create database shop")
	c.must(`alter role "the app" set synchronous_commit = local`)
	c.must(`alter role "the app" in database shop set synchronous_commit = remote_write`)
	c.must("alter database shop set synchronous_commit = 'FALSE'")
	c.must("alter role postgres set synchronous_commit = remote_apply")
	ask := func(ctx context.Context, sql string, args ...string) ([]values, error) {
		return query(ctx, c.PgConn, sql, args...)
	}
	traps, err := durabilityTraps(within(t, ample), ask)
	check(t, err)
	all := strings.Join(traps, "\n")
	for _, want := range []string{
		"local for role \"the app\", ", "run ALTER ROLE \"the app\" RESET synchronous_commit",
		"remote_write for role \"the app\" in database shop, ", "false for database shop, ",
	} {
		if !strings.Contains(all, want) {
			t.Errorf("no %q in\n%s", want, all)
		}
	}
	if len(traps) != 3 {
		t.Errorf("%d traps:\n%s", len(traps), all)
	}
	got := a.until("warned", func(s engine.State) bool { return strings.Contains(s.Warning, "database shop") })
	if got.Commits != engine.CommitsHeld {
		t.Errorf("%+v", got)
	}
	for _, name := range []string{"r1", "r2", "r3", "r4", "r5"} {
		c.must("create role " + name + "; alter role " + name + " set synchronous_commit = off")
	}
	c.must("alter system set synchronous_commit = off")
	if traps, err = durabilityTraps(within(t, ample), ask); err != nil || len(traps) != 1+trapsNamed+1 ||
		!strings.Contains(traps[0], "all sessions") || !strings.HasPrefix(traps[6], "3 more") {
		t.Errorf("%d traps, %v: %s", len(traps), err, strings.Join(traps, "\n"))
	}
}

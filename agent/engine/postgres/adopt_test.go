//go:build linux

package postgres

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/witnessd/witnessd/agent/engine"
	"github.com/witnessd/witnessd/agent/engine/postgres/postgrestest"
)

// A debian is a server as Debian's tools make and run it, and as an administrator has set it up.
type debian struct {
	*host
	version, cluster string
	etc              string
}

// newDebian makes a server with pg_createcluster, under a name of the test's own, and starts it.
func newDebian(t *testing.T, base, name string, settings string, initArgs ...string) *debian {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("pg_createcluster is for root")
	}
	bin := postgrestest.Require(t)
	d := &debian{version: filepath.Base(filepath.Dir(bin)), cluster: "witnesstest" + strings.ToLower(rand.Text()[:8])}
	d.etc = filepath.Join("/etc/postgresql", d.version, d.cluster)
	dir := filepath.Join(base, name)
	check(t, postgrestest.OwnDir(dir, "postgres"))
	listen, err := postgrestest.FreeAddress()
	check(t, err)
	_, port, _ := strings.Cut(listen, ":")
	t.Cleanup(func() {
		if out, err := exec.Command("pg_dropcluster", d.version, d.cluster).CombinedOutput(); err != nil {
			t.Errorf("pg_dropcluster: %v: %s", err, out)
		}
		_ = os.RemoveAll(d.etc)
	})
	args := append([]string{"-d", filepath.Join(dir, "data"), "--socketdir", dir, "-l", filepath.Join(dir, "log"),
		"-p", port, "--start-conf", "manual", d.version, d.cluster, "--", "--wal-segsize=1", "--no-sync"}, initArgs...)
	tool(t, "pg_createcluster", args...)
	check(t, appendText(d.etc+"/postgresql.conf", "dynamic_shared_memory_type = mmap\n"))
	if settings != "" {
		check(t, os.WriteFile(d.etc+"/conf.d/site.conf", []byte(settings), 0o644))
	}
	hba, err := os.ReadFile(d.etc + "/pg_hba.conf")
	check(t, err)
	check(t, os.WriteFile(d.etc+"/pg_hba.conf", append([]byte("host postgres postgres 127.0.0.1/32 trust\n"+
		"host replication,postgres witness_replication 127.0.0.1/32 scram-sha-256\n"), hba...), 0o640))
	passfile := filepath.Join(base, name+".pass")
	check(t, os.WriteFile(passfile, []byte("*:*:*:witness_replication:secret\n"), 0o600))
	tool(t, "chown", "postgres:", passfile)
	d.ctl(t, "start")
	d.host = newHost(t, base, name, func(c *Config) {
		c.ConfigFile, c.Listen = d.etc+"/postgresql.conf", listen
		c.LogFile = filepath.Join(dir, "log")
		c.ReplicationPassfile = passfile
	})
	return d
}

func (d *debian) ctl(t *testing.T, what string) {
	t.Helper()
	tool(t, "pg_ctlcluster", d.version, d.cluster, what)
}

// tool runs a program whose children may keep its output open.
func tool(t *testing.T, name string, args ...string) {
	t.Helper()
	out, err := os.CreateTemp(t.TempDir(), "out")
	check(t, err)
	defer out.Close()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Stdout, cmd.Stderr, cmd.Dir = out, out, "/"
	if err := cmd.Run(); err != nil {
		text, _ := os.ReadFile(out.Name())
		t.Fatalf("%s %v: %v: %s", name, args, err, text)
	}
}

func appendText(name, text string) error {
	f, err := os.OpenFile(name, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}

// files are all files below a directory, with their contents.
func files(t *testing.T, dir string) map[string]string {
	t.Helper()
	found := map[string]string{}
	check(t, filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		text, err := os.ReadFile(path)
		found[strings.TrimPrefix(path, dir+"/")] = string(text)
		return err
	}))
	return found
}

// newBase is a directory for the hosts of one test.
func newBase(t *testing.T) string {
	t.Helper()
	base, err := os.MkdirTemp(scratch(), "pg") //nolint:usetesting // Short, for sockets; in memory.
	check(t, err)
	check(t, os.Chmod(base, 0o755))
	t.Cleanup(func() { _ = os.RemoveAll(base) })
	return base
}

const replicationRole = `create role witness_replication login replication password 'secret';
	grant pg_checkpoint to witness_replication;
	grant execute on function pg_ls_dir(text, boolean, boolean), pg_stat_file(text, boolean),
		pg_read_binary_file(text), pg_read_binary_file(text, bigint, bigint, boolean) to witness_replication`

// settled gives the server what an old one has.
func (d *debian) settled(t *testing.T, base string) {
	t.Helper()
	space := filepath.Join(base, "space")
	check(t, postgrestest.OwnDir(space, "postgres"))
	c := d.client()
	c.must("create tablespace fast location '" + space + "'")
	for sql := range strings.SplitSeq(replicationRole, ";") {
		c.must(sql)
	}
	c.must("create extension hstore")
	c.must("create role app login")
	c.must("create table t (n int) tablespace fast")
	c.must("select pg_create_physical_replication_slot('archive', true)")
	if c.one("show wal_level") == "logical" {
		c.must("select pg_create_logical_replication_slot('warehouse', 'pgoutput')")
	}
}

// A load writes row after row on one connection, and counts what was acknowledged.
type load struct {
	rows atomic.Int64
	gap  atomic.Int64 // longest wait for one row
	stop context.CancelFunc
	end  chan error
}

func (h *host) load() *load {
	h.t.Helper()
	ctx, cancel := context.WithCancel(h.t.Context())
	l := &load{stop: cancel, end: make(chan error, 1)}
	c := h.client()
	go func() {
		for {
			began := time.Now()
			_, err := c.Exec(ctx, "insert into t values (1)").ReadAll()
			if err != nil {
				l.end <- err
				return
			}
			l.rows.Add(1)
			l.gap.Store(max(l.gap.Load(), int64(time.Since(began))))
		}
	}()
	h.t.Cleanup(cancel)
	return l
}

// more sees that the load goes on, on its one connection.
func (l *load) more(t *testing.T) {
	t.Helper()
	from := l.rows.Load()
	eventually(t, "rows of the load", func() error {
		select {
		case err := <-l.end:
			t.Fatalf("the session was cut: %v", err)
		default:
		}
		if l.rows.Load() < from+20 {
			return errors.New("no rows")
		}
		return nil
	})
}

// TestAdoptDebian: an old server of Debian's, under load, becomes the pair's without a restart and without a change of
// its administrator's files. Its commits are held and released, also by a new start of the agent; what then
// ends it and starts it again gets a copy; and that is promoted as any other.
func TestAdoptDebian(t *testing.T) {
	for _, way := range []struct{ name, settings, initArg string }{
		{"checksums", "wal_level = logical\nwork_mem = '7MB'\n", "--data-checksums"},
		{"no checksums", "", "--no-instructions"},
	} {
		t.Run(way.name, func(t *testing.T) {
			base := newBase(t)
			a := newDebian(t, base, "a", way.settings, way.initArg)
			b := newHost(t, base, "b")
			a.settled(t, base)
			before := files(t, a.etc)
			first := a.see()
			l := a.load()
			l.more(t)

			held := time.Now()
			a.serve(b)
			if got := a.see(); got.Run != first.Run || got.Commits != engine.CommitsHeld || got.Role != engine.RolePrimary {
				t.Fatalf("adopted: %+v, first %+v", got, first)
			}
			a.mustWait("insert into t values (2)")
			check(t, a.ReleaseCommits(within(t, ample)))
			l.more(t)
			t.Logf("longest wait of a commit %v, in %v of holding for a mirror that is not there",
				time.Duration(l.gap.Load()), time.Since(held))
			a.oneMoreFile(before)

			check(t, a.Engine.Close())
			a.open()
			if got := a.see(); got.Run != first.Run || got.Commits != engine.CommitsAlone {
				t.Errorf("found again: %+v", got)
			}
			check(t, a.HoldCommits(within(t, ample), b.peer()))
			a.mustWait("insert into t values (3)")
			check(t, a.ReleaseCommits(within(t, ample)))
			l.more(t)

			a.fence()
			if len(a.processes()) != 0 || exists(a.path(adoptedFile)) {
				t.Error("a fenced server is still there, or its settings")
			}
			a.lastReaped()
			a.ctl(t, "start")
			if got := a.see(); got.Role != engine.RoleMirror {
				t.Errorf("started by pg_ctlcluster: %+v", got)
			}
			if got := a.client().one("show synchronous_standby_names"); got != heldForNobody {
				t.Errorf("commits are held for %q", got)
			}
			a.serve(b)
			if got := a.see(); got.Commits != engine.CommitsHeld || got.SystemID != first.SystemID {
				t.Errorf("promoted: %+v", got)
			}
			if r, err := a.server(); err != nil || !r.managed {
				t.Errorf("not the agent's own: %+v, %v", r, err)
			}
			rows := number(t, a.client().one("select count(*) from t where n = 1"))
			if acknowledged := int(l.rows.Load()); rows < acknowledged {
				t.Errorf("%d rows, %d were acknowledged", rows, acknowledged)
			}
			a.oneMoreFile(before)
		})
	}
}

// lastReaped waits until the parent of the last postmaster, the machine's first process, has taken notice of its end:
// until then a start by hand takes it for a running server.
func (h *host) lastReaped() {
	h.t.Helper()
	file, err := readPidFile(h.cfg.DataDir)
	if err != nil {
		return
	}
	eventually(h.t, "the end of the last postmaster", func() error {
		if err := unix.Kill(file.pid, 0); !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("process %d is not reaped: %w", file.pid, err)
		}
		return nil
	})
}

// oneMoreFile sees that the administrator's files are as they were, and one of the agent's own is there.
func (d *debian) oneMoreFile(before map[string]string) {
	d.t.Helper()
	after := files(d.t, d.etc)
	own := after["conf.d/"+includeName]
	if strings.TrimRight(own, "\n") != includeLine(d.path(restFile)) {
		d.t.Errorf("the agent's file has %q", own)
	}
	delete(after, "conf.d/"+includeName)
	sameFiles(d.t, before, after)
}

func sameFiles(t *testing.T, before, after map[string]string) {
	t.Helper()
	names := slices.Concat(slices.Collect(maps.Keys(before)), slices.Collect(maps.Keys(after)))
	for _, name := range slices.Compact(slices.Sorted(slices.Values(names))) {
		if before[name] != after[name] {
			t.Errorf("%s had %.200q, and has %.200q", name, before[name], after[name])
		}
	}
}

// TestAdoptedRestart: an adopted primary whose commits are released is restarted by its administrator, or dies,
// while no agent runs: the settings of the ended run have no effect on the next.
func TestAdoptedRestart(t *testing.T) {
	a, b := newHosts(t)
	first := a.startedByHand()
	a.serve(b)
	check(t, a.ReleaseCommits(within(t, ample)))
	a.client().must("create table t (n int)")
	if got := a.see(); got.Run != first.Run {
		t.Fatalf("it was restarted: %+v", got)
	}
	check(t, a.Engine.Close())
	a.byHand("-w", "-m", "fast", "-o", a.handOptions(), "restart")
	if !exists(a.path(adoptedFile)) {
		t.Fatal("the adopted file is gone before its time: this test shows nothing")
	}
	a.byHand("-w", "promote")
	a.byHand("reload")
	if got := a.client().one("show synchronous_standby_names"); got != heldForNobody {
		t.Errorf("commits are held for %q", got)
	}
	a.mustWait("insert into t values (1)")

	a.open()
	a.until("an ended run's file removed", func(engine.State) bool { return !exists(a.path(adoptedFile)) })
	a.serve(b)
	if got := a.see(); got.Commits != engine.CommitsHeld {
		t.Errorf("adopted again: %+v", got)
	}
	a.crash()
	eventually(t, "the file of the dead run removed", func() error {
		if exists(a.path(adoptedFile)) {
			return errors.New("it is there")
		}
		return nil
	})
}

// startedByHand runs the host's server as an administrator would who knows nothing of an agent.
func (h *host) startedByHand(settings ...string) engine.State {
	h.t.Helper()
	_, port, _ := strings.Cut(h.cfg.Listen, ":")
	text := "port = " + port + "\nlisten_addresses = '127.0.0.1'\nunix_socket_directories = '" + h.cfg.SocketDir + "'\n"
	check(h.t, appendText(h.path("postgresql.conf"), text+strings.Join(settings, "\n")+"\n"))
	h.byHand("-w", "start")
	return h.until("a primary, started by hand", func(s engine.State) bool { return s.Role == engine.RolePrimary })
}

// TestUnfit: a primary that cannot be adopted as it runs is restarted, and one that would not become fit by
// that, or not come up again, is left as it is.
func TestUnfit(t *testing.T) {
	for name, way := range map[string]struct {
		settings string // in force before the first start
		later    string // added while it runs
		sql      string
		change   func(*Config)
		says     string // of the error; "" if it is restarted
	}{
		"wal_level minimal":      {settings: "wal_level = minimal\nmax_wal_senders = 0", says: "wal_level is minimal"},
		"changed, not restarted": {settings: "max_wal_senders = 1", later: "max_wal_senders = 5"},
		"no senders":             {settings: "max_wal_senders = 1", says: "max_wal_senders is 1"},
		"no slots":               {settings: "max_replication_slots = 0", says: "max_replication_slots is 0"},
		"another port":           {change: func(c *Config) { c.Listen, _ = postgrestest.FreeAddress() }},
		"another address":        {settings: "listen_addresses = '127.0.0.2'"},
		"broken":                 {later: "work_mem = 'many", says: "would not start again"},
		"alter system":           {sql: "alter system set synchronous_standby_names = 'x'", says: "ALTER SYSTEM RESET"},
		"other config":           {change: func(c *Config) { c.ConfigFile = "/etc/hostname" }, says: "set config_file"},
	} {
		t.Run(name, func(t *testing.T) {
			a, b := newHosts(t)
			if way.settings == "listen_addresses = '127.0.0.2'" {
				way.settings += "\nunix_socket_directories = '" + a.cfg.SocketDir + "'"
			}
			first := a.startedByHand(way.settings)
			before := files(t, a.cfg.DataDir)["postgresql.conf"]
			if way.sql != "" {
				_, err := a.acting.query(within(t, ample), a.current, way.sql)
				check(t, err)
			}
			check(t, appendText(a.path("postgresql.conf"), way.later+"\n"))
			if way.change != nil {
				way.change(&a.cfg)
				check(t, a.Engine.Close())
				a.open()
			}
			err := a.Promote(within(t, ample), b.peer())
			switch got := a.see(); {
			case way.says == "" && (err != nil || got.Run == first.Run || got.Commits != engine.CommitsHeld):
				t.Errorf("not restarted: %+v, %v", got, err)
			case way.says != "" && (err == nil || !strings.Contains(err.Error(), way.says)):
				t.Errorf("%v", err)
			case way.says != "" && (got.Run != first.Run || got.Role != engine.RolePrimary):
				t.Errorf("not left as it was: %+v", got)
			case way.says != "" && (exists(a.path(standbySignal)) ||
				files(t, a.cfg.DataDir)["postgresql.conf"] != before+way.later+"\n"):
				t.Error("something was changed all the same")
			}
		})
	}
}

// TestAdoptOverridden: a setting after the agent's include line would win; the primary goes on as it was, and its
// commits neither hang nor are believed to be held.
func TestAdoptOverridden(t *testing.T) {
	a, b := newHosts(t)
	a.startedByHand()
	check(t, a.assureGate())
	check(t, os.Remove(a.path(standbySignal)))
	check(t, appendText(a.path("postgresql.conf"), "synchronous_standby_names = ''\n"))
	if err := a.Promote(within(t, ample), b.peer()); err == nil {
		t.Error("promoted although the agent's settings have no effect")
	}
	if exists(a.path(adoptedFile)) {
		t.Error("the adopted file was left behind")
	}
}

// TestLetGoAdopted: an adopted primary is given back as it was, without a restart.
func TestLetGoAdopted(t *testing.T) {
	base := newBase(t)
	a := newDebian(t, base, "a", "")
	b := newHost(t, base, "b")
	before := files(t, a.etc)
	first := a.see()
	c := a.client()
	a.serve(b)
	a.letGo()
	c.must("create table t (n int)")
	eventually(t, "the reload", func() error {
		if got := c.one("show restart_after_crash"); got != "on" {
			return errors.New("restart_after_crash is " + got)
		}
		return nil
	})
	sameFiles(t, before, files(t, a.etc))
	if exists(a.path(agentDir)) || exists(a.path(standbySignal)) {
		t.Error("something of the agent's is left in the data directory")
	}
	a.ctl(t, "restart")
	if got := a.see(); got.Role != engine.RolePrimary || got.Run == first.Run || got.Commits != engine.CommitsAlone {
		t.Errorf("%+v", got)
	}
	a.client().must("insert into t values (1)")
}

// TestDebianMirror: a mirror in Debian's layout is cloned into an empty data directory, takes over, and the
// former primary, adopted as it ran, comes back as its mirror.
func TestDebianMirror(t *testing.T) {
	base := newBase(t)
	a, b := newDebian(t, base, "a", "wal_log_hints = on\n"), newDebian(t, base, "b", "")
	for sql := range strings.SplitSeq(replicationRole, ";") {
		a.client().must(sql)
	}
	b.ctl(t, "stop")
	check(t, os.RemoveAll(b.cfg.DataDir))
	a.serve(b.host)
	check(t, a.ReleaseCommits(within(t, ample)))
	a.client().must("create table t (n int)")
	b.follows(a.host)
	check(t, a.HoldCommits(within(t, ample), b.peer()))
	a.client().must("insert into t values (1)")
	if n := b.client().one("select count(*) from t"); n != "1" {
		eventually(t, "the row", func() error {
			if n := b.client().one("select count(*) from t"); n != "1" {
				return errors.New(n)
			}
			return nil
		})
	}
	a.crash()
	b.serve(a.host)
	check(t, b.ReleaseCommits(within(t, ample)))
	a.follows(b.host)
	b.client().must("insert into t values (2)")
	a.until("follows", func(s engine.State) bool { return s.Following })
}

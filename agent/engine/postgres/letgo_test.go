//go:build linux

package postgres

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/witnessd/witnessd/agent/engine"
)

func (h *host) letGo() {
	h.t.Helper()
	check(h.t, h.LetGo(within(h.t, ample)))
}

// gateFiles are which parts of the restart gate lie in the data directory.
func (h *host) gateFiles() string {
	h.t.Helper()
	var found []string
	for _, name := range []string{standbySignal, restFile, runFile} {
		if exists(h.path(name)) {
			found = append(found, name)
		}
	}
	text, err := os.ReadFile(h.adminFile())
	check(h.t, err)
	if strings.Contains(string(text), "include '") {
		found = append(found, "include")
	}
	return strings.Join(found, " ")
}

const wholeGate = standbySignal + " " + restFile + " " + runFile + " include"

// TestLetGo: a primary whose mirror is still attached goes on without it, through a reload and a stop and start
// by hand, at the same address; and can be made part of a pair again.
func TestLetGo(t *testing.T) {
	a, b := newPair(t)
	before := a.see()
	a.letGo()
	b.crash()
	c := a.client()
	c.must("insert into t values (1)")
	if got := a.see(); got.Commits != engine.CommitsAlone || got.Run != before.Run {
		t.Errorf("let go: %+v", got)
	}
	if n := c.one("select count(*) from pg_replication_slots"); n != "0" {
		t.Errorf("%s slots left", n)
	}
	if got := a.gateFiles(); got != runFile {
		t.Errorf("files left: %s", got)
	}

	// The administrator's changes are taken by a reload, and commits go on alone.
	text, err := os.ReadFile(a.adminFile())
	check(t, err)
	check(t, os.WriteFile(a.adminFile(), append(text, "work_mem = '5MB'\n"...), 0o600))
	c.must("select pg_reload_conf()")
	eventually(t, "a reload", func() error {
		if got := c.one("show work_mem"); got != "5MB" {
			return errors.New(got)
		}
		return nil
	})
	c.must("insert into t values (2)")
	a.letGo()
	c.must("insert into t values (3)")

	a.byHand("-w", "-m", "fast", "stop")
	a.byHand("-w", "start")
	a.until("a primary, started by hand", func(s engine.State) bool {
		return s.Role == engine.RolePrimary && s.Commits == engine.CommitsAlone && s.Run != before.Run
	})
	c = a.client()
	c.must("insert into t values (4)")
	if got := c.one("select count(*) || current_setting('config_file') from t"); got != "4"+a.adminFile() {
		t.Errorf("rows and configuration: %s", got)
	}
	a.letGo()
	if got := a.gateFiles(); got != "" {
		t.Errorf("files left: %s", got)
	}

	a.serve(b)
	if got := a.see(); got.Commits != engine.CommitsHeld {
		t.Errorf("in a pair again: %+v", got)
	}
	// It was adopted as it ran, and so reads no file of the agent's start.
	if got := a.gateFiles(); got != standbySignal+" "+restFile+" include" {
		t.Errorf("in a pair again, gated by %s", got)
	}
	b.follows(a)
	a.client().must("insert into t values (5)")
}

// TestLetGoRestart: "pg_ctl restart" gives the administrator's server. Then everything by which an agent takes
// the instance back puts the gate in place, also while the run that was let go of goes on.
func TestLetGoRestart(t *testing.T) {
	a, b := alone(t)
	for _, again := range []struct {
		how  string
		take func() error
		role engine.Role
	}{
		{"promote", func() error { return a.Promote(within(t, ample), b.peer()) }, engine.RolePrimary},
		{"release", func() error { return a.ReleaseCommits(within(t, ample)) }, engine.RolePrimary},
		{"hold", func() error { return a.HoldCommits(within(t, ample), b.peer()) }, engine.RolePrimary},
		{"stand by", func() error { return a.Standby(within(t, ample)) }, engine.RoleMirror},
	} {
		a.letGo()
		check(t, again.take())
		if got := a.gateFiles(); got != wholeGate || a.see().Role != again.role {
			t.Errorf("after %s: %v, gated by %s", again.how, a.see().Role, got)
		}
	}
	a.serve(b)
	a.letGo()
	a.byHand("-w", "-m", "fast", "restart")
	a.until("a primary, restarted by hand", func(s engine.State) bool {
		return s.Role == engine.RolePrimary && s.Commits == engine.CommitsAlone
	})
	a.client().must("insert into t values (1)")
}

// TestLetGoFollows: what was let go of becomes the mirror in a new pair, and is gated.
func TestLetGoFollows(t *testing.T) {
	a, b := newPair(t)
	a.letGo()
	check(t, a.Stop(within(t, ample)))
	a.letGo()
	b.serve(a)
	a.follows(b)
	if got := a.gateFiles(); got != wholeGate || !a.see().Following {
		t.Errorf("%+v, gated by %s", a.see(), got)
	}
}

// TestLetGoStopped: a primary that does not run is let go of too.
func TestLetGoStopped(t *testing.T) {
	a, _ := alone(t)
	a.client().must("insert into t values (1)")
	a.crash()
	a.letGo()
	a.letGo()
	if got := a.gateFiles(); got != "" {
		t.Errorf("files left: %s", got)
	}
	a.byHand("-w", "start")
	c := a.client()
	c.must("insert into t values (2)")
	if n := c.one("select count(*) from t"); n != "2" {
		t.Errorf("%s rows", n)
	}
}

// TestLetGoByHand: a primary that somebody promoted by hand, and that holds all commits, is let go of.
func TestLetGoByHand(t *testing.T) {
	a, _ := alone(t)
	a.crash()
	a.byHand("-w", "-o", a.handOptions(), "start")
	a.byHand("-w", "promote")
	a.mustWait("insert into t values (1)")
	a.letGo()
	a.client().must("insert into t values (2)")
	if got := a.gateFiles(); got != "" {
		t.Errorf("files left: %s", got)
	}
}

// TestLetGoCopy: a copy stays one, running or not, and an unfinished one stays unfinished.
func TestLetGoCopy(t *testing.T) {
	a, b := newPair(t)
	b.letGo()
	a.client().must("insert into t values (1)")
	if got := b.see(); got.Role != engine.RoleMirror || !got.Following {
		t.Errorf("a copy that was let go of: %+v", got)
	}
	b.crash()
	b.letGo()
	if got := b.gateFiles(); got != wholeGate {
		t.Errorf("a copy is gated by %s", got)
	}
	b.byHand("-w", "-o", b.handOptions(), "start")
	b.until("a copy, started by hand", func(s engine.State) bool { return s.Role == engine.RoleMirror })
	b.byHand("-w", "-m", "fast", "stop")

	// What pg_basebackup brought, and nobody has started yet, says that it was a primary.
	a.crash()
	for _, name := range []string{incompleteFile, "backup_label"} {
		check(t, os.WriteFile(a.path(name), nil, 0o600))
		a.letGo()
		if got := a.gateFiles(); got != wholeGate {
			t.Errorf("with %s gated by %s", name, got)
		}
		check(t, os.Remove(a.path(name)))
	}
	empty := newHost(t, t.TempDir(), "c")
	empty.letGo()
}

// TestLetGoCutShort: wherever LetGo is cut short, a server that is started next starts, and is a copy as long as
// not everything is done. Once more does the rest.
func TestLetGoCutShort(t *testing.T) {
	a, _ := newHosts(t)
	steps := 1
	for done := 0; done <= steps; done++ {
		check(t, a.assureGate())
		files, err := openStore(a.Engine.cfg.DataDir, a.user)
		check(t, err)
		all := a.ungate(files, nil, "")
		steps = len(all)
		for _, step := range all[:done] {
			check(t, step())
		}
		files.close()
		if got := exists(a.path(standbySignal)); got != (done < steps) {
			t.Errorf("after %d of %d steps it is a copy: %v", done, steps, got)
		}
		if _, err := a.plainValue(t.Context(), "port"); err != nil {
			t.Errorf("after %d of %d steps: %v", done, steps, err)
		}
		a.letGo()
		if got := a.gateFiles(); got != "" {
			t.Errorf("after %d of %d steps, and once more: %s", done, steps, got)
		}
	}
}

// TestLetGoFenced: whenever a fence falls, the gate is whole after it.
func TestLetGoFenced(t *testing.T) {
	a, b := newHosts(t)
	for _, after := range []int{0, 10, 30, 60, 100} {
		a.serve(b)
		result := make(chan error, 1)
		go func() { result <- a.LetGo(t.Context()) }()
		time.Sleep(time.Duration(after) * time.Millisecond) // The fence must be right at any moment.
		a.fence()
		if err := <-result; err != nil && !errors.Is(err, engine.ErrFenced) {
			t.Errorf("after %d ms: %v", after, err)
		}
		if got := a.gateFiles(); got != wholeGate {
			t.Errorf("after %d ms: fenced and gated by %s", after, got)
		}
	}

	// A fence that falls between two of the steps puts the gate back after the last that is done.
	files, err := openStore(a.Engine.cfg.DataDir, a.user)
	check(t, err)
	defer files.close()
	result := make(chan error, 1)
	a.gating.Lock()
	go func() { result <- a.Fence(t.Context()) }()
	time.Sleep(20 * time.Millisecond) // Ample for a fence of nothing, if it did not wait.
	for _, step := range a.ungate(files, nil, "") {
		check(t, step())
	}
	a.gating.Unlock()
	check(t, <-result)
	if got := a.gateFiles(); got != standbySignal+" "+restFile+" include" {
		t.Errorf("fenced between two steps and gated by %s", got)
	}
}

// TestLetGoConfigElsewhere: the administrator's file keeps its text, owner and rights. What it says of where the
// server listens stands; what it does not say is put before it.
func TestLetGoConfigElsewhere(t *testing.T) {
	a, b := newHosts(t)
	elsewhere := a.cfg.SocketDir + "/postgresql.conf"
	text, err := os.ReadFile(a.path("postgresql.conf"))
	check(t, err)
	_, port, _ := net.SplitHostPort(a.cfg.Listen)
	said := "listen_addresses = 'localhost'\nport = " + port // Without a line's end.
	text = append(text, said...)
	check(t, os.Remove(a.path("postgresql.conf")))
	check(t, os.WriteFile(elsewhere, text, 0o600))
	check(t, os.Chown(elsewhere, os.Geteuid(), a.user.gid))
	check(t, os.Chmod(elsewhere, 0o644))
	a.cfg.ConfigFile = elsewhere
	check(t, a.Engine.Close())
	a.open()
	former := unix.Umask(0o077) // A careful agent's must not close the file to the server.
	defer unix.Umask(former)
	for range 2 {
		a.serve(b)
		a.letGo()
		got, err := os.ReadFile(elsewhere)
		check(t, err)
		first, rest, _ := strings.Cut(string(got), "unix_socket_directories = '"+a.cfg.SocketDir+"'"+listenNote+"\n")
		if strings.Count(first, listenNote) != 2 || rest != string(text)+"\n" {
			t.Errorf("the configuration begins with %q and ends with %q", first, rest[max(0, len(rest)-200):])
		}
		info, err := os.Stat(elsewhere)
		check(t, err)
		stat := info.Sys().(*syscall.Stat_t)
		if info.Mode().Perm() != 0o644 || int(stat.Uid) != os.Geteuid() || int(stat.Gid) != a.user.gid {
			t.Errorf("the configuration is %v of %d:%d", info.Mode(), stat.Uid, stat.Gid)
		}
	}
	a.postmaster(unix.SIGINT)
	a.until("stopped", func(s engine.State) bool { return !s.Running })
	a.byHand("-w", "-o", "-c config_file="+elsewhere, "start")
	if got := a.client().one("show listen_addresses"); got != "localhost" {
		t.Errorf("it listens at %s", got)
	}
}

func TestWithoutLines(t *testing.T) {
	const line = "include 'x' # ours"
	for _, test := range []struct{ text, want string }{
		{"", ""}, {"a = 1\n", "a = 1\n"}, {"a = 1", "a = 1\n"}, {"a = 1\n\n", "a = 1\n\n"},
	} {
		got, found := withoutLines(fmt.Append(nil, test.text, "\n", line, "\n"), line)
		if !found || string(got) != test.want {
			t.Errorf("%q with the line becomes %q, %v without it", test.text, got, found)
		}
		got, found = withoutLines([]byte(test.text), line)
		if found || string(got) != test.text {
			t.Errorf("%q becomes %q, %v", test.text, got, found)
		}
	}
	got, _ := withoutLines([]byte("a\n\n"+line+"\r\nb\n"+line+" too\n"), line)
	if want := "a\nb\n" + line + " too\n"; string(got) != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

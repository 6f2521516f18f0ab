package kv

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// However it ended, a server starts as a mirror whose commits are held.
func TestStartsAsMirror(t *testing.T) {
	dir := newDir(t)
	s := start(t, dir)
	promote(t, s)
	if err := s.Alone(); err != nil {
		t.Fatal(err)
	}
	dial(t, s).expect("SET a 1", "OK")
	s.Kill()

	s = start(t, dir)
	k := dial(t, s)
	k.expect("ROLE", "ROLE mirror")
	if got := k.ask("SET a 2"); !strings.HasPrefix(got, "ERR readonly ") {
		t.Errorf("SET on a mirror: %q", got)
	}
	k.expect("GET a", "VALUE 1")
	if got := k.ask("PROMOTE mirror=pair"); !strings.HasPrefix(got, "ERR denied ") {
		t.Errorf("PROMOTE on a client's connection: %q", got)
	}
	promote(t, s)
	if st := s.Status(); st.Commits != CommitsHeld || st.Position.Timeline != 3 {
		t.Errorf("after promotion: %+v", st)
	}
}

func TestCommands(t *testing.T) {
	s := start(t, newDir(t))
	promote(t, s)
	if err := s.Alone(); err != nil {
		t.Fatal(err)
	}
	k := dial(t, s)
	for _, c := range [][2]string{
		{"ping", "PONG"}, {"SET colour light blue", "OK"}, {"GET colour", "VALUE light blue"},
		{"SET empty ", "OK"}, {"GET empty", "VALUE "}, {"GET nothing", "NONE"},
		{"INCR n", "VALUE 1"}, {"INCR n", "VALUE 2"}, {"COUNT", "VALUE 3"}, {"COUNT e", "VALUE 1"},
		{"DEL empty", "OK"}, {"GET empty", "NONE"}, {"SCAN c 10", "KEY colour light blue"},
	} {
		k.expect(c[0], c[1])
	}
	if got := k.hear(); got != "END 1" {
		t.Errorf("end of SCAN: %q", got)
	}
	for line, code := range map[string]string{
		"INCR colour": "value", "SET": "syntax", "SET a": "syntax", "GET a b": "syntax",
		"NONSENSE": "syntax", "SCAN a x": "syntax", "SET " + strings.Repeat("k", 600) + " v": "syntax",
	} {
		if got := k.ask(line); !strings.HasPrefix(got, "ERR "+code+" ") {
			t.Errorf("%.20s: %q, want code %s", line, got, code)
		}
	}
	k.send("SET long " + strings.Repeat("v", maxLine))
	if got := k.hear(); !strings.HasPrefix(got, "ERR syntax ") {
		t.Errorf("long line: %q", got)
	}
}

// A held commit is neither acknowledged nor visible until the mirror has it, or until commits are
// released; the release answers those that wait.
func TestHoldAndRelease(t *testing.T) {
	s := start(t, newDir(t))
	promote(t, s)
	writer, reader := dial(t, s), dial(t, s)
	writer.send("SET a 1")
	eventually(t, s, func() bool { return s.commits.flushed == s.commits.end && len(s.commits.waiting) == 1 })
	reader.expect("GET a", "NONE")
	if err := s.Alone(); err != nil {
		t.Fatal(err)
	}
	if got := writer.hear(); got != "OK" {
		t.Fatalf("released commit: %q", got)
	}
	reader.expect("GET a", "VALUE 1")
	if st := s.Status(); st.Commits != CommitsAlone {
		t.Errorf("commits %s", st.Commits)
	}

	if err := s.Hold(testContext(t), "pair"); err != nil {
		t.Fatal(err)
	}
	if st := s.Status(); st.Commits != CommitsHeld || st.Mirror != "pair" {
		t.Errorf("after hold: %+v", st)
	}
	writer.send("INCR a")
	mirror := start(t, t.TempDir())
	follow(t, mirror, s)
	if got := writer.hear(); got != "VALUE 2" {
		t.Fatalf("commit held for a mirror that came: %q", got)
	}
	dial(t, mirror).expect("GET a", "VALUE 2")
}

// Only the mirror that commits are held for makes them acknowledged.
func TestOtherMirrorDoesNotCount(t *testing.T) {
	s := start(t, newDir(t))
	promote(t, s)
	stranger := start(t, t.TempDir())
	err := stranger.Follow(testContext(t), Upstream{Address: s.address(), Name: "another"})
	if err != nil {
		t.Fatal(err)
	}
	k := dial(t, s)
	k.send("SET a 1")
	eventually(t, s, func() bool {
		f := s.mirrors["another"]
		return f != nil && len(s.commits.waiting) == 1 && f.ack == s.commits.end
	})
	if st := s.Status(); st.Waiting != 1 || st.Attached {
		t.Errorf("acknowledged by another mirror: %+v", st)
	}
}

// Commits that come together share syncs, and none of them is lost to another.
func TestConcurrentIncrements(t *testing.T) {
	primary, mirror := start(t, newDir(t)), start(t, t.TempDir())
	promote(t, primary)
	follow(t, mirror, primary)
	const clients, each = 16, 20
	var all sync.WaitGroup
	for range clients {
		k := dial(t, primary)
		all.Go(func() {
			for range each {
				if got := k.ask("INCR n"); !strings.HasPrefix(got, "VALUE ") {
					t.Errorf("INCR: %q", got)
				}
			}
		})
	}
	all.Wait()
	want := fmt.Sprintf("VALUE %d", clients*each)
	dial(t, primary).expect("GET n", want)
	dial(t, mirror).expect("GET n", want)
}

// After a hand-over the mirror has every commit, and says so itself; without it nothing is claimed.
func TestHandOver(t *testing.T) {
	primary, mirror := start(t, newDir(t)), start(t, t.TempDir())
	promote(t, primary)
	follow(t, mirror, primary)
	dial(t, primary).expect("SET a 1", "OK")
	h, err := primary.HandOver(testContext(t), "pair")
	if err != nil || !h.MirrorHasEverything || h.MirrorFlushed != h.Final.Offset {
		t.Fatalf("hand over: %+v %v", h, err)
	}
	if err := primary.Wait(); err != nil {
		t.Fatal(err)
	}
	promote(t, mirror)
	// The mirror opened its timeline exactly where the old primary ended.
	if last := mirror.image.history.last(); last.Start != h.Final.Offset {
		t.Errorf("new timeline begins at %d, want %d", last.Start, h.Final.Offset)
	}
	waiter := dial(t, mirror)
	waiter.send("SET b 1") // Held: its old primary is gone.
	eventually(t, mirror, func() bool { return len(mirror.commits.waiting) == 1 })
	ctx, cancel := contextFor(t, 50*time.Millisecond)
	defer cancel()
	h, err = mirror.HandOver(ctx, "pair")
	if err != nil || h.MirrorHasEverything || h.Attached {
		t.Fatalf("hand over without a mirror: %+v %v", h, err)
	}
	if got := waiter.hear(); !strings.HasPrefix(got, "ERR unknown ") {
		t.Errorf("commit at the end: %q", got)
	}
}

// The administrator's commands work over the socket, which nobody else may use.
func TestAdminSocket(t *testing.T) {
	dir := newDir(t)
	socket := filepath.Join(dir, AdminFile)
	s := startOn(t, Options{Dir: dir, Listener: listen(t), AdminSocket: socket})
	if stat, err := os.Stat(socket); err != nil || stat.Mode().Perm() != 0o600 {
		t.Fatalf("admin socket: %v %v", stat, err)
	}
	admin, ctx := Admin{Socket: socket}, testContext(t)
	if err := admin.Hold(ctx, "pair"); code(err) != CodeNotPrimary {
		t.Errorf("hold on a mirror: %v", err)
	}
	if err := admin.Promote(ctx, "a pair"); err != nil {
		t.Fatal(err)
	}
	if err := admin.Follow(ctx, Upstream{Address: "x:1", Name: "pair"}); code(err) != CodePrimary {
		t.Errorf("follow as a primary: %v", err)
	}
	if err := admin.Alone(ctx); err != nil {
		t.Fatal(err)
	}
	if err := admin.Hold(ctx, "a pair"); err != nil {
		t.Fatal(err)
	}
	st, err := admin.Status(ctx)
	if err != nil || st.Mirror != "a pair" || st.Commits != CommitsHeld || st.PID != os.Getpid() {
		t.Errorf("status: %+v %v", st, err)
	}
	if _, err := admin.HandOver(ctx, "a pair", time.Millisecond); err != nil {
		t.Fatal(err)
	}
	if err := s.Wait(); err != nil {
		t.Fatal(err)
	}
}

// A mirror behind a cut that swallows everything is given up after a second without a word, and comes
// back by itself. Virtual time: nothing here waits.
func TestBlackHole(t *testing.T) {
	dirs := [2]string{newDir(t), t.TempDir()}
	synctest.Test(t, func(t *testing.T) {
		network := newVirtualNetwork(t)
		primary := startOn(t, Options{Dir: dirs[0], Listener: network.listen("primary")})
		mirror := startOn(t, Options{Dir: dirs[1], Listener: network.listen("mirror"),
			Dial: network.dial})
		promote(t, primary)
		follow(t, mirror, primary)

		cut := time.Now()
		network.cut(true)
		eventually(t, primary, func() bool { return primary.mirrors["pair"] == nil })
		if d := time.Since(cut); d < 500*time.Millisecond || d > 1100*time.Millisecond {
			t.Errorf("primary noticed after %v", d)
		}
		eventually(t, mirror, func() bool { return !mirror.recv.status.Following() })
		if d := time.Since(cut); d > 1100*time.Millisecond {
			t.Errorf("mirror noticed after %v", d)
		}
		network.cut(false)
		caughtUp(t, mirror, primary)
	})
}

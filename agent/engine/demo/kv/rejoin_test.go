package kv

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// An old primary that comes back with commits nobody confirmed gives them up, keeps them in a file, and
// goes on as a mirror.
func TestDivergedCopyIsRewound(t *testing.T) {
	dirA, dirB := newDir(t), t.TempDir()
	a, b := start(t, dirA), start(t, dirB)
	promote(t, a)
	follow(t, b, a)
	dial(t, a).expect("SET both 1", "OK")
	b.Kill()
	lost := dial(t, a)
	lost.send("SET only-a 1") // Held, so never acknowledged.
	eventually(t, a, func() bool { return a.commits.flushed == a.commits.end && len(a.commits.waiting) == 1 })
	a.Kill()

	b = start(t, dirB)
	promote(t, b)
	if err := b.Alone(); err != nil {
		t.Fatal(err)
	}
	dial(t, b).expect("SET only-b 1", "OK")
	a = start(t, dirA)
	follow(t, a, b)

	if st := a.Status(); st.Discarded != 1 || st.Position != b.Status().Position {
		t.Errorf("after the rewind: %+v, want the position of %+v", st, b.Status())
	}
	k := dial(t, a)
	k.expect("GET only-a", "NONE")
	k.expect("GET both", "VALUE 1")
	k.expect("GET only-b", "VALUE 1")
	if got := kept(t, dirA, divergedPrefix); got != "SET only-a 1\n" {
		t.Errorf("kept: %q", got)
	}
	// And back: the timelines of both promotions are the history of both copies now.
	if err := b.Hold(testContext(t), "pair"); err != nil {
		t.Fatal(err)
	}
	dial(t, b).expect("SET back 1", "OK")
	b.Kill()
	promote(t, a)
	b = start(t, dirB)
	follow(t, b, a)
	if kept(t, dirB, divergedPrefix) != "" {
		t.Error("a copy that had nothing of its own kept something")
	}
}

// kept is the content of the one file with the prefix, "" if there is none.
func kept(t *testing.T, dir, prefix string) string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, prefix+"*"))
	if err != nil || len(names) > 1 {
		t.Fatalf("%v %v", names, err)
	}
	if len(names) == 0 {
		return ""
	}
	content, err := os.ReadFile(names[0])
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

// A copy that stopped half way is not promoted, also not after a restart, and goes on where it stopped.
func TestInterruptedCopy(t *testing.T) {
	primary := start(t, newDir(t))
	promote(t, primary)
	if err := primary.Alone(); err != nil {
		t.Fatal(err)
	}
	k := dial(t, primary)
	value := strings.Repeat("v", 100<<10)
	for _, key := range []string{"a", "b", "c", "d", "e", "f"} {
		k.expect("SET "+key+" "+value, "OK")
	}
	dir := t.TempDir()
	mirror := startOn(t, Options{Dir: dir, Listener: listen(t), Dial: dialFor(300 << 10)})
	up := Upstream{Address: primary.address(), Name: "pair"}
	if err := mirror.Follow(testContext(t), up); err != nil {
		t.Fatal(err)
	}
	eventually(t, mirror, func() bool {
		return mirror.commits.flushed > 0 && mirror.recv.status.Step == StepAttach
	})
	if err := mirror.Promote(testContext(t), "pair"); code(err) != CodeNoData {
		t.Fatalf("promote half a copy: %v", err)
	}
	mirror.Kill()

	if info, err := Inspect(dir); err != nil || info.Data != DataIncomplete {
		t.Fatalf("inspect: %+v %v", info, err)
	}
	mirror = start(t, dir)
	if err := mirror.Promote(testContext(t), "pair"); code(err) != CodeNoData {
		t.Fatalf("promote half a copy after a restart: %v", err)
	}
	follow(t, mirror, primary)
	if st := mirror.Status(); st.Data != DataPresent || st.Keys != 6 {
		t.Errorf("whole copy: %+v", st)
	}
	if err := mirror.Promote(testContext(t), "pair"); err != nil {
		t.Errorf("promote the whole copy: %v", err)
	}
}

// dialFor is a network that breaks for good when so many bytes have come in.
func dialFor(bytes int64) func(context.Context, string) (net.Conn, error) {
	left := &bytes
	return func(ctx context.Context, address string) (net.Conn, error) {
		if *left <= 0 {
			return nil, errors.New("the network is broken")
		}
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
		return &brittleConn{Conn: conn, left: left}, err
	}
}

type brittleConn struct {
	net.Conn
	left *int64
}

func (c *brittleConn) Read(b []byte) (int, error) {
	if *c.left <= 0 {
		return 0, io.ErrUnexpectedEOF
	}
	n, err := c.Conn.Read(b[:min(int64(len(b)), *c.left)])
	*c.left -= int64(n)
	return n, err
}

// A damaged copy is replaced only if that is allowed, and the old log is kept.
func TestDamagedCopyIsReplaced(t *testing.T) {
	dirA, dirB := newDir(t), t.TempDir()
	a, b := start(t, dirA), start(t, dirB)
	promote(t, a)
	follow(t, b, a)
	dial(t, a).expect("SET a 1", "OK")
	b.Kill()
	spoil(t, dirB, b.journal.end-1)
	damaged, err := os.ReadFile(filepath.Join(dirB, logFile))
	if err != nil {
		t.Fatal(err)
	}

	b = start(t, dirB)
	up := Upstream{Address: a.address(), Name: "pair"}
	if err := b.Follow(testContext(t), up); err != nil {
		t.Fatal(err)
	}
	eventually(t, b, func() bool { return b.recv.status.Step == StepNeedsCopy })
	follow(t, b, a)
	if got := kept(t, dirB, asidePrefix); got != string(damaged) {
		t.Errorf("kept aside %d bytes, want the %d of the damaged log", len(got), len(damaged))
	}
	dial(t, b).expect("GET a", "VALUE 1")
}

// A mirror of another database is told so and keeps its data.
func TestForeignUpstream(t *testing.T) {
	primary := start(t, newDir(t))
	promote(t, primary)
	for what, c := range map[string]struct{ dir, system string }{
		"other data":         {dir: newDir(t)},
		"empty, other known": {dir: t.TempDir(), system: "0123456789abcdef"},
	} {
		s := start(t, c.dir)
		before := s.Status()
		up := Upstream{Address: primary.address(), Name: "pair", System: c.system, AllowCopy: true}
		if err := s.Follow(testContext(t), up); err != nil {
			t.Fatal(err)
		}
		eventually(t, s, func() bool { return s.recv.status.Step == StepForeign })
		if after := s.Status(); after.Position != before.Position || after.Data != before.Data {
			t.Errorf("%s: %+v became %+v", what, before, after)
		}
	}
}

// A promotion that was given up leaves a mirror that can follow.
func TestAbandonedPromotion(t *testing.T) {
	ctx, cancel := context.WithCancel(testContext(t))
	cancel()
	var primary, mirror *Server
	for tries := 0; ; tries++ {
		primary, mirror = start(t, newDir(t)), start(t, t.TempDir())
		promote(t, primary)
		follow(t, mirror, primary)
		if mirror.Promote(ctx, "pair") != nil {
			break
		}
		// The disk was faster than the cancellation.
		if tries == 50 {
			t.Fatal("no promotion was given up")
		}
	}
	if st := mirror.Status(); st.Role != RoleMirror {
		t.Fatalf("%+v", st)
	}
	follow(t, mirror, primary)
	dial(t, primary).expect("SET a 1", "OK")
}

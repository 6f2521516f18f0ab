package kv

import (
	"bufio"
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"testing"
	"time"
)

// patience is far longer than anything here takes; a test that needs it has failed.
const patience = 10 * time.Second

// newDir is the directory of a new database.
func newDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if _, err := Init(dir); err != nil {
		t.Fatal(err)
	}
	return dir
}

// start runs a server on a directory until the test ends.
func start(t *testing.T, dir string) *Server {
	t.Helper()
	return startOn(t, Options{Dir: dir, Listener: listen(t), Retry: 5 * time.Millisecond})
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return listener
}

func startOn(t *testing.T, o Options) *Server {
	t.Helper()
	if testing.Verbose() {
		o.Logger = slog.New(slog.NewTextHandler(t.Output(), nil))
	}
	s, err := Start(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Kill)
	return s
}

func (s *Server) address() string { return s.opts.Listener.Addr().String() }

func testContext(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

func promote(t *testing.T, s *Server) {
	t.Helper()
	if err := s.Promote(testContext(t), "pair"); err != nil {
		t.Fatal(err)
	}
}

// follow makes a server follow another and returns when it streams and has everything.
func follow(t *testing.T, s, primary *Server) {
	t.Helper()
	up := Upstream{Address: primary.address(), Name: "pair", AllowCopy: true, KeepDiverged: true}
	if err := s.Follow(testContext(t), up); err != nil {
		t.Fatal(err)
	}
	caughtUp(t, s, primary)
}

func caughtUp(t *testing.T, s, primary *Server) {
	t.Helper()
	end := primary.Status().Position.Offset
	eventually(t, s, func() bool {
		return s.recv != nil && s.recv.status.Step == StepStreaming && s.commits.flushed >= end
	})
	eventually(t, primary, func() bool {
		return s.recv != nil && primary.mirrors["pair"] != nil && primary.mirrors["pair"].ack >= end
	})
}

// eventually waits for a condition under the server's mu.
func eventually(t *testing.T, s *Server, condition func() bool) {
	t.Helper()
	err := s.await(testContext(t), func() (bool, error) { return condition(), nil })
	if err != nil {
		t.Fatalf("%v; status %+v upstream %+v", err, s.Status(), s.Status().Upstream)
	}
}

// talker speaks the line protocol.
type talker struct {
	t    *testing.T
	conn net.Conn
	in   *bufio.Reader
}

func dial(t *testing.T, s *Server) *talker {
	t.Helper()
	conn, err := net.Dial("tcp", s.address())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return &talker{t: t, conn: conn, in: bufio.NewReader(conn)}
}

func (k *talker) send(line string) {
	k.t.Helper()
	if _, err := k.conn.Write([]byte(line + "\n")); err != nil {
		k.t.Fatal(err)
	}
}

func (k *talker) hear() string {
	k.t.Helper()
	_ = k.conn.SetReadDeadline(time.Now().Add(patience))
	line, err := readLine(k.in)
	if err != nil {
		k.t.Fatal(err)
	}
	return line
}

func (k *talker) ask(line string) string {
	k.t.Helper()
	k.send(line)
	return k.hear()
}

func (k *talker) expect(line, want string) {
	k.t.Helper()
	if got := k.ask(line); got != want {
		k.t.Fatalf("%s: got %q, want %q", line, got, want)
	}
}

// code is the code of a refusal, "" if the error is none.
func code(err error) Code {
	if no, ok := errors.AsType[*Refusal](err); ok {
		return no.Code
	}
	return ""
}

func appendTo(t *testing.T, name string, b []byte) {
	t.Helper()
	file, err := os.OpenFile(name, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if _, err := file.Write(b); err != nil {
		t.Fatal(err)
	}
}

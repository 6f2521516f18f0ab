package fleet

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func requireRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("network namespaces need root")
	}
}

// laboratoryOf makes a network with a few parties, which is removed with the test.
func laboratoryOf(t *testing.T, parties ...string) (*network, map[string]*namespace) {
	t.Helper()
	return wiredLaboratory(t, false, parties...)
}

// wiredLaboratory has cables that can be made bad if lines is true.
func wiredLaboratory(t *testing.T, lines bool, parties ...string) (*network, map[string]*namespace) {
	t.Helper()
	requireRoot(t)
	n, err := newNetwork()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.close)
	n.lines = lines
	spaces := map[string]*namespace{}
	for _, p := range parties {
		if spaces[p], err = n.join(p); err != nil {
			t.Fatal(err)
		}
	}
	return n, spaces
}

// echo listens in the party's namespace and sends back what it reads.
func echo(t *testing.T, s *namespace) string {
	t.Helper()
	var l net.Listener
	err := s.inside(func() error {
		var err error
		l, err = net.Listen("tcp4", "0.0.0.0:0")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, _ = io.Copy(c, c)
			}()
		}
	}()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}

// reach says how a connection from one party ends: "" if it was answered.
func reach(t *testing.T, from *namespace, address string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	c, err := from.dial(ctx, "tcp4", address)
	if err != nil {
		return err.Error()
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(300 * time.Millisecond))
	if _, err := c.Write([]byte("x")); err != nil {
		return err.Error()
	}
	if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
		return err.Error()
	}
	return ""
}

// A process that is started in a namespace has the pid that the fleet believes, and is found there.
func TestProcessesLiveInTheirNamespace(t *testing.T) {
	_, at := laboratoryOf(t, "a", "b")
	p, err := start(program{
		space: at["a"], log: filepath.Join(t.TempDir(), "log"), path: "sleep", args: []string{"60"},
		before: []string{"nice", "-n", "5"},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer p.kill()
	if got := at["a"].pids(); len(got) != 1 || got[0] != p.cmd.Process.Pid {
		t.Errorf("processes in a: %v, want [%d]", got, p.cmd.Process.Pid)
	}
	if got := at["b"].pids(); len(got) != 0 {
		t.Errorf("processes in b: %v", got)
	}
	at["a"].kill()
	p.wait()
}

// What a fleet leaves whose program was killed is removed by the next one; what a living one has is not.
func TestLeftoversOfTheDead(t *testing.T) {
	n, _ := laboratoryOf(t, "a")
	dead := exec.Command("true")
	if err := dead.Run(); err != nil {
		t.Fatal(err)
	}
	left := fmt.Sprintf("%s%d-host", namespacePrefix, dead.Process.Pid)
	if err := ip("netns add " + left); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ip("netns del " + left) }) // fails when all is well: it is gone
	orphan := exec.Command("ip", "netns", "exec", left, "sleep", "60")
	if err := orphan.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		_ = orphan.Wait() // it is killed
		close(ended)
	}()
	time.Sleep(100 * time.Millisecond) // until it is inside
	if err := removeLeftovers(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-ended:
	case <-time.After(5 * time.Second):
		_ = orphan.Process.Kill()
		t.Error("a process of a dead fleet lives on")
	}
	if _, err := os.Stat("/run/netns/" + left); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("namespace of a dead fleet is still there: %v", err)
	}
	for _, s := range n.wired {
		if _, err := os.Stat("/run/netns/" + s.name); err != nil {
			t.Errorf("namespace of a living fleet: %v", err)
		}
	}
}

// TestPretendAgent is no test: it is what TestSupervisor runs as an agent. It says that it is ready, feeds the watchdog a
// few times, and then hangs.
func TestPretendAgent(t *testing.T) {
	socket := os.Getenv("NOTIFY_SOCKET")
	if os.Getenv("PRETEND_AGENT") == "" {
		return
	}
	c, err := net.Dial("unixgram", socket)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"READY=1", "STATUS=x\nWATCHDOG=1", "WATCHDOG=1", "WATCHDOG=1"} {
		if _, err := c.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(50 * time.Millisecond)
	}
	time.Sleep(time.Minute)
}

// agentScript runs the above, and notes what is run after its end.
const agentScript = `#!/bin/sh
case $1 in
run) PRETEND_AGENT=1 exec %s -test.run '^TestPretendAgent$' ;;
*) echo at-end "$@" >> "$AT_END_FILE" ;;
esac
`

func TestSupervisor(t *testing.T) {
	requireRoot(t)
	f := &Fleet{opts: Options{Engine: "postgres", Namespaces: true, Log: io.Discard}, dir: t.TempDir()}
	f.bin = f.dir
	agent := fmt.Sprintf(agentScript, os.Args[0])
	if err := os.WriteFile(filepath.Join(f.dir, "witness-agent"), []byte(agent), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := f.wire(); err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	h := &Host{Name: "h", dir: f.dir, config: "the-config", fleet: f}
	if err := h.addresses(); err != nil {
		t.Fatal(err)
	}
	said := filepath.Join(f.dir, "at-end")
	t.Setenv("AT_END_FILE", said)
	h.Supervision = Supervision{Watchdog: 300 * time.Millisecond, AtEnd: AtEnd()}
	began := time.Now()
	if err := h.Start(); err != nil {
		t.Fatal(err)
	}
	until := func(what string, ok func(started, hung int) bool) {
		t.Helper()
		for end := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
			started, hung := h.Starts()
			if ok(started, hung) {
				return
			}
			if time.Now().After(end) {
				t.Fatalf("%s: not within 10 s; started %d times, hung %d times", what, started, hung)
			}
		}
	}
	until("killed by the watchdog and started again", func(started, hung int) bool { return hung == 1 && started == 2 })
	if took := time.Since(began); took < 300*time.Millisecond {
		t.Errorf("killed after %v although it was fed", took)
	}
	if got, err := os.ReadFile(said); err != nil || string(got) != "at-end fence at-end --config the-config\n" {
		t.Errorf("command after the end: %q, %v", got, err)
	}
	h.KeepDown()
	h.KillAgent()
	time.Sleep(2 * restartAfter)
	if started, _ := h.Starts(); started != 2 {
		t.Errorf("started %d times although it was to be kept down", started)
	}
	h.LetStart()
	until("started again", func(started, _ int) bool { return started == 3 })
	h.RestartAgent()
	until("started again at once", func(started, _ int) bool { return started == 4 })
	h.Freeze()
	for _, pid := range h.space.pids() {
		stopped := func(int, int) bool {
			stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
			return strings.Contains(string(stat), ") T ")
		}
		until(fmt.Sprintf("process %d stopped", pid), stopped)
	}
	h.Kill()
	if got := h.space.pids(); len(got) != 0 {
		t.Errorf("living after a power cut: %v", got)
	}
	if err := syscall.Kill(h.agent().cmd.Process.Pid, 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("the agent after a power cut: %v", err)
	}
}

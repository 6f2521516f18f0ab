package service

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// words are a program that runs until it is ended, and that no other test has.
func words(t *testing.T) []string {
	t.Helper()
	path, err := exec.LookPath("sleep")
	if err != nil {
		t.Fatal(err)
	}
	if path, err = filepath.EvalSymlinks(path); err != nil {
		t.Fatal(err)
	}
	return []string{path, fmt.Sprintf("1000%d", time.Now().UnixNano())}
}

func opened(t *testing.T, c Config) Service {
	t.Helper()
	s, err := Open(c, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := s.Kill(ctx); err != nil {
			t.Error(err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func look(t *testing.T, s Service) Process {
	t.Helper()
	p, err := s.Look(within(t))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestCommand(t *testing.T) {
	c := Config{Command: words(t)}
	s := opened(t, c)
	if p := look(t, s); p.Running {
		t.Fatalf("runs already: %+v", p)
	}
	for range 2 { // the second changes nothing
		if err := s.Start(within(t)); err != nil {
			t.Fatal(err)
		}
	}
	first := look(t, s)
	if !first.Running || first.PID == 0 || first.Run == "" {
		t.Fatalf("started, and seen as %+v", first)
	}
	t.Run("found by the next agent", func(t *testing.T) {
		next := opened2(t, c)
		if p := look(t, next); p != first {
			t.Errorf("found %+v, want %+v", p, first)
		}
	})
	t.Run("an end that nobody asked for is told", func(t *testing.T) {
		if err := unix.Kill(first.PID, unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		select {
		case exit := <-s.Exits():
			if exit.Run != first.Run {
				t.Errorf("told of %+v", exit)
			}
		case <-time.After(10 * time.Second):
			t.Fatal("not told")
		}
		if p := look(t, s); p.Running {
			t.Errorf("still seen: %+v", p)
		}
	})
	for name, end := range map[string]func(context.Context) error{"stop": s.Stop, "kill": s.Kill} {
		t.Run(name+" is not told", func(t *testing.T) {
			if err := s.Start(within(t)); err != nil {
				t.Fatal(err)
			}
			p := look(t, s)
			if p.Run == first.Run {
				t.Error("another start is the same run")
			}
			if err := end(within(t)); err != nil {
				t.Fatal(err)
			}
			if err := unix.Kill(p.PID, 0); err == nil {
				if fields, err := statOf(p.PID); err == nil && fields[0] != "Z" {
					t.Errorf("process %d is there (%s)", p.PID, fields[0])
				}
			}
			select {
			case exit := <-s.Exits():
				t.Errorf("told of %+v", exit)
			default:
			}
		})
	}
	t.Run("nothing to end", func(t *testing.T) {
		if err := s.Kill(within(t)); err != nil {
			t.Error(err)
		}
		if err := s.Stop(within(t)); err != nil {
			t.Error(err)
		}
	})
}

// opened2 is opened without the end of the process.
func opened2(t *testing.T, c Config) Service {
	t.Helper()
	s, err := Open(c, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// TestKillIsQuick: a fence has 190 ms for everything.
func TestKillIsQuick(t *testing.T) {
	s := opened(t, Config{Command: words(t)})
	best := time.Hour
	for range 5 {
		if err := s.Start(within(t)); err != nil {
			t.Fatal(err)
		}
		look(t, s)
		began := time.Now()
		if err := s.Kill(within(t)); err != nil {
			t.Fatal(err)
		}
		best = min(best, time.Since(began))
	}
	t.Logf("fastest of 5: %v", best)
	if best > 100*time.Millisecond {
		t.Errorf("a kill takes %v", best)
	}
}

// standIn is a systemctl that keeps one unit, whose process is a command.
const standIn = `#!/bin/sh
echo "$*" >> "$0.calls"
case "$1 $2" in
"show "*)
	pid=$(cat "$0.pid" 2>/dev/null || echo 0)
	kill -0 "$pid" 2>/dev/null || pid=0
	echo "MainPID=$pid"
	echo "ControlGroup="
	echo "Restart=on-failure"
	echo "UnitFileState=enabled"
	;;
"start "*) setsid sleep 100071 >/dev/null 2>&1 & echo $! > "$0.pid" ;;
"stop --no-block") ;;
"stop "*) kill "$(cat "$0.pid")"; rm "$0.pid" ;;
esac
`

// TestUnit is on a stand-in for systemctl: no systemd runs where the tests do.
func TestUnit(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "systemctl")
	if err := os.WriteFile(path, []byte(standIn), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	s := opened(t, Config{Unit: "mssql-server.service"})
	if err := s.Start(within(t)); err != nil {
		t.Fatal(err)
	}
	p := look(t, s)
	if !p.Running {
		t.Fatal("not seen")
	}
	gate, err := s.RestartGate(within(t))
	if err != nil || !strings.Contains(gate, "Restart=on-failure") || !strings.Contains(gate, "at boot") {
		t.Errorf("gate %q, %v", gate, err)
	}
	if err := s.Kill(within(t)); err != nil {
		t.Fatal(err)
	}
	if look(t, s).Running {
		t.Error("runs after a kill")
	}
	if err := s.Start(within(t)); err != nil {
		t.Fatal(err)
	}
	if err := s.Stop(within(t)); err != nil {
		t.Fatal(err)
	}
	if again := look(t, s); again.Running {
		t.Errorf("runs after a stop: %+v", again)
	}
	calls, err := os.ReadFile(path + ".calls")
	if err != nil || !strings.Contains(string(calls), "stop --no-block mssql-server.service") {
		t.Errorf("a kill does not keep systemd from starting it again: %s, %v", calls, err)
	}
}

func TestValidate(t *testing.T) {
	for _, test := range []struct {
		c    Config
		want string
	}{
		{Config{}, "exactly one"},
		{Config{Unit: "a.service", WindowsService: "MSSQLSERVER"}, "exactly one"},
		{Config{Command: []string{"sqlservr"}}, "absolute path"},
		{Config{Unit: "a.service", Output: "/tmp/x"}, "output"},
		{Config{Unit: "a.service"}, ""},
	} {
		err := test.c.Validate()
		if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("%+v: %v, want %q", test.c, err, test.want)
		}
	}
	if _, err := Open(Config{WindowsService: "MSSQLSERVER"}, nil); err == nil {
		t.Error("a Windows service on Linux")
	}
}

func TestOrdered(t *testing.T) {
	got := fmt.Sprint(ordered(map[int]int{30: 20, 20: 1, 10: 20}))
	if got != "[20 10 30]" {
		t.Errorf("got %s", got)
	}
}

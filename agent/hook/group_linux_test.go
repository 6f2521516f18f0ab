package hook

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// gone waits until no process of the group is left.
func gone(t *testing.T, group int) {
	t.Helper()
	for range 400 {
		if errors.Is(syscall.Kill(-group, 0), syscall.ESRCH) {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Errorf("something of group %d still runs", group)
	_ = syscall.Kill(-group, syscall.SIGKILL)
}

func number(t *testing.T, s string) int {
	t.Helper()
	n, err := strconv.Atoi(strings.TrimSpace(s))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestTimeLimit: at its limit a command is asked to end, and what does not is killed, children included.
func TestTimeLimit(t *testing.T) {
	tests := []struct {
		name, script string
		least, most  time.Duration
	}{
		{"goes when asked", "sleep 60 & sleep 60", 0, grace / 2},
		{"clears up first", `trap 'sleep 0.2; touch $0/clear; exit 1' TERM; while true; do sleep 0.05; done`, 200 * time.Millisecond, grace},
		{"does not listen", `trap "" TERM; sleep 60 & while true; do sleep 1; done`, grace, grace + time.Second},
		{"is stopped", `kill -STOP $$`, grace, grace + time.Second},
	}
	const limit = 150 * time.Millisecond
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := newBenchOf(t, Hook{Timeout: limit,
				Command: []string{"/bin/sh", "-c", "echo $$ > $0/pid; touch $0/began; " + tt.script, "DIR"}})
			b.Run(event("main", Primary, 1))
			b.await("began")
			group := number(t, b.file("pid"))
			got := b.wait(1)[0]
			if got.OK || !strings.HasPrefix(got.Detail, "ended at its time limit of 150ms") ||
				got.Took < limit+tt.least || got.Took > limit+tt.most {
				t.Errorf("%+v", got)
			}
			gone(t, group)
			if tt.name == "clears up first" {
				b.await("clear")
			}
		})
	}
}

// TestLeftBehind: a command that starts something and ends well does not hang the runner, and what it has started is
// left alone.
func TestLeftBehind(t *testing.T) {
	b := newBench(t, `sleep 60 & echo $! > $0/pid; echo started`, "echo next")
	b.Run(event("main", Primary, 1))
	done := b.wait(2)
	pid := number(t, b.file("pid"))
	defer syscall.Kill(pid, syscall.SIGKILL)
	if got := done[0]; !got.OK || got.Detail != "left something running that holds its output: started" ||
		got.Took > pipeWait+time.Second {
		t.Errorf("%+v", got)
	}
	if !done[1].OK {
		t.Errorf("%+v", done[1])
	}
	if err := syscall.Kill(pid, 0); err != nil {
		t.Errorf("what the hook has started is gone: %v", err)
	}
}

// TestInheritsNoFiles: a lock of the agent's in a child would keep the next agent from starting.
func TestInheritsNoFiles(t *testing.T) {
	lock, err := os.OpenFile(filepath.Join(t.TempDir(), "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	b := newBenchOf(t, Hook{Command: []string{"/bin/sh", "-c", `for f in /proc/self/fd/*; do readlink $f; done; pwd`}})
	b.Run(event("main", Primary, 1))
	got := strings.Fields(b.wait(1)[0].Detail)
	// Standard input, the pipe twice, and the directory; nothing else.
	var open []string
	for _, f := range got {
		if !strings.HasPrefix(f, "/proc/") {
			open = append(open, strings.SplitN(f, ":", 2)[0])
		}
	}
	if want := "/dev/null pipe pipe /"; strings.Join(open, " ") != want {
		t.Errorf("open in a hook: %v, want %v", got, want)
	}
}

// TestLikeOthers: what the agent's unit gives to the agent, its hooks do not have.
func TestLikeOthers(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root may be ahead of others")
	}
	favour(t, -5, "500") // less than 0 is not for every root
	// The first moment belongs to the runner.
	b := newBench(t, `sleep 0.2; cat /proc/$$/oom_score_adj; cut -d' ' -f19 /proc/$$/stat; ps -o pgid= -p $$; echo $$`)
	b.Run(event("main", Primary, 1))
	got := strings.Fields(b.wait(1)[0].Detail)
	if len(got) != 4 || got[0] != "0" || got[1] != "0" || got[2] != got[3] {
		t.Errorf("out-of-memory score, nice value, group and process: %v", got)
	}
}

// favour makes this process, all threads of it, what an agent is in its unit, for the time of a test.
func favour(t *testing.T, nice int, score string) {
	t.Helper()
	set := func(nice int, score string) {
		tasks, err := os.ReadDir("/proc/self/task")
		if err != nil {
			t.Fatal(err)
		}
		for _, task := range tasks {
			if err := syscall.Setpriority(syscall.PRIO_PROCESS, number(t, task.Name()), nice); err != nil &&
				!errors.Is(err, syscall.ESRCH) {
				t.Fatal(err)
			}
		}
		if err := os.WriteFile("/proc/self/oom_score_adj", []byte(score), 0); err != nil {
			t.Fatal(fmt.Errorf("set the score: %w", err))
		}
	}
	set(nice, score)
	t.Cleanup(func() { set(0, "0") })
}

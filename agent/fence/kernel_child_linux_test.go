package fence

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// childOf is set for a process of a test that is an agent: "namespace life step".
const childOf = "WITNESSD_FENCE_CHILD"

func TestMain(m *testing.M) {
	if what := os.Getenv(childOf); what != "" {
		if err := child(what); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// child fences main and opens it for a life. It stops itself at the step of that renewal, or with step "none"
// renews on and on.
func child(what string) error {
	var namespace, life, step string
	if _, err := fmt.Sscan(what, &namespace, &life, &step); err != nil {
		return err
	}
	d, err := time.ParseDuration(life)
	if err != nil {
		return err
	}
	f, err := os.Open("/run/netns/" + namespace)
	if err != nil {
		return err
	}
	defer f.Close()
	w := &world{partner: &space{ip4: netip.MustParseAddr("10.77.0.2"), ip6: netip.MustParseAddr("fd77::2")}}
	armed := make(chan struct{})
	var stops atomic.Int32
	o := KernelOptions{
		Table: table, Clock: now, Services: []StartService{{Service: w.service("main")}},
		seams: seams{netns: int(f.Fd()), at: func(at string) {
			select {
			case <-armed:
			default:
				return
			}
			// After it has gone on it is stopped once more, before it can mend what it may have done.
			here := strings.ReplaceAll(at, " ", "_") == step
			if here && stops.CompareAndSwap(0, 1) || at == "sent" && stops.CompareAndSwap(1, 2) {
				// To this very thread: a signal to the process lets the caller go on for a moment.
				_ = unix.Tgkill(os.Getpid(), unix.Gettid(), unix.SIGSTOP)
			}
		}},
	}
	k, err := OpenKernel(context.Background(), o)
	if err != nil {
		return err
	}
	close(armed)
	for {
		k.Open("main", Right{Until: now().Add(d)})
		if step != "none" {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	time.Sleep(time.Minute)
	return k.Close()
}

// agentOfTest starts a child on the fenced host.
func (w *world) agentOfTest(life time.Duration, step string) *exec.Cmd {
	w.t.Helper()
	c := exec.Command(os.Args[0])
	c.Env = append(os.Environ(), fmt.Sprintf("%s=%s %v %s", childOf, w.host.name, life, step))
	c.Stdout, c.Stderr = w.t.Output(), w.t.Output()
	if err := c.Start(); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		_ = c.Process.Kill()
		_ = c.Wait()
	})
	return c
}

func stopped(t *testing.T, pid int) bool {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(b), ") ")
	return strings.HasPrefix(rest, "T")
}

// An agent that is stopped at any point of a renewal and goes on when the right is over opens nothing.
func TestKernelStoppedInRenewal(t *testing.T) {
	for _, step := range []string{"before token", "token", "clock read", "ready", "sent"} {
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			const life = 1500 * time.Millisecond
			w := newWorld(t)
			w.host.serve(servicePort)
			agent := w.agentOfTest(life, strings.ReplaceAll(step, " ", "_"))
			eventually(t, 10*time.Second, "stopped", func() bool { return stopped(t, agent.Process.Pid) })
			open := w.client.passes(w.host.at(servicePort))
			if want := step == "sent"; open != want {
				t.Errorf("open while stopped: %t, want %t", open, want)
			}
			time.Sleep(life + slack)
			closed := func() {
				t.Helper()
				for end := time.Now().Add(200 * time.Millisecond); time.Now().Before(end); {
					if w.client.passes(w.host.at(servicePort)) {
						t.Fatal("open although the right was over")
					}
				}
			}
			goOn := func() {
				t.Helper()
				if err := agent.Process.Signal(syscall.SIGCONT); err != nil {
					t.Fatal(err)
				}
			}
			goOn()
			closed()
			if step != "sent" {
				eventually(t, 10*time.Second, "stopped again", func() bool { return stopped(t, agent.Process.Pid) })
				closed()
				goOn()
			}
			closed()
			if stopped(t, agent.Process.Pid) {
				t.Error("the agent did not go on: the test tests nothing")
			}
		})
	}
}

// A killed agent's host closes by itself; the next start takes over before that without a gap.
func TestKernelAgentKilled(t *testing.T) {
	const life = time.Second
	w := newWorld(t)
	w.host.serve(servicePort)
	agent := w.agentOfTest(life, "none")
	eventually(t, 10*time.Second, "open", func() bool {
		return w.client.passes(w.host.at(servicePort)) && newNetRules(table, int(w.host.file.Fd())).isOpen()
	})
	c, err := w.client.dial(w.host.at(servicePort))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	mustTalk := func() {
		t.Helper()
		for range 200 { // longer than a right
			if err := talk(c); err != nil {
				t.Fatalf("cut in spite of renewals: %v", err)
			}
			time.Sleep(life / 100)
		}
	}
	mustTalk()
	kill := func() {
		t.Helper()
		if err := agent.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = agent.Wait()
	}
	kill()
	agent = w.agentOfTest(life, "none")
	mustTalk()
	kill()
	killed := now()
	lastWord(t, c, killed.Add(life))
	if w.client.passes(w.host.at(servicePort)) {
		t.Error("open after the end")
	}
	list, err := newNetRules(table, int(w.host.file.Fd())).show()
	if err != nil || len(list) != 1 || list[0].Open {
		t.Errorf("shown %+v, %v", list, err)
	}
}

func (r *netRules) isOpen() bool {
	list, err := r.show()
	return err == nil && len(list) == 1 && list[0].Open
}

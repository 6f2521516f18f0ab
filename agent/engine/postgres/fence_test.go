//go:build linux

package postgres

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
	"golang.org/x/sys/unix"

	"github.com/witnessd/witnessd/agent/engine"
)

// fence fences within the budget and sees that nothing is left.
func (h *host) fence() {
	h.t.Helper()
	began := time.Now()
	err := h.Fence(within(h.t, ample))
	took := time.Since(began)
	check(h.t, err)
	h.t.Logf("fenced in %v", took)
	if took > 300*time.Millisecond {
		h.t.Errorf("fencing took %v, longer than the guard", took)
	}
	if left := h.processes(); len(left) > 0 {
		h.t.Errorf("processes left: %+v", left)
	}
	if !exists(h.path(standbySignal)) {
		h.t.Error("no standby.signal after the fence")
	}
}

// TestFence cuts off clients that commit as fast as they can: nothing that they begin after the fence has
// returned may be acknowledged. Afterwards the instance is of use again.
func TestFence(t *testing.T) {
	a, b := alone(t)
	var fenced sync.WaitGroup
	returned := make(chan struct{})
	for range 4 {
		c := a.client()
		fenced.Go(func() {
			for {
				after := false
				select {
				case <-returned:
					after = true
				default:
				}
				err := c.exec("insert into t values (1)", ample)
				if after && err == nil {
					t.Error("a commit was acknowledged after the fence")
				}
				if err != nil || after {
					return
				}
			}
		})
	}
	a.fence()
	close(returned)
	fenced.Wait()
	if got := a.see(); got.Running {
		t.Errorf("after the fence: %+v", got)
	}
	select {
	case exit := <-a.Exits():
		t.Errorf("an end that the agent asked for was delivered: %+v", exit)
	default:
	}
	check(t, a.Standby(within(t, ample)))
	if got := a.see(); got.Role != engine.RoleMirror {
		t.Errorf("started after the fence: %+v", got)
	}
	a.serve(b)
}

// TestFenceStuck: the fence does not depend on the server's help.
func TestFenceStuck(t *testing.T) {
	a, _ := alone(t)
	// A client that does not read what it asked for blocks its backend in a full socket.
	c := a.client()
	c.Frontend().SendQuery(&pgproto3.Query{String: "select repeat('x', 1000000) from generate_series(1, 1000)"})
	check(t, c.Frontend().Flush())
	eventually(t, "a backend blocked by its client", func() error {
		if a.client().one("select count(*) from pg_stat_activity where wait_event = 'ClientWrite'") == "0" {
			return errors.New("none")
		}
		return nil
	})
	for _, p := range a.processes() {
		check(t, unix.Kill(p.pid, unix.SIGSTOP))
	}
	// The file appears again: a promotion that was cut short leaves none.
	files, err := openStore(a.Engine.cfg.DataDir, a.user)
	check(t, err)
	check(t, files.remove(standbySignal))
	files.close()
	a.fence()
	check(t, a.Standby(within(t, ample)))
}

// TestFenceOrphans: backends that outlive their postmaster go on acknowledging commits. They are found.
func TestFenceOrphans(t *testing.T) {
	a, _ := alone(t)
	pid := number(t, a.client().one("select pg_backend_pid()"))
	check(t, unix.Kill(pid, unix.SIGSTOP)) // So that it does not see the postmaster's death.
	a.postmaster(unix.SIGKILL)
	<-a.Exits()
	a.fence()
	eventually(t, "the orphan's end", func() error {
		if p, err := readProcess(pid); err == nil && !p.dead() {
			return fmt.Errorf("%+v", p)
		}
		return nil
	})
}

// TestFenceDuringFollow: a long clone ends with ErrFenced, and can be begun again.
func TestFenceDuringFollow(t *testing.T) {
	a, b := newHosts(t, func(c *Config) { c.Rejoin.CloneRate = "1M" })
	a.serve(b)
	result := make(chan error, 1)
	copying := make(chan struct{})
	var once sync.Once
	go func() {
		result <- b.Follow(t.Context(), a.peer(), func(p engine.Progress) {
			if p.Step == "clone" && p.Done > 0 {
				once.Do(func() { close(copying) })
			}
		})
	}()
	<-copying
	if got := b.see(); got.Data != engine.DataIncomplete || got.Promotable || got.Step == "" {
		t.Errorf("during a clone: %+v", got)
	}
	began := time.Now()
	check(t, b.Fence(t.Context()))
	if err := <-result; !errors.Is(err, engine.ErrFenced) {
		t.Errorf("the fenced call returned %v", err)
	}
	t.Logf("a clone was cut short in %v", time.Since(began))
	b.Engine.cfg.Rejoin.CloneRate = ""
	b.follows(a)
}

// TestFenceDuringPromote: whenever the fence falls, no primary is left.
func TestFenceDuringPromote(t *testing.T) {
	a, b := newHosts(t)
	for _, after := range []int{5, 25, 50, 80, 120} {
		check(t, a.Standby(within(t, ample)))
		ctx, cancel := context.WithTimeout(t.Context(), ample)
		result := make(chan error, 1)
		go func() { result <- a.Promote(ctx, b.peer()) }()
		time.Sleep(time.Duration(after) * time.Millisecond) // The fence must be right at any moment.
		a.fence()
		err := <-result
		cancel()
		if err != nil && !errors.Is(err, engine.ErrFenced) {
			t.Errorf("after %d ms: %v", after, err)
		}
		if left := a.processes(); len(left) > 0 {
			t.Errorf("after %d ms: processes left: %+v", after, left)
		}
	}
}

// TestFenceCrowded: many busy clients leave the agent little time of the processors.
func TestFenceCrowded(t *testing.T) {
	a, _ := alone(t)
	var clients sync.WaitGroup
	for range 40 {
		c := a.client()
		clients.Go(func() {
			for c.exec("insert into t values (1)", ample) == nil {
			}
		})
	}
	c := a.client()
	eventually(t, "all clients at work", func() error {
		if n := number(t, c.one("select count(*) from t")); n < 400 {
			return fmt.Errorf("%d rows", n)
		}
		return nil
	})
	a.fence()
	clients.Wait()
}

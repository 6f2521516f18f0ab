package hold_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/witnessd/witnessd/agent/hold"
)

// failing lets a follow fail again and again, each time after it took so long, and returns the waits between.
func (a *agent) failing(n int, from time.Duration, took time.Duration, why func(n int) string) (waits []int, at time.Duration) {
	a.t.Helper()
	at = from
	for i := range n {
		at += took
		a.at(at)
		a.finish(func(d *hold.EngineDone) { d.Err = why(i) })
		ended := at
		for a.do.Op = hold.OpNone; a.do.Op != hold.OpFollow && at < ended+5*time.Minute; {
			at += 500 * ms
			a.at(at)
			a.looks()
		}
		waits = append(waits, int((at-ended)/time.Second))
	}
	return waits, at
}

// TestBackOff: what fails for the same cause again is tried ever later, and a change of anything begins anew.
func TestBackOff(t *testing.T) {
	same := func(n int) string {
		return fmt.Sprintf("clone a: server closed the connection at 0/%d000148 (pid %d)", n, n)
	}
	follower := func(t *testing.T) *agent {
		a := mirror(t)
		a.answer(newEpoch("a"))
		return a
	}
	want := func(t *testing.T, got []int, want ...int) {
		t.Helper()
		if !slices.Equal(got, want) {
			t.Errorf("waits %v s, want %v", got, want)
		}
	}
	t.Run("a long step costs the primary something", func(t *testing.T) {
		a := follower(t)
		got, _ := a.failing(8, lease, 30*time.Second, same)
		want(t, got, 2, 4, 8, 16, 32, 60, 60, 60)
	})
	t.Run("a short one waits for what may change at any moment", func(t *testing.T) {
		a := follower(t)
		got, _ := a.failing(6, lease, 500*ms, same)
		want(t, got, 2, 4, 8, 8, 8, 8)
	})
	t.Run("another cause", func(t *testing.T) {
		a := follower(t)
		_, at := a.failing(4, lease, 30*time.Second, same)
		got, _ := a.failing(2, at, 30*time.Second, func(int) string { return "no room for a clone" })
		want(t, got, 2, 4)
	})
	t.Run("success", func(t *testing.T) {
		a := follower(t)
		_, at := a.failing(4, lease, 30*time.Second, same)
		a.finish()
		a.looks(func(e *hold.Engine) { e.Following = false })
		a.at(at + 6*time.Second)
		a.looks()
		got, _ := a.failing(2, at+6*time.Second, 30*time.Second, same)
		want(t, got, 2, 4)
	})
	t.Run("it is told, every time", func(t *testing.T) {
		a := follower(t)
		a.failing(2, lease, 30*time.Second, same)
		got := a.report().Complaint
		if !strings.Contains(got, "failed 2 times so, tried again after 4s") {
			t.Errorf("complains: %s", got)
		}
	})
}

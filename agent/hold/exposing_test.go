package hold_test

import (
	"testing"
	"time"

	"github.com/witnessd/witnessd/agent/hold"
)

// TestEngineThatExposesByItself: an engine that cannot hold commits is recorded as exposed with the first look that
// shows it, not after the mirror time-out; one that can is given the time-out.
func TestEngineThatExposesByItself(t *testing.T) {
	for _, bound := range []time.Duration{0, 3 * time.Second} {
		a := leasedPrimary(t)
		a.looks(func(e *hold.Engine) { e.LossBound = bound })
		a.at(200 * ms)
		a.looks(detached, func(e *hold.Engine) { e.Commits, e.LossBound = hold.CommitsAlone, bound })
		want := hold.RequestNone
		if bound > 0 {
			want = hold.RequestExpose
		}
		if r := a.report(); r.Request != want {
			t.Errorf("bound %v: asks for %v, want %v", bound, r.Request, want)
		}
	}
	t.Run("a start that has proved nothing yet does not expose", func(t *testing.T) {
		a := start(t, "a", fileOf("a", 1, "a"), hold.Mark{})
		a.answer()
		a.looks(func(e *hold.Engine) {
			e.Running, e.Role, e.Commits, e.LossBound = true, hold.RolePrimary, hold.CommitsAlone, 3*time.Second
		})
		if r := a.report(); r.Request != hold.RequestNone {
			t.Errorf("asks for %v", r.Request)
		}
	})
}

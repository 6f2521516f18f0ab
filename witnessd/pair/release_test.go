package pair_test

import (
	"testing"
	"time"

	"github.com/witnessd/witnessd/witnessd/pair"
)

func released(everything bool) func(*pair.Report) {
	return func(r *pair.Report) {
		r.Released, r.ReleasedEverything = r.Epoch, everything
		r.Serving, r.AskLease, r.Engine.Running, r.Engine.Role = false, false, false, "none"
	}
}

func partnerReleased(everything bool) func(*pair.Report) {
	return func(r *pair.Report) {
		r.PartnerReleased, r.PartnerReleasedEverything, r.Promise = r.Epoch, everything, 0
	}
}

// TestRelease is the witness's half of rule R9: nobody waits for what was given back.
func TestRelease(t *testing.T) {
	for _, test := range []struct {
		name  string
		story func(l *leader)
		// The epoch afterwards, and whose it is.
		epoch   pair.Epoch
		primary pair.HostID
	}{
		{"told by the primary: promoted at once", func(l *leader) {
			l.says("a", released(false))
			l.says("b", func(r *pair.Report) { r.Promise = 0 })
		}, 2, "b"},
		{"told by the mirror: promoted at once", func(l *leader) { l.says("b", partnerReleased(false)) }, 2, "b"},
		{"told, but the mirror has not heard: its promise is waited for", func(l *leader) {
			l.says("a", released(false))
			l.hear("b")
		}, 1, "a"},
		{"of an older epoch: nothing", func(l *leader) {
			l.apply(pair.Reinstate{})
			l.says("a", func(r *pair.Report) { r.Released = 1 })
			l.left("b")
		}, 2, "a"},
		{"claimed by the mirror of itself: nothing", func(l *leader) {
			l.says("b", func(r *pair.Report) { r.Released, r.Promise = 1, 0 })
		}, 1, "a"},
		{"claimed by the primary of its partner: nothing", func(l *leader) {
			l.says("a", partnerReleased(true))
			l.left("b")
		}, 1, "a"},
		{"sole and without everything: reinstated at once", func(l *leader) {
			l.apply(pair.Expose{Host: "a"})
			l.says("a", released(false))
		}, 2, "a"},
		{"sole and with everything: promoted", func(l *leader) {
			l.apply(pair.Expose{Host: "a"})
			l.says("a", released(true))
			l.says("b", func(r *pair.Report) { r.Promise = 0 })
		}, 2, "b"},
		{"paused: reinstated at once", func(l *leader) {
			l.apply(pair.SetMode{Mode: pair.ModeManual})
			l.says("a", released(true))
		}, 2, "a"},
		{"mirror cannot be promoted: not reinstated before one longest lease", func(l *leader) {
			l.says("a", released(false))
			l.at(3*time.Second - ms)
			l.says("a", released(false))
		}, 1, "a"},
		{"mirror cannot be promoted: reinstated after one longest lease", func(l *leader) {
			l.says("a", released(false))
			l.at(3 * time.Second)
			l.says("a", released(false))
		}, 2, "a"},
		{"nor can the primary: nobody", func(l *leader) {
			l.says("a", released(false))
			l.at(3 * time.Second)
			l.says("a", released(false), func(r *pair.Report) { r.Engine.Promotable = false })
		}, 1, "a"},
		{"and the primary is silent: nobody", func(l *leader) {
			l.says("a", released(false))
			l.at(3*time.Second + ms)
			l.tick()
		}, 1, "a"},
		{"a new leader hears of it anew", func(l *leader) {
			l.says("a", released(false))
			l.elect()
			l.says("b", partnerReleased(false))
		}, 2, "b"},
	} {
		t.Run(test.name, func(t *testing.T) {
			l := armed(t)
			l.lease("a")
			test.story(l)
			l.wantEpoch(test.primary, test.epoch)
		})
	}
	t.Run("the mirror is nudged, so that it may say that its promise is over", func(t *testing.T) {
		l := armed(t)
		for _, act := range l.step(pair.Heard{Report: func() pair.Report {
			r := l.report("a")
			released(true)(&r)
			return r
		}(), Receipt: l.now}) {
			if n, ok := act.(pair.Nudge); ok && n.Host == "b" {
				return
			}
		}
		t.Error("no nudge")
	})
}

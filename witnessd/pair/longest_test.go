package pair_test

import (
	"testing"
	"time"

	"github.com/witnessd/witnessd/witnessd/pair"
)

// TestLongestLeaseIsLowered is rule R12: one longest lease after both files hold the shorter policy.
func TestLongestLeaseIsLowered(t *testing.T) {
	for _, test := range []struct {
		name string
		// The story ends when both files hold the policy, at the instant it returns; never: negative.
		story func(l *leader) time.Duration
	}{
		{"both hear at once", func(l *leader) time.Duration { l.hear("a", "b"); return 0 }},
		{"one hears later", func(l *leader) time.Duration {
			l.hear("a")
			l.at(7 * time.Second)
			l.hear("a", "b")
			return 7 * time.Second
		}},
		{"one never says so", func(l *leader) time.Duration {
			l.hear("a")
			l.says("b", func(r *pair.Report) { r.Revision-- })
			return -1
		}},
		{"one has the revision of another epoch", func(l *leader) time.Duration {
			l.hear("a")
			l.says("b", func(r *pair.Report) { r.Epoch-- })
			return -1
		}},
		{"a new leader counts anew", func(l *leader) time.Duration {
			l.hear("a", "b")
			l.at(2 * time.Second)
			l.elect()
			l.at(4 * time.Second)
			l.hear("a", "b")
			return 4 * time.Second
		}},
		{"another change in between counts anew", func(l *leader) time.Duration {
			l.hear("a", "b")
			l.at(2 * time.Second)
			l.apply(pair.SetMode{Mode: pair.ModeManual})
			l.at(4 * time.Second)
			l.hear("a", "b")
			return 4 * time.Second
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			l := formed(t)
			l.apply(pair.SetPolicy{Policy: profile("patient")})
			l.apply(pair.SetPolicy{Policy: profile("default")})
			agreed := test.story(l)
			if agreed < 0 {
				l.at(time.Minute)
				l.tick()
				if l.r.LongestLease != 12*time.Second {
					t.Errorf("lowered to %v", l.r.LongestLease)
				}
				return
			}
			l.at(agreed + 12*time.Second - ms)
			l.tick()
			if l.r.LongestLease != 12*time.Second {
				t.Fatalf("lowered to %v too early", l.r.LongestLease)
			}
			l.at(agreed + 12*time.Second)
			l.tick()
			if l.r.LongestLease != 3*time.Second {
				t.Errorf("longest lease is %v", l.r.LongestLease)
			}
		})
	}
	t.Run("not while a procedure is under way", func(t *testing.T) {
		l := armed(t)
		l.apply(pair.SetPolicy{Policy: profile("fast")})
		l.hear("a", "b")
		l.must(pair.WishSwitchover{})
		l.hear("a", "b")
		l.at(10 * time.Second)
		l.hear("a", "b")
		if l.r.LongestLease != 3*time.Second {
			t.Errorf("longest lease is %v", l.r.LongestLease)
		}
	})
}

// TestGuardCoversDriftAndFence: at the end of a lease, two clocks may be apart by 2 %, and then the fence must have
// had its time.
func TestGuardCoversDriftAndFence(t *testing.T) {
	p := pair.DefaultPolicy()
	for _, test := range []struct {
		lease, guard time.Duration
		ok           bool
	}{
		{3 * time.Second, 260 * ms, true},
		{3 * time.Second, 260*ms - 1, false},
		{10 * time.Second, 400 * ms, true},
		{10 * time.Second, 399 * ms, false},
		{time.Second, 200 * ms, false},
	} {
		p.Heartbeat, p.Lease, p.Guard = 50*ms, test.lease, test.guard
		p.MirrorTimeout = time.Second
		if bad := p.Validate(); (len(bad) == 0) != test.ok {
			t.Errorf("lease %v, guard %v: %v", test.lease, test.guard, bad)
		}
	}
	p.Heartbeat, p.MirrorTimeout = 1<<62, 1<<62
	if len(p.Validate()) == 0 {
		t.Error("a heartbeat of 146 years was accepted")
	}
}

// TestObserve: the witness says once for each epoch what it would have done.
func TestObserve(t *testing.T) {
	l := armed(t)
	l.must(pair.WishCommand{Body: pair.SetMode{Mode: pair.ModeObserve}})
	l.lease("a")
	count := func() (n int) {
		for _, f := range l.facts {
			if f.Kind == pair.FactWouldFailOver {
				n++
			}
		}
		return n
	}
	l.at(3*time.Second - ms)
	l.left("b")
	if count() != 0 {
		t.Error("noted while the lease was live")
	}
	l.at(3 * time.Second)
	l.hear("b")
	if count() != 0 {
		t.Error("noted while a promise was outstanding")
	}
	for range 5 {
		l.after(time.Second)
		l.left("b")
	}
	if count() != 1 {
		t.Errorf("noted %d times", count())
	}
	l.wantEpoch("a", 1)
	l.apply(pair.Reinstate{})
	l.after(4 * time.Second)
	l.left("b")
	if count() != 2 {
		t.Errorf("noted %d times in two epochs", count())
	}
	l.must(pair.WishCommand{Body: pair.SetMode{Mode: pair.ModeManual}})
	l.after(4 * time.Second)
	l.left("b")
	if count() != 2 {
		t.Error("noted while paused")
	}
}

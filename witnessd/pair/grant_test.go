package pair_test

import (
	"testing"
	"time"

	"github.com/witnessd/witnessd/witnessd/pair"
)

// TestGrant is rules R1 and R3: who is given a lease, how long it counts, and when none is given.
func TestGrant(t *testing.T) {
	for _, test := range []struct {
		name string
		run  func(l *leader) pair.Answer
		want pair.Reason
	}{
		{"to a leased primary", func(l *leader) pair.Answer { return l.confirm("a", l.now) }, pair.ReasonNone},
		{"to a sole primary, which needs one before it asks to arm", func(l *leader) pair.Answer {
			l.apply(pair.Expose{Host: "a"})
			return l.confirm("a", l.now)
		}, pair.ReasonNone},
		{"to a primary that hands over", func(l *leader) pair.Answer {
			l.must(pair.WishSwitchover{})
			return l.confirm("a", l.now)
		}, pair.ReasonNone},
		{"not to the mirror", func(l *leader) pair.Answer { return l.confirm("b", l.now) }, pair.ReasonNotPrimary},
		{"not to a stranger", func(l *leader) pair.Answer { return l.confirm("z", l.now) }, pair.ReasonNotPrimary},
		{"not after a release", func(l *leader) pair.Answer {
			l.wait = true
			l.says("a", func(r *pair.Report) { r.Released = 1 })
			l.pending = nil
			l.step(pair.Dropped{})
			return l.confirm("a", l.now)
		}, pair.ReasonReleased},
		{"not while a change of epoch is undecided", func(l *leader) pair.Answer {
			l.at(4 * time.Second)
			l.wait = true
			l.left("b")
			return l.confirm("a", l.now)
		}, pair.ReasonChangeUndecided},
		{"not to a request that came before that change was decided", func(l *leader) pair.Answer {
			l.at(4 * time.Second)
			receipt := l.now
			l.after(ms)
			l.wait = true
			l.left("b")
			return l.confirm("a", receipt)
		}, pair.ReasonChangeUndecided},
		{"again after that change was dropped", func(l *leader) pair.Answer {
			l.at(4 * time.Second)
			l.wait = true
			l.left("b")
			l.wait, l.pending = false, nil
			l.hear("b") // so that it is not decided again
			l.step(pair.Dropped{})
			return l.confirm("a", l.now)
		}, pair.ReasonNone},
		{"while another change is undecided", func(l *leader) pair.Answer {
			l.wait = true
			l.ask(pair.WishSwitchover{})
			return l.confirm("a", l.now)
		}, pair.ReasonNone},
		{"not while a forced failover withholds it", func(l *leader) pair.Answer {
			l.must(pair.WishForce{})
			l.apply(pair.StepProcedure{ID: l.r.Procedure.ID, Step: pair.StepWithhold, Timeout: time.Minute})
			return l.confirm("a", l.now)
		}, pair.ReasonWithheld},
		{"not by a restored witness", func(l *leader) pair.Answer {
			l.apply(pair.Restore{Generation: 1})
			return l.confirm("a", l.now)
		}, pair.ReasonRestored},
		{"not by a leader that an agent is ahead of", func(l *leader) pair.Answer {
			l.says("b", func(r *pair.Report) { r.Epoch = 2 })
			return l.confirm("a", l.now)
		}, pair.ReasonAhead},
	} {
		t.Run(test.name, func(t *testing.T) {
			l := armed(t)
			got := test.run(l)
			want := time.Duration(0)
			if test.want == pair.ReasonNone {
				want = l.r.Policy.Lease
			}
			mute := test.want == pair.ReasonRestored || test.want == pair.ReasonAhead
			if got.Refused != test.want || got.Lease != want || got.Mute != mute {
				t.Errorf("got %+v, want a lease of %v, refused %q, mute %t", got, want, test.want, mute)
			}
		})
	}
	t.Run("while forming", func(t *testing.T) {
		if got := newLeader(t).confirm("a", 0); got.Lease != 0 || got.Refused != pair.ReasonForming || got.Mute {
			t.Errorf("got %+v", got)
		}
	})
	t.Run("not asked for", func(t *testing.T) {
		l := armed(t)
		acts := l.step(pair.Confirmed{Host: "a", Receipt: l.now})
		if got := acts[0].(pair.Answer); got.Lease != 0 || got.Refused != pair.ReasonNone {
			t.Errorf("got %+v", got)
		}
	})
}

// TestPromotedWhenTheLeaseHasRunOut holds each clock of the witness to the millisecond: nothing before, a
// promotion at the instant.
func TestPromotedWhenTheLeaseHasRunOut(t *testing.T) {
	for _, test := range []struct {
		name  string
		begin func(l *leader) // the story before the clock that is looked at begins
		want  time.Duration   // after the beginning
	}{
		{"R1: a lease counts from the receipt of its request, in full", func(l *leader) {
			receipt := l.now
			l.after(100 * ms)
			l.confirm("a", receipt)
		}, 3 * time.Second},
		{"R1: the latest of several leases counts", func(l *leader) {
			l.lease("a")
			l.at(500 * ms)
			l.lease("a")
			l.confirm("a", l.base)
		}, 3500 * ms},
		{"R4: a new leader assumes a lease granted a moment before", func(l *leader) { l.elect() }, 3 * time.Second},
		{"R4: also one that led before and granted none", func(l *leader) {
			l.at(-2 * time.Second)
			l.elect()
			l.at(0)
			l.elect()
		}, 3 * time.Second},
		{"R4, R12: the longest lease that may be outstanding", func(l *leader) {
			l.apply(pair.SetPolicy{Policy: profile("patient")})
			l.apply(pair.SetPolicy{Policy: profile("default")})
			l.elect()
		}, 12 * time.Second},
		{"R4: a commit of an epoch counts as a grant to its primary", func(l *leader) {
			l.apply(pair.Promote{To: "b", Procedure: "x"})
			l.apply(pair.EndProcedure{ID: "x"})
		}, 3 * time.Second},
		{"R4: also to the same primary", func(l *leader) { l.apply(pair.Reinstate{}) }, 3 * time.Second},
	} {
		t.Run(test.name, func(t *testing.T) {
			l := armed(t)
			l.at(10 * time.Second) // what was granted before is long over
			l.hear("a")
			l.base = l.now
			test.begin(l)
			l.proposed = nil
			epoch := l.r.Epoch
			l.at(test.want - ms)
			l.left(l.r.Mirror)
			if l.r.Epoch != epoch {
				t.Fatalf("promoted %v too early or more: %v", ms, l.proposed)
			}
			l.at(test.want)
			l.tick()
			if l.r.Epoch != epoch+1 {
				t.Errorf("not promoted at %v: %v", test.want, pair.FailoverVerdict(l.r, l.w, l.now))
			}
		})
	}
}

// TestReportsOutOfOrder: agents send by every node when answers are late, so that reports overtake each other.
func TestReportsOutOfOrder(t *testing.T) {
	l := armed(t)
	older := l.report("a")
	older.Request, older.RequestRevision = pair.RequestExpose, l.r.Revision
	l.says("a")
	l.step(pair.Heard{Report: older, Receipt: l.now})
	if l.r.Right != pair.RightLeased {
		t.Error("an overtaken report was acted on")
	}
	l.says("a", func(r *pair.Report) {
		r.Start, r.Sequence = "2", 1
		r.Request, r.RequestRevision = pair.RequestExpose, l.r.Revision
	})
	if l.r.Right != pair.RightSole {
		t.Error("the report of a new start was taken for an overtaken one")
	}
	stranger := l.report("a")
	stranger.Host = "z"
	l.step(pair.Heard{Report: stranger, Receipt: l.now})
}

// TestRequestNamesTheRevision is the witness's half of rule R8.
func TestRequestNamesTheRevision(t *testing.T) {
	arm := func(r *pair.Report) { r.Request, r.RequestRevision = pair.RequestArm, r.Revision }
	for _, test := range []struct {
		name   string
		before func(l *leader)
		change func(*pair.Report)
		armed  bool
	}{
		{"present revision", nil, arm, true},
		{"older revision", nil, func(r *pair.Report) { arm(r); r.RequestRevision-- }, false},
		{"older epoch", nil, func(r *pair.Report) { arm(r); r.Epoch-- }, false},
		{"paused", func(l *leader) { l.apply(pair.SetMode{Mode: pair.ModeManual}) }, arm, false},
		{"release is asked", func(l *leader) { l.must(pair.WishForce{}) }, arm, false},
		{"change undecided", func(l *leader) { l.wait = true; l.ask(pair.WishSwitchover{}) }, arm, false},
		{"agent is ahead", func(l *leader) { l.says("b", func(r *pair.Report) { r.Revision += 9 }) }, arm, false},
		{"released", func(l *leader) {
			l.wait = true
			l.says("a", func(r *pair.Report) { r.Released = 1 })
			l.step(pair.Dropped{})
			l.wait = false
		}, arm, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			l := formed(t)
			if test.before != nil {
				test.before(l)
			}
			l.says("a", test.change)
			if (l.r.Right == pair.RightLeased) != test.armed {
				t.Errorf("right is %v", l.r.Right)
			}
		})
	}
	t.Run("each goes through the log though nothing changes", func(t *testing.T) {
		l := armed(t)
		before := l.r.Revision
		l.says("a", arm)
		if l.r.Revision != before+1 {
			t.Errorf("revision went from %v to %v", before, l.r.Revision)
		}
	})
	t.Run("not by the mirror", func(t *testing.T) {
		l := formed(t)
		l.says("b", arm)
		if l.r.Right != pair.RightSole {
			t.Error("armed")
		}
	})
}

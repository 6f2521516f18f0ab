package pair_test

import (
	"testing"
	"time"

	"github.com/witnessd/witnessd/witnessd/pair"
)

// TestFailoverVerdict lets each precondition of rule R5 fail alone.
func TestFailoverVerdict(t *testing.T) {
	over := 3 * time.Second // when the last lease of an armed pair has run out
	for _, test := range []struct {
		name string
		to   func(l *leader)
		want []pair.Reason
		// ready: everything holds that does not depend on the primary being lost
		ready bool
	}{
		{"all hold", func(l *leader) { l.at(over); l.wait = true; l.left("b"); l.drop() }, nil, true},
		{"lease outstanding", func(l *leader) {
			l.hear("a")
			l.lease("a")
			l.at(over - ms)
			l.left("b")
		}, []pair.Reason{pair.ReasonLeaseOutstanding}, true},
		{"grace of a new leader", func(l *leader) { l.elect(); l.left("b") }, []pair.Reason{pair.ReasonGrace}, true},
		{"healthy primary", func(l *leader) {
			l.hear("a")
			l.lease("a")
			l.hear("b")
		}, []pair.Reason{pair.ReasonLeaseOutstanding, pair.ReasonPromiseOutstanding}, true},
		{"promise outstanding: the cut is between primary and witness alone", func(l *leader) {
			l.at(over)
			l.says("b", func(r *pair.Report) { r.Promise = ms })
		}, []pair.Reason{pair.ReasonPromiseOutstanding}, true},
		{"mirror not heard by this leader", func(l *leader) { l.elect(); l.after(over) },
			[]pair.Reason{pair.ReasonMirrorSilent, pair.ReasonMirrorNotHeardTerm, pair.ReasonPromiseOutstanding,
				pair.ReasonNotPromotable}, false},
		{"mirror silent for more than a lease", func(l *leader) { l.left("b"); l.at(over + ms) },
			[]pair.Reason{pair.ReasonMirrorSilent}, false},
		{"mirror has not heard this leader's term", func(l *leader) {
			l.at(over)
			l.says("b", func(r *pair.Report) { r.TermHeard--; r.Promise = 0 })
		}, []pair.Reason{pair.ReasonMirrorNotHeardTerm}, false},
		{"mirror has not heard this epoch", func(l *leader) {
			l.apply(pair.Reinstate{})
			l.after(over)
			l.says("b", func(r *pair.Report) { r.Epoch--; r.Promise = 0 })
		}, []pair.Reason{pair.ReasonMirrorNotHeardTerm}, false},
		{"mirror cannot be promoted", func(l *leader) {
			l.at(over)
			l.says("b", func(r *pair.Report) { r.Engine.Promotable, r.Promise = false, 0 })
		}, []pair.Reason{pair.ReasonNotPromotable}, false},
		{"right is sole", func(l *leader) { l.apply(pair.Expose{Host: "a"}); l.at(over); l.left("b") },
			[]pair.Reason{pair.ReasonExposed}, false},
		{"mode is manual, and so the right is sole", func(l *leader) {
			l.apply(pair.SetMode{Mode: pair.ModeManual})
			l.at(over)
			l.left("b")
		}, []pair.Reason{pair.ReasonNotAutomatic, pair.ReasonExposed}, false},
		{"change undecided", func(l *leader) {
			l.wait = true
			l.ask(pair.WishCommand{Body: pair.SetPolicy{Policy: profile("fast")}})
			l.at(over)
			l.left("b")
		}, []pair.Reason{pair.ReasonProcedureUnderWay}, false},
		{"removal under way", func(l *leader) {
			l.must(pair.WishRemove{})
			l.at(over)
			l.left("b")
		}, []pair.Reason{pair.ReasonProcedureUnderWay}, false},
		{"agent is ahead", func(l *leader) {
			l.says("b", func(r *pair.Report) { r.Revision++; r.Promise = 0 })
			l.at(over)
		}, []pair.Reason{pair.ReasonAhead}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			l := armed(t)
			l.lease("a")
			l.hear("b")
			test.to(l)
			v := pair.FailoverVerdict(l.r, l.w, l.now)
			var got []pair.Reason
			for _, p := range v.Preconditions {
				if !p.OK {
					got = append(got, p.Reason)
				}
				if p.Name == "" || p.Detail == "" || p.OK != (p.Reason == pair.ReasonNone) {
					t.Errorf("precondition %+v", p)
				}
			}
			if len(got) != len(test.want) {
				t.Fatalf("got %v, want %v", got, test.want)
			}
			for i := range got {
				if got[i] != test.want[i] {
					t.Errorf("got %v, want %v", got, test.want)
				}
			}
			if v.OK() != (len(got) == 0) || v.Ready() != test.ready {
				t.Errorf("OK %t, ready %t", v.OK(), v.Ready())
			}
			if bad := v.Refusal(); (bad == nil) != v.OK() || bad != nil && bad.Reason != test.want[0] {
				t.Errorf("refusal %v", bad)
			}
		})
	}
}

// drop forgets what is pending, as if it had never been put into the log.
func (l *leader) drop() {
	l.t.Helper()
	if l.pending == nil {
		l.t.Fatal("nothing is pending")
	}
	l.pending = nil
	// Not Dropped: that would decide anew.
	l.w.Pending = pair.Pending{}
}

func TestSwitchoverVerdict(t *testing.T) {
	for _, test := range []struct {
		name string
		to   func(l *leader)
		want pair.Reason
	}{
		{"may begin", func(*leader) {}, pair.ReasonNone},
		{"may begin while paused", func(l *leader) { l.apply(pair.SetMode{Mode: pair.ModeManual}) }, pair.ReasonNone},
		{"may begin while exposed, if the mirror follows", func(l *leader) { l.apply(pair.Expose{Host: "a"}) }, pair.ReasonNone},
		{"primary is silent", func(l *leader) { l.at(3*time.Second + ms); l.hear("b") }, pair.ReasonPrimarySilent},
		{"mirror is silent", func(l *leader) { l.at(3*time.Second + ms); l.hear("a") }, pair.ReasonMirrorSilent},
		{"mirror does not follow", func(l *leader) {
			l.says("b", func(r *pair.Report) { r.Engine.Following = false })
		}, pair.ReasonNotFollowing},
		{"mirror cannot be promoted", func(l *leader) {
			l.says("b", func(r *pair.Report) { r.Engine.Promotable = false })
		}, pair.ReasonNotPromotable},
		{"another change", func(l *leader) { l.must(pair.WishForce{}) }, pair.ReasonProcedureUnderWay},
		{"restored", func(l *leader) { l.apply(pair.Restore{Generation: 1}) }, pair.ReasonForming},
	} {
		t.Run(test.name, func(t *testing.T) {
			l := armed(t)
			test.to(l)
			wantRefusal(t, pair.SwitchoverVerdict(l.r, l.w, l.now).Refusal(), test.want)
			wantRefusal(t, l.ask(pair.WishSwitchover{}), test.want)
		})
	}
	t.Run("to the primary, to a stranger", func(t *testing.T) {
		l := armed(t)
		wantRefusal(t, l.ask(pair.WishSwitchover{Target: "a"}), pair.ReasonAlreadyPrimary)
		wantRefusal(t, l.ask(pair.WishSwitchover{Target: "z"}), pair.ReasonBadSpec)
	})
}

func TestExplainAnswersForEachStage(t *testing.T) {
	for _, test := range []struct {
		name string
		l    func(t *testing.T) *leader
		want int
	}{
		{"forming", newLeader, 1},
		{"ready", armed, 3},
		{"restored", func(t *testing.T) *leader { l := armed(t); l.apply(pair.Restore{Generation: 1}); return l }, 1},
		{"removed", func(t *testing.T) *leader { l := newLeader(t); l.must(pair.WishRemove{}); return l }, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			l := test.l(t)
			got := pair.Explain(l.r, l.w, l.now)
			if len(got) != test.want {
				t.Errorf("got %d verdicts, want %d", len(got), test.want)
			}
			for _, v := range got {
				if v.Question == "" || v.String() == "" || len(v.Preconditions) == 0 {
					t.Errorf("verdict %+v", v)
				}
			}
		})
	}
}

func TestSeenOf(t *testing.T) {
	l := armed(t)
	l.at(700 * ms)
	if r, ago, heard := l.w.SeenOf(l.r, "b", l.now); !heard || ago != 700*ms || r.Host != "b" {
		t.Errorf("got %v, %v, %v", r.Host, ago, heard)
	}
	if _, _, heard := l.w.SeenOf(l.r, "z", l.now); heard {
		t.Error("a stranger was heard")
	}
}

package pair_test

import (
	"slices"
	"testing"
	"time"

	"github.com/witnessd/witnessd/witnessd/pair"
)

// TestFailoverOfAnEngineThatCannotHold: what such an engine may have lost is said, and a strict policy takes nothing
// that the primary did not vouch for.
func TestFailoverOfAnEngineThatCannotHold(t *testing.T) {
	over := 3 * time.Second
	bounded := func(r *pair.Report) { r.Engine.LossBound, r.Promise = 3500*ms, 0 }
	strict := func(r *pair.Report) { bounded(r); r.Engine.NeedsRelease = true }
	for _, test := range []struct {
		name   string
		mirror func(*pair.Report)
		to     func(l *leader)
		want   []pair.Reason
		asked  bool // the precondition is listed
	}{
		{"an engine that holds is not asked", func(r *pair.Report) { r.Promise = 0 }, func(*leader) {}, nil, false},
		{"bounded: promoted, and said", bounded, func(*leader) {}, nil, true},
		{"strict: not without a word", strict, func(*leader) {}, []pair.Reason{pair.ReasonLossNotExcluded}, true},
		{"strict: on the primary's release", strict, func(l *leader) {
			l.says("a", func(r *pair.Report) { r.Released, r.Serving = r.Epoch, false })
		}, nil, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			l := armed(t)
			l.lease("a")
			l.hear("b")
			l.wait = true
			test.to(l)
			l.at(over)
			l.says("b", test.mirror)
			v := pair.FailoverVerdict(l.r, l.w, l.now)
			var got []pair.Reason
			asked := false
			for _, p := range v.Preconditions {
				asked = asked || p.Name == "loss is excluded, or bounded and accepted"
				if !p.OK && p.Reason != pair.ReasonProcedureUnderWay {
					got = append(got, p.Reason)
				}
			}
			if !slices.Equal(got, test.want) || asked != test.asked {
				t.Errorf("got %v, asked %t; want %v, %t", got, asked, test.want, test.asked)
			}
			if bad := len(test.want) > 0; bad == v.Ready() && bad {
				t.Error("ready, although the loss of the primary would not be enough")
			}
		})
	}
}

// TestStrictPairIsNotFailedOverByItself lets the leases of a strict pair run out.
func TestStrictPairIsNotFailedOverByItself(t *testing.T) {
	for _, strict := range []bool{false, true} {
		l := armed(t)
		l.lease("a")
		for d := 500 * ms; d <= 5*time.Second; d += 500 * ms {
			l.at(d)
			l.says("b", func(r *pair.Report) {
				r.Promise = max(0, 3*time.Second-d)
				r.Engine.LossBound, r.Engine.NeedsRelease = 3500*ms, strict
			})
			l.tick()
		}
		if moved := l.r.Primary == "b"; moved == strict {
			t.Errorf("strict %t: primary is %s", strict, l.r.Primary)
		}
	}
}

// TestWatchedPairNeverBegins: its history is written all the same.
func TestWatchedPairNeverBegins(t *testing.T) {
	l := newLeader(t)
	watched := func(r *pair.Report) { r.Engine.Watched, r.Engine.SystemID = true, "mirroring:1" }
	for range 4 {
		l.after(time.Second)
		l.says("a", watched)
		l.says("b", watched)
		l.step(pair.Hooked{Host: "a", Start: "1", Hooks: []pair.Hook{
			{Sequence: 1, Event: "rescue", Command: "SET WITNESS OFF", OK: true, Detail: "witness silent for 10s"},
			{Sequence: 2, Event: "rescue", Command: "SET WITNESS = spare", Detail: "Msg 1426"},
		}})
	}
	if l.r.Stage != pair.StageForming {
		t.Errorf("pair is %v", l.r.Stage)
	}
	reasons := map[pair.Reason]bool{}
	for _, p := range pair.FormVerdict(l.r, l.w, l.now).Preconditions {
		reasons[p.Reason] = true
	}
	if !reasons[pair.ReasonWatched] {
		t.Errorf("reasons %v", reasons)
	}
	var got []string
	for _, f := range l.facts {
		if f.Kind == pair.FactRescued || f.Kind == pair.FactRescueFailed {
			got = append(got, string(f.Kind)+" "+f.Cause)
		}
	}
	want := []string{
		"RESCUED a: SET WITNESS OFF: witness silent for 10s", "RESCUE_FAILED a failed: SET WITNESS = spare: Msg 1426",
	}
	if !slices.Equal(got, want) {
		t.Errorf("history %q, want %q", got, want)
	}
}

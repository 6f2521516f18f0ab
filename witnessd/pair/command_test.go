package pair_test

import (
	"strings"
	"testing"
	"time"

	"github.com/witnessd/witnessd/witnessd/pair"
)

// Named records to apply commands to.
func none() pair.Record    { return pair.Record{} }
func forming() pair.Record { return applied(none(), create()) }
func sole() pair.Record    { return applied(forming(), pair.Begin{}) }
func leased() pair.Record  { return applied(sole(), pair.Arm{Host: "a"}) }
func manual() pair.Record  { return applied(sole(), pair.SetMode{Mode: pair.ModeManual}) }
func removed() pair.Record { return applied(forming(), pair.Remove{Cause: "test"}) }

func restored() pair.Record { return applied(leased(), pair.Restore{Generation: 1}) }

// started is a leased pair in a procedure, moved on to a step.
func started(kind pair.ProcedureKind, step pair.ProcedureStep, accept bool) pair.Record {
	r := applied(leased(), pair.StartProcedure{Procedure: procedure(kind, accept)})
	if step != pair.StepRelease {
		r = applied(r, pair.StepProcedure{ID: "x", Step: step, Timeout: time.Second})
	}
	return r
}

func procedure(kind pair.ProcedureKind, accept bool) pair.Procedure {
	return pair.Procedure{ID: "x", Kind: kind, Step: pair.StepRelease, Epoch: 1, Target: "b", Timeout: time.Second,
		AcceptLoss: accept}
}

func applied(r pair.Record, b pair.Body) pair.Record {
	next, _, err := r.Apply(pair.Command{Pair: "p1", Revision: r.Revision, Term: 1, Body: b}, 1)
	if err != nil {
		panic(err)
	}
	return next
}

func profile(name string) pair.Policy {
	p, ok := pair.ProfilePolicy(name)
	if !ok {
		panic(name)
	}
	return p
}

// TestEachCommand applies each kind of command where it may and where it may not be.
func TestEachCommand(t *testing.T) {
	bad := create()
	bad.Policy.Guard = 0
	c := pair.Member{Host: "c", Instance: "db"}
	fast := profile("fast")
	for _, test := range []struct {
		name string
		to   pair.Record
		body pair.Body
		want pair.Reason // none: accepted
	}{
		{"create", none(), create(), pair.ReasonNone},
		{"create what exists", sole(), create(), pair.ReasonNameTaken},
		{"create with a policy that is not safe", none(), bad, pair.ReasonBadSpec},
		{"create a removed pair", removed(), create(), pair.ReasonRemoved},
		{"begin", forming(), pair.Begin{}, pair.ReasonNone},
		{"begin twice", sole(), pair.Begin{}, pair.ReasonForming},
		{"begin a restored pair", restored(), pair.Begin{}, pair.ReasonForming},
		{"announce", sole(), pair.Announce{Member: pair.Member{Host: "b", Instance: "db", LinkAddress: "b:1"}}, pair.ReasonNone},
		{"announce a stranger", sole(), pair.Announce{Member: c}, pair.ReasonBadSpec},
		{"announce another instance", sole(), pair.Announce{Member: pair.Member{Host: "b", Instance: "x"}}, pair.ReasonBadSpec},
		{"arm", sole(), pair.Arm{Host: "a"}, pair.ReasonNone},
		{"arm again", leased(), pair.Arm{Host: "a"}, pair.ReasonNone},
		{"arm by the mirror", sole(), pair.Arm{Host: "b"}, pair.ReasonNotPrimary},
		{"arm while paused", manual(), pair.Arm{Host: "a"}, pair.ReasonNotAutomatic},
		{"arm while a release is asked", started(pair.KindForced, pair.StepRelease, true), pair.Arm{Host: "a"},
			pair.ReasonProcedureUnderWay},
		{"arm while the new primary comes up", started(pair.KindFailover, pair.StepPromote, false), pair.Arm{Host: "a"},
			pair.ReasonNone},
		{"arm while forming", forming(), pair.Arm{Host: "a"}, pair.ReasonNotPrimary},
		{"arm a pair that is not", none(), pair.Arm{Host: "a"}, pair.ReasonUnknownPair},
		{"expose", leased(), pair.Expose{Host: "a"}, pair.ReasonNone},
		{"expose again", sole(), pair.Expose{Host: "a"}, pair.ReasonNone},
		{"expose by the mirror", leased(), pair.Expose{Host: "b"}, pair.ReasonNotPrimary},
		{"expose while a hand-over is asked", started(pair.KindSwitchover, pair.StepRelease, false), pair.Expose{Host: "a"},
			pair.ReasonNone},
		{"expose while leases are withheld", started(pair.KindForced, pair.StepWithhold, true), pair.Expose{Host: "a"},
			pair.ReasonProcedureUnderWay},
		{"promote", leased(), pair.Promote{To: "b", Procedure: "y"}, pair.ReasonNone},
		{"promote the primary", leased(), pair.Promote{To: "a", Procedure: "y"}, pair.ReasonAlreadyPrimary},
		{"promote a stranger", leased(), pair.Promote{To: "c", Procedure: "y"}, pair.ReasonAlreadyPrimary},
		{"promote in another's procedure", started(pair.KindSwitchover, pair.StepRelease, false),
			pair.Promote{To: "b", Procedure: "y"}, pair.ReasonProcedureUnderWay},
		{"promote in its procedure", started(pair.KindSwitchover, pair.StepRelease, false),
			pair.Promote{To: "b", Procedure: "x"}, pair.ReasonNone},
		{"promote with loss nobody accepted", started(pair.KindForced, pair.StepWithhold, false),
			pair.Promote{To: "b", Procedure: "x", Forced: true}, pair.ReasonLossNotAccepted},
		{"promote with loss without a procedure", sole(), pair.Promote{To: "b", Procedure: "y", Forced: true},
			pair.ReasonLossNotAccepted},
		{"promote with accepted loss", started(pair.KindForced, pair.StepWithhold, true),
			pair.Promote{To: "b", Procedure: "x", Forced: true}, pair.ReasonNone},
		{"promote in a procedure of an older epoch",
			applied(started(pair.KindSwitchover, pair.StepRelease, false), pair.Reinstate{}),
			pair.Promote{To: "b", Procedure: "x"}, pair.ReasonStaleEpoch},
		{"promote while forming", forming(), pair.Promote{To: "b", Procedure: "y"}, pair.ReasonForming},
		{"reinstate", leased(), pair.Reinstate{Cause: "test"}, pair.ReasonNone},
		{"reinstate while forming", forming(), pair.Reinstate{}, pair.ReasonForming},
		{"pause", leased(), pair.SetMode{Mode: pair.ModeManual}, pair.ReasonNone},
		{"pause during a procedure", started(pair.KindSwitchover, pair.StepRelease, false),
			pair.SetMode{Mode: pair.ModeManual}, pair.ReasonProcedureUnderWay},
		{"pause a pair that is not", none(), pair.SetMode{Mode: pair.ModeManual}, pair.ReasonUnknownPair},
		{"pause a removed pair", removed(), pair.SetMode{Mode: pair.ModeManual}, pair.ReasonRemoved},
		{"mode that is none", leased(), pair.SetMode{}, pair.ReasonBadSpec},
		{"policy", leased(), pair.SetPolicy{Policy: fast}, pair.ReasonNone},
		{"policy that is not safe", leased(), pair.SetPolicy{}, pair.ReasonBadSpec},
		{"lower longest lease", applied(leased(), pair.SetPolicy{Policy: fast}), pair.LowerLongest{To: time.Second},
			pair.ReasonNone},
		{"lower longest lease below the policy's", applied(leased(), pair.SetPolicy{Policy: fast}),
			pair.LowerLongest{To: 900 * ms}, pair.ReasonBadSpec},
		{"lower longest lease to what it is", leased(), pair.LowerLongest{To: 3 * time.Second}, pair.ReasonBadSpec},
		{"start a procedure", leased(), pair.StartProcedure{Procedure: procedure(pair.KindForced, false)}, pair.ReasonNone},
		{"start a second one", started(pair.KindForced, pair.StepRelease, false),
			pair.StartProcedure{Procedure: procedure(pair.KindForced, false)}, pair.ReasonProcedureUnderWay},
		{"start one for another epoch", applied(leased(), pair.Reinstate{}),
			pair.StartProcedure{Procedure: procedure(pair.KindForced, false)}, pair.ReasonStaleEpoch},
		{"start one that is none", leased(), pair.StartProcedure{Procedure: pair.Procedure{ID: "x", Epoch: 1}},
			pair.ReasonBadSpec},
		{"start one while restored", restored(), pair.StartProcedure{Procedure: procedure(pair.KindForced, false)},
			pair.ReasonForming},
		{"step", started(pair.KindForced, pair.StepRelease, false), pair.StepProcedure{ID: "x", Step: pair.StepFence},
			pair.ReasonNone},
		{"step of another procedure", started(pair.KindForced, pair.StepRelease, false),
			pair.StepProcedure{ID: "y", Step: pair.StepFence}, pair.ReasonNoProcedure},
		{"step of none", leased(), pair.StepProcedure{ID: "x", Step: pair.StepFence}, pair.ReasonNoProcedure},
		{"end", started(pair.KindForced, pair.StepRelease, false), pair.EndProcedure{ID: "x"}, pair.ReasonNone},
		{"end of another procedure", started(pair.KindForced, pair.StepRelease, false), pair.EndProcedure{ID: "y"},
			pair.ReasonNoProcedure},
		{"replace the mirror", sole(), pair.ReplaceMirror{Member: c}, pair.ReasonNone},
		{"replace the mirror while leased", leased(), pair.ReplaceMirror{Member: c}, pair.ReasonRightSole},
		{"replace the mirror by the primary", sole(), pair.ReplaceMirror{Member: pair.Member{Host: "a", Instance: "db"}},
			pair.ReasonBadSpec},
		{"replace the mirror by a host without a name", sole(), pair.ReplaceMirror{}, pair.ReasonBadSpec},
		{"replace the mirror by a host without an instance", sole(), pair.ReplaceMirror{Member: pair.Member{Host: "c"}},
			pair.ReasonBadSpec},
		{"replace the mirror during a procedure", started(pair.KindRemove, pair.StepUnmanage, false),
			pair.ReplaceMirror{Member: c}, pair.ReasonProcedureUnderWay},
		{"remove while forming", forming(), pair.Remove{}, pair.ReasonNone},
		{"remove without a procedure", sole(), pair.Remove{}, pair.ReasonNoProcedure},
		{"remove in another kind of procedure", started(pair.KindForced, pair.StepRelease, false), pair.Remove{},
			pair.ReasonNoProcedure},
		{"remove", started(pair.KindRemove, pair.StepUnmanage, false), pair.Remove{}, pair.ReasonNone},
		{"restore", leased(), pair.Restore{Generation: 1}, pair.ReasonNone},
		{"restore to the generation there is", restored(), pair.Restore{Generation: 1}, pair.ReasonStaleRevision},
		{"restore a removed pair", removed(), pair.Restore{Generation: 1}, pair.ReasonRemoved},
		{"adopt", restored(), pair.Adopt{Epoch: 5, Primary: "b"}, pair.ReasonNone},
		{"adopt while forming", forming(), pair.Adopt{Epoch: 5, Primary: "b"}, pair.ReasonNone},
		{"adopt what is not restored", leased(), pair.Adopt{Epoch: 5, Primary: "b"}, pair.ReasonRestored},
		{"adopt an epoch that was", restored(), pair.Adopt{Epoch: 1, Primary: "b"}, pair.ReasonRestored},
		{"adopt a stranger", restored(), pair.Adopt{Epoch: 5, Primary: "c"}, pair.ReasonRestored},
		{"note", leased(), pair.Note{Kind: pair.FactWouldFailOver, Cause: "test"}, pair.ReasonNone},
	} {
		t.Run(test.name, func(t *testing.T) {
			before := test.to
			after, facts, err := before.Apply(pair.Command{Pair: "p1", Revision: before.Revision, Term: 1, At: 9, Body: test.body}, 1)
			wantRefusal(t, asRefusal(err), test.want)
			if err != nil {
				if after != before || len(facts) != 0 {
					t.Errorf("a refused command left %+v and %v", after, facts)
				}
				return
			}
			wantRevision(t, before, after, test.body)
			if len(facts) != 1 || facts[0].Revision != after.Revision || facts[0].Epoch != after.Epoch ||
				facts[0].Kind == "" || facts[0].Cause == "" || strings.HasSuffix(facts[0].Cause, ".") {
				t.Errorf("facts %+v", facts)
			}
			_, remove := test.body.(pair.Remove) // no lease for what will be gone, though its epoch stays
			if moves := after.Epoch != before.Epoch; pair.MovesEpoch(test.body) != (moves || remove) {
				t.Errorf("epoch goes from %d to %d, MovesEpoch says %t", before.Epoch, after.Epoch, !moves)
			}
		})
	}
}

func asRefusal(err error) *pair.Refusal {
	if err == nil {
		return nil
	}
	return err.(*pair.Refusal)
}

func wantRevision(t *testing.T, before, after pair.Record, b pair.Body) {
	t.Helper()
	want := before.Revision + 1
	switch b := b.(type) {
	case pair.Note:
		if after != before {
			t.Errorf("a note changed the record to %+v", after)
		}
		want = before.Revision
	case pair.Restore:
		want = pair.NewRevision(b.Generation) + 1
	}
	if after.Revision != want {
		t.Errorf("revision went from %v to %v, want %v", before.Revision, after.Revision, want)
	}
}

// TestWhatACommandChanges looks at the effects that the protocol rests on.
func TestWhatACommandChanges(t *testing.T) {
	for _, test := range []struct {
		name string
		got  pair.Record
		ok   func(r pair.Record) bool
	}{
		{"a new pair is sole and has no epoch", forming(), func(r pair.Record) bool {
			return r.Right == pair.RightSole && r.Epoch == 0 && r.Mirror == "b" && r.LongestLease == 3*time.Second
		}},
		{"the first epoch is 1, sole", sole(), func(r pair.Record) bool { return r.Epoch == 1 && r.Right == pair.RightSole }},
		{"a promotion leaves the right leased", applied(leased(), pair.Promote{To: "b", Procedure: "y"}),
			func(r pair.Record) bool {
				return r.Right == pair.RightLeased && r.Primary == "b" && r.Mirror == "a" && r.Epoch == 2 &&
					r.Procedure.Step == pair.StepPromote && r.Procedure.Kind == pair.KindFailover && r.Procedure.Epoch == 1
			}},
		{"a reinstatement leaves right and hosts", applied(leased(), pair.Reinstate{}), func(r pair.Record) bool {
			return r.Right == pair.RightLeased && r.Primary == "a" && r.Epoch == 2
		}},
		{"a pause makes the right sole", applied(leased(), pair.SetMode{Mode: pair.ModeObserve}), func(r pair.Record) bool {
			return r.Right == pair.RightSole && !r.Armed()
		}},
		{"resuming leaves the right sole", applied(manual(), pair.SetMode{Mode: pair.ModeAutomatic}), func(r pair.Record) bool {
			return r.Right == pair.RightSole
		}},
		{"a restore ends procedures and opens a generation", applied(started(pair.KindForced, pair.StepFence, true),
			pair.Restore{Generation: 4}), func(r pair.Record) bool {
			return r.Stage == pair.StageRestored && r.Procedure == nil && r.Revision.String() == "4.1"
		}},
		{"an adoption is sole", applied(restored(), pair.Adopt{Epoch: 7, Primary: "b"}), func(r pair.Record) bool {
			return r.Stage == pair.StageReady && r.Right == pair.RightSole && r.Primary == "b" && r.Mirror == "a" && r.Epoch == 7
		}},
		{"a new mirror comes with a new epoch, and the primary is to announce itself anew",
			applied(applied(sole(), pair.Announce{Member: pair.Member{Host: "a", Instance: "db", LinkAddress: "a:1"}}),
				pair.ReplaceMirror{Member: pair.Member{Host: "c", Instance: "db"}}), func(r pair.Record) bool {
				a, _ := r.Member("a")
				_, old := r.Member("b")
				return r.Epoch == 2 && r.Mirror == "c" && r.Partner("a") == "c" && !old && a.LinkAddress == ""
			}},
		{"a removed pair keeps its id", removed(), func(r pair.Record) bool {
			return r.Stage == pair.StageRemoved && r.ID == "p1" && r.Right == pair.RightSole
		}},
		{"the outcome of a procedure is kept",
			applied(started(pair.KindForced, pair.StepFence, true), pair.EndProcedure{ID: "x", Reason: pair.ReasonFenceFailed}),
			func(r pair.Record) bool {
				return r.Procedure == nil && r.Last.Procedure.ID == "x" && !r.Last.Done && r.Last.Reason == pair.ReasonFenceFailed
			}},
	} {
		t.Run(test.name, func(t *testing.T) {
			if !test.ok(test.got) {
				t.Errorf("got %+v (procedure %+v)", test.got, test.got.Procedure)
			}
		})
	}
}

// TestRevisionAndTermMustHold is rule R6.
func TestRevisionAndTermMustHold(t *testing.T) {
	r := sole()
	for _, test := range []struct {
		name     string
		revision pair.Revision
		term     pair.Term // of the command
		entry    pair.Term // of the log entry
		body     pair.Body
		want     pair.Reason
	}{
		{"as decided", r.Revision, 4, 4, pair.Arm{Host: "a"}, pair.ReasonNone},
		{"older revision", r.Revision - 1, 4, 4, pair.Arm{Host: "a"}, pair.ReasonStaleRevision},
		{"newer revision", r.Revision + 1, 4, 4, pair.Arm{Host: "a"}, pair.ReasonStaleRevision},
		{"decided in an older term", r.Revision, 3, 4, pair.Arm{Host: "a"}, pair.ReasonStaleTerm},
		{"logged in an older term", r.Revision, 4, 3, pair.Arm{Host: "a"}, pair.ReasonStaleTerm},
		{"a restore has no term", r.Revision, 0, 4, pair.Restore{Generation: 1}, pair.ReasonNone},
		{"a restore has a revision", r.Revision - 1, 0, 4, pair.Restore{Generation: 1}, pair.ReasonStaleRevision},
		{"a note is of a revision too", r.Revision - 1, 4, 4, pair.Note{Kind: pair.FactWouldFailOver}, pair.ReasonStaleRevision},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, _, err := r.Apply(pair.Command{Pair: "p1", Revision: test.revision, Term: test.term, Body: test.body}, test.entry)
			wantRefusal(t, asRefusal(err), test.want)
		})
	}
}

func TestTheWallClockIsNeverSetBack(t *testing.T) {
	r := sole()
	for _, at := range []int64{500, 400, 600} {
		before := r
		var err error
		r, _, err = r.Apply(pair.Command{Pair: "p1", Revision: r.Revision, Term: 1, At: at, Body: pair.Reinstate{}}, 1)
		if err != nil || r.Changed != max(before.Changed, at) || r.EpochChanged != r.Changed {
			t.Errorf("at %d: changed %d after %d, epoch changed %d, %v", at, r.Changed, before.Changed, r.EpochChanged, err)
		}
	}
}

type unknownBody struct{ pair.Arm }

func TestUnknownCommandEndsTheNode(t *testing.T) {
	defer func() {
		if said, _ := recover().(string); !strings.Contains(said, "upgrade this node") {
			t.Errorf("recovered %q", said)
		}
	}()
	r := sole()
	_, _, _ = r.Apply(pair.Command{Pair: "p1", Revision: r.Revision, Term: 1, Body: unknownBody{}}, 1)
}

package pair_test

import (
	"errors"
	"testing"

	"github.com/witnessd/witnessd/witnessd/pair"
)

const term = pair.Term(3)

// ready is a pair in its working life, sole, at revision 2 and epoch 1.
func ready(t *testing.T) pair.Record {
	t.Helper()
	r := must(t, pair.Record{}, pair.Create{
		Name: "payroll", Primary: "a", Mode: pair.ModeAutomatic, Policy: pair.DefaultPolicy(),
		Members: [2]pair.Member{{Host: "a", Instance: "db"}, {Host: "b", Instance: "db"}},
	})
	return must(t, r, pair.Begin{})
}

// must applies a body that is accepted.
func must(t *testing.T, r pair.Record, b pair.Body) pair.Record {
	t.Helper()
	next, facts, err := r.Apply(pair.Command{Pair: "id", Revision: r.Revision, Term: term, At: 5, Body: b}, term)
	if err != nil {
		t.Fatalf("%T: %v", b, err)
	}
	if len(facts) != 1 || facts[0].Kind == "" || facts[0].Cause == "" {
		t.Errorf("%T: facts %+v", b, facts)
	}
	if _, note := b.(pair.Note); !note && next.Revision != r.Revision+1 {
		t.Errorf("%T: revision %v became %v", b, r.Revision, next.Revision)
	}
	return next
}

func TestApplyComparesAndSets(t *testing.T) {
	r := ready(t)
	for name, c := range map[string]struct {
		command pair.Command
		entry   pair.Term
		want    pair.Reason
	}{
		"as decided":       {pair.Command{Revision: r.Revision, Term: term}, term, pair.ReasonNone},
		"older revision":   {pair.Command{Revision: r.Revision - 1, Term: term}, term, pair.ReasonStaleRevision},
		"later revision":   {pair.Command{Revision: r.Revision + 1, Term: term}, term, pair.ReasonStaleRevision},
		"of a later entry": {pair.Command{Revision: r.Revision, Term: term}, term + 1, pair.ReasonStaleTerm},
	} {
		t.Run(name, func(t *testing.T) {
			c.command.Pair, c.command.Body = "id", pair.Expose{Host: "a", Cause: "test"}
			next, _, err := r.Apply(c.command, c.entry)
			if got := reason(err); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
			if err != nil && next != r {
				t.Error("a refused command changed the record")
			}
		})
	}
}

func reason(err error) pair.Reason {
	if refusal, ok := errors.AsType[*pair.Refusal](err); ok {
		return refusal.Reason
	}
	return pair.ReasonNone
}

func TestApplyRefuses(t *testing.T) {
	base := ready(t)
	armed := must(t, base, pair.Arm{Host: "a"})
	paused := must(t, base, pair.SetMode{Mode: pair.ModeManual})
	switching := must(t, armed, pair.StartProcedure{Procedure: pair.Procedure{
		ID: "p", Kind: pair.KindSwitchover, Step: pair.StepRelease, Epoch: 1, Target: "b"}})
	for name, c := range map[string]struct {
		record pair.Record
		body   pair.Body
		want   pair.Reason
	}{
		"arm by the mirror":               {base, pair.Arm{Host: "b"}, pair.ReasonNotPrimary},
		"arm while paused":                {paused, pair.Arm{Host: "a"}, pair.ReasonNotAutomatic},
		"arm during a switchover":         {switching, pair.Arm{Host: "a"}, pair.ReasonProcedureUnderWay},
		"expose by the mirror":            {armed, pair.Expose{Host: "b"}, pair.ReasonNotPrimary},
		"promote the primary":             {armed, pair.Promote{To: "a", Procedure: "x"}, pair.ReasonAlreadyPrimary},
		"promote beside a procedure":      {switching, pair.Promote{To: "b", Procedure: "x"}, pair.ReasonProcedureUnderWay},
		"promote with loss nobody took":   {armed, pair.Promote{To: "b", Procedure: "x", Forced: true}, pair.ReasonLossNotAccepted},
		"procedure beside a procedure":    {switching, pair.StartProcedure{}, pair.ReasonProcedureUnderWay},
		"procedure of another epoch":      {armed, pair.StartProcedure{Procedure: pair.Procedure{ID: "q", Kind: pair.KindSwitchover, Step: pair.StepRelease, Epoch: 9}}, pair.ReasonStaleEpoch},
		"step of an ended procedure":      {armed, pair.StepProcedure{ID: "p"}, pair.ReasonNoProcedure},
		"end of an ended procedure":       {armed, pair.EndProcedure{ID: "p"}, pair.ReasonNoProcedure},
		"pause during a procedure":        {switching, pair.SetMode{Mode: pair.ModeManual}, pair.ReasonProcedureUnderWay},
		"mode that is none":               {base, pair.SetMode{}, pair.ReasonBadSpec},
		"policy that breaks the argument": {base, pair.SetPolicy{}, pair.ReasonBadSpec},
		"longest lease below the policy":  {base, pair.LowerLongest{To: 1}, pair.ReasonBadSpec},
		"another mirror while leased":     {armed, pair.ReplaceMirror{Member: pair.Member{Host: "c", Instance: "db"}}, pair.ReasonRightSole},
		"the primary as its mirror":       {base, pair.ReplaceMirror{Member: pair.Member{Host: "a", Instance: "db"}}, pair.ReasonBadSpec},
		"begin twice":                     {base, pair.Begin{}, pair.ReasonForming},
		"create twice":                    {base, pair.Create{Name: "payroll"}, pair.ReasonNameTaken},
		"remove without a procedure":      {base, pair.Remove{}, pair.ReasonNoProcedure},
		"adopt without a restore":         {base, pair.Adopt{Epoch: 9, Primary: "a"}, pair.ReasonRestored},
		"announce by a stranger":          {base, pair.Announce{Member: pair.Member{Host: "c"}}, pair.ReasonBadSpec},
	} {
		t.Run(name, func(t *testing.T) {
			command := pair.Command{Pair: "id", Revision: c.record.Revision, Term: term, Body: c.body}
			next, facts, err := c.record.Apply(command, term)
			if got := reason(err); got != c.want {
				t.Errorf("got %q (%v), want %q", got, err, c.want)
			}
			if next != c.record || facts != nil {
				t.Error("a refused command left something behind")
			}
		})
	}
}

func TestPromoteKeepsTheRightAndRaisesTheEpoch(t *testing.T) {
	r := must(t, ready(t), pair.Arm{Host: "a"})
	next := must(t, r, pair.Promote{To: "b", Procedure: "p", Cause: "test"})
	if next.Primary != "b" || next.Mirror != "a" || next.Epoch != 2 || next.Right != pair.RightLeased {
		t.Errorf("got %+v", next)
	}
	if p := next.Procedure; p == nil || p.Kind != pair.KindFailover || p.Step != pair.StepPromote {
		t.Errorf("procedure %+v", p)
	}
	if r.Procedure != nil {
		t.Error("the record before was changed in place")
	}
}

func TestResumeDoesNotArm(t *testing.T) {
	r := must(t, ready(t), pair.Arm{Host: "a"})
	r = must(t, r, pair.SetMode{Mode: pair.ModeManual})
	if r.Right != pair.RightSole {
		t.Errorf("paused with right %v", r.Right)
	}
	if r = must(t, r, pair.SetMode{Mode: pair.ModeAutomatic}); r.Right != pair.RightSole {
		t.Errorf("resumed with right %v: only the primary's own request arms", r.Right)
	}
}

func TestTombstoneTakesNothing(t *testing.T) {
	r := must(t, ready(t), pair.StartProcedure{Procedure: pair.Procedure{
		ID: "p", Kind: pair.KindRemove, Step: pair.StepUnmanage, Epoch: 1}})
	r = must(t, r, pair.Remove{Cause: "test"})
	_, _, err := r.Apply(pair.Command{Pair: "id", Revision: r.Revision, Term: term, Body: pair.Note{}}, term)
	if reason(err) != pair.ReasonRemoved {
		t.Errorf("got %v", err)
	}
}

func TestLongerPolicyCountsAtOnceAndShorterDoesNot(t *testing.T) {
	patient, _ := pair.ProfilePolicy("patient")
	fast, _ := pair.ProfilePolicy("fast")
	r := must(t, ready(t), pair.SetPolicy{Policy: patient})
	if r.LongestLease != patient.Lease {
		t.Errorf("longest lease %v", r.LongestLease)
	}
	if r = must(t, r, pair.SetPolicy{Policy: fast}); r.LongestLease != patient.Lease {
		t.Errorf("longest lease %v: a long one may still be outstanding", r.LongestLease)
	}
	if r = must(t, r, pair.LowerLongest{To: fast.Lease}); r.LongestLease != fast.Lease {
		t.Errorf("longest lease %v", r.LongestLease)
	}
}

func TestRestoreOpensAGeneration(t *testing.T) {
	r := must(t, ready(t), pair.Arm{Host: "a"})
	restored, _, err := r.Apply(pair.Command{Pair: "id", Revision: r.Revision, Body: pair.Restore{Generation: 1}}, 0)
	if err != nil {
		t.Fatal(err)
	}
	if restored.Revision <= r.Revision || restored.Revision.Generation() != 1 || restored.Stage != pair.StageRestored {
		t.Errorf("revision %v, stage %v", restored.Revision, restored.Stage)
	}
	adopted := must(t, restored, pair.Adopt{Epoch: 8, Primary: "b", Cause: "test"})
	if adopted.Epoch != 8 || adopted.Primary != "b" || adopted.Mirror != "a" || adopted.Right != pair.RightSole {
		t.Errorf("got %+v", adopted)
	}
}

// Whatever bytes make a command out of, Apply neither panics nor lowers what may only rise.
func FuzzApply(f *testing.F) {
	f.Add([]byte{1, 2, 3, 4, 5, 6, 7, 8})
	f.Fuzz(func(t *testing.T, input []byte) {
		r := ready(t)
		for i := 0; i+1 < len(input); i += 2 {
			c := pair.Command{Pair: "id", Revision: r.Revision - pair.Revision(input[i]%2), Term: term,
				Body: anyBody(input[i+1], r)}
			next, _, err := r.Apply(c, term)
			if err != nil {
				continue
			}
			if next.Revision < r.Revision || next.Epoch < r.Epoch || next.LongestLease < next.Policy.Lease {
				t.Fatalf("%T took %+v to %+v", c.Body, r, next)
			}
			r = next
		}
	})
}

func anyBody(b byte, r pair.Record) pair.Body {
	id, host := "p", []pair.HostID{"a", "b", "c"}[b%3]
	if r.Procedure != nil {
		id = r.Procedure.ID
	}
	fast, _ := pair.ProfilePolicy("fast")
	bodies := []pair.Body{
		pair.Arm{Host: host}, pair.Expose{Host: host}, pair.Promote{To: host, Procedure: id, Forced: b%2 == 0},
		pair.Reinstate{}, pair.SetMode{Mode: pair.Mode(b % 4)}, pair.SetPolicy{Policy: fast},
		pair.LowerLongest{To: fast.Lease}, pair.EndProcedure{ID: id}, pair.Remove{}, pair.Begin{},
		pair.StepProcedure{ID: id, Step: pair.ProcedureStep(b % 6)},
		pair.StartProcedure{Procedure: pair.Procedure{ID: "p", Kind: pair.ProcedureKind(b % 6), Epoch: r.Epoch, AcceptLoss: true}},
		pair.ReplaceMirror{Member: pair.Member{Host: host, Instance: "db"}}, pair.Restore{Generation: uint64(b)},
		pair.Adopt{Epoch: r.Epoch + pair.Epoch(b%3), Primary: host}, pair.Note{Kind: pair.FactWouldFailOver},
	}
	return bodies[int(b)%len(bodies)]
}

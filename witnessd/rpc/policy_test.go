package rpc

import (
	"context"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	witnessv1 "github.com/witnessd/witnessd/proto/gen/witness/v1"
	"github.com/witnessd/witnessd/witnessd/pair"
)

// overtaken is a court in which something happens between the first look at a pair and what is asked on it.
type overtaken struct {
	*quickCourt
	between func()
}

func (o *overtaken) Office() (Office, <-chan struct{}) { return o, o.done }

func (o *overtaken) Look(ctx context.Context, nameOrID string) ([]Live, error) {
	all, err := o.quickCourt.Look(ctx, nameOrID)
	if f := o.between; f != nil {
		o.between = nil
		f()
	}
	return all, err
}

// TestPolicyOvertaken: a policy of which only a part is asked for keeps what the pair has then, not what it had before.
func TestPolicyOvertaken(t *testing.T) {
	b := newBench(t)
	patient, _ := pair.ProfilePolicy("patient")
	now := func() pair.Record { r, _ := b.ledger.PairByName("sales"); return r }
	apply := func(body pair.Body) {
		if r := b.court.apply(now().ID, body); r.Refusal != nil {
			t.Fatal(r.Refusal)
		}
	}
	toPatient := func() { apply(pair.SetPolicy{Policy: patient}) }
	again := func() { // another pair of that name, of the same revision
		spec := pair.Create{Name: "sales", Primary: "a", Mode: pair.ModeAutomatic, Policy: patient, Members: now().Members}
		apply(pair.StartProcedure{Procedure: pair.Procedure{ID: "p1", Kind: pair.KindRemove, Step: pair.StepUnmanage,
			Epoch: now().Epoch, Target: "b", Timeout: time.Minute}})
		apply(pair.Remove{Cause: "test"})
		for _, body := range []pair.Body{spec, pair.Begin{}, pair.Arm{Host: "a"}} {
			if r := b.court.apply("id-sales-2", body); r.Refusal != nil {
				t.Fatal(r.Refusal)
			}
		}
	}
	for _, c := range []struct {
		what    string
		between func()
		expect  func(before pair.Revision) pair.Revision
		reason  pair.Reason
	}{
		{"any revision", toPatient, func(pair.Revision) pair.Revision { return 0 }, ""},
		{"the revision before", toPatient, func(r pair.Revision) pair.Revision { return r }, pair.ReasonStaleRevision},
		{"the revision to come", toPatient, func(r pair.Revision) pair.Revision { return r + 1 }, pair.ReasonStaleRevision},
		{"another pair of that name", again, func(pair.Revision) pair.Revision { return 0 }, ""},
	} {
		b.reset(t)
		court := &overtaken{b.court, c.between}
		options := b.court.options()
		options.Court = court
		before := now()
		_, err := adminService{Server: New(options)}.SetPolicy(t.Context(), &witnessv1.SetPolicyRequest{
			Pair: "sales", Policy: &witnessv1.Policy{ReleaseTimeout: durationpb.New(17 * time.Second)},
			ExpectedRevision: uint64(c.expect(before.Revision)),
		})
		want := patient
		if c.reason == "" {
			want.ReleaseTimeout, want.Profile = 17*time.Second, customProfile
		} else if c.expect(before.Revision) != before.Revision {
			want = before.Policy // refused at the first look, before anything happened
		}
		if court.between != nil {
			t.Errorf("%s: nothing happened in between", c.what)
		}
		if got := now().Policy; reasonOf(err) != c.reason || (c.what != "the revision to come" && got != want) {
			t.Errorf("%s: refused as %q (%v), policy %+v; want %q, %+v", c.what, reasonOf(err), err, got, c.reason, want)
		}
	}
}

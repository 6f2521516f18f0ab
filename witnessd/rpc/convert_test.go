package rpc

import (
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	witnessv1 "github.com/witnessd/witnessd/proto/gen/witness/v1"
	"github.com/witnessd/witnessd/witnessd/ledger"
	"github.com/witnessd/witnessd/witnessd/pair"
)

// fill gives every field of a value something other than zero.
func fill(v reflect.Value, r *rand.Rand) {
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), r)
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				fill(v.Field(i), r)
			}
		}
	case reflect.Array:
		for i := range v.Len() {
			fill(v.Index(i), r)
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		for i := range v.Len() {
			fill(v.Index(i), r)
		}
	case reflect.String:
		v.SetString(string(rune('a'+r.IntN(26))) + "-word")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int:
		v.SetInt(2) // an enum's; each has at least two values
	case reflect.Int64:
		v.SetInt(1 + r.Int64N(1e12)*1e6) // a duration, an instant, or milliseconds
	case reflect.Uint64:
		v.SetUint(1 + r.Uint64N(1e15))
	default:
		panic("no value for " + v.Type().String())
	}
}

func filled[T any](r *rand.Rand) T {
	var v T
	fill(reflect.ValueOf(&v).Elem(), r)
	return v
}

// missing names the fields of a message, and below, that are not set.
func missing(m protoreflect.Message, except ...string) []string {
	var names []string
	for i := range m.Descriptor().Fields().Len() {
		f := m.Descriptor().Fields().Get(i)
		name := string(m.Descriptor().Name()) + "." + string(f.Name())
		skip := false
		for _, e := range except {
			skip = skip || e == name
		}
		switch {
		case skip:
		case !m.Has(f):
			names = append(names, name)
		case f.Message() != nil && strings.HasPrefix(string(f.Message().FullName()), "google."):
		case f.IsList() && f.Message() != nil:
			for j := range m.Get(f).List().Len() {
				names = append(names, missing(m.Get(f).List().Get(j).Message(), except...)...)
			}
		case f.Message() != nil:
			names = append(names, missing(m.Get(f).Message(), except...)...)
		}
	}
	return names
}

// TestEveryFieldIsConverted fails when a field is added to a message and to no conversion.
func TestEveryFieldIsConverted(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	live := filled[Live](r)
	live.Record.Stage, live.Record.Right = pair.StageReady, pair.RightSole
	live.Record.Primary, live.Record.Mirror = live.Record.Members[0].Host, live.Record.Members[1].Host
	live.Now = live.Watch.LeaseUntil - 5
	for i := range live.Watch.Seen {
		live.Watch.Seen[i].At = live.Now - 1
	}
	answer := filled[Answer](r)
	for i := range answer.Pairs {
		answer.Pairs[i].Mute = false
		answer.Pairs[i].Record.Members[0].Host = "here"
	}
	verdict := filled[pair.Verdict](r)
	asOf := &witnessv1.AsOf{
		Node: "n", Leader: "l", Term: 1, Index: 1, Stale: true, Age: durationpb.New(1), At: timestamppb.New(time.Unix(1, 0)),
	}
	for name, m := range map[string]struct {
		message proto.Message
		except  []string
	}{
		// A pair that is blocked is not ready. Reports do not say everything again that their host state says.
		"pair": {fromLive(live, asOf), []string{"Pair.failover_ready", "Precondition.ok", "Precondition.primary_loss",
			"PairReport.hooks"}},
		"answer":  {fromAnswer("here", answer), []string{"PairAnswer.mute"}},
		"verdict": {fromVerdict(verdict), nil},
		"event":   {fromEvent(filled[ledger.Event](r)), nil},
		"hello":   {fromAgent(filled[Agent](r)), nil},
		"outcome": {fromOutcome(new(filled[pair.Outcome](r))), nil},
	} {
		if got := missing(m.message.ProtoReflect(), m.except...); len(got) > 0 {
			t.Errorf("%s: %v are not converted", name, got)
		}
	}
}

// TestReportsRoundTrip: what an agent says arrives as it was said.
func TestReportsRoundTrip(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 100 {
		want := filled[Report](r)
		// These are the session's and the heartbeat's.
		want.Said.Host, want.Said.Start, want.Said.Sequence, want.Said.TermHeard = "", "", 0, 0
		m := fromReport(want)
		if names := missing(m.ProtoReflect()); len(names) > 0 {
			t.Fatalf("%v are not converted", names)
		}
		got, bad := toReport(m)
		if bad != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("got %+v, %v\nwant %+v", got, bad, want)
		}
		agent := filled[Agent](r)
		if got, bad := toAgent(fromAgent(agent)); bad != nil || got != agent {
			t.Fatalf("got %+v, %v\nwant %+v", got, bad, agent)
		}
		policy := filled[pair.Policy](r)
		policy.Profile = customProfile
		if got, bad := toPolicy(pair.DefaultPolicy(), fromPolicy(policy)); bad != nil || got != policy {
			t.Fatalf("got %+v, %v\nwant %+v", got, bad, policy)
		}
		member := filled[pair.Member](r)
		if got := toMember(fromMember(member)); got != member {
			t.Fatalf("got %+v, want %+v", got, member)
		}
	}
}

// TestMuteAnswersSayNothing: what may not be believed is not sent (rule R15).
func TestMuteAnswersSayNothing(t *testing.T) {
	p := filled[PairAnswer](rand.New(rand.NewPCG(5, 6)))
	m := fromPairAnswer("here", p)
	want := &witnessv1.PairAnswer{
		Pair: m.GetPair(), Name: m.GetName(), Instance: m.GetInstance(), Mute: true, Refused: string(p.Refused),
	}
	if !proto.Equal(m, want) {
		t.Errorf("got %v, want %v", m, want)
	}
}

// TestEnumsHaveTheSameNumbers: conversion is by number, so both sides must call it the same.
func TestEnumsHaveTheSameNumbers(t *testing.T) {
	check := func(names map[int32]string, prefix string, word func(int) string) {
		t.Helper()
		for n, name := range names {
			got := strings.ToUpper(strings.ReplaceAll(word(int(n)), " ", "_"))
			want := strings.TrimPrefix(name, prefix)
			if n == 0 {
				continue
			}
			if got != want && got != want+"_FAILOVER" {
				t.Errorf("%s is %q in package pair", name, word(int(n)))
			}
		}
		if got := word(len(names)); got != "unspecified" {
			t.Errorf("%s%s is not in the schema", prefix, got)
		}
	}
	check(witnessv1.Right_name, "RIGHT_", func(i int) string { return pair.Right(i).String() })
	check(witnessv1.Mode_name, "MODE_", func(i int) string { return pair.Mode(i).String() })
	check(witnessv1.Stage_name, "STAGE_", func(i int) string { return pair.Stage(i).String() })
	check(witnessv1.ProcedureKind_name, "PROCEDURE_KIND_", func(i int) string { return pair.ProcedureKind(i).String() })
	check(witnessv1.ProcedureStep_name, "PROCEDURE_STEP_", func(i int) string { return pair.ProcedureStep(i).String() })
	if witnessv1.Request_REQUEST_ARM != witnessv1.Request(pair.RequestArm) ||
		witnessv1.Request_REQUEST_EXPOSE != witnessv1.Request(pair.RequestExpose) || len(witnessv1.Request_name) != 3 {
		t.Error("requests have other numbers in package pair")
	}
}

func TestPolicy(t *testing.T) {
	fast, _ := pair.ProfilePolicy("fast")
	custom := pair.DefaultPolicy()
	custom.Profile, custom.Lease = "custom", 4*time.Second
	guarded := custom
	guarded.Guard = time.Second
	seconds := func(n int) *durationpb.Duration { return durationpb.New(time.Duration(n) * time.Second) }
	for name, tt := range map[string]struct {
		base pair.Policy
		is   *witnessv1.Policy
		want pair.Policy
	}{
		"nothing said":            {pair.DefaultPolicy(), nil, pair.DefaultPolicy()},
		"a profile":               {pair.DefaultPolicy(), &witnessv1.Policy{Profile: "fast"}, fast},
		"a duration":              {pair.DefaultPolicy(), &witnessv1.Policy{Lease: seconds(4)}, custom},
		"over a profile":          {fast, &witnessv1.Policy{Profile: "default", Lease: seconds(4)}, custom},
		"what was custom stays":   {custom, &witnessv1.Policy{Profile: "custom"}, custom},
		"what is a profile again": {pair.DefaultPolicy(), &witnessv1.Policy{Lease: seconds(3)}, pair.DefaultPolicy()},
		"custom and said so":      {custom, &witnessv1.Policy{Profile: "custom", Guard: seconds(1)}, guarded},
	} {
		if got, bad := toPolicy(tt.base, tt.is); bad != nil || got != tt.want {
			t.Errorf("%s: got %+v, %v\nwant %+v", name, got, bad, tt.want)
		}
	}
	if _, bad := toPolicy(fast, &witnessv1.Policy{Profile: "hasty"}); bad == nil || bad.Reason != pair.ReasonBadSpec {
		t.Errorf("unknown profile: %v", bad)
	}
}

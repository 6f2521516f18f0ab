package link

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/durationpb"
	"pgregory.net/rapid"

	"github.com/witnessd/witnessd/agent/hold"
	witnessv1 "github.com/witnessd/witnessd/proto/gen/witness/v1"
)

// What the other side's schema has and this side does not take in, by message and field, with the reason. The
// tests below fail for any other field that a conversion forgets.
var notTaken = map[string]string{
	"witness.v1.Member.engine":          "an agent knows its engine; the partner's must be the same",
	"witness.v1.Policy.profile":         "only the lengths bind",
	"witness.v1.Policy.release_timeout": "bounds a procedure, which the leader counts",
	"witness.v1.Policy.promote_timeout": "bounds a procedure, which the leader counts",
	"witness.v1.Procedure.id":           "for those who wait for the procedure",
	"witness.v1.Procedure.target":       "the epoch that follows names it",
	"witness.v1.Procedure.timeout":      "the leader counts it",
	"witness.v1.Procedure.accept_loss":  "the witness weighs it",
	"witness.v1.Procedure.host_off":     "the witness weighs it",
	"witness.v1.Procedure.by":           "for people",
	"witness.v1.Procedure.reason":       "for people",
	"witness.v1.Procedure.started":      "for people",
}

// fill puts something other than zero into every field of a value.
func fill(v reflect.Value) {
	switch v.Kind() {
	case reflect.Struct:
		for _, field := range v.Fields() {
			fill(field)
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(v.Index(0))
	case reflect.String:
		v.SetString("x")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(1)
	case reflect.Uint64:
		v.SetUint(1)
	default:
		panic("a kind of field that this test does not know: " + v.Kind().String())
	}
}

// empty names the fields of a message, and of those in it, that are not set.
func empty(m protoreflect.Message) []string {
	var names []string
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		switch {
		case !m.Has(f):
			names = append(names, string(f.FullName()))
		case f.IsList() && f.Message() != nil:
			names = append(names, empty(m.Get(f).List().Get(0).Message())...)
		case f.Message() != nil && f.Message().FullName() != "google.protobuf.Duration":
			names = append(names, empty(m.Get(f).Message())...)
		}
	}
	return names
}

// TestHeartbeatIsWhole: no field of a heartbeat is forgotten on the way out.
func TestHeartbeatIsWhole(t *testing.T) {
	var h Heartbeat
	fill(reflect.ValueOf(&h).Elem())
	if forgotten := empty(heartbeatRequest(h).GetHeartbeat().ProtoReflect()); len(forgotten) > 0 {
		t.Errorf("not converted: %v", forgotten)
	}
}

// TestSaysAreWhole: nor of what partners tell each other, either way.
func TestSaysAreWhole(t *testing.T) {
	var says hold.Says
	fill(reflect.ValueOf(&says).Elem())
	m := partnerSays([]hold.Says{says})[0]
	if forgotten := empty(m.ProtoReflect()); len(forgotten) > 0 {
		t.Errorf("not converted: %v", forgotten)
	}
	if got := partnerSays(saysOf([]*witnessv1.PartnerSays{m}))[0]; !proto.Equal(got, m) {
		t.Errorf("there and back: got %v, want %v", got, m)
	}
}

// onlyHere are the fields of a look at the database that mean something on its own host only.
func onlyHere(field string) bool {
	return field == "Engine.Began" || field == "Engine.Run" || field == "Engine.Empty" ||
		field == "Engine.Stalled"
}

// leaves calls visit with each field of a struct, and of those in it, that is not a struct itself.
func leaves(v reflect.Value, path string, visit func(field string, v reflect.Value)) {
	for f, inner := range v.Fields() {
		name := strings.TrimPrefix(path+"."+f.Name, ".")
		if f.Anonymous {
			name = path
		}
		if inner.Kind() == reflect.Struct {
			leaves(inner, name, visit)
		} else {
			visit(name, inner)
		}
	}
}

// TestNoFieldOfAReportIsForgotten: nor may what hold begins to report stay here unnoticed.
func TestNoFieldOfAReportIsForgotten(t *testing.T) {
	var p PairReport
	nothing := pairReport(p)
	leaves(reflect.ValueOf(&p).Elem(), "", func(field string, v reflect.Value) {
		fill(v)
		if told := !proto.Equal(pairReport(p), nothing); told == onlyHere(field) {
			t.Errorf("%s told: %t", field, told)
		}
		v.SetZero()
	})
}

// TestNoFieldOfSaysIsForgotten is the same for what partners tell each other, there and back.
func TestNoFieldOfSaysIsForgotten(t *testing.T) {
	var says hold.Says
	fill(reflect.ValueOf(&says).Elem())
	got := saysOf(partnerSays([]hold.Says{says}))[0]
	leaves(reflect.ValueOf(got), "", func(field string, v reflect.Value) {
		if v.IsZero() != onlyHere(field) {
			t.Errorf("%s came back: %t", field, !v.IsZero())
		}
	})
}

// TestNoFieldOfTheRecordIsForgotten: what hold wants to hear of the witness is there.
func TestNoFieldOfTheRecordIsForgotten(t *testing.T) {
	got, err := pairAnswer(goodAnswer(), 7)
	if err != nil {
		t.Fatal(err)
	}
	leaves(reflect.ValueOf(got.Says), "", func(field string, v reflect.Value) {
		known := field != "Sent" && field != "Forming" // the sender's own; and this pair is ready
		if v.IsZero() == known {
			t.Errorf("%s is %v", field, v)
		}
	})
}

// goodAnswer is an answer about a pair in which everything is set and in order.
func goodAnswer() *witnessv1.PairAnswer {
	return &witnessv1.PairAnswer{
		Pair: "p-1", Name: "sales", Instance: "main", Stage: witnessv1.Stage_STAGE_READY,
		Revision: 9, Epoch: 4, Primary: "db1", Mirror: "db2",
		Right: witnessv1.Right_RIGHT_LEASED, Mode: witnessv1.Mode_MODE_AUTOMATIC,
		Policy: &witnessv1.Policy{
			Profile: "default", Heartbeat: durationpb.New(500 * time.Millisecond),
			Lease: durationpb.New(3 * time.Second), Guard: durationpb.New(300 * time.Millisecond),
			MirrorTimeout:  durationpb.New(2 * time.Second),
			ReleaseTimeout: durationpb.New(time.Minute), PromoteTimeout: durationpb.New(time.Minute),
		},
		LongestLease: durationpb.New(5 * time.Second),
		Procedure: &witnessv1.Procedure{
			Id: "x", Kind: witnessv1.ProcedureKind_PROCEDURE_KIND_FORCED,
			Step: witnessv1.ProcedureStep_PROCEDURE_STEP_RELEASE, Epoch: 4, Target: "db2",
		},
		Partner: &witnessv1.Member{
			Host: "db2", Instance: "main", LinkAddress: "db2:7412", ServiceAddress: "db2:5432",
			Engine: "postgres", SystemId: "77",
		},
		Lease: durationpb.New(3 * time.Second), Refused: "NO", Released: 3,
	}
}

// TestPairAnswerIsTakenInWhole changes one field of an answer after the other: each must make a difference,
// but for those that are left out for a reason.
func TestPairAnswerIsTakenInWhole(t *testing.T) {
	want, err := pairAnswer(goodAnswer(), 7)
	if err != nil || want.Mute {
		t.Fatalf("good answer: %+v, %v", want, err)
	}
	left := map[string]bool{}
	var visit func(d protoreflect.MessageDescriptor, path []protoreflect.FieldDescriptor)
	visit = func(d protoreflect.MessageDescriptor, path []protoreflect.FieldDescriptor) {
		for i := range d.Fields().Len() {
			f := d.Fields().Get(i)
			if inner := f.Message(); inner != nil && inner.ParentFile() == witnessv1.File_witness_v1_pair_proto {
				visit(inner, append(path, f))
				continue
			}
			m := goodAnswer()
			at := m.ProtoReflect()
			for _, step := range path {
				at = at.Mutable(step).Message()
			}
			change(at, f)
			got, _ := pairAnswer(m, 7)
			same := reflect.DeepEqual(got, want)
			if _, known := notTaken[string(f.FullName())]; known {
				left[string(f.FullName())] = true
				if !same {
					t.Errorf("%s makes a difference", f.FullName())
				}
			} else if same {
				t.Errorf("%s is not converted", f.FullName())
			}
		}
	}
	visit(goodAnswer().ProtoReflect().Descriptor(), nil)
	for name := range notTaken {
		if !left[name] {
			t.Errorf("%s does not exist: take it off the list", name)
		}
	}
}

// change gives a field another value that is valid.
func change(m protoreflect.Message, f protoreflect.FieldDescriptor) {
	switch f.Kind() {
	case protoreflect.StringKind:
		m.Set(f, protoreflect.ValueOfString(m.Get(f).String()+"2"))
	case protoreflect.BoolKind:
		m.Set(f, protoreflect.ValueOfBool(!m.Get(f).Bool()))
	case protoreflect.Uint64Kind:
		m.Set(f, protoreflect.ValueOfUint64(m.Get(f).Uint()+1))
	case protoreflect.EnumKind:
		other := protoreflect.EnumNumber(1)
		if m.Get(f).Enum() == other {
			other = 2
		}
		m.Set(f, protoreflect.ValueOfEnum(other))
	case protoreflect.MessageKind: // a duration or a time: both have seconds and nanoseconds
		inner := m.Mutable(f).Message()
		nanos := inner.Descriptor().Fields().ByName("nanos")
		inner.Set(nanos, protoreflect.ValueOfInt32(int32(inner.Get(nanos).Int())+1))
	default:
		panic(fmt.Sprintf("a kind of field that this test does not know: %v", f.Kind()))
	}
}

func TestSaysThereAndBack(t *testing.T) {
	length := rapid.Custom(func(t *rapid.T) time.Duration { return time.Duration(rapid.Int64().Draw(t, "ns")) })
	engine := rapid.Custom(func(t *rapid.T) hold.Engine {
		return hold.Engine{
			Running: rapid.Bool().Draw(t, "running"), Role: hold.Role(rapid.IntRange(0, 2).Draw(t, "role")),
			SystemID: rapid.String().Draw(t, "system id"), Timeline: rapid.Uint64().Draw(t, "timeline"),
			Position:       rapid.Uint64().Draw(t, "position"),
			MirrorAttached: rapid.Bool().Draw(t, "attached"), MirrorFlushed: rapid.Uint64().Draw(t, "flushed"),
			Commits:   hold.Commits(rapid.IntRange(0, 2).Draw(t, "commits")),
			Following: rapid.Bool().Draw(t, "following"), Promotable: rapid.Bool().Draw(t, "promotable"),
			NotPromotable: rapid.StringN(0, -1, maxText).Draw(t, "why not"),
			Step:          rapid.StringN(0, -1, maxText).Draw(t, "step"),
			Replayed:      rapid.Uint64().Draw(t, "replayed"),
		}
	})
	says := rapid.Custom(func(t *rapid.T) hold.Says {
		return hold.Says{
			Pair: rapid.String().Draw(t, "pair"), Epoch: hold.Epoch(rapid.Uint64().Draw(t, "epoch")),
			Primary:  rapid.String().Draw(t, "primary"),
			Revision: hold.Revision(rapid.Uint64().Draw(t, "revision")),
			Longest:  length.Draw(t, "longest"), Released: hold.Epoch(rapid.Uint64().Draw(t, "released")),
			ReleasedEverything: rapid.Bool().Draw(t, "everything"), AskLease: rapid.Bool().Draw(t, "ask"),
			Lease: length.Draw(t, "lease"), Refused: rapid.StringN(0, -1, maxText).Draw(t, "refused"),
			ReleaseAsked: hold.Epoch(rapid.Uint64().Draw(t, "release asked")), Engine: engine.Draw(t, "engine"),
			GateAddress: rapid.StringN(0, -1, maxAddress).Draw(t, "gate"), Serving: rapid.Bool().Draw(t, "serving"),
		}
	})
	rapid.Check(t, func(t *rapid.T) {
		want := rapid.SliceOf(says).Draw(t, "says")
		raw, err := proto.Marshal(&witnessv1.LinkRequest{Pairs: partnerSays(want)})
		if err != nil {
			t.Fatal(err)
		}
		var m witnessv1.LinkRequest
		if err := proto.Unmarshal(raw, &m); err != nil {
			t.Fatal(err)
		}
		if got := saysOf(m.GetPairs()); len(got)+len(want) > 0 && !reflect.DeepEqual(got, want) {
			t.Errorf("got %+v, want %+v", got, want)
		}
	})
}

// TestReportKeepsItsValues reads a report back field by field.
func TestReportKeepsItsValues(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := PairReport{OtherRight: rapid.Bool().Draw(t, "other"), FenceLevel: rapid.String().Draw(t, "fence")}
		p.Pair = rapid.String().Draw(t, "pair")
		p.Epoch = hold.Epoch(rapid.Uint64().Draw(t, "epoch"))
		p.Promise = time.Duration(rapid.Int64().Draw(t, "promise"))
		p.ServesFor = time.Duration(rapid.Int64Min(-1).Draw(t, "serves for"))
		p.Request = hold.Request(rapid.IntRange(0, 2).Draw(t, "request"))
		m := pairReport(p)
		if m.GetPair() != p.Pair || m.GetEpoch() != uint64(p.Epoch) || m.GetOtherRight() != p.OtherRight ||
			m.GetPromise().AsDuration() != p.Promise || m.GetServesFor().AsDuration() != p.ServesFor ||
			int(m.GetRequest()) != int(p.Request) || m.GetFenceLevel() != p.FenceLevel {
			t.Errorf("%+v became %v", p, m)
		}
	})
}

// TestEndlessRight: "no end" must not become "no right" on the way.
func TestEndlessRight(t *testing.T) {
	m := pairReport(PairReport{Report: hold.Report{Serving: true, ServesFor: -1}})
	if got := m.GetServesFor().AsDuration(); got >= 0 {
		t.Errorf("got %v, want something negative", got)
	}
}

// TestAsks is the whole table of what procedures ask; what is not in it asks nothing.
func TestAsks(t *testing.T) {
	want := map[string]hold.Ask{
		"SWITCHOVER RELEASE": hold.AskHandOver,
		"FORCED RELEASE":     hold.AskRelease,
		"FORCED FENCE":       hold.AskRelease,
		"FORCED WITHHOLD":    hold.AskWithhold,
		"REMOVE UNMANAGE":    hold.AskUnmanage,
	}
	for kind := range witnessv1.ProcedureKind_name {
		for step := range witnessv1.ProcedureStep_name {
			k, s := witnessv1.ProcedureKind(kind), witnessv1.ProcedureStep(step)
			got, epoch, err := ask(&witnessv1.Procedure{Kind: k, Step: s, Epoch: 6})
			if wrong := kind == 0 || step == 0; wrong != (err != nil) {
				t.Errorf("%v %v: error %v", k, s, err)
			}
			name := strings.TrimPrefix(k.String(), "PROCEDURE_KIND_") + " " +
				strings.TrimPrefix(s.String(), "PROCEDURE_STEP_")
			if got != want[name] || epoch != 6 {
				t.Errorf("%s asks %v of epoch %d, want %v of 6", name, got, epoch, want[name])
			}
		}
	}
	if got, epoch, err := ask(nil); got != hold.AskNothing || epoch != 0 || err != nil {
		t.Errorf("no procedure: %v, %d, %v", got, epoch, err)
	}
}

// TestMute: a pair of which something was not understood says nothing, and an error says what.
func TestMute(t *testing.T) {
	tests := []struct {
		name   string
		change func(m *witnessv1.PairAnswer)
		want   string // of the error; "" for none
	}{
		{"the witness says so", func(m *witnessv1.PairAnswer) { m.Mute = true }, ""},
		{"mute, and the rest is nonsense", func(m *witnessv1.PairAnswer) { m.Mute, m.Stage = true, 50 }, ""},
		{"restored", func(m *witnessv1.PairAnswer) { m.Stage = witnessv1.Stage_STAGE_RESTORED }, ""},
		{"removed", func(m *witnessv1.PairAnswer) { m.Stage = witnessv1.Stage_STAGE_REMOVED }, ""},
		{"no stage", func(m *witnessv1.PairAnswer) { m.Stage = 0 }, "stage STAGE_UNSPECIFIED"},
		{"new stage", func(m *witnessv1.PairAnswer) { m.Stage = 50 }, "stage 50"},
		{"no right", func(m *witnessv1.PairAnswer) { m.Right = 0 }, "right RIGHT_UNSPECIFIED"},
		{"new right", func(m *witnessv1.PairAnswer) { m.Right = 50 }, "right 50"},
		{"no mode", func(m *witnessv1.PairAnswer) { m.Mode = 0 }, "mode MODE_UNSPECIFIED"},
		{"new mode", func(m *witnessv1.PairAnswer) { m.Mode = 50 }, "mode 50"},
		{"new kind", func(m *witnessv1.PairAnswer) { m.Procedure.Kind = 50 }, "procedure kind 50"},
		{"new step", func(m *witnessv1.PairAnswer) { m.Procedure.Step = 50 }, "procedure step 50"},
		{"forming with an epoch", func(m *witnessv1.PairAnswer) { m.Stage = 1 }, "epoch 4 while forming is true"},
		{"ready without an epoch", func(m *witnessv1.PairAnswer) { m.Epoch = 0 }, "epoch 0 while forming is false"},
		{"no primary", func(m *witnessv1.PairAnswer) { m.Primary = "" }, "epoch 4 has no primary"},
		{"no policy", func(m *witnessv1.PairAnswer) { m.Policy = nil }, "policy with heartbeat 0s"},
		{"no guard", func(m *witnessv1.PairAnswer) { m.Policy.Guard = nil }, "guard 0s"},
		{
			"a guard as long as the lease",
			func(m *witnessv1.PairAnswer) { m.Policy.Guard = m.Policy.Lease }, "lease 3s, guard 3s",
		},
		{"no longest lease", func(m *witnessv1.PairAnswer) { m.LongestLease = nil }, "the longest is 0s"},
		{
			"a lease beyond the longest",
			func(m *witnessv1.PairAnswer) { m.Lease = durationpb.New(6 * time.Second) }, "lease of 6s, the longest is 5s",
		},
		{
			"a lease that ended before it began",
			func(m *witnessv1.PairAnswer) { m.Lease = durationpb.New(-1) }, "lease is -1ns",
		},
		{
			"a lease longer than time",
			func(m *witnessv1.PairAnswer) { m.Lease = &durationpb.Duration{Seconds: 1 << 62} }, "lease is 2562047h",
		},
		{
			"a primary of many letters",
			func(m *witnessv1.PairAnswer) { m.Primary = strings.Repeat("x", maxName+1) }, "the primary is 129 bytes",
		},
		{
			"an address of many letters",
			func(m *witnessv1.PairAnswer) { m.Partner.LinkAddress = strings.Repeat("x", maxAddress+1) }, "address",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := goodAnswer()
			tt.change(m)
			got, err := pairAnswer(m, 7)
			if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
			want := PairAnswer{Pair: "p-1", Name: "sales", Instance: "main", Mute: true}
			want.Says = hold.WitnessSays{Term: 7, Name: "sales", Refused: "NO"}
			if tt.want != "" {
				want.Says.Refused = RefusedNotUnderstood
			}
			if got != want {
				t.Errorf("got %+v, want %+v", got, want)
			}
		})
	}
}

// TestAnswerWithoutNames: what cannot be called by a name is left out, and the rest of the answer stands.
func TestAnswerWithoutNames(t *testing.T) {
	long := goodAnswer()
	long.Pair = strings.Repeat("x", maxName+1)
	m := &witnessv1.Answer{
		Sequence: 1, Term: 2, Pairs: []*witnessv1.PairAnswer{nil, long, goodAnswer()},
		Removed: []string{"", "p-9", long.Pair},
	}
	got, odd := answerOf(m)
	if len(got.Pairs) != 1 || got.Pairs[0].Pair != "p-1" || !reflect.DeepEqual(got.Removed, []string{"p-9"}) {
		t.Errorf("got %+v", got)
	}
	if len(odd) != 4 {
		t.Errorf("told %v, want four things", odd)
	}
}

// TestTotal feeds the conversions with any message that the wire can carry.
func TestTotal(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := &witnessv1.Answer{}
		random(t, m.ProtoReflect(), 3)
		answer, odd := answerOf(m)
		for i, p := range answer.Pairs {
			if !p.Mute && (p.Says.Lease < 0 || p.Says.Lease > p.Says.Longest || p.Says.Timing.Guard <= 0) {
				t.Errorf("pair %d is not mute: %+v", i, p)
			}
		}
		_ = odd
		r := &witnessv1.LinkRequest{}
		random(t, r.ProtoReflect(), 3)
		says := saysOf(r.GetPairs())
		if checkPairs(r.GetPairs()) == nil {
			for _, s := range says {
				if s.Lease < 0 || s.Longest < 0 || s.Pair == "" {
					t.Errorf("passed: %+v", s)
				}
			}
		}
		_ = partnerSays(says)
	})
}

// random sets some fields of a message to anything.
func random(t *rapid.T, m protoreflect.Message, depth int) {
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		if !rapid.Bool().Draw(t, "set") || depth == 0 && f.Message() != nil {
			continue
		}
		switch {
		case f.IsList() && f.Message() != nil:
			l := m.Mutable(f).List()
			random(t, l.AppendMutable().Message(), depth-1)
		case f.IsList():
			m.Mutable(f).List().Append(scalar(t, f))
		case f.Message() != nil:
			random(t, m.Mutable(f).Message(), depth-1)
		default:
			m.Set(f, scalar(t, f))
		}
	}
}

func scalar(t *rapid.T, f protoreflect.FieldDescriptor) protoreflect.Value {
	switch f.Kind() {
	case protoreflect.StringKind:
		return protoreflect.ValueOfString(rapid.String().Draw(t, "string"))
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(rapid.Bool().Draw(t, "bool"))
	case protoreflect.Uint64Kind:
		return protoreflect.ValueOfUint64(rapid.Uint64().Draw(t, "uint64"))
	case protoreflect.Int64Kind:
		return protoreflect.ValueOfInt64(rapid.Int64().Draw(t, "int64"))
	case protoreflect.Int32Kind:
		return protoreflect.ValueOfInt32(rapid.Int32().Draw(t, "int32"))
	case protoreflect.EnumKind:
		return protoreflect.ValueOfEnum(protoreflect.EnumNumber(rapid.Int32Range(-1, 7).Draw(t, "enum")))
	default:
		panic(fmt.Sprintf("a kind of field that this test does not know: %v", f.Kind()))
	}
}

// TestText: a database's words are in whatever encoding it likes, and as many as it likes.
func TestText(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := string(rapid.SliceOfN(rapid.Byte(), 0, 3*maxText).Draw(t, "bytes"))
		got := text(s)
		if !utf8.ValidString(got) || len(got) > maxText {
			t.Errorf("%d bytes became %q", len(s), got)
		}
	})
	if got, want := text("x"+strings.Repeat("é", maxText)), "x"+strings.Repeat("é", maxText/2-1); got != want {
		t.Errorf("cut to %d bytes, want %d whole letters", len(got), maxText/2)
	}
	latin := "connexion refus\xe9e"
	m := heartbeatRequest(Heartbeat{Pairs: []PairReport{{Report: hold.Report{
		Complaint: latin, Engine: hold.Engine{NotPromotable: latin, SystemID: latin},
	}}}})
	if _, err := proto.Marshal(m); err != nil {
		t.Errorf("a heartbeat with words in Latin-1 cannot be sent: %v", err)
	}
}

func TestPace(t *testing.T) {
	var p pace
	for i := range 100 {
		d := p.delay(false, false)
		longest := min(maxDelay, minDelay<<min(i+1, 20))
		if d < longest/2 || d >= longest {
			t.Errorf("failure %d: %v, want from %v to %v", i+1, d, longest/2, longest)
		}
	}
	if d := p.delay(true, false); d >= 2*minDelay {
		t.Errorf("after it was up for a while: %v", d)
	}
	if d := p.delay(true, true); d < refusedDelay {
		t.Errorf("after a refusal: %v", d)
	}
}

package ledger

import (
	"go/ast"
	"go/parser"
	"go/token"
	"reflect"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"pgregory.net/rapid"

	logv1 "github.com/witnessd/witnessd/proto/gen/witnesslog/v1"
	"github.com/witnessd/witnessd/witnessd/pair"
)

// bodies has one of each body that the log can carry.
func bodies() []pair.Body {
	return []pair.Body{
		pair.Create{}, pair.Announce{}, pair.Begin{}, pair.Arm{}, pair.Expose{}, pair.Promote{}, pair.Reinstate{},
		pair.SetMode{}, pair.SetPolicy{}, pair.LowerLongest{}, pair.StartProcedure{}, pair.StepProcedure{},
		pair.EndProcedure{}, pair.ReplaceMirror{}, pair.Remove{}, pair.Adopt{}, pair.Note{},
	}
}

// makeConfig limits the words to their values, zero included.
func makeConfig() rapid.MakeConfig {
	return rapid.MakeConfig{Types: map[reflect.Type]*rapid.Generator[any]{
		reflect.TypeFor[pair.Right]():         word[pair.Right](),
		reflect.TypeFor[pair.Mode]():          word[pair.Mode](),
		reflect.TypeFor[pair.Stage]():         word[pair.Stage](),
		reflect.TypeFor[pair.ProcedureKind](): word[pair.ProcedureKind](),
		reflect.TypeFor[pair.ProcedureStep](): word[pair.ProcedureStep](),
	}}
}

func word[D interface {
	~int
	String() string
}]() *rapid.Generator[any] {
	values := words[D]()
	return rapid.Custom(func(t *rapid.T) any {
		return D(rapid.IntRange(0, len(values)).Draw(t, "word"))
	})
}

// words lists the valid values of an enum of package pair, which are named from 1 on.
func words[D interface {
	~int
	String() string
}]() []string {
	var names []string
	for v := D(1); v.String() != "unspecified"; v++ {
		names = append(names, v.String())
	}
	return names
}

func TestRoundTrip(t *testing.T) {
	t.Run("record", func(t *testing.T) {
		records := rapid.MakeCustom[pair.Record](makeConfig())
		rapid.Check(t, func(t *rapid.T) { roundTripRecord(t, records.Draw(t, "record")) })
	})
	t.Run("event", func(t *testing.T) {
		events := rapid.MakeCustom[Event](makeConfig())
		rapid.Check(t, func(t *rapid.T) { roundTripEvent(t, events.Draw(t, "event")) })
	})
	t.Run("node", func(t *testing.T) {
		nodes := rapid.Make[Node]()
		rapid.Check(t, func(t *rapid.T) { roundTripNode(t, nodes.Draw(t, "node")) })
	})
	cfg := makeConfig()
	for _, b := range []*rapid.Generator[pair.Body]{
		body[pair.Create](cfg), body[pair.Announce](cfg), body[pair.Arm](cfg), body[pair.Expose](cfg),
		body[pair.Promote](cfg), body[pair.Reinstate](cfg), body[pair.SetMode](cfg), body[pair.SetPolicy](cfg),
		body[pair.LowerLongest](cfg), body[pair.StartProcedure](cfg), body[pair.StepProcedure](cfg),
		body[pair.EndProcedure](cfg), body[pair.ReplaceMirror](cfg), body[pair.Remove](cfg), body[pair.Adopt](cfg),
		body[pair.Note](cfg),
	} {
		t.Run(reflect.TypeOf(b.Example()).Name(), func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				roundTripCommand(t, pair.Command{
					Pair: pair.ID(rapid.String().Draw(t, "id")), Revision: pair.Revision(rapid.Uint64().Draw(t, "revision")),
					Term: pair.Term(rapid.Uint64().Draw(t, "term")), At: rapid.Int64().Draw(t, "at"), Body: b.Draw(t, "body"),
				})
			})
		})
	}
}

func body[B pair.Body](cfg rapid.MakeConfig) *rapid.Generator[pair.Body] {
	return rapid.Map(rapid.MakeCustom[B](cfg), func(b B) pair.Body { return b })
}

// reporter is what testing.T and rapid.T have in common here.
type reporter interface {
	Helper()
	Fatalf(format string, args ...any)
}

// viaBytes writes a message and reads it again.
func viaBytes[M proto.Message](t reporter, m, empty M) M {
	t.Helper()
	if err := unmarshal(marshal(nil, m), empty); err != nil {
		t.Fatalf("%v", err)
	}
	return empty
}

func same(t reporter, d decoder, got, want any) {
	t.Helper()
	if d.err != nil {
		t.Fatalf("%v in %+v", d.err, want)
	}
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("got  %+v\nwant %+v", got, want)
	}
}

func roundTripRecord(t reporter, want pair.Record) {
	t.Helper()
	var d decoder
	got := d.record(viaBytes(t, fromRecord(want), &logv1.Pair{}))
	same(t, d, got, want)
}

func roundTripEvent(t reporter, want Event) {
	t.Helper()
	same(t, decoder{}, *toEvent(viaBytes(t, fromEvent(&want), &logv1.Event{})), want)
}

func roundTripNode(t reporter, want Node) {
	t.Helper()
	same(t, decoder{}, toNode(viaBytes(t, fromNode(want), &logv1.Node{})), want)
}

func roundTripCommand(t reporter, want pair.Command) {
	t.Helper()
	entry, err := decodeEntry(EncodeCommand(want))
	if err != nil {
		t.Fatalf("%v", err)
	}
	var d decoder
	got := d.command(entry.GetCommand())
	same(t, d, got, want)
}

// TestEveryFieldIsConverted gives each field of the domain a value of its own. A field that the codec
// forgets comes back zero.
func TestEveryFieldIsConverted(t *testing.T) {
	roundTripRecord(t, filled[pair.Record](t))
	roundTripEvent(t, filled[Event](t))
	roundTripNode(t, filled[Node](t))
	for _, b := range bodies() {
		v := reflect.New(reflect.TypeOf(b)).Elem()
		fill(t, v, new(int))
		want := pair.Command{Pair: "id", Revision: 1, Term: 2, At: 3}
		want.Body, _ = reflect.TypeAssert[pair.Body](v)
		roundTripCommand(t, want)
	}
	if got := reflect.TypeFor[pair.Command]().NumField(); got != 5 {
		t.Errorf("pair.Command has %d fields, this test knows 5", got)
	}
}

func filled[T any](t *testing.T) (v T) {
	fill(t, reflect.ValueOf(&v).Elem(), new(int))
	return v
}

// fill sets everything in v to values that are not zero and, but for words and bools, all different.
func fill(t *testing.T, v reflect.Value, n *int) {
	*n++
	switch v.Kind() {
	case reflect.Struct:
		for _, field := range v.Fields() {
			fill(t, field, n)
		}
	case reflect.Array:
		for i := range v.Len() {
			fill(t, v.Index(i), n)
		}
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(t, v.Elem(), n)
	case reflect.String:
		v.SetString(strings.Repeat("x", *n))
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int: // only words are of this kind
		v.SetInt(2)
	case reflect.Int64:
		v.SetInt(int64(*n))
	case reflect.Uint64:
		v.SetUint(uint64(*n))
	default:
		t.Fatalf("no value for a field of type %v", v.Type())
	}
}

// TestEveryProtoFieldIsConverted goes the other way: a field that the codec forgets is missing after
// decoding and encoding.
func TestEveryProtoFieldIsConverted(t *testing.T) {
	var d decoder
	pairMessage := &logv1.Pair{}
	fillProto(pairMessage.ProtoReflect())
	sameProto(t, fromRecord(d.record(pairMessage)), pairMessage)
	event := &logv1.Event{}
	fillProto(event.ProtoReflect())
	sameProto(t, fromEvent(toEvent(event)), event)
	node := &logv1.Node{}
	fillProto(node.ProtoReflect())
	sameProto(t, fromNode(toNode(node)), node)

	choices := (&logv1.PairCommand{}).ProtoReflect().Descriptor().Oneofs().ByName("body").Fields()
	if choices.Len() != len(bodies()) {
		t.Errorf("the log format has %d bodies, the codec %d", choices.Len(), len(bodies()))
	}
	for i := range choices.Len() {
		command := &logv1.PairCommand{Pair: "id", Revision: 1, Term: 2, AtMs: 3}
		sub := command.ProtoReflect().Mutable(choices.Get(i)).Message()
		fillProto(sub)
		sameProto(t, fromCommand(d.command(command)), command)
	}
	if d.err != nil {
		t.Error(d.err)
	}
}

func sameProto(t *testing.T, got, want proto.Message) {
	t.Helper()
	if !proto.Equal(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
}

func fillProto(m protoreflect.Message) {
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		switch f := fields.Get(i); {
		case f.IsList(): // only members
			list := m.Mutable(f).List()
			for range 2 {
				fillProto(list.AppendMutable().Message())
			}
		case f.Message() != nil:
			fillProto(m.Mutable(f).Message())
		case f.Kind() == protoreflect.StringKind:
			m.Set(f, protoreflect.ValueOfString(string(f.FullName())))
		case f.Kind() == protoreflect.BoolKind:
			m.Set(f, protoreflect.ValueOfBool(true))
		case f.Kind() == protoreflect.EnumKind:
			m.Set(f, protoreflect.ValueOfEnum(2))
		case f.Kind() == protoreflect.Int64Kind:
			m.Set(f, protoreflect.ValueOfInt64(int64(i+1)))
		default:
			m.Set(f, protoreflect.ValueOfUint64(uint64(i+1)))
		}
	}
}

// TestEveryBodyIsKnown reads the bodies from the source of package pair.
func TestEveryBodyIsKnown(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "../pair/command.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, decl := range file.Decls {
		if f, ok := decl.(*ast.FuncDecl); ok && f.Name.Name == "body" {
			want = append(want, f.Recv.List[0].Type.(*ast.Ident).Name)
		}
	}
	got := []string{"Restore"} // an entry of its own
	for _, b := range bodies() {
		got = append(got, reflect.TypeOf(b).Name())
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("bodies are %v, the log knows %v", want, got)
	}
}

// TestWordsHaveTheirNumbers holds the two sides' enums together by name, so that a word put in between or
// moved is found before it changes the meaning of a log.
func TestWordsHaveTheirNumbers(t *testing.T) {
	for _, test := range []struct {
		prefix string
		words  []string
		names  map[int32]string
	}{
		{"RIGHT_", words[pair.Right](), logv1.Right_name},
		{"MODE_", words[pair.Mode](), logv1.Mode_name},
		{"STAGE_", words[pair.Stage](), logv1.Stage_name},
		{"PROCEDURE_KIND_", words[pair.ProcedureKind](), logv1.ProcedureKind_name},
		{"PROCEDURE_STEP_", words[pair.ProcedureStep](), logv1.ProcedureStep_name},
	} {
		if len(test.names) != len(test.words)+1 {
			t.Errorf("%s: %d numbers for %d words", test.prefix, len(test.names), len(test.words))
		}
		for i, w := range test.words {
			want := test.prefix + strings.ToUpper(strings.ReplaceAll(w, " ", "_"))
			if got := test.names[int32(i+1)]; got != want {
				t.Errorf("number %d is %s, the word is %s", i+1, got, want)
			}
		}
	}
}

// TestFormatHasNoMapsAndNoScalarLists keeps to what eachMessage and mendText can walk.
func TestFormatHasNoMapsAndNoScalarLists(t *testing.T) {
	messages := logv1.File_witnesslog_v1_log_proto.Messages()
	for i := range messages.Len() {
		fields := messages.Get(i).Fields()
		for j := range fields.Len() {
			f := fields.Get(j)
			if f.IsMap() || f.IsList() && f.Message() == nil || f.Kind() == protoreflect.BytesKind {
				t.Errorf("%s cannot be walked", f.FullName())
			}
		}
	}
}

func TestTextThatIsNotUTF8IsMended(t *testing.T) {
	n := newNode(t)
	n.ready("id", "sales")
	n.must("id", pair.StartProcedure{Procedure: pair.Procedure{ID: "p", Kind: pair.KindSwitchover,
		Step: pair.StepRelease, Epoch: 1, Target: "beta", Reason: "a\xff"}})
	n.must("id", pair.EndProcedure{ID: "p", Detail: "database said \xc3\x28"})
	r, _ := n.Pair("id")
	if r.Last.Detail != "database said \uFFFD(" || r.Last.Procedure.Reason != "a\uFFFD" {
		t.Errorf("got %q and %q", r.Last.Detail, r.Last.Procedure.Reason)
	}
	restored(t, n.image())
}

func TestWhatTheLogCannotCarryPanicsAtTheProposer(t *testing.T) {
	arm := pair.Arm{Host: "alpha"}
	wantPanic(t, func() { EncodeCommand(pair.Command{}) }, "has no number in the log format")
	wantPanic(t, func() { EncodeCommand(pair.Command{Body: &arm}) }, "*pair.Arm has no number in the log format")
	wantPanic(t, func() { EncodeCommand(pair.Command{Body: pair.Restore{Generation: 1}}) }, "use EncodeRestore")
	wantPanic(t, func() { EncodeCommand(pair.Command{Body: pair.SetMode{Mode: 99}}) }, "pair.Mode 99 has no number")
}

// TestNewerEntriesStopTheNode is what a rolling upgrade relies on: nothing is skipped.
func TestNewerEntriesStopTheNode(t *testing.T) {
	n := newNode(t)
	n.ready("id", "sales")
	before := n.image()
	arm := EncodeCommand(n.command("id", pair.Arm{Host: "alpha"}))
	mode := fromCommand(n.command("id", pair.SetMode{Mode: pair.ModeManual}))
	mode.GetSetMode().Mode = 77
	nested := fromCommand(n.command("id", create("x")))
	nested.GetCreate().GetMembers()[1].ProtoReflect().SetUnknown([]byte{0xfa, 0x3f, 0x00})
	bodyless := &logv1.Entry{Body: &logv1.Entry_Command{Command: &logv1.PairCommand{Pair: "id"}}}
	three := fromCommand(n.command("id2", create("x")))
	three.GetCreate().Members = append(three.GetCreate().Members, &logv1.Member{})
	for name, data := range map[string][]byte{
		"empty":             {},
		"newer format":      append([]byte{format + 1}, arm[1:]...),
		"older format":      append([]byte{0}, arm[1:]...),
		"no protobuf":       {format, 0xff, 0xff, 0xff},
		"cut short":         arm[:len(arm)-1],
		"no body":           {format},
		"new kind of entry": {format, 0xfa, 0x3f, 0x00},
		"new field":         append(slices.Clone(arm), 0xfa, 0x3f, 0x00),
		"new nested field":  encodeEntry(&logv1.Entry{Body: &logv1.Entry_Command{Command: nested}}),
		"new body":          encodeEntry(bodyless),
		"new word":          encodeEntry(&logv1.Entry{Body: &logv1.Entry_Command{Command: mode}}),
		"three hosts":       encodeEntry(&logv1.Entry{Body: &logv1.Entry_Command{Command: three}}),
	} {
		t.Run(name, func(t *testing.T) {
			wantPanic(t, func() { n.Apply(100, 3, data) }, "log entry 100: ", ": upgrade this node")
		})
	}
	if got := n.image(); !slices.Equal(got, before) {
		t.Error("an entry that was not understood changed something")
	}
}

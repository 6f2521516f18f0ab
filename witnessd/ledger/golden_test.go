package ledger

import (
	"bytes"
	"encoding/binary"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"google.golang.org/protobuf/proto"

	logv1 "github.com/witnessd/witnessd/proto/gen/witnesslog/v1"
)

var update = flag.Bool("update", false, "write the golden files of this release anew")

// The golden files are a log and the snapshot that it makes. Each release keeps those of all before it, and
// writes its own only if the format has grown; a file that was released is never changed.
const (
	goldenLog      = "testdata/v1/log.bin"
	goldenSnapshot = "testdata/v1/snapshot.bin"
)

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(m.Run())
}

func TestGoldenFilesReplay(t *testing.T) {
	if *update {
		writeGolden(t)
	}
	replayed := New()
	kinds := map[reflect.Type]bool{}
	for _, e := range readLog(t, goldenLog) {
		entry, err := decodeEntry(e.data)
		if err != nil {
			t.Fatalf("entry %d: %v", e.index, err)
		}
		kinds[reflect.TypeOf(entry.GetBody())] = true
		if c := entry.GetCommand(); c != nil {
			var d decoder
			command := d.command(c)
			kinds[reflect.TypeOf(command.Body)] = true
			if again := EncodeCommand(command); !bytes.Equal(again, e.data) {
				t.Errorf("entry %d: %T is written in another way now", e.index, command.Body)
			}
		}
		replayed.Apply(e.index, e.term, e.data)
	}
	if want := len(bodies()) + entryKinds(); len(kinds) != want {
		t.Errorf("the golden log has %d kinds of entries and bodies, the format has %d", len(kinds), want)
	}

	file, err := os.ReadFile(goldenSnapshot)
	if err != nil {
		t.Fatal(err)
	}
	l := restored(t, file)
	if !bytes.Equal(image(t, l), file) {
		t.Error("the golden snapshot is written in another way now")
	}
	sameState(t, replayed, l)
}

// sameState compares all but the wording of events, which a release may improve.
func sameState(t *testing.T, got, want *Ledger) {
	t.Helper()
	if got.AppliedIndex() != want.AppliedIndex() || got.Generation() != want.Generation() ||
		!reflect.DeepEqual(got.Nodes(), want.Nodes()) {
		t.Errorf("replayed to %d, generation %d, nodes %v", got.AppliedIndex(), got.Generation(), got.Nodes())
	}
	if len(got.state.pairs) != len(want.state.pairs) {
		t.Errorf("replayed to %d pairs, want %d", len(got.state.pairs), len(want.state.pairs))
	}
	for id := range want.state.pairs {
		a, _ := got.Pair(id)
		b, _ := want.Pair(id)
		if !proto.Equal(fromRecord(a), fromRecord(b)) {
			t.Errorf("replayed to\n%v, want\n%v", fromRecord(a), fromRecord(b))
		}
	}
	a, b := got.Events(EventFilter{}), want.Events(EventFilter{})
	if len(a) != len(b) {
		t.Fatalf("replayed to %d events, want %d", len(a), len(b))
	}
	for i := range a {
		a[i].Fact.Cause, b[i].Fact.Cause = "", ""
		if a[i] != b[i] {
			t.Errorf("replayed to event %+v, want %+v", a[i], b[i])
		}
	}
}

func entryKinds() int {
	return (&logv1.Entry{}).ProtoReflect().Descriptor().Oneofs().ByName("body").Fields().Len()
}

func writeGolden(t *testing.T) {
	t.Helper()
	n := newNode(t)
	n.life()
	var out []byte
	for _, e := range n.log {
		out = binary.AppendUvarint(out, e.index)
		out = binary.AppendUvarint(out, e.term)
		out = binary.AppendUvarint(out, uint64(len(e.data)))
		out = append(out, e.data...)
	}
	for name, data := range map[string][]byte{goldenLog: out, goldenSnapshot: n.image()} {
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func readLog(t *testing.T, name string) (entries []logged) {
	t.Helper()
	file, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	for r := bytes.NewReader(file); r.Len() > 0; {
		var numbers [3]uint64
		for i := range numbers {
			if numbers[i], err = binary.ReadUvarint(r); err != nil {
				t.Fatal(err)
			}
		}
		e := logged{index: numbers[0], term: numbers[1], data: make([]byte, numbers[2])}
		if _, err := r.Read(e.data); err != nil {
			t.Fatal(err)
		}
		entries = append(entries, e)
	}
	return entries
}

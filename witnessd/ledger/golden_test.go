package ledger

import (
	"bytes"
	"encoding/binary"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	logv1 "github.com/witnessd/witnessd/proto/gen/witnesslog/v1"
)

var add = flag.String("add", "", "write golden files of this release into testdata/NAME, which must not be there yet")

// Each directory of testdata holds a log and the snapshot that it makes, as a release wrote them. Every later
// release must read them, for they are what is on the disks of those who upgrade: a directory is added, and
// then never changed or removed. Its life() is the log's author, so a new body goes there first; then
//
//	go test ./witnessd/ledger -run TestGoldenFiles -add v2
const (
	golden         = "testdata"
	goldenLog      = "log.bin"
	goldenSnapshot = "snapshot.bin"
)

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(m.Run())
}

func TestGoldenFiles(t *testing.T) {
	if *add != "" {
		writeGolden(t, filepath.Join(golden, *add))
	}
	all, err := filepath.Glob(filepath.Join(golden, "v*"))
	if err != nil || len(all) == 0 {
		t.Fatalf("no golden files (%v)", err)
	}
	kinds := map[string]bool{}
	for _, dir := range all {
		t.Run(filepath.Base(dir), func(t *testing.T) { replayGolden(t, dir, kinds) })
	}
	for _, want := range kindsOfEntries() {
		if !kinds[want] {
			t.Errorf("no golden entry carries %s: add golden files", want)
		}
	}
}

// replayGolden replays a log of an earlier release, and reads the snapshot which that release made of it.
func replayGolden(t *testing.T, dir string, kinds map[string]bool) {
	t.Helper()
	replayed := New()
	for _, e := range readLog(t, filepath.Join(dir, goldenLog)) {
		entry, err := decodeEntry(e.data)
		if err != nil {
			t.Fatalf("entry %d: %v", e.index, err)
		}
		kinds[bodyOf(entry.ProtoReflect())] = true
		if c := entry.GetCommand(); c != nil {
			kinds[bodyOf(c.ProtoReflect())] = true
			var d decoder
			command := d.command(c)
			if again := EncodeCommand(command); !bytes.Equal(again, e.data) {
				t.Errorf("entry %d: %T is written in another way now", e.index, command.Body)
			}
		}
		replayed.Apply(e.index, e.term, e.data)
	}
	file, err := os.ReadFile(filepath.Join(dir, goldenSnapshot))
	if err != nil {
		t.Fatal(err)
	}
	l := restored(t, file)
	if !bytes.Equal(image(t, l), file) {
		t.Error("the golden snapshot is written in another way now")
	}
	sameState(t, replayed, l)
}

// kindsOfEntries names everything that an entry can carry, as the format lists it.
func kindsOfEntries() (all []string) {
	for _, m := range []proto.Message{&logv1.Entry{}, &logv1.PairCommand{}} {
		fields := m.ProtoReflect().Descriptor().Oneofs().ByName("body").Fields()
		for i := range fields.Len() {
			all = append(all, fields.Get(i).TextName())
		}
	}
	return all
}

func bodyOf(m protoreflect.Message) string {
	return m.WhichOneof(m.Descriptor().Oneofs().ByName("body")).TextName()
}

// sameState compares all but the wording of events, which a release may improve.
func sameState(t *testing.T, got, want *Ledger) {
	t.Helper()
	if got.AppliedIndex() != want.AppliedIndex() || got.Generation() != want.Generation() ||
		!reflect.DeepEqual(got.Nodes(), want.Nodes()) {
		t.Errorf("replayed to %d, generation %d, nodes %v", got.AppliedIndex(), got.Generation(), got.Nodes())
	}
	if got.Level() != want.Level() || !slices.Equal(got.state.cursors, want.state.cursors) {
		t.Errorf("replayed to level %d, cursors %v, want %d, %v", got.Level(), got.state.cursors, want.Level(),
			want.state.cursors)
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

func writeGolden(t *testing.T, dir string) {
	t.Helper()
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(fmt.Errorf("golden files are only ever added: %w", err))
	}
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
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
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

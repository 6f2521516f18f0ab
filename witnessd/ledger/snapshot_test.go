package ledger

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	logv1 "github.com/witnessd/witnessd/proto/gen/witnesslog/v1"
	"github.com/witnessd/witnessd/witnessd/pair"
)

func bytesReader(b []byte) io.Reader { return bytes.NewReader(b) }

func TestASnapshotIsTheMomentItWasTaken(t *testing.T) {
	n := newNode(t)
	n.life()
	want := n.image()
	write, err := n.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	n.must("id-stock", pair.Note{Kind: pair.FactWouldFailOver})
	n.must("later", create("later"))
	n.must("id-new", pair.Remove{})
	n.put(EncodeRestore(7, 0))
	n.put(EncodeRemoveNode("w0"))
	var got bytes.Buffer
	if err := write(&got); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.Bytes(), want) {
		t.Error("entries behind the snapshot are in it")
	}
	if bytes.Equal(n.image(), want) {
		t.Error("entries behind the snapshot are lost")
	}
}

// TestRestoredNodesStayTheSame is the heart of replication: whatever the log brings, and wherever a node
// takes a snapshot in place of what came before, all come to the same state, down to the byte.
func TestRestoredNodesStayTheSame(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		a := newNode(t)
		b := New()
		entries := rapid.IntRange(1, 120).Draw(rt, "entries")
		for range entries {
			data := drawEntry(rt, a)
			got := a.put(data)
			if want := b.Apply(a.index, a.term, data); !reflect.DeepEqual(got, want) {
				rt.Fatalf("results differ: %+v and %+v", got, want)
			}
			switch rapid.IntRange(0, 20).Draw(rt, "then") {
			case 0:
				b = restored(t, a.image())
			case 1:
				a.image()
			case 2:
				a.term++
			}
		}
		if !bytes.Equal(a.image(), image(t, b)) {
			rt.Fatalf("snapshots differ")
		}
		if !reflect.DeepEqual(a.Pairs(), b.Pairs()) || !slices.Equal(a.Nodes(), b.Nodes()) {
			rt.Fatalf("answers differ")
		}
		for _, id := range []pair.ID{"", "p0", "p1", "p2"} {
			f := EventFilter{Pair: id}
			if !reflect.DeepEqual(a.Events(f), b.Events(f)) {
				rt.Fatalf("events of %q differ", id)
			}
		}
	})
}

// drawEntry makes an entry that is accepted more often than not.
func drawEntry(t *rapid.T, n *node) []byte {
	id := pair.ID("p" + rapid.StringMatching(`[0-2]`).Draw(t, "pair"))
	host := pair.HostID(rapid.SampledFrom([]string{"alpha", "beta"}).Draw(t, "host"))
	r, _ := n.Pair(id)
	c := n.command(id, nil)
	c.At += rapid.Int64Range(-1000, 1000).Draw(t, "at")
	if rapid.IntRange(0, 9).Draw(t, "stale") == 0 {
		c.Revision--
	}
	procedure := pair.Procedure{ID: "x", Kind: pair.KindRemove, Step: pair.StepRelease, Epoch: r.Epoch, Target: host}
	switch rapid.IntRange(0, 17).Draw(t, "body") {
	case 0, 1, 2:
		c.Body = create(rapid.SampledFrom([]string{"sales", "stock", "old"}).Draw(t, "name"))
	case 3, 4:
		c.Body = pair.Begin{}
	case 5:
		c.Body = pair.Arm{Host: r.Primary}
	case 6:
		c.Body = pair.Expose{Host: r.Primary, Cause: "mirror lost"}
	case 7:
		c.Body = pair.Promote{To: r.Mirror, Procedure: "x"}
	case 8:
		c.Body = pair.EndProcedure{ID: "x", Done: true}
	case 9:
		c.Body = pair.StartProcedure{Procedure: procedure}
	case 10:
		c.Body = pair.Remove{Cause: "unused"}
	case 11:
		c.Body = pair.SetMode{Mode: pair.Mode(rapid.IntRange(0, 3).Draw(t, "mode"))}
	case 12, 13:
		c.Body = pair.Note{Kind: pair.FactWouldFailOver, Cause: "silent"}
	case 14:
		c.Body = pair.Adopt{Epoch: r.Epoch + 1, Primary: host}
	case 15:
		return EncodeRestore(n.Generation()+rapid.Uint64Range(0, 1).Draw(t, "generations"), c.At)
	case 16:
		return EncodeSetNode(Node{ID: string(id), APIAddress: string(host)})
	default:
		return EncodeRemoveNode(string(id))
	}
	return EncodeCommand(c)
}

func TestADamagedSnapshotIsRefused(t *testing.T) {
	n := newNode(t)
	n.ready("id", "sales")
	n.put(EncodeSetNode(Node{ID: "w"}))
	whole := n.image()
	l := New()
	for i := range whole {
		if err := l.Restore(bytesReader(whole[:i])); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Fatalf("cut after %d of %d bytes: %v", i, len(whole), err)
		}
		damaged := slices.Clone(whole)
		damaged[i] ^= 0x10
		if l.Restore(bytesReader(damaged)) == nil {
			t.Fatalf("damaged at byte %d of %d: restored", i, len(whole))
		}
	}
	if err := l.Restore(bytesReader(append(slices.Clone(whole), 0))); err == nil {
		t.Error("something behind the end: restored")
	}
	broken := errors.New("disk is broken")
	if err := l.Restore(io.MultiReader(bytesReader(whole[:40]), failing{broken})); !errors.Is(err, broken) {
		t.Errorf("a read failed: %v", err)
	}
	if l.AppliedIndex() != 0 || len(l.Pairs()) != 0 {
		t.Error("a snapshot that was refused has changed something")
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error)  { return 0, f.err }
func (f failing) Write([]byte) (int, error) { return 0, f.err }

func TestAFailedWriteIsAnError(t *testing.T) {
	n := newNode(t)
	n.life()
	write, _ := n.Snapshot()
	full := errors.New("disk is full")
	if err := write(failing{full}); !errors.Is(err, full) {
		t.Errorf("got %v", err)
	}
}

// snapshotOf writes parts, and whatever end belongs to them.
func snapshotOf(t *testing.T, parts ...*logv1.SnapshotPart) []byte {
	t.Helper()
	var out bytes.Buffer
	w := newPartWriter(&out)
	for _, p := range parts {
		w.put(p)
	}
	if err := w.finish(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestSnapshotsThatCannotBe(t *testing.T) {
	header := &logv1.SnapshotPart{Part: &logv1.SnapshotPart_Header{Header: &logv1.SnapshotHeader{LastSequence: 5}}}
	pairPart := func(id, name string) *logv1.SnapshotPart {
		m := fromRecord(pair.Record{ID: pair.ID(id), Name: name, Stage: pair.StageReady})
		return &logv1.SnapshotPart{Part: &logv1.SnapshotPart_Pair{Pair: m}}
	}
	event := func(sequence uint64) *logv1.SnapshotPart {
		return &logv1.SnapshotPart{Part: &logv1.SnapshotPart_Event{Event: &logv1.Event{Sequence: sequence}}}
	}
	node := &logv1.SnapshotPart{Part: &logv1.SnapshotPart_Node{Node: &logv1.Node{Id: "w"}}}
	newWord := pairPart("a", "a")
	newWord.GetPair().Stage = 99
	newField := pairPart("a", "a")
	newField.GetPair().GetPolicy().ProtoReflect().SetUnknown([]byte{0xfa, 0x3f, 0x00})
	newFormat := snapshotOf(t, header)
	newFormat[len(magic)] = format + 1
	endless := snapshotOf(t, header)
	binary.LittleEndian.PutUint32(endless[len(magic)+1:], 1<<31)

	for name, test := range map[string]struct {
		snapshot []byte
		want     string
	}{
		"newer format":     {newFormat, "snapshot of format 2, this release knows 1: upgrade this node"},
		"new part":         {snapshotOf(t, header, &logv1.SnapshotPart{}), "upgrade this node"},
		"new word":         {snapshotOf(t, header, newWord), "upgrade this node"},
		"new field":        {snapshotOf(t, header, newField), "upgrade this node"},
		"something else":   {[]byte("SQLite format 3\x00"), "not a witness's snapshot"},
		"nothing in it":    {snapshotOf(t), "damaged"},
		"endless part":     {endless, "a length of 2147483648 bytes"},
		"no header":        {snapshotOf(t, node), "one header"},
		"two headers":      {snapshotOf(t, header, header), "one header"},
		"one node twice":   {snapshotOf(t, header, node, node), "node w after node w"},
		"one id twice":     {snapshotOf(t, header, pairPart("a", "a"), pairPart("a", "b")), "comes twice"},
		"one name twice":   {snapshotOf(t, header, pairPart("a", "a"), pairPart("b", "a")), "not the only one"},
		"events backwards": {snapshotOf(t, header, event(3), event(2)), "event 2 after event 3"},
		"event too far":    {snapshotOf(t, header, event(6)), "the last is 5"},
	} {
		t.Run(name, func(t *testing.T) {
			err := New().Restore(bytesReader(test.snapshot))
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}

func TestReadSnapshotOpensANewGeneration(t *testing.T) {
	n := newNode(t)
	n.life()
	n.ready("id-late", "late")
	old := n.Pairs()
	r, err := ReadSnapshot(bytesReader(n.image()), 1_800_000_000_000)
	if err != nil {
		t.Fatal(err)
	}
	if r.Generation() != 2 || len(r.Pairs()) != len(old) {
		t.Errorf("generation %d with %d pairs, want 2 with %d", r.Generation(), len(r.Pairs()), len(old))
	}
	var out bytes.Buffer
	if err := r.Write(&out); err != nil {
		t.Fatal(err)
	}
	l := restored(t, out.Bytes())
	if l.Generation() != 2 || l.AppliedIndex() != 0 || !slices.Equal(l.Nodes(), n.Nodes()) {
		t.Errorf("restored at %d with generation %d, nodes %v", l.AppliedIndex(), l.Generation(), l.Nodes())
	}
	for i, p := range l.Pairs() {
		want := pair.StageRestored
		if old[i].Stage == pair.StageForming {
			want = pair.StageForming
		}
		if p.Stage != want || p.Revision != pair.NewRevision(2)+1 || p.Epoch != old[i].Epoch || p.Procedure != nil {
			t.Errorf("pair %s was %+v and is %+v", p.Name, old[i], p)
		}
	}
	if tombstone, _ := l.Pair("id-old"); tombstone.Stage != pair.StageRemoved || tombstone.Revision.Generation() != 0 {
		t.Errorf("the tombstone is %+v", tombstone)
	}
	last := l.Events(EventFilter{Limit: 1, Newest: true})[0]
	if last.Fact.Kind != pair.FactRestored || last.At != 1_800_000_000_000 {
		t.Errorf("the history ends with %+v", last)
	}
	l.Apply(1, 1, EncodeRemoveNode("w0"))
	if _, err := ReadSnapshot(bytesReader(nil), 0); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("no snapshot: %v", err)
	}
}

// FuzzRestore looks for input that does worse than to be refused.
func FuzzRestore(f *testing.F) {
	n := newNode(f)
	n.life()
	f.Add(n.image())
	f.Fuzz(func(t *testing.T, data []byte) {
		l := New()
		if l.Restore(bytes.NewReader(data)) == nil {
			restored(t, image(t, l))
		}
	})
}

// FuzzApply looks for an entry that does worse than to stop the node with a clear text.
func FuzzApply(f *testing.F) {
	n := newNode(f)
	n.life()
	for _, e := range n.log {
		f.Add(e.data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		n := newNode(t)
		n.ready("id", "sales")
		defer func() {
			if said := recover(); said != nil {
				text, _ := said.(string)
				if !strings.HasPrefix(text, "ledger: log entry 9: ") || !strings.HasSuffix(text, upgrade) {
					panic(said)
				}
			}
		}()
		n.Apply(9, 3, data)
	})
}

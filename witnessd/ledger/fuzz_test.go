package ledger

import (
	"bytes"
	"encoding/binary"
	"reflect"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	logv1 "github.com/witnessd/witnessd/proto/gen/witnesslog/v1"
	"github.com/witnessd/witnessd/witnessd/pair"
)

// FuzzEntry reads any bytes as a log entry. What is understood means the same when it is written again; what is
// not is refused as a whole, with the advice to upgrade left to the caller: nothing is ever half understood.
func FuzzEntry(f *testing.F) {
	n := newNode(f)
	n.life()
	for _, entry := range n.log {
		f.Add(entry.data)
		f.Add(append(bytes.Clone(entry.data), protowire.AppendVarint(protowire.AppendTag(nil, 99, protowire.VarintType), 1)...))
	}
	f.Add([]byte{format + 1})
	f.Fuzz(func(t *testing.T, data []byte) {
		e, err := decodeEntry(data)
		if err != nil {
			if e != nil || err.Error() == "" {
				t.Fatalf("%v, and %v", err, e)
			}
			return
		}
		if name := unknownField(e.ProtoReflect()); name != "" {
			t.Fatalf("%s has a field that would be lost", name)
		}
		again := encodeEntry(e)
		if second, err := decodeEntry(again); err != nil || !proto.Equal(second, e) || !bytes.Equal(encodeEntry(second), again) {
			t.Fatalf("%v became %v, %v", e, second, err)
		}
		var d decoder
		c := d.command(e.GetCommand())
		if e.GetCommand() == nil || d.err != nil {
			return
		}
		entry := EncodeCommand(c)
		second, err := decodeEntry(entry)
		if err != nil {
			t.Fatalf("%+v cannot be read again: %v", c, err)
		}
		if got := d.command(second.GetCommand()); d.err != nil || !reflect.DeepEqual(got, c) {
			t.Fatalf("%+v became %+v, %v", c, got, d.err)
		}
	})
}

// framed makes a snapshot of parts, each behind its length: a fuzzer does not guess checksums.
func framed(parts []byte) []byte {
	out := append([]byte(magic), format)
	count := uint64(0)
	for len(parts) > 0 {
		body, n := protowire.ConsumeBytes(parts)
		if n < 0 {
			break
		}
		parts = parts[n:]
		out = binary.LittleEndian.AppendUint32(out, uint32(len(body)))
		out = binary.LittleEndian.AppendUint32(out, checksum(body))
		out = append(out, body...)
		count++
	}
	end := marshal(make([]byte, headBytes), &logv1.SnapshotPart{
		Part: &logv1.SnapshotPart_End{End: &logv1.SnapshotEnd{Parts: count}},
	})
	binary.LittleEndian.PutUint32(end, uint32(len(end)-headBytes))
	binary.LittleEndian.PutUint32(end[4:], checksum(end[headBytes:]))
	return append(out, end...)
}

// unframed is the input of which framed makes a snapshot.
func unframed(f *testing.F, snapshot []byte) []byte {
	in, err := newPartReader(bytes.NewReader(snapshot))
	if err != nil {
		f.Fatal(err)
	}
	var out []byte
	for {
		part, err := in.next()
		if err != nil {
			f.Fatal(err)
		}
		if part.GetEnd() != nil {
			return out
		}
		out = protowire.AppendBytes(out, marshal(nil, part))
	}
}

// FuzzSnapshot reads any bytes as a snapshot, and as the parts of one. What is taken is written again as it was,
// and a ledger goes on with it; what is not leaves a ledger as it is.
func FuzzSnapshot(f *testing.F) {
	n := newNode(f)
	f.Add(n.image(), false)
	n.life()
	there := n.image()
	f.Add(there, false)
	f.Add(there[:len(there)/2], false)
	f.Add(unframed(f, there), true)
	f.Add([]byte(magic+"\x01\xff\xff\xff\x03\x00\x00\x00\x00"), false) // a length, and nothing behind it
	f.Fuzz(func(t *testing.T, data []byte, parts bool) {
		if parts {
			data = framed(data)
		}
		l := restored(t, there)
		if err := l.Restore(bytes.NewReader(data)); err != nil {
			if after := image(t, l); !bytes.Equal(after, there) {
				t.Fatalf("%v, and the state is another", err)
			}
			return
		}
		written := image(t, l)
		second := New()
		if err := second.Restore(bytes.NewReader(written)); err != nil {
			t.Fatalf("what was written cannot be read: %v", err)
		}
		if again := image(t, second); !bytes.Equal(again, written) {
			t.Fatalf("written as\n%x\nthen as\n%x", written, again)
		}
		goOn(t, l)
	})
}

// goOn asks everything of a ledger, and gives it one more entry.
func goOn(t *testing.T, l *Ledger) {
	t.Helper()
	last := ""
	for i, r := range l.Pairs() {
		if found, ok := l.PairByName(r.Name); !ok || found.ID != r.ID || i > 0 && strings.Compare(last, r.Name) >= 0 {
			t.Fatalf("pair %q is not found by its name", r.Name)
		}
		last = r.Name
		l.Events(EventFilter{Pair: r.ID, Limit: 3, Newest: true})
	}
	if index := l.AppliedIndex() + 1; index > 0 {
		c := pair.Command{Pair: "id-of-fuzz", Revision: l.FirstRevision(), Term: 1, Body: create("name-of-fuzz")}
		if r := l.Apply(index, 1, EncodeCommand(c)).(Result); r.Refusal != nil {
			t.Fatalf("a new pair is refused: %v", r.Refusal)
		}
	}
}

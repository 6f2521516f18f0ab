package kv

import (
	"bufio"
	"bytes"
	"net"
	"reflect"
	"testing"
	"time"
)

// realLog is a log as a primary writes it.
func realLog() []byte {
	var log []byte
	add := func(k kind, body []byte) { log = appendRecord(log, int64(len(log)), k, body) }
	add(kindSystem, systemBody("0123456789abcdef"))
	add(kindTimeline, timelineBody(Timeline{Number: 1, ID: 7}))
	for _, c := range []change{{key: "a", value: "1"}, {key: "ä b", value: ""}, {key: "a", remove: true}} {
		k, body := c.encode()
		add(k, body)
	}
	add(kindProbe, nil)
	return log
}

// FuzzRecords reads any bytes as a log that begins at any offset. What is read is written as it stood; the bytes of
// a whole record mean nothing in another place.
func FuzzRecords(f *testing.F) {
	log := realLog()
	f.Add(log, int64(0))
	f.Add(log, int64(1))
	f.Add(log[:len(log)-3], int64(0))
	f.Add([]byte{0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 'S'}, int64(0))
	f.Fuzz(func(t *testing.T, b []byte, at int64) {
		recs, err := parseRecords(b, at)
		if err != nil {
			return
		}
		var again []byte
		for _, r := range recs {
			if r.start != at+int64(len(again)) {
				t.Fatalf("record at %d, want %d", r.start, at+int64(len(again)))
			}
			again = appendRecord(again, r.start, r.kind, r.body)
			if c, ok := changeOf(r); ok {
				k, body := c.encode()
				if got, ok := changeOf(record{kind: k, body: body}); !ok || got != c {
					t.Fatalf("%+v became %+v, %t", c, got, ok)
				}
			}
			if line, ok := timelineOf(r); ok && !bytes.Equal(timelineBody(line), r.body) {
				t.Fatalf("timeline %+v", line)
			}
		}
		if !bytes.Equal(again, b) {
			t.Fatalf("%x was read and written as %x", b, again)
		}
		img := newImage()
		if end, err := readLog(bytes.NewReader(b), img); at == 0 && err == nil && end > int64(len(b)) {
			t.Fatalf("the log of %d bytes ends at %d", len(b), end)
		}
	})
}

// FuzzFrame reads any bytes as what comes over a mirror's connection. A frame that is read is the one that was sent,
// and no header makes the reader take more memory than the largest frame.
func FuzzFrame(f *testing.F) {
	for _, seed := range []frame{
		{kind: frameData, offset: 77, payload: realLog()}, {kind: framePing, offset: 1 << 40}, {kind: frameAck, offset: -1},
	} {
		f.Add(sentBy(f, seed))
	}
	f.Add([]byte{frameData, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff})
	f.Add([]byte{frameData, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		in := bufio.NewReader(bytes.NewReader(b))
		for at := 0; ; {
			whole := frameBuffered(in)
			got, err := readFrame(in)
			if err != nil {
				if whole && len(got.payload) > 0 && len(got.payload) <= maxFrame {
					t.Fatalf("a frame that is there whole was not read: %v", err)
				}
				return
			}
			if len(got.payload) > maxFrame {
				t.Fatalf("a frame of %d bytes", len(got.payload))
			}
			again := sentBy(t, got)
			if !bytes.Equal(again, b[at:at+len(again)]) {
				t.Fatalf("%+v was sent as %x", got, again)
			}
			at += len(again)
		}
	})
}

// sentBy is what sendFrame puts on the wire.
func sentBy(t testing.TB, f frame) []byte {
	t.Helper()
	wire := &wire{}
	if err := sendFrame(wire, f, time.Minute); err != nil {
		t.Fatal(err)
	}
	return wire.Bytes()
}

// wire keeps what is written.
type wire struct {
	net.Conn
	bytes.Buffer
}

func (w *wire) Write(p []byte) (int, error)      { return w.Buffer.Write(p) }
func (w *wire) Read(p []byte) (int, error)       { return w.Buffer.Read(p) }
func (w *wire) SetWriteDeadline(time.Time) error { return nil }

// FuzzHello reads any line as what mirror and primary say before frames flow. What is understood is said again as
// it was meant, and the judgement on it never sends a mirror beyond its own log.
func FuzzHello(f *testing.F) {
	honest := hello{name: "b", system: "s", end: 400, history: History{{Number: 1, Start: 30, ID: 9}, {Number: 2, Start: 200, ID: 10}}}
	f.Add(honest.line()[len("MIRROR "):])
	f.Add("name=b end=-1")
	f.Add("name=b timelines=1:2 fresh=yes")
	f.Add("name=%zz")
	f.Add("name=b end=9223372036854775807 timelines=1:0:0,2:9223372036854775807:1")
	f.Add(welcome{verdict: verdictDiverged, system: "s", at: 3, end: 9}.line())
	f.Add("ERR foreign another database")
	f.Fuzz(func(t *testing.T, line string) {
		if w, err := parseWelcome(line); err == nil {
			if again, err := parseWelcome(w.line()); err != nil || again != w {
				t.Fatalf("%+v became %+v, %v", w, again, err)
			}
		}
		h, err := parseHello(line)
		if err != nil {
			return
		}
		again, err := parseHello(h.line()[len("MIRROR "):])
		if err != nil || !reflect.DeepEqual(again, h) {
			t.Fatalf("%+v became %+v, %v", h, again, err)
		}
		w, err := judge(h, "s", honest.history, 500)
		if err == nil && (w.at > h.end || w.at > 500 || w.at < 0) {
			t.Fatalf("%+v is told %+v", h, w)
		}
	})
}

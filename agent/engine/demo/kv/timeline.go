package kv

import (
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"
)

// Position is a place in the log. Offsets count bytes from its beginning and are comparable on one
// timeline only.
type Position struct {
	Timeline uint64 `json:"timeline"`
	Offset   int64  `json:"offset"`
}

// Timeline is the stretch of the log that one promoted run of a server wrote.
type Timeline struct {
	Number uint64
	Start  int64 // offset of the record that opens it
	// ID is drawn at random at the promotion. Two servers promoted apart from each other from the same
	// place would otherwise write the same number at the same offset and look alike.
	ID uint64
}

// History is the timelines of a log, oldest first. It is read from the log itself, so it can neither be
// lost nor differ from it.
type History []Timeline

// last is the timeline of the log's end; the zero Timeline if there is none.
func (h History) last() Timeline {
	if len(h) == 0 {
		return Timeline{}
	}
	return h[len(h)-1]
}

// end is where the i-th timeline ends in a log of the given length.
func (h History) end(i int, length int64) int64 {
	if i+1 < len(h) {
		return h[i+1].Start
	}
	return length
}

// fork finds how far two logs agree: the offset up to which they are the same bytes; false if they have
// no timeline in common. That both wrote a timeline of the same id means that one of them wrote it and
// the other received it, since a run that restarts begins a new one; so the shorter is a prefix.
func fork(a History, aLength int64, b History, bLength int64) (int64, bool) {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	if n == 0 {
		return 0, false
	}
	return min(a.end(n-1, aLength), b.end(n-1, bLength)), true
}

// timelineBody and timelineOf write and read the record that opens a timeline.
func timelineBody(t Timeline) []byte {
	b := binary.BigEndian.AppendUint64(nil, t.Number)
	return binary.BigEndian.AppendUint64(b, t.ID)
}

func timelineOf(r record) (Timeline, bool) {
	if r.kind != kindTimeline || len(r.body) != 16 {
		return Timeline{}, false
	}
	return Timeline{
		Number: binary.BigEndian.Uint64(r.body),
		Start:  r.start,
		ID:     binary.BigEndian.Uint64(r.body[8:]),
	}, true
}

// String writes the history as a mirror sends it: number:start:id, separated by commas.
func (h History) String() string {
	parts := make([]string, len(h))
	for i, t := range h {
		parts[i] = fmt.Sprintf("%d:%d:%x", t.Number, t.Start, t.ID)
	}
	return strings.Join(parts, ",")
}

// parseHistory reads what String wrote.
func parseHistory(s string) (History, error) {
	if s == "" {
		return nil, nil
	}
	var h History
	for part := range strings.SplitSeq(s, ",") {
		fields := strings.Split(part, ":")
		if len(fields) != 3 {
			return nil, fmt.Errorf("timeline %q: want number:start:id", part)
		}
		number, err1 := strconv.ParseUint(fields[0], 10, 64)
		start, err2 := strconv.ParseInt(fields[1], 10, 64)
		id, err3 := strconv.ParseUint(fields[2], 16, 64)
		if err1 != nil || err2 != nil || err3 != nil {
			return nil, fmt.Errorf("timeline %q: want number:start:id", part)
		}
		h = append(h, Timeline{Number: number, Start: start, ID: id})
	}
	return h, nil
}

package postgres

import (
	"fmt"
	"strconv"
	"strings"
)

// stretch is the part of a log that was written on one timeline: from where the timeline began to where
// the next one left it, or to where the log ends.
type stretch struct {
	timeline   uint32
	begin, end lsn
}

// lineage is a whole log, oldest stretch first. Two logs with the same bytes have the same lineage, but not
// the other way round: two hosts that were promoted apart may number their timelines alike, so a match is
// checked against the bytes (tail.go).
type lineage []stretch

// newLineage reads a timeline's history file ("" for timeline 1, which has none) of a log that ends at end.
func newLineage(history string, end point) (lineage, error) {
	var log lineage
	begin := lsn(0)
	for line := range strings.Lines(history) {
		fields := strings.Fields(line)
		if len(fields) == 0 || strings.HasPrefix(fields[0], "#") {
			continue
		}
		if len(fields) < 2 {
			return nil, fmt.Errorf("history of timeline %d: line %q has no switch point", end.timeline, line)
		}
		timeline, err := strconv.ParseUint(fields[0], 10, 32)
		if err != nil {
			return nil, fmt.Errorf("history of timeline %d: %w", end.timeline, err)
		}
		to, err := parseLSN(fields[1])
		if err != nil {
			return nil, fmt.Errorf("history of timeline %d: %w", end.timeline, err)
		}
		log = append(log, stretch{timeline: uint32(timeline), begin: begin, end: to})
		begin = to
	}
	return append(log, stretch{timeline: end.timeline, begin: begin, end: end.at}), nil
}

// end is where the log ends.
func (l lineage) end() point {
	last := l[len(l)-1]
	return point{timeline: last.timeline, at: last.end}
}

// before names the stretch that holds the byte before p.
func (l lineage) before(p lsn) stretch {
	for _, s := range l {
		if p <= s.end {
			return s
		}
	}
	return l[len(l)-1]
}

// A relation says how a mirror's own log relates to the log of the server that it shall follow.
type relation struct {
	// common is where the two logs part, or where the shorter one ends.
	common point
	// discard is how many bytes the mirror has beyond common.
	discard uint64
	// parted is false if the mirror's log is the beginning of the upstream's: it can simply go on.
	parted bool
	// sameTimeline is true if the logs part on a timeline that both end on. pg_rewind compares timelines
	// only, would find nothing to do, and leave the mirror with wrong pages.
	sameTimeline bool
}

// relate compares two logs. Of the upstream's last timeline only the part written so far counts: a mirror
// that has more of it got it from somebody else.
func relate(own, upstream lineage) relation {
	r := relation{}
	for i := range min(len(own), len(upstream)) {
		mine, theirs := own[i], upstream[i]
		if mine.timeline != theirs.timeline || mine.begin != theirs.begin {
			break
		}
		r.common = point{timeline: mine.timeline, at: min(mine.end, theirs.end)}
		r.sameTimeline = i == len(own)-1 && i == len(upstream)-1
		if mine.end != theirs.end {
			break
		}
	}
	end := own.end()
	if end.at > r.common.at {
		r.discard = uint64(end.at - r.common.at)
	}
	r.parted = r.discard > 0 || end.timeline != r.common.timeline
	r.sameTimeline = r.sameTimeline && r.parted
	return r
}

// mark is the place p as a part of this log: the stretch that holds the byte before it tells which history p
// belongs to.
func (l lineage) mark(p lsn) mark {
	s := l.before(p)
	return mark{Timeline: s.timeline, Begin: s.begin, At: p}
}

// holds says whether this log contains everything up to m. Its own end counts, also on a stretch that its
// history would let go further: the log may not have come that far.
func (l lineage) holds(m mark) bool {
	if l.end().at < m.At {
		return false
	}
	for _, s := range l {
		if s.timeline == m.Timeline {
			return s.begin == m.Begin && m.At <= s.end
		}
	}
	return false
}

// A mark is a place in a log, with what tells the log from others that have the same numbers: the timeline that
// the byte before it is on, and where that timeline began.
type mark struct {
	Timeline uint32 `json:"timeline"`
	Begin    lsn    `json:"begin"`
	At       lsn    `json:"at"`
}

// String prints a mark as people who know PostgreSQL write it.
func (m mark) String() string { return point{timeline: m.Timeline, at: m.At}.String() }

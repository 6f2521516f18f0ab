package postgres

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/witnessd/witnessd/agent/engine"
)

// Sizes in PostgreSQL's log that no build in use changes, and that pg_controldata would show.
const (
	pageSize        = 8192 // XLOG_BLCKSZ
	pageHeader      = 24   // XLogPageHeaderData, aligned
	firstPageHeader = 40   // XLogLongPageHeaderData, at the start of a segment
)

// lsn is a place in PostgreSQL's log: bytes since initdb.
type lsn uint64

func parseLSN(s string) (lsn, error) {
	high, low, ok := strings.Cut(strings.TrimSpace(s), "/")
	h, errHigh := strconv.ParseUint(high, 16, 32)
	l, errLow := strconv.ParseUint(low, 16, 32)
	if !ok || errHigh != nil || errLow != nil {
		return 0, fmt.Errorf("%q is not a place in PostgreSQL's log", s)
	}
	return lsn(h<<32 | l), nil
}

// String prints an lsn as PostgreSQL does.
func (l lsn) String() string { return fmt.Sprintf("%X/%X", uint64(l)>>32, uint32(l)) }

// page is the start of the page that holds the byte at l.
func (l lsn) page() lsn { return l - l%pageSize }

// point is a place on a timeline.
type point struct {
	timeline uint32
	at       lsn
}

func (p point) position() engine.Position {
	return engine.Position{Timeline: uint64(p.timeline), Offset: uint64(p.at)}
}

// String prints a point as people who know PostgreSQL write it.
func (p point) String() string { return fmt.Sprintf("%v of timeline %d", p.at, p.timeline) }

// segmentName is the name of the file in pg_wal that holds the byte at l.
func segmentName(timeline uint32, l lsn, segmentSize uint64) string {
	perLog := uint64(1) << 32 / segmentSize
	number := uint64(l) / segmentSize
	return fmt.Sprintf("%08X%08X%08X", timeline, number/perLog, number%perLog)
}

// recordEnd is where a record of length bytes that starts at l ends: page headers lie in its way.
func recordEnd(l lsn, length uint32, segmentSize uint64) lsn {
	end, left := l, lsn(length)
	for left > 0 {
		if end%pageSize == 0 {
			end += pageHeader
			if uint64(end-pageHeader)%segmentSize == 0 {
				end += firstPageHeader - pageHeader
			}
		}
		step := min(left, end.page()+pageSize-end)
		end += step
		left -= step
	}
	return end
}

// MarshalText writes an lsn as PostgreSQL does.
func (l lsn) MarshalText() ([]byte, error) { return []byte(l.String()), nil }

// UnmarshalText reads an lsn as PostgreSQL writes it.
func (l *lsn) UnmarshalText(text []byte) (err error) {
	*l, err = parseLSN(string(text))
	return err
}

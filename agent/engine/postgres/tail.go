//go:build linux

package postgres

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// Two hosts that were promoted apart can have the same timeline numbers and switch points and yet other
// bytes: after a forced failover to a mirror that stood at the very place where its partner had been promoted
// before. Neither PostgreSQL nor pg_rewind tells such logs apart, and a mirror that goes on from a wrong
// place is silently corrupt. So the last bytes before the point from which it would go on are compared.

var (
	// errOtherBytes means that the logs differ although their histories agree.
	errOtherBytes = errors.New("the two logs have the same history and other content")
	// errLogGone means that the primary has no longer what the mirror would go on from.
	errLogGone = errors.New("the primary has deleted the log that the mirror would go on from")
)

// sameTail compares the bytes before p in the instance's own log and in the upstream's.
func (e *Engine) sameTail(ctx context.Context, u *upstream, own lineage, p lsn, segmentSize uint64) error {
	if p == 0 {
		return errOtherBytes
	}
	part := own.before(p)
	start := max((p - 1).page(), part.begin)
	mine, err := e.ownBytes(own, start, p, segmentSize)
	if err != nil {
		return err
	}
	theirs, err := u.fetch(ctx, part.timeline, start, p)
	if hasCode(err, codeUndefinedFile) {
		return errLogGone
	}
	if err != nil {
		return fmt.Errorf("read the primary's log before %v: %w", p, err)
	}
	if !bytes.Equal(mine, theirs) {
		return fmt.Errorf("before %v of timeline %d %w", p, part.timeline, errOtherBytes)
	}
	return nil
}

// ownBytes reads a stretch of a segment file. The newest timeline's file is asked first: the segment in which
// a timeline begins has a copy of what was before.
func (e *Engine) ownBytes(own lineage, start, end lsn, segmentSize uint64) ([]byte, error) {
	for _, part := range slices.Backward(own) {
		f, err := os.Open(e.path("pg_wal/" + segmentName(part.timeline, start, segmentSize)))
		if err != nil {
			continue
		}
		defer f.Close()
		text := make([]byte, end-start)
		if _, err := f.ReadAt(text, int64(uint64(start)%segmentSize)); err != nil {
			return nil, fmt.Errorf("read the own log before %v: %w", end, err)
		}
		return text, nil
	}
	return nil, fmt.Errorf("the own log before %v is gone from pg_wal", end)
}

// fetch streams a stretch of the upstream's log. The connection is used up by it.
func (u *upstream) fetch(ctx context.Context, timeline uint32, start, end lsn) ([]byte, error) {
	u.conn.Frontend().SendQuery(&pgproto3.Query{
		String: fmt.Sprintf("START_REPLICATION PHYSICAL %v TIMELINE %d", start, timeline),
	})
	if err := u.conn.Frontend().Flush(); err != nil {
		return nil, err
	}
	got := make([]byte, 0, end-start)
	for len(got) < int(end-start) {
		message, err := u.conn.ReceiveMessage(ctx)
		if err != nil {
			return nil, err
		}
		switch m := message.(type) {
		case *pgproto3.ErrorResponse:
			return nil, pgconn.ErrorResponseToPgError(m)
		case *pgproto3.CopyDone, *pgproto3.ReadyForQuery:
			return nil, fmt.Errorf("it ends at %v", start+lsn(len(got)))
		case *pgproto3.CopyData:
			// 'w', start, end and clock of 8 bytes each, then the log itself.
			const header = 25
			if len(m.Data) < header || m.Data[0] != 'w' {
				continue
			}
			if at := lsn(binary.BigEndian.Uint64(m.Data[1:])); at != start+lsn(len(got)) {
				return nil, fmt.Errorf("it goes on at %v, not at %v", at, start+lsn(len(got)))
			}
			got = append(got, m.Data[header:]...)
		}
	}
	return got[:end-start], nil
}

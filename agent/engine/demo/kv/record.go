package kv

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"strings"
)

// kind says what a record of the log means.
type kind byte

// The kinds of records.
const (
	kindSystem   kind = 'I' // which database this is; the first record of every log
	kindTimeline kind = 'T' // a promotion: from here on the entries are of a new timeline
	kindSet      kind = 'S'
	kindDelete   kind = 'D'
	kindProbe    kind = 'P' // changes nothing; shows how the server treats a commit
)

const (
	// systemMagic opens the body of the first record, so that a file of something else is not taken
	// for a log.
	systemMagic = "demodb log 1\n"
	// A record is: checksum (4 bytes), length of what follows the header (4 bytes), kind, body.
	headerSize = 8
	// maxPayload bounds kind and body. Clients' lines are shorter, so a longer one is not a record.
	maxPayload = maxLine + 64
)

// errTorn says that the bytes at hand are not a whole, unharmed record.
var errTorn = errors.New("record is not whole")

// record is one entry of the log and the place where it stands.
type record struct {
	kind       kind
	body       []byte
	start, end int64
}

// appendRecord puts a record that will stand at the given offset at the end of buf. The checksum covers
// the offset: bytes that are whole but in the wrong place are as bad as torn ones.
func appendRecord(buf []byte, at int64, k kind, body []byte) []byte {
	start := len(buf)
	buf = append(buf, make([]byte, headerSize)...)
	buf = append(buf, byte(k))
	buf = append(buf, body...)
	rec := buf[start:]
	binary.BigEndian.PutUint32(rec[4:], uint32(1+len(body)))
	binary.BigEndian.PutUint32(rec, checksum(at, rec[4:]))
	return buf
}

// parseRecord reads the record at the beginning of b, which stands at the given offset.
func parseRecord(b []byte, at int64) (record, error) {
	if len(b) <= headerSize {
		return record{}, errTorn
	}
	n := int(binary.BigEndian.Uint32(b[4:]))
	if n < 1 || n > maxPayload || len(b) < headerSize+n {
		return record{}, errTorn
	}
	b = b[:headerSize+n]
	if binary.BigEndian.Uint32(b) != checksum(at, b[4:]) {
		return record{}, errTorn
	}
	return record{
		kind: kind(b[headerSize]), body: b[headerSize+1:], start: at, end: at + int64(len(b)),
	}, nil
}

// parseRecords reads b as nothing but whole records.
func parseRecords(b []byte, at int64) ([]record, error) {
	var recs []record
	for len(b) > 0 {
		rec, err := parseRecord(b, at)
		if err != nil {
			return nil, fmt.Errorf("record at %d: %w", at, err)
		}
		recs = append(recs, rec)
		b, at = b[rec.end-rec.start:], rec.end
	}
	return recs, nil
}

func checksum(at int64, b []byte) uint32 {
	table := crc32.MakeTable(crc32.Castagnoli)
	var where [8]byte
	binary.BigEndian.PutUint64(where[:], uint64(at))
	return crc32.Update(crc32.Checksum(where[:], table), table, b)
}

// systemBody and systemOf write and read the body of the first record.
func systemBody(id string) []byte { return []byte(systemMagic + id) }

func systemOf(r record) (string, bool) {
	if r.kind != kindSystem || r.start != 0 {
		return "", false
	}
	return strings.CutPrefix(string(r.body), systemMagic)
}

// change is what a client's write does to one key.
type change struct {
	key, value string
	remove     bool
}

// encode turns the change into kind and body of a record: the key's length, the key, the value.
func (c change) encode() (kind, []byte) {
	if c.remove {
		return kindDelete, []byte(c.key)
	}
	body := binary.AppendUvarint(nil, uint64(len(c.key)))
	body = append(body, c.key...)
	return kindSet, append(body, c.value...)
}

// line is the client's command that makes this change.
func (c change) line() string {
	if c.remove {
		return "DEL " + c.key
	}
	return "SET " + c.key + " " + c.value
}

// changeOf reads a change from a record; false if the record is none.
func changeOf(r record) (change, bool) {
	switch r.kind {
	case kindDelete:
		return change{key: string(r.body), remove: true}, true
	case kindSet:
		n, used := binary.Uvarint(r.body)
		if used <= 0 || uint64(len(r.body)-used) < n {
			return change{}, false
		}
		rest := r.body[used:]
		return change{key: string(rest[:n]), value: string(rest[n:])}, true
	default:
		return change{}, false
	}
}

package tds

import (
	"encoding/binary"
	"errors"
	"math"
	"unicode/utf16"
)

// errShort is that a message ends before what it announces.
var errShort = errors.New("message is too short")

// reader takes a message apart. After the first error everything it returns is zero, so that a parser asks once, at its
// end.
type reader struct {
	b   []byte
	err error
}

func (r *reader) bytes(n int) []byte {
	if r.err != nil || n < 0 || n > len(r.b) {
		r.fail(errShort)
		return nil
	}
	x := r.b[:n]
	r.b = r.b[n:]
	return x
}

func (r *reader) fail(err error) {
	if r.err == nil {
		r.err = err
	}
	r.b = nil
}

func (r *reader) u8() byte {
	if x := r.bytes(1); x != nil {
		return x[0]
	}
	return 0
}

func (r *reader) u16() uint16 {
	if x := r.bytes(2); x != nil {
		return binary.LittleEndian.Uint16(x)
	}
	return 0
}

func (r *reader) u32() uint32 {
	if x := r.bytes(4); x != nil {
		return binary.LittleEndian.Uint32(x)
	}
	return 0
}

func (r *reader) u64() uint64 {
	if x := r.bytes(8); x != nil {
		return binary.LittleEndian.Uint64(x)
	}
	return 0
}

// length turns a length of the wire into one that can be compared without overflow.
func length(n uint64) int {
	if n > math.MaxInt32 {
		return -1
	}
	return int(n)
}

// text is a string with its length in a byte, B_VARCHAR.
func (r *reader) text() string { return fromUCS2(r.bytes(2 * int(r.u8()))) }

// fromUCS2 reads UTF-16 of the wire; a last odd byte is left out.
func fromUCS2(b []byte) string {
	u := make([]uint16, len(b)/2)
	for i := range u {
		u[i] = binary.LittleEndian.Uint16(b[2*i:])
	}
	return string(utf16.Decode(u))
}

func toUCS2(s string) []byte {
	u := utf16.Encode([]rune(s))
	b := make([]byte, 0, 2*len(u))
	for _, c := range u {
		b = binary.LittleEndian.AppendUint16(b, c)
	}
	return b
}

package tds

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/big"
	"time"
	"unicode/utf16"
)

// Kind is the type of a column.
type Kind uint8

// The kinds, with the Go values that they take besides nil, which is NULL.
const (
	Int      Kind = iota // int64
	BigInt               // int64
	SmallInt             // int64
	TinyInt              // int64
	Bit                  // bool
	Text                 // string: nvarchar(4000), or nvarchar(max) if one value is longer
	Numeric              // string of up to 25 digits: numeric(25,0), as LSNs are
	GUID                 // string: 00112233-4455-6677-8899-AABBCCDDEEFF
	DateTime             // time.Time, rounded to 1/300 s as SQL Server does
	Float                // float64
)

// Column is one column of a result.
type Column struct {
	Name string
	Kind Kind
}

// Result is what one statement gives: rows if it has columns, otherwise how many rows it changed.
type Result struct {
	Columns  []Column
	Rows     [][]any
	Affected int64
}

// Error is an error, or information, as SQL Server reports it.
type Error struct {
	Number       int32
	Class, State uint8
	Message      string
}

// Response is the answer to a request.
type Response struct {
	Results  []Result
	Infos    []Error // of class 10 and below; they come first
	Errors   []Error // they come last
	Database string  // the session works in another database from now on; "" if in the same
	Drop     bool    // end the connection without an answer
}

func float(bits uint64, size int) float64 {
	if size == 4 {
		return float64(math.Float32frombits(uint32(bits)))
	}
	return math.Float64frombits(bits)
}

func (w *writer) response(server string, r Response, call bool) {
	for _, info := range r.Infos {
		w.message(tokenInfo, server, info)
	}
	if r.Database != "" {
		w.environment(envDatabase, r.Database, "")
	}
	const commandSelect, commandInsert, commandExecute = 0xC1, 0xC3, 0xE0
	done := byte(tokenDone)
	if call {
		done = tokenDoneInProc
	}
	for i, result := range r.Results {
		command, n := uint16(commandInsert), uint64(result.Affected)
		if result.Columns != nil {
			w.rows(result)
			command, n = commandSelect, uint64(len(result.Rows))
		}
		status := uint16(doneCount)
		if call || i < len(r.Results)-1 || len(r.Errors) > 0 {
			status |= doneMore
		}
		w.done(done, status, command, n)
	}
	status := uint16(0)
	if len(r.Errors) > 0 {
		status = doneError
	}
	for _, e := range r.Errors {
		w.message(tokenError, server, e)
	}
	switch {
	case call:
		w.u8(tokenReturnStatus)
		w.u32(0)
		w.done(tokenDoneProc, status, commandExecute, 0)
	case status != 0 || len(r.Results) == 0:
		w.done(tokenDone, status, 0, 0)
	}
}

func (w *writer) rows(r Result) {
	long := make([]bool, len(r.Columns))
	for i, c := range r.Columns {
		if c.Kind != Text {
			continue
		}
		for _, row := range r.Rows {
			if s, ok := row[i].(string); ok && 2*len(utf16.Encode([]rune(s))) > largestShortValue {
				long[i] = true
			}
		}
	}
	w.u8(tokenColumns)
	w.u16(uint16(len(r.Columns)))
	for i, c := range r.Columns {
		const nullable = 1
		w.u32(0)
		w.u16(nullable)
		w.kind(c.Kind, long[i])
		w.text(c.Name)
	}
	for _, row := range r.Rows {
		w.u8(tokenRow)
		for i, c := range r.Columns {
			w.value(c.Kind, long[i], row[i])
		}
	}
}

// The sizes of numeric(25,0).
const (
	numericDigits = 25
	numericBytes  = 12
)

func (w *writer) kind(k Kind, long bool) {
	switch k {
	case Int, BigInt, SmallInt, TinyInt:
		w.u8(typeInt)
		w.u8(byte(k.size()))
	case Bit:
		w.u8(typeBit)
		w.u8(1)
	case Text:
		w.u8(typeNVarChar)
		if long {
			w.u16(lengthPLP)
		} else {
			w.u16(largestShortValue)
		}
		w.bytes(collation())
	case Numeric:
		w.bytes([]byte{typeNumeric, numericBytes + 1, numericDigits, 0})
	case GUID:
		w.bytes([]byte{typeGUID, 16})
	case DateTime:
		w.bytes([]byte{typeDateTime, 8})
	case Float:
		w.bytes([]byte{typeFloat, 8})
	}
}

func (k Kind) size() int {
	switch k {
	case Int:
		return 4
	case SmallInt:
		return 2
	case TinyInt, Bit:
		return 1
	default:
		return 8
	}
}

// value writes one value. A value that does not fit its column is a mistake of the program and panics: the server
// tells the client about it as error 50000.
func (w *writer) value(k Kind, long bool, v any) {
	if k == Text {
		w.textValue(v, long)
		return
	}
	if v == nil {
		w.u8(0)
		return
	}
	switch k {
	case Int, BigInt, SmallInt, TinyInt:
		n := k.size()
		w.u8(byte(n))
		w.bytes(binary.LittleEndian.AppendUint64(nil, uint64(v.(int64)))[:n])
	case Bit:
		w.u8(1)
		if v.(bool) {
			w.u8(1)
		} else {
			w.u8(0)
		}
	case Numeric:
		w.numeric(v.(string))
	case GUID:
		w.u8(16)
		w.bytes(guid(v.(string)))
	case DateTime:
		w.u8(8)
		w.dateTime(v.(time.Time))
	case Float:
		w.u8(8)
		w.u64(math.Float64bits(v.(float64)))
	case Text:
	}
}

func (w *writer) textValue(v any, long bool) {
	if v == nil {
		if long {
			w.u64(plpNull)
		} else {
			w.u16(lengthNull)
		}
		return
	}
	b := toUCS2(v.(string))
	if !long {
		w.u16(uint16(len(b)))
		w.bytes(b)
		return
	}
	w.u64(plpUnknown)
	if len(b) > 0 {
		w.u32(uint32(len(b)))
		w.bytes(b)
	}
	w.u32(0)
}

func (w *writer) numeric(digits string) {
	n, ok := new(big.Int).SetString(digits, 10)
	if !ok || len(n.Bytes()) > numericBytes {
		panic(fmt.Sprintf("%q is no numeric(25,0)", digits))
	}
	big := n.FillBytes(make([]byte, numericBytes))
	w.u8(numericBytes + 1)
	if n.Sign() < 0 {
		w.u8(0)
	} else {
		w.u8(1)
	}
	for i := range big {
		w.u8(big[numericBytes-1-i])
	}
}

// guid is the wire's order of a GUID: its first three groups are numbers, low byte first.
func guid(text string) []byte {
	var b [16]byte
	var a uint32
	var c, d uint16
	var e uint16
	var f uint64
	if _, err := fmt.Sscanf(text, "%08x-%04x-%04x-%04x-%012x", &a, &c, &d, &e, &f); err != nil {
		panic(fmt.Sprintf("%q is no GUID: %v", text, err))
	}
	binary.LittleEndian.PutUint32(b[0:], a)
	binary.LittleEndian.PutUint16(b[4:], c)
	binary.LittleEndian.PutUint16(b[6:], d)
	binary.BigEndian.PutUint64(b[8:], uint64(e)<<48|f)
	return b[:]
}

func (w *writer) dateTime(t time.Time) {
	t = t.UTC()
	midnight := time.Date(t.Year(), t.Month(), t.Day(), 0, 0, 0, 0, time.UTC)
	days := midnight.Sub(time.Date(1900, 1, 1, 0, 0, 0, 0, time.UTC)) / (24 * time.Hour)
	w.u32(uint32(int32(days)))
	w.u32(uint32(t.Sub(midnight) * 300 / time.Second))
}

package tds

import (
	"encoding/binary"
	"fmt"
)

// Verb is what a request asks for.
type Verb uint8

// The verbs.
const (
	Run      Verb = iota // of SQL, or of the procedure
	Begin                // a transaction; Begin, Commit and Rollback are the driver's own, without T-SQL
	Commit               // the transaction
	Rollback             // the transaction
)

// Param is a parameter. Value is nil, int64, bool, float64, string or []byte (for every other type, as it came).
type Param struct {
	Name  string // with its @; "" of one that is known by its place
	Value any
}

// Request is what a session is asked to do.
type Request struct {
	Verb      Verb
	SQL       string // a batch, or what sp_executesql is to run
	Procedure string // called by its name, "" if SQL is to run
	Params    []Param
	// Reset says that a pool hands the connection to its next user: the session is to be as after its login.
	Reset bool
	// Call says that the client made a remote procedure call.
	Call bool
}

// parseRequest reads the body of a message that comes after the login.
func parseRequest(m message) (Request, error) {
	q := Request{Reset: m.status&statusReset != 0}
	r := &reader{b: m.body}
	if n := length(uint64(r.u32())); r.err == nil {
		// ALL_HEADERS: the length counts itself.
		r.bytes(n - 4)
	}
	switch m.kind {
	case packetBatch:
		q.SQL = fromUCS2(r.b)
	case packetRPC:
		q.Call = true
		r.call(&q)
	case packetTransaction:
		q.Verb = r.transaction()
	default:
		return q, fmt.Errorf("packets of type %d are not understood", m.kind)
	}
	return q, r.err
}

func (r *reader) transaction() Verb {
	const begin, commit, rollback = 5, 7, 8
	switch kind := r.u16(); kind {
	case begin:
		return Begin
	case commit:
		return Commit
	case rollback:
		return Rollback
	default:
		r.fail(fmt.Errorf("transaction request %d is not understood", kind))
		return Run
	}
}

// call reads a remote procedure call.
func (r *reader) call(q *Request) {
	const byNumber, executeSQL = 0xFFFF, 10
	number := uint16(0)
	if n := r.u16(); n == byNumber {
		number = r.u16()
	} else {
		q.Procedure = fromUCS2(r.bytes(2 * int(n)))
	}
	r.u16() // option flags
	for len(r.b) > 0 {
		var p Param
		p.Name = r.text()
		r.u8() // status flags
		p.Value = r.value()
		q.Params = append(q.Params, p)
	}
	if q.Procedure != "" || r.err != nil {
		return
	}
	if number != executeSQL {
		r.fail(fmt.Errorf("procedure number %d is not understood", number))
		return
	}
	// sp_executesql: the text, the declaration of its parameters, their values.
	if len(q.Params) == 0 {
		r.fail(errShort)
		return
	}
	q.SQL, _ = q.Params[0].Value.(string)
	q.Params = q.Params[min(2, len(q.Params)):]
}

// The types of parameters that clients send.
const (
	typeNull          = 0x1F
	typeGUID          = 0x24
	typeInt           = 0x26
	typeTime          = 0x29
	typeDateTime2     = 0x2A
	typeDateTimeZone  = 0x2B
	typeBit           = 0x68
	typeDecimal       = 0x6A
	typeNumeric       = 0x6C
	typeFloat         = 0x6D
	typeDateTime      = 0x6F
	typeVarBinary     = 0xA5
	typeVarChar       = 0xA7
	typeNVarChar      = 0xE7
	lengthPLP         = 0xFFFF
	lengthNull        = 0xFFFF
	plpNull           = 0xFFFFFFFFFFFFFFFF
	plpUnknown        = 0xFFFFFFFFFFFFFFFE
	sizeOfCollation   = 5
	largestShortValue = 8000
)

// value reads a parameter's type and its value.
func (r *reader) value() any {
	switch t := r.u8(); t {
	case typeNull:
		return nil
	case typeInt, typeBit, typeFloat:
		r.u8()
		return r.number(t, r.bytes(int(r.u8())))
	case typeNVarChar, typeVarChar, typeVarBinary:
		return r.long(t)
	case typeGUID, typeDateTime, typeTime, typeDateTime2, typeDateTimeZone:
		r.u8()
		return r.short()
	case typeDecimal, typeNumeric:
		r.bytes(3)
		return r.short()
	default:
		r.fail(fmt.Errorf("parameters of type 0x%X are not understood", t))
		return nil
	}
}

func (r *reader) short() any {
	if n := int(r.u8()); n > 0 {
		return r.bytes(n)
	}
	return nil
}

func (r *reader) number(t byte, v []byte) any {
	var eight [8]byte
	switch {
	case len(v) == 0:
		return nil
	case len(v) > len(eight):
		r.fail(fmt.Errorf("a number of %d bytes", len(v)))
		return nil
	}
	copy(eight[:], v)
	u := binary.LittleEndian.Uint64(eight[:])
	switch {
	case t == typeBit:
		return u != 0
	case t == typeFloat:
		return float(u, len(v))
	case len(v) == 2:
		return int64(int16(u))
	case len(v) == 4:
		return int64(int32(u))
	default: // a tinyint has no sign
		return int64(u)
	}
}

func (r *reader) long(t byte) any {
	size := r.u16()
	if t != typeVarBinary {
		r.bytes(sizeOfCollation)
	}
	var v []byte
	if size == lengthPLP {
		if r.u64() == plpNull {
			return nil
		}
		for n := r.u32(); n != 0 && r.err == nil; n = r.u32() {
			v = append(v, r.bytes(length(uint64(n)))...)
		}
	} else {
		n := r.u16()
		if n == lengthNull {
			return nil
		}
		v = r.bytes(int(n))
	}
	switch t {
	case typeNVarChar:
		return fromUCS2(v)
	case typeVarChar:
		return string(v)
	default:
		return v
	}
}

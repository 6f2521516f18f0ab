package tds

import "encoding/binary"

// The tokens of an answer.
const (
	tokenReturnStatus = 0x79
	tokenColumns      = 0x81
	tokenError        = 0xAA
	tokenInfo         = 0xAB
	tokenLoginAck     = 0xAD
	tokenRow          = 0xD1
	tokenEnvironment  = 0xE3
	tokenDone         = 0xFD
	tokenDoneProc     = 0xFE
	tokenDoneInProc   = 0xFF
)

// The bits of a DONE token's status.
const (
	doneMore      = 0x01
	doneError     = 0x02
	doneCount     = 0x10
	doneAttention = 0x20
)

// The types of an ENVCHANGE token.
const (
	envDatabase   = 1
	envLanguage   = 2
	envPacketSize = 4
	envCollation  = 7
	envBegin      = 8
	envCommit     = 9
	envRollback   = 10
	envPartner    = 13
	envRouting    = 20
)

// collation is SQL_Latin1_General_CP1_CI_AS.
func collation() []byte { return []byte{0x09, 0x04, 0xD0, 0x00, 0x34} }

// writer puts an answer together.
type writer struct{ b []byte }

func (w *writer) u8(v byte)      { w.b = append(w.b, v) }
func (w *writer) u16(v uint16)   { w.b = binary.LittleEndian.AppendUint16(w.b, v) }
func (w *writer) u32(v uint32)   { w.b = binary.LittleEndian.AppendUint32(w.b, v) }
func (w *writer) u64(v uint64)   { w.b = binary.LittleEndian.AppendUint64(w.b, v) }
func (w *writer) bytes(v []byte) { w.b = append(w.b, v...) }

// text is B_VARCHAR: up to 255 characters.
func (w *writer) text(s string) {
	b := toUCS2(s)
	if len(b) > 2*255 {
		b = b[:2*255]
	}
	w.u8(byte(len(b) / 2))
	w.bytes(b)
}

// longText is US_VARCHAR; SQL Server's messages have up to 2048 characters.
func (w *writer) longText(s string) {
	b := toUCS2(s)
	if len(b) > 2*2048 {
		b = b[:2*2048]
	}
	w.u16(uint16(len(b) / 2))
	w.bytes(b)
}

// token is a token whose length is told in two bytes.
func (w *writer) token(kind byte, fill func(w *writer)) {
	var inner writer
	fill(&inner)
	w.u8(kind)
	w.u16(uint16(len(inner.b)))
	w.bytes(inner.b)
}

func (w *writer) environment(kind byte, now, before string) {
	w.token(tokenEnvironment, func(w *writer) {
		w.u8(kind)
		w.text(now)
		w.text(before)
	})
}

// transaction tells the client the id that it must send with what belongs to the transaction.
func (w *writer) transaction(kind byte, id uint64) {
	w.token(tokenEnvironment, func(w *writer) {
		w.u8(kind)
		if kind == envBegin {
			w.u8(8)
			w.u64(id)
			w.u8(0)
			return
		}
		w.u8(0)
		w.u8(8)
		w.u64(id)
	})
}

func (w *writer) message(token byte, server string, e Error) {
	w.token(token, func(w *writer) {
		w.u32(uint32(e.Number))
		w.u8(e.State)
		w.u8(e.Class)
		w.longText(e.Message)
		w.text(server)
		w.text("")
		w.u32(1)
	})
}

func (w *writer) done(token byte, status, command uint16, rows uint64) {
	w.u8(token)
	w.u16(status)
	w.u16(command)
	w.u64(rows)
}

package tds

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Login is what a client asks for when it connects.
type Login struct {
	User, Password, Host, Application, Server, Database string
	ReadOnly                                            bool   // ApplicationIntent=ReadOnly
	Version                                             uint32 // of TDS
	packet                                              int
}

// Greeting is what a client is told when its login is accepted.
type Greeting struct {
	Database string // that the session works in
	Partner  string // name of the partner's instance, for a client that must reconnect; "" for none
	RouteTo  string // host to which the client must go instead; "" for none
	Port     uint16 // of RouteTo
}

// prelogin is the answer to a client's first message. It says that this is version 16, and whether what follows is
// encrypted.
func prelogin(encrypted bool) []byte {
	encryption := byte(encryptionNotSupported)
	if encrypted {
		encryption = encryptionOn
	}
	options := [][]byte{{16, 0, 0x0F, 0xA0, 0, 0}, {encryption}, {0}, {}, {0}}
	var head, data []byte
	begin := 5*len(options) + 1
	for kind, value := range options {
		head = append(head, byte(kind))
		head = binary.BigEndian.AppendUint16(head, uint16(begin+len(data)))
		head = binary.BigEndian.AppendUint16(head, uint16(len(value)))
		data = append(data, value...)
	}
	return append(append(head, 0xFF), data...)
}

// The places of LOGIN7's fields.
const (
	loginVersion     = 4
	loginPacketSize  = 8
	loginTypeFlags   = 26
	loginHost        = 36
	loginUser        = 40
	loginPassword    = 44
	loginApplication = 48
	loginServer      = 52
	loginDatabase    = 68
	loginFixed       = 94

	typeFlagReadOnly = 1 << 5
	version8         = 0x08000000
)

var errLogin = errors.New("the login message is not well formed")

// parseLogin reads LOGIN7.
func parseLogin(b []byte) (Login, error) {
	if len(b) < loginFixed {
		return Login{}, fmt.Errorf("%w: %d bytes", errLogin, len(b))
	}
	var bad error
	field := func(at int) []byte {
		from := int(binary.LittleEndian.Uint16(b[at:]))
		to := from + 2*int(binary.LittleEndian.Uint16(b[at+2:]))
		switch {
		case from == to:
			return nil
		case from < loginFixed || to > len(b):
			bad = fmt.Errorf("%w: the field at %d lies outside of it", errLogin, at)
			return nil
		}
		return b[from:to]
	}
	secret := append([]byte(nil), field(loginPassword)...)
	for i, c := range secret {
		c ^= 0xA5
		secret[i] = c<<4 | c>>4
	}
	l := Login{
		User: fromUCS2(field(loginUser)), Password: fromUCS2(secret), Host: fromUCS2(field(loginHost)),
		Application: fromUCS2(field(loginApplication)), Server: fromUCS2(field(loginServer)),
		Database: fromUCS2(field(loginDatabase)), ReadOnly: b[loginTypeFlags]&typeFlagReadOnly != 0,
		Version: binary.LittleEndian.Uint32(b[loginVersion:]),
		packet:  standardPacket,
	}
	if n := binary.LittleEndian.Uint32(b[loginPacketSize:]); n >= 512 && n <= 32767 {
		l.packet = int(n)
	}
	return l, bad
}

// accept is the answer to a login.
func (l Login) accept(g Greeting) []byte {
	var w writer
	w.environment(envDatabase, g.Database, "master")
	w.token(tokenEnvironment, func(w *writer) {
		w.u8(envCollation)
		w.u8(byte(len(collation())))
		w.bytes(collation())
		w.u8(0)
	})
	w.environment(envLanguage, "us_english", "")
	if g.Partner != "" {
		w.environment(envPartner, g.Partner, "")
	}
	w.token(tokenLoginAck, func(w *writer) {
		const transactSQL = 1
		w.u8(transactSQL)
		if l.Version == version8 {
			w.bytes([]byte{8, 0, 0, 0})
		} else {
			w.bytes([]byte{0x74, 0, 0, 4})
		}
		w.text("Microsoft SQL Server")
		w.bytes([]byte{16, 0, 0x0F, 0xA0})
	})
	w.environment(envPacketSize, fmt.Sprint(l.packet), fmt.Sprint(standardPacket))
	if g.RouteTo != "" {
		w.token(tokenEnvironment, func(w *writer) {
			const tcp = 0
			var to writer
			to.u8(tcp)
			to.u16(g.Port)
			to.longText(g.RouteTo)
			w.u8(envRouting)
			w.u16(uint16(len(to.b)))
			w.bytes(to.b)
			w.u16(0)
		})
	}
	w.done(tokenDone, 0, 0, 0)
	return w.b
}

// refuse is the answer to a login, or to a statement that could not be read.
func refuse(server string, errs []Error) []byte {
	var w writer
	for _, e := range errs {
		w.message(tokenError, server, e)
	}
	w.done(tokenDone, doneError, 0, 0)
	return w.b
}

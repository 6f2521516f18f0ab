package tds

import (
	"bufio"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"net"
)

// The values of the prelogin option ENCRYPTION.
const (
	encryptionOn           = 1
	encryptionNotSupported = 2
	encryptionRequired     = 3
)

// wantsEncryption reads from a client's prelogin message whether all of the connection is to be encrypted.
func wantsEncryption(b []byte) bool {
	const end, encryption, option = 0xFF, 1, 5
	for at := 0; at+option <= len(b) && b[at] != end; at += option {
		from := int(binary.BigEndian.Uint16(b[at+1:]))
		if b[at] == encryption && from < len(b) {
			return b[from] == encryptionOn || b[from] == encryptionRequired
		}
	}
	return false
}

// peeked is a connection whose first bytes lie in a buffer.
type peeked struct {
	net.Conn
	in *bufio.Reader
}

func (p peeked) Read(b []byte) (int, error) { return p.in.Read(b) }

// beginsWithTLS finds out whether the client speaks TDS 8, where TLS comes first, and turns to it. False ends the
// connection.
func (c *connection) beginsWithTLS() bool {
	const handshake = 0x16
	c.stream, c.in = c.raw, bufio.NewReader(c.raw)
	first, err := c.in.Peek(1)
	if err != nil || first[0] != handshake {
		return err == nil
	}
	if c.server.TLS == nil {
		return false
	}
	config := c.server.TLS.Clone()
	config.NextProtos = []string{"tds/8.0"}
	c.stream = tls.Server(peeked{c.raw, c.in}, config)
	c.in = bufio.NewReader(c.stream)
	return true
}

// encrypt does the handshake of TDS 7, whose messages lie in packets; what follows lies in TLS.
func (c *connection) encrypt() error {
	config := c.server.TLS.Clone()
	// With TDS 7 SQL Server speaks nothing newer.
	config.MaxVersion, config.NextProtos, config.SessionTicketsDisabled = tls.VersionTLS12, nil, true
	inner := &wrapped{Conn: c.raw, in: c.in}
	outer := tls.Server(inner, config)
	if err := outer.HandshakeContext(c.ctx); err != nil {
		return err
	}
	inner.over = true
	c.stream, c.in = outer, bufio.NewReader(outer)
	return nil
}

// wrapped is a connection whose bytes lie in prelogin packets until the handshake is over.
type wrapped struct {
	net.Conn
	in   *bufio.Reader
	rest []byte
	over bool
}

func (w *wrapped) Read(b []byte) (int, error) {
	if w.over {
		return w.in.Read(b)
	}
	for len(w.rest) == 0 {
		m, err := readMessage(w.in)
		if err != nil {
			return 0, err
		}
		if m.kind != packetPrelogin {
			return 0, errors.New("no packet of a TLS handshake")
		}
		w.rest = m.body
	}
	n := copy(b, w.rest)
	w.rest = w.rest[n:]
	return n, nil
}

func (w *wrapped) Write(b []byte) (int, error) {
	if w.over {
		return w.Conn.Write(b)
	}
	const spid = 0
	if _, err := w.Conn.Write(packets(packetPrelogin, b, standardPacket, spid)); err != nil {
		return 0, err
	}
	return len(b), nil
}

package gate

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/pires/go-proxyproto"
)

// How a gate introduces itself to the partner's gate: a TLV of a type that the PROXY protocol leaves to
// applications, with the version of what we mean by it and the instance's name.
const (
	gateTLV   = proxyproto.PP2Type(0xE0)
	gateGreet = "witness-gate 1 "
)

// How long a connection from the partner's host may take to say that it is the gate. A gate sends its header with
// the first packet, but a busy host may be late to read it, and a header that is not recognized would reach the
// database as the client's words. Whoever is silent for so long is a client of a protocol in which the server speaks
// first, and has waited for its greeting; in PostgreSQL's and SQL Server's the client does.
const (
	signatureLimit = time.Second
	headerLimit    = 2 * time.Second
	longestHeader  = 1024
)

// introduction is what a server hears before the client's own bytes.
func (g *Gate) introduction(n newcomer, w *way) ([]byte, error) {
	if w.local && !g.o.ProxyProtocol {
		return n.first, nil
	}
	h := proxyproto.HeaderProxyFromAddrs(2, n.client, n.to)
	if !w.local {
		err := h.SetTLVs([]proxyproto.TLV{{Type: gateTLV, Value: []byte(gateGreet + g.o.Instance)}})
		if err != nil {
			return nil, fmt.Errorf("introduce this gate to the partner's: %w", err)
		}
	}
	b, err := h.Format()
	if err != nil {
		return nil, fmt.Errorf("write a PROXY header for the client %v: %w", n.client, err)
	}
	return append(b, n.first...), nil
}

var errNoClient = errors.New("the partner's gate does not say for whom it speaks")

// hear looks whether the partner's gate speaks. What it reads and is not a gate's header is the client's.
func (n *newcomer) hear() error {
	defer n.conn.SetReadDeadline(time.Time{}) //nolint:errcheck // a broken connection is found by its reader
	r := bufio.NewReaderSize(n.conn, longestHeader)
	h := headerIn(n.conn, r)
	if h != nil && isGate(h) {
		client, to, ok := h.TCPAddrs()
		if h.Command != proxyproto.PROXY || !ok {
			return errNoClient
		}
		n.client, n.to, n.fromGate = client, to, true
		if _, err := r.Discard(headerLength(r)); err != nil {
			return err
		}
	}
	if rest := r.Buffered(); rest > 0 {
		b, err := r.Peek(rest)
		if err != nil {
			return err
		}
		n.first = bytes.Clone(b)
	}
	return nil
}

// headerIn is the PROXY header at the beginning of what r reads, or nil if there is none. All stays in r.
func headerIn(c net.Conn, r *bufio.Reader) *proxyproto.Header {
	_ = c.SetReadDeadline(soon(signatureLimit))
	// Byte by byte, for a client that says less than a signature is long and then waits for an answer.
	for have := 0; have < len(proxyproto.SIGV2); {
		if _, err := r.Peek(have + 1); err != nil {
			return nil
		}
		have = min(r.Buffered(), len(proxyproto.SIGV2))
		if b, _ := r.Peek(have); !bytes.HasPrefix(proxyproto.SIGV2, b) {
			return nil
		}
	}
	_ = c.SetReadDeadline(soon(headerLimit))
	if _, err := r.Peek(fixedLength); err != nil {
		return nil
	}
	b, err := r.Peek(headerLength(r))
	if err != nil {
		return nil
	}
	h, err := proxyproto.Read(bufio.NewReaderSize(bytes.NewReader(b), longestHeader))
	if err != nil {
		return nil
	}
	return h
}

// fixedLength is what every header begins with: the signature, two bytes of kinds, two of the length of the rest.
const fixedLength = 16

// headerLength is the length of the whole header whose beginning is in r.
func headerLength(r *bufio.Reader) int {
	b, err := r.Peek(fixedLength)
	if err != nil {
		return 0
	}
	return fixedLength + int(binary.BigEndian.Uint16(b[fixedLength-2:]))
}

func isGate(h *proxyproto.Header) bool {
	list, err := h.TLVs()
	if err != nil {
		return false
	}
	for _, t := range list {
		if t.Type == gateTLV && bytes.HasPrefix(t.Value, []byte(gateGreet)) {
			return true
		}
	}
	return false
}

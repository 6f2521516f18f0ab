package tds

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
)

// The types of packets.
const (
	packetBatch       = 1
	packetRPC         = 3
	packetReply       = 4
	packetAttention   = 6
	packetTransaction = 14
	packetLogin       = 16
	packetPrelogin    = 18
)

const (
	headerSize = 8
	// standardPacket is the size of packets until both sides have agreed on another.
	standardPacket = 4096
	// largestMessage bounds what a client can make the server keep.
	largestMessage = 16 << 20

	statusLast  = 1
	statusReset = 8 | 16
)

// message is what a client sends at once, put together from its packets.
type message struct {
	kind, status byte
	body         []byte
}

// readMessage reads packets until the last of a message.
func readMessage(from *bufio.Reader) (message, error) {
	var m message
	for first := true; ; first = false {
		var head [headerSize]byte
		if _, err := io.ReadFull(from, head[:]); err != nil {
			return message{}, err
		}
		n := int(binary.BigEndian.Uint16(head[2:])) - headerSize
		switch {
		case n < 0:
			return message{}, fmt.Errorf("packet of type %d is shorter than its header", head[0])
		case len(m.body)+n > largestMessage:
			return message{}, fmt.Errorf("message is longer than %d bytes", largestMessage)
		case !known(head[0]):
			return message{}, fmt.Errorf("packets of type %d are not understood", head[0])
		case first:
			m.kind, m.status = head[0], head[1]
		case head[0] != m.kind:
			return message{}, fmt.Errorf("packet of type %d in a message of type %d", head[0], m.kind)
		}
		at := len(m.body)
		m.body = append(m.body, make([]byte, n)...)
		if _, err := io.ReadFull(from, m.body[at:]); err != nil {
			return message{}, err
		}
		if head[1]&statusLast != 0 {
			return m, nil
		}
	}
}

// known tells TDS from what else may come to the port, before waiting for all of it.
func known(kind byte) bool { return kind <= packetPrelogin }

// packets cuts an answer into packets of a size.
func packets(kind byte, body []byte, size int, spid uint16) []byte {
	most := size - headerSize
	out := make([]byte, 0, len(body)+headerSize*(len(body)/most+1))
	for id := byte(1); ; id++ {
		n, status := min(len(body), most), byte(0)
		if n == len(body) {
			status = statusLast
		}
		out = append(out, kind, status)
		out = binary.BigEndian.AppendUint16(out, uint16(n+headerSize))
		out = binary.BigEndian.AppendUint16(out, spid)
		out = append(out, id, 0)
		out = append(out, body[:n]...)
		body = body[n:]
		if status == statusLast {
			return out
		}
	}
}

package kv

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"time"
)

// After STREAM both sides send frames: kind (1 byte), offset (8), length (4), payload.
const (
	frameData = 'D' // to the mirror: whole records that stand at offset
	framePing = 'P' // to the mirror: the primary lives and has offset on disk; wants a confirmation
	frameAck  = 'A' // to the primary: everything before offset is on the mirror's disk

	frameHeader = 13
	// chunk is about how much a data frame carries.
	chunk = 128 << 10
	// maxFrame bounds what is read into memory: a chunk may end with one record of the largest size.
	maxFrame = chunk + headerSize + maxPayload
)

// frame is one message between primary and mirror.
type frame struct {
	kind    byte
	offset  int64
	payload []byte
}

// sendFrame writes a frame, or fails when the other side does not take it within patience.
func sendFrame(conn net.Conn, f frame, patience time.Duration) error {
	b := make([]byte, 0, frameHeader+len(f.payload))
	b = append(b, f.kind)
	b = binary.BigEndian.AppendUint64(b, uint64(f.offset))
	b = binary.BigEndian.AppendUint32(b, uint32(len(f.payload)))
	b = append(b, f.payload...)
	if err := conn.SetWriteDeadline(after(patience)); err != nil {
		return err
	}
	_, err := conn.Write(b)
	return err
}

// frameBuffered says that the next frame has arrived whole, so that reading it does not wait.
func frameBuffered(in *bufio.Reader) bool {
	if in.Buffered() < frameHeader {
		return false
	}
	head, err := in.Peek(frameHeader)
	return err == nil && in.Buffered()-frameHeader >= int(binary.BigEndian.Uint32(head[9:]))
}

// readFrame reads a frame.
func readFrame(in *bufio.Reader) (frame, error) {
	var head [frameHeader]byte
	if _, err := io.ReadFull(in, head[:]); err != nil {
		return frame{}, err
	}
	f := frame{kind: head[0], offset: int64(binary.BigEndian.Uint64(head[1:]))}
	n := binary.BigEndian.Uint32(head[9:])
	if n > maxFrame {
		return frame{}, fmt.Errorf("a frame of %d bytes is longer than any", n)
	}
	f.payload = make([]byte, n)
	_, err := io.ReadFull(in, f.payload)
	return f, err
}

package ledger

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	logv1 "github.com/witnessd/witnessd/proto/gen/witnesslog/v1"
)

// magic begins a snapshot; the format byte follows.
const magic = "WITNESS"

// maxPart bounds what one length in a snapshot can make a reader allocate. The largest part is a record or
// an event with the longest text that a gRPC message (4 MB) can have brought in.
const maxPart = 64 << 20

// headBytes is what comes before each part: its length and its checksum.
const headBytes = 8

// partWriter writes a snapshot part by part and keeps the first error.
type partWriter struct {
	w     *bufio.Writer
	buf   []byte
	parts uint64
	err   error
}

func newPartWriter(w io.Writer) *partWriter {
	p := &partWriter{w: bufio.NewWriterSize(w, 1<<14)}
	_, p.err = p.w.Write(append([]byte(magic), format))
	return p
}

func (p *partWriter) put(part *logv1.SnapshotPart) {
	if p.err != nil {
		return
	}
	p.buf = marshal(append(p.buf[:0], make([]byte, headBytes)...), part)
	body := p.buf[headBytes:]
	if len(body) > maxPart {
		p.err = fmt.Errorf("part %d has %d bytes, more than %d", p.parts, len(body), maxPart)
		return
	}
	binary.LittleEndian.PutUint32(p.buf, uint32(len(body)))
	binary.LittleEndian.PutUint32(p.buf[4:], checksum(body))
	_, p.err = p.w.Write(p.buf)
	p.parts++
}

// finish writes the part that proves that nothing is missing.
func (p *partWriter) finish() error {
	p.put(&logv1.SnapshotPart{Part: &logv1.SnapshotPart_End{End: &logv1.SnapshotEnd{Parts: p.parts}}})
	if p.err == nil {
		p.err = p.w.Flush()
	}
	if p.err != nil {
		return fmt.Errorf("write snapshot: %w", p.err)
	}
	return nil
}

// partReader reads a snapshot part by part.
type partReader struct {
	r     *bufio.Reader
	parts uint64 // taken so far
}

func newPartReader(r io.Reader) (*partReader, error) {
	p := &partReader{r: bufio.NewReaderSize(r, 1<<14)}
	head := make([]byte, len(magic)+1)
	if err := p.fill(head); err != nil {
		return nil, fmt.Errorf("snapshot's first bytes: %w", err)
	}
	if string(head[:len(magic)]) != magic {
		return nil, errors.New("this is not a witness's snapshot")
	}
	if head[len(magic)] != format {
		return nil, fmt.Errorf("snapshot of format %d, this release knows %d: %s", head[len(magic)], format, upgrade)
	}
	return p, nil
}

func (p *partReader) next() (*logv1.SnapshotPart, error) {
	var head [headBytes]byte
	if err := p.fill(head[:]); err != nil {
		return nil, err
	}
	length := binary.LittleEndian.Uint32(head[:4])
	if length > maxPart {
		return nil, fmt.Errorf("damaged: a length of %d bytes", length)
	}
	body := make([]byte, length)
	if err := p.fill(body); err != nil {
		return nil, err
	}
	if checksum(body) != binary.LittleEndian.Uint32(head[4:]) {
		return nil, errors.New("damaged: its checksum is another")
	}
	part := &logv1.SnapshotPart{}
	if err := unmarshal(body, part); err != nil {
		return nil, fmt.Errorf("%w: %s", err, upgrade)
	}
	return part, nil
}

// finish checks that the end is the end, and that of these parts.
func (p *partReader) finish(end *logv1.SnapshotEnd) error {
	if end.GetParts() != p.parts || p.parts == 0 {
		return fmt.Errorf("damaged: %d parts of %d", p.parts, end.GetParts())
	}
	switch _, err := p.r.ReadByte(); {
	case err == nil:
		return errors.New("damaged: something follows the end")
	case !errors.Is(err, io.EOF):
		return err
	default:
		return nil
	}
}

// fill reads all of b. That there is nothing more is as unexpected between parts as within one.
func (p *partReader) fill(b []byte) error {
	_, err := io.ReadFull(p.r, b)
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

func checksum(b []byte) uint32 { return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)) }

package gate

import (
	"errors"

	"golang.org/x/sys/unix"
)

const (
	// blockSize is how much is read at a time. What fills a block is a stream, which goes on by splice.
	blockSize = 32 << 10
	// spliceSize is how much is spliced at a time, and so what a process may deliver late that was stopped between
	// its look at the clock and the call.
	spliceSize = 256 << 10
	// turnSize is how much one flow may move before others get their turn.
	turnSize = 1 << 20
)

// line is a passage that a loop carries.
type line struct {
	*passage
	ends   [2]socket // by clientEnd, serverEnd
	flows  [2]flow   // by the end that they come from
	queued bool      // in loop.ready
	closed bool
}

const (
	clientEnd = iota
	serverEnd
)

// socket is one end of a line, with what the kernel has said of it.
type socket struct {
	fd       int // -1: closed
	line     *line
	readable bool
	writable bool
	lastRead bool // the peer has said all: read on to the end, no event will come for it
	broken   bool
}

// flow is one direction of a line.
type flow struct {
	block  []byte // taken for rest; nil mostly
	rest   []byte // read and not yet written
	lent   bool   // rest lies in the loop's block, until the end of the turn
	pipe   *pipe  // taken while a stream flows
	piped  int    // bytes in pipe
	stream bool   // the last read was large
	ended  bool   // nothing more comes
	shut   bool   // and that has been passed on
}

func newLine(p *passage, client, server int) *line {
	n := &line{passage: p}
	n.ends[clientEnd] = socket{fd: client, line: n, readable: true, writable: true}
	n.ends[serverEnd] = socket{fd: server, line: n, readable: true, writable: true}
	n.flows[clientEnd].rest = p.first
	p.client, p.server, p.first = nil, nil, nil // nothing but descriptors is left of them
	return n
}

// note remembers what an event says.
func (s *socket) note(events uint32) {
	s.broken = s.broken || events&unix.EPOLLERR != 0
	s.lastRead = s.lastRead || events&(unix.EPOLLRDHUP|unix.EPOLLHUP) != 0
	s.readable = s.readable || events&(unix.EPOLLIN|unix.EPOLLRDHUP|unix.EPOLLHUP) != 0
	s.writable = s.writable || events&(unix.EPOLLOUT|unix.EPOLLHUP) != 0
}

// turn moves what can be moved on a line, up to turnSize each way.
func (l *loop) turn(n *line) {
	for i := range n.flows {
		if n.ends[i].broken {
			l.close(n, broken)
			return
		}
		more, how := l.move(n, i)
		if how != goOn {
			l.close(n, how)
			return
		}
		if more && !n.queued {
			n.queued = true
			l.ready = append(l.ready, n)
		}
	}
	if n.flows[clientEnd].shut && n.flows[serverEnd].shut {
		l.close(n, finished)
	}
}

// move passes bytes that come from an end, until a side has to be waited for, or the turn is over: then more is
// true.
func (l *loop) move(n *line, end int) (more bool, how ending) {
	f, from, to := &n.flows[end], &n.ends[end], &n.ends[1-end]
	for moved := 0; moved < turnSize; {
		switch {
		case f.holds():
			if !to.writable {
				l.keep(f)
				return false, goOn
			}
			// Between this look and the call in deliver a process may be stopped for any time; then what that one
			// call passes is late, and nothing after it.
			if !n.way.open(l.gate.o.Clock) {
				return false, cutOff
			}
			sent, err := f.deliver(to)
			if err != nil {
				return false, broken
			}
			moved += sent
			l.count(end, sent)
		case f.ended:
			l.drop(f)
			return false, f.passEnd(to)
		case !to.writable:
			return false, goOn
		case !from.readable:
			l.drop(f)
			return false, goOn
		default:
			if err := l.take(f, from); err != nil {
				return false, broken
			}
		}
	}
	l.keep(f)
	return true, goOn
}

func (f *flow) holds() bool { return len(f.rest) > 0 || f.piped > 0 }

// take reads once, into the loop's block or, of a stream, into a pipe.
func (l *loop) take(f *flow, from *socket) error {
	if f.stream && f.pipe == nil {
		f.pipe = l.takePipe()
	}
	if f.stream && f.pipe != nil {
		return f.splice(from)
	}
	l.dropBlock(f)
	got, err := readNow(from.fd, l.block)
	switch {
	case err != nil:
		return from.readFailed(err)
	case got == 0:
		f.ended = true
		return nil
	}
	f.rest, f.lent = l.block[:got], true
	f.stream = got == len(l.block)
	// A read that is not full has emptied the socket, and the next byte is an event; the end is none if it was
	// there before.
	from.readable = f.stream || from.lastRead
	return nil
}

// splice fills the empty pipe.
func (f *flow) splice(from *socket) error {
	got, err := spliceNow(from.fd, f.pipe.in, spliceSize)
	switch {
	case err != nil:
		f.stream = false
		return from.readFailed(err)
	case got == 0:
		f.ended = true
		return nil
	}
	f.piped = got
	f.stream = got >= blockSize
	return nil
}

// readFailed is the error of a read, unless there was only nothing to read.
func (s *socket) readFailed(err error) error {
	if errors.Is(err, unix.EAGAIN) {
		s.readable = false
		return nil
	}
	if errors.Is(err, unix.EINTR) {
		return nil
	}
	return err
}

// deliver makes one call to pass on what the flow holds.
func (f *flow) deliver(to *socket) (sent int, err error) {
	if len(f.rest) > 0 {
		if sent, err = writeNow(to.fd, f.rest); err == nil {
			f.rest = f.rest[sent:]
			return sent, nil
		}
	} else if sent, err = spliceNow(f.pipe.out, to.fd, f.piped); err == nil {
		f.piped -= sent
		return sent, nil
	}
	if errors.Is(err, unix.EAGAIN) {
		to.writable = false
		return 0, nil
	}
	if errors.Is(err, unix.EINTR) {
		return 0, nil
	}
	return 0, err
}

// passEnd tells the other side that no more will come. It still may answer.
func (f *flow) passEnd(to *socket) ending {
	if f.shut {
		return goOn
	}
	if err := unix.Shutdown(to.fd, unix.SHUT_WR); err != nil {
		return broken
	}
	f.shut = true
	return goOn
}

// keep moves what is left in the loop's block to one of the flow's own: the next line needs the loop's. So a flow
// whose reader is slow holds one block, or a pipe, and reads no more.
func (l *loop) keep(f *flow) {
	if !f.lent || len(f.rest) == 0 {
		return
	}
	f.block = l.takeBlock()
	f.rest = f.block[:copy(f.block, f.rest)]
	f.lent = false
}

// drop gives back what the flow has taken to hold bytes. An idle line has nothing.
func (l *loop) drop(f *flow) {
	l.dropBlock(f)
	if f.pipe == nil {
		return
	}
	if f.piped > 0 {
		f.pipe.close() // what is in it belongs to nobody now
	} else {
		l.givePipe(f.pipe)
	}
	f.pipe, f.piped = nil, 0
}

func (l *loop) dropBlock(f *flow) {
	if f.block != nil {
		l.giveBlock(f.block)
		f.block, f.rest = nil, nil
	}
}

func (l *loop) count(end, sent int) {
	if end == clientEnd {
		l.up.Add(uint64(sent))
	} else {
		l.down.Add(uint64(sent))
	}
}

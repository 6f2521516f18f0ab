package gate

import "golang.org/x/sys/unix"

// pipe holds a stream's bytes between two splices.
type pipe struct{ in, out int }

// newPipe makes a pipe of the size that a splice asks for, or as large as this user may have.
func newPipe() (*pipe, error) {
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_NONBLOCK|unix.O_CLOEXEC); err != nil {
		return nil, err
	}
	_, _ = unix.FcntlInt(uintptr(fds[1]), unix.F_SETPIPE_SZ, spliceSize)
	return &pipe{in: fds[1], out: fds[0]}, nil
}

func (p *pipe) close() {
	_ = unix.Close(p.in)
	_ = unix.Close(p.out)
}

func (l *loop) takePipe() *pipe {
	if n := len(l.pipes); n > 0 {
		p := l.pipes[n-1]
		l.pipes = l.pipes[:n-1]
		return p
	}
	p, err := newPipe()
	if err != nil {
		return nil // descriptors have run out: copying needs none
	}
	return p
}

func (l *loop) givePipe(p *pipe) {
	if len(l.pipes) < spares {
		l.pipes = append(l.pipes, p)
		return
	}
	p.close()
}

package gate

import (
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// untilGone returns true when the peer has closed the connection, false when the connection's read deadline has
// passed. It reads nothing: the bytes that a client sends at once are for the database.
func untilGone(c net.Conn) bool {
	s, ok := c.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return false
	}
	err = raw.Read(func(fd uintptr) bool {
		poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}}
		n, err := unix.Poll(poll, 0)
		return err == nil && n > 0 // RDHUP, HUP or ERR
	})
	return err == nil
}

// partnerSilence is how long bytes toward the partner may go unacknowledged: its host may be off, and the route
// says so only when another primary is known.
const partnerSilence = 10 * time.Second

func tunePartner(c net.Conn) {
	tcp, ok := c.(*net.TCPConn)
	if !ok {
		return
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(partnerSilence.Milliseconds()))
	})
}

// takeOver makes a descriptor of our own from a connection and closes the connection: from then on the runtime's
// poller knows nothing of the socket. It returns -1 if that cannot be; then the connection is as it was.
func takeOver(c net.Conn) int {
	tcp, ok := c.(*net.TCPConn)
	if !ok {
		return -1
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return -1
	}
	own := -1
	err = raw.Control(func(fd uintptr) {
		if n, err := unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0); err == nil {
			own = n
		}
	})
	if err != nil {
		return -1
	}
	return own
}

// reset closes a socket so that its peer hears a reset.
func reset(fd int) {
	_ = unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	_ = unix.Close(fd)
}

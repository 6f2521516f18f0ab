package sqlserver

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// markSocket has the host's own fence let a connection pass. Who may not mark may not change the fence either, so there
// is none to pass.
func markSocket(mark uint32) func(network, address string, c syscall.RawConn) error {
	if mark == 0 {
		return nil
	}
	return func(_, _ string, c syscall.RawConn) error {
		return c.Control(func(fd uintptr) {
			_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_MARK, int(mark))
		})
	}
}

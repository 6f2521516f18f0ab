package watchdog

import (
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// notifier is systemd's socket. What it cannot take at once is not sent: the loop waits for nobody.
type notifier struct {
	fd int
	to *unix.SockaddrUnix
}

func openNotifier(address string) (*notifier, error) {
	if !strings.HasPrefix(address, "/") && !strings.HasPrefix(address, "@") {
		return nil, fmt.Errorf("NOTIFY_SOCKET is %q, which is no unix socket", address)
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open a socket for %s: %w", address, err)
	}
	return &notifier{fd: fd, to: &unix.SockaddrUnix{Name: address}}, nil // "@..." is in the abstract name space
}

func (n *notifier) send(state string) error {
	if err := unix.Sendto(n.fd, []byte(state), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, n.to); err != nil {
		return fmt.Errorf("send to %s: %w", n.to.Name, err)
	}
	return nil
}

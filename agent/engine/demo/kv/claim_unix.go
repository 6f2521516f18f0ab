//go:build unix

package kv

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

func lockRecord(file *os.File) error {
	return unix.FcntlFlock(file.Fd(), unix.F_SETLK, &unix.Flock_t{Type: unix.F_WRLCK})
}

// recordOwner asks the kernel which process has the lock; 0 if none.
func recordOwner(file *os.File) (int, error) {
	lock := unix.Flock_t{Type: unix.F_WRLCK}
	for {
		err := unix.FcntlFlock(file.Fd(), unix.F_GETLK, &lock)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || lock.Type == unix.F_UNLCK {
			return 0, err
		}
		if lock.Pid <= 0 {
			return 0, errors.New("the owner is a process of another PID namespace")
		}
		return int(lock.Pid), nil
	}
}

package watchdog

import (
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// device is a watchdog device (the kernel's Documentation/watchdog/watchdog-api.rst). From its opening on it restarts
// the host if it is not fed.
type device struct{ file *os.File }

func openDevice(path string) (*device, error) {
	file, err := os.OpenFile(path, os.O_WRONLY, 0)
	if errors.Is(err, unix.EBUSY) {
		return nil, fmt.Errorf("open watchdog: %w: another program has it; is RuntimeWatchdogSec= set in "+
			"/etc/systemd/system.conf?", err)
	}
	if err != nil {
		return nil, fmt.Errorf("open watchdog: %w", err)
	}
	return &device{file: file}, nil
}

// setTimeout returns the timeout in force, 0 if it is not known.
func (d *device) setTimeout(timeout time.Duration) (time.Duration, error) {
	fd := int(d.file.Fd())
	seconds := int((timeout + time.Second - 1) / time.Second)
	failed := unix.IoctlSetPointerInt(fd, unix.WDIOC_SETTIMEOUT, seconds)
	// A driver may round, or know one timeout only.
	got, err := unix.IoctlGetInt(fd, unix.WDIOC_GETTIMEOUT)
	if err != nil || got <= 0 {
		return 0, fmt.Errorf("set and get its timeout: %w", errors.Join(failed, err))
	}
	return time.Duration(got) * time.Second, nil
}

func (d *device) feed() error {
	_, err := d.file.Write([]byte{0})
	return err
}

// disarm says goodbye with the letter that keeps the kernel from taking the closing for a crash. A driver built or
// loaded with nowayout runs on all the same.
func (d *device) disarm() error {
	_, err := d.file.Write([]byte{'V'})
	return errors.Join(err, d.file.Close())
}

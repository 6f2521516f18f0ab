//go:build !linux

package watchdog

import (
	"errors"
	"time"
)

var errNone = errors.New("this system has none")

// notifier is there on Linux only.
type notifier struct{}

func openNotifier(string) (*notifier, error) { return nil, errNone }

func (*notifier) send(string) error { return errNone }

// device is there on Linux only.
type device struct{}

func openDevice(string) (*device, error) { return nil, errNone }

func (*device) setTimeout(time.Duration) (time.Duration, error) { return 0, errNone }

func (*device) feed() error { return errNone }

func (*device) disarm() error { return errNone }

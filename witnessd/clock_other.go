//go:build !linux && !windows

package witnessd

import (
	"syscall"

	"github.com/witnessd/witnessd/witnessd/pair"
)

// bootClock is for developers' machines only: it is the wall clock, which may be set.
func bootClock() pair.Instant {
	var tv syscall.Timeval
	if err := syscall.Gettimeofday(&tv); err != nil {
		panic("witnessd: this system has no clock: " + err.Error())
	}
	return pair.Instant(tv.Nano())
}

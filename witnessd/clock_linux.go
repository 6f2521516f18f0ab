package witnessd

import (
	"golang.org/x/sys/unix"

	"github.com/witnessd/witnessd/witnessd/pair"
)

// bootClock reads CLOCK_BOOTTIME, which counts the time that the machine was suspended (rule R1): a leader
// that slept must not believe that the leases it granted have not run out yet, nor grant from the past.
func bootClock() pair.Instant {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		panic("witnessd: this kernel has no CLOCK_BOOTTIME: " + err.Error())
	}
	return pair.Instant(ts.Nano())
}

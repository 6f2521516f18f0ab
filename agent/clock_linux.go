package agent

import (
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/witnessd/witnessd/agent/hold"
)

// BootClock reads CLOCK_BOOTTIME, which counts suspend (rule R1): a host that slept through its lease must
// not believe that it still has it.
func BootClock() hold.Instant {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		panic("agent: this kernel has no CLOCK_BOOTTIME: " + err.Error())
	}
	return hold.Instant(ts.Nano())
}

// bootID identifies this boot of the host; boot-time instants of another boot mean nothing.
func bootID() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

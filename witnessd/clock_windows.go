package witnessd

import (
	"golang.org/x/sys/windows"

	"github.com/witnessd/witnessd/witnessd/pair"
)

// bootClock counts the time that the machine was suspended (rule R1), in steps of about 16 ms.
func bootClock() pair.Instant { return pair.Instant(windows.DurationSinceBoot()) }

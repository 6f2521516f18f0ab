package agent

import (
	"fmt"
	"time"
	"unsafe"

	"golang.org/x/sys/windows"
	"golang.org/x/sys/windows/registry"

	"github.com/witnessd/witnessd/agent/hold"
)

// interruptTime counts from the start of the system, in 100 ns, and counts sleep and hibernation (rule R1).
// QueryUnbiasedInterruptTime, which Go's own clock may rest on, does not.
var interruptTime = windows.NewLazySystemDLL("kernelbase.dll").NewProc("QueryInterruptTimePrecise")

// BootClock reads a clock that counts suspend: a host that slept through its lease must not believe that it still
// has it.
func BootClock() hold.Instant {
	if interruptTime.Find() != nil {
		// Before Windows 10. It counts suspend too, in steps of some 16 ms.
		return hold.Instant(windows.DurationSinceBoot())
	}
	var hundreds uint64
	_, _, _ = interruptTime.Call(uintptr(unsafe.Pointer(&hundreds)))
	return hold.Instant(hundreds * 100)
}

// bootID identifies this boot of the host. The number that Windows counts its boots with is taken where there is one;
// else the moment of the boot, which a step of the wall clock changes: a mark of another boot is no mark, so that is
// only careful.
func bootID() string {
	const path = `SYSTEM\CurrentControlSet\Control\Session Manager\Memory Management\PrefetchParameters`
	if key, err := registry.OpenKey(registry.LOCAL_MACHINE, path, registry.QUERY_VALUE); err == nil {
		defer key.Close()
		if n, _, err := key.GetIntegerValue("BootId"); err == nil {
			return fmt.Sprintf("boot %d", n)
		}
	}
	const step = 10 * time.Second
	return "booted " + time.Now().Add(-windows.DurationSinceBoot()).Round(step).UTC().Format(time.RFC3339)
}

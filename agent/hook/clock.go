package hook

import "time"

// stopwatch measures how long a command ran. Nothing is decided by it.
func stopwatch() func() time.Duration {
	began := time.Now()
	return func() time.Duration { return time.Since(began) }
}

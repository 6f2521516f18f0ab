package witnessd

import "time"

// wallClock is in milliseconds, for the history.
func wallClock() int64 { return time.Now().UnixMilli() }

// age is how long ago a moment was that another part of this process noted; negative: never.
func age(t time.Time) time.Duration {
	if t.IsZero() {
		return -1
	}
	return time.Since(t)
}

// stopwatch measures how long the process has been running.
func stopwatch() func() time.Duration {
	start := time.Now()
	return func() time.Duration { return time.Since(start) }
}

package postgres

import "time"

// now is the wall clock. It names kept directories and measures what a step took for the log; nothing is
// decided by it.
func now() time.Time { return time.Now() }

// since is how long ago t was, for the log.
func since(t time.Time) time.Duration { return time.Since(t).Round(100 * time.Microsecond) }

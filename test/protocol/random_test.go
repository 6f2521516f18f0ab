package protocol

import (
	"flag"
	"runtime/debug"
	"strings"
	"testing"
)

var (
	seeds = flag.Int("seeds", 1000, "number of random schedules")
	first = flag.Uint64("first", 1, "the first of them")
	seed  = flag.Uint64("seed", 0, "run only this schedule and print its trace")
)

// TestRandomFaults plays the first schedules of `make sim`.
// go test ./test/protocol -run RandomFaults -seed N replays one, and so does make sim SEED=N.
func TestRandomFaults(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(800)) // worlds are short-lived garbage
	from, to := *first, *first+uint64(*seeds)-1
	if *seed != 0 {
		from, to = *seed, *seed
	}
	for n := from; n <= to; n++ {
		o := Run(n, *seed != 0)
		if *seed != 0 {
			t.Logf("trace:\n%s", o.Trace)
		}
		if len(o.Violations) > 0 {
			faults, _ := Reduce(n)
			t.Fatalf("seed %d: %v\nreplay: make sim SEED=%d\nreduced to these faults:\n%s", n, o.Violations, n,
				strings.Join(faults, "\n"))
		}
	}
}

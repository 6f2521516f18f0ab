// Command sim searches the protocol for schedules that break its promises: the pure halves that ship, in a simulated
// world of several pairs, with faults, clocks and a network that a seed decides (see test/protocol).
//
// It exits with 0 if every schedule kept all promises, with 1 at the first that did not, which it reduces to few
// faults, and with 2 if it was called wrongly.
package main

import (
	"flag"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	"github.com/witnessd/witnessd/test/protocol"
)

// options are the flags.
type options struct {
	seeds   uint64
	first   uint64
	workers int
	every   time.Duration
}

func main() {
	o := options{every: 2 * time.Second}
	flag.Uint64Var(&o.seeds, "seeds", 20_000, "number of schedules")
	flag.Uint64Var(&o.first, "first", 1, "seed of the first")
	flag.IntVar(&o.workers, "workers", runtime.NumCPU(), "schedules that run at the same time")
	seed := flag.Uint64("seed", 0, "run only this schedule and print its trace")
	flag.Parse()
	if flag.NArg() > 0 || o.workers < 1 || o.seeds < 1 || o.first < 1 {
		fmt.Fprintln(os.Stderr, "sim: numbers start at 1, and there are no arguments")
		flag.Usage()
		os.Exit(2)
	}
	// Worlds are short-lived garbage of a few hundred kilobytes.
	debug.SetGCPercent(800)
	if *seed != 0 {
		os.Exit(tell(*seed))
	}
	os.Exit(search(o))
}

// tell plays one schedule and prints what happened.
func tell(seed uint64) int {
	o := protocol.Run(seed, true)
	fmt.Println(o.Trace)
	fmt.Printf("seed %d: %d pairs, %d faults in %v, %d commits acknowledged\n", seed, o.Pairs, o.Faults,
		o.Virtual.Round(time.Millisecond), o.Commits)
	if len(o.Violations) == 0 {
		fmt.Println("every promise was kept")
		return 0
	}
	complain(o)
	return 1
}

// complain says how a schedule failed, how to see it again, and which of its faults are enough.
func complain(o protocol.Outcome) {
	fmt.Printf("\nseed %d FAILS\n", o.Seed)
	for _, v := range firstFew(o.Violations) {
		fmt.Printf("  %s\n", v)
	}
	faults, reduced := protocol.Reduce(o.Seed)
	fmt.Printf("reduced from %d to %d faults, which end in\n  %s\n  %s\n", o.Faults, len(faults),
		strings.Join(firstFew(reduced.Violations), "\n  "), strings.Join(faults, "\n  "))
	fmt.Printf("replay: make sim SEED=%d\n", o.Seed)
}

// firstFew leaves out what only follows from the first.
func firstFew(violations []string) []string { return violations[:min(3, len(violations))] }

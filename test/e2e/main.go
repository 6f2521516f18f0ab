// Command e2e measures what the product promises on real databases: it runs each fault many times against a
// pair that is written to all the time, checks every acknowledged row afterwards, and prints one table.
//
// There are two sets of faults, both with each host in a network namespace. "fence" is about agents and hosts that are
// stopped, cut off or go on later, with clients at every place from which they could reach an old primary. "gate" is
// about clients that connect through the agents' gates. All other faults are in test/matrix.
//
// It exits with 1 if a row was lost, if two hosts answered as primaries at the same time, if a pair did not arm
// again by itself, or if another promise of a row did not hold.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/witnessd/witnessd/test/fleet"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	runs := flag.Int("runs", 10, "runs of each fault")
	set := flag.String("set", "fence", "fence or gate")
	only := flag.String("only", "", "comma list of faults; empty: all")
	out := flag.String("table", "", "write the table as Markdown to this file too")
	programs := flag.String("programs", "", "directory of the programs to run; empty: those of this module are built")
	keep := flag.Bool("keep", false, "leave logs and data behind")
	flag.Parse()
	if err := runSet(ctx, *set, choice{*runs, *only, *out, *programs, *keep}); err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		os.Exit(1) //nolint:gocritic // nothing is left to be undone
	}
}

// choice is what the command line says.
type choice struct {
	runs  int
	only  string // comma list of faults; empty: all
	table string // file; empty: none

	programs string // directory; empty: built
	keep     bool
}

// takes says whether the fault with that flag is to be run.
func (c choice) takes(name string) bool {
	return c.only == "" || slices.Contains(strings.Split(c.only, ","), name)
}

func runSet(ctx context.Context, set string, c choice) error {
	switch set {
	case "fence":
		return measurePlaces(ctx, c, fenceRows(), fleet.Options{})
	case "gate":
		return measurePlaces(ctx, c, gateRows(), fleet.Options{Gates: true})
	default:
		return fmt.Errorf("set %q must be fence or gate", set)
	}
}

// explain adds what an engineer would look at first.
func explain(f *fleet.Fleet, err error) error {
	var b strings.Builder
	for _, n := range f.Nodes {
		fmt.Fprintf(&b, "\n--- node %s\n%s", n.ID, n.Logs(15))
	}
	for _, p := range f.Pairs {
		for _, h := range p.Hosts {
			fmt.Fprintf(&b, "\n--- host %s\n%s", h.Name, h.Logs(25))
		}
	}
	return fmt.Errorf("%w%s", err, b.String())
}

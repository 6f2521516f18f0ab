// Command model explores the protocol exhaustively: every way in which a few faults can befall one pair on two hosts
// with a witness whose leader changes, each message lost, late, overtaken or doubled. What decides is the code that
// ships, pair.Step with Record.Apply and hold.Step; around it are only messages, clocks and a small database.
//
// It looks for two primaries (G1), a promotion without every acknowledged commit (G2), epochs that go back, a sole
// right that was superseded without an operator, and dead ends: states from which the pair does not come back when all
// faults have ended.
package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

// settings are what is explored.
type settings struct {
	more    int // faults beyond what each family names
	limit   int
	family  string
	start   string
	workers int
	share   map[string][]string // nil: every family from all of its states
}

// run returns 0 if nothing was found, 1 if something was, 2 if it was called wrongly.
func run(args []string, out, errs io.Writer) int {
	flags := flag.NewFlagSet("model", flag.ContinueOnError)
	flags.SetOutput(errs)
	var c settings
	flags.IntVar(&c.more, "more", 0, "faults in combination beyond what each family names")
	flags.IntVar(&c.limit, "states", 0, "stop a search after so many states (0: when all were seen)")
	flags.StringVar(&c.family, "family", "", "only these families of faults, by comma")
	flags.StringVar(&c.start, "start", "", "only from these states, by comma")
	flags.IntVar(&c.workers, "workers", runtime.NumCPU(), "searches side by side")
	list := flags.Bool("list", false, "list the families and their start states")
	if err := flags.Parse(args); err != nil {
		return 2
	}
	if why := c.check(flags.Args()); why != "" {
		_, _ = fmt.Fprintln(errs, "model: "+why)
		return 2
	}
	if *list {
		for _, f := range families() {
			_, _ = fmt.Fprintf(out, "%-10s %d faults: %s\n%14s from %s\n", f.name, f.budget, f.about, "",
				strings.Join(f.starts, ", "))
		}
		return 0
	}
	// What is explored is thrown away at once: a larger heap costs less than collecting it again and again.
	debug.SetGCPercent(150)
	results := explore(c, out, errs)
	if len(results) == 0 {
		_, _ = fmt.Fprintln(errs, "model: no such family or start state; see -list")
		return 2
	}
	states := 0
	for _, r := range results {
		states += r.states
		if r.violation != "" {
			return 1
		}
	}
	_, _ = fmt.Fprintf(out, "%d states in %d searches; nothing found\n", states, len(results))
	return 0
}

// check says what is wrong with how it was called.
func (c settings) check(args []string) string {
	if len(args) > 0 {
		return "there are no arguments, only flags"
	}
	if c.more < 0 || c.limit < 0 || c.workers < 1 {
		return "-more and -states are not negative, and there is at least one worker"
	}
	var names, starts []string
	for _, f := range families() {
		names, starts = append(names, f.name), append(starts, f.starts...)
	}
	for _, list := range []struct {
		asked string
		known []string
	}{{c.family, names}, {c.start, starts}} {
		for name := range strings.SplitSeq(list.asked, ",") {
			if list.asked != "" && !slices.Contains(list.known, name) {
				return fmt.Sprintf("there is no %q; see -list", name)
			}
		}
	}
	return ""
}

// explore runs the searches one after the other, and ends with the first that finds something.
func explore(c settings, out, progress io.Writer) []result {
	named := func(list, name string) bool { return list == "" || slices.Contains(strings.Split(list, ","), name) }
	var results []result
	for _, f := range families() {
		if !named(c.family, f.name) {
			continue
		}
		f.budget += c.more
		for _, start := range f.starts {
			if !named(c.start, start) || c.share != nil && !slices.Contains(c.share[f.name], start) {
				continue
			}
			q := &search{family: f, limit: c.limit, workers: c.workers, good: newVisited()}
			r := q.run(startState(start), start, progress)
			results = append(results, r)
			_, _ = fmt.Fprintln(out, r)
			if r.violation != "" {
				_, _ = fmt.Fprintf(out, "\n%s\nfound again by: go run ./test/model -family %s -start %s -more %d\n",
					r.trace, f.name, start, c.more)
				return results
			}
		}
	}
	return results
}

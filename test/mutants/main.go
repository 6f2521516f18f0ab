// Command mutants plants mistakes in the code that ships, one at a time, and runs the rings of the proof against each:
// a ring that does not notice a mistake proves nothing about it. The table holds plausible mistakes, at least one for
// each rule of the protocol.
//
//	go run ./test/mutants
//
// A mistake is planted with the overlay of the go command; the tree is never touched. By default each is tried against
// the ring that notices it soonest, then against the others until one does. With -all every ring is run against every
// mistake, much deeper, to learn which ring notices what.
//
// It exits with 0 if every mistake was noticed by one of the rings 1 to 4, with 1 if one was not or does not compile,
// or if a ring fails without any mistake, and with 2 if it was called wrongly, or if the table does not fit the code
// any more.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
)

// options are the flags.
type options struct {
	only     []string // names of mutants; none: all
	rings    []string // names of rings; none: all that count
	all      bool
	share    bool // one mutant for each rule
	workers  int
	list     bool
	json     bool
	markdown bool
	verbose  bool
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

func run(ctx context.Context, args []string, out, errs io.Writer) int {
	o, err := parse(args, errs)
	if err != nil {
		return 2
	}
	chosen, err := choose(o)
	if err == nil {
		err = check(table())
	}
	if err != nil {
		_, _ = fmt.Fprintln(errs, "mutants:", err)
		return 2
	}
	if o.list {
		list(out, chosen)
		return 0
	}
	b, err := newBench(ctx, o, errs)
	if err != nil {
		_, _ = fmt.Fprintln(errs, "mutants:", err)
		return 2
	}
	defer b.close()
	if err := b.clean(ctx, chosen); err != nil && ctx.Err() != nil {
		_, _ = fmt.Fprintln(errs, "mutants: interrupted")
		return 1
	} else if err != nil {
		_, _ = fmt.Fprintln(errs, "mutants:", err)
		return 1
	}
	results := b.all(ctx, chosen)
	if ctx.Err() != nil {
		_, _ = fmt.Fprintln(errs, "mutants: interrupted")
		return 1
	}
	return show(out, o, results, b.spent())
}

func parse(args []string, errs io.Writer) (options, error) {
	var o options
	flags := flag.NewFlagSet("mutants", flag.ContinueOnError)
	flags.SetOutput(errs)
	only := flags.String("only", "", "only these mutants, by comma")
	rings := flags.String("rings", "", "only these rings, by comma: "+strings.Join(ringNames(), ", "))
	flags.BoolVar(&o.all, "all", false, "run every ring against every mutant, much deeper (hours)")
	flags.BoolVar(&o.share, "share", false, "only the first mutant of each rule: what CI has time for")
	flags.IntVar(&o.workers, "workers", 2, "mutants that are tried at the same time")
	flags.BoolVar(&o.list, "list", false, "list the mutants and try none")
	flags.BoolVar(&o.json, "json", false, "print the results as JSON")
	flags.BoolVar(&o.markdown, "markdown", false, "print the results as a table in Markdown")
	flags.BoolVar(&o.verbose, "v", false, "say by what words a ring has noticed")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	o.only, o.rings = split(*only), split(*rings)
	for _, name := range o.rings {
		if !slices.Contains(ringNames(), name) {
			return o, complain(flags, "no ring is called "+name)
		}
	}
	if flags.NArg() > 0 || o.workers < 1 {
		return o, complain(flags, "there are no arguments, and at least one worker")
	}
	return o, nil
}

func complain(flags *flag.FlagSet, why string) error {
	_, _ = fmt.Fprintln(flags.Output(), "mutants:", why)
	flags.Usage()
	return flag.ErrHelp
}

func split(s string) []string {
	if s == "" {
		return nil
	}
	return strings.Split(s, ",")
}

// firstOfEach returns one mutant for each rule.
func firstOfEach(all []mutant) []mutant {
	var chosen []mutant
	broken := map[string]bool{}
	for _, m := range all {
		if rule, _, _ := strings.Cut(m.rules, " "); !broken[rule] {
			broken[rule] = true
			chosen = append(chosen, m)
		}
	}
	return chosen
}

// choose returns the mutants that were asked for.
func choose(o options) ([]mutant, error) {
	all := table()
	if o.share {
		return firstOfEach(all), nil
	}
	if len(o.only) == 0 {
		return all, nil
	}
	var chosen []mutant
	for _, name := range o.only {
		i := slices.IndexFunc(all, func(m mutant) bool { return m.name == name })
		if i < 0 {
			return nil, fmt.Errorf("no mutant is called %s; see -list", name)
		}
		chosen = append(chosen, all[i])
	}
	return chosen, nil
}

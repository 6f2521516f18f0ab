// Command matrix measures what the product promises on PostgreSQL when things break: every row of a table of faults, a
// number of random faults in a row, and a soak under bad lines and busy cores.
//
// Each host and each node is a network namespace, with cables, disks and clocks that can be made bad. Clients write all
// the time, those that know both hosts and those that know one; every acknowledged row is looked up on both hosts
// afterwards. Results are added to a file after every run, so that a long matrix can be run in pieces; the table of
// docs/failure-matrix.md is rendered from such files alone.
//
// It exits with 1 if a row was lost, if two hosts acknowledged at the same time, if redundancy was not back within
// 30 s, if a median is above its limit, or if the decision was another than the documented one.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var o options
	rows := flag.String("rows", "", "comma list of rows, empty: all; \"none\": only -random and -soak")
	list := flag.Bool("list", false, "list the rows and end")
	flag.IntVar(&o.runs, "runs", 5, "runs of each row")
	flag.IntVar(&o.random, "random", 0, "random faults in a row, after the rows")
	flag.Uint64Var(&o.seed, "seed", 0, "seed of the random faults; 0: one is chosen and printed")
	flag.DurationVar(&o.soak, "soak", 0, "length of the soak under bad lines and busy cores, after all else; 0: none")
	flag.StringVar(&o.json, "json", "", "file that results are added to after every run; empty: none")
	flag.StringVar(&o.doc, "doc", "", "file to render the table into, from all results in -json or -render; empty: none")
	render := flag.String("render", "", "comma list of files with results: run nothing, judge and render these")
	short := flag.Bool("short", false, "the short set: one run of a few rows, and five random faults")
	flag.StringVar(&o.profile, "profile", "", "timing profile of the rows that name none; empty: default")
	flag.StringVar(&o.logs, "logs", "", "directory for the logs of runs in which something was broken; empty: none")
	flag.StringVar(&o.programs, "programs", "", "directory of the programs to run; empty: those of this module are built")
	flag.BoolVar(&o.keep, "keep", false, "leave logs and data behind")
	flag.Parse()
	err := func() error {
		if *list {
			printRows(os.Stdout)
			return nil
		}
		if *render != "" {
			return renderFiles(os.Stdout, strings.Split(*render, ","), o.doc)
		}
		if err := o.choose(*rows, *short); err != nil {
			return err
		}
		return measure(ctx, o)
	}()
	if err != nil {
		fmt.Fprintln(os.Stderr, "matrix:", err)
		os.Exit(1) //nolint:gocritic // nothing is left to be undone
	}
}

// options are what the command line says.
type options struct {
	rows    []row
	runs    int
	random  int
	seed    uint64
	soak    time.Duration
	profile string

	json, doc string // files; empty: none
	logs      string // directory; empty: none
	programs  string // directory; empty: built
	keep      bool
}

// choose fills in the rows.
func (o *options) choose(names string, short bool) error {
	if short {
		o.runs, o.random = 1, 5
		if names == "" {
			names = shortRows
		}
	}
	switch names {
	case "":
		o.rows = table()
		return nil
	case "none":
		return nil
	}
	for name := range strings.SplitSeq(names, ",") {
		found, ok := rowNamed(name)
		if !ok {
			return fmt.Errorf("row %q is not one of the table: see -list", name)
		}
		o.rows = append(o.rows, found)
	}
	// Rows of one laboratory follow each other, so that it is built once.
	order := map[string]int{}
	for i, r := range table() {
		order[r.flag] = i
	}
	slices.SortStableFunc(o.rows, func(a, b row) int { return order[a.flag] - order[b.flag] })
	return nil
}

func printRows(w io.Writer) {
	for _, r := range table() {
		_, _ = fmt.Fprintf(w, "%-24s %s\n", r.flag, r.name)
	}
}

// renderFiles judges results that are there already, and renders them.
func renderFiles(w io.Writer, files []string, doc string) error {
	var all results
	for _, f := range files {
		one, err := readResults(f)
		if err != nil {
			return err
		}
		all.add(one)
	}
	text := document(all)
	if doc == "" {
		_, _ = fmt.Fprint(w, text)
	} else if err := os.WriteFile(doc, []byte(text), 0o644); err != nil {
		return fmt.Errorf("write table: %w", err)
	}
	return verdict(all)
}

// measure runs what was asked for, one after the other.
func measure(ctx context.Context, o options) error {
	m := &matrix{options: o, out: os.Stdout}
	defer m.close()
	if o.json != "" {
		before, err := readResults(o.json)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		m.results = before
	}
	var err error
	if m.results.Machine, err = thisMachine(); err != nil {
		return err
	}
	first := len(m.results.Runs)
	failed := m.all(ctx)
	if o.doc != "" {
		if err := os.WriteFile(o.doc, []byte(document(m.results)), 0o644); err != nil {
			return fmt.Errorf("write table: %w", err)
		}
	}
	m.sayf("\n%s", tableOf(m.results))
	// What an earlier call broke was told by it.
	return errors.Join(failed, verdict(results{Runs: m.results.Runs[first:]}))
}

// all goes on with the next row where one could not be measured: hours of others must not be lost for it.
func (m *matrix) all(ctx context.Context) error {
	var failed []error
	add := func(err error) {
		if err != nil {
			m.sayf("NOT MEASURED: %v", err)
			failed = append(failed, err)
			m.close()
		}
	}
	for _, r := range m.options.rows {
		for n := range m.options.runs {
			if ctx.Err() != nil {
				return errors.Join(append(failed, ctx.Err())...)
			}
			if err := m.once(ctx, r, fmt.Sprintf("%d/%d", n+1, m.options.runs)); err != nil {
				add(fmt.Errorf("%s, run %d: %w", r.flag, n+1, err))
				break
			}
		}
	}
	if m.options.random > 0 && ctx.Err() == nil {
		add(m.randomFaults(ctx))
	}
	if m.options.soak > 0 && ctx.Err() == nil {
		add(m.soakFor(ctx, m.options.soak))
	}
	return errors.Join(failed...)
}

// Command e2e measures what the product promises on real databases: it runs each fault many times against a
// pair that is written to all the time, checks every acknowledged row afterwards, and prints one table.
//
// There are three sets of faults. "base" is about hosts and nodes that end, on loopback. "fence" is about agents
// and hosts that are stopped, cut off or go on later, with each host in a network namespace and clients at every
// place from which they could reach an old primary. "gate" is about clients that connect through the agents' gates.
//
// It exits with 1 if a row was lost, if two hosts acknowledged writes at the same time, if a pair did not arm
// again by itself, if a median is above its limit, or if another promise of a row did not hold.
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

	"github.com/witnessd/witnessd/test/fleet"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	runs := flag.Int("runs", 10, "runs of each fault")
	engine := flag.String("engine", "postgres", "demo or postgres")
	set := flag.String("set", "base", "base, fence or gate")
	only := flag.String("only", "", "comma list of faults; empty: all")
	out := flag.String("table", "", "write the table as Markdown to this file too")
	programs := flag.String("programs", "", "directory of the programs to run; empty: those of this module are built")
	keep := flag.Bool("keep", false, "leave logs and data behind")
	flag.Parse()
	if err := runSet(ctx, *set, choice{*engine, *runs, *only, *out, *programs, *keep}); err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		os.Exit(1) //nolint:gocritic // nothing is left to be undone
	}
}

// choice is what the command line says.
type choice struct {
	engine string
	runs   int
	only   string // comma list of faults; empty: all
	table  string // file; empty: none

	programs string // directory; empty: built
	keep     bool
}

// takes says whether the fault with that flag is to be run.
func (c choice) takes(name string) bool {
	return c.only == "" || slices.Contains(strings.Split(c.only, ","), name)
}

func runSet(ctx context.Context, set string, c choice) error {
	switch set {
	case "base":
		return measure(ctx, c)
	case "fence":
		return measurePlaces(ctx, c, fenceRows(), fleet.Options{})
	case "gate":
		return measurePlaces(ctx, c, gateRows(), fleet.Options{Gates: true})
	default:
		return fmt.Errorf("set %q must be base, fence or gate", set)
	}
}

// fault is one row of the table.
type fault struct {
	name   string
	flag   string
	limit  time.Duration // of the median
	settle time.Duration // how long writes are watched after the fault
	inject func(ctx context.Context, r *run) error
	mend   func(ctx context.Context, r *run) error
}

// run is one injection of a fault.
type run struct {
	fleet           *fleet.Fleet
	pair            *fleet.Pair
	primary, mirror *fleet.Host
	leader          *fleet.Node
}

type result struct {
	gap        time.Duration
	lost       int
	overlap    int
	armedAfter time.Duration
}

// leaderAlone is how long writes may pause for something that must not concern them.
const leaderAlone = 300 * time.Millisecond

func faults() []fault {
	startHost := func(_ context.Context, r *run) error { return r.primary.Start() }
	return []fault{
		{
			name: "kill -9 of the database's main process, agent alive", flag: "crash",
			limit: time.Second, settle: 3 * time.Second,
			inject: func(_ context.Context, r *run) error { return r.primary.KillDatabase() },
		},
		{
			name: "every process of the primary host killed", flag: "host", limit: 4500 * time.Millisecond,
			settle: 8 * time.Second, mend: startHost,
			inject: func(_ context.Context, r *run) error { r.primary.Kill(); return nil },
		},
		{
			name: "leader node killed", flag: "leader", limit: leaderAlone, settle: 6 * time.Second,
			inject: func(_ context.Context, r *run) error { r.leader.Kill(); return nil },
			mend:   func(_ context.Context, r *run) error { return r.leader.Start() },
		},
		{
			name: "leader node and primary host killed together", flag: "both", limit: 6 * time.Second,
			settle: 10 * time.Second,
			inject: func(_ context.Context, r *run) error {
				r.leader.Kill()
				r.primary.Kill()
				return nil
			},
			mend: func(_ context.Context, r *run) error {
				return errors.Join(r.leader.Start(), r.primary.Start())
			},
		},
		{
			name: "all three nodes killed for 20 s", flag: "witness", limit: leaderAlone, settle: 26 * time.Second,
			inject: func(ctx context.Context, r *run) error {
				for _, n := range r.fleet.Nodes {
					n.Kill()
				}
				go func() {
					select {
					case <-ctx.Done():
					case <-time.After(20 * time.Second):
						for _, n := range r.fleet.Nodes {
							if err := n.Start(); err != nil {
								fmt.Fprintln(os.Stderr, "e2e:", err)
							}
						}
					}
				}()
				return nil
			},
		},
		{
			name: "switchover", flag: "switchover", limit: 1500 * time.Millisecond, settle: 5 * time.Second,
			inject: func(ctx context.Context, r *run) error {
				out, err := r.fleet.Ctl(ctx, "pair", "switchover", r.pair.Name, "--reason", "measurement")
				if err != nil {
					return fmt.Errorf("switchover: %w: %s", err, out)
				}
				return nil
			},
		},
	}
}

func measure(ctx context.Context, c choice) error {
	f, err := fleet.Start(ctx, fleet.Options{
		Engine: c.engine, Pairs: []string{"payroll"}, Log: os.Stdout, Keep: c.keep, Programs: c.programs,
	})
	if err != nil {
		return err
	}
	defer f.Close()
	took, err := f.WaitArmed(ctx, 60*time.Second)
	if err != nil {
		return explain(f, err)
	}
	fmt.Printf("armed %v after the programs were started\n", took.Round(100*time.Millisecond))
	var rows []row
	for _, ft := range faults() {
		if !c.takes(ft.flag) {
			continue
		}
		r := row{fault: ft}
		for n := range c.runs {
			res, err := once(ctx, f, ft)
			if err != nil {
				return explain(f, fmt.Errorf("%s, run %d: %w", ft.name, n+1, err))
			}
			fmt.Printf("%-50s %2d/%d  gap %6d ms  lost %d  overlap %d  armed again after %.1f s\n", ft.name, n+1, c.runs,
				res.gap.Milliseconds(), res.lost, res.overlap, res.armedAfter.Seconds())
			r.results = append(r.results, res)
		}
		rows = append(rows, r)
	}
	printTable(os.Stdout, c.engine, rows)
	if c.table != "" {
		if err := writeTable(c.table, c.engine, rows); err != nil {
			return err
		}
	}
	return verdict(rows)
}

// once injects the fault, watches the writes, mends, and waits until the pair is armed again.
func once(ctx context.Context, f *fleet.Fleet, ft fault) (result, error) {
	r := &run{fleet: f, pair: f.Pairs[0]}
	var err error
	if r.primary, r.mirror, err = r.pair.Primary(); err != nil {
		return result{}, err
	}
	if r.leader, err = f.Leader(ctx); err != nil {
		return result{}, err
	}
	w := r.pair.Write(ctx)
	defer w.Stop()
	time.Sleep(time.Second)
	began := time.Now()
	if err := ft.inject(ctx, r); err != nil {
		return result{}, err
	}
	time.Sleep(time.Until(began.Add(ft.settle)))
	res := result{gap: w.Gap(began, time.Now())}
	if ft.mend != nil {
		if err := ft.mend(ctx, r); err != nil {
			return result{}, err
		}
	}
	if res.armedAfter, err = f.WaitArmed(ctx, 60*time.Second); err != nil {
		return result{}, err
	}
	time.Sleep(500 * time.Millisecond)
	w.Stop()
	res.overlap = w.Overlap()
	serving, other, err := r.pair.Primary()
	if err != nil {
		return result{}, err
	}
	for _, h := range []*fleet.Host{serving, other} {
		lost, err := w.Lost(ctx, h)
		if err != nil {
			return result{}, err
		}
		res.lost += len(lost)
	}
	return res, nil
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

type row struct {
	fault   fault
	results []result
}

func (r row) median() time.Duration {
	return percentile(r.results, 50)
}

func percentile(results []result, p int) time.Duration {
	var gaps []time.Duration
	for _, x := range results {
		gaps = append(gaps, x.gap)
	}
	slices.Sort(gaps)
	return gaps[min(len(gaps)-1, len(gaps)*p/100)]
}

func (r row) sum(of func(result) int) int {
	n := 0
	for _, x := range r.results {
		n += of(x)
	}
	return n
}

func (r row) lost() int    { return r.sum(func(x result) int { return x.lost }) }
func (r row) overlap() int { return r.sum(func(x result) int { return x.overlap }) }

func (r row) armed() time.Duration {
	longest := time.Duration(0)
	for _, x := range r.results {
		longest = max(longest, x.armedAfter)
	}
	return longest
}

func writeTable(path, engine string, rows []row) error {
	file, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("write table: %w", err)
	}
	printTable(file, engine, rows)
	return file.Close()
}

func printTable(w io.Writer, engine string, rows []row) {
	_, _ = fmt.Fprintf(w, "\nEngine: %s, default timing.\n\n", engine)
	_, _ = fmt.Fprintf(w, "| %-52s | runs | gap in writes: median | longest | limit of median | lost acknowledged rows | "+
		"acknowledged by two hosts | armed again within |\n", "fault")
	_, _ = fmt.Fprintf(w, "|%s|---|---|---|---|---|---|---|\n", strings.Repeat("-", 54))
	for _, r := range rows {
		_, _ = fmt.Fprintf(w, "| %-52s | %d | %.2f s | %.2f s | %.1f s | %d | %d | %.1f s |\n", r.fault.name, len(r.results),
			r.median().Seconds(), percentile(r.results, 100).Seconds(), r.fault.limit.Seconds(), r.lost(), r.overlap(),
			r.armed().Seconds())
	}
}

func verdict(rows []row) error {
	var bad []error
	for _, r := range rows {
		if r.lost() > 0 {
			bad = append(bad, fmt.Errorf("%s: %d acknowledged rows lost", r.fault.name, r.lost()))
		}
		if r.overlap() > 0 {
			bad = append(bad, fmt.Errorf("%s: two hosts acknowledged writes at once, %d times", r.fault.name, r.overlap()))
		}
		if r.median() > r.fault.limit {
			bad = append(bad, fmt.Errorf("%s: median gap %v is above %v", r.fault.name, r.median(), r.fault.limit))
		}
	}
	return errors.Join(bad...)
}

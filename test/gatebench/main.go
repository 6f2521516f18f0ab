// Command gatebench holds the agent's gate against a direct connection and against HAProxy in TCP mode, on this
// machine, in one run: pgbench and a bulk stream, in rounds whose order changes, so that what else the machine
// does hits all alike. It installs nothing; without HAProxy it says so and ends.
//
// What it prints are ratios. Absolute figures are this machine's, where clients, servers and proxies share the
// processors. It exits with 1 if the gate is not at least HAProxy's equal, or if 5,000 idle connections take 100 MB.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var o options
	role := flag.String("role", "", "be a part of a run instead of running one: gate or source")
	flag.IntVar(&o.rounds, "rounds", 5, "rounds; the table has the medians")
	flag.DurationVar(&o.each, "each", 3*time.Second, "length of one pgbench run")
	flag.Int64Var(&o.stream, "stream", 4<<30, "bytes of one raw stream")
	flag.IntVar(&o.idle, "idle", 5000, "idle connections; 0: skip")
	flag.StringVar(&o.only, "only", "", "comma list of workloads: pgbench-1, pgbench-8, pgbench-32, copy, stream")
	flag.StringVar(&o.table, "table", "", "write the table as Markdown to this file too")
	flag.Parse()
	var err error
	switch *role {
	case "":
		err = bench(ctx, o, os.Stdout)
	case "gate":
		err = serveGates(ctx, flag.Args())
	case "source":
		err = serveStreams(ctx, flag.Arg(0))
	default:
		err = fmt.Errorf("there is no role %q", *role)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "gatebench:", err)
		os.Exit(1) //nolint:gocritic // nothing is left to be undone
	}
}

type options struct {
	rounds int
	each   time.Duration
	stream int64
	idle   int
	only   string
	table  string
}

func (o options) takes(workload string) bool {
	if o.only == "" {
		return true
	}
	for w := range strings.SplitSeq(o.only, ",") {
		if w == workload {
			return true
		}
	}
	return false
}

func bench(ctx context.Context, o options, out io.Writer) error {
	if _, err := exec.LookPath("haproxy"); err != nil {
		return errors.New("there is no haproxy to compare with: install Debian's package haproxy and run this again")
	}
	b, err := setUp(ctx)
	if err != nil {
		return err
	}
	defer b.tearDown()
	results, err := b.rounds(ctx, o, out)
	if err != nil {
		return err
	}
	var memory idleResult
	if o.idle > 0 {
		if memory, err = b.idleMemory(ctx, o.idle); err != nil {
			return fmt.Errorf("measure idle connections: %w", err)
		}
	}
	return report(out, o, results, memory)
}

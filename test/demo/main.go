// Command demo shows the product at work on this machine: three nodes of the witness, two pairs of databases,
// a writer on each, and the faults that the product exists for, one after the other. It prints what happened
// and when, and exits with 1 if a promise did not hold. It leaves nothing behind.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/witnessd/witnessd/test/fleet"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	engine := flag.String("engine", "demo", "demo (needs nothing), postgres (real servers, Debian's packages), "+
		"sqlserver-mirroring or sqlserver-ag (a fake of ours)")
	keep := flag.Bool("keep", false, "leave logs and data behind")
	flag.Parse()
	if err := run(ctx, *engine, *keep); err != nil {
		fmt.Fprintln(os.Stderr, "\ndemo:", err)
		os.Exit(1) //nolint:gocritic // run has undone everything
	}
}

func run(ctx context.Context, engine string, keep bool) error {
	if engine == "postgres" {
		if err := fleet.InstallPostgres(ctx, os.Stdout); err != nil {
			return err
		}
	}
	options := fleet.Options{Engine: engine, Pairs: []string{"payroll", "orders"}, Log: os.Stdout, Keep: keep}
	where := "on loopback"
	if strings.HasPrefix(engine, "sqlserver") {
		// A mirrored SQL Server that starts again is a principal until it has found its partner: only a fence keeps clients
		// out for so long, and the kernel's needs a network of each host's own.
		options.Namespaces, where = true, "each in a network of its own (this needs root)"
	}
	fmt.Println("Three nodes of the witness and two pairs of databases, as real processes " + where + ".")
	f, err := fleet.Start(ctx, options)
	if err != nil {
		return err
	}
	defer f.Close()
	s := &show{fleet: f}
	if engine == "sqlserver-ag" {
		const sessionTimeout = 5 * time.Second // as the fleet creates its groups
		s.notices = sessionTimeout
	}
	took, err := f.WaitArmed(ctx, 60*time.Second)
	if err != nil {
		return errors.Join(err, s.logs())
	}
	fmt.Printf("Both mirrors were cloned, caught up and armed %.1f s after the start.\n\n", took.Seconds())
	s.list(ctx)
	for _, p := range f.Pairs {
		w := p.Write(ctx)
		defer w.Stop()
		s.writers = append(s.writers, w)
	}
	for _, step := range s.steps() {
		if err := s.play(ctx, step); err != nil {
			return errors.Join(err, s.logs())
		}
	}
	return s.finish(ctx)
}

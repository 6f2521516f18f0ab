// Fuzz runs every fuzz target of the module for a bounded time, one after the other:
//
//	go run ./test/fuzz -each 3s
//
// A target is any Fuzz function that `go test -list` finds, so a new one needs no entry anywhere. What is found
// interesting stays in Go's own cache and makes the next run begin where this one ended. The first target that
// fails ends the run; the command that replays its input is printed, and the input lies where Go puts it, in the
// package's testdata: keep it there once it is the regression test of a mended bug.
package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// grace is how much longer than its time a target may take: its corpus is run before that begins. What takes
// longer hangs.
const grace = time.Minute

// minimize bounds the search for a shorter input, which would else take up most of a short run.
const minimize = "100x"

type target struct{ pkg, name string }

func main() {
	each := flag.Duration("each", 3*time.Second, "how long each target is run")
	only := flag.String("run", "", "only targets whose package and name match this")
	packages := flag.String("packages", "./...", "where to look for targets")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *packages, *only, *each); err != nil {
		fmt.Fprintln(os.Stderr, "fuzz:", err)
		stop()
		os.Exit(1)
	}
}

func run(ctx context.Context, packages, only string, each time.Duration) error {
	wanted, err := regexp.Compile(only)
	if err != nil {
		return fmt.Errorf("-run: %w", err)
	}
	all, err := list(ctx, packages)
	if err != nil {
		return err
	}
	start, ran := time.Now(), 0
	for _, t := range all {
		if !wanted.MatchString(t.pkg + " " + t.name) {
			continue
		}
		if err := t.fuzz(ctx, each); err != nil {
			return err
		}
		ran++
	}
	if ran == 0 {
		return errors.New("no target matches")
	}
	fmt.Printf("%d targets in %v: nothing found\n", ran, time.Since(start).Round(time.Second))
	return nil
}

// list finds all targets, in the order of packages and names.
func list(ctx context.Context, packages string) ([]target, error) {
	cmd := exec.CommandContext(ctx, "go", "test", "-list", "^Fuzz", packages)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("list the targets: %w\n%s", err, out)
	}
	var all, of []target
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		switch {
		case strings.HasPrefix(line, "Fuzz"):
			of = append(of, target{name: fields[0]})
		case len(fields) >= 2 && fields[0] == "ok": // it comes after the package's targets
			for _, t := range of {
				all = append(all, target{pkg: fields[1], name: t.name})
			}
			of = nil
		}
	}
	return all, nil
}

// progress is what `go test -fuzz` says every three seconds and at the end.
var progress = regexp.MustCompile(`execs: (\d+) .*new interesting: (\d+) \(total: (\d+)\)`)

// failing is how go test names the input that made a target fail: a new one, or one of the corpus.
var failing = regexp.MustCompile(`(?:go test -run=|seed corpus entry: )(Fuzz\S+)`)

// fuzz runs one target and prints one line about it.
func (t target) fuzz(ctx context.Context, each time.Duration) error {
	// Everything that the package needs is built anew to be watched, which at the first time takes its while.
	build := exec.CommandContext(ctx, "go", "test", "-c", "-fuzz", "^"+t.name+"$", "-o", os.DevNull, t.pkg)
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w\n%s", t.pkg, err, out)
	}
	ctx, cancel := context.WithTimeout(ctx, each+grace)
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", "test", "-run", "^$", "-fuzz", "^"+t.name+"$",
		"-fuzztime", each.String(), "-fuzzminimizetime", minimize, t.pkg)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) } // go test ends its workers
	cmd.WaitDelay = 10 * time.Second
	said, out := io.Pipe()
	cmd.Stdout, cmd.Stderr = out, out
	start := time.Now()
	ended := make(chan error, 1)
	go func() {
		err := cmd.Run()
		_ = out.Close()
		ended <- err
	}()
	execs, found, total, rest := watch(said)
	err := <-ended
	where := strings.TrimPrefix(t.pkg, "github.com/witnessd/witnessd/")
	note := ""
	if n, _ := strconv.Atoi(execs); n > 0 {
		if inputs, _ := strconv.Atoi(total); n <= inputs {
			note = "  its corpus only: -each was too short for more"
		}
	}
	fmt.Printf("%-28s %-24s %9s execs  %3s new of %4s inputs  %5.1fs%s\n", where, t.name, execs, found, total,
		time.Since(start).Seconds(), note)
	if err == nil {
		return nil
	}
	fmt.Print(rest)
	if m := failing.FindStringSubmatch(rest); m != nil {
		return fmt.Errorf("%s fails; replay it with: go test -run='^%s$' %s", t.name, m[1], t.pkg)
	}
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return fmt.Errorf("%s hangs: it did not end within %v", t.name, each+grace)
	}
	return fmt.Errorf("%s: %w", t.name, err)
}

// watch reads what go test says: the last progress, and everything that is none.
func watch(said io.Reader) (execs, found, total, rest string) {
	execs, found, total = "0", "0", "0"
	var other strings.Builder
	in := bufio.NewScanner(said)
	in.Buffer(nil, 16<<20)
	for in.Scan() {
		switch line := in.Text(); {
		case progress.MatchString(line):
			m := progress.FindStringSubmatch(line)
			execs, found, total = m[1], m[2], m[3]
		case strings.HasPrefix(line, "fuzz: "):
		default:
			other.WriteString(line + "\n")
		}
	}
	_, _ = io.Copy(io.Discard, said) // a line beyond the buffer must not stop the target
	return execs, found, total, other.String()
}

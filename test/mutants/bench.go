package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// bench is where mutants are tried.
type bench struct {
	options
	root  string // of the module
	temp  string
	errs  io.Writer
	began time.Time

	mu       sync.Mutex
	made     map[string]map[string]bool // what each package's program is made of
	baseline map[string]func() error    // by ring and arguments: that it passes without a mistake
	done     int
}

// result is what became of one mutant.
type result struct {
	mutant mutant
	trials []trial
	err    error // it does not compile, or a ring could not be run
}

// newBench works in the root of the module, where the paths of the table begin.
func newBench(ctx context.Context, o options, errs io.Writer) (*bench, error) {
	out, err := exec.CommandContext(ctx, "go", "env", "GOMOD").Output()
	if err != nil {
		return nil, fmt.Errorf("find the module: %w", err)
	}
	root := filepath.Dir(strings.TrimSpace(string(out)))
	if here, err := os.Getwd(); err != nil || here != root {
		return nil, errors.Join(err, fmt.Errorf("this must be run in the root of the module, %s", root))
	}
	temp, err := os.MkdirTemp("", "mutants-")
	if err != nil {
		return nil, err
	}
	return &bench{options: o, root: root, temp: temp, errs: errs, began: time.Now(),
		made: map[string]map[string]bool{}, baseline: map[string]func() error{}}, nil
}

func (b *bench) close() {
	if err := os.RemoveAll(b.temp); err != nil {
		b.say("remove temporary files: %v", err)
	}
}

func (b *bench) spent() time.Duration { return time.Since(b.began) }

func (b *bench) say(format string, args ...any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	_, _ = fmt.Fprintf(b.errs, "%6.1f  %s\n", b.spent().Seconds(), fmt.Sprintf(format, args...))
}

// wanted says whether a ring may be run.
func (b *bench) wanted(name string) bool {
	if len(b.options.rings) > 0 {
		return slices.Contains(b.options.rings, name)
	}
	return b.options.all || ringOf(name).counts()
}

// plan is what a mutant is tried against, in order.
func (b *bench) plan(m mutant) []try {
	var plan []try
	add := func(t try) {
		if b.wanted(t.ring) && !slices.ContainsFunc(plan, t.is) {
			plan = append(plan, t)
		}
	}
	if !b.options.all {
		for _, t := range m.tries {
			add(t)
		}
		for _, r := range rings() {
			add(try{ring: r.name, args: r.quick})
		}
		return plan
	}
	for _, r := range rings() {
		for _, t := range m.tries {
			if t.ring == r.name {
				add(t)
			}
		}
		for _, args := range r.deep {
			add(try{ring: r.name, args: args})
		}
	}
	return plan
}

// clean checks that the rings pass without a mistake, with all that is certain to be run.
func (b *bench) clean(ctx context.Context, chosen []mutant) error {
	var first []try
	add := func(t try) {
		if b.wanted(t.ring) && !slices.ContainsFunc(first, t.is) {
			first = append(first, t)
		}
	}
	for _, m := range chosen {
		for k, t := range m.tries {
			switch {
			case t.part:
				add(try{ring: t.ring, args: ringOf(t.ring).quick})
			case k == 0 || b.options.all:
				add(t)
			}
		}
	}
	errs := make([]error, len(first))
	b.share(len(first), func(k int) { errs[k] = b.passes(ctx, first[k], ringOf(first[k].ring).pkg) })
	return errors.Join(errs...)
}

// passes checks once that a command of a ring passes without a mistake.
func (b *bench) passes(ctx context.Context, t try, pkg string) error {
	if t.part {
		t = try{ring: t.ring, args: ringOf(t.ring).quick}
	}
	r := ringOf(t.ring)
	key := pkg + " " + strings.Join(t.args, " ")
	b.mu.Lock()
	once := b.baseline[key]
	if once == nil {
		once = sync.OnceValue(func() error {
			program := filepath.Join(b.temp, "clean-"+strings.ReplaceAll(strings.TrimPrefix(pkg, "./"), "/", "-"))
			if err := b.buildOnce(ctx, r, pkg, program); err != nil {
				return err
			}
			got := execute(ctx, r, program, filepath.Join(b.root, pkg), t.args)
			if got.Verdict != missed {
				return fmt.Errorf("%s %s fails without any mistake (%s): %s", pkg, strings.Join(t.args, " "),
					got.Verdict, got.Said)
			}
			b.say("%-10s passes without a mistake, %.1f s  %s", r.name, got.CPU.Seconds(), strings.Join(t.args, " "))
			return nil
		})
		b.baseline[key] = once
	}
	b.mu.Unlock()
	return once()
}

// buildOnce makes the program of a ring without a mistake.
func (b *bench) buildOnce(ctx context.Context, r ring, pkg, program string) error {
	b.mu.Lock()
	once := b.baseline[program]
	if once == nil {
		once = sync.OnceValue(func() error { return build(ctx, r, pkg, "", program) })
		b.baseline[program] = once
	}
	b.mu.Unlock()
	return once()
}

// share does n things with so many workers.
func (b *bench) share(n int, do func(int)) {
	var workers sync.WaitGroup
	todo := make(chan int)
	for range min(b.options.workers, n) {
		workers.Go(func() {
			for k := range todo {
				do(k)
			}
		})
	}
	for k := range n {
		todo <- k
	}
	close(todo)
	workers.Wait()
}

// all tries all mutants.
func (b *bench) all(ctx context.Context, chosen []mutant) []result {
	results := make([]result, len(chosen))
	b.share(len(chosen), func(k int) {
		if ctx.Err() != nil {
			return
		}
		results[k] = b.one(ctx, chosen[k])
		b.mu.Lock()
		b.done++
		done := b.done
		b.mu.Unlock()
		b.say("%3d of %d  %s", done, len(chosen), results[k].line(b.options.verbose))
	})
	return results
}

// one tries one mutant.
func (b *bench) one(ctx context.Context, m mutant) result {
	res := result{mutant: m}
	dir := filepath.Join(b.temp, m.name)
	if res.err = os.Mkdir(dir, 0o700); res.err != nil {
		return res
	}
	defer func() { _ = os.RemoveAll(dir) }()
	var overlay string
	if overlay, res.err = m.overlay(b.root, dir); res.err != nil {
		return res
	}
	over := "" // the ring that has noticed, of which no more need be run
	for _, t := range b.plan(m) {
		if t.ring == over {
			continue
		}
		got := b.try(ctx, m, t, overlay, dir)
		res.trials = append(res.trials, got)
		switch {
		case got.Verdict == broken || got.Verdict == invalid:
			res.err = fmt.Errorf("%s: %s", got.Ring, got.Said)
			return res
		case got.Verdict.caught() && !b.options.all:
			return res
		case got.Verdict.caught() || got.Verdict == apart:
			over = t.ring
		}
	}
	return res
}

// try runs one command of a ring against a mutant.
func (b *bench) try(ctx context.Context, m mutant, t try, overlay, dir string) trial {
	r := ringOf(t.ring)
	pkg := r.pkg
	if pkg == "" {
		pkg = m.packages()[0]
	}
	fail := func(v verdict, err error) trial {
		return trial{Ring: t.ring, Args: t.args, Verdict: v, Said: err.Error()}
	}
	parts, err := b.parts(ctx, r, pkg)
	if err != nil {
		return fail(broken, err)
	}
	if !slices.ContainsFunc(m.packages(), func(dir string) bool { return parts[dir] }) {
		return trial{Ring: t.ring, Args: t.args, Verdict: apart}
	}
	program := filepath.Join(dir, "program-"+r.name)
	if _, err := os.Stat(program); err != nil {
		if err := build(ctx, r, pkg, overlay, program); err != nil {
			return fail(invalid, err)
		}
	}
	got := execute(ctx, r, program, filepath.Join(b.root, pkg), t.args)
	if got.Verdict.caught() {
		if err := b.passes(ctx, t, pkg); err != nil {
			return fail(broken, err)
		}
	}
	return got
}

// parts are the directories of which the program of a package is made.
func (b *bench) parts(ctx context.Context, r ring, pkg string) (map[string]bool, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.made[pkg] == nil {
		dirs, err := includes(ctx, b.root, r, pkg)
		if err != nil {
			return nil, err
		}
		b.made[pkg] = dirs
	}
	return b.made[pkg], nil
}

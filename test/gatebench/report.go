package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"
)

// What must hold: idle connections take less than this, and the gate is HAProxy's equal. Equal are figures that differ
// by no more than those of HAProxy with and without splice do in pgbench, where it has nothing to splice.
const (
	idleLimit    = 100e6
	leastRate    = 0.95
	greatestTail = 1.10
)

// report prints the table, and says what does not hold.
func report(out io.Writer, o options, results map[string]map[string][]sample, memory idleResult) error {
	var text strings.Builder
	var missed []error
	text.WriteString("| workload | way | per second | to direct | to haproxy | p50 | p99 | to haproxy | proxy's CPU |\n")
	text.WriteString("|---|---|---|---|---|---|---|---|---|\n")
	for _, w := range workloads() {
		r, ok := results[w.name]
		if !ok {
			continue
		}
		for _, name := range []string{direct, haproxy, spliced, ours} {
			row(&text, w, name, r)
		}
		if v := paired(r[ours], r[haproxy], rate); v < leastRate {
			missed = append(missed, fmt.Errorf("%s: the gate has %.2f of HAProxy's throughput", w.name, v))
		}
		if v := paired(r[ours], r[haproxy], tail); v > greatestTail {
			missed = append(missed, fmt.Errorf("%s: the gate's p99 is %.2f of HAProxy's", w.name, v))
		}
	}
	if memory.connections > 0 {
		fmt.Fprintf(&text, "\n%d idle connections: %.1f MB resident in the gate (%.1f before), %.1f in HAProxy.\n",
			memory.connections, float64(memory.with)/megabyte, float64(memory.before)/megabyte,
			float64(memory.haproxyWith)/megabyte)
		if memory.with >= idleLimit {
			missed = append(missed, fmt.Errorf("%d idle connections take %.1f MB", memory.connections,
				float64(memory.with)/megabyte))
		}
	}
	fmt.Fprintf(&text, "\nMedians of %d rounds; ratios are medians of those within a round.\n", o.rounds)
	_, _ = fmt.Fprint(out, "\n", text.String())
	if o.table != "" {
		missed = append(missed, os.WriteFile(o.table, []byte(text.String()), 0o644))
	}
	return errors.Join(missed...)
}

func row(out io.Writer, w workload, name string, r map[string][]sample) {
	got := mid(r[name])
	p50, p99, p99Ratio, cpu := "", "", "", ""
	if got.p99 > 0 {
		p50, p99 = got.p50.String(), got.p99.String()
		p99Ratio = fmt.Sprintf("%.2f", paired(r[name], r[haproxy], tail))
	}
	if name != direct {
		cpu = fmt.Sprintf("%.2f s per %.0f %s", got.cpu.Seconds(), w.per, w.unit)
	}
	_, _ = fmt.Fprintf(out, "| %s | %s | %.0f %s | %.2f | %.2f | %s | %s | %s | %s |\n", w.name, name, got.rate, w.unit,
		paired(r[name], r[direct], rate), paired(r[name], r[haproxy], rate), p50, p99, p99Ratio, cpu)
}

func rate(s sample) float64 { return s.rate }
func tail(s sample) float64 { return float64(s.p99) }

// paired is the median of the rounds' ratios: what the machine did in a round, it did to both. It is 0 where there is
// nothing to compare.
func paired(a, b []sample, of func(sample) float64) float64 {
	var ratios []float64
	for i := range a {
		if of(b[i]) > 0 {
			ratios = append(ratios, of(a[i])/of(b[i]))
		}
	}
	if len(ratios) == 0 {
		return 0
	}
	slices.Sort(ratios)
	return ratios[len(ratios)/2]
}

// mid takes the median of each figure by itself.
func mid(all []sample) sample {
	return sample{
		rate: median(all, func(s sample) float64 { return s.rate }),
		p50:  median(all, func(s sample) time.Duration { return s.p50 }),
		p99:  median(all, func(s sample) time.Duration { return s.p99 }),
		cpu:  median(all, func(s sample) time.Duration { return s.cpu }),
	}
}

func median[T cmp.Ordered](all []sample, of func(sample) T) T {
	var list []T
	for _, s := range all {
		list = append(list, of(s))
	}
	slices.Sort(list)
	return list[len(list)/2]
}

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

// idleLimit is what idle connections may take.
const idleLimit = 100e6

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
		best := bestOf(r[haproxy], r[spliced])
		for _, name := range []string{direct, haproxy, spliced, ours} {
			row(&text, w, name, mid(r[name]), mid(r[direct]), mid(r[haproxy]))
		}
		if g := mid(r[ours]); g.rate < best.rate {
			missed = append(missed, fmt.Errorf("%s: the gate has %.3f of HAProxy's throughput", w.name, g.rate/best.rate))
		} else if g.p99 > best.p99 {
			missed = append(missed, fmt.Errorf("%s: the gate's p99 is %.3f of HAProxy's", w.name, ratio(g.p99, best.p99)))
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
	fmt.Fprintf(&text, "\nMedians of %d rounds.\n", o.rounds)
	_, _ = fmt.Fprint(out, "\n", text.String())
	if o.table != "" {
		missed = append(missed, os.WriteFile(o.table, []byte(text.String()), 0o644))
	}
	return errors.Join(missed...)
}

func row(out io.Writer, w workload, name string, got, plain, other sample) {
	p50, p99, p99Ratio, cpu := "", "", "", ""
	if got.p99 > 0 {
		p50, p99 = got.p50.String(), got.p99.String()
		p99Ratio = fmt.Sprintf("%.2f", ratio(got.p99, other.p99))
	}
	if name != direct {
		cpu = fmt.Sprintf("%.2f s per %.0f %s", got.cpu.Seconds(), w.per, w.unit)
	}
	_, _ = fmt.Fprintf(out, "| %s | %s | %.0f %s | %.2f | %.2f | %s | %s | %s | %s |\n", w.name, name, got.rate, w.unit,
		got.rate/plain.rate, got.rate/other.rate, p50, p99, p99Ratio, cpu)
}

// bestOf is the stronger of two configurations, by the medians.
func bestOf(a, b []sample) sample {
	if x, y := mid(a), mid(b); x.rate >= y.rate {
		return x
	}
	return mid(b)
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

func ratio(a, b time.Duration) float64 { return float64(a) / float64(b) }

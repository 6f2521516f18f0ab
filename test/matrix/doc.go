package main

import (
	_ "embed" // for measured.md
	"fmt"
	"slices"
	"strings"
	"time"
)

// measured ends the document: what the figures mean.
//
//go:embed measured.md
var measured string

// document renders results for people. It says nothing that is not in them or in the table of rows.
func document(all results) string {
	var b strings.Builder
	b.WriteString("# Failure matrix\n\n" +
		"<!-- written by `go run ./test/matrix -render`; edit test/matrix, not this file -->\n\n")
	first, newest := dates(all)
	fmt.Fprintf(&b, "What happens to a pair of PostgreSQL servers when things break, measured: %d runs between %s and "+
		"%s, on a machine\nwith %d cores that makes 8 kB durable in %.1f ms. Default timing where the row does not say "+
		"otherwise; times in seconds,\nmedian / longest.\n\n",
		len(all.Runs), first, newest, all.Machine.Cores, all.Machine.FsyncMS)
	b.WriteString(tableOf(all))
	b.WriteString(randomList(all))
	b.WriteString(measured)
	return b.String()
}

func dates(all results) (first, newest string) {
	at := func(r result) time.Time { return r.At }
	var list []time.Time
	for _, r := range all.Runs {
		list = append(list, at(r))
	}
	if len(list) == 0 {
		return "-", "-"
	}
	return slices.MinFunc(list, time.Time.Compare).Format(time.DateOnly),
		slices.MaxFunc(list, time.Time.Compare).Format(time.DateOnly)
}

const tableHead = "| row | what is done | documented decision | runs | nobody could write | limit of median | " +
	"clients that know both hosts | lost rows | rows acknowledged by two hosts | redundancy back after | " +
	"decision as documented |\n" +
	"|---|---|---|---:|---:|---:|---:|---:|---:|---:|---|\n"

// tableOf has one line for each row that was run.
func tableOf(all results) string {
	var b strings.Builder
	b.WriteString(tableHead)
	for _, r := range rendered() {
		runs := all.of(r.flag)
		if len(runs) == 0 {
			continue
		}
		lost, twice, wrong := 0, 0, 0
		for _, x := range runs {
			lost += x.Lost
			twice += x.Twice
			if len(x.Wrong)+len(x.Broken) > 0 {
				wrong++
			}
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %d | %s | %s | %s | %d | %d | %s | %s |\n", r.flag, r.name, r.decision.words(),
			len(runs), r.outageWords(runs), limitWords(r.limit), spread(figures(runs, func(x result) int64 { return x.Users })),
			lost, twice, spread(figures(runs, redundancyOf)), asDocumented(wrong, len(runs)))
	}
	return b.String()
}

// words say the decision, and what is to be known of the figure beside it.
func (d decision) words() string {
	if d.service == stops {
		return d.says + " (time: from the mending on)"
	}
	return d.says
}

func (r row) outageWords(runs []result) string { return spread(figures(runs, outageOf)) }

func limitWords(limit time.Duration) string {
	if limit == 0 {
		return "-"
	}
	return fmt.Sprintf("%.1f", limit.Seconds())
}

func asDocumented(wrong, runs int) string {
	if wrong == 0 {
		return "yes"
	}
	return fmt.Sprintf("**no, in %d of %d**", wrong, runs)
}

// spread is median and longest in seconds; -1 is never.
func spread(list []int64) string {
	if len(list) == 0 {
		return "-"
	}
	m := middle(list)
	text := fmt.Sprintf("%s / %s", seconds(m), seconds(list[len(list)-1]))
	if list[0] < 0 {
		text += ", or never"
	}
	return text
}

func seconds(ms int64) string {
	if ms < 0 {
		return "never"
	}
	return fmt.Sprintf("%.2f", float64(ms)/1000)
}

// randomList tells the random faults one by one.
func randomList(all results) string {
	runs := all.of(randomRow)
	if len(runs) == 0 {
		return ""
	}
	var b strings.Builder
	b.WriteString("\n## Random faults\n\nThe faults of the table that can befall anything at any time, one after the " +
		"other, sometimes two or three at once.\nThe right moved as often as the third column says.\n\n" +
		"| | faults | moves | nobody could write | redundancy back after | broken |\n|---:|---|---:|---:|---:|---|\n")
	seed := uint64(0)
	for n, r := range runs {
		if r.Seed != seed {
			seed = r.Seed
			fmt.Fprintf(&b, "| | seed %d | | | | |\n", seed)
		}
		broken := append(slices.Clone(r.Wrong), r.Broken...)
		fmt.Fprintf(&b, "| %d | %s | %d | %s | %s | %s |\n", n+1, r.Faults, r.Moves, seconds(r.Outage), seconds(r.Redundancy),
			strings.Join(broken, "; "))
	}
	return b.String()
}

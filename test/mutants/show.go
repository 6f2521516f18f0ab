package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"
)

// catch is the trial by which a ring that counts has noticed the mutant first.
func (r result) catch() (trial, bool) {
	for _, t := range r.trials {
		if t.Verdict.caught() && ringOf(t.Ring).counts() {
			return t, true
		}
	}
	return trial{}, false
}

// how says what became of the mutant in a word or two.
func (r result) how() string {
	if r.err != nil {
		if n := len(r.trials); n > 0 && r.trials[n-1].Verdict == invalid {
			return "DOES NOT COMPILE"
		}
		return "COULD NOT BE TRIED"
	}
	if t, ok := r.catch(); ok {
		return string(t.Verdict)
	}
	return "SURVIVED"
}

func (r result) line(verbose bool) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%-34s %-10s %s", r.mutant.name, r.mutant.rules, r.how())
	for _, t := range r.trials {
		if t.Verdict == apart {
			continue
		}
		fmt.Fprintf(&b, "  %s %s %.1f s", t.Ring, t.Verdict, t.CPU.Seconds())
		if verbose && t.Verdict != missed {
			fmt.Fprintf(&b, "\n        %s: %s", strings.Join(t.Args, " "), t.Said)
		}
	}
	if r.err != nil {
		fmt.Fprintf(&b, "\n%v", r.err)
	}
	return b.String()
}

func list(out io.Writer, all []mutant) {
	for _, m := range all {
		_, _ = fmt.Fprintf(out, "%-34s %-10s %s\n%47s%s\n", m.name, m.rules, m.edits[0].file, "", m.thought)
	}
	_, _ = fmt.Fprintf(out, "%d mutants\n", len(all))
}

// show prints what became of all mutants, and returns the exit code.
func show(out io.Writer, o options, all []result, spent time.Duration) int {
	code := 0
	for _, r := range all {
		if _, ok := r.catch(); !ok || r.err != nil {
			code = 1
		}
	}
	switch {
	case o.json:
		showJSON(out, all)
	case o.markdown:
		showMarkdown(out, all)
	default:
		showTable(out, all, spent)
	}
	return code
}

// caught lists by which rings the mutant was noticed and after how much work of a processor.
func (r result) caught() string {
	var by []string
	for _, t := range r.trials {
		if !t.Verdict.caught() {
			continue
		}
		how := fmt.Sprintf("%s %.1f s", t.Ring, t.CPU.Seconds())
		if t.Verdict != noticed {
			how += " (" + string(t.Verdict) + ")"
		}
		by = append(by, how)
	}
	if _, ok := r.catch(); !ok || r.err != nil {
		by = append([]string{r.how()}, by...)
	}
	return strings.Join(by, ", ")
}

func showTable(out io.Writer, all []result, spent time.Duration) {
	left := 0
	for _, r := range all {
		_, _ = fmt.Fprintf(out, "%-34s | %-10s | %s\n", r.mutant.name, r.mutant.rules, r.caught())
		if _, ok := r.catch(); !ok || r.err != nil {
			left++
		}
	}
	_, _ = fmt.Fprintf(out, "%d mutants, %d not noticed, in %v\n", len(all), left, spent.Round(time.Second))
}

func showMarkdown(out io.Writer, all []result) {
	_, _ = fmt.Fprintf(out, "| mutant | rule | what was thought | noticed by |\n|---|---|---|---|\n")
	for _, r := range all {
		_, _ = fmt.Fprintf(out, "| %s | %s | %s | %s |\n", r.mutant.name, r.mutant.rules, r.mutant.thought, r.caught())
	}
}

func showJSON(out io.Writer, all []result) {
	type entry struct {
		Mutant string   `json:"mutant"`
		Rules  []string `json:"rules"`
		File   string   `json:"file"`
		How    string   `json:"how"`
		Error  string   `json:"error,omitempty"`
		Trials []trial  `json:"trials"`
	}
	entries := make([]entry, 0, len(all))
	for _, r := range all {
		e := entry{Mutant: r.mutant.name, Rules: strings.Fields(r.mutant.rules), File: r.mutant.edits[0].file,
			How: r.how(), Trials: r.trials}
		if r.err != nil {
			e.Error = r.err.Error()
		}
		entries = append(entries, e)
	}
	enc := json.NewEncoder(out)
	enc.SetIndent("", "  ")
	_ = enc.Encode(entries)
}

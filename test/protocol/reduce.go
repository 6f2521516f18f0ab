package protocol

import (
	"strings"
	"time"
)

// Reduce leaves faults out of a schedule that fails for as long as it fails in the same way, and returns what is
// left of them with the violation. The rest of the schedule keeps its times.
func Reduce(seed uint64) (faults []string, o Outcome) {
	return reduce(seed, func() *schedule { return newSchedule(seed, false) })
}

func reduce(seed uint64, fresh func() *schedule) (faults []string, o Outcome) {
	o = fresh().outcome(seed, nil)
	if len(o.Violations) == 0 {
		return nil, o
	}
	wanted := sortOf(o.Violations[0])
	plan := fresh().plan
	without := make([]bool, len(plan))
	fails := func() bool {
		again := fresh().outcome(seed, without)
		if len(again.Violations) == 0 || sortOf(again.Violations[0]) != wanted {
			return false
		}
		o = again
		return true
	}
	for size := len(plan) / 2; size > 0; {
		progress := false
		for from := 0; from < len(plan); from += size {
			former := append([]bool(nil), without...)
			for i := from; i < min(from+size, len(plan)); i++ {
				without[i] = true
			}
			if left(without) == left(former) {
				continue
			}
			if fails() {
				progress = true
			} else {
				without = former
			}
		}
		if !progress || size > 1 {
			size /= 2
		}
	}
	at := time.Duration(0)
	for i, f := range plan {
		if !without[i] {
			faults = append(faults, "after "+at.String()+": "+f.what)
		}
		at += f.wait
	}
	return faults, o
}

func left(without []bool) (n int) {
	for _, w := range without {
		if !w {
			n++
		}
	}
	return n
}

// sortOf is what kind of violation this is: its first words, without the names of pair and host.
func sortOf(violation string) string {
	words := strings.Fields(violation)
	if len(words) > 0 && strings.HasPrefix(words[0], "p") && len(words[0]) == 2 {
		words = words[1:]
	}
	if len(words) > 0 && len(words[0]) == 1 {
		words = words[1:] // a host
	}
	if len(words) > 2 {
		words = words[:2]
	}
	if len(words) > 0 && words[0] == "G2:" {
		words = words[:1]
	}
	return strings.Join(words, " ")
}

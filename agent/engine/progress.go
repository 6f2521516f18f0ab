package engine

import (
	"fmt"
	"strings"
	"time"
)

// String tells a step in one line: "clone 45 % (1.2 of 2.6 GB, 110 MB/s, 13 s left)", and of a mirror that
// receives already "catch-up 80 % (320 MB behind, 30 MB/s, 11 s left)".
func (p Progress) String() string {
	text := p.Step
	var more []string
	if p.Total > 0 {
		done := min(max(p.Done, 0), p.Total)
		text += fmt.Sprintf(" %d %%", int(float64(done)/float64(p.Total)*100))
		if p.Step == "attach" || p.Step == "catch-up" {
			more = append(more, Bytes(p.Total-done)+" behind")
		} else {
			_, _, unit := unitOf(p.Total)
			more = append(more, strings.TrimSuffix(bytesIn(done, p.Total), " "+unit)+" of "+Bytes(p.Total))
		}
		if p.Rate > 0 {
			more = append(more, Bytes(p.Rate)+"/s")
		}
		switch {
		case p.Left > 0:
			more = append(more, roughly(p.Left)+" left")
		case p.Left < 0:
			more = append(more, "what is left does not become less")
		}
	}
	if p.Detail != "" {
		more = append(more, p.Detail)
	}
	if len(more) > 0 {
		text += " (" + strings.Join(more, ", ") + ")"
	}
	return text
}

// Bytes writes an amount for people, in powers of 1000: "2.6 GB".
func Bytes(n int64) string { return bytesIn(n, n) }

// bytesIn writes n in the unit that is right for like.
func bytesIn(n, like int64) string {
	size, digits, unit := unitOf(like)
	return fmt.Sprintf("%.*f %s", digits, float64(n)/float64(size), unit)
}

// unitOf is the unit for an amount, and how many digits behind the point are worth a look.
func unitOf(n int64) (size int64, digits int, unit string) {
	const base = 1000
	size, unit = 1, "B"
	for _, next := range []string{"kB", "MB", "GB", "TB", "PB"} {
		if n < size*base {
			break
		}
		size, unit = size*base, next
	}
	if size > 1 && n < 10*size {
		digits = 1
	}
	return size, digits, unit
}

// roughly writes a time that is only an estimate.
func roughly(d time.Duration) string {
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%d s", max(1, int(d.Round(time.Second)/time.Second)))
	case d < time.Hour:
		return fmt.Sprintf("%d min", int(d.Round(time.Minute)/time.Minute))
	default:
		return fmt.Sprintf("%.1f h", d.Hours())
	}
}

package postgres

import (
	"time"

	"github.com/witnessd/witnessd/agent/engine"
)

// meterWindow is how far back a rate looks: far enough that a burst is not taken for the pace, near enough
// that a change of it shows.
const meterWindow = 10 * time.Second

// meterStart is the shortest time from which a rate is told.
const meterStart = time.Second

// meter finds out how fast a step goes on. The zero value is ready.
type meter struct {
	step    string
	samples []sample // oldest first
}

type sample struct {
	at          time.Time
	done, total int64
}

// measure adds rate and time left to what is known of a step at a moment. What is left counts, not only what
// is done: the primary writes on while its mirror catches up.
func (m *meter) measure(p engine.Progress, at time.Time) engine.Progress {
	if p.Step != m.step {
		m.step, m.samples = p.Step, nil
	}
	if p.Total <= 0 {
		return p
	}
	now := sample{at: at, done: p.Done, total: p.Total}
	if n := len(m.samples); n > 0 && (p.Done < m.samples[n-1].done || at.Before(m.samples[n-1].at)) {
		m.samples = nil // the step began anew, or the clock was set
	}
	m.samples = append(m.samples, now)
	for len(m.samples) > 2 && at.Sub(m.samples[1].at) >= meterWindow {
		m.samples = m.samples[1:]
	}
	first := m.samples[0]
	took := at.Sub(first.at)
	if took < meterStart {
		return p
	}
	p.Rate = int64(float64(now.done-first.done) / took.Seconds())
	left := now.total - now.done
	closed := (first.total - first.done) - left
	switch {
	case left <= 0:
	case closed > 0:
		p.Left = time.Duration(float64(took) / float64(closed) * float64(left))
	default:
		p.Left = -1
	}
	return p
}

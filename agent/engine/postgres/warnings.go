//go:build linux

package postgres

import (
	"context"
	"strings"
	"sync"
	"time"
)

const (
	// warningsEvery is how old the warnings shown may be. What they tell of grows over minutes.
	warningsEvery = 5 * time.Second
	// warningsPatience bounds one round of questions. A server that does not answer is health's concern.
	warningsPatience = 10 * time.Second
)

// asker runs one statement at the server that is looked at.
type asker func(ctx context.Context, sql string, args ...string) ([]values, error)

// warningSource is one thing that an operator should mend although the instance does its part: a sentence, or
// "". It may be slow and it may fail; what cannot be found out is no warning.
type warningSource func(ctx context.Context, r *run, ask asker) string

// warningSources are asked one after the other, in the order in which they are shown.
func (e *Engine) warningSources() []warningSource {
	return []warningSource{
		e.strangerWarning,
		e.durabilityWarning,
		e.diskWarning,
		e.crowdWarning,
		e.slotWarning,
		e.discardedWarning,
		e.adoptionWarning,
		e.logicalWarning,
	}
}

// kept are the warnings of the last round of questions.
type kept struct {
	mu      sync.Mutex
	run     string
	text    string
	asked   time.Time
	running bool // a round is under way
}

// warnings is what an operator should mend about run r, several joined by "; ". It never waits: it returns
// what the last round of questions found, and begins another one in the background when that is old.
func (e *Engine) warnings(ctx context.Context, r *run) string {
	k := &e.warned
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.run != r.id {
		k.run, k.text, k.asked = r.id, "", time.Time{}
	}
	if !k.running && now().Sub(k.asked) >= warningsEvery && e.background(func() { e.askWarnings(ctx, r) }) {
		k.running = true
	}
	return k.text
}

// askWarnings asks every source. It runs on a goroutine of its own, and outlives the look that began it.
func (e *Engine) askWarnings(ctx context.Context, r *run) {
	ctx, cancel := e.whileRuns(ctx, r, warningsPatience)
	defer cancel()
	ask := func(ctx context.Context, sql string, args ...string) ([]values, error) {
		return e.noticing.query(ctx, r, sql, args...)
	}
	var all []string
	for _, source := range e.warningSources() {
		if text := source(ctx, r, ask); text != "" {
			all = append(all, text)
		}
	}
	k := &e.warned
	k.mu.Lock()
	defer k.mu.Unlock()
	k.running, k.asked = false, now()
	if k.run == r.id {
		k.text = strings.Join(all, "; ")
	}
}

package sqlserver

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

// An answer to a look proves little: it comes from memory, over a connection that was made in better times. So an
// instance's health is also asked for, and tried, in the background:
//
//   - sp_server_diagnostics, by which SQL Server judges itself for availability groups;
//   - a write to a table of the agent's, in the databases that the configuration names (probe), on an instance that
//     serves;
//   - the counters of queues and logs.
//
// What is tried never holds up a look, and nothing is tried again before the last try has ended. What it comes to is
// a Verdict: Stalled, on which the agent acts after several leases of it, and Warnings, on which nobody acts.
//
// Stalled counts only what the partner does better: that the instance as a whole does not answer its own diagnostics,
// or, while the mirror has everything, that a component is in error, a database is broken, or a disk refuses writes.
// A full log stalls nothing: the mirror's is as full.

const (
	// diagnosticsEvery is the pause between two runs of sp_server_diagnostics, which take up to five seconds each.
	diagnosticsEvery = 10 * time.Second
	// diagnosticsUsual is how long a run may take before it counts as silence.
	diagnosticsUsual = 10 * time.Second
	// probeEvery is the pause between two writes to one database.
	probeEvery = 5 * time.Second
	// countersEvery is the pause between two looks at the counters.
	countersEvery = time.Second
	// stallShown is what does not count as a stall: disks have longer pauses every now and then.
	stallShown = time.Second
	// stallStep is what one look adds to a stall at most: an agent that stood still has not waited.
	stallStep = 1200 * time.Millisecond
)

// Seen is what an engine's look found out, for Health to judge.
type Seen struct {
	// Run differs after every start of the instance.
	Run string
	// Primary says that the instance serves, so that it can be written to.
	Primary bool
	// MirrorReady says that the mirror is known to have everything and can take over.
	MirrorReady bool
	// Databases are those that move together.
	Databases []DatabaseRow
	// HoldUp is for how long at most a commit waits for a mirror that does not answer: PARTNER TIMEOUT; negative if
	// without end. A probe's wait counts only beyond it.
	HoldUp time.Duration
	// Lags are those of an availability group, where one look tells them; nil lets Health read the mirroring counters.
	Lags []Lag
}

// Verdict is what is known about an instance's health.
type Verdict struct {
	Stalled  time.Duration
	ServeIn  time.Duration
	Warnings []string
	Lags     []Lag // by database, in no order
}

// LagOf is a database's lag.
func (v Verdict) LagOf(database string) Lag {
	for _, l := range v.Lags {
		if strings.EqualFold(l.Database, database) {
			return l
		}
	}
	return Lag{}
}

// Warning is all warnings in one line.
func (v Verdict) Warning() string { return strings.Join(v.Warnings, "; ") }

// asker is the part of Client that Health uses.
type asker interface {
	Diagnostics(ctx context.Context) ([]DiagnosticRow, error)
	Counters(ctx context.Context) ([]CounterRow, error)
	LogsUsed(ctx context.Context) ([]CounterRow, error)
	Probe(ctx context.Context, database string) error
}

// Health judges one instance. Its Note is called from one look at a time.
type Health struct {
	ask    asker
	target TargetConfig
	level  int
	probed []string

	errands sync.WaitGroup
	mu      sync.Mutex // Note, and the ends of tries
	closed  bool
	health
}

// health is what is known of one run of the instance.
type health struct {
	run         string
	during      context.Context    // ends with the run; the tries outlive the look that began them
	end         context.CancelFunc // ends it
	looked      time.Time
	meter       meter
	diagnostics *trial // trials are made anew for each run: one of the last run ends into nothing
	components  []DiagnosticRow
	counters    *trial
	lags        []Lag
	logs        []CounterRow
	probes      map[string]*trial
	sick        time.Duration // for how long something was broken that the mirror does better
}

// trial is one thing that is tried again and again.
type trial struct {
	underway bool
	ended    time.Time     // the last try
	waited   time.Duration // of the one under way
	failed   error         // how the last one failed
}

// NewHealth makes the health of the instance that a client reaches.
func NewHealth(cfg Config, client *Client) *Health {
	return newHealth(cfg, client)
}

func newHealth(cfg Config, ask asker) *Health {
	return &Health{ask: ask, target: cfg.Target, level: cfg.HealthLevel, probed: cfg.Probe}
}

// Close ends what is under way and waits for it.
func (h *Health) Close() {
	h.mu.Lock()
	h.closed = true
	if h.end != nil {
		h.end()
	}
	h.mu.Unlock()
	h.errands.Wait()
}

// Note takes a look in, goes on with the tries and says what is known. It does not wait; ctx gives only its values.
func (h *Health) Note(ctx context.Context, seen Seen) Verdict {
	h.mu.Lock()
	defer h.mu.Unlock()
	at := clock()
	if h.closed {
		return Verdict{}
	}
	if h.run != seen.Run || h.during == nil {
		h.begin(ctx, seen.Run, at)
	}
	passed := min(max(at.Sub(h.looked), 0), stallStep)
	h.looked = at
	h.wait(passed)
	h.tryAll(at, seen)
	if seen.Lags != nil {
		h.lags = seen.Lags
	}
	v := Verdict{ServeIn: ServeIn(h.lags), Lags: slices.Clone(h.lags), Warnings: h.warnings(seen)}
	if h.sickness(seen) {
		h.sick += passed
	} else {
		h.sick = 0
	}
	v.Stalled = h.stalled(seen)
	return v
}

// begin forgets what was known of the run before. Its caller holds mu.
func (h *Health) begin(ctx context.Context, run string, at time.Time) {
	if h.end != nil {
		h.end()
	}
	h.health = health{
		run: run, looked: at, diagnostics: &trial{}, counters: &trial{}, probes: map[string]*trial{},
	}
	h.during, h.end = context.WithCancel(context.WithoutCancel(ctx))
}

// wait lets the tries under way grow older by a look's time.
func (h *Health) wait(passed time.Duration) {
	for _, t := range h.probes {
		t.wait(passed)
	}
	h.diagnostics.wait(passed)
	h.counters.wait(passed)
}

func (t *trial) wait(passed time.Duration) {
	if t.underway {
		t.waited += passed
	}
}

// tryAll starts the tries that are due. Its caller holds mu.
func (h *Health) tryAll(at time.Time, seen Seen) {
	h.try(at, h.diagnostics, diagnosticsEvery, func(ctx context.Context) error {
		rows, err := h.ask.Diagnostics(ctx)
		return h.keep(seen.Run, err, func() { h.components = rows })
	})
	h.try(at, h.counters, countersEvery, func(ctx context.Context) error { return h.count(ctx, seen) })
	if !seen.Primary {
		return
	}
	for _, database := range h.probed {
		t, ok := h.probes[database]
		if !ok {
			t = &trial{}
			h.probes[database] = t
		}
		h.try(at, t, probeEvery, func(ctx context.Context) error { return h.ask.Probe(ctx, database) })
	}
}

// count looks at the counters.
func (h *Health) count(ctx context.Context, seen Seen) error {
	logs, err := h.ask.LogsUsed(ctx)
	if err != nil {
		return err
	}
	if seen.Lags != nil {
		return h.keep(seen.Run, nil, func() { h.logs = logs })
	}
	rows, err := h.ask.Counters(ctx)
	at := clock()
	return h.keep(seen.Run, err, func() {
		h.logs, h.lags = logs, h.meter.note(at, inUnit(QueuesOf(rows), seen.Databases))
	})
}

// keep puts a try's result away, unless it is of a run that has ended.
func (h *Health) keep(run string, err error, put func()) error {
	if err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.run == run {
		put()
	}
	return nil
}

func inUnit(queues []Queue, databases []DatabaseRow) []Queue {
	return slices.DeleteFunc(queues, func(q Queue) bool {
		return !slices.ContainsFunc(databases, func(d DatabaseRow) bool { return strings.EqualFold(d.Name, q.Database) })
	})
}

// try begins one try, if it is due and none is under way. Its caller holds mu.
func (h *Health) try(at time.Time, t *trial, every time.Duration, what func(context.Context) error) {
	if t.underway || !t.ended.IsZero() && at.Sub(t.ended) < every {
		return
	}
	t.underway, t.waited = true, 0
	ctx := h.during
	h.errands.Go(func() {
		err := what(ctx)
		if errors.Is(err, context.Canceled) {
			err = nil
		}
		h.mu.Lock()
		defer h.mu.Unlock()
		t.underway, t.waited, t.ended, t.failed = false, 0, clock(), err
	})
}

// sickness says that something is broken that the mirror does better. Its caller holds mu.
func (h *Health) sickness(seen Seen) bool {
	if !seen.Primary || !seen.MirrorReady {
		return false
	}
	if level := Condition(h.components); level != 0 && level <= h.level {
		return true
	}
	if slices.ContainsFunc(seen.Databases, func(d DatabaseRow) bool { return broken(d.State) }) {
		return true
	}
	for _, t := range h.probes {
		if t.failed != nil && refused(t.failed) {
			return true
		}
	}
	return false
}

// refused says that a disk does not take writes which the mirror's disk would.
func refused(err error) bool {
	return ClassOf(err) == ClassDisk && NumberOf(err) != errorLogFull && NumberOf(err) != errorDataFull
}

// Numbers that a full disk, or a full file, gives.
const (
	errorDataFull = 1105
	errorLogFull  = 9002
)

// stalled is for how long the instance has not done what it should. Its caller holds mu.
func (h *Health) stalled(seen Seen) time.Duration {
	most := h.sick
	if h.level >= LevelSilent {
		most = max(most, h.diagnostics.waited-diagnosticsUsual)
	}
	if seen.Primary && seen.HoldUp >= 0 {
		for _, t := range h.probes {
			most = max(most, t.waited-seen.HoldUp)
		}
	}
	if most < stallShown {
		return 0
	}
	return most
}

// warnings says what is wrong, whether anybody acts on it or not. Its caller holds mu.
func (h *Health) warnings(seen Seen) []string {
	said := databaseWarnings(seen.Databases)
	said = append(said, diagnosticWarnings(h.components)...)
	if d := h.diagnostics.waited - diagnosticsUsual; d >= stallShown {
		said = append(said, fmt.Sprintf("sp_server_diagnostics has not answered for %v",
			h.diagnostics.waited.Round(time.Second)))
	} else if err := h.diagnostics.failed; err != nil {
		said = append(said, "health is not known: "+err.Error())
	}
	for _, database := range h.probed {
		t := h.probes[database]
		switch {
		case t == nil || !seen.Primary:
		case t.waited-max(seen.HoldUp, 0) >= stallShown:
			said = append(said, fmt.Sprintf("%s has taken no write for %v", database, t.waited.Round(time.Second)))
		case t.failed != nil:
			said = append(said, "a write of the agent's own failed: "+t.failed.Error())
		}
	}
	if err := h.counters.failed; err != nil {
		said = append(said, "the queues are not known: "+err.Error())
	}
	said = append(said, logWarnings(h.logs, seen.Databases)...)
	return append(said, lagWarnings(h.lags, h.target)...)
}

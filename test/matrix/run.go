package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	witnessv1 "github.com/witnessd/witnessd/proto/gen/witness/v1"
	"github.com/witnessd/witnessd/test/fleet"
)

// matrix is one call: what was asked for, the laboratory that stands now, and what came of it so far.
type matrix struct {
	options options
	out     io.Writer
	results results

	fleet   *fleet.Fleet // nil: none stands
	lab     lab
	profile string // in force
}

func (m *matrix) sayf(format string, args ...any) { _, _ = fmt.Fprintf(m.out, format+"\n", args...) }

func (m *matrix) close() {
	if m.fleet != nil {
		m.fleet.Close()
		m.fleet = nil
	}
}

// Sizes of disks that can be filled, in million bytes: the log's is above what PostgreSQL keeps by itself.
const (
	diskMB = 400
	walMB  = 1500
)

// stand sees to it that an armed pair stands in such a laboratory.
func (m *matrix) stand(ctx context.Context, l lab, profile string) error {
	if m.fleet != nil && m.lab != l {
		m.close()
	}
	if m.fleet == nil {
		opts := fleet.Options{
			Engine: "postgres", Pairs: []string{"payroll"}, Log: m.out, Keep: m.options.keep, Namespaces: true,
			Programs: m.options.programs, Lines: l.Lines, Clocks: l.Clocks,
		}
		if l.Clocks {
			opts.Programs = "" // programs of somebody else's making read the machine's own clock
		}
		if l.Disks {
			opts.DiskMB, opts.WalMB = diskMB, walMB
		}
		f, err := fleet.Start(ctx, opts)
		if err != nil {
			return err
		}
		m.fleet, m.lab, m.profile = f, l, "default"
	}
	if _, err := m.fleet.WaitArmed(ctx, 60*time.Second); err != nil {
		return errors.Join(err, m.saveLogs("start"))
	}
	return m.setProfile(ctx, profile)
}

// setProfile changes the timing and waits until nothing rests on the former one any more.
func (m *matrix) setProfile(ctx context.Context, profile string) error {
	if profile == "" {
		profile = "default"
	}
	if profile == m.profile {
		return nil
	}
	name := m.fleet.Pairs[0].Name
	if out, err := m.fleet.Ctl(ctx, "pair", "set", name, "--profile", profile); err != nil {
		return fmt.Errorf("set profile %s: %w: %s", profile, err, out)
	}
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end) && ctx.Err() == nil; {
		p, err := m.fleet.Get(ctx, name)
		if err == nil && p.GetLongestLease().AsDuration() == p.GetPolicy().GetLease().AsDuration() && fleet.Armed(p) {
			m.profile = profile
			return sleep(ctx, time.Second)
		}
		time.Sleep(100 * time.Millisecond)
	}
	return fmt.Errorf("profile %s was not in force within 30 s", profile)
}

// run is one fault, or several, and what was seen of it.
type run struct {
	fleet           *fleet.Fleet
	pair            *fleet.Pair
	primary, mirror *fleet.Host // before the fault
	leader          *fleet.Node
	before          *witnessv1.Pair
	sequence        uint64 // of the last event before
	clients         *fleet.Clients
	stopLoad        func() (float64, error) // nil: there is none
	watch           *watch

	began  time.Time
	serves time.Time // from when on service must come back; zero: mended
	mended time.Time
	notes  []string
	broken []string
}

func (r *run) note(format string, args ...any) {
	r.notes = append(r.notes, fmt.Sprintf(format, args...))
}

func (r *run) breaks(format string, args ...any) {
	r.broken = append(r.broken, fmt.Sprintf(format, args...))
}

func (r *run) host(which party) *fleet.Host {
	if which == theMirror {
		return r.mirror
	}
	return r.primary
}

func (r *run) partner(of party) party {
	if of == theMirror {
		return thePrimary
	}
	return theMirror
}

// servedAgain is said where service must come back before all is mended.
func (r *run) servedAgain(err error) {
	if err != nil {
		r.breaks("%v", err)
	}
	r.serves = time.Now()
}

// mendedNow is said where a fault's function goes on after the mending.
func (r *run) mendedNow() { r.mended = time.Now() }

// once runs a row once, adds its result and leaves an armed pair, or none. An error means that nothing could be
// measured.
func (m *matrix) once(ctx context.Context, w row, number string) error {
	profile := w.profile
	if profile == "" {
		profile = m.options.profile
	}
	if err := m.stand(ctx, w.lab, profile); err != nil {
		return err
	}
	r, err := m.begin(ctx, w.load)
	if err != nil {
		return err
	}
	inject := w.inject
	if inject == nil {
		inject = lasting(w.fault, w.lasts)
	}
	res, err := m.measureOne(ctx, r, w, inject)
	if err != nil {
		return err
	}
	res.Row = w.flag
	return m.took(res, fmt.Sprintf("%-22s %5s", w.flag, number))
}

// lasting does a fault, waits and mends it.
func lasting(f fault, lasts time.Duration) injection {
	return func(ctx context.Context, r *run) error {
		mend, err := f(ctx, r)
		if err != nil {
			if mend != nil {
				err = errors.Join(err, mend())
			}
			return err
		}
		if err := sleep(ctx, lasts); err != nil || mend == nil {
			return err
		}
		return mend()
	}
}

// begin takes note of how everything is and starts those who write.
func (m *matrix) begin(ctx context.Context, load int) (*run, error) {
	r := &run{fleet: m.fleet, pair: m.fleet.Pairs[0]}
	var err error
	if r.primary, r.mirror, err = r.pair.Primary(); err != nil {
		return nil, err
	}
	if r.leader, err = m.fleet.Leader(ctx); err != nil {
		return nil, err
	}
	if r.before, err = m.fleet.Get(ctx, r.pair.Name); err != nil {
		return nil, err
	}
	events, err := m.fleet.Events(ctx, r.pair.Name, 0)
	if err != nil {
		return nil, err
	}
	if len(events) > 0 {
		r.sequence = events[len(events)-1].GetSequence()
	}
	if load > 0 {
		if err := r.startLoad(ctx, load); err != nil {
			return nil, err
		}
	}
	if r.clients, err = r.pair.Run(ctx, r.primary, r.pair.Writers()); err != nil {
		return nil, err
	}
	if err := r.answered(ctx); err != nil {
		r.endWork()
		return nil, err
	}
	r.watch = watchPair(ctx, m.fleet, r.pair.Name)
	return r, nil
}

// startLoad begins a load that is there to be in the way: what it suffers is measured by the writers.
func (r *run) startLoad(ctx context.Context, sessions int) error {
	var err error
	if r.stopLoad, err = r.pair.Pgbench(ctx, sessions); err != nil {
		return err
	}
	return sleep(ctx, 3*time.Second)
}

// endWork ends the load and those who write.
func (r *run) endWork() {
	r.clients.Stop()
	if r.stopLoad == nil {
		return
	}
	tps, err := r.stopLoad()
	r.stopLoad = nil
	if err != nil {
		r.breaks("load: %v", err)
	}
	r.note("load: %.0f transactions a second", tps)
}

// answered waits until every client that can be answered was, and a little longer.
func (r *run) answered(ctx context.Context) error {
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end) && ctx.Err() == nil; {
		had := map[*fleet.Client]bool{}
		for _, a := range r.clients.Answers() {
			had[a.Client] = true
		}
		// Those that know the mirror only are not answered.
		if len(had) >= 5 {
			return sleep(ctx, time.Second)
		}
		time.Sleep(50 * time.Millisecond)
	}
	return errors.New("not every client was answered within 10 s before the fault")
}

// measureOne injects, waits for redundancy, stops those who write, and judges.
func (m *matrix) measureOne(ctx context.Context, r *run, w row, inject injection) (result, error) {
	defer r.watch.stop()
	defer r.endWork()
	r.began = time.Now()
	if err := inject(ctx, r); err != nil {
		return result{}, err
	}
	if r.mended.IsZero() {
		r.mended = time.Now()
	}
	redundancy, err := r.watch.armedFrom(ctx, r.mended)
	if ctx.Err() != nil {
		return result{}, ctx.Err()
	}
	if err != nil {
		r.breaks("%v", err)
	}
	until := time.Now()
	r.endWork()
	s := r.seen(ctx, until)
	res := s.judge(w.decision)
	res.Redundancy = redundancy.Milliseconds()
	if err != nil {
		res.Redundancy = -1
	}
	if w.badLine && res.Late > 0 {
		r.note("%d answers arrived after the other host's first", res.Late)
	} else if res.Late > 0 {
		r.breaks("%d commits were released after the other host had acknowledged some", res.Late)
	}
	res.Lost = r.lost(ctx)
	res.Broken, res.Notes = r.broken, r.notes
	return res, nil
}

// seen gathers what the run is judged by.
func (r *run) seen(ctx context.Context, until time.Time) seen {
	s := seen{primary: r.primary.Name, began: r.began, mended: r.mended, until: until}
	if !r.serves.IsZero() {
		s.mended = r.serves
	}
	for _, a := range r.clients.Answers() {
		s.acks = append(s.acks, ack{
			host: a.Host, sent: a.Sent, at: a.At, outside: a.Client.Place.On == nil, user: !a.Client.Direct(),
		})
	}
	for after := r.sequence; ; {
		events, err := r.fleet.Events(ctx, r.pair.Name, after)
		if err != nil {
			r.breaks("read the history: %v", err)
		}
		for _, e := range events {
			s.facts = append(s.facts, fact{kind: e.GetKind(), host: e.GetHost()})
			after = e.GetSequence()
		}
		if len(events) == 0 {
			return s
		}
	}
}

// lost looks for every acknowledged row on both hosts.
func (r *run) lost(ctx context.Context) int {
	n := 0
	for _, h := range r.pair.Hosts {
		var missing int
		var err error
		for range 5 {
			if missing, err = r.clients.Lost(ctx, h); err == nil && missing == 0 {
				break
			}
			// A mirror that was just armed may not have shown its newest rows yet, and a busy host may not answer at once.
			time.Sleep(time.Second)
		}
		if err != nil {
			r.breaks("%v", err)
		}
		if missing > 0 {
			r.breaks("%d acknowledged rows are missing at %s", missing, h.Name)
		}
		n += missing
	}
	return n
}

// took adds a result, says what it is, and keeps what an engineer would look at if it is bad.
func (m *matrix) took(res result, name string) error {
	m.results.Runs = append(m.results.Runs, res)
	m.sayf("%s  outage %6d ms  users %6d ms  lost %d  twice %d  armed after %6d ms  moves %d  %s", name, res.Outage,
		res.Users, res.Lost, res.Twice, res.Redundancy, res.Moves, res.Faults)
	for _, n := range res.Notes {
		m.sayf("    %s", n)
	}
	for _, b := range append(slices.Clone(res.Wrong), res.Broken...) {
		m.sayf("    BROKEN: %s", b)
	}
	var err error
	if m.options.json != "" {
		err = m.results.write(m.options.json)
	}
	if res.bad() {
		m.sayf("    %s", strings.Join(res.Steps, " "))
		err = errors.Join(err, m.saveLogs(fmt.Sprintf("%s-%d", res.Row, len(m.results.Runs))))
	}
	if res.Redundancy < 0 {
		// Whoever comes next is not to suffer from this one.
		m.close()
	}
	return err
}

// saveLogs keeps all logs of the fleet.
func (m *matrix) saveLogs(name string) error {
	if m.options.logs == "" || m.fleet == nil {
		return nil
	}
	dir := filepath.Join(m.options.logs, name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("keep logs: %w", err)
	}
	const all = 1 << 30
	var errs []error
	for _, n := range m.fleet.Nodes {
		errs = append(errs, os.WriteFile(filepath.Join(dir, n.ID), []byte(n.Logs(all)), 0o644))
	}
	for _, h := range m.fleet.Pairs[0].Hosts {
		errs = append(errs, os.WriteFile(filepath.Join(dir, h.Name), []byte(h.Logs(all)), 0o644))
	}
	return errors.Join(errs...)
}

func lastLine(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return lines[len(lines)-1]
}

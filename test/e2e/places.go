package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	witnessv1 "github.com/witnessd/witnessd/proto/gen/witness/v1"
	"github.com/witnessd/witnessd/test/fleet"
)

// placeRow is one row of the sets that have clients at several places.
type placeRow struct {
	name string
	flag string
	// prepare brings the pair into the state that the fault befalls; undo takes that back after the run.
	prepare func(ctx context.Context, r *placeRun) error
	undo    func(ctx context.Context, r *placeRun) error
	// inject does the fault and mends it, and returns at once then.
	inject func(ctx context.Context, r *placeRun) error
	// moves: the mirror must take over; stays: nobody may notice anything. Neither: both are right.
	moves, stays bool
	// cuts: every session to the old primary must be cut before the mirror serves, not only go without answers. Those
	// on the mirror's host are let through by the old primary's kernel, and stopped by the mirror's: a statement of
	// theirs that waits then is not cut, but is not answered either.
	cuts bool
	// clients other than those of both databases from everywhere.
	clients func(p *fleet.Pair) []*fleet.Client
	// check adds what else the row promises.
	check func(ctx context.Context, r *placeRun)
}

// placeRun is one injection.
type placeRun struct {
	row             placeRow
	fleet           *fleet.Fleet
	pair            *fleet.Pair
	primary, mirror *fleet.Host // before the fault
	list            []*fleet.Client
	clients         *fleet.Clients
	began           time.Time
	result          placeResult
}

// placeResult is what came of it.
type placeResult struct {
	moved      bool
	served     time.Duration // from the fault to the new primary's first answer
	margin     time.Duration // from the old primary's last answer to the new one's first
	whose      fleet.View
	cut        time.Duration // from the last cut of a session to the old primary to the new one's first answer
	wasCut     int           // of the places that had a session to the old primary
	places     int
	last       map[fleet.View]time.Duration // before the new primary served
	overlap    int
	lost       int
	gap        time.Duration
	armedAfter time.Duration // after the fault was mended
	losses     int           // sessions that clients lost, of those at a primary
	failed     int           // connections that could not be made
	broken     []string      // promises
	notes      []string
}

func (r *placeRun) breaks(format string, args ...any) {
	r.result.broken = append(r.result.broken, fmt.Sprintf(format, args...))
}

func (r *placeRun) note(format string, args ...any) {
	r.result.notes = append(r.result.notes, fmt.Sprintf(format, args...))
}

// measurePlaces runs the rows on one pair of hosts in namespaces.
func measurePlaces(ctx context.Context, c choice, rows []placeRow, opts fleet.Options) error {
	opts.Engine, opts.Pairs, opts.Log, opts.Keep = "postgres", []string{"payroll"}, os.Stdout, c.keep
	opts.Programs, opts.Namespaces = c.programs, true
	f, err := fleet.Start(ctx, opts)
	if err != nil {
		return err
	}
	defer f.Close()
	took, err := f.WaitArmed(ctx, 60*time.Second)
	if err != nil {
		return explain(f, err)
	}
	fmt.Printf("armed %v after the programs were started\n", took.Round(100*time.Millisecond))
	var done []placeDone
	for _, row := range rows {
		if !c.takes(row.flag) {
			continue
		}
		d := placeDone{row: row}
		for n := range c.runs {
			result, err := placeOnce(ctx, f, row)
			if err != nil {
				return explain(f, fmt.Errorf("%s, run %d: %w", row.name, n+1, err))
			}
			printPlaceRun(os.Stdout, row, n+1, c.runs, result)
			d.results = append(d.results, result)
			if len(result.broken) > 0 {
				fmt.Println(explain(f, errors.New("what hosts and nodes said at the end")))
			}
		}
		done = append(done, d)
	}
	printPlaces(os.Stdout, done)
	if c.table != "" {
		if err := writePlaces(c.table, done); err != nil {
			return err
		}
	}
	return placeVerdict(done)
}

// placeOnce runs one row once, and leaves an armed pair behind. An error means that nothing could be measured.
func placeOnce(ctx context.Context, f *fleet.Fleet, row placeRow) (placeResult, error) {
	r := &placeRun{row: row, fleet: f, pair: f.Pairs[0]}
	var err error
	if r.primary, r.mirror, err = r.pair.Primary(); err != nil {
		return r.result, err
	}
	if row.prepare != nil {
		if err := row.prepare(ctx, r); err != nil {
			return r.result, err
		}
		if _, err := f.WaitArmed(ctx, 60*time.Second); err != nil {
			return r.result, err
		}
	}
	before, err := f.Get(ctx, r.pair.Name)
	if err != nil {
		return r.result, err
	}
	if err := r.watch(ctx); err != nil {
		return r.result, err
	}
	defer r.clients.Stop()
	r.began = time.Now()
	if err := row.inject(ctx, r); err != nil {
		return r.result, err
	}
	mended := time.Now()
	if r.result.armedAfter, err = f.WaitArmed(ctx, 90*time.Second); err != nil {
		return r.result, err
	}
	time.Sleep(max(time.Second, time.Until(mended.Add(afterwards))))
	// Some faults are over before the record says that anything happened.
	if _, err = f.WaitArmed(ctx, 90*time.Second); err != nil {
		return r.result, err
	}
	if row.check != nil {
		row.check(ctx, r)
	}
	r.result.gap = r.clients.Gap(r.began, time.Now())
	r.clients.Stop()
	r.judge(ctx, before)
	if row.undo != nil {
		if err := row.undo(ctx, r); err != nil {
			return r.result, err
		}
		if _, err := f.WaitArmed(ctx, 60*time.Second); err != nil {
			return r.result, err
		}
	}
	return r.result, nil
}

// watch starts the clients and waits until each that can be answered was.
func (r *placeRun) watch(ctx context.Context) error {
	r.list = r.pair.Direct()
	if r.row.clients != nil {
		r.list = r.row.clients(r.pair)
	}
	var err error
	if r.clients, err = r.pair.Run(ctx, r.primary, r.list); err != nil {
		return err
	}
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		silent := map[*fleet.Client]bool{}
		for _, c := range r.list {
			silent[c] = c.Name != r.mirror.Name
		}
		for _, a := range r.clients.Answers() {
			silent[a.Client] = false
		}
		missing := ""
		for c, yes := range silent {
			if yes {
				missing = fmt.Sprintf("%s, %v, to %v", c.Name, c.Work, c.To)
			}
		}
		if missing == "" {
			break
		}
		if time.Now().After(end) {
			r.clients.Stop()
			return fmt.Errorf("a client had no answer for 5 s before the fault: %s", missing)
		}
	}
	time.Sleep(500 * time.Millisecond)
	return nil
}

// served waits until the mirror answers as a primary.
func (r *placeRun) served(ctx context.Context, limit time.Duration) bool {
	for end := time.Now().Add(limit); time.Now().Before(end) && ctx.Err() == nil; time.Sleep(20 * time.Millisecond) {
		if !r.clients.Change(r.began, r.primary, r.mirror).Served.IsZero() {
			return true
		}
	}
	return false
}

// judge compares what clients saw with what the row promises.
func (r *placeRun) judge(ctx context.Context, before *witnessv1.Pair) {
	res := &r.result
	ch := r.clients.Change(r.began, r.primary, r.mirror)
	res.moved = !ch.Served.IsZero()
	res.overlap = len(ch.Overlap)
	for _, a := range ch.Overlap[:min(3, len(ch.Overlap))] {
		r.breaks("%s answered %v as primary %v after %s first served (client %s, %v, asked %v after the fault)", a.Host,
			a.Client.Work, a.At.Sub(ch.Served).Round(10*time.Microsecond), r.mirror.Name, placeOf(a.Client), a.Client.To,
			a.Sent.Sub(r.began).Round(time.Millisecond))
	}
	if res.overlap > 3 {
		r.breaks("and %d more such answers", res.overlap-3)
	}
	for _, l := range r.clients.Losses() {
		switch {
		case l.At.Before(r.began):
		case l.Answers == 0 && l.Client.Name != r.primary.Name && l.Client.Name != r.mirror.Name,
			l.Answers == 0 && r.row.stays && r.concerned(l):
			res.failed++
		case l.Primary:
			res.losses++
		}
	}
	if res.moved {
		res.served = ch.Served.Sub(r.began)
		r.judgeMove(ch)
	} else if r.row.moves {
		r.breaks("%s did not take over", r.mirror.Name)
	}
	if r.row.stays {
		r.judgeStay(ctx, before)
	}
	for _, h := range r.pair.Hosts {
		lost, err := r.clients.Lost(ctx, h)
		if err != nil {
			r.breaks("%v", err)
		}
		res.lost += lost
	}
	if res.lost > 0 {
		r.breaks("%d acknowledged rows are missing", res.lost)
	}
}

// judgeMove is about the old primary's last answers and the sessions that it had.
func (r *placeRun) judgeMove(ch fleet.Change) {
	res := &r.result
	res.margin, res.whose, _ = ch.Margin()
	res.last = map[fleet.View]time.Duration{}
	for v, at := range ch.Last {
		res.last[v] = ch.Served.Sub(at)
		res.places++
		cut, ok := ch.Cut[v]
		early := ch.Served.Sub(cut)
		must := r.row.cuts && !v.OnPartner()
		switch {
		case !ok && must:
			r.breaks("sessions to %s were not cut: %v", r.primary.Name, v)
		case ok && early <= 0 && must:
			r.breaks("sessions to %s were cut only %v after the mirror served: %v", r.primary.Name,
				(-early).Round(10*time.Microsecond), v)
		}
		if ok && early > 0 {
			if res.wasCut == 0 || early < res.cut {
				res.cut = early
			}
			res.wasCut++
		}
	}
}

// judgeStay is about faults that must concern nobody.
func (r *placeRun) judgeStay(ctx context.Context, before *witnessv1.Pair) {
	after, err := r.fleet.Get(ctx, r.pair.Name)
	if err != nil {
		r.breaks("%v", err)
		return
	}
	if before.GetEpoch() != after.GetEpoch() {
		r.breaks("epoch %d became %d", before.GetEpoch(), after.GetEpoch())
	}
	shown := 0
	for _, l := range r.clients.Losses() {
		if l.At.Before(r.began) || !r.concerned(l) {
			continue
		}
		if shown++; shown <= 3 {
			r.breaks("session cut %v after the fault: %s to %v, %v, %d answers: %s",
				l.At.Sub(r.began).Round(time.Millisecond), placeOf(l.Client), l.Client.To, l.Client.Work, l.Answers, l.Why)
		}
	}
	if shown > 3 {
		r.breaks("and %d more sessions", shown-3)
	}
	r.noteSilences()
}

// noteSilences tells which clients had to wait, and when.
func (r *placeRun) noteSilences() {
	var parts []string
	for _, s := range r.clients.Silences(r.began) {
		parts = append(parts, fmt.Sprintf("%s to %s %v: %s at %s", placeOf(s.Client), s.Client.Name, s.Client.Work,
			milliseconds(s.Long), milliseconds(s.From.Sub(r.began))))
	}
	r.note("longest waits for an answer (after the fault): %s", strings.Join(parts[:min(6, len(parts))], "; "))
}

// concerned says whether a loss would be noticed where nobody may notice anything: a session that worked, or a
// connection to the primary. Nobody is promised that a mirror can be reached from its primary's host.
func (r *placeRun) concerned(l fleet.Loss) bool {
	return l.Answers > 0 || l.Client.Name == r.primary.Name
}

func placeOf(c *fleet.Client) string {
	if c.Place.On == nil {
		return "outside"
	}
	return "on " + c.Place.On.Name
}

// views are the keys in an order for people.
func views(m map[fleet.View]time.Duration) []fleet.View {
	var list []fleet.View
	for v := range m {
		list = append(list, v)
	}
	slices.SortFunc(list, func(a, b fleet.View) int { return strings.Compare(a.String(), b.String()) })
	return list
}

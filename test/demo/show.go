package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/witnessd/witnessd/test/fleet"
)

// show plays the steps and keeps what they broke.
type show struct {
	fleet   *fleet.Fleet
	writers []*fleet.Writer // by the place of the pair in the fleet
	broken  []error
	// notices is how long the engine itself may take to notice that a host is gone without a word, after the lease: an
	// availability group holds commits for its secondary until SESSION_TIMEOUT.
	notices time.Duration
}

// step is one thing that is done to the system, and what it promises.
type step struct {
	title   string
	promise string
	pair    int           // whose primary is concerned; -1: no pair may notice anything
	limit   time.Duration // of the longest pause in writes, of the pair concerned
	watch   time.Duration
	inject  func(ctx context.Context, e *episode) error
	mend    func(ctx context.Context, e *episode) error
}

// episode is a step while it runs.
type episode struct {
	began           time.Time
	primary, mirror *fleet.Host // of the pair concerned
	leader          *fleet.Node
	seen            uint64 // sequence of the newest event before it
}

// unnoticed is the longest pause in writes for something that must concern nobody.
const unnoticed = 500 * time.Millisecond

func (s *show) steps() []step {
	return []step{
		{
			title: "The leader node of the witness is killed (-9).", promise: "nothing happens to any pair (G3)",
			pair: -1, limit: unnoticed, watch: 5 * time.Second,
			inject: func(_ context.Context, e *episode) error { e.leader.Kill(); return nil },
			mend:   func(_ context.Context, e *episode) error { return e.leader.Start() },
		},
		{
			title:   "The database of a primary is killed (-9); its host lives.",
			promise: "the agent notices at once, gives the epoch back, the mirror takes over (G5)",
			pair:    0, limit: time.Second, watch: 4 * time.Second,
			inject: func(_ context.Context, e *episode) error { return e.primary.KillDatabase() },
		},
		{
			title:   "A whole host is lost: every process of it is killed.",
			promise: "the mirror takes over after one lease (3 s)",
			pair:    1, limit: 4500*time.Millisecond + s.notices, watch: 7*time.Second + s.notices,
			inject: func(_ context.Context, e *episode) error { e.primary.Kill(); return nil },
			mend: func(ctx context.Context, e *episode) error {
				return errors.Join(e.primary.Start(), e.mirror.Resume(ctx))
			},
		},
		{
			title:   "An operator switches over.",
			promise: "nothing is lost, writes pause for as long as the database needs to stop and start",
			pair:    0, limit: 1500 * time.Millisecond, watch: 4 * time.Second,
			inject: func(ctx context.Context, e *episode) error {
				out, err := s.fleet.Ctl(ctx, "pair", "switchover", s.fleet.Pairs[0].Name, "--reason", "demo")
				fmt.Println(indent(out))
				return err
			},
		},
		{
			title:   "The whole witness is lost for 8 s, and comes back.",
			promise: "every primary serves on its mirror's word; nothing happens to any pair (G4)",
			pair:    -1, limit: unnoticed, watch: 14 * time.Second,
			inject: func(_ context.Context, _ *episode) error {
				for _, n := range s.fleet.Nodes {
					n.Kill()
				}
				time.Sleep(8 * time.Second)
				var failed []error
				for _, n := range s.fleet.Nodes {
					failed = append(failed, n.Start())
				}
				return errors.Join(failed...)
			},
		},
	}
}

// play runs one step and prints what happened.
func (s *show) play(ctx context.Context, st step) error {
	fmt.Printf("== %s\n   Promise: %s.\n", st.title, st.promise)
	e := &episode{}
	var err error
	if st.pair >= 0 {
		if e.primary, e.mirror, err = s.fleet.Pairs[st.pair].Primary(); err != nil {
			return err
		}
	}
	if e.leader, err = s.fleet.Leader(ctx); err != nil {
		return err
	}
	if e.seen, err = s.newest(ctx); err != nil {
		return err
	}
	time.Sleep(500 * time.Millisecond)
	e.began = time.Now()
	if err := st.inject(ctx, e); err != nil {
		return err
	}
	time.Sleep(time.Until(e.began.Add(st.watch)))
	ended := time.Now()
	if st.mend != nil {
		if err := st.mend(ctx, e); err != nil {
			return err
		}
	}
	s.timeline(ctx, st, e)
	for i, w := range s.writers {
		limit := unnoticed
		if i == st.pair {
			limit = st.limit
		}
		s.judge(s.fleet.Pairs[i].Name, w.Gap(e.began, ended), limit)
	}
	took, err := s.fleet.WaitArmed(ctx, 60*time.Second)
	if err != nil {
		return err
	}
	fmt.Printf("   Every pair is armed%s.\n\n", after(took))
	return nil
}

func after(d time.Duration) string {
	if d < 500*time.Millisecond {
		return ""
	}
	return fmt.Sprintf(" again, by itself, after another %.1f s", d.Seconds())
}

func (s *show) judge(pair string, gap, limit time.Duration) {
	word := "kept"
	if gap > limit {
		word = "BROKEN"
		s.broken = append(s.broken, fmt.Errorf("writes to %s paused for %v, limit %v", pair, gap, limit))
	}
	fmt.Printf("   %-8s longest pause in writes %5d ms (limit %d ms): %s\n", pair, gap.Milliseconds(),
		limit.Milliseconds(), word)
}

// timeline prints the moments of a change of primary, from the agents' logs, the witness's history and the
// writer.
func (s *show) timeline(ctx context.Context, st step, e *episode) {
	if st.pair < 0 {
		return
	}
	moment := func(at time.Time, found bool, text string) {
		if found {
			fmt.Printf("   %6d ms  %s\n", at.Sub(e.began).Milliseconds(), text)
		}
	}
	at, ok := e.primary.LogTime(e.began, "database process ended")
	moment(at, ok, "noticed: the agent hears of the database's end from the kernel")
	at, ok = e.primary.LogTime(e.began, "released")
	moment(at, ok, "released: the old primary has given its epoch back, on disk")
	events, err := s.fleet.Events(ctx, s.fleet.Pairs[st.pair].Name, e.seen)
	if err != nil {
		s.broken = append(s.broken, fmt.Errorf("read events: %w", err))
	}
	for _, ev := range events {
		if ev.GetKind() == "PROMOTED" {
			moment(ev.GetAt().AsTime(), true, "decided: "+ev.GetCause())
			break
		}
	}
	at, ok = e.mirror.LogTime(e.began, "database operation done", "op=promote")
	moment(at, ok, "promoted: the mirror's database is primary")
	at, ok = s.writers[st.pair].FirstOn(e.mirror.Name, e.began)
	moment(at, ok, "first write acknowledged by "+e.mirror.Name)
	if !ok {
		s.broken = append(s.broken, fmt.Errorf("%s did not take over", e.mirror.Name))
	}
}

func (s *show) newest(ctx context.Context) (uint64, error) {
	newest := uint64(0)
	for _, p := range s.fleet.Pairs {
		events, err := s.fleet.Events(ctx, p.Name, 0)
		if err != nil {
			return 0, fmt.Errorf("read events: %w", err)
		}
		for _, ev := range events {
			newest = max(newest, ev.GetSequence())
		}
	}
	return newest, nil
}

// finish counts rows and gives the verdict.
func (s *show) finish(ctx context.Context) error {
	fmt.Println("== Every acknowledged write is looked up on both hosts of its pair.")
	for i, w := range s.writers {
		w.Stop()
		p := s.fleet.Pairs[i]
		if err := s.lookUp(ctx, p, w); err != nil {
			return errors.Join(err, s.logs())
		}
		if n := w.Overlap(); n > 0 {
			s.broken = append(s.broken, fmt.Errorf("both hosts of %s acknowledged writes at once, %d times", p.Name, n))
		}
	}
	fmt.Println()
	s.list(ctx)
	if len(s.broken) > 0 {
		return fmt.Errorf("promises were broken: %w", errors.Join(s.broken...))
	}
	fmt.Println("Every promise was kept.")
	return nil
}

// lookUp counts what each host of a pair lacks. A mirror that cannot be read is made primary for it.
func (s *show) lookUp(ctx context.Context, p *fleet.Pair, w *fleet.Writer) error {
	primary, mirror, err := p.Primary()
	if err != nil {
		return err
	}
	for i, h := range []*fleet.Host{primary, mirror} {
		if i > 0 && !s.fleet.MirrorsReadable() {
			if out, err := s.fleet.Ctl(ctx, "pair", "switchover", p.Name, "--reason", "to look at the mirror"); err != nil {
				return fmt.Errorf("%w: %s", err, out)
			}
		}
		lost, err := w.Lost(ctx, h)
		if err != nil {
			return err
		}
		fmt.Printf("   %-10s %6d acknowledged, %d lost\n", h.Name, len(w.Acks()), len(lost))
		if len(lost) > 0 {
			s.broken = append(s.broken, fmt.Errorf("%s lacks %d acknowledged writes", h.Name, len(lost)))
		}
	}
	return nil
}

// list shows the fleet as an operator sees it.
func (s *show) list(ctx context.Context) {
	out, err := s.fleet.Ctl(ctx, "pair", "list")
	if err != nil {
		s.broken = append(s.broken, fmt.Errorf("pair list: %w", err))
	}
	fmt.Println("$ witnessctl pair list\n" + indent(out))
}

func indent(text string) string {
	return "   " + strings.ReplaceAll(strings.TrimRight(text, "\n"), "\n", "\n   ")
}

func (s *show) logs() error {
	var b strings.Builder
	for _, n := range s.fleet.Nodes {
		fmt.Fprintf(&b, "\n--- node %s\n%s", n.ID, n.Logs(10))
	}
	for _, p := range s.fleet.Pairs {
		for _, h := range p.Hosts {
			fmt.Fprintf(&b, "\n--- host %s\n%s", h.Name, h.Logs(20))
		}
	}
	return errors.New(b.String())
}

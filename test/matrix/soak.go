package main

import (
	"context"
	"fmt"
	"runtime"
	"time"

	"github.com/witnessd/witnessd/test/fleet"
)

// soakRow is the name of the soak in the results.
const soakRow = "soak"

// jitter is a line as bad as it may be without anybody having to decide anything.
var jitter = fleet.Line{Loss: 0.002, Delay: 5 * time.Millisecond, Jitter: 5 * time.Millisecond}

// soakFor keeps every line bad and every core busy, and nothing is to happen.
func (m *matrix) soakFor(ctx context.Context, long time.Duration) error {
	if err := m.stand(ctx, lab{Lines: true}, m.options.profile); err != nil {
		return err
	}
	r, err := m.begin(ctx, 0)
	if err != nil {
		return err
	}
	m.sayf("soak: %v with %s on every cable and %d busy cores", long, lineWords(jitter), runtime.NumCPU())
	quiet := row{badLine: true, decision: nobodyMoves("nobody moves, nobody is exposed").within(long)}
	res, err := m.measureOne(ctx, r, quiet, func(ctx context.Context, r *run) error { return m.soak(ctx, r, long) })
	if err != nil {
		return err
	}
	res.Row = soakRow
	res.Notes = append(res.Notes, fmt.Sprintf("%v, %s on every cable, %d busy cores", long, lineWords(jitter),
		runtime.NumCPU()))
	return m.took(res, "soak")
}

func (m *matrix) soak(ctx context.Context, r *run, long time.Duration) error {
	set := func(l fleet.Line) error {
		for _, h := range r.pair.Hosts {
			if err := h.SetLine(l); err != nil {
				return err
			}
		}
		for _, n := range r.fleet.Nodes {
			if err := n.SetLine(l); err != nil {
				return err
			}
		}
		return nil
	}
	if err := set(jitter); err != nil {
		return err
	}
	busy, stop := context.WithCancel(ctx)
	defer stop()
	if err := r.fleet.Starve(busy, runtime.NumCPU()); err != nil {
		return err
	}
	for end := r.began.Add(long); time.Now().Before(end); {
		if err := sleep(ctx, min(time.Minute, time.Until(end))); err != nil {
			return err
		}
		p, err := r.fleet.Get(ctx, r.pair.Name)
		if err != nil {
			m.sayf("    after %v: %v", time.Since(r.began).Round(time.Second), err)
			continue
		}
		m.sayf("    after %v: epoch %d, armed %v", time.Since(r.began).Round(time.Second), p.GetEpoch(), fleet.Armed(p))
	}
	return set(fleet.Line{})
}

func lineWords(l fleet.Line) string {
	return fmt.Sprintf("%.1f %% loss and %v ± %v", l.Loss*100, l.Delay, l.Jitter)
}

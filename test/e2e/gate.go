package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/witnessd/witnessd/test/fleet"
)

// gateRows are faults under clients of the gates: they must always be at the primary.
func gateRows() []placeRow {
	return []placeRow{
		{
			name: "switchover, clients by the gates", flag: "switchover", moves: true, clients: (*fleet.Pair).Gated,
			inject: func(ctx context.Context, r *placeRun) error {
				out, err := r.fleet.Ctl(ctx, "pair", "switchover", r.pair.Name, "--reason", "measurement")
				if err != nil {
					return fmt.Errorf("switchover: %w: %s", err, out)
				}
				return nil
			},
			check: func(_ context.Context, r *placeRun) {
				atPrimary(r)
				// Whoever connects meanwhile waits, at either gate.
				connected(r, fleet.GateOf(r.primary), fleet.GateOf(r.mirror), fleet.BothGates)
			},
		},
		{
			name: "host loses its power, clients by the gates", flag: "host", moves: true, clients: (*fleet.Pair).Gated,
			inject: func(_ context.Context, r *placeRun) error {
				r.primary.Kill()
				time.Sleep(stopped / 4)
				return r.primary.Start()
			},
			check: func(_ context.Context, r *placeRun) {
				atPrimary(r)
				connected(r, fleet.GateOf(r.mirror))
			},
		},
		{
			name: "agent SIGSTOP for 40 s, clients by the gates", flag: "stop", moves: true, clients: (*fleet.Pair).Gated,
			inject: func(_ context.Context, r *placeRun) error {
				r.primary.FreezeAgent()
				time.Sleep(stopped)
				r.primary.ThawAgent()
				return nil
			},
			check: func(_ context.Context, r *placeRun) {
				atPrimary(r)
				connected(r, fleet.GateOf(r.mirror))
			},
		},
		{
			name: "agent kill -9, clients by the gates", flag: "kill", moves: true, clients: (*fleet.Pair).Gated,
			inject: killAgent,
			check: func(_ context.Context, r *placeRun) {
				atPrimary(r)
				connected(r, fleet.GateOf(r.mirror))
			},
		},
	}
}

// atPrimary: whoever comes by a gate is at the primary, whichever gate it is.
func atPrimary(r *placeRun) {
	wrong := map[string]int{}
	for _, a := range r.clients.Answers() {
		if a.Client.ByGate() && !a.Primary {
			wrong[a.Client.Name+" led to the mirror "+a.Host]++
		}
	}
	for _, c := range r.list {
		if n := r.clients.Refusals(c); c.ByGate() && n > 0 {
			wrong[c.Name+" led to a server that refused a commit"] += n
		}
	}
	for what, n := range wrong {
		r.breaks("%s, %d times", what, n)
	}
}

// cutAtOnce bounds the time between the cuts of two sessions by the same gate.
const cutAtOnce = 100 * time.Millisecond

// connected: no connection to these may have failed, but for those that were already under way to a primary when
// the gate cut all that led there. All are counted.
func connected(r *placeRun, to ...string) {
	failed, underWay, why := map[string]int{}, map[string]int{}, map[string]string{}
	for _, c := range r.list {
		failed[c.Name] += 0
	}
	losses := r.clients.Losses()
	for _, l := range losses {
		switch name := l.Client.Name; {
		case l.Answers > 0 || l.At.Before(r.began):
		case wasUnderWay(losses, l):
			underWay[name]++
		default:
			failed[name]++
			why[name] = fmt.Sprintf("last begun %v and failed %v after the fault: %s",
				l.Began.Sub(r.began).Round(time.Millisecond), l.At.Sub(r.began).Round(time.Millisecond), l.Why)
		}
	}
	var counts []string
	for name, n := range failed {
		counts = append(counts, fmt.Sprintf("%s %d (and %d under way when it cut)", name, n, underWay[name]))
		if n > 0 && slices.Contains(to, name) {
			r.breaks("%d connections to %s failed (%s)", n, name, why[name])
		}
	}
	slices.Sort(counts)
	r.note("connections that failed: %s", strings.Join(counts, ", "))
	var waits []string
	for name, gap := range r.gaps() {
		waits = append(waits, fmt.Sprintf("%s %d ms", name, gap.Milliseconds()))
	}
	slices.Sort(waits)
	r.note("longest time without a commit: %s", strings.Join(waits, ", "))
}

// wasUnderWay says whether sessions by the same way were cut when this connection failed, and it was begun before.
func wasUnderWay(losses []fleet.Loss, failed fleet.Loss) bool {
	return slices.ContainsFunc(losses, func(l fleet.Loss) bool {
		return l.Client.Name == failed.Client.Name && l.Answers > 0 && failed.Began.Before(l.At) &&
			l.At.Sub(failed.At).Abs() < cutAtOnce
	})
}

// gaps is for each thing that clients connect to the longest time without a commit through it.
func (r *placeRun) gaps() map[string]time.Duration {
	last, longest := map[string]time.Time{}, map[string]time.Duration{}
	for _, a := range r.clients.Answers() {
		name := a.Client.Name
		if a.Client.Work == fleet.Reads || name == r.primary.Name || name == r.mirror.Name {
			continue
		}
		if before, ok := last[name]; ok && a.At.After(r.began) {
			longest[name] = max(longest[name], a.At.Sub(before))
		}
		last[name] = a.At
	}
	return longest
}

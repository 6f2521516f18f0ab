package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"
)

// randomRow is the name of the random faults in the results.
const randomRow = "random"

// chosen is one fault of a random run.
type chosen struct {
	row   row
	start time.Duration // after the beginning of the run
	lasts time.Duration
}

func (c chosen) String() string {
	return fmt.Sprintf("%s (from %.1f s for %.1f s)", c.row.flag, c.start.Seconds(), c.lasts.Seconds())
}

// randomFaults befall one laboratory, one after the other, now and then up to three at once.
func (m *matrix) randomFaults(ctx context.Context) error {
	seed := m.options.seed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	// The pair is the same, whatever was measured before.
	m.close()
	list := schedule(seed, m.options.random, fitForRandom(lab{}))
	m.sayf("random faults: seed %d", seed)
	for n, faults := range list {
		m.sayf("  %3d  %s", n+1, words(faults))
	}
	for n, faults := range list {
		if err := m.randomOne(ctx, seed, n, faults); err != nil {
			return fmt.Errorf("random fault %d of seed %d (%s): %w", n+1, seed, words(faults), err)
		}
	}
	return nil
}

// fitForRandom are the rows that mend themselves, or can be mended at any time, in such a laboratory.
func fitForRandom(l lab) []row {
	return slices.DeleteFunc(table(), func(r row) bool { return r.fault == nil || r.touches == nil || r.lab != l })
}

// schedule draws the faults. The same seed gives the same list for the same table.
func schedule(seed uint64, n int, from []row) [][]chosen {
	random := rand.New(rand.NewPCG(seed, 0))
	list := make([][]chosen, n)
	for i := range list {
		list[i] = draw(random, from)
	}
	return list
}

// Of ten draws seven are of one fault.
func draw(random *rand.Rand, from []row) []chosen {
	many := 1
	switch d := random.IntN(10); {
	case d >= 9:
		many = 3
	case d >= 7:
		many = 2
	}
	var faults []chosen
	var busy []party
	for range many {
		free := slices.DeleteFunc(slices.Clone(from), func(r row) bool {
			return slices.ContainsFunc(r.touches, func(p party) bool { return slices.Contains(busy, p) })
		})
		if len(free) == 0 {
			break
		}
		c := chosen{row: free[random.IntN(len(free))]}
		busy = append(busy, c.row.touches...)
		c.lasts = time.Duration(float64(min(c.row.lasts, 15*time.Second)) * (0.1 + 0.9*random.Float64()))
		if len(faults) > 0 {
			c.start = time.Duration(random.Int64N(int64(5 * time.Second)))
		}
		faults = append(faults, c)
	}
	return faults
}

func words(faults []chosen) string {
	var parts []string
	for _, c := range faults {
		parts = append(parts, c.String())
	}
	return strings.Join(parts, " and ")
}

// randomOne is one run with one fault or several.
func (m *matrix) randomOne(ctx context.Context, seed uint64, n int, faults []chosen) error {
	if err := m.stand(ctx, lab{}, m.options.profile); err != nil {
		return err
	}
	r, err := m.begin(ctx, 0)
	if err != nil {
		return err
	}
	res, err := m.measureOne(ctx, r, row{decision: randomDecision(faults)}, atTimes(faults))
	if err != nil {
		return err
	}
	res.Row, res.Faults, res.Seed = randomRow, words(faults), seed
	if limit := recoveryLimit(faults); limit > 0 && res.Outage > limit.Milliseconds() {
		res.Broken = append(res.Broken, fmt.Sprintf("nobody could write for %d ms, longer than %v", res.Outage, limit))
	}
	return m.took(res, fmt.Sprintf("random %3d/%d", n+1, m.options.random))
}

// randomDecision: after a single fault that concerns nobody, nobody moves. Others may be over before anybody decides,
// and what meets something else has no row.
func randomDecision(faults []chosen) decision {
	d := decision{epoch: either, right: anyRight, service: anyService}
	if len(faults) == 1 && faults[0].row.decision.epoch == stays {
		d.epoch = stays
	}
	return d
}

// recoveryLimit is a single fault's: one run is no median, and a fault that ends just before it is decided on costs its
// own length first.
func recoveryLimit(faults []chosen) time.Duration {
	if len(faults) != 1 || faults[0].row.limit == 0 {
		return 0
	}
	return 2*faults[0].row.limit + 2*time.Second
}

// atTimes does each fault at its time and mends it after its own.
func atTimes(faults []chosen) func(context.Context, *run) error {
	return func(ctx context.Context, r *run) error {
		var all sync.WaitGroup
		errs := make([]error, len(faults))
		for i, c := range faults {
			all.Go(func() {
				if errs[i] = sleep(ctx, c.start); errs[i] == nil {
					errs[i] = lasting(c.row.fault, c.lasts)(ctx, r)
				}
			})
		}
		all.Wait()
		return errors.Join(errs...)
	}
}

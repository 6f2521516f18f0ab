package protocol

import "testing"

// TestSimulationCanFail: with clocks beyond the 1 % that the promises ask for, a right must be found that outlives its
// lease, and the schedule that shows it must become shorter.
func TestSimulationCanFail(t *testing.T) {
	for seed := uint64(1); seed <= 100; seed++ {
		apart := func() *schedule {
			s := newSchedule(seed, false)
			for i, a := range s.agents {
				a.rate = 0.8 + 0.4*float64(i%2)
			}
			return s
		}
		o := apart().outcome(seed, nil)
		if len(o.Violations) == 0 {
			continue
		}
		want := sortOf(o.Violations[0])
		faults, reduced := reduce(seed, apart)
		if len(faults) >= o.Faults || len(reduced.Violations) == 0 || sortOf(reduced.Violations[0]) != want {
			t.Errorf("seed %d: %v with %d faults, reduced to %d with %v", seed, o.Violations, o.Faults, len(faults),
				reduced.Violations)
		}
		return
	}
	t.Error("clocks that are far apart break nothing")
}

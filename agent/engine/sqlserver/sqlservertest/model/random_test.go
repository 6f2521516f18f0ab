package model

import (
	"math/rand/v2"
	"testing"
	"time"
)

// TestRandomFailures breaks and mends parts of a session with witness at random, under load, and in the end mends
// everything. Nobody forces service, so: no acknowledged row may be missing, and exactly one partner serves.
func TestRandomFailures(t *testing.T) {
	for range 6 {
		seed := rand.Uint64()
		t.Run("", func(t *testing.T) {
			t.Parallel()
			t.Logf("seed %d", seed)
			randomFailures(mirrored(t, true), rand.New(rand.NewPCG(seed, 0)))
		})
	}
}

func randomFailures(w *world, random *rand.Rand) {
	for range 8 {
		stop := w.load(w.p, w.m)
		all := []*Instance{w.p, w.m, w.w}
		one := random.IntN(3)
		a, b := all[one], all[(one+1)%3]
		crashed := false
		switch random.IntN(7) {
		case 0, 1:
			a.Crash()
			crashed = true
		case 2:
			cut(a, b, true)
		case 3:
			cut(a, b, true)
			cut(a, all[(one+2)%3], true)
		case 4:
			a.Knobs().Hang(true)
		case 5:
			a.Knobs().Reset(b.EndpointAddress())
		case 6:
			for _, i := range []*Instance{w.p, w.m} {
				go func() { _ = i.AlterMirroring(w.t.Context(), testDB, Failover, "") }()
			}
		}
		time.Sleep(time.Duration(random.Int64N(int64(2 * testSilence))))
		if random.IntN(3) > 0 { // else the next failure comes on top
			for _, i := range all {
				i.Knobs().Hang(false)
				for _, other := range all {
					i.Knobs().Cut(other.EndpointAddress(), false, false)
				}
			}
		}
		stop()
		if crashed {
			all[one] = restart(w.t, a)
			w.p, w.m, w.w = all[0], all[1], all[2]
		}
	}
	w.mend()
}

// mend repairs everything and checks the outcome.
func (w *world) mend() {
	all := []*Instance{w.p, w.m, w.w}
	for _, i := range all {
		i.Knobs().Hang(false)
		for _, other := range all {
			i.Knobs().Cut(other.EndpointAddress(), false, false)
		}
	}
	w.until("synchronized again", func() bool {
		return is(w.p) == "principal SYNCHRONIZED" && is(w.m) == "mirror SYNCHRONIZED" ||
			is(w.m) == "principal SYNCHRONIZED" && is(w.p) == "mirror SYNCHRONIZED"
	})
	serving, other := w.p, w.m
	if serves(w.m) {
		serving, other = w.m, w.p
	}
	if !serves(serving) || serves(other) {
		w.t.Fatalf("not exactly one serves: %v %v", w.p.Access(testDB, true), w.m.Access(testDB, true))
	}
	w.nothingLost(serving)
	w.until("failed over", func() bool {
		_ = serving.AlterMirroring(w.t.Context(), testDB, Failover, "")
		return serves(other)
	})
	w.nothingLost(other)
}

package protocol

import (
	"flag"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/witnessd/witnessd/witnessd/pair"
)

var (
	seeds = flag.Int("seeds", 100, "number of random schedules")
	seed  = flag.Uint64("seed", 0, "run only this schedule and print its trace")
)

// TestRandomFaults lets faults of every kind come at random, many at once, with late and doubled messages and
// clocks of different rates, and looks for two primaries, lost commits and pairs that do not come back.
// go test ./test/protocol -run RandomFaults -seed N replays a schedule.
func TestRandomFaults(t *testing.T) {
	first, last := uint64(1), uint64(*seeds)
	if *seed != 0 {
		first, last = *seed, *seed
	}
	for n := first; n <= last; n++ {
		w := schedule(n)
		if len(w.faults) > 0 {
			if *seed != 0 {
				t.Logf("trace:\n%s", w)
			}
			t.Fatalf("seed %d: %v (replay: go test ./test/protocol -run RandomFaults -seed %d)", n, w.faults, n)
		}
		if *seed != 0 && testing.Verbose() {
			t.Logf("trace:\n%s", w)
		}
	}
}

// schedule runs one random schedule, then ends all faults and waits for the pair to be armed.
func schedule(n uint64) *world {
	r := rand.New(rand.NewPCG(n, 1))
	w := newWorld()
	for _, h := range w.hosts {
		h.kernel = true
		h.rate = 0.995 + r.Float64()/100
	}
	w.until(20*time.Second, w.record.Armed)
	w.delay = func() time.Duration {
		switch r.IntN(50) {
		case 0:
			return time.Duration(r.IntN(4000)) * time.Millisecond
		case 1, 2, 3:
			return time.Duration(r.IntN(300)) * time.Millisecond
		default:
			return time.Duration(1+r.IntN(5)) * time.Millisecond
		}
	}
	w.double = func() bool { return r.IntN(20) == 0 }
	for range 10 + r.IntN(30) {
		w.fault(r)
		w.run(time.Duration(r.IntN(3000)) * time.Millisecond)
		if len(w.faults) > 0 {
			return w
		}
	}
	w.mend()
	if !w.until(120*time.Second, func() bool { return w.record.Armed() && w.record.Procedure == nil }) {
		w.violate("dead end: not armed 2 minutes after the last fault")
	}
	w.run(3 * time.Second)
	return w
}

func (w *world) fault(r *rand.Rand) {
	name := []string{"a", "b"}[r.IntN(2)]
	h := w.hosts[name]
	links := []string{"a>b", "b>a", "a>w", "w>a", "b>w", "w>b"}
	link := links[r.IntN(len(links))]
	switch r.IntN(18) {
	case 0:
		h.crash()
	case 1:
		h.lose()
	case 2, 3, 4:
		if !h.alive {
			h.boot()
		} else {
			h.frozen = false
		}
	case 5, 6:
		w.cuts[link] = true
		w.logf("cut %s", link)
	case 7, 8, 9:
		delete(w.cuts, link)
		w.logf("heal %s", link)
	case 10:
		w.loseWitness()
	case 11, 12:
		w.elect(time.Duration(r.IntN(1000)) * time.Millisecond)
	case 13:
		h.killAgent()
	case 14:
		h.frozen = true
		w.logf("agent of %s frozen", name)
	case 15:
		if w.leader != nil {
			w.ask(pair.WishSwitchover{By: "random"})
		}
	case 16:
		if w.leader != nil {
			w.ask(pair.WishCommand{Body: pair.SetMode{Mode: pair.Mode(1 + r.IntN(2))}})
		}
	case 17:
		if w.leader != nil {
			w.ask(pair.WishForce{By: "random"})
		}
	}
}

func (w *world) mend() {
	w.logf("all faults end")
	w.cuts = map[string]bool{}
	for _, name := range []string{"a", "b"} {
		h := w.hosts[name]
		h.frozen = false
		if !h.alive {
			h.boot()
		}
	}
	if w.leader == nil {
		w.elect(time.Second)
	}
	w.run(10 * time.Second)
	for range 10 {
		if w.record.Mode == pair.ModeAutomatic {
			return
		}
		if w.leader != nil {
			w.ask(pair.WishCommand{Body: pair.SetMode{Mode: pair.ModeAutomatic}})
		}
		w.run(10 * time.Second)
	}
}

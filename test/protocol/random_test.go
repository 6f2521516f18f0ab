package protocol

import (
	"flag"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/witnessd/witnessd/agent/hold"
	"github.com/witnessd/witnessd/witnessd/pair"
)

var (
	seeds = flag.Int("seeds", 200, "number of random schedules")
	first = flag.Uint64("first", 1, "the first of them")
	seed  = flag.Uint64("seed", 0, "run only this schedule and print its trace")
)

// TestRandomFaults lets faults of every kind come at random, many at once, with late and doubled messages and
// clocks of different rates, and looks for two primaries, lost commits, decisions that contradict themselves, and
// pairs that do not come back.
// go test ./test/protocol -run RandomFaults -seed N replays a schedule.
func TestRandomFaults(t *testing.T) {
	from, to := *first, *first+uint64(*seeds)-1
	if *seed != 0 {
		from, to = *seed, *seed
	}
	for n := from; n <= to; n++ {
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

// theme is what a schedule has beside lost hosts, agents, leaders and messages.
type theme int

const (
	plain    theme = iota
	engines        // databases hang, fail, lag, and lose a mirror's data
	changes        // files are lost, mirrors replaced, policies changed, and operators force failovers
	restores       // the witness is restored from a backup
	themes
)

// schedule runs one random schedule, then ends all faults and waits for the pair to be armed.
func schedule(n uint64) *world {
	r := rand.New(rand.NewPCG(n, 1))
	w := newWorld()
	about := theme(n % uint64(themes))
	if about == changes {
		newHost(w, "c").boot()
	}
	w.rate = 0.99 + r.Float64()/50
	for _, name := range w.hostNames() {
		h := w.hosts[name]
		h.kernel = true
		h.rate = 0.99 + r.Float64()/50
		if about == engines {
			h.late = func() bool { return r.IntN(3) == 0 }
		}
	}
	w.until(20*time.Second, func() bool { return w.record.Armed() })
	nasty := []int{50, 50, 20, 8}[r.IntN(4)]
	w.delay = func() time.Duration {
		switch r.IntN(nasty) {
		case 0:
			return time.Duration(r.IntN(4000)) * time.Millisecond
		case 1, 2, 3:
			return time.Duration(r.IntN(300)) * time.Millisecond
		default:
			return time.Duration(1+r.IntN(5)) * time.Millisecond
		}
	}
	w.double = func() bool { return r.IntN(20) == 0 }
	w.outlive = func() bool { return r.IntN(2) == 0 }
	backup := w.record
	for range 10 + r.IntN(30) {
		if about != plain && r.IntN(3) == 0 {
			switch about {
			case plain, themes:
			case engines:
				w.engineFault(r)
			case changes:
				w.change(r)
			case restores:
				backup = w.backupOrRestore(r, backup)
			}
		} else {
			w.fault(r)
		}
		w.run(time.Duration(r.IntN(3000)) * time.Millisecond)
		if len(w.faults) > 0 {
			return w
		}
	}
	w.mend()
	if !w.until(150*time.Second, func() bool { return w.record.Armed() && w.record.Procedure == nil }) {
		w.violate("dead end: not armed long after the last fault")
		return w
	}
	w.run(3 * time.Second)
	if lost := w.lacking(w.primary().db); len(lost) > 0 {
		w.violate("G2: %d acknowledged writes are lost, the first by %s at %v", len(lost), w.at[lost[0]].host, w.at[lost[0]].at)
	}
	return w
}

func (w *world) anyHost(r *rand.Rand) *host {
	names := w.hostNames()
	return w.hosts[names[r.IntN(len(names))]]
}

func (w *world) anyLink(r *rand.Rand) string {
	parties := append(w.hostNames(), "w")
	x := r.IntN(len(parties))
	y := (x + 1 + r.IntN(len(parties)-1)) % len(parties)
	return parties[x] + ">" + parties[y]
}

func (w *world) fault(r *rand.Rand) {
	h, link := w.anyHost(r), w.anyLink(r)
	switch r.IntN(20) {
	case 18, 19:
		if h.alive {
			h.killAgent()
			h.boot()
		}
	case 0:
		h.crash()
	case 1:
		h.lose()
	case 2, 3, 4:
		if !h.alive {
			h.boot()
		} else {
			h.thaw()
		}
	case 5, 6:
		w.oneWay(link[:1], link[2:])
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
		h.freeze()
	case 15:
		w.wish(pair.WishSwitchover{By: "random"})
	case 16:
		w.wish(pair.WishCommand{Body: pair.SetMode{Mode: pair.Mode(1 + r.IntN(3))}})
	case 17:
		w.wish(pair.WishForce{By: "random", AcceptLoss: r.IntN(3) == 0})
	}
}

// wish asks if there is anybody to ask.
func (w *world) wish(wish pair.Wish) {
	if w.leader != nil {
		w.logf("operator asks: %T%+v", wish, wish)
		w.ask(wish)
	}
}

func (w *world) engineFault(r *rand.Rand) {
	h := w.anyHost(r)
	op := hold.Op(1 + r.IntN(int(hold.OpStop)))
	switch r.IntN(9) {
	case 0:
		h.db.hung = h.db.running
		w.logf("database of %s hangs", h.name)
	case 1, 2:
		h.db.hung = false
		h.hang = map[hold.Op]bool{}
		h.slow = 1
	case 3:
		h.db.stalled = w.now + time.Duration(r.IntN(5000))*time.Millisecond
	case 4, 5:
		h.fail[op] = 1 + r.IntN(3)
		w.logf("%s: %v will fail", h.name, op)
	case 6:
		h.hang[op] = true
		w.logf("%s: %v will hang", h.name, op)
	case 7:
		h.slow = 1 + 20*r.Float64()
	case 8:
		if w.record.Primary != pair.HostID(h.name) && w.record.Stage == pair.StageReady {
			h.db.wipe()
			w.after(time.Millisecond, func() { h.receive(func() { h.step(hold.EngineExited{Reason: "wiped"}) }) })
		}
	}
}

func (w *world) change(r *rand.Rand) {
	h := w.anyHost(r)
	switch r.IntN(8) {
	case 0:
		h.loseFile()
		if h.alive {
			h.killAgent()
			h.boot()
		}
	case 1:
		h.mark = hold.Mark{}
	case 2, 3:
		w.wish(pair.WishCommand{Body: pair.SetPolicy{Policy: w.profile([]string{"fast", "default", "patient"}[r.IntN(3)])}})
	case 4, 5:
		for _, name := range w.hostNames() {
			if _, member := w.record.Member(pair.HostID(name)); !member {
				w.wish(pair.WishCommand{Body: pair.ReplaceMirror{Member: pair.Member{Host: pair.HostID(name), Instance: "db"}}})
				break
			}
		}
	case 6:
		// An operator who makes sure that the primary is off, says so, and keeps it off until it is over.
		p := w.primary()
		if p.alive {
			p.killAgent()
		}
		p.db.kill()
		w.wish(pair.WishForce{By: "random", AcceptLoss: true, HostOff: w.record.Primary})
		w.until(40*time.Second, func() bool { return w.leader == nil || w.record.Procedure == nil })
	case 7:
		w.fences = func(h *host) bool {
			if r.IntN(2) == 0 {
				return false
			}
			h.lose()
			return true
		}
		w.wish(pair.WishForce{By: "random", AcceptLoss: true, CanFence: true})
	}
}

// backupOrRestore takes a backup of the record or goes back to the last one, with a leader whose term may be one
// that was heard before.
func (w *world) backupOrRestore(r *rand.Rand, backup pair.Record) pair.Record {
	if r.IntN(3) > 0 {
		return w.record
	}
	if backup.Revision.Generation() < w.record.Revision.Generation() {
		return backup // the restore command opens a generation that follows the present one
	}
	w.restore(backup, pair.Term(r.IntN(int(w.term)+1)))
	return w.record
}

func (w *world) mend() {
	w.logf("all faults end")
	w.cuts = map[string]bool{}
	w.fences = nil
	for _, name := range w.hostNames() {
		h := w.hosts[name]
		h.thaw()
		h.fail, h.hang, h.slow, h.late = map[hold.Op]int{}, map[hold.Op]bool{}, 1, nil
		h.db.hung, h.db.stalled = false, 0
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
		if w.record.Right == pair.RightSole && !w.primary().db.data && w.record.Procedure == nil {
			// Paused when the new primary had just lost its data; an operator sees that, and that nothing is lost.
			w.wish(pair.WishForce{By: "random", AcceptLoss: true})
			w.run(10 * time.Second)
		}
		w.wish(pair.WishCommand{Body: pair.SetMode{Mode: pair.ModeAutomatic}})
		w.run(10 * time.Second)
	}
}

package protocol

import (
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"strings"
	"time"

	"github.com/witnessd/witnessd/agent/hold"
	"github.com/witnessd/witnessd/witnessd/pair"
)

// Outcome is what a random schedule came to.
type Outcome struct {
	Seed       uint64
	Violations []string
	Trace      string        // only if it was asked for
	Virtual    time.Duration // how long the world lived
	Pairs      int
	Faults     int // that were injected
	Commits    int // that were acknowledged
}

// theme is what a schedule has beside lost hosts, agents, leaders and messages.
type theme int

const (
	plain          theme = iota
	engines              // databases hang, fail, lag, and lose a mirror's data
	changes              // files are lost, mirrors replaced, policies changed, and operators force failovers
	restores             // the witness is restored from a backup
	enginesChanges       // both
	enginesRestores
	themes
)

// fault is one thing that goes wrong, or right again, and the time until the next.
type fault struct {
	what string
	do   func(*schedule)
	wait time.Duration
}

// schedule is a world with several pairs on a few hosts, and what happens to it, all of it drawn from a seed.
type schedule struct {
	*env
	r      *rand.Rand // for what is decided as it goes; the plan was drawn before
	about  theme
	plan   []fault
	bursts []burst
	backup []pair.Record
	off    map[string]*world // hosts that an operator keeps off, until this pair's procedure is over
	done   int               // faults that were injected
}

// Run plays the schedule of a seed. Faults come at random, many at once, with late and doubled messages and clocks
// of different rates; then all of them end, and every pair must come back with everything.
func Run(seed uint64, told bool) Outcome { return newSchedule(seed, told).outcome(seed, nil) }

// outcome plays the plan but for what is left out.
func (s *schedule) outcome(seed uint64, without []bool) (o Outcome) {
	defer func() {
		if p := recover(); p != nil {
			s.faults = append(s.faults, fmt.Sprintf("panic: %v", p))
			s.logf("VIOLATION panic: %v\n%s", p, debug.Stack())
		}
		o = Outcome{Seed: seed, Violations: s.faults, Virtual: s.now, Pairs: len(s.pairs), Faults: s.done}
		if s.told {
			o.Trace = s.String()
		}
		for _, w := range s.pairs {
			o.Commits += len(w.acked)
		}
	}()
	s.play(without)
	return o
}

func newSchedule(seed uint64, told bool) *schedule {
	r := rand.New(rand.NewPCG(seed, 1))
	e := newEnv()
	e.told = told
	s := &schedule{
		env: e, r: rand.New(rand.NewPCG(seed, 2)), about: theme(seed % uint64(themes)), off: map[string]*world{},
	}
	s.layOut(r)
	s.leaveToChance(r)
	s.draw(r)
	return s
}

// draw plans faults for about a minute, some of them at nearly the same moment.
func (s *schedule) draw(r *rand.Rand) {
	pace := []int{5000, 4000, 3000, 2000}[r.IntN(4)]
	for length := time.Duration(0); length < 45*time.Second; {
		f := s.fault(r)
		f.wait = millis(r, 0, pace)
		if r.IntN(3) == 0 {
			f.wait = millis(r, 0, 60)
		}
		length += f.wait
		s.plan = append(s.plan, f)
	}
}

// layOut spreads two to four pairs over two to four hosts.
func (s *schedule) layOut(r *rand.Rand) {
	names := []string{"a", "b", "c", "d"}[:2+r.IntN(3)]
	if s.about == changes || s.about == enginesChanges {
		names = []string{"a", "b", "c", "d"}[:3+r.IntN(2)]
	}
	for _, name := range names {
		a := s.agentOf(name)
		a.kernel = r.IntN(4) > 0
		a.rate = 0.99 + r.Float64()/50
	}
	for range 2 + r.IntN(3) {
		profile, _ := pair.ProfilePolicy([]string{"default", "default", "default", "fast", "fast", "patient"}[r.IntN(6)])
		on := r.Perm(len(names))
		w := newPair(s.env, names[on[0]], names[on[1]], profile)
		if s.engineFaults() {
			for _, h := range w.parts {
				h.late = s.oneIn(3)
			}
		}
	}
}

func (s *schedule) engineFaults() bool {
	return s.about == engines || s.about == enginesChanges || s.about == enginesRestores
}

func (s *schedule) oneIn(n int) func() bool { return func() bool { return s.r.IntN(n) == 0 } }

func (s *schedule) upTo(limit time.Duration) time.Duration {
	return time.Duration(s.r.Int64N(int64(limit)/1e6)) * time.Millisecond
}

// leaveToChance makes the network, the log and the processes irregular.
func (s *schedule) leaveToChance(r *rand.Rand) {
	nasty := []int{50, 50, 20, 8}[r.IntN(4)]
	slowLog := r.IntN(3) == 0
	s.chance = chance{
		delay: func() time.Duration {
			switch s.r.IntN(nasty) {
			case 0:
				return s.upTo(4 * time.Second)
			case 1, 2, 3:
				return s.upTo(300 * time.Millisecond)
			default:
				return time.Duration(1+s.r.IntN(5)) * time.Millisecond
			}
		},
		double: s.oneIn(20), drop: s.lost, outlive: s.oneIn(2), stray: s.oneIn(3),
		linger: func() time.Duration { return max(0, s.upTo(3*time.Second)-time.Second) },
		clock: func() (float64, pair.Instant) {
			return 0.99 + s.r.Float64()/50, pair.Instant(s.r.Int64N(1e15))
		},
		commits: func() time.Duration {
			switch n := s.r.IntN(20); {
			case n == 0 || slowLog && n < 15:
				return s.upTo(time.Second)
			case n < 5:
				return s.upTo(100 * time.Millisecond)
			default:
				return commit
			}
		},
		ticks:  func() time.Duration { return millis(s.r, 20, 200) },
		turns:  func() time.Duration { return millis(s.r, 20, 400) },
		lag:    func() time.Duration { return s.upTo(180 * time.Millisecond) },
		quorum: func() time.Duration { return millis(s.r, 2, 60) },
		rhythm: 40 * time.Millisecond, pace: 0.05 + r.Float64(),
	}
}

// play runs the plan, then ends all faults and waits for the pairs.
func (s *schedule) play(without []bool) {
	calm := s.chance
	s.delay, s.double, s.drop, s.stray = nil, nil, nil, nil
	s.begin()
	s.until(20*time.Second, s.settled)
	s.chance = calm
	s.backUp()
	for i, f := range s.plan {
		if without == nil || !without[i] {
			s.logf("*** %s", f.what)
			f.do(s)
			s.done++
		}
		s.run(f.wait)
		if len(s.faults) > 0 {
			return
		}
	}
	s.mend()
	if len(s.faults) > 0 {
		return
	}
	s.run(3 * time.Second)
	for _, w := range s.pairs {
		if lost := w.lacking(w.primary().db); len(lost) > 0 {
			a := w.firstLost(lost)
			w.violate("G2: %d acknowledged writes are lost, the first by %s at %v", len(lost), a.host, a.at)
		}
	}
}

func (s *schedule) settled() bool {
	for _, w := range s.pairs {
		if !w.settled() {
			return false
		}
	}
	return true
}

// settled says whether the pair serves and is armed, with nothing under way.
func (w *world) settled() bool {
	return w.record.Armed() && w.record.Procedure == nil && w.primary().db.open()
}

// mend ends all faults; then every pair must arm, with no more than what any operator would do.
func (s *schedule) mend() {
	s.logf("*** all faults end")
	s.cuts, s.bursts = map[string]bool{}, nil
	s.delay, s.double, s.drop, s.stray = nil, nil, nil, nil
	if s.reign != nil && s.reign.frozen {
		s.reign.resume()
	}
	if s.reign == nil {
		s.elect(time.Second)
	}
	for _, w := range s.pairs {
		w.fences = nil
		for _, h := range w.parts {
			h.fail, h.hang, h.slow, h.late = map[hold.Op]int{}, map[hold.Op]bool{}, 1, nil
			h.db.hung, h.db.stalled = false, 0
		}
	}
	for _, a := range s.agents {
		a.thaw()
		if !a.alive && s.keepOff(a) {
			if !s.until(4*time.Minute, func() bool { return !s.keepOff(a) }) {
				s.pairs[0].violate("dead end: what an operator keeps %s off for does not end", a.name)
				return
			}
		}
		if !a.alive {
			a.boot()
		}
	}
	s.run(4 * time.Second)
	for range 75 {
		if s.settled() || len(s.faults) > 0 {
			return
		}
		for _, w := range s.pairs {
			s.tend(w)
		}
		s.run(2 * time.Second)
	}
	for _, w := range s.pairs {
		if !w.settled() {
			w.violate("dead end: long after the last fault it does not serve, armed: %s", w.summary())
		}
	}
}

// tend is what an operator does for a pair that somebody has paused, or whose primary has lost its data: with a sole
// right, nobody else may decide about that.
func (s *schedule) tend(w *world) {
	switch {
	case w.record.Procedure != nil || w.record.Stage != pair.StageReady:
	case w.record.Right == pair.RightSole && !w.primary().db.data:
		s.wish(w, pair.WishForce{By: "operator", AcceptLoss: true})
	case w.record.Mode != pair.ModeAutomatic:
		s.wish(w, pair.WishCommand{Body: pair.SetMode{Mode: pair.ModeAutomatic}})
	}
}

// wish asks if there is anybody to ask.
func (s *schedule) wish(w *world, wish pair.Wish) {
	if w.leader == nil || w.leader.frozen {
		return
	}
	if s.told {
		w.logf("operator asks: %s", strings.TrimPrefix(fmt.Sprintf("%T%+v", wish, wish), "pair."))
	}
	_ = w.ask(wish) // a refusal is as good an answer as any; the trace has it
}

func (w *world) summary() string {
	r := w.record
	return fmt.Sprintf("epoch %d of %s, mirror %s, %v, %v, %v", r.Epoch, r.Primary, r.Mirror, r.Stage, r.Right, r.Mode)
}

package protocol

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/witnessd/witnessd/witnessd/pair"
)

// kind is a way to draw a fault, and how often it is drawn beside the others of its table.
type kind struct {
	weight int
	draw   func(s *schedule, r *rand.Rand) fault
}

// burst is a time in which a direction of a link loses most messages.
type burst struct {
	from, to string // empty: whatever
	percent  int
	until    time.Duration
}

// fault draws one of the theme, or one of those that every schedule has.
func (s *schedule) fault(r *rand.Rand) fault {
	tables := map[theme][][]kind{
		plain: nil, engines: {ofEngines()}, changes: {ofChanges()}, restores: {ofRestores()},
		enginesChanges: {ofEngines(), ofChanges()}, enginesRestores: {ofEngines(), ofRestores()},
	}[s.about]
	if len(tables) > 0 && r.IntN(5) < 1+len(tables) {
		return one(s, tables[r.IntN(len(tables))], r)
	}
	return one(s, ofAll(), r)
}

func one(s *schedule, kinds []kind, r *rand.Rand) fault {
	sum := 0
	for _, k := range kinds {
		sum += k.weight
	}
	n := r.IntN(sum)
	for _, k := range kinds {
		if n -= k.weight; n < 0 {
			return k.draw(s, r)
		}
	}
	panic("unreachable")
}

func (s *schedule) anyAgent(r *rand.Rand) *agent { return s.agents[r.IntN(len(s.agents))] }

func (s *schedule) anyPair(r *rand.Rand) *world { return s.pairs[r.IntN(len(s.pairs))] }

func (s *schedule) anyLink(r *rand.Rand) (from, to string) {
	parties := append(s.hostNames(), "w")
	x := r.IntN(len(parties))
	y := (x + 1 + r.IntN(len(parties)-1)) % len(parties)
	return parties[x], parties[y]
}

// anyPart is a pair's part of one of its hosts.
func (s *schedule) anyPart(r *rand.Rand) *host {
	w := s.anyPair(r)
	return w.parts[r.IntN(len(w.parts))]
}

func millis(r *rand.Rand, from, to int) time.Duration {
	return time.Duration(from+r.IntN(to-from)) * time.Millisecond
}

// ofAll are the faults of every schedule.
func ofAll() []kind {
	return []kind{
		{8, cutLink}, {9, healLink}, {4, burstOnLink}, {2, isolate}, {5, isolatePrimary},
		{3, loseHost}, {9, revive}, {3, killAgent}, {4, freezeAgent}, {7, restartAgent}, {2, standStill}, {2, restartHost},
		{3, crashDatabase}, {2, restartDatabase},
		{2, loseWitness}, {6, electAnother}, {5, pauseLeader},
		{3, askSwitchover}, {4, askMode}, {3, askForced},
	}
}

func cutLink(s *schedule, r *rand.Rand) fault {
	from, to := s.anyLink(r)
	return fault{what: "cut " + from + ">" + to, do: func(s *schedule) { s.cuts[from+">"+to] = true }}
}

func healLink(s *schedule, r *rand.Rand) fault {
	from, to := s.anyLink(r)
	if r.IntN(4) == 0 {
		return fault{what: "heal all links", do: func(s *schedule) { clear(s.cuts) }}
	}
	return fault{what: "heal " + from + "-" + to, do: func(s *schedule) { s.heal(from, to) }}
}

func burstOnLink(s *schedule, r *rand.Rand) fault {
	b := burst{percent: 30 + r.IntN(60)}
	b.from, b.to = s.anyLink(r)
	length := millis(r, 500, 6000)
	switch r.IntN(6) {
	case 0:
		b.from = ""
	case 1:
		b.to = ""
	}
	what := fmt.Sprintf("lose %d %% from %q to %q for %v", b.percent, b.from, b.to, length)
	return fault{what: what, do: func(s *schedule) {
		b.until = s.now + length
		s.bursts = append(s.bursts, b)
	}}
}

// lost says whether a message is lost in a burst.
func (s *schedule) lost(from, to string) bool {
	for _, b := range s.bursts {
		hit := (b.from == "" || b.from == from) && (b.to == "" || b.to == to)
		if hit && s.now < b.until && s.r.IntN(100) < b.percent {
			return true
		}
	}
	return false
}

// isolate cuts a host from all others, for a while.
func isolate(s *schedule, r *rand.Rand) fault {
	a, length := s.anyAgent(r), millis(r, 500, 10_000)
	return fault{what: fmt.Sprintf("isolate %s for %v", a.name, length), do: func(s *schedule) {
		s.isolate(a.name, "", length)
	}}
}

// isolatePrimary cuts the primary of a pair off for about one lease: it comes back when others decide. Sometimes
// it still reaches the mirror, or the witness.
func isolatePrimary(s *schedule, r *rand.Rand) fault {
	w, but := s.anyPair(r), r.IntN(4)
	late := millis(r, 0, 2000) - 700*time.Millisecond
	what := fmt.Sprintf("isolate primary of %s for one lease and %v", w.record.Name, late)
	return fault{what: what, do: func(s *schedule) {
		friend := ""
		switch but {
		case 0:
			friend = "w"
		case 1:
			friend = string(w.record.Mirror)
		}
		s.isolate(string(w.record.Primary), friend, w.record.Policy.Lease+late)
	}}
}

// isolate cuts a host from all but its friend.
func (s *schedule) isolate(host, friend string, length time.Duration) {
	each := func(do func(x, y string)) {
		for _, other := range append(s.hostNames(), "w") {
			if other != host && other != friend {
				do(host, other)
			}
		}
	}
	each(s.cut)
	s.after(length, func() { each(s.heal) })
}

func loseHost(s *schedule, r *rand.Rand) fault {
	a := s.anyAgent(r)
	return fault{what: "lose host " + a.name, do: func(*schedule) { a.lose() }}
}

// revive starts an agent that is down and lets one that is frozen go on.
func revive(s *schedule, r *rand.Rand) fault {
	a := s.anyAgent(r)
	return fault{what: "revive " + a.name, do: func(s *schedule) {
		switch {
		case a.alive:
			a.thaw()
		case !s.keepOff(a):
			a.boot()
		}
	}}
}

// keepOff says whether an operator has said that the host is off, and still keeps it so.
func (s *schedule) keepOff(a *agent) bool {
	w := s.off[a.name]
	return w != nil && w.record.Procedure != nil && w.record.Procedure.HostOff == pair.HostID(a.name)
}

// killAgent leaves the databases to the fence, and so is a fault only where the fence does not need the agent.
func killAgent(s *schedule, r *rand.Rand) fault {
	a := s.anyAgent(r)
	return fault{what: "kill agent of " + a.name, do: func(*schedule) {
		if a.kernel {
			a.killAgent()
		}
	}}
}

func freezeAgent(s *schedule, r *rand.Rand) fault {
	a := s.anyAgent(r)
	return fault{what: "freeze agent of " + a.name, do: func(*schedule) {
		if a.kernel {
			a.freeze()
		}
	}}
}

func restartAgent(s *schedule, r *rand.Rand) fault {
	a := s.anyAgent(r)
	return fault{what: "restart agent of " + a.name, do: func(*schedule) { a.restart() }}
}

// restart is a new start of an agent that runs. Where the fence needs the agent, the databases go with it.
func (a *agent) restart() {
	switch {
	case !a.alive:
		return
	case a.kernel:
		a.killAgent()
	default:
		a.lose()
	}
	a.boot()
}

// standStill stops a whole host for a while, as a hypervisor does; its clock goes on.
func standStill(s *schedule, r *rand.Rand) fault {
	a, length := s.anyAgent(r), millis(r, 200, 8000)
	hang := func(yes bool) {
		for _, h := range a.parts {
			h.db.hung = yes && h.db.running
		}
	}
	return fault{what: fmt.Sprintf("host %s stands still for %v", a.name, length), do: func(s *schedule) {
		if a.kernel && a.alive {
			a.freeze()
			hang(true)
			s.after(length, func() { hang(false); a.thaw() })
		}
	}}
}

func restartHost(s *schedule, r *rand.Rand) fault {
	a, length := s.anyAgent(r), millis(r, 100, 5000)
	return fault{what: fmt.Sprintf("host %s restarts in %v", a.name, length), do: func(s *schedule) {
		a.lose()
		start := a.start
		s.after(length, func() {
			if a.start == start && !s.keepOff(a) {
				a.boot()
			}
		})
	}}
}

func crashDatabase(s *schedule, r *rand.Rand) fault {
	h := s.anyPart(r)
	return fault{what: "kill database of " + of(h), do: func(*schedule) { h.crash() }}
}

// restartDatabase is a restart by the operating system or a person: it comes up as a copy that lets nobody write.
func restartDatabase(s *schedule, r *rand.Rand) fault {
	h, length, quiet := s.anyPart(r), millis(r, 5, 3000), r.IntN(2) == 0
	what := fmt.Sprintf("database of %s restarts in %v", of(h), length)
	return fault{what: what, do: func(s *schedule) {
		if !h.db.running {
			return
		}
		if quiet {
			h.db.kill()
		} else {
			h.crash()
		}
		run := h.db.run
		s.after(length, func() {
			if h.db.run == run && !h.db.running && h.db.data {
				h.db.run++
				h.db.running = true
			}
		})
	}}
}

func loseWitness(*schedule, *rand.Rand) fault {
	return fault{what: "lose witness", do: func(s *schedule) { s.loseWitness() }}
}

func electAnother(_ *schedule, r *rand.Rand) fault {
	d := millis(r, 0, 1000)
	return fault{what: fmt.Sprintf("new leader in %v", d), do: func(s *schedule) { s.elect(d) }}
}

// pauseLeader freezes the leader's node; often another one is elected meanwhile, which it learns late.
func pauseLeader(_ *schedule, r *rand.Rand) fault {
	length, other, within := millis(r, 50, 5000), r.IntN(3) > 0, millis(r, 250, 1000)
	return fault{what: fmt.Sprintf("leader stands still for %v, another is elected: %t", length, other),
		do: func(s *schedule) {
			l := s.reign
			if l == nil || l.frozen {
				return
			}
			l.frozen = true
			s.after(length, l.resume)
			if other {
				s.elect(within)
			}
		}}
}

func askSwitchover(s *schedule, r *rand.Rand) fault {
	w := s.anyPair(r)
	return fault{what: "switchover of " + w.record.Name, do: func(s *schedule) {
		s.wish(w, pair.WishSwitchover{By: "random"})
	}}
}

func askMode(s *schedule, r *rand.Rand) fault {
	w, mode := s.anyPair(r), pair.Mode(1+r.IntN(3))
	if r.IntN(4) == 0 {
		mode = pair.ModeAutomatic
	}
	return fault{what: fmt.Sprintf("mode of %s becomes %v", w.record.Name, mode), do: func(s *schedule) {
		s.wish(w, pair.WishCommand{Body: pair.SetMode{Mode: mode}})
	}}
}

func askForced(s *schedule, r *rand.Rand) fault {
	w, accept := s.anyPair(r), r.IntN(3) == 0
	return fault{what: fmt.Sprintf("forced failover of %s, loss accepted: %t", w.record.Name, accept),
		do: func(s *schedule) { s.wish(w, pair.WishForce{By: "random", AcceptLoss: accept}) }}
}

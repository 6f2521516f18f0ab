package whole

import (
	"testing"
	"time"

	witnessv1 "github.com/witnessd/witnessd/proto/gen/witness/v1"
)

// quiet is the longest gap between acknowledgements where nothing happens to clients: their own pace, and the way
// to the mirror and back.
const quiet = 2 * pace

// decided is how much later than a wait's end the new primary serves: the leader's tick, the mirror's word that
// its promise is over (an agent's tick, a message, its confirmation by a quorum), the answer that carries the new
// epoch (one more confirmation), and the promotion. A confirmation takes up to two heartbeats of Raft, 50 ms each.
const decided = tick + agentTick + 4*50*time.Millisecond + promoteTime + 10*hop

// TestWhatHappensWhen is DESIGN's table of that name, row by row.
func TestWhatHappensWhen(t *testing.T) {
	t.Parallel()
	runScenarios(t, witnessRows())
	runScenarios(t, mirrorRows())
	runScenarios(t, primaryRows())
}

func witnessRows() []scenario {
	return []scenario{
		{"leader killed", "R2 R4", func(p *play) {
			p.leader().kill()
			p.until("new leader", time.Second, func() bool { return p.leading() != nil })
			p.instant("new leader", p.lastOffice().at, p.from, p.from+time.Second)
			time.Sleep(20 * time.Second)
			p.unnoticed(quiet)
			p.leaseKept(1500 * time.Millisecond)
			p.same()
		}},
		{"leader's machine vanishes", "R2 R4", func(p *play) {
			p.leader().vanish()
			p.until("new leader", 1100*time.Millisecond, func() bool { return p.leading() != nil })
			time.Sleep(20 * time.Second)
			p.unnoticed(quiet)
			p.leaseKept(2500 * time.Millisecond)
			p.same()
		}},
		{"follower killed and restarted", "R2", func(p *play) {
			n := p.followers()[0]
			n.kill()
			time.Sleep(10 * time.Second)
			n.start()
			time.Sleep(10 * time.Second)
			p.unnoticed(quiet)
			p.leaseKept(1100 * time.Millisecond)
			p.same()
		}},
		{"leader stopped for upgrade", "R4", func(p *play) {
			n := p.leader()
			n.proc.stop()
			n.gone()
			n.start()
			time.Sleep(10 * time.Second)
			p.unnoticed(quiet)
			p.leaseKept(1500 * time.Millisecond)
			p.same()
		}},
		{"whole witness lost", "R7 R11", func(p *play) {
			for _, n := range p.nodes {
				n.vanish()
			}
			time.Sleep(time.Minute)
			p.unnoticed(quiet)
			for _, n := range p.nodes {
				n.start()
			}
			time.Sleep(20 * time.Second)
			p.unnoticed(quiet)
			p.same()
		}},
		{"quorum of the witness lost", "R2 R7 R11", func(p *play) {
			for _, n := range p.followers() {
				n.vanish()
			}
			time.Sleep(time.Minute)
			p.unnoticed(quiet)
			if last := p.a.tap.lastSent(true, false); last > p.from+time.Second {
				p.t.Errorf("a node without a quorum has granted a lease on a request of %v", last)
			}
		}},
		{"only primary and witness cut", "R5 R7", func(p *play) {
			p.a.cutWitness()
			time.Sleep(time.Minute)
			p.unnoticed(quiet)
			p.same()
		}},
		{"only mirror and witness cut", "R5", func(p *play) {
			p.b.cutWitness()
			time.Sleep(time.Minute)
			p.unnoticed(quiet)
			p.same()
			if p.settled("sales") != nil {
				p.t.Error("the witness says that it would fail over to a mirror that it does not hear")
			}
		}},
	}
}

func mirrorRows() []scenario {
	// Commits are held from the last look at which the mirror kept up, a look before or after its end; and Expose
	// is a command of the log, after which the commits are released.
	const least, most = mirrorTimeout - 2*look, mirrorTimeout + 2*look + 150*time.Millisecond
	return []scenario{
		{"mirror lost", "R8", func(p *play) {
			p.b.lose()
			time.Sleep(20 * time.Second)
			p.unnoticed(most)
			p.gap(least, most)
			p.right(witnessv1.Right_RIGHT_SOLE)
			p.epoch(0)
		}},
		{"only primary and mirror cut", "R5 R8", func(p *play) {
			p.logf("cut the hosts from each other")
			p.net.CutBoth("a", "b")
			p.net.CutBoth("a-db", "b-db")
			time.Sleep(20 * time.Second)
			p.unnoticed(most)
			p.gap(least, most)
			p.right(witnessv1.Right_RIGHT_SOLE)
			p.epoch(0)
		}},
		{"mirror's database hangs", "R8", func(p *play) {
			p.db(p.b).hang(true)
			time.Sleep(12 * time.Second)
			p.unnoticed(most)
			p.gap(least, most)
			p.right(witnessv1.Right_RIGHT_SOLE)
			time.Sleep(10 * time.Second) // five leases after it was silent first, its agent has restarted it
			p.right(witnessv1.Right_RIGHT_LEASED)
		}},
		{"mirror lost, recorded, then witness lost", "R8", func(p *play) {
			p.b.lose()
			time.Sleep(5 * time.Second)
			for _, n := range p.nodes {
				n.vanish()
			}
			p.from = p.now()
			time.Sleep(time.Minute)
			p.unnoticed(quiet)
		}},
		{"witness lost, then mirror lost", "R1 R7", func(p *play) {
			for _, n := range p.nodes {
				n.vanish()
			}
			time.Sleep(10 * time.Second)
			p.from = p.now()
			p.b.lose()
			time.Sleep(10 * time.Second)
			p.fencedAt(p.a, p.a.tap.lastSent(true, true)+lease-guard)
		}},
		{"mirror's agent restarts", "R7", func(p *play) {
			p.b.stopAgent()
			p.b.startAgent()
			time.Sleep(20 * time.Second)
			p.unnoticed(quiet)
			p.same()
		}},
	}
}

func primaryRows() []scenario {
	return []scenario{
		{"database of the primary dies", "R9", func(p *play) {
			p.db(p.a).crash()
			p.untilOpen(p.b, time.Second)
			// Fence and epoch file take no time here: the way of the release, three confirmations, the promotion.
			p.instant("mirror serves", p.opened(p.b), p.from+promoteTime, p.from+3*50*time.Millisecond+promoteTime+agentTick)
			time.Sleep(5 * time.Second)
			p.epoch(1)
		}},
		{"primary host lost", "R1 R5", func(p *play) {
			p.a.lose()
			p.untilOpen(p.b, 10*time.Second)
			p.promotedAfterLeases()
			p.epoch(1)
		}},
		{"primary isolated but alive", "R1 R5", func(p *play) {
			p.a.isolate()
			p.untilOpen(p.b, 10*time.Second)
			p.fencedAt(p.a, p.a.tap.lastSent(true, true)+lease-guard)
			p.promotedAfterLeases()
			time.Sleep(10 * time.Second)
			p.a.rejoin()
			time.Sleep(10 * time.Second)
			p.epoch(1)
		}},
		{"primary's database hangs", "R9", func(p *play) {
			p.db(p.a).hang(true)
			p.untilOpen(p.b, 15*time.Second)
			p.instant("mirror serves", p.opened(p.b), p.from+3*lease-look, p.from+3*lease+look+decided)
			p.epoch(1)
		}},
		{"leader and primary host lost together", "R4 R5", func(p *play) {
			p.leader().vanish()
			p.a.lose()
			p.untilOpen(p.b, 10*time.Second)
			grace := p.lastOffice().at + lease
			p.instant("mirror serves", p.opened(p.b), grace, grace+decided)
		}},
		{"primary and witness lost", "R4 R5", func(p *play) {
			for _, n := range p.nodes {
				n.vanish()
			}
			p.a.lose()
			time.Sleep(time.Minute)
			if at := p.opened(p.b); at >= 0 {
				p.t.Errorf("mirror served at %v, without a witness", at)
			}
			for _, n := range p.nodes {
				n.start()
			}
			p.untilOpen(p.b, 10*time.Second)
			grace := p.lastOffice().at + lease
			p.instant("mirror serves", p.opened(p.b), grace, grace+decided)
		}},
		{"all lost, mirror and witness meet first, armed", "R4 R5 R7", func(p *play) {
			p.allLost()
			for _, n := range p.nodes {
				n.start()
			}
			p.b.boot()
			p.untilOpen(p.b, 15*time.Second)
			p.epoch(1)
		}},
		{"all lost, mirror and witness meet first, exposed", "R5 R8", func(p *play) {
			p.b.lose()
			time.Sleep(5 * time.Second)
			p.allLost()
			for _, n := range p.nodes {
				n.start()
			}
			p.b.boot()
			time.Sleep(time.Minute)
			if at := p.opened(p.b); at >= 0 {
				p.t.Errorf("mirror served at %v, although the record says sole", at)
			}
		}},
		{"agent stopped for upgrade", "R10", func(p *play) {
			p.a.stopAgent()
			time.Sleep(time.Second)
			p.a.startAgent()
			time.Sleep(20 * time.Second)
			p.unnoticed(quiet)
			p.same()
		}},
		{"switchover", "R9 R13", func(p *play) {
			_, err := p.admin(p.leader().id).Switchover(p.t.Context(), &witnessv1.SwitchoverRequest{Pair: "sales", By: "test"})
			if err != nil {
				p.t.Fatal(err)
			}
			p.untilOpen(p.b, 5*time.Second)
			time.Sleep(5 * time.Second)
			p.gap(0, 5*50*time.Millisecond+promoteTime+agentTick)
			p.epoch(1)
		}},
	}
}

// promotedAfterLeases checks that b was promoted once both leases of a had run out, counted from the receipt of
// requests that had left before the fault, and not later than a wait needs.
func (p *play) promotedAfterLeases() {
	p.t.Helper()
	p.instant("mirror serves", p.opened(p.b), p.a.tap.lastSent(true, true)+hop+lease+promoteTime, p.from+lease+decided)
}

// leaseKept checks that never more than so much time lay between two requests on which the witness granted a
// lease: with the lease and the guard of these tests, 2.7 s would have fenced the primary.
func (p *play) leaseKept(most time.Duration) {
	p.t.Helper()
	tap := p.a.tap
	tap.mu.Lock()
	defer tap.mu.Unlock()
	last, longest := p.from, time.Duration(0)
	for _, g := range tap.grants {
		if !g.partner && g.sent >= p.from {
			longest, last = max(longest, g.sent-last), g.sent
		}
	}
	longest = max(longest, p.now()-last)
	p.logf("longest time between witness leases %v", longest)
	if longest > most {
		p.t.Errorf("longest time between requests that got a witness lease %v, want up to %v", longest, most)
	}
}

func (p *play) right(want witnessv1.Right) {
	p.t.Helper()
	if got := p.record(p.leader(), "sales").GetRight(); got != want {
		p.t.Errorf("right %v, want %v", got, want)
	}
}

// allLost ends every machine.
func (p *play) allLost() {
	for _, n := range p.nodes {
		n.vanish()
	}
	for _, h := range p.hosts {
		if h.stop != nil {
			h.lose()
		}
	}
	time.Sleep(10 * time.Second)
	p.from = p.now()
}

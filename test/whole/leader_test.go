package whole

import (
	"context"
	"strings"
	"testing"
	"time"

	witnessv1 "github.com/witnessd/witnessd/proto/gen/witness/v1"
)

// TestLateAnswersConfirmNothing is rule R2: a leader that was stopped, and whose followers' answers were held up
// in the network, goes on when another is, or may be, elected. The answers that it finds then are to messages that it
// sent before the agent asked; they must not confirm it.
func TestLateAnswersConfirmNothing(t *testing.T) {
	test(t, func(p *play) {
		old, followers := p.leader(), p.followers()
		// A disk that hangs stops the node's own view of its leadership, as SIGSTOP would; a proposal finds it.
		old.disk.Hang()
		ctx, cancel := context.WithTimeout(p.t.Context(), time.Second)
		defer cancel()
		p.clients.Go(func() {
			_, _ = p.admin(old.id).CreatePair(ctx, &witnessv1.CreatePairRequest{
				Name: "spare", Primary: "x", Members: []*witnessv1.Member{{Host: "x", Instance: "y"}, {Host: "y", Instance: "y"}},
			})
		})
		time.Sleep(60 * time.Millisecond)
		for _, n := range followers {
			p.net.Cut(n.id, old.id)
		}
		time.Sleep(60 * time.Millisecond) // at least one heartbeat of Raft is accepted, and its answer is held
		for _, n := range followers {
			p.net.Cut(old.id, n.id)
		}
		cut := p.now()
		time.Sleep(p.from + 950*time.Millisecond - p.now()) // Raft waits for an answer for 1 s
		p.logf("the answers arrive")
		for _, n := range followers {
			p.net.Heal(n.id, old.id)
		}
		time.Sleep(300 * time.Millisecond)
		for _, h := range []*host{p.a, p.b} {
			for _, answer := range h.tap.answersFrom(old.id, cut) {
				if answer.sent > cut {
					p.t.Errorf("%s was answered by the deposed %s at %v, on a request of %v, with %d leases", h.name, old.id,
						answer.arrived, answer.sent, answer.leases)
				}
			}
		}
		old.disk.Resume()
		time.Sleep(5 * time.Second)
		p.unnoticed(quiet)
	})
}

// TestNoGrantBeforeTheBarrier is rule R2: the new leader's log holds the change of epoch that its predecessor
// committed, but its state does not yet. Until it has applied a barrier of its own term, the former primary, which
// comes back at that moment, must not get a lease for the former epoch from it.
func TestNoGrantBeforeTheBarrier(t *testing.T) {
	test(t, func(p *play) {
		first, followers := p.leader(), p.followers()
		late, slow := followers[0], followers[1]
		// The change is kept by the leader and one follower, which then hears no more of it; the other follower
		// confirms the leader and has not taken the change in, because its disk hangs. So neither knows that it is
		// committed.
		p.listen(func(on, line string) {
			if on == first.id && strings.Contains(line, "kind=FAILED_OVER") {
				p.net.Cut(first.id, late.id)
			}
		})
		p.a.isolate()
		last := p.a.tap.lastSent(true, true)
		time.Sleep(last + lease - 20*time.Millisecond - p.now())
		slow.disk.Hang()
		// Nobody hears of more changes by the new primary.
		p.db(p.b).onOpen = func() {
			p.db(p.b).onOpen = nil
			for _, n := range p.nodes {
				p.net.CutBoth("b", n.id)
			}
		}
		p.untilOpen(p.b, 500*time.Millisecond)
		// Whoever votes for the next leader does not write more than the vote for a while, and answers heartbeats.
		for _, n := range followers {
			n.voted = func(candidate string) {
				if strings.HasPrefix(candidate, n.id+":") {
					return
				}
				time.AfterFunc(hop+hop/2, func() { // after the vote, and before the winner's first entry
					p.logf("%s has voted for %s; its disk hangs", n.id, candidate)
					n.disk.Hang()
					time.AfterFunc(1200*time.Millisecond, n.disk.Resume)
				})
			}
		}
		first.kill()
		slow.disk.Resume()
		p.net.Heal(first.id, late.id)
		p.net.CutBoth("a", "b")
		p.net.Rejoin("a")
		back := p.now()
		time.Sleep(3 * time.Second)
		if at := p.opened(p.a); at >= 0 {
			p.t.Errorf("%s opened at %v, after %s had become primary", p.a.name, at, p.b.name)
		}
		if p.lastOffice().at < back+time.Second {
			p.t.Errorf("an office was opened at %v, before the barrier could be applied", p.lastOffice().at)
		}
		for _, n := range followers {
			n.voted = nil
		}
	})
}

// TestGraceAfterElection is rule R4: a new leader knows of no lease and assumes that its predecessor granted one
// a moment ago.
func TestGraceAfterElection(t *testing.T) {
	test(t, func(p *play) {
		p.onlyWitness()
		p.a.cutWitness()
		p.leader().kill()
		p.untilOpen(p.b, 10*time.Second)
		p.fencedAt(p.a, p.a.tap.lastSent(true, false)+lease-guard)
		grace := p.lastOffice().at + lease
		p.instant("mirror serves", p.opened(p.b), grace, grace+decided)
	})
}

// TestWatchEndsWithItsTerm is rule R4: a leader that is elected again knows nothing of what its successor has
// granted meanwhile.
func TestWatchEndsWithItsTerm(t *testing.T) {
	test(t, func(p *play) {
		first := p.leader()
		second := p.followers()[0]
		p.onlyWitness()
		p.transfer(second)
		time.Sleep(10 * time.Second)
		p.from = p.now()
		p.a.cutWitness()
		p.transfer(first)
		p.untilOpen(p.b, 10*time.Second)
		p.fencedAt(p.a, p.a.tap.lastSent(true, false)+lease-guard)
		grace := p.lastOffice().at + lease
		p.instant("mirror serves", p.opened(p.b), grace, grace+decided)
	})
}

func (p *play) transfer(to *node) {
	p.t.Helper()
	_, err := witnessv1.NewWitnessServiceClient(p.conn(to.id)).TransferLeadership(p.t.Context(),
		&witnessv1.TransferLeadershipRequest{To: to.id})
	if err != nil {
		p.t.Fatal(err)
	}
	p.until(to.id+" leads", time.Second, func() bool { return p.leading() == to })
}

// TestReceiptIsTheLeaders is rule R1: a heartbeat that a follower has relayed, and that took a second from there,
// is received when the leader has it. The lease that is granted on it holds the mirror back for as long.
func TestReceiptIsTheLeaders(t *testing.T) {
	test(t, func(p *play) {
		leader, relay := p.leader(), p.followers()[0]
		for _, n := range p.nodes {
			if n != relay {
				p.net.CutBoth("a", n.id)
			}
		}
		p.onlyWitness()
		p.net.Cut(relay.id, leader.id)
		time.Sleep(heartbeat + agentTick + 2*hop) // at least one heartbeat is on its way
		p.net.CutBoth("a", relay.id)
		last := p.a.tap.lastSent(true, false)
		time.Sleep(p.from + time.Second - p.now())
		receipt := p.now()
		p.logf("the relayed heartbeats arrive")
		p.net.Heal(relay.id, leader.id)
		p.untilOpen(p.b, 10*time.Second)
		p.fencedAt(p.a, last+lease-guard)
		p.instant("mirror serves", p.opened(p.b), receipt+lease, receipt+lease+decided)
	})
}

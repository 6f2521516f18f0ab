package whole

import (
	"testing"
	"time"
)

// TestLeaseCountsFromSending is rule R1 for both leases: an answer that was long on its way gives the rest of a
// lease, and not a whole one.
func TestLeaseCountsFromSending(t *testing.T) {
	t.Parallel()
	t.Run("witness", func(t *testing.T) {
		test(t, func(p *play) {
			p.onlyWitness()
			p.slowAnswers("n1", "n2", "n3")
			p.fencedAt(p.a, p.a.tap.lastSent(true, false)+lease-guard)
		})
	})
	t.Run("partner", func(t *testing.T) {
		test(t, func(p *play) {
			p.onlyPartner()
			p.slowAnswers("b")
			p.fencedAt(p.a, p.a.tap.lastSent(false, true)+lease-guard)
		})
	})
}

// slowAnswers holds the answers of some machines to a's requests for 1.2 s; the last request that gets through is
// at least half a second old when its answer arrives. Then a hears no more.
func (p *play) slowAnswers(from ...string) {
	p.t.Helper()
	for _, name := range from {
		p.net.Cut(name, "a")
	}
	time.Sleep(700 * time.Millisecond)
	for _, name := range from {
		p.net.Cut("a", name)
	}
	time.Sleep(500 * time.Millisecond)
	arrival := p.now()
	for _, name := range from {
		p.net.Heal(name, "a")
	}
	time.Sleep(time.Millisecond)
	for _, name := range from {
		p.net.Cut(name, "a")
	}
	last := p.a.tap.lastSent(true, true)
	if last < p.from || last > arrival-500*time.Millisecond {
		p.t.Fatalf("the answer to the request of %v has not arrived at %v", last, arrival)
	}
	time.Sleep(lease)
}

// TestPromiseOutlivesTheAgent is rule R7: an agent that was started again has promised, for all it knows, a moment
// ago. The primary lives on that promise alone.
func TestPromiseOutlivesTheAgent(t *testing.T) {
	test(t, func(p *play) {
		p.onlyPartner()
		p.logf("cut the agents from each other")
		p.net.CutBoth("a", "b")
		p.b.stopAgent()
		p.b.startAgent()
		started := p.now()
		p.untilOpen(p.b, 10*time.Second)
		p.fencedAt(p.a, p.a.tap.lastSent(false, true)+lease-guard)
		p.instant("mirror serves", p.opened(p.b), started+lease, started+lease+decided)
	})
}

// TestPromiseIsKept is rules R5 and R7: what the witness granted is long over, and the mirror's last promise alone
// holds the promotion back, counted in full from the receipt of the request.
func TestPromiseIsKept(t *testing.T) {
	test(t, func(p *play) {
		p.onlyPartner()
		p.a.isolate()
		last := p.a.tap.lastSent(false, true)
		p.untilOpen(p.b, 10*time.Second)
		p.fencedAt(p.a, last+lease-guard)
		p.instant("mirror serves", p.opened(p.b), last+hop+lease, p.from+lease+decided)
	})
}

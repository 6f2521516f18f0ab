package whole

import (
	"testing"
	"time"

	witnessv1 "github.com/witnessd/witnessd/proto/gen/witness/v1"
)

// play is one scenario: a pair on a and b, armed, with a as primary, and what has been noted of it.
type play struct {
	*world
	t      *testing.T
	a, b   *host
	sales  *books
	before *witnessv1.Pair
	from   time.Duration // when the fault began
}

// scenario is one row of DESIGN's table "What happens when". At its end everything is mended, and the pair must
// be armed again.
type scenario struct {
	name  string
	rules string
	play  func(p *play)
}

func runScenarios(t *testing.T, all []scenario) {
	t.Helper()
	for _, s := range all {
		t.Run(s.name+"/"+s.rules, func(t *testing.T) {
			t.Parallel()
			bubble(t, func(t *testing.T) { perform(t, s.play) })
		})
	}
}

// perform is one scenario, from an armed pair to an armed pair.
func perform(t *testing.T, scene func(p *play)) {
	t.Helper()
	w, a, b := onePair(t)
	p := &play{world: w, t: t, a: a, b: b, sales: w.pairs[0]}
	time.Sleep(5 * time.Second)
	p.before = w.untilArmed("sales", time.Second)
	p.from = w.now()
	scene(p)
	p.logf("mended")
	p.mend()
	w.untilArmed("sales", 30*time.Second)
	p.settle()
}

// test is a scenario that is a test of its own.
func test(t *testing.T, scene func(p *play)) {
	t.Helper()
	t.Parallel()
	bubble(t, func(t *testing.T) { perform(t, scene) })
}

// onlyWitness leaves the witness lease alone to hold the mirror back: the agents do not hear each other, and the
// mirror's last promise has run out. The databases have a network of their own, so the right is still leased.
func (p *play) onlyWitness() {
	p.logf("cut the agents from each other")
	p.net.CutBoth("a", "b")
	time.Sleep(lease + heartbeat)
	p.t.Helper()
	if p.before = p.settled("sales"); p.before == nil {
		p.t.Fatal("the pair is not armed any more")
	}
	p.from = p.now()
}

// onlyPartner leaves the partner lease alone: the witness does not hear the primary, and what it granted is over.
func (p *play) onlyPartner() {
	p.a.cutWitness()
	time.Sleep(lease + heartbeat)
	p.from = p.now()
}

// mend ends every fault.
func (p *play) mend() {
	p.net.HealAll()
	for _, n := range p.nodes {
		if !n.alive() {
			n.start()
		}
	}
	for _, h := range p.hosts {
		for _, d := range h.dbs {
			d.hang(false)
		}
		if h.stop == nil {
			h.boot()
		}
	}
}

// settle checks that clients are served again by the host that the record names, and by no other.
func (p *play) settle() {
	p.t.Helper()
	time.Sleep(time.Second)
	if gap := p.sales.gap(p.now()-500*time.Millisecond, p.now()); gap > 2*pace {
		p.t.Errorf("at the end clients wait %v", gap)
	}
}

func (p *play) db(h *host) *database { return h.dbs["sales"] }

// instant checks that something happened at an instant, up to a tolerance that says where it comes from.
func (p *play) instant(what string, got, earliest, latest time.Duration) {
	p.t.Helper()
	p.logf("%s at %v, want %v to %v", what, got, earliest, latest)
	if got < earliest || got > latest {
		p.t.Errorf("%s at %v, want between %v and %v (the fault began at %v)", what, got, earliest, latest, p.from)
	}
}

// opened is when a host let clients in after the fault began.
func (p *play) opened(h *host) time.Duration {
	for _, t := range p.db(h).turnsSince(p.from) {
		if t.open {
			return t.at
		}
	}
	return -1
}

// shut is when and why a host first shut clients out after the fault began.
func (p *play) shut(h *host) (at time.Duration, why string) {
	for _, t := range p.db(h).turnsSince(p.from) {
		if !t.open {
			return t.at, t.why
		}
	}
	return -1, "never"
}

// fencedAt checks that the host's own fence shut clients out, at that very instant.
func (p *play) fencedAt(h *host, want time.Duration) {
	p.t.Helper()
	if at, why := p.shut(h); at != want || why != "fenced" {
		p.t.Errorf("%s: clients shut out at %v (%s), want fenced at %v", h.name, at, why, want)
	}
}

// unnoticed checks that no host let clients in or out since the fault began, and that the longest time without an
// acknowledgement was within a bound.
func (p *play) unnoticed(gap time.Duration) {
	p.t.Helper()
	for _, d := range p.sales.copies {
		if turns := d.turnsSince(p.from); len(turns) > 0 {
			p.t.Errorf("%s: %v", d.name, turns)
		}
	}
	p.gap(0, gap)
}

// gap checks the longest time without an acknowledgement since the fault began.
func (p *play) gap(least, most time.Duration) {
	p.t.Helper()
	got := p.sales.gap(p.from, p.now())
	p.logf("longest gap %v", got)
	if got < least || got > most {
		p.t.Errorf("longest gap without an acknowledgement %v, want %v to %v", got, least, most)
	}
}

// same checks that the record has not changed since the fault began.
func (p *play) same() {
	p.t.Helper()
	now := p.record(p.leader(), "sales")
	if now.GetRevision() != p.before.GetRevision() || now.GetEpoch() != p.before.GetEpoch() {
		p.t.Errorf("the record has changed: epoch %d to %d, revision %d to %d", p.before.GetEpoch(), now.GetEpoch(),
			p.before.GetRevision(), now.GetRevision())
	}
}

// epoch checks how often the right has moved since the fault began.
func (p *play) epoch(moves uint64) {
	p.t.Helper()
	if now := p.record(p.leader(), "sales"); now.GetEpoch() != p.before.GetEpoch()+moves {
		p.t.Errorf("epoch %d, want %d more than %d", now.GetEpoch(), moves, p.before.GetEpoch())
	}
}

// untilOpen waits until a host serves.
func (p *play) untilOpen(h *host, limit time.Duration) {
	p.t.Helper()
	p.until(h.name+" serves", limit, func() bool { return p.db(h).serves() })
}

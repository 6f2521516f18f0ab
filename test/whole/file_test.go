package whole

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/witnessd/witnessd/agent"
)

// TestEpochIsOnDiskFirst is rule R7: a mirror that cannot write the new epoch down neither acts on it nor quotes
// it. What it has not written it would not know after its next start.
func TestEpochIsOnDiskFirst(t *testing.T) {
	test(t, func(p *play) {
		epoch := p.before.GetEpoch()
		p.b.block()
		p.a.lose()
		p.unsafe(p.b)
		time.Sleep(5 * time.Second)
		if n := p.db(p.b).promotes; n > 0 {
			p.t.Errorf("%s was promoted %d times for an epoch that it could not write down", p.b.name, n)
		}
		for _, r := range p.b.tap.reported(p.from) {
			if r.GetEpoch() > epoch {
				p.t.Errorf("%s quotes epoch %d at %v, which it could not write down", p.b.name, r.GetEpoch(), r.at)
			}
		}
		p.b.unblock()
		p.b.startAgent()
		p.untilOpen(p.b, 10*time.Second)
	})
}

// TestReleaseIsOnDiskBeforeItIsTold is rule R9: a release that could not be written down is not told, so that
// nobody acts on what this host would have forgotten after its next start.
func TestReleaseIsOnDiskBeforeItIsTold(t *testing.T) {
	test(t, func(p *play) {
		p.a.block()
		p.db(p.a).crash()
		p.unsafe(p.a)
		p.untilOpen(p.b, 10*time.Second)
		for _, r := range p.a.tap.reported(p.from) {
			if r.GetReleased() > 0 {
				p.t.Errorf("%s says at %v that it has released epoch %d, and could not write it down", p.a.name, r.at,
					r.GetReleased())
			}
		}
		p.promotedAfterLeases()
		p.a.unblock()
		p.a.startAgent()
	})
}

// TestReleasedStaysReleased is rule R9: an agent that has told of its release and starts again does not serve that
// epoch, although nobody has told it of another.
func TestReleasedStaysReleased(t *testing.T) {
	test(t, func(p *play) {
		// The mirror cannot take over: it is there for its database only.
		p.b.cutWitness()
		p.net.CutBoth("a", "b")
		p.db(p.a).crash()
		p.until("the release is written", time.Second, func() bool {
			raw, err := os.ReadFile(filepath.Join(p.a.state, "sales.epoch"))
			return err == nil && !strings.Contains(string(raw), `"released":0`)
		})
		p.a.isolate()
		p.a.stopAgent()
		p.a.startAgent()
		time.Sleep(time.Second)
		p.net.Rejoin("a-db")
		time.Sleep(lease)
		if at := p.opened(p.a); at >= 0 {
			p.t.Errorf("%s opened at %v in an epoch that it had released", p.a.name, at)
		}
	})
}

// unsafe waits until the agent has ended because it cannot keep its promises.
func (p *play) unsafe(h *host) {
	p.t.Helper()
	select {
	case h.err = <-h.ended:
	case <-time.After(10 * time.Second):
		p.t.Fatalf("agent of %s goes on although it cannot write its epoch file", h.name)
	}
	h.stop = nil
	if !errors.Is(h.err, agent.ErrUnsafe) {
		p.t.Errorf("agent of %s ended with %v, want %v", h.name, h.err, agent.ErrUnsafe)
	}
}

// TestRestartGate is rule R10: after a start of the agent or of the database nothing is opened before the witness,
// or while leased the mirror, has answered a request of this start.
func TestRestartGate(t *testing.T) {
	t.Parallel()
	for name, scene := range gateScenes() {
		t.Run(name, func(t *testing.T) { test(t, scene) })
	}
}

func gateScenes() map[string]func(p *play) {
	shut := func(p *play) {
		p.t.Helper()
		time.Sleep(time.Minute)
		if at := p.opened(p.a); at >= 0 {
			p.t.Errorf("%s opened at %v, cut off from everybody", p.a.name, at)
		}
	}
	shutUntilHeard := func(p *play) {
		p.t.Helper()
		shut(p)
		for _, n := range p.nodes {
			n.start()
		}
		p.untilOpen(p.a, 10*time.Second)
	}
	return map[string]func(p *play){
		"leased host boots while cut off": func(p *play) {
			p.b.cutWitness() // so that nobody takes over
			p.a.lose()
			p.a.boot()
			p.a.isolate()
			shut(p)
		},
		"sole host boots while the witness is lost": func(p *play) {
			p.exposed()
			p.a.lose()
			p.a.boot()
			shutUntilHeard(p)
		},
		"database of a sole primary dies while the witness is lost": func(p *play) {
			p.exposed()
			p.db(p.a).crash()
			shutUntilHeard(p)
		},
		"answers to requests from before the database died": func(p *play) {
			p.b.lose()
			time.Sleep(5 * time.Second)
			p.from = p.now()
			for _, n := range p.nodes {
				p.net.Cut(n.id, "a")
			}
			time.Sleep(heartbeat + agentTick)
			for _, n := range p.nodes {
				p.net.Cut("a", n.id)
			}
			p.db(p.a).crash()
			time.Sleep(10 * time.Millisecond)
			for _, n := range p.nodes {
				p.net.Heal(n.id, "a")
			}
			time.Sleep(lease)
			if at := p.opened(p.a); at >= 0 {
				p.t.Errorf("%s opened at %v on an answer to a request of %v", p.a.name, at, p.a.tap.lastSent(true, false))
			}
			p.a.healWitness()
			p.untilOpen(p.a, 10*time.Second)
		},
		"agent starts after its mark has run out": func(p *play) {
			p.b.cutWitness()
			p.a.stopAgent()
			p.a.isolate()
			time.Sleep(lease)
			started := p.now()
			p.a.startAgent()
			time.Sleep(time.Second)
			at, why := p.shut(p.a)
			p.instant("database shut ("+why+")", at, started, started+look)
			shut(p)
		},
		"agent starts before its mark has run out": func(p *play) {
			p.b.cutWitness()
			p.a.isolate()
			last := p.a.tap.lastSent(true, true)
			p.a.stopAgent()
			time.Sleep(time.Second)
			p.a.startAgent()
			time.Sleep(lease)
			p.fencedAt(p.a, last+lease-guard)
			shut(p)
		},
	}
}

// exposed loses the mirror, and once that is recorded the whole witness.
func (p *play) exposed() {
	p.b.lose()
	time.Sleep(5 * time.Second)
	for _, n := range p.nodes {
		n.vanish()
	}
	time.Sleep(lease)
	p.unnoticed(mirrorTimeout + 2*look + 150*time.Millisecond)
	p.from = p.now()
}

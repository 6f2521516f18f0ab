package whole

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	witnessv1 "github.com/witnessd/witnessd/proto/gen/witness/v1"
)

const (
	// bubbles is how many worlds share the hours, so that two processors have something to do.
	bubbles = 2
	// calm is the mean time between the end of one fault and the next.
	calm = 90 * time.Second
	// recovery is how long a pair may take to be armed again once everything is mended. The longest part is an
	// agent's keepalive, 15 s, for a connection whose other end was lost without a word.
	recovery = 40 * time.Second
)

// TestHours breaks one thing, or two at once, every few minutes, for hours. No promise is broken, and every fault
// ends with the pair armed. The log names each fault, so that -seed with the same -hours replays a run as far as
// the order of goroutines lets it.
func TestHours(t *testing.T) {
	t.Parallel()
	for i := range bubbles {
		t.Run(fmt.Sprint("world ", i+1), func(t *testing.T) {
			t.Parallel()
			bubble(t, func(t *testing.T) {
				hours(t, *seedFlag+uint64(i), time.Duration(*hoursFlag*float64(time.Hour)/bubbles))
			})
		})
	}
}

func hours(t *testing.T, seed uint64, length time.Duration) {
	t.Helper()
	w, a, b := onePair(t)
	w.traced = 500
	p := &play{world: w, t: t, a: a, b: b, sales: w.pairs[0]}
	c := &chance{play: p, Rand: rand.New(rand.NewPCG(seed, 1))}
	faults := c.faults()
	n := 0
	for ; p.now() < length && !t.Failed(); n++ {
		time.Sleep(calm/2 + c.upTo(calm))
		p.from = p.now()
		for range 1 + c.IntN(4)/3 { // two at once, one time in four
			f := faults[c.IntN(len(faults))]
			p.logf("fault %d: %s", n, f.name)
			f.begin()
			time.Sleep(c.upTo(2 * time.Second))
		}
		time.Sleep(c.upTo(20 * time.Second))
		p.net.SetLatency(hop)
		p.mend()
		w.untilArmed("sales", recovery)
		p.settle()
	}
	t.Logf("seed %d: %d faults, epoch %d, %d commits acknowledged", seed, n, w.untilArmed("sales", time.Second).GetEpoch(),
		len(p.sales.acks))
}

// chance is a play whose faults are thrown.
type chance struct {
	*play
	*rand.Rand
}

type fault struct {
	name  string
	begin func()
}

func (c *chance) upTo(d time.Duration) time.Duration { return time.Duration(c.Int64N(int64(d))) }

// serving is the two hosts, the one that serves now first.
func (c *chance) serving() (primary, mirror *host) {
	if c.db(c.b).serves() {
		return c.b, c.a
	}
	return c.a, c.b
}

func (c *chance) node() *node { return c.nodes[c.IntN(len(c.nodes))] }

// machine is the name of any machine but the operator's.
func (c *chance) machine() string {
	return []string{"n1", "n2", "n3", "a", "b", "a-db", "b-db"}[c.IntN(7)]
}

func (c *chance) faults() []fault {
	return append(c.nodeFaults(), append(c.hostFaults(), c.networkFaults()...)...)
}

func (c *chance) nodeFaults() []fault {
	down := func(n *node) {
		switch {
		case !n.alive():
		case c.IntN(2) == 0:
			n.kill()
		default:
			n.vanish()
		}
	}
	return []fault{
		{"leader lost", func() {
			if n := c.leading(); n != nil {
				down(n)
			}
		}},
		{"node lost", func() { down(c.node()) }},
		{"two nodes lost", func() { down(c.nodes[0]); down(c.nodes[1+c.IntN(2)]) }},
		{"whole witness lost", func() {
			for _, n := range c.nodes {
				down(n)
			}
		}},
		{"disk of a node hangs", func() {
			n := c.node()
			n.disk.Hang()
			time.AfterFunc(time.Second+c.upTo(500*time.Millisecond), n.disk.Resume)
		}},
	}
}

func (c *chance) hostFaults() []fault {
	lose := func(h *host) {
		if h.stop != nil {
			h.lose()
		}
	}
	restart := func(h *host) {
		if h.stop != nil {
			h.stopAgent()
			time.Sleep(c.upTo(lease / 2))
			h.startAgent()
		}
	}
	return []fault{
		{"primary host lost", func() { h, _ := c.serving(); lose(h) }},
		{"mirror host lost", func() { _, h := c.serving(); lose(h) }},
		{"primary's database dies", func() { h, _ := c.serving(); c.db(h).crash() }},
		{"mirror's database dies", func() { _, h := c.serving(); c.db(h).crash() }},
		{"primary's database hangs", func() { h, _ := c.serving(); c.db(h).hang(true) }},
		{"mirror's database hangs", func() { _, h := c.serving(); c.db(h).hang(true) }},
		{"primary's agent restarts", func() { h, _ := c.serving(); restart(h) }},
		{"mirror's agent restarts", func() { _, h := c.serving(); restart(h) }},
		{"switchover", func() {
			if n := c.leading(); n != nil {
				_, err := c.admin(n.id).Switchover(c.t.Context(), &witnessv1.SwitchoverRequest{Pair: "sales", By: "test"})
				c.logf("switchover: %v", err)
			}
		}},
	}
}

func (c *chance) networkFaults() []fault {
	return []fault{
		{"primary isolated", func() { h, _ := c.serving(); h.isolate() }},
		{"mirror isolated", func() { _, h := c.serving(); h.isolate() }},
		{"primary cut from the witness", func() { h, _ := c.serving(); h.cutWitness() }},
		{"mirror cut from the witness", func() { _, h := c.serving(); h.cutWitness() }},
		{"agents cut from each other", func() { c.net.CutBoth("a", "b") }},
		{"databases cut from each other", func() { c.net.CutBoth("a-db", "b-db") }},
		{"hosts cut from each other", func() { c.net.CutBoth("a", "b"); c.net.CutBoth("a-db", "b-db") }},
		{"single directions cut", func() {
			for range 1 + c.IntN(6) {
				from, to := c.machine(), c.machine()
				c.logf("cut %s to %s", from, to)
				c.net.Cut(from, to)
			}
		}},
		{"slow network", func() { c.net.SetLatency(c.upTo(60 * time.Millisecond)) }},
	}
}

package raftstore_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/witnessd/witnessd/raftstore"
)

// observed is what the nodes claimed while the network was at its worst.
type observed struct {
	mu        sync.Mutex
	offices   map[uint64]time.Time // when the office of each term began
	confirmed []claim
	accepted  []string
}

// claim: a question that arrived at asked was answered on the strength of leading term.
type claim struct {
	term  uint64
	asked time.Time
}

// TestChaos cuts and stops nodes at random for minutes, and then holds what was claimed against what was
// true: one office for each term; nobody answered a question on the strength of a term when a later office
// had begun before the question arrived; whatever was accepted is there once, on every node.
func TestChaos(t *testing.T) {
	for _, latency := range []time.Duration{0, 15 * time.Millisecond} {
		t.Run(fmt.Sprint(latency), func(t *testing.T) {
			seed := rand.Uint64()
			t.Logf("seed %d", seed) // decides the faults; what becomes of them also depends on the scheduler
			bubble(t, func(t *testing.T) { chaos(t, rand.New(rand.NewPCG(seed, 0)), latency) })
		})
	}
}

func chaos(t *testing.T, random *rand.Rand, latency time.Duration) {
	g := newGroup(t, "a", "b", "c")
	g.network.SetLatency(latency)
	seen := &observed{offices: make(map[uint64]time.Time)}
	ctx, stop := context.WithCancel(t.Context())
	var clients sync.WaitGroup
	var nodes []*node
	for _, id := range []string{"a", "b", "c"} {
		n := g.nodes[id]
		nodes = append(nodes, n)
		clients.Go(func() { seen.lead(ctx, t, n) })
		clients.Go(func() { seen.ask(ctx, n) })
		clients.Go(func() { seen.propose(ctx, n) })
	}
	for range 250 {
		a, b := nodes[random.IntN(3)].id, nodes[random.IntN(3)].id
		switch random.IntN(6) {
		case 0:
			g.network.Isolate(a)
		case 1:
			g.network.CutBoth(a, b)
		case 2, 3:
			g.network.Cut(a, b)
		case 4:
			g.network.Reset(a)
		case 5:
			g.network.HealAll()
		}
		time.Sleep(time.Duration(random.IntN(800)) * time.Millisecond)
	}
	g.network.HealAll()
	time.Sleep(5 * time.Second)
	stop()
	clients.Wait()
	state := g.end()
	g.noFaults()
	seen.check(t, state)
}

func (o *observed) lead(ctx context.Context, t *testing.T, n *node) {
	_ = n.Lead(ctx, func(ctx context.Context, term uint64) {
		o.mu.Lock()
		if _, ok := o.offices[term]; ok {
			t.Errorf("two offices of term %d", term)
		}
		o.offices[term] = time.Now()
		o.mu.Unlock()
		<-ctx.Done()
	})
}

func (o *observed) ask(ctx context.Context, n *node) {
	for ctx.Err() == nil {
		asked, term, mark := time.Now(), n.CurrentTerm(), n.Mark()
		patient, cancel := context.WithTimeout(ctx, 3*time.Second)
		if n.WaitConfirmed(patient, term, mark) == nil {
			o.mu.Lock()
			o.confirmed = append(o.confirmed, claim{term, asked})
			o.mu.Unlock()
		}
		cancel()
		time.Sleep(3 * time.Millisecond)
	}
}

func (o *observed) propose(ctx context.Context, n *node) {
	for i := 0; ctx.Err() == nil; i++ {
		entry := fmt.Sprint(n.id, " ", i)
		if _, err := n.Propose(ctx, []byte(entry)); err == nil {
			o.mu.Lock()
			o.accepted = append(o.accepted, entry)
			o.mu.Unlock()
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func (o *observed) check(t *testing.T, state []string) {
	t.Logf("%d offices, %d answers, %d entries accepted, %d in the state",
		len(o.offices), len(o.confirmed), len(o.accepted), len(state))
	if len(o.offices) < 10 || len(o.confirmed) < 100 || len(o.accepted) < 100 {
		t.Error("too little happened for this to show anything")
	}
	for _, c := range o.confirmed {
		for term, began := range o.offices {
			if term > c.term && began.Before(c.asked) {
				t.Fatalf("asked at %v and answered as leader of term %d; the office of term %d had begun at %v",
					c.asked, c.term, term, began)
			}
		}
	}
	sorted := slices.Sorted(slices.Values(state))
	if len(slices.Compact(slices.Clone(sorted))) != len(state) {
		t.Error("an entry is there twice")
	}
	for _, e := range o.accepted {
		if _, ok := slices.BinarySearch(sorted, e); !ok {
			t.Errorf("%q was accepted and is not there", e)
		}
	}
}

// The nodes stop and start at random, on disks that fail for a moment; nothing that was accepted is lost.
func TestChaosOfDisks(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newGroup(t, "a", "b", "c")
		ids := []string{"a", "b", "c"}
		var accepted []string
		for i := range 150 {
			n := g.nodes[ids[rand.IntN(3)]]
			switch rand.IntN(4) {
			case 0:
				g.stop(n.id)
				time.Sleep(time.Duration(rand.IntN(1500)) * time.Millisecond)
				g.start(n.id)
			case 1:
				g.network.Reset(n.id)
			case 2:
				if n.State() == raftstore.Leader {
					_ = n.TransferLeadership(t.Context(), "")
				}
			case 3:
				n.disk.Hang()
				time.AfterFunc(time.Duration(rand.IntN(900))*time.Millisecond, n.disk.Resume)
			}
			entry := fmt.Sprint("entry ", i)
			for _, n := range g.nodes {
				if _, err := n.Propose(t.Context(), []byte(entry)); err == nil {
					accepted = append(accepted, entry)
				}
			}
		}
		time.Sleep(3 * time.Second)
		state := g.end()
		for _, e := range accepted {
			if !slices.Contains(state, e) {
				t.Errorf("%q was accepted and is not there", e)
			}
		}
		g.noFaults()
		if len(accepted) < 50 {
			t.Errorf("%d entries accepted: too few to show anything", len(accepted))
		}
	})
}

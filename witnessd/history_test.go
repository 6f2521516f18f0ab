package witnessd_test

import (
	"context"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/anishathalye/porcupine"

	witnessv1 "github.com/witnessd/witnessd/proto/gen/witness/v1"
)

var (
	histories   = flag.Int("histories", 30, "how many histories TestHistories makes and checks")
	historySeed = flag.Uint64("history-seed", 1, "seed of the first history; the others follow it")
)

// TestHistories checks that clients on all nodes together see one witness: there is an order of all calls, each
// somewhere between its call and its end, in which every answer is right. Meanwhile leaders are cut off, stopped,
// killed and changed. The schedule follows from the seed, but not every race of goroutines does.
func TestHistories(t *testing.T) {
	for seed := *historySeed; seed < *historySeed+uint64(*histories); seed++ {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			var h *history
			synctest.Test(t, func(t *testing.T) { h = play(t, seed) })
			h.check(t, seed)
		})
	}
}

// play runs clients and faults for a while.
func play(t *testing.T, seed uint64) *history {
	const clients, duration = 6, 15 * time.Second
	pairs := []string{"crm", "sales"}
	w := newWorld(t, "n1", "n2", "n3")
	w.leader()
	// The slower the network, the more is under way when something breaks.
	w.net.SetLatency([]time.Duration{200 * time.Microsecond, 5 * time.Millisecond, 20 * time.Millisecond}[seed%3])
	h := newHistory(t)
	ctx, cancel := context.WithTimeout(context.Background(), duration)
	defer cancel()
	var all sync.WaitGroup
	for n := range clients {
		c := w.client(h, n, seed)
		defer c.close()
		all.Go(func() { c.run(ctx, pairs) })
	}
	m := mischief{world: w, h: h, r: rand.New(rand.NewPCG(seed, 99))}
	for ctx.Err() == nil {
		m.one()
	}
	all.Wait()
	w.leader()
	// Whatever became of it, all nodes tell it alike.
	last := w.client(h, clients, seed)
	defer last.close()
	for _, id := range w.ids {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		last.list(ctx, w.admin(id), pairs)
		cancel()
	}
	return h
}

// check looks for an order. If there is none, it draws what was seen.
func (h *history) check(t *testing.T, seed uint64) {
	began := time.Now()
	result, info := porcupine.CheckOperationsVerbose(register(), h.ops, time.Minute)
	t.Logf("seed %d: %d calls (%v), checked in %v: %s", seed, len(h.ops), h.outcomes,
		time.Since(began).Round(time.Millisecond), result)
	if h.outcomes["known"] < 50 {
		t.Errorf("only %d calls were answered", h.outcomes["known"])
	}
	if result == porcupine.Ok {
		return
	}
	info.AddAnnotations(h.faults)
	dir, err := os.MkdirTemp("", "witnessd-history-") //nolint:usetesting // it outlives the test
	if err != nil {
		t.Fatal(err)
	}
	picture := filepath.Join(dir, fmt.Sprintf("seed%d.html", seed))
	if err := porcupine.VisualizePath(register(), info, picture); err != nil {
		t.Error(err)
	}
	if result == porcupine.Unknown {
		t.Errorf("whether there is an order of these calls was not found out; see %s", picture)
		return
	}
	t.Errorf("no order of these calls explains their answers; see %s", picture)
}

// mischief breaks the world in one way after the other.
type mischief struct {
	*world
	h *history
	r *rand.Rand
}

func (m mischief) sleep(from, to time.Duration) {
	time.Sleep(from + time.Duration(m.r.Int64N(int64(to-from)+1)))
}

func (m mischief) one() {
	m.sleep(100*time.Millisecond, 600*time.Millisecond)
	leader := m.leader()
	others := slices.DeleteFunc(slices.Clone(m.ids), func(id string) bool { return id == leader })
	ways := map[string]func(){
		// Clients go on talking to a leader that the others have given up.
		"leader cut from nodes": func() {
			for _, id := range others {
				m.net.CutBoth(leader, id)
			}
			m.sleep(500*time.Millisecond, 3*time.Second)
		},
		// It hears the others, who do not hear it; and the other way round.
		"leader mute": func() {
			for _, id := range others {
				m.net.Cut(leader, id)
			}
			m.sleep(300*time.Millisecond, 2*time.Second)
		},
		"leader deaf": func() {
			for _, id := range others {
				m.net.Cut(id, leader)
			}
			m.sleep(300*time.Millisecond, 2*time.Second)
		},
		// A leader that waits for its disk does not notice that it is cut off.
		"leader hangs and is cut from nodes": func() {
			m.disks[leader].Hang()
			m.sleep(0, 50*time.Millisecond)
			for _, id := range others {
				m.net.CutBoth(leader, id)
			}
			m.sleep(1200*time.Millisecond, 1600*time.Millisecond) // after 2 s the node would end itself
			m.disks[leader].Resume()
			m.sleep(0, 100*time.Millisecond)
		},
		// What is under way is carried out, and nobody hears of it.
		"connections of the leader reset": func() { m.net.Reset(leader) },
		"leader isolated": func() {
			m.net.Isolate(leader)
			m.sleep(300*time.Millisecond, 2*time.Second)
		},
		"leader killed": func() {
			m.net.Isolate(leader) // so that it can say no more to anybody
			m.stop(leader)
			m.net.Rejoin(leader)
			m.run(leader, m.config(leader))
		},
		"leader stopped": func() {
			m.stop(leader)
			m.sleep(0, time.Second)
			m.run(leader, m.config(leader))
		},
		"leadership transferred": func() {
			ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
			defer cancel()
			to := others[m.r.IntN(len(others))]
			// That it may be refused, or its outcome unknown, is part of the game.
			_, _ = m.witness(to).TransferLeadership(ctx, &witnessv1.TransferLeadershipRequest{To: to})
		},
		"follower cut": func() {
			m.net.Isolate(others[m.r.IntN(len(others))])
			m.sleep(300*time.Millisecond, 2*time.Second)
		},
		"disk of the leader hangs": func() {
			m.disks[leader].Hang()
			m.sleep(50*time.Millisecond, 400*time.Millisecond)
			m.disks[leader].Resume()
		},
	}
	names := slices.Sorted(maps.Keys(ways))
	name := names[m.r.IntN(len(names))]
	began := m.h.now()
	ways[name]()
	m.net.HealAll()
	m.h.faults = append(m.h.faults, porcupine.Annotation{
		Tag: "faults", Start: began, End: m.h.now(), Description: name + ": " + leader,
	})
}

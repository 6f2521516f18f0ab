package whole

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	witnessv1 "github.com/witnessd/witnessd/proto/gen/witness/v1"
)

// The sizes of the long tests; a nightly run asks for more.
var (
	hoursFlag = flag.Float64("hours", 0.5, "hours of random faults in TestHours")
	seedFlag  = flag.Uint64("seed", 1, "seed of the random faults in TestHours")
	pairsFlag = flag.Int("pairs", 300, "pairs in TestHundredsOfPairs")
)

const (
	// manyHosts share the pairs of TestHundredsOfPairs.
	manyHosts = 20
	// manyPace is how often each of its clients writes.
	manyPace = 200 * time.Millisecond
	// manyGap is the longest time without an acknowledgement that a client may see there while nodes die: its own
	// pace, and as much again.
	manyGap = 2 * manyPace
)

// TestHundredsOfPairs is promise G3 for a witness that many share: the leader is killed and comes back, then
// another node, and no pair notices.
func TestHundredsOfPairs(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		w := newWorld(t)
		w.taps = false
		many(w, *pairsFlag)
		time.Sleep(lease) // every lease is one that was granted in peace
		before := w.all()
		from := w.now()
		leader := w.leader()
		leader.kill()
		w.until("new leader", time.Second, func() bool { return w.leading() != nil })
		time.Sleep(5 * time.Second)
		leader.start()
		time.Sleep(3 * time.Second)
		other := w.leader()
		other.vanish()
		time.Sleep(5 * time.Second)
		other.start()
		time.Sleep(3 * time.Second)
		for _, b := range w.pairs {
			for _, d := range b.copies {
				if turns := d.turnsSince(from); len(turns) > 0 {
					t.Errorf("%s on %s: %v", b.pair, d.name, turns)
				}
			}
			if gap := b.gap(from, w.now()); gap > manyGap {
				t.Errorf("%s: longest gap %v", b.pair, gap)
			}
		}
		for name, p := range w.all() {
			if was := before[name]; p.GetRevision() != was.GetRevision() || p.GetEpoch() != was.GetEpoch() ||
				p.GetRight() != witnessv1.Right_RIGHT_LEASED {
				t.Errorf("%s: epoch %d revision %d, was epoch %d revision %d", name, p.GetEpoch(), p.GetRevision(),
					was.GetEpoch(), was.GetRevision())
			}
		}
	})
}

// many makes that many pairs, each on two of the hosts, and waits until all are armed.
func many(w *world, pairs int) {
	w.t.Helper()
	random := rand.New(rand.NewPCG(1, 1))
	var hosts []*host
	for i := range manyHosts {
		hosts = append(hosts, w.newHost(fmt.Sprintf("h%02d", i), time.Duration(random.Int64N(int64(1000*time.Hour)))))
	}
	for i := range pairs {
		first := i % manyHosts
		second := (first + 1 + i/manyHosts%(manyHosts-1)) % manyHosts
		w.addPair(fmt.Sprintf("pair%03d", i), 5432+i, hosts[first], hosts[second])
	}
	for _, b := range w.pairs {
		w.create(b)
	}
	for _, h := range hosts {
		h.startAgent()
	}
	for _, b := range w.pairs {
		b.clients(manyPace, &w.clients, w.stopClients)
	}
	w.until("all pairs are armed", 30*time.Second, func() bool {
		time.Sleep(250 * time.Millisecond)
		for _, p := range w.all() {
			if p.GetRight() != witnessv1.Right_RIGHT_LEASED || p.GetProcedure() != nil || !p.GetFailoverReady() {
				return false
			}
		}
		return true
	})
}

// all is every pair by name, as the leader has it.
func (w *world) all() map[string]*witnessv1.Pair {
	w.t.Helper()
	r, err := w.admin(w.leader().id).ListPairs(w.t.Context(), &witnessv1.ListPairsRequest{})
	if err != nil {
		w.t.Fatal(err)
	}
	all := map[string]*witnessv1.Pair{}
	for _, p := range r.GetPairs() {
		all[p.GetName()] = p
	}
	if len(all) != len(w.pairs) {
		w.t.Fatalf("%d pairs, want %d", len(all), len(w.pairs))
	}
	return all
}

package crash

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	witnessv1 "github.com/witnessd/witnessd/proto/gen/witness/v1"
)

var (
	kills = flag.Int("kills", 20, "how often TestKills kills a node")
	seed  = flag.Uint64("seed", 0, "seed of TestKills; 0: another each time")
	live  = flag.Int("live", 0, "with so many pairs that have real agents and databases besides")
)

// TestKills kills nodes at any moment, one, two or all, and starts them again on what is on their disks, while
// clients change pairs and take backups. In the end every change that was acknowledged is on every node, all
// nodes are equal, and every backup holds what once was. From the last of them a new witness is made.
func TestKills(t *testing.T) {
	if *seed == 0 {
		*seed = rand.Uint64()
	}
	t.Logf("seed %d", *seed)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute+time.Duration(*kills)*5*time.Second)
	defer cancel()
	var agents []string
	for i := range *live {
		agents = append(agents, fmt.Sprint("live-", i))
	}
	w := startWitness(ctx, t, agents...)
	l := startLoad(ctx, t, w, *seed)
	b := startBackups(ctx, w, l)
	rng := rand.New(rand.NewPCG(*seed, 1000))
	for done := 0; done < *kills && !t.Failed(); {
		wait(ctx, rng, 700)
		n, err := w.strike(ctx, rng)
		if err != nil {
			t.Fatal(err)
		}
		done += n
	}
	wait(ctx, rng, 700)
	b.stop()
	l.stop()
	for _, problem := range w.settle(ctx, l) {
		t.Error(problem)
	}
	if _, err := w.WaitArmed(ctx, patience); err != nil {
		t.Error(err)
	}
	for _, problem := range b.check(t) {
		t.Error(problem)
	}
	for _, line := range w.complaints() {
		t.Error(line)
	}
	t.Logf("%d changes acknowledged, %d answers lost, %d pairs, %d backups, terms %v",
		l.acknowledged.Load(), l.unknown.Load(), len(l.all()), len(b.taken), w.terms)
	// An answer is lost only if a node dies within it: over a few kills that may not happen.
	unknown := l.unknown.Load() > 0 || *kills < 100
	if l.acknowledged.Load() < int64(*kills) || !unknown || len(b.taken) == 0 {
		t.Fatal("too little happened for this to prove anything")
	}
	t.Run("restore", func(t *testing.T) { w.restored(ctx, t, b.taken[len(b.taken)-1]) })
}

func wait(ctx context.Context, rng *rand.Rand, most int) {
	select {
	case <-ctx.Done():
	case <-time.After(time.Duration(rng.IntN(most)) * time.Millisecond):
	}
}

// strike kills one node, at times two or all three at once, and starts them again in any order.
func (w *witness) strike(ctx context.Context, rng *rand.Rand) (killed int, err error) {
	killed = []int{1, 1, 1, 1, 1, 1, 2, 2, 3, 3}[rng.IntN(10)]
	victims := rng.Perm(len(w.clients))[:killed]
	var dying sync.WaitGroup
	for _, v := range victims {
		dying.Go(w.clients[v].node.Kill)
	}
	dying.Wait()
	for _, v := range victims {
		wait(ctx, rng, 300)
		if err := w.clients[v].node.Start(); err != nil {
			return killed, err
		}
	}
	for _, v := range victims {
		if err := w.opened(ctx, w.clients[v]); err != nil {
			return killed, err
		}
	}
	return killed, nil
}

// settle waits until all nodes know the same, and compares that with what the clients were told.
func (w *witness) settle(ctx context.Context, l *load) (problems []string) {
	rng := rand.New(rand.NewPCG(0, 0))
	for _, p := range l.all() {
		// A read through the leader: what was asked for last, and was not answered, has happened now or never will.
		if err := l.settlePair(ctx, rng, p); err != nil {
			return append(problems, err.Error())
		}
	}
	views, err := w.alike(ctx)
	if err != nil {
		return append(problems, err.Error())
	}
	return append(problems, compare(views[0], l.all())...)
}

// alike waits until all nodes have come to the same index. Then they must know the same.
func (w *witness) alike(ctx context.Context) ([]view, error) {
	views := make([]view, len(w.clients))
	same := func() (yes bool, err error) {
		for i, c := range w.clients {
			if views[i], err = c.view(ctx); err != nil || views[i].index != views[0].index {
				return false, err
			}
		}
		return true, nil
	}
	var last error
	for end := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		yes, err := same()
		if yes {
			break
		}
		if last = err; time.Now().After(end) {
			return views, fmt.Errorf("the nodes do not come to the same index: %d, %d, %d: %w",
				views[0].index, views[1].index, views[2].index, last)
		}
	}
	var problems []error
	for i, v := range views {
		for _, problem := range differences(v, views[0]) {
			problems = append(problems, fmt.Errorf("node %s differs from node %s: %s",
				w.clients[i].node.ID, w.clients[0].node.ID, problem))
		}
	}
	return views, errors.Join(problems...)
}

// settlePair reads a pair until somebody answers.
func (l *load) settlePair(ctx context.Context, rng *rand.Rand, p *tracked) error {
	return l.persist(ctx, rng, func(ctx context.Context, c client) error {
		r, err := c.admin.ListPairs(ctx, &witnessv1.ListPairsRequest{})
		if err != nil {
			return err
		}
		i := slices.IndexFunc(r.GetPairs(), func(m *witnessv1.Pair) bool { return m.GetName() == p.name })
		switch {
		case i < 0 && p.revision > 0 && !p.removing:
			return permanent(fmt.Errorf("pair %s is lost: it was at revision %d", p.name, p.revision))
		case i < 0:
			p.removed = true
			return nil
		case p.removed:
			return permanent(fmt.Errorf("pair %s was removed and is there", p.name))
		}
		return permanent(p.read(r.GetPairs()[i]))
	})
}

func differences(a, b view) (found []string) {
	if len(a.pairs) != len(b.pairs) {
		found = append(found, fmt.Sprintf("%d pairs, not %d", len(a.pairs), len(b.pairs)))
	}
	for name, p := range a.pairs {
		if !proto.Equal(p, b.pairs[name]) {
			found = append(found, fmt.Sprintf("pair %s is %v, not %v", name, p, b.pairs[name]))
		}
	}
	if !slices.EqualFunc(a.events, b.events, func(x, y *witnessv1.Event) bool { return proto.Equal(x, y) }) {
		found = append(found, fmt.Sprintf("the history has %d events, not the same as the other's %d",
			len(a.events), len(b.events)))
	}
	return found
}

// compare looks for every pair of the clients in what the nodes know, and the other way round.
func compare(v view, all []*tracked) (problems []string) {
	left := maps.Clone(v.pairs)
	for _, p := range all {
		m := left[p.name]
		delete(left, p.name)
		switch {
		case p.removed != (m == nil):
			problems = append(problems, fmt.Sprintf("pair %s: removed %v, and is there: %v", p.name, p.removed, m != nil))
		case m == nil:
		case m.GetRevision() != p.revision || contentOf(m) != p.now():
			problems = append(problems, fmt.Sprintf("pair %s is at revision %d with %+v, want %d with %+v",
				p.name, m.GetRevision(), contentOf(m), p.revision, p.now()))
		}
	}
	for name := range left {
		if strings.HasPrefix(name, "live-") {
			continue
		}
		problems = append(problems, fmt.Sprintf("pair %s was never created", name))
	}
	return problems
}

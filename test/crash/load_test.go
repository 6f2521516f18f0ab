package crash

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	witnessv1 "github.com/witnessd/witnessd/proto/gen/witness/v1"
	"github.com/witnessd/witnessd/witnessd/pair"
)

const (
	clients = 4
	// pairsEach is how many pairs each client has to itself: with one client per pair it is known what every
	// revision holds, also of those whose answer was lost.
	pairsEach = 6

	callTimeout = 2 * time.Second
	// patience is how long the witness may be without an answer. All three nodes may have been killed, on a
	// machine that runs other tests.
	patience = 30 * time.Second
)

// load is clients that change pairs all the time.
type load struct {
	t      *testing.T
	w      *witness
	enough atomic.Bool // each client ends after the change that it is at, so that none is still on its way
	ended  sync.WaitGroup

	acknowledged atomic.Int64
	unknown      atomic.Int64 // changes whose answer was lost

	mu    sync.Mutex
	pairs []*tracked
}

// startLoad creates the pairs and starts the clients.
func startLoad(ctx context.Context, t *testing.T, w *witness, seed uint64) *load {
	t.Helper()
	l := &load{t: t, w: w}
	for c := range clients {
		l.ended.Go(func() {
			rng := rand.New(rand.NewPCG(seed, uint64(c)))
			if err := l.client(ctx, rng, c); err != nil && ctx.Err() == nil {
				t.Errorf("client %d: %v", c, err)
				l.enough.Store(true)
			}
		})
	}
	return l
}

func (l *load) stop() {
	l.enough.Store(true)
	l.ended.Wait()
}

// goesOn waits until more changes are acknowledged.
func (l *load) goesOn() bool {
	const more = 60
	had := l.acknowledged.Load()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if l.acknowledged.Load() >= had+more {
			return true
		}
	}
	return false
}

// all returns every pair that a client has begun to create.
func (l *load) all() []*tracked {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]*tracked{}, l.pairs...)
}

// client changes its pairs one after the other, and now and then puts a new one in the place of an old one.
func (l *load) client(ctx context.Context, rng *rand.Rand, number int) error {
	mine := make([]*tracked, pairsEach)
	made := 0
	for !l.enough.Load() {
		i := rng.IntN(len(mine))
		var err error
		switch {
		case mine[i] == nil:
			made++
			mine[i], err = l.create(ctx, rng, fmt.Sprintf("pair-%d-%d", number, made))
		case mine[i].revision > 5 && rng.IntN(40) == 0: // so old that no attempt to create it is still on its way
			err = l.remove(ctx, rng, mine[i])
			mine[i] = nil
		default:
			err = l.change(ctx, rng, mine[i])
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (l *load) create(ctx context.Context, rng *rand.Rand, name string) (*tracked, error) {
	p := newTracked(name)
	want := content{mode: pair.ModeAutomatic.String(), timeout: pair.DefaultPolicy().ReleaseTimeout}
	p.next(want)
	l.mu.Lock()
	l.pairs = append(l.pairs, p)
	l.mu.Unlock()
	request := &witnessv1.CreatePairRequest{
		Name: name, Primary: name + "-a", By: "crash",
		Members: []*witnessv1.Member{{Host: name + "-a", Instance: "db"}, {Host: name + "-b", Instance: "db"}},
	}
	// The same name with the same hosts again is answered like the first time.
	err := l.persist(ctx, rng, func(ctx context.Context, c client) error {
		r, err := c.admin.CreatePair(ctx, request)
		if err != nil {
			return err
		}
		return permanent(p.acknowledged(r.GetPair(), want))
	})
	return p, err
}

// change asks once. If the answer is lost, it reads what has become of it.
func (l *load) change(ctx context.Context, rng *rand.Rand, p *tracked) error {
	want, ask := p.wish(rng)
	revision := p.next(want)
	var now *witnessv1.Pair
	err := l.w.call(ctx, rng, func(ctx context.Context, c client) (err error) {
		now, err = ask(ctx, c, revision)
		return err
	})
	if err == nil {
		l.acknowledged.Add(1)
		return p.acknowledged(now, want)
	}
	l.unknown.Add(1)
	return l.persist(ctx, rng, func(ctx context.Context, c client) error {
		r, err := c.admin.GetPair(ctx, &witnessv1.GetPairRequest{Pair: p.name})
		if err != nil {
			return err
		}
		return permanent(p.read(r.GetPair()))
	})
}

// request asks for a change that was decided on a revision.
type request func(ctx context.Context, c client, revision uint64) (*witnessv1.Pair, error)

// wish is a change that the pair has not had before: what is already so would not be written down.
func (p *tracked) wish(rng *rand.Rand) (want content, ask request) {
	p.changes++
	want = p.now()
	switch manual := pair.ModeManual.String(); {
	case rng.IntN(2) == 0:
		want.timeout = pair.DefaultPolicy().ReleaseTimeout + time.Duration(p.changes)*time.Millisecond
		return want, func(ctx context.Context, c client, revision uint64) (*witnessv1.Pair, error) {
			r, err := c.admin.SetPolicy(ctx, &witnessv1.SetPolicyRequest{
				Pair: p.name, ExpectedRevision: revision, By: "crash",
				Policy: &witnessv1.Policy{ReleaseTimeout: durationpb.New(want.timeout)},
			})
			return r.GetPair(), err
		}
	case want.mode == manual && rng.IntN(2) == 0:
		want.mode, want.reason = pair.ModeAutomatic.String(), ""
		return want, func(ctx context.Context, c client, revision uint64) (*witnessv1.Pair, error) {
			r, err := c.admin.Resume(ctx, &witnessv1.ResumeRequest{Pair: p.name, ExpectedRevision: revision, By: "crash"})
			return r.GetPair(), err
		}
	default:
		want.mode, want.reason = manual, fmt.Sprintf("reason %d of %s", p.changes, p.name)
		return want, func(ctx context.Context, c client, revision uint64) (*witnessv1.Pair, error) {
			r, err := c.admin.Pause(ctx, &witnessv1.PauseRequest{
				Pair: p.name, ExpectedRevision: revision, By: "crash", Reason: want.reason,
			})
			return r.GetPair(), err
		}
	}
}

func (l *load) remove(ctx context.Context, rng *rand.Rand, p *tracked) error {
	p.removing = true
	err := l.persist(ctx, rng, func(ctx context.Context, c client) error {
		_, err := c.admin.RemovePair(ctx, &witnessv1.RemovePairRequest{Pair: p.name, By: "crash"})
		if status.Code(err) == codes.NotFound {
			return nil // by a former attempt
		}
		return err
	})
	p.mu.Lock()
	defer p.mu.Unlock()
	p.removed = err == nil
	return err
}

// errPermanent wraps what is wrong with an answer, as opposed to there being none.
type errPermanent struct{ error }

func permanent(err error) error {
	if err == nil {
		return nil
	}
	return errPermanent{err}
}

// persist asks one node after the other until one answers.
func (l *load) persist(ctx context.Context, rng *rand.Rand, ask func(context.Context, client) error) error {
	var last error
	for end := time.Now().Add(patience); time.Now().Before(end); {
		err := l.w.call(ctx, rng, ask)
		if wrong, ok := errors.AsType[errPermanent](err); ok {
			return wrong.error
		}
		if err == nil || ctx.Err() != nil {
			return err
		}
		last = err
		select {
		case <-ctx.Done():
		case <-time.After(20 * time.Millisecond):
		}
	}
	return fmt.Errorf("no node has answered for %v: %w", patience, last)
}

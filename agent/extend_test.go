package agent

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/witnessd/witnessd/agent/engine"
	"github.com/witnessd/witnessd/agent/hold"
)

// ownLease is an engine that has a lease of its own.
type ownLease struct {
	engine.Engine
	mu   sync.Mutex
	left []time.Duration
	err  error
}

func (l *ownLease) Extend(_ context.Context, left time.Duration) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.left = append(l.left, left)
	return l.err
}

func (l *ownLease) told() []time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	list := l.left
	l.left = nil
	return list
}

func TestExtend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		clock := func() hold.Instant { return hold.Instant(time.Since(began)) }
		eng := &ownLease{err: errors.New("busy")}
		x := newExtender(eng, clock, slog.New(slog.DiscardHandler))
		done := make(chan struct{})
		ctx, cancel := context.WithCancel(t.Context())
		go func() { defer close(done); x.run(ctx) }()
		expect := func(what string, want ...time.Duration) {
			t.Helper()
			synctest.Wait()
			if got := eng.told(); !slices.Equal(got, want) {
				t.Errorf("%s: extended by %v, want %v", what, got, want)
			}
		}
		time.Sleep(6 * time.Second)
		expect("nothing was opened")
		x.open(hold.Renew{Epoch: 1, Until: clock().Add(3 * time.Second)})
		expect("a renewal", 3*time.Second)
		time.Sleep(extendEvery)
		expect("it has run out")
		x.open(hold.Renew{Epoch: 1, Endless: true})
		expect("without an end", endlessLease)
		time.Sleep(2 * extendEvery)
		expect("again and again", endlessLease, endlessLease)
		x.shut()
		time.Sleep(2 * extendEvery)
		expect("shut")
		cancel()
		<-done
	})
}

func TestEngineWithoutLease(t *testing.T) {
	x := newExtender(nil, nil, slog.New(slog.DiscardHandler))
	x.open(hold.Renew{Epoch: 1, Endless: true})
	x.run(t.Context()) // returns at once
}

package webhook

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/witnessd/witnessd/witnessd/ledger"
)

// Options say what a sender works with. Hooks, Ledger and Propose are needed.
type Options struct {
	Hooks  []Hook
	Ledger *ledger.Ledger
	// Propose puts an entry into the log and returns when it is applied on this node.
	Propose func(ctx context.Context, entry []byte) error
	// Transport makes the calls; nil: over the network, by the proxy that the environment names, if any.
	Transport http.RoundTripper
	// Now is the wall clock, for signatures and metrics.
	Now      func() time.Time
	Registry prometheus.Registerer
	Log      *slog.Logger
}

// Sender calls the webhooks while its node leads.
type Sender struct {
	hooks     []Hook
	ledger    *ledger.Ledger
	propose   func(ctx context.Context, entry []byte) error
	transport http.RoundTripper
	now       func() time.Time
	log       *slog.Logger
	metrics   *metrics
}

// New returns a sender that has read every secret once: a node whose webhooks cannot work says so at its start.
func New(o Options) (*Sender, error) {
	s := &Sender{
		hooks: o.Hooks, ledger: o.Ledger, propose: o.Propose, transport: o.Transport, now: o.Now, log: o.Log,
	}
	for _, h := range s.hooks {
		if _, err := ReadKeys(h.SecretFile); err != nil {
			return nil, fmt.Errorf("webhook %s: %w", h.Name, err)
		}
	}
	if s.now == nil {
		s.now = wallClock
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.transport == nil {
		s.transport = &http.Transport{
			Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true,
			MaxIdleConnsPerHost: 1, IdleConnTimeout: time.Minute, MaxResponseHeaderBytes: 64 << 10,
		}
	}
	var err error
	s.metrics, err = newMetrics(s.hooks, s.now, o.Registry)
	return s, err
}

// Run calls the webhooks for as long as this node leads, which is until ctx ends. It must be called after a barrier
// of the term was applied, and returns when everything of it has ended.
func (s *Sender) Run(ctx context.Context) {
	if len(s.hooks) == 0 {
		return
	}
	t := &term{Sender: s, bell: newBell(), moved: make(chan struct{}, 1)}
	var parts sync.WaitGroup
	defer parts.Wait()
	parts.Go(func() { t.listen(ctx) })
	parts.Go(func() { t.record(ctx) })
	for _, h := range s.hooks {
		w := &walk{term: t, hook: h, log: s.log.With("webhook", h.Name)}
		t.walks = append(t.walks, w)
	}
	for _, w := range t.walks {
		parts.Go(func() { w.run(ctx) })
	}
}

// sleep waits; false if ctx has ended.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

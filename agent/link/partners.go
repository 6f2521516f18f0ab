package link

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"time"

	"github.com/witnessd/witnessd/agent/hold"
	witnessv1 "github.com/witnessd/witnessd/proto/gen/witness/v1"
)

// PartnerOptions say who speaks and who listens. The callbacks come from the links' goroutines, several at a
// time; one that does not return holds up its own link and no other.
type PartnerOptions struct {
	Host   string // this host, as pairs name it
	Start  string // of this start of the agent
	Dial   dialFunc
	Logger *slog.Logger // nil: none

	// OnAnswer hands over a partner's answer to the request that was sent with that sequence.
	OnAnswer func(partner string, sequence uint64, says []hold.Says)
	// OnAsk answers a partner's request. It must return when ctx ends; without an answer by then the request
	// is dropped, and the partner asks again with its next heartbeat. So it is after any error.
	OnAsk func(ctx context.Context, from string, says []hold.Says) ([]hold.Says, error)
	// OnState is called when what is known of the link to a partner has changed: Node is its host, Endpoint
	// its address. A link is up from its first answer on. May be nil.
	OnState func(SessionState)
}

const (
	// linkSilence is for how long requests may go unanswered before the connection is taken for dead. It is
	// shorter than the default lease, so that a connection which a firewall has forgotten is replaced before a
	// primary that lives on its partner lease has to stop.
	linkSilence = 1500 * time.Millisecond
	// askTime is how long OnAsk has for an answer: less than the asker waits before it gives the link up.
	askTime = time.Second
)

// Partners keeps one link to each partner host, and answers the links that partners keep to this host.
type Partners struct {
	options PartnerOptions
	links   chan struct{} // one token for each stream that is open here
	changed outbox[struct{}]

	mu      sync.Mutex
	peers   map[string]string // wanted: link address by host
	callers map[string]*caller
}

// NewPartners prepares the links; Run opens them, Serve answers.
func NewPartners(o PartnerOptions) *Partners {
	if o.Dial == nil {
		o.Dial = dialTCP
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.OnState == nil {
		o.OnState = func(SessionState) {}
	}
	return &Partners{
		options: o,
		links:   make(chan struct{}, maxLinks),
		changed: newOutbox[struct{}](),
		callers: map[string]*caller{},
	}
}

// SetPeers says which partner hosts there are and where their agents listen. It never waits and may be called
// at any time, also with what is set already.
func (p *Partners) SetPeers(addresses map[string]string) {
	p.mu.Lock()
	same := maps.Equal(p.peers, addresses)
	if !same {
		p.peers = maps.Clone(addresses)
	}
	p.mu.Unlock()
	if !same {
		p.changed.put(struct{}{})
	}
}

// Run keeps the links until ctx ends. It is called once.
func (p *Partners) Run(ctx context.Context) error {
	if err := checkName("host", p.options.Host); err != nil {
		return fmt.Errorf("links to partners: %w", err)
	}
	var running sync.WaitGroup
	defer running.Wait()
	for {
		select {
		case <-p.changed:
			p.review(ctx, &running)
		case <-ctx.Done():
			return nil
		}
	}
}

// review opens and ends links so that they are those that are wanted.
func (p *Partners) review(ctx context.Context, running *sync.WaitGroup) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for host, c := range p.callers {
		if p.peers[host] != c.address {
			c.stop(errUnwanted)
			delete(p.callers, host)
		}
	}
	for host, address := range p.peers {
		if address == "" || host == p.options.Host || p.callers[host] != nil {
			continue
		}
		ctx, stop := context.WithCancelCause(ctx)
		c := &caller{partners: p, host: host, address: address, stop: stop}
		p.callers[host] = c
		running.Go(func() {
			defer stop(nil)
			c.run(ctx)
		})
	}
}

// Send sends a request to a partner. It never waits. While there is no link nothing is sent: by the time there
// is, the request would be old. Its answer, if there is one, comes to OnAnswer with the sequence, which must
// rise with every request to the same host.
func (p *Partners) Send(host string, sequence uint64, says []hold.Says) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c := p.callers[host]; c != nil && c.out != nil {
		c.out.put(&witnessv1.LinkRequest{
			Host: utf(p.options.Host), Start: utf(p.options.Start), Sequence: sequence, Pairs: partnerSays(says),
		})
	}
}

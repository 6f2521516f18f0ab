package link

import (
	"context"
	"errors"
	"sync"
	"time"

	"google.golang.org/grpc"

	witnessv1 "github.com/witnessd/witnessd/proto/gen/witness/v1"
)

type linkStream = grpc.BidiStreamingClient[witnessv1.LinkRequest, witnessv1.LinkResponse]

// caller is the link from this host to a partner.
type caller struct {
	partners *Partners
	host     string
	address  string
	stop     context.CancelCauseFunc

	// Of the goroutine in run.
	pace    pace
	settled <-chan time.Time
	told    SessionState

	// Guarded by Partners.mu.
	out outbox[*witnessv1.LinkRequest] // nil unless the link is up
}

func (c *caller) run(ctx context.Context) {
	for {
		c.settled = nil
		open := func(ctx context.Context, conn grpc.ClientConnInterface) (linkStream, error) {
			return witnessv1.NewPartnerServiceClient(conn).Link(ctx)
		}
		err := connect(ctx, c.address, c.partners.options.Dial, open, c.talk)
		if c.ended(ctx) {
			return
		}
		reason, detail, refused := explain(err)
		c.tell(SessionState{Reason: reason, Detail: detail})
		if !pause(ctx, c.pace.delay(ready(c.settled), refused)) {
			c.ended(ctx)
			return
		}
	}
}

// ended says whether the link is to end, and tells if that is for another reason than the agent's end.
func (c *caller) ended(ctx context.Context) bool {
	if ctx.Err() == nil {
		return false
	}
	if errors.Is(context.Cause(ctx), errUnwanted) {
		c.tell(SessionState{Reason: ReasonNotReached, Detail: errUnwanted.Error(), Forgotten: true})
	}
	return true
}

// talk sends what is put into the outbox and hears the answers.
func (c *caller) talk(
	ctx context.Context, stream linkStream, opened func(), fail context.CancelCauseFunc,
) error {
	opened()
	pending := newPending(func() { fail(errSilent) })
	defer pending.stop()

	out := newOutbox[*witnessv1.LinkRequest]()
	var sender sync.WaitGroup
	defer sender.Wait()
	defer fail(nil)
	sender.Go(func() {
		pump(ctx, stream, out, func(m *witnessv1.LinkRequest) { pending.sent(m.GetSequence()) }, fail)
	})

	c.setOut(out)
	defer c.setOut(nil)
	for {
		message, err := stream.Recv()
		if err != nil {
			return err
		}
		if err := c.check(message); err != nil {
			return err
		}
		if err := pending.answered(message.GetSequence()); err != nil {
			return err
		}
		if c.settled == nil { // the first answer: only now is anybody known to be there
			c.settled = time.After(settleTime)
			c.tell(SessionState{Up: true})
		}
		c.partners.options.OnAnswer(c.host, message.GetSequence(), saysOf(message.GetPairs()))
	}
}

// check refuses above all an answer of another host: hold counts a lease as the mirror's by the name of the
// host that was called (rule R7), and the address may be out of date.
func (c *caller) check(m *witnessv1.LinkResponse) error {
	if m.GetHost() != c.host {
		return malformed("%s is answered by host %q, not by %s", c.address, text(m.GetHost()), c.host)
	}
	return checkPairs(m.GetPairs())
}

func (c *caller) setOut(out outbox[*witnessv1.LinkRequest]) {
	c.partners.mu.Lock()
	defer c.partners.mu.Unlock()
	c.out = out
}

func (c *caller) tell(state SessionState) {
	state.Endpoint, state.Node = c.address, c.host
	if state != c.told {
		c.told = state
		c.partners.options.OnState(state)
	}
}

// pending watches over what was sent on one link and not answered yet. Keepalive would notice a dead
// connection too, but only after KeepaliveTime and KeepaliveTimeout.
type pending struct {
	silence *time.Timer

	mu      sync.Mutex
	newest  uint64 // sent
	last    uint64 // answered
	waiting bool   // silence is running
}

func newPending(silent func()) *pending {
	p := &pending{silence: time.AfterFunc(linkSilence, silent)}
	p.silence.Stop()
	return p
}

func (p *pending) stop() { p.silence.Stop() }

func (p *pending) sent(sequence uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.newest = max(p.newest, sequence)
	if !p.waiting {
		p.waiting = true
		p.silence.Reset(linkSilence)
	}
}

// answered refuses an answer to nothing that was sent on this link, and one that was answered before.
func (p *pending) answered(sequence uint64) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if sequence <= p.last || sequence > p.newest {
		return malformed("answer to request %d; the newest is %d, of which %d was answered last",
			sequence, p.newest, p.last)
	}
	p.last = sequence
	if p.waiting = sequence < p.newest; p.waiting {
		p.silence.Reset(linkSilence)
	} else {
		p.silence.Stop()
	}
	return nil
}

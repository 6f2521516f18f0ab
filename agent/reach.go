package agent

import (
	"context"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/witnessd/witnessd/agent/hold"
)

const (
	// reachEvery is how often a mirror's agent knocks at the address where clients reach the primary.
	reachEvery = 5 * time.Second
	// reachPatience bounds one knock.
	reachPatience = 2 * time.Second
	// reachTries is how many knocks in a row must fail before it is said.
	reachTries = 3
)

// reach tells whether a primary that serves can be reached at the address that its clients have: from the partner's
// host, which is the nearest thing to a client that there is. No decision rests on it: a client network that is down
// looks the same from here as a rule of the network's that keeps only this host out.
type reach struct {
	dial func(ctx context.Context, address string) error

	mu      sync.Mutex
	address string // where clients reach the partner, which serves; "": there is nothing to try
	failed  int
	err     error
}

// look names the address to try from now on.
func (r *reach) look(address string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if address != r.address {
		r.address, r.failed, r.err = address, 0, nil
	}
}

// warning is what an operator should know; empty if nothing.
func (r *reach) warning() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.failed < reachTries {
		return ""
	}
	return fmt.Sprintf("the primary serves, and its clients' address %s cannot be reached from this host: %s", r.address,
		oneLine(r.err.Error()))
}

// run knocks until ctx ends.
func (r *reach) run(ctx context.Context) {
	for pause(ctx, reachEvery) == nil {
		r.mu.Lock()
		address := r.address
		r.mu.Unlock()
		if address == "" {
			continue
		}
		try, cancel := context.WithTimeout(ctx, reachPatience)
		err := r.dial(try, address)
		cancel()
		r.mu.Lock()
		if r.address == address && ctx.Err() == nil {
			if r.err = err; err == nil {
				r.failed = 0
			} else {
				r.failed++
			}
		}
		r.mu.Unlock()
	}
}

// knock tries an address as the agent's other connections are made.
func (a *Agent) knock(ctx context.Context, address string) error {
	if a.opts.Dial == nil {
		return knock(ctx, address)
	}
	conn, err := a.opts.Dial(ctx, address)
	if err != nil {
		return err
	}
	return conn.Close()
}

// knock makes a connection and ends it.
func knock(ctx context.Context, address string) error {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	return conn.Close()
}

// servedAt is the address at which the partner serves clients, as far as it was heard a moment ago; "" if it does not.
func (i *instance) servedAt(now hold.Instant) string {
	f := i.state.File
	if !i.managed || f.Primary != f.Peer.Host || !i.peer.serving || now.Sub(i.peer.at) > f.Timing.Lease {
		return ""
	}
	return f.Peer.ServiceAddress
}

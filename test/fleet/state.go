package fleet

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	witnessv1 "github.com/witnessd/witnessd/proto/gen/witness/v1"
)

// ask calls one node after the other until one answers.
func (f *Fleet) ask(ctx context.Context, call func(context.Context, *grpc.ClientConn) error) error {
	var last error
	for _, n := range f.Nodes {
		conn, err := grpc.NewClient("passthrough:///"+n.API, grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
				return f.outside.dial(ctx, "tcp", address)
			}))
		if err != nil {
			return err
		}
		one, cancel := context.WithTimeout(ctx, time.Second)
		last = call(one, conn)
		cancel()
		_ = conn.Close()
		if last == nil {
			return nil
		}
	}
	return last
}

// Leader returns the node that leads.
func (f *Fleet) Leader(ctx context.Context) (*Node, error) {
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		var leader string
		err := f.ask(ctx, func(ctx context.Context, c *grpc.ClientConn) error {
			r, err := witnessv1.NewWitnessServiceClient(c).GetStatus(ctx, &witnessv1.GetStatusRequest{})
			leader = r.GetLeader()
			return err
		})
		for _, n := range f.Nodes {
			if err == nil && n.ID == leader {
				return n, nil
			}
		}
	}
	return nil, errors.New("the witness has had no leader for 10 s")
}

// Get reads a pair from the leader.
func (f *Fleet) Get(ctx context.Context, pair string) (*witnessv1.Pair, error) {
	var p *witnessv1.Pair
	err := f.ask(ctx, func(ctx context.Context, c *grpc.ClientConn) error {
		r, err := witnessv1.NewAdminServiceClient(c).GetPair(ctx, &witnessv1.GetPairRequest{Pair: pair})
		p = r.GetPair()
		return err
	})
	return p, err
}

// Events reads a pair's history since the event with that sequence; 0: the newest.
func (f *Fleet) Events(ctx context.Context, pair string, after uint64) ([]*witnessv1.Event, error) {
	var events []*witnessv1.Event
	err := f.ask(ctx, func(ctx context.Context, c *grpc.ClientConn) error {
		request := &witnessv1.ListEventsRequest{Pair: pair, Limit: 100}
		if after > 0 {
			request.After = &after
		}
		r, err := witnessv1.NewAdminServiceClient(c).ListEvents(ctx, request)
		events = r.GetEvents()
		return err
	})
	return events, err
}

// Armed says whether the record permits a failover and the leader would carry one out.
func Armed(p *witnessv1.Pair) bool {
	return p.GetRight() == witnessv1.Right_RIGHT_LEASED && p.GetFailoverReady() && p.GetProcedure() == nil
}

// WaitArmed waits until every named pair (all if none is named) is armed, and says how long that took.
func (f *Fleet) WaitArmed(ctx context.Context, limit time.Duration, pairs ...string) (time.Duration, error) {
	if len(pairs) == 0 {
		pairs = f.opts.Pairs
	}
	began := time.Now()
	for _, name := range pairs {
		for {
			p, err := f.Get(ctx, name)
			if err == nil && Armed(p) {
				break
			}
			if waited := time.Since(began); waited > limit || ctx.Err() != nil {
				return waited, fmt.Errorf("pair %s is not armed after %v: right %v, %s (%w)", name, waited.Round(time.Second),
					p.GetRight(), p.GetFailoverBlocked().GetDetail(), errors.Join(err, ctx.Err()))
			}
			time.Sleep(100 * time.Millisecond)
		}
	}
	return time.Since(began), nil
}

// Primary returns the host whose agent says that it serves the pair, and the other one.
func (p *Pair) Primary() (primary, mirror *Host, err error) {
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		for i, h := range p.Hosts {
			if h.Says("/primary") {
				return h, p.Hosts[1-i], nil
			}
		}
	}
	return nil, nil, fmt.Errorf("no host of pair %s has served for 10 s", p.Name)
}

// Says asks an endpoint of the host's agent as a load balancer would.
func (h *Host) Says(path string) bool {
	client := http.Client{
		Timeout:   300 * time.Millisecond,
		Transport: &http.Transport{DialContext: h.fleet.outside.dial, DisableKeepAlives: true},
	}
	r, err := client.Get("http://" + h.HTTP + path)
	if err != nil {
		return false
	}
	_ = r.Body.Close()
	return r.StatusCode == http.StatusOK
}

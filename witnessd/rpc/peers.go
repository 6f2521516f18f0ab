package rpc

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
)

// peers keeps a connection to each node that this one has passed something on to.
type peers struct {
	address     func(node string) string
	dial        func(ctx context.Context, address string) (net.Conn, error)
	credentials credentials.TransportCredentials

	mu     sync.Mutex
	conns  map[string]*grpc.ClientConn // by address
	closed bool
}

// errClosing: this node is being stopped, or the other one was removed.
var errClosing = errors.New("the connection is being closed")

// reach bounds how long one attempt to reach a node may take: a call that waits for a leader tries again.
const reach = 500 * time.Millisecond

// ready returns a connection that is up, so that a call on it that fails is known to have been sent or not.
func (p *peers) ready(ctx context.Context, node string) (*grpc.ClientConn, error) {
	conn, err := p.conn(p.address(node))
	if err != nil {
		return nil, fmt.Errorf("connect to node %s: %w", node, err)
	}
	ctx, cancel := context.WithTimeout(ctx, reach)
	defer cancel()
	conn.Connect()
	for state := conn.GetState(); state != connectivity.Ready; state = conn.GetState() {
		if state == connectivity.Shutdown {
			return nil, fmt.Errorf("connect to node %s: %w", node, errClosing)
		}
		if !conn.WaitForStateChange(ctx, state) {
			return nil, fmt.Errorf("connect to node %s: %w", node, ctx.Err())
		}
	}
	return conn, nil
}

func (p *peers) conn(address string) (*grpc.ClientConn, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch conn := p.conns[address]; {
	case p.closed:
		return nil, errClosing
	case address == "":
		return nil, errors.New("its API address is not known")
	case conn != nil:
		return conn, nil
	}
	conn, err := grpc.NewClient("passthrough:///"+address,
		grpc.WithTransportCredentials(p.credentials),
		grpc.WithContextDialer(p.dial),
		grpc.WithDisableServiceConfig(),
		// The default of a second and more would be most of a lease.
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1.5, Jitter: 0.2, MaxDelay: reach},
			MinConnectTimeout: time.Second,
		}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: alive, Timeout: alive / 5, PermitWithoutStream: true}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage)),
	)
	if err != nil {
		return nil, err
	}
	p.conns[address] = conn
	return conn, nil
}

// keep closes the connections to nodes that are no longer there.
func (p *peers) keep(addresses map[string]bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for address, conn := range p.conns {
		if !addresses[address] {
			_ = conn.Close()
			delete(p.conns, address)
		}
	}
}

func (p *peers) close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.keep(nil)
}

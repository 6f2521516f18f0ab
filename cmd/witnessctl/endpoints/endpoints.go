// Package endpoints calls a witness of several nodes as if it were one: any node takes every call, so a
// node that is down, frozen or without a leader only means that the next one is asked, within the
// caller's deadline.
//
// It keeps apart what must never be confused: the witness said no ([Refusal]), nobody answered
// ([Unanswered]), and a request was sent whose answer never came (Doubt in both).
package endpoints

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"
)

// Options say whom to call and how.
type Options struct {
	Addresses []string // host:port of each node's API
	// Dial opens a connection.
	Dial func(ctx context.Context, address string) (net.Conn, error)
	// Report hears, in a sentence, why another node is asked; may be nil.
	Report func(text string)
}

// Set is the nodes of one witness. One goroutine may use it at a time.
type Set struct {
	nodes  []*node // in the order in which they are asked
	dial   func(ctx context.Context, address string) (net.Conn, error)
	report func(string)
	doing  atomic.Value // string
}

type node struct {
	address string
	conn    *grpc.ClientConn // nil, or was ready when last used
}

// Times of getting a connection.
const (
	// stagger is how long one node may take before the next is tried beside it. Somebody on call must not
	// wait for a dead node that happens to be named first.
	stagger = 250 * time.Millisecond
	// pause is how long to wait once every node was asked in vain; an election takes about half a second.
	pause = 250 * time.Millisecond
	// maxMessage lets one answer hold some ten thousand pairs.
	maxMessage = 64 << 20
)

// New returns a set; nothing is connected before the first call.
func New(o Options) (*Set, error) {
	if len(o.Addresses) == 0 {
		return nil, errors.New("no endpoint of the witness is known")
	}
	s := &Set{dial: o.Dial, report: o.Report}
	if s.report == nil {
		s.report = func(string) {}
	}
	for _, a := range o.Addresses {
		if _, port, err := net.SplitHostPort(a); err != nil || port == "" {
			return nil, fmt.Errorf("endpoint %q is not host:port", a)
		}
		if !slices.ContainsFunc(s.nodes, func(n *node) bool { return n.address == a }) {
			s.nodes = append(s.nodes, &node{address: a})
		}
	}
	return s, nil
}

// Addresses lists the endpoints, the one that answered last first.
func (s *Set) Addresses() []string {
	var list []string
	for _, n := range s.nodes {
		list = append(list, n.address)
	}
	return list
}

// Next puts the endpoint that answered last at the end of the order.
func (s *Set) Next() { s.after(s.nodes[0]) }

// Trying says what came of asking so far. It may be called while another method runs.
func (s *Set) Trying() string {
	text, _ := s.doing.Load().(string)
	return text
}

// Close ends all connections.
func (s *Set) Close() error {
	var errs []error
	for _, n := range s.nodes {
		if n.conn != nil {
			errs = append(errs, n.conn.Close())
			n.conn = nil
		}
	}
	return errors.Join(errs...)
}

// ready returns a node with a connection: the first that has one, in the order of the set with a head
// start for each. failed hears why others have none. The error is that of the context, or errAllFailed.
func (s *Set) ready(ctx context.Context, failed func(*node, error)) (*node, error) {
	ctx, cancel := context.WithCancel(ctx)
	type result struct {
		node *node
		err  error
	}
	results := make(chan result, len(s.nodes))
	var dials sync.WaitGroup
	defer dials.Wait()
	defer cancel()

	waiting := slices.Clone(s.nodes)
	running := 0
	next := func() {
		n := waiting[0]
		waiting = waiting[1:]
		running++
		dials.Go(func() { results <- result{n, n.connect(ctx, s.dial)} })
	}
	next()
	for running > 0 {
		var more <-chan time.Time
		if len(waiting) > 0 {
			more = time.After(stagger)
		}
		select {
		case r := <-results:
			running--
			if r.err == nil {
				return r.node, nil
			}
			failed(r.node, r.err)
			if len(waiting) > 0 && ctx.Err() == nil {
				next()
			}
		case <-more:
			next()
		}
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	return nil, errAllFailed
}

var errAllFailed = errors.New("no endpoint can be connected to")

// connect makes sure that the node has a connection that is ready.
func (n *node) connect(ctx context.Context, dial func(context.Context, string) (net.Conn, error)) error {
	if n.conn != nil {
		if n.conn.GetState() == connectivity.Ready {
			return nil
		}
		n.drop()
	}
	refused := make(chan error, 1) // why the newest dial failed
	conn, err := grpc.NewClient("passthrough:///"+n.address,
		grpc.WithTransportCredentials(transport()),
		// A dialer of our own also keeps the proxy of a person's desktop out of it.
		grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
			c, err := dial(ctx, address)
			if err != nil {
				select {
				case refused <- err:
				default:
				}
			}
			return c, err
		}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage)),
		grpc.WithUserAgent("witnessctl"))
	if err != nil {
		return err
	}
	conn.Connect()
	for state := conn.GetState(); ; state = conn.GetState() {
		switch state {
		case connectivity.Ready:
			n.conn = conn
			return nil
		case connectivity.TransientFailure, connectivity.Shutdown:
			select {
			case err = <-refused:
				err = bare(err)
			default:
				err = errors.New("the connection was closed at once: is this the API of a witness?")
			}
			return errors.Join(err, conn.Close())
		case connectivity.Idle, connectivity.Connecting:
		}
		if !conn.WaitForStateChange(ctx, state) {
			return errors.Join(errors.New("did not answer"), conn.Close())
		}
	}
}

// drop forgets the connection. That closing it failed would change nothing.
func (n *node) drop() {
	if n.conn != nil {
		_ = n.conn.Close()
		n.conn = nil
	}
}

// after puts a node at the end of the order.
func (s *Set) after(n *node) {
	i := slices.Index(s.nodes, n)
	s.nodes = append(slices.Delete(s.nodes, i, i+1), n)
}

// first puts a node at the front of the order.
func (s *Set) first(n *node) {
	i := slices.Index(s.nodes, n)
	s.nodes = slices.Insert(slices.Delete(s.nodes, i, i+1), 0, n)
}

// bare takes off what a reader already knows: that it was a dial, and to where.
func bare(err error) error {
	if op, ok := errors.AsType[*net.OpError](err); ok {
		return op.Err
	}
	return err
}

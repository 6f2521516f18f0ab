package witnessd

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/witnessd/witnessd/raftstore"
	"github.com/witnessd/witnessd/witnessd/arbiter"
	"github.com/witnessd/witnessd/witnessd/journal"
	"github.com/witnessd/witnessd/witnessd/ledger"
	"github.com/witnessd/witnessd/witnessd/pair"
	"github.com/witnessd/witnessd/witnessd/rpc"
	"github.com/witnessd/witnessd/witnessd/webhook"
)

// Options replace what a node takes from the machine it runs on. All are optional.
type Options struct {
	Log     *slog.Logger
	Version string
	// OnFault is told that this node must not go on, because its disk hangs or fails, or because it can
	// neither decide nor hand over. It should end the process at once, without waiting for that disk. Nil panics.
	OnFault func(error)

	// The network: listeners that replace those of the configuration, and how to reach another node's API.
	Stream  raftstore.StreamLayer
	API     net.Listener
	HTTP    net.Listener
	DialAPI func(ctx context.Context, address string) (net.Conn, error)
	// Credentials is where transport security will come in; until then everything is in the clear.
	Credentials rpc.Credentials

	// Webhooks makes the calls of webhooks; nil: over the machine's network.
	Webhooks http.RoundTripper

	// The disk and the clocks.
	Stores *raftstore.Stores
	Clock  func() pair.Instant
	Wall   func() int64
}

func (o *Options) complete() {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.OnFault == nil {
		o.OnFault = func(err error) { panic(err) }
	}
	if o.Clock == nil {
		o.Clock = bootClock
	}
	if o.Wall == nil {
		o.Wall = wallClock
	}
	if o.DialAPI == nil {
		o.DialAPI = func(ctx context.Context, address string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "tcp", address)
		}
	}
}

// Node is one running node of the witness.
type Node struct {
	config  Config
	log     *slog.Logger
	onFault func(error)

	ledger   *ledger.Ledger
	store    *raftstore.Store
	arbiter  *arbiter.Arbiter
	journal  *journal.Journal
	webhooks *webhook.Sender
	rpc      *rpc.Server
	registry *prometheus.Registry

	api  net.Listener
	http net.Listener // nil: not served
}

// New opens a node: its disk and its listeners. It serves nothing before Run.
func New(c Config, o Options) (*Node, error) {
	o.complete()
	n := &Node{
		config: c, log: o.Log, onFault: o.OnFault, ledger: ledger.New(), registry: prometheus.NewRegistry(),
		api: o.API, http: o.HTTP,
	}
	if err := n.listen(&o); err != nil {
		return nil, errors.Join(err, n.closeListeners())
	}
	if err := n.open(o); err != nil {
		return nil, errors.Join(err, n.closeListeners())
	}
	return n, nil
}

func (n *Node) listen(o *Options) (err error) {
	if n.api == nil {
		if n.api, err = net.Listen("tcp", n.config.API.Listen); err != nil {
			return fmt.Errorf("listen for agents and clients: %w", err)
		}
	}
	// With a network handed in, nothing is opened on the machine's own.
	if n.http == nil && o.API == nil && n.config.HTTP.Listen != "" {
		if n.http, err = net.Listen("tcp", n.config.HTTP.Listen); err != nil {
			return fmt.Errorf("listen for metrics: %w", err)
		}
	}
	if o.Stream == nil {
		if o.Stream, err = raftstore.ListenTCP(n.config.Raft.Listen, n.config.Raft.Advertise); err != nil {
			return err
		}
	}
	return nil
}

func (n *Node) closeListeners() error {
	var err error
	for _, l := range []net.Listener{n.api, n.http} {
		if l != nil {
			err = errors.Join(err, l.Close())
		}
	}
	return err
}

func (n *Node) open(o Options) (err error) {
	metrics := newMetrics()
	if n.journal, err = journal.New(n.log, n.registry); err != nil {
		return fmt.Errorf("prepare the journal: %w", err)
	}
	var first []raftstore.Server
	if !n.config.Join {
		for _, node := range n.config.Nodes {
			first = append(first, raftstore.Server{ID: node.ID, Address: node.Raft})
		}
	}
	n.store, err = raftstore.Open(raftstore.Options{
		ID: n.config.Node, Dir: n.config.DataDir, Stream: o.Stream, Machine: n.ledger, Logger: n.log,
		Bootstrap: first, Timing: timings()[n.config.Raft.Profile], OnFault: n.onFault, Stores: o.Stores,
	})
	if err != nil {
		return fmt.Errorf("open the replicated log in %s: %w", n.config.DataDir, err)
	}
	n.arbiter = arbiter.New(arbiter.Options{
		Log: arbiterLog{n.store}, Ledger: n.ledger, Clock: o.Clock, Wall: o.Wall, NewID: newID,
		Fence: n.config.Fencing.fence(n.log), Observer: metrics, Logger: n.log,
	})
	if n.webhooks, err = n.newWebhooks(o); err != nil {
		return errors.Join(err, n.store.Close())
	}
	n.rpc = rpc.New(rpc.Options{
		Node: n.config.Node, Version: o.Version, Court: court{n.arbiter}, Group: group{n}, Ledger: n.ledger,
		Known: n.config.known(), Dial: o.DialAPI, Credentials: o.Credentials,
		Wall: o.Wall, Uptime: stopwatch(), Log: n.log,
	})
	return metrics.register(n)
}

func (n *Node) newWebhooks(o Options) (*webhook.Sender, error) {
	var hooks []webhook.Hook
	for _, h := range n.config.Webhooks {
		hooks = append(hooks, webhook.Hook(h))
	}
	return webhook.New(webhook.Options{
		Hooks: hooks, Ledger: n.ledger, Transport: o.Webhooks, Registry: n.registry, Log: n.log,
		Propose: func(ctx context.Context, entry []byte) error {
			_, err := n.store.Propose(ctx, entry)
			return err
		},
		Now: func() time.Time { return time.UnixMilli(o.Wall()) },
	})
}

// known are the nodes by the configuration.
func (c Config) known() []ledger.Node {
	var all []ledger.Node
	for _, n := range c.Nodes {
		all = append(all, ledger.Node{ID: n.ID, RaftAddress: n.Raft, APIAddress: n.API})
	}
	return all
}

// newID makes a random UUID: two nodes that never heard of each other must not give one id twice, nor a
// witness that was restored.
func newID() pair.ID {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return pair.ID(fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:]))
}

// handover bounds how long a node that stops waits for another leader, and for its streams to end.
const handover = 3 * time.Second

// Run serves until ctx ends, hands the leadership over if it has it, and returns when everything has ended.
func (n *Node) Run(ctx context.Context) error {
	work, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	var parts sync.WaitGroup
	failed := make(chan error, 3)
	run := func(what string, part func() error) {
		parts.Go(func() {
			if err := part(); err != nil {
				failed <- fmt.Errorf("%s: %w", what, err)
			}
		})
	}
	run("lead", func() error {
		if err := n.store.Lead(work, n.lead); !errors.Is(err, raftstore.ErrClosed) && work.Err() == nil {
			return err
		}
		return nil
	})
	run("serve agents and clients", func() error { return n.rpc.Serve(work, n.api) })
	server := n.httpServer()
	if n.http != nil {
		run("serve metrics", func() error {
			if err := server.Serve(n.http); !errors.Is(err, http.ErrServerClosed) {
				return err
			}
			return nil
		})
	}
	n.log.InfoContext(ctx, "node started", "node", n.config.Node,
		"api", n.api.Addr().String(), "data_dir", n.config.DataDir)
	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	n.handOver(work)
	n.rpc.Stop()
	err = errors.Join(err, server.Close())
	stop()
	err = errors.Join(err, n.store.Close())
	parts.Wait()
	n.log.InfoContext(ctx, "node stopped", "node", n.config.Node)
	return err
}

// handOver makes another node the leader before this one goes, so that nobody waits for an election.
func (n *Node) handOver(ctx context.Context) {
	if n.store.State() != raftstore.Leader || len(n.store.Servers()) < 2 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, handover)
	defer cancel()
	if err := n.store.TransferLeadership(ctx, ""); err != nil && !errors.Is(err, raftstore.ErrNotLeader) {
		n.log.WarnContext(ctx, "leadership not handed over", "error", err)
	}
}

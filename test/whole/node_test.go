package whole

import (
	"context"
	"errors"
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	witnessv1 "github.com/witnessd/witnessd/proto/gen/witness/v1"
	"github.com/witnessd/witnessd/raftstore"
	"github.com/witnessd/witnessd/raftstore/raftstoretest"
	"github.com/witnessd/witnessd/witnessd"
	"github.com/witnessd/witnessd/witnessd/pair"
)

const (
	raftPort = 7400
	apiPort  = 7401
)

// node is one machine of the witness: its disk, and the process that runs on it or does not.
type node struct {
	w     *world
	id    string
	disk  *raftstoretest.Disk
	clock time.Duration          // what its clock showed when the world began
	voted func(candidate string) // is told of each vote that it writes down; nil: nobody is
	proc  *process
}

// process is one run of a node. A dead one reaches nobody and is reached by nobody.
type process struct {
	*raftstoretest.Stream
	host  *raftstoretest.Host
	api   net.Listener
	dead  atomic.Bool
	stop  context.CancelFunc
	ended chan error
}

// Dial is the process's way to other nodes' logs.
func (p *process) Dial(to string, timeout time.Duration) (net.Conn, error) {
	if p.dead.Load() {
		return nil, syscall.ECONNREFUSED
	}
	return p.Stream.Dial(to, timeout)
}

func (p *process) dialAPI(ctx context.Context, to string) (net.Conn, error) {
	if p.dead.Load() {
		return nil, syscall.ECONNREFUSED
	}
	return dial(ctx, p.host, to)
}

func (w *world) newNode(id string, clock time.Duration) *node {
	n := &node{w: w, id: id, disk: raftstoretest.NewDisk(), clock: clock}
	w.nodes = append(w.nodes, n)
	return n
}

// run starts the node's process.
func (n *node) run() {
	w := n.w
	host := w.net.Host(n.id)
	stream, err := host.Stream(raftPort)
	if err != nil {
		w.t.Fatal(err)
	}
	api, err := host.Listen(apiPort)
	if err != nil {
		w.t.Fatal(err)
	}
	p := &process{Stream: stream, host: host, api: api, ended: make(chan error, 1)}
	c := witnessd.DefaultConfig()
	c.Node = n.id
	for _, other := range w.nodes {
		c.Nodes = append(c.Nodes, witnessd.NodeConfig{ID: other.id, Raft: other.id + ":7400", API: other.id + ":7401"})
	}
	c.Raft.Advertise, c.API.Advertise = n.id+":7400", n.id+":7401"
	stores := n.disk.Stores()
	stores.Stable = votes{raftstoreStable: stores.Stable, n: n}
	running, err := witnessd.New(c, witnessd.Options{
		Log: w.logger(n.id), Version: "test", Stream: p, API: api, DialAPI: p.dialAPI, Stores: stores,
		Clock: func() pair.Instant { return pair.Instant(n.clock + w.now()) },
		OnFault: func(err error) {
			if !p.dead.Load() {
				w.t.Errorf("node %s: %v", n.id, err)
			}
		},
	})
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	p.stop, n.proc = stop, p
	go func() { p.ended <- running.Run(ctx) }()
	w.logf("node %s runs", n.id)
}

// kill ends the process as kill -9 does: nothing is handed over, and its peers' connections break at once.
func (n *node) kill() {
	p := n.proc
	p.dead.Store(true)
	_ = p.Stream.Close()
	_ = p.api.Close()
	n.w.net.Reset(n.id)
	p.stop()
	n.w.logf("node %s killed", n.id)
}

// vanish ends the whole machine: its peers hear nothing at all.
func (n *node) vanish() {
	n.w.net.Isolate(n.id)
	n.kill()
}

// gone waits until the last of a dead process has ended: it has the disk until then.
func (n *node) gone() {
	if p := n.proc; p != nil {
		if err := <-p.ended; err != nil && !p.dead.Load() {
			n.w.t.Errorf("node %s: %v", n.id, err)
		}
		n.proc = nil
	}
}

// start starts the node again, after kill or vanish.
func (n *node) start() {
	n.gone()
	n.w.net.Reset(n.id)
	n.w.net.Rejoin(n.id)
	n.run()
}

func (n *node) alive() bool { return n.proc != nil && !n.proc.dead.Load() }

// votes tells of the votes that a node writes down.
type votes struct {
	raftstoreStable
	n *node
}

// raftstoreStable is what raftstore.Stores has for terms and votes.
type raftstoreStable = interface {
	Set(key, value []byte) error
	Get(key []byte) ([]byte, error)
	SetUint64(key []byte, value uint64) error
	GetUint64(key []byte) (uint64, error)
}

// Set keeps a value, and passes on for whom a vote was.
func (v votes) Set(key, value []byte) error {
	err := v.raftstoreStable.Set(key, value)
	if voted := v.n.voted; err == nil && voted != nil && string(key) == "LastVoteCand" {
		voted(string(value))
	}
	return err
}

// dial connects for gRPC. Its calls on a connection that cannot be written to are tried again at once until the
// reader finds it broken too, and while somebody is busy the time of a bubble stands still: so a connection whose
// write fails ends for its reader at that very instant.
func dial(ctx context.Context, from *raftstoretest.Host, to string) (net.Conn, error) {
	conn, err := from.Dial(ctx, to)
	if err != nil {
		return nil, err
	}
	return brittle{conn}, nil
}

type brittle struct{ net.Conn }

// Write writes, and closes what it cannot write to.
func (c brittle) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		_ = c.Close()
	}
	return n, err
}

// conn is an operator's connection to a node.
func (w *world) conn(id string) *grpc.ClientConn {
	if w.conns[id] == nil {
		conn, err := grpc.NewClient("passthrough:///"+id+":7401",
			grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithContextDialer(func(ctx context.Context, to string) (net.Conn, error) {
				return dial(ctx, w.net.Host("operator"), to)
			}))
		if err != nil {
			w.t.Fatal(err)
		}
		w.conns[id] = conn
	}
	return w.conns[id]
}

func (w *world) admin(id string) witnessv1.AdminServiceClient {
	return witnessv1.NewAdminServiceClient(w.conn(id))
}

// leading is the node that the others follow, nil if there is none.
func (w *world) leading() *node {
	for _, n := range w.nodes {
		if !n.alive() {
			continue
		}
		ctx, cancel := context.WithTimeout(w.t.Context(), 100*time.Millisecond)
		st, err := witnessv1.NewWitnessServiceClient(w.conn(n.id)).GetStatus(ctx,
			&witnessv1.GetStatusRequest{Local: true})
		cancel()
		if err == nil && st.GetLeader() == n.id && st.GetReady() {
			return n
		}
	}
	return nil
}

// leader waits for a leader.
func (w *world) leader() *node {
	w.t.Helper()
	var n *node
	w.until("there is a leader", 5*time.Second, func() bool {
		n = w.leading()
		return n != nil
	})
	return n
}

// followers are the living nodes that do not lead.
func (w *world) followers() []*node {
	w.t.Helper()
	leader := w.leader()
	var rest []*node
	for _, n := range w.nodes {
		if n != leader && n.alive() {
			rest = append(rest, n)
		}
	}
	return rest
}

var _ raftstore.StreamLayer = (*process)(nil)

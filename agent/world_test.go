package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/witnessd/witnessd/agent/engine"
	"github.com/witnessd/witnessd/agent/hold"
	"github.com/witnessd/witnessd/agent/link"
	witnessv1 "github.com/witnessd/witnessd/proto/gen/witness/v1"
)

// world is a witness that says what the test wants, and hosts with real agents, in memory and virtual time.
type world struct {
	t     *testing.T
	began time.Time

	mu        sync.Mutex
	listeners map[string]*bufconn.Listener
	conns     map[string][]net.Conn
	cuts      map[string]bool

	nodes []*fakeNode
	pairs []*witnessv1.PairAnswer // the records; instance and partner are filled in by host
	// procedure is under way for every pair; nil: none is.
	procedure *witnessv1.Procedure
}

func newWorld(t *testing.T, nodes int) *world {
	t.Helper()
	w := &world{
		t: t, began: time.Now(), listeners: map[string]*bufconn.Listener{}, conns: map[string][]net.Conn{},
		cuts: map[string]bool{},
	}
	for n := range nodes {
		w.nodes = append(w.nodes, w.node(fmt.Sprintf("w%d:7401", n+1)))
	}
	return w
}

func (w *world) clock() hold.Instant { return hold.Instant(time.Since(w.began) + time.Hour) }

func (w *world) listen(address string) (net.Listener, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.listeners[address] = bufconn.Listen(256 << 10)
	return w.listeners[address], nil
}

func (w *world) dial(ctx context.Context, address string) (net.Conn, error) {
	w.mu.Lock()
	l, cut := w.listeners[address], w.cuts[address]
	w.mu.Unlock()
	if l == nil || cut {
		return nil, errors.New("connection refused")
	}
	conn, err := l.DialContext(ctx)
	if err == nil {
		w.mu.Lock()
		w.conns[address] = append(w.conns[address], conn)
		w.mu.Unlock()
	}
	return conn, err
}

// cut ends and refuses connections to the address.
func (w *world) cut(address string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cuts[address] = true
	for _, c := range w.conns[address] {
		_ = c.Close()
	}
}

// set changes what the witness says.
func (w *world) set(change func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	change()
}

// fakeNode is a node of the witness. Its fields are guarded by world.mu.
type fakeNode struct {
	witnessv1.UnimplementedAgentServiceServer
	w       *world
	name    string
	silent  bool // hears and does not answer
	noLease bool
	term    uint64
	removed []string
	heard   []*witnessv1.Heartbeat
	granted map[string]time.Time // when the last lease was granted, by host
	streams []grpc.BidiStreamingServer[witnessv1.SessionRequest, witnessv1.SessionResponse]
}

func (w *world) node(address string) *fakeNode {
	n := &fakeNode{w: w, name: address, term: 3, granted: map[string]time.Time{}}
	server := grpc.NewServer(grpc.WaitForHandlers(true), grpc.KeepaliveEnforcementPolicy(
		keepalive.EnforcementPolicy{MinTime: link.KeepaliveMinTime, PermitWithoutStream: true}))
	witnessv1.RegisterAgentServiceServer(server, n)
	listener, _ := w.listen(address)
	go func() { _ = server.Serve(listener) }()
	w.t.Cleanup(server.Stop)
	return n
}

func (n *fakeNode) Session(s grpc.BidiStreamingServer[witnessv1.SessionRequest, witnessv1.SessionResponse]) error {
	hello, err := s.Recv()
	if err != nil {
		return err
	}
	if err := s.Send(&witnessv1.SessionResponse{Message: &witnessv1.SessionResponse_Welcome{
		Welcome: &witnessv1.Welcome{Node: n.name},
	}}); err != nil {
		return err
	}
	n.w.set(func() { n.streams = append(n.streams, s) })
	for {
		m, err := s.Recv()
		if err != nil {
			return err
		}
		if a := n.answer(hello.GetHello().GetHost(), m.GetHeartbeat()); a != nil {
			if err := s.Send(&witnessv1.SessionResponse{Message: &witnessv1.SessionResponse_Answer{Answer: a}}); err != nil {
				return err
			}
		}
	}
}

func (n *fakeNode) answer(host string, hb *witnessv1.Heartbeat) *witnessv1.Answer {
	n.w.mu.Lock()
	defer n.w.mu.Unlock()
	n.heard = append(n.heard, hb)
	if n.silent {
		return nil
	}
	a := &witnessv1.Answer{Sequence: hb.GetSequence(), Term: n.term, Removed: n.removed}
	for _, r := range n.w.pairs {
		a.Pairs = append(a.Pairs, &witnessv1.PairAnswer{
			Pair: r.GetPair(), Name: r.GetPair(), Instance: r.GetInstance(), Stage: witnessv1.Stage_STAGE_READY,
			Revision: r.GetRevision(), Epoch: r.GetEpoch(), Primary: r.GetPrimary(), Mirror: r.GetMirror(),
			Right: r.GetRight(), Mode: r.GetMode(), Policy: policy(),
			LongestLease: durationpb.New(3 * time.Second), Partner: partnerOf(host), Procedure: n.w.procedure,
		})
		if !n.noLease && r.GetPrimary() == host {
			a.Pairs[len(a.Pairs)-1].Lease = durationpb.New(3 * time.Second)
			n.granted[host] = time.Now()
		}
	}
	return a
}

func policy() *witnessv1.Policy {
	return &witnessv1.Policy{
		Heartbeat: durationpb.New(500 * time.Millisecond), Lease: durationpb.New(3 * time.Second),
		Guard: durationpb.New(300 * time.Millisecond), MirrorTimeout: durationpb.New(2 * time.Second),
	}
}

func partnerOf(host string) *witnessv1.Member {
	other := map[string]string{"db1": "db2", "db2": "db1"}[host]
	return &witnessv1.Member{Host: other, Instance: "main", LinkAddress: other + ":7412", ServiceAddress: other + ":5432"}
}

// leased is the record of a pair whose mirror can take over.
func leased() *witnessv1.PairAnswer {
	return &witnessv1.PairAnswer{Pair: "p-1", Instance: "main", Revision: 7, Epoch: 1, Primary: "db1", Mirror: "db2",
		Right: witnessv1.Right_RIGHT_LEASED, Mode: witnessv1.Mode_MODE_AUTOMATIC}
}

// last is what the node heard last about an instance's pair, if anything.
func (n *fakeNode) last(find func(*witnessv1.PairReport) bool) *witnessv1.PairReport {
	n.w.mu.Lock()
	defer n.w.mu.Unlock()
	for _, hb := range slices.Backward(n.heard) {
		for _, r := range hb.GetPairs() {
			if find(r) {
				return r
			}
		}
	}
	return nil
}

// fakeDB is an engine whose database is a few words.
type fakeDB struct {
	mu       sync.Mutex
	st       engine.State
	runs     int
	calls    []string
	fenced   []time.Time
	closed   int
	exits    chan engine.Exit
	onLook   func() // called with mu held
	onFollow func(ctx context.Context) error
	onFence  func()
	// onHandOver is called before the database is stopped.
	onHandOver func()
}

func newDB() *fakeDB {
	return &fakeDB{exits: make(chan engine.Exit, 4), st: engine.State{
		Data: engine.DataPresent, SystemID: "s-1", Position: engine.Position{Timeline: 1, Offset: 10},
	}}
}

func (d *fakeDB) run(call string, role engine.Role, commits engine.Commits) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.calls = append(d.calls, call)
	if !d.st.Running {
		d.runs++
	}
	d.st.Running, d.st.Role, d.st.Commits, d.st.Run = true, role, commits, fmt.Sprint("run", d.runs)
	d.st.Following, d.st.Promotable = role == engine.RoleMirror, role == engine.RoleMirror
	d.st.Mirror = engine.MirrorSeen{Attached: role == engine.RolePrimary, Flushed: d.st.Position}
	return nil
}

func (d *fakeDB) halt(call string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.calls = append(d.calls, call)
	if call == "fence" {
		d.fenced = append(d.fenced, time.Now())
	}
	d.st.Running, d.st.Role, d.st.Commits, d.st.Run = false, engine.RoleNone, engine.CommitsUnknown, ""
	d.st.Following, d.st.Mirror = false, engine.MirrorSeen{}
	return nil
}

func (d *fakeDB) Kind() string              { return "fake" }
func (d *fakeDB) Address() string           { return "here:5432" }
func (d *fakeDB) Exits() <-chan engine.Exit { return d.exits }
func (d *fakeDB) Observe(context.Context) (engine.State, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.onLook != nil {
		d.onLook()
	}
	return d.st, nil
}
func (d *fakeDB) Follow(ctx context.Context, _ engine.Peer, _ func(engine.Progress)) error {
	if d.onFollow != nil {
		return d.onFollow(ctx)
	}
	return d.run("follow", engine.RoleMirror, engine.CommitsUnknown)
}
func (d *fakeDB) Standby(context.Context) error {
	return d.run("standby", engine.RoleMirror, engine.CommitsUnknown)
}
func (d *fakeDB) Promote(context.Context, engine.Peer) error {
	return d.run("promote", engine.RolePrimary, engine.CommitsHeld)
}
func (d *fakeDB) HoldCommits(context.Context, engine.Peer) error {
	return d.run("hold", engine.RolePrimary, engine.CommitsHeld)
}
func (d *fakeDB) ReleaseCommits(context.Context) error {
	return d.run("alone", engine.RolePrimary, engine.CommitsAlone)
}
func (d *fakeDB) HandOver(context.Context, engine.Peer) (engine.Handover, error) {
	if d.onHandOver != nil {
		d.onHandOver()
	}
	return engine.Handover{MirrorHasEverything: true}, d.halt("hand over")
}
func (d *fakeDB) Stop(context.Context) error { return d.halt("stop") }
func (d *fakeDB) Fence(context.Context) error {
	if d.onFence != nil {
		d.onFence()
	}
	return d.halt("fence")
}
func (d *fakeDB) LetGo(context.Context) error { return nil }
func (d *fakeDB) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed++
	return nil
}

func (d *fakeDB) role() engine.Role {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.st.Role
}

// ends is how often it was fenced, and the last time.
func (d *fakeDB) ends() (int, time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.fenced) == 0 {
		return 0, time.Time{}
	}
	return len(d.fenced), d.fenced[len(d.fenced)-1]
}

func (d *fakeDB) called(call string) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := 0
	for _, c := range d.calls {
		if c == call {
			n++
		}
	}
	return n
}

// partnerAddr is where every name leads.
var partnerAddr = netip.MustParseAddr("192.0.2.2")

// host is an agent and its database. The directories outlive a start of the agent.
type testHost struct {
	w          *world
	name       string
	state, run string
	db         *fakeDB
	kernel     *fakeKernel // nil: none
	agent      *Agent
	cancel     context.CancelFunc
	ended      chan error
}

func (w *world) host(name string) *testHost {
	dir := w.t.TempDir()
	return &testHost{w: w, name: name, state: filepath.Join(dir, "state"), run: filepath.Join(dir, "run"), db: newDB()}
}

// start starts the agent, or starts it again.
func (h *testHost) start() {
	h.w.t.Helper()
	c := DefaultConfig()
	c.Fence = Fence{} // in virtual time there is no kernel
	c.Host, c.StateDir, c.RunDir, c.HTTP.Listen = h.name, h.state, h.run, ""
	c.Link = Listen{Listen: h.name + ":7412", Advertise: h.name + ":7412"}
	c.Instances = []Instance{{Name: "main"}}
	c.Instances[0].Demo.Listen = "192.0.2.1:5432"
	for _, n := range h.w.nodes {
		c.Witness.Endpoints = append(c.Witness.Endpoints, n.name)
	}
	if h.kernel != nil {
		c.Fence = Fence{Level: FenceAuto, Table: "test", MirrorReads: true}
	}
	var logger *slog.Logger
	if testing.Verbose() {
		logger = slog.New(slog.NewTextHandler(h.w.t.Output(), nil)).With("host", h.name)
	}
	var err error
	h.agent, err = New(c, Options{
		Clock: h.w.clock, Dial: h.w.dial, Listen: h.w.listen, Logger: logger,
		Engines: map[string]engine.Engine{"main": h.db}, Kernel: h.kernel.open,
		Lookup: func(context.Context, string) ([]netip.Addr, error) { return []netip.Addr{partnerAddr}, nil },
	})
	if err != nil {
		h.w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(h.w.t.Context())
	h.cancel, h.ended = cancel, make(chan error, 1)
	go func() { h.ended <- h.agent.Run(ctx) }()
}

// stop is SIGTERM.
func (h *testHost) stop() {
	h.w.t.Helper()
	h.cancel()
	if err := <-h.ended; err != nil {
		h.w.t.Errorf("agent of %s: %v", h.name, err)
	}
}

// block makes a file impossible to replace, for root too.
func block(t *testing.T, dir, name string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Join(dir, name+".new"), 0o700); err != nil {
		t.Fatal(err)
	}
}

// inBubble runs a test in virtual time.
func inBubble(t *testing.T, nodes int, test func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { test(t, newWorld(t, nodes)) })
}

package witnessd_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	witnessv1 "github.com/witnessd/witnessd/proto/gen/witness/v1"
	"github.com/witnessd/witnessd/raftstore/raftstoretest"
	"github.com/witnessd/witnessd/witnessd"
	"github.com/witnessd/witnessd/witnessd/pair"
)

// world is a witness of whole nodes on a network in memory, in the virtual time of a bubble.
type world struct {
	t     *testing.T
	net   *raftstoretest.Network
	ids   []string
	disks map[string]*raftstoretest.Disk
	nodes map[string]*running
	conns map[string]*grpc.ClientConn
	start time.Time

	hooks     []witnessd.Webhook // in every node's configuration
	receivers http.RoundTripper
}

type running struct {
	stop context.CancelFunc
	done chan error
}

func newWorld(t *testing.T, ids ...string) *world { return newWorldWith(t, nil, nil, ids...) }

// newWorldWith has webhooks, and who receives them.
func newWorldWith(t *testing.T, hooks []witnessd.Webhook, receivers http.RoundTripper, ids ...string) *world {
	w := &world{
		hooks: hooks, receivers: receivers,
		t: t, net: raftstoretest.NewNetwork(), ids: ids, start: time.Now(),
		disks: make(map[string]*raftstoretest.Disk), nodes: make(map[string]*running),
		conns: make(map[string]*grpc.ClientConn),
	}
	w.net.SetLatency(200 * time.Microsecond)
	for _, id := range ids {
		w.disks[id] = raftstoretest.NewDisk()
		w.run(id, w.config(id))
	}
	t.Cleanup(func() {
		w.net.HealAll()
		for _, conn := range w.conns {
			_ = conn.Close()
		}
		for id := range w.nodes {
			w.stop(id)
		}
	})
	return w
}

func (w *world) config(id string) witnessd.Config {
	c := witnessd.DefaultConfig()
	c.Node, c.Webhooks = id, w.hooks
	c.Raft.Advertise, c.API.Advertise = id+":7400", id+":7401"
	for _, other := range w.ids {
		c.Nodes = append(c.Nodes, witnessd.NodeConfig{ID: other, Raft: other + ":7400", API: other + ":7401"})
	}
	return c
}

func (w *world) run(id string, c witnessd.Config) {
	w.t.Helper()
	host := w.net.Host(id)
	stream, err := host.Stream(7400)
	if err != nil {
		w.t.Fatal(err)
	}
	api, err := host.Listen(7401)
	if err != nil {
		w.t.Fatal(err)
	}
	o := witnessd.Options{
		Log: testLog(id), Version: "test", Stream: stream, API: api, DialAPI: host.Dial, Webhooks: w.receivers,
		Clock: func() pair.Instant { return pair.Instant(time.Since(w.start)) },
	}
	if disk := w.disks[id]; disk != nil {
		o.Stores = disk.Stores()
	}
	n, err := witnessd.New(c, o)
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{stop: cancel, done: make(chan error, 1)}
	w.nodes[id] = r
	go func() { r.done <- n.Run(ctx) }()
}

// testLog shows what the nodes log when WITNESSD_TEST_LOG is set.
func testLog(id string) *slog.Logger {
	if os.Getenv("WITNESSD_TEST_LOG") == "" {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug})).With("on", id)
}

// stop stops a node as SIGTERM does.
func (w *world) stop(id string) {
	w.nodes[id].stop()
	if err := <-w.nodes[id].done; err != nil {
		w.t.Errorf("node %s: %v", id, err)
	}
	delete(w.nodes, id)
}

// conn is a client's connection to a node.
func (w *world) conn(id string) *grpc.ClientConn {
	w.t.Helper()
	if w.conns[id] == nil {
		w.conns[id] = w.dial(id, "client")
	}
	return w.conns[id]
}

func (w *world) dial(id, from string) *grpc.ClientConn {
	w.t.Helper()
	conn, err := grpc.NewClient("passthrough:///"+id+":7401",
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
			return w.net.Host(from).Dial(ctx, address)
		}))
	if err != nil {
		w.t.Fatal(err)
	}
	return conn
}

func (w *world) admin(id string) witnessv1.AdminServiceClient {
	return witnessv1.NewAdminServiceClient(w.conn(id))
}

func (w *world) witness(id string) witnessv1.WitnessServiceClient {
	return witnessv1.NewWitnessServiceClient(w.conn(id))
}

// leader waits for a leader that a majority of the nodes agree on, and no reachable one denies.
func (w *world) leader() string {
	w.t.Helper()
	for range 400 {
		votes := make(map[string]int)
		for id := range w.nodes {
			if st, err := w.local(id); err == nil {
				votes[st.GetLeader()]++
			}
		}
		for leader, n := range votes {
			if st, err := w.local(leader); len(votes) == 1 && 2*n > len(w.ids) && err == nil && st.GetReady() {
				return leader
			}
		}
		time.Sleep(25 * time.Millisecond)
	}
	w.t.Fatal("no leader in 10 s")
	return ""
}

// local is what a node says by itself; an error if it cannot be reached.
func (w *world) local(id string) (*witnessv1.GetStatusResponse, error) {
	if w.nodes[id] == nil {
		return nil, errors.New("not running")
	}
	ctx, cancel := context.WithTimeout(w.t.Context(), 300*time.Millisecond)
	defer cancel()
	return w.witness(id).GetStatus(ctx, &witnessv1.GetStatusRequest{Local: true})
}

// follower is a running node that does not lead.
func (w *world) follower() string {
	w.t.Helper()
	leader := w.leader()
	for _, id := range w.ids {
		if _, err := w.local(id); id != leader && err == nil {
			return id
		}
	}
	w.t.Fatal("no follower")
	return ""
}

// until waits for something to become true.
func (w *world) until(what string, limit time.Duration, ok func() bool) {
	w.t.Helper()
	for start := time.Now(); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Since(start) > limit {
			w.t.Fatalf("not within %v: %s", limit, what)
		}
	}
}

func (w *world) createPair(by, name, primary, mirror string) {
	w.t.Helper()
	_, err := w.admin(by).CreatePair(w.t.Context(), &witnessv1.CreatePairRequest{
		Name: name, Primary: primary,
		Members: []*witnessv1.Member{{Host: primary, Instance: "db"}, {Host: mirror, Instance: "db"}},
	})
	if err != nil {
		w.t.Fatalf("create %s: %v", name, err)
	}
}

func (w *world) createSales(by string) *witnessv1.Pair {
	w.t.Helper()
	r, err := w.admin(by).CreatePair(w.t.Context(), salesRequest())
	if err != nil {
		w.t.Fatalf("create: %v", err)
	}
	return r.GetPair()
}

func salesRequest() *witnessv1.CreatePairRequest {
	return &witnessv1.CreatePairRequest{
		Name: "sales", Primary: "a", By: "test",
		Members: []*witnessv1.Member{{Host: "a", Instance: "db"}, {Host: "b", Instance: "db"}},
	}
}

// host is a host's agent as far as the witness sees it: it reports, keeps what it hears, asks for leases as a
// primary and arms when it can. It has one session, and another node when that ends.
type host struct {
	w    *world
	name string
	via  []string

	mu       sync.Mutex
	said     *witnessv1.PairReport
	answer   *witnessv1.PairAnswer
	term     uint64
	answered time.Time // when the last answered heartbeat was sent
	leases   int
	breaks   []error // ends of sessions
	pause    bool
	stop     context.CancelFunc
	done     chan struct{}
}

func (w *world) host(name string, via ...string) *host {
	ctx, cancel := context.WithCancel(context.Background())
	h := &host{w: w, name: name, via: via, stop: cancel, done: make(chan struct{})}
	h.said = &witnessv1.PairReport{
		Member: &witnessv1.Member{
			Host: name, Instance: "db", LinkAddress: name + ":7412", ServiceAddress: name + ":5432", Engine: "demo",
		},
		FileKnown: true, FenceLevel: "engine",
		Engine: &witnessv1.EngineState{Running: true, SystemId: "7", Promotable: true, Following: true},
	}
	go h.run(ctx)
	w.t.Cleanup(h.leave)
	return h
}

func (h *host) leave() {
	h.stop()
	<-h.done
}

func (h *host) run(ctx context.Context) {
	defer close(h.done)
	conns := make(map[string]*grpc.ClientConn)
	defer func() {
		for _, conn := range conns {
			_ = conn.Close()
		}
	}()
	for i := 0; ctx.Err() == nil; i++ {
		node := h.via[i%len(h.via)]
		if conns[node] == nil {
			conns[node] = h.w.dial(node, h.name)
		}
		err := h.session(ctx, conns[node])
		if ctx.Err() == nil {
			h.mu.Lock()
			h.breaks = append(h.breaks, err)
			h.mu.Unlock()
			time.Sleep(50 * time.Millisecond)
		}
	}
}

func (h *host) session(ctx context.Context, conn *grpc.ClientConn) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := witnessv1.NewAgentServiceClient(conn).Session(ctx)
	if err != nil {
		return err
	}
	err = stream.Send(&witnessv1.SessionRequest{Message: &witnessv1.SessionRequest_Hello{
		Hello: &witnessv1.Hello{Host: h.name, AgentId: "agent-" + h.name, Start: "1", Version: "test"},
	}})
	if err != nil {
		return err
	}
	nudged := make(chan struct{}, 1)
	sent := make(map[uint64]time.Time)
	var sequences sync.Mutex
	var sender sync.WaitGroup
	defer sender.Wait()
	defer cancel()
	sender.Go(func() {
		ticker := time.NewTicker(500 * time.Millisecond)
		defer ticker.Stop()
		for ctx.Err() == nil {
			if beat := h.beat(); beat != nil {
				sequences.Lock()
				sent[beat.GetSequence()] = time.Now()
				sequences.Unlock()
				if stream.Send(&witnessv1.SessionRequest{Message: &witnessv1.SessionRequest_Heartbeat{Heartbeat: beat}}) != nil {
					return
				}
			}
			select {
			case <-ctx.Done():
			case <-ticker.C:
			case <-nudged:
			}
		}
	})
	for {
		m, err := stream.Recv()
		switch {
		case errors.Is(err, io.EOF):
			return errors.New("session closed by the witness")
		case err != nil:
			return err
		case m.GetNudge() != nil:
			select {
			case nudged <- struct{}{}:
			default:
			}
		case m.GetAnswer() != nil:
			sequences.Lock()
			h.hear(m.GetAnswer(), sent[m.GetAnswer().GetSequence()])
			sequences.Unlock()
		}
	}
}

func (h *host) beat() *witnessv1.Heartbeat {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.pause {
		return nil
	}
	// Sequences rise over all sessions of one start: the virtual clock does.
	return &witnessv1.Heartbeat{
		Sequence: uint64(time.Since(h.w.start)) + 1, TermHeard: h.term,
		Pairs: []*witnessv1.PairReport{{
			Pair: h.said.GetPair(), Member: h.said.GetMember(), FileKnown: h.said.GetFileKnown(),
			Epoch: h.said.GetEpoch(), EpochPrimary: h.said.GetEpochPrimary(), Revision: h.said.GetRevision(),
			LongestLease: h.said.GetLongestLease(), Released: h.said.GetReleased(),
			ReleasedEverything: h.said.GetReleasedEverything(), AskLease: h.said.GetAskLease(),
			Request: h.said.GetRequest(), RequestRevision: h.said.GetRequestRevision(),
			Promise: h.said.GetPromise(), Serving: h.said.GetServing(), Unmanaged: h.said.GetUnmanaged(),
			FenceLevel: h.said.GetFenceLevel(), Engine: h.said.GetEngine(), Hooks: h.said.GetHooks(),
		}},
	}
}

// hear follows the rules of an agent as far as these tests need them.
func (h *host) hear(a *witnessv1.Answer, sent time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.term, h.answered = a.GetTerm(), sent
	if len(a.GetRemoved()) > 0 {
		h.said.Pair = ""
	}
	if len(a.GetPairs()) == 0 {
		h.answer = nil
		return
	}
	p := a.GetPairs()[0]
	h.answer = p
	if p.GetMute() || p.GetRevision() < h.said.GetRevision() {
		return
	}
	s := h.said
	s.Pair, s.Epoch, s.EpochPrimary, s.Revision = p.GetPair(), p.GetEpoch(), p.GetPrimary(), p.GetRevision()
	s.LongestLease = p.GetLongestLease()
	primary := p.GetPrimary() == h.name && p.GetStage() == witnessv1.Stage_STAGE_READY
	s.AskLease = primary && s.Released < s.Epoch
	s.Serving = s.AskLease
	s.Request, s.RequestRevision = witnessv1.Request_REQUEST_UNSPECIFIED, 0
	if p.GetLease().AsDuration() > 0 {
		h.leases++
	}
	switch step := p.GetProcedure().GetStep(); {
	case primary && step == witnessv1.ProcedureStep_PROCEDURE_STEP_RELEASE:
		s.Released, s.ReleasedEverything, s.AskLease, s.Serving = s.Epoch, true, false, false
	case primary && step == witnessv1.ProcedureStep_PROCEDURE_STEP_UNMANAGE:
		s.Unmanaged = true
	case primary && p.GetRight() == witnessv1.Right_RIGHT_SOLE && p.GetMode() == witnessv1.Mode_MODE_AUTOMATIC &&
		p.GetProcedure() == nil:
		s.Request, s.RequestRevision = witnessv1.Request_REQUEST_ARM, s.Revision
	}
}

func (h *host) set(change func(*witnessv1.PairReport)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	change(h.said)
}

// silent keeps the agent from sending; its sessions stay.
func (h *host) silent(yes bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.pause = yes
}

func (h *host) granted() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.leases
}

func (h *host) ends() []error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.breaks)
}

// armedPair is a world with the pair sales, its agents on different nodes, ready for anything.
func armedPair(t *testing.T) (w *world, a, b *host) {
	t.Helper()
	w = newWorld(t, "n1", "n2", "n3")
	leader := w.leader()
	w.createSales(leader)
	follower := w.follower()
	a, b = w.host("a", follower), w.host("b", leader)
	w.untilArmed()
	return w, a, b
}

func (w *world) pair(by string) *witnessv1.Pair {
	w.t.Helper()
	r, err := w.admin(by).GetPair(w.t.Context(), &witnessv1.GetPairRequest{Pair: "sales"})
	if err != nil {
		w.t.Fatalf("get pair by %s: %v", by, err)
	}
	return r.GetPair()
}

func (w *world) untilArmed() {
	w.t.Helper()
	by := w.leader()
	w.until("pair is armed and settled", 10*time.Second, func() bool {
		p := w.pair(by)
		return p.GetRight() == witnessv1.Right_RIGHT_LEASED && p.GetProcedure() == nil && p.GetFailoverReady()
	})
}

// wantReason checks an error's reason.
func wantReason(t *testing.T, err error, reason string) {
	t.Helper()
	for _, d := range status.Convert(err).Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok && info.GetDomain() == "witnessd" && info.GetReason() == reason {
			return
		}
	}
	t.Errorf("got %v %v, want reason %s", err, status.Convert(err).Details(), reason)
}

func bubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, f)
}

func seconds(n int) *durationpb.Duration { return durationpb.New(time.Duration(n) * time.Second) }

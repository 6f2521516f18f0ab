package link_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/witnessd/witnessd/agent/hold"
	"github.com/witnessd/witnessd/agent/link"
	witnessv1 "github.com/witnessd/witnessd/proto/gen/witness/v1"
)

type nodeStream = grpc.BidiStreamingServer[witnessv1.SessionRequest, witnessv1.SessionResponse]

// node is a fake node of the witness. Its behaviour may be changed while it runs.
type node struct {
	witnessv1.UnimplementedAgentServiceServer
	name, address string
	net           *network
	server        *grpc.Server

	mu      sync.Mutex
	refusal error         // of sessions
	deaf    chan struct{} // not nil: heartbeats are read only when it is closed
	silent  bool          // sessions are not even welcomed
	late    error         // refusal of sessions that were welcomed
	nodes   []*witnessv1.WitnessNode
	answer  func(h *witnessv1.Heartbeat) *witnessv1.SessionResponse // nil: the session ends
	hellos  list[*witnessv1.Hello]
	got     list[uint64] // sequences of heartbeats
	streams map[nodeStream]bool
}

func newNode(n *network, name string) *node {
	d := &node{name: name, address: name + ".example:7401", net: n, streams: map[nodeStream]bool{}}
	d.answer = func(h *witnessv1.Heartbeat) *witnessv1.SessionResponse {
		return answering(&witnessv1.Answer{Sequence: h.GetSequence(), Term: 3})
	}
	d.start()
	return d
}

func (d *node) start() {
	d.server = grpc.NewServer(grpc.WaitForHandlers(true), grpc.KeepaliveEnforcementPolicy(
		keepalive.EnforcementPolicy{MinTime: link.KeepaliveMinTime, PermitWithoutStream: true}))
	witnessv1.RegisterAgentServiceServer(d.server, d)
	listener := d.net.listen(d.address)
	go func() { _ = d.server.Serve(listener) }()
}

func (d *node) stop() {
	d.net.off(d.address)
	d.server.Stop()
}

// set changes the behaviour.
func (d *node) set(change func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	change()
}

func (d *node) behaviour() (silent bool, deaf chan struct{}, refusal error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.silent, d.deaf, d.refusal
}

func (d *node) Session(stream nodeStream) error {
	m, err := stream.Recv()
	if err != nil {
		return err
	}
	d.hellos.add(m.GetHello())
	silent, _, refusal := d.behaviour()
	if refusal != nil {
		return refusal
	}
	if silent {
		<-stream.Context().Done()
		return nil
	}
	d.mu.Lock()
	welcome := &witnessv1.Welcome{Node: d.name, Nodes: d.nodes}
	d.streams[stream] = true
	d.mu.Unlock()
	defer d.set(func() { delete(d.streams, stream) })
	if err := stream.Send(&witnessv1.SessionResponse{
		Message: &witnessv1.SessionResponse_Welcome{Welcome: welcome},
	}); err != nil {
		return err
	}
	d.mu.Lock()
	late := d.late
	d.mu.Unlock()
	if late != nil {
		return late
	}
	for {
		_, deaf, _ := d.behaviour()
		if deaf != nil {
			select {
			case <-deaf:
			case <-stream.Context().Done():
			}
		}
		m, err := stream.Recv()
		if err != nil {
			return err
		}
		d.got.add(m.GetHeartbeat().GetSequence())
		answer := d.answer(m.GetHeartbeat())
		if answer == nil {
			return nil
		}
		if err := stream.Send(answer); err != nil {
			return err
		}
	}
}

// say sends a message in every session of the node.
func (d *node) say(m *witnessv1.SessionResponse) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for stream := range d.streams {
		_ = stream.Send(m)
	}
}

func (d *node) sessions() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.streams)
}

func (d *node) listed(id string) *witnessv1.WitnessNode {
	return &witnessv1.WitnessNode{Id: id, ApiAddress: d.address}
}

func answering(a *witnessv1.Answer) *witnessv1.SessionResponse {
	return &witnessv1.SessionResponse{Message: &witnessv1.SessionResponse_Answer{Answer: a}}
}

// agent is a Witness under test with what it was told.
type agent struct {
	*link.Witness
	answers list[link.Answer]
	nudges  list[struct{}]
	states  list[link.SessionState]
	log     logged
	end     func() // ends Run and waits for it
}

func newAgent(t *testing.T, n *network, endpoints ...string) *agent {
	t.Helper()
	a := &agent{}
	a.Witness = link.NewWitness(link.WitnessOptions{
		Host: "db1", AgentID: "a-1", Start: "s-1", Version: "v0", HTTPAddress: "db1:7413",
		Endpoints: endpoints, Dial: n.dial, Logger: a.log.logger(),
		OnAnswer: a.answers.add, OnNudge: func() { a.nudges.add(struct{}{}) }, OnState: a.states.add,
	})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- a.Run(ctx) }()
	a.end = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("run: %v", err)
		}
	})
	return a
}

// beat sends a heartbeat and lets everything happen that does not need time.
func (a *agent) beat(sequence uint64, everywhere bool) {
	a.Send(link.Heartbeat{Sequence: sequence}, everywhere)
	synctest.Wait()
}

// last is what was told last of an endpoint.
func (a *agent) last(endpoint string) link.SessionState {
	var last link.SessionState
	for _, s := range a.states.all() {
		if s.Endpoint == endpoint {
			last = s
		}
	}
	return last
}

// world is three nodes and an agent that has a session with each.
type world struct {
	net   *network
	nodes map[string]*node
	*agent
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{net: newNetwork(), nodes: map[string]*node{}}
	var endpoints []string
	for _, name := range []string{"n1", "n2", "n3"} {
		w.nodes[name] = newNode(w.net, name)
		endpoints = append(endpoints, w.nodes[name].address)
	}
	w.agent = newAgent(t, w.net, endpoints...)
	synctest.Wait()
	return w
}

func (w *world) close() {
	w.end()
	for _, n := range w.nodes {
		n.stop()
	}
}

// who names the nodes that have got the heartbeat.
func (w *world) who(sequence uint64) string {
	var names []string
	for _, name := range slices.Sorted(maps.Keys(w.nodes)) {
		if slices.Contains(w.nodes[name].got.all(), sequence) {
			names = append(names, name)
		}
	}
	return strings.Join(names, " ")
}

// preferred is the node that the last answer but one's sequence came over.
func (w *world) preferred(t *testing.T, sequence uint64) string {
	t.Helper()
	w.beat(sequence, false)
	who := w.who(sequence)
	if who == "" || strings.Contains(who, " ") {
		t.Fatalf("heartbeat %d went by %q, want one node", sequence, who)
	}
	return who
}

func TestHelloAndAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.close()
		for name, n := range w.nodes {
			hellos := n.hellos.all()
			if len(hellos) != 1 {
				t.Fatalf("%s: %d hellos, want 1", name, len(hellos))
			}
			got := hellos[0]
			expect(t, "hello", []string{
				got.GetHost(), got.GetAgentId(), got.GetStart(), got.GetVersion(), got.GetHttpAddress(),
			}, []string{"db1", "a-1", "s-1", "v0", "db1:7413"})
			expect(t, "state", w.last(n.address), link.SessionState{Endpoint: n.address, Node: name, Up: true})
		}
		w.beat(1, false)
		expect(t, "without a preferred node, by", w.who(1), "n1 n2 n3")
		expect(t, "answers", len(w.answers.take()), 3)
		first := w.preferred(t, 2)
		expect(t, "by the preferred node again", w.preferred(t, 3), first)
		answers := w.answers.take()
		expect(t, "answers", answers, []link.Answer{
			{Node: first, Sequence: 2, Term: 3}, {Node: first, Sequence: 3, Term: 3},
		})
		w.beat(4, true)
		expect(t, "everywhere", w.who(4), "n1 n2 n3")
	})
}

// TestPreferredNodeIsTheFirstToAnswer: a heartbeat that went by all is answered by all, the slow one last.
func TestPreferredNodeIsTheFirstToAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.close()
		for name, n := range w.nodes {
			plain := n.answer
			n.answer = func(h *witnessv1.Heartbeat) *witnessv1.SessionResponse {
				if name != "n2" {
					time.Sleep(40 * time.Millisecond)
				}
				return plain(h)
			}
		}
		w.beat(1, false)
		time.Sleep(time.Second)
		expect(t, "preferred", w.preferred(t, 2), "n2")
	})
}

func TestPreferredNodeDies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.close()
		w.beat(1, false)
		first := w.preferred(t, 2)
		w.nodes[first].stop()
		synctest.Wait()
		w.beat(3, false)
		if who := w.who(3); len(strings.Fields(who)) != 2 || strings.Contains(who, first) {
			t.Errorf("after %s died, by %q, want both others", first, who)
		}
		expect(t, "up", w.last(w.nodes[first].address).Up, false)
		expect(t, "reason", w.last(w.nodes[first].address).Reason, link.ReasonNotReached)
		second := w.preferred(t, 4)
		if second == first {
			t.Errorf("%s is preferred and dead", second)
		}
		w.nodes[first].start()
		time.Sleep(3 * time.Second)
		expect(t, "up after its return", w.last(w.nodes[first].address).Up, true)
		expect(t, "preferred after its return", w.preferred(t, 5), second)
	})
}

// TestPreferredNodeFallsSilent: nobody is told that the connection leads nowhere; the agent notices that its
// answer is late and asks everywhere.
func TestPreferredNodeFallsSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.close()
		w.beat(1, false)
		first := w.preferred(t, 2)
		cut := w.nodes[first]
		w.net.cut(cut.address)
		w.beat(3, false)
		expect(t, "into the black hole", w.who(3), "")
		w.beat(4, true)
		expect(t, "everywhere", len(strings.Fields(w.who(4))), 2)
		if w.preferred(t, 5) == first {
			t.Error("the cut node is still preferred")
		}
		time.Sleep(link.KeepaliveTime + link.KeepaliveTimeout - time.Millisecond)
		expect(t, "up just before keepalive gives up", w.last(cut.address).Up, true)
		time.Sleep(2 * time.Millisecond)
		synctest.Wait()
		expect(t, "up just after", w.last(cut.address).Up, false)
		time.Sleep(20 * time.Second)
		w.net.heal(cut.address)
		time.Sleep(6 * time.Second) // a dial that has just begun, and the longest pause
		expect(t, "up after the cut", w.last(cut.address).Up, true)
	})
}

// TestKeepaliveIsAllowed: sessions that nothing is sent by for minutes stay up; the server enforces its rule.
func TestKeepaliveIsAllowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.close()
		time.Sleep(10 * time.Minute)
		for name, n := range w.nodes {
			expect(t, "hellos to "+name, len(n.hellos.all()), 1)
		}
	})
}

// TestBlockedStream: one node takes sessions and reads nothing.
func TestBlockedStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.close()
		blocked := w.nodes["n1"]
		deaf := make(chan struct{})
		blocked.set(func() { blocked.deaf = deaf })
		w.beat(1, true) // the handler is waiting in Recv: it reads this one

		big := link.Heartbeat{Pairs: make([]link.PairReport, 40)}
		for i := range big.Pairs {
			big.Pairs[i].Complaint = strings.Repeat("x", 1000)
		}
		const last = 100
		began := time.Now()
		for big.Sequence = 2; big.Sequence <= last; big.Sequence++ {
			w.Send(big, true)
			synctest.Wait()
		}
		expect(t, "time that sending took", time.Since(began), time.Duration(0))
		for sequence := uint64(2); sequence <= last; sequence++ {
			expect(t, fmt.Sprintf("heartbeat %d", sequence), w.who(sequence), "n2 n3")
		}
		blocked.set(func() { blocked.deaf = nil })
		close(deaf)
		synctest.Wait()
		got := blocked.got.all()
		if len(got) > 10 || got[len(got)-1] != last {
			t.Errorf("the blocked node got %v; want what was under way, and then the newest", got)
		}
	})
}

func TestNudge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.close()
		w.nodes["n2"].say(&witnessv1.SessionResponse{Message: &witnessv1.SessionResponse_Nudge{}})
		synctest.Wait()
		expect(t, "nudges", len(w.nudges.all()), 1)
	})
}

func TestBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork()
		a := newAgent(t, n, "n1.example:7401")
		defer a.end()
		time.Sleep(time.Minute)
		dials := n.dialled("n1.example:7401")
		if len(dials) < 30 || len(dials) > 70 {
			t.Errorf("%d dials in a minute", len(dials))
		}
		for i := 1; i < len(dials); i++ {
			gap := dials[i].Sub(dials[i-1])
			if gap < 50*time.Millisecond || gap > 2*time.Second || i > 6 && gap < time.Second {
				t.Errorf("dial %d came after %v", i, gap)
			}
		}
		states := a.states.take()
		if len(states) != 1 || states[0].Up || states[0].Reason != link.ReasonNotReached ||
			!strings.Contains(states[0].Detail, "connection refused") {
			t.Errorf("told %+v; want once that it is not reached, and why", states)
		}
		d := newNode(n, "n1")
		defer d.stop()
		time.Sleep(2 * time.Second)
		expect(t, "told", a.states.take(), []link.SessionState{{Endpoint: d.address, Node: "n1", Up: true}})
	})
}

// TestDroppedAtOnce: a node, or something in between, that takes each session and ends it is not hammered.
func TestDroppedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork()
		d := newNode(n, "n1")
		defer d.stop()
		d.answer = func(*witnessv1.Heartbeat) *witnessv1.SessionResponse { return nil }
		a := newAgent(t, n, d.address)
		defer a.end()
		for sequence := uint64(1); sequence <= 600; sequence++ {
			synctest.Wait()
			a.beat(sequence, true)
			time.Sleep(100 * time.Millisecond)
		}
		if tries := len(d.hellos.all()); tries < 25 || tries > 65 {
			t.Errorf("%d sessions in a minute", tries)
		}
	})
}

// TestNoWelcome: whoever listens there takes no part.
func TestNoWelcome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork()
		d := newNode(n, "n1")
		defer d.stop()
		d.set(func() { d.silent = true })
		a := newAgent(t, n, d.address)
		defer a.end()
		a.beat(1, true)
		time.Sleep(2999 * time.Millisecond)
		expect(t, "told before the limit", len(a.states.all()), 0)
		time.Sleep(2 * time.Millisecond)
		synctest.Wait()
		expect(t, "told after it", a.states.take(), []link.SessionState{{
			Endpoint: d.address, Reason: link.ReasonNotReached,
			Detail: "no answer to the opening of the connection within 3s",
		}})
		expect(t, "heartbeats", len(d.got.all()), 0)
	})
}

func TestRefusedSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork()
		d := newNode(n, "n1")
		defer d.stop()
		claimed, err := status.New(codes.AlreadyExists, "host db1 is another agent's").WithDetails(
			&errdetails.ErrorInfo{Reason: "HOST_CLAIMED", Domain: "witnessd"})
		if err != nil {
			t.Fatal(err)
		}
		d.set(func() { d.refusal = claimed.Err() })
		a := newAgent(t, n, d.address)
		defer a.end()
		time.Sleep(time.Minute)
		expect(t, "told", a.states.take(), []link.SessionState{{
			Endpoint: d.address, Reason: "HOST_CLAIMED", Detail: "host db1 is another agent's",
		}})
		dials := n.dialled(d.address)
		for i := 1; i < len(dials); i++ {
			if gap := dials[i].Sub(dials[i-1]); gap < 2*time.Second || gap > 2500*time.Millisecond {
				t.Errorf("try %d came after %v", i, gap)
			}
		}
		d.set(func() { d.refusal = nil })
		time.Sleep(5 * time.Second)
		expect(t, "told after the claim ended", a.states.take(), []link.SessionState{
			{Endpoint: d.address, Node: "n1", Up: true},
		})
	})
}

// TestLateRefusal: a follower welcomes, and the leader's refusal comes a moment later, again and again.
func TestLateRefusal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork()
		d := newNode(n, "n1")
		defer d.stop()
		claimed, err := status.New(codes.AlreadyExists, "claimed").WithDetails(
			&errdetails.ErrorInfo{Reason: "HOST_CLAIMED"})
		if err != nil {
			t.Fatal(err)
		}
		d.set(func() { d.late = claimed.Err() })
		a := newAgent(t, n, d.address)
		defer a.end()
		time.Sleep(time.Minute)
		up := link.SessionState{Endpoint: d.address, Node: "n1", Up: true}
		refused := link.SessionState{Endpoint: d.address, Node: "n1", Reason: "HOST_CLAIMED", Detail: "claimed"}
		expect(t, "told", a.states.take(), []link.SessionState{up, refused})
		d.set(func() { d.late = nil })
		time.Sleep(5 * time.Second)
		expect(t, "told after the claim ended", a.states.take(), []link.SessionState{up})
		d.set(func() { d.late = claimed.Err() })
		d.stop()
		d.start()
		time.Sleep(5 * time.Second)
		states := a.states.take()
		expect(t, "told of the next claim", states[len(states)-1], refused)
	})
}

// TestPassingRefusal: a node that goes down says so with a reason; it is tried again soon.
func TestPassingRefusal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork()
		d := newNode(n, "n1")
		defer d.stop()
		leaving, err := status.New(codes.Unavailable, "node n1 stops").WithDetails(
			&errdetails.ErrorInfo{Reason: "STOPPING"})
		if err != nil {
			t.Fatal(err)
		}
		d.set(func() { d.refusal = leaving.Err() })
		a := newAgent(t, n, d.address)
		defer a.end()
		synctest.Wait()
		expect(t, "told", a.states.take(), []link.SessionState{{
			Endpoint: d.address, Reason: "STOPPING", Detail: "node n1 stops",
		}})
		time.Sleep(time.Second)
		if tries := len(d.hellos.all()); tries < 3 {
			t.Errorf("%d tries in the first second", tries)
		}
	})
}

// TestLearnedEndpoints: the configuration names one node by another address than the witness itself does.
func TestLearnedEndpoints(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork()
		nodes := []*node{newNode(n, "n1"), newNode(n, "n2"), newNode(n, "n3")}
		var listed []*witnessv1.WitnessNode
		for _, d := range nodes {
			defer d.stop()
			listed = append(listed, d.listed(d.name))
		}
		listed = append(listed, &witnessv1.WitnessNode{Id: "broken", ApiAddress: "nonsense"})
		for _, d := range nodes {
			d.set(func() { d.nodes = listed })
		}
		const alias = "10.0.0.1:7401"
		n.mu.Lock()
		n.listeners[alias] = n.listeners[nodes[0].address]
		n.mu.Unlock()
		a := newAgent(t, n, alias)
		defer a.end()
		time.Sleep(time.Second)
		for _, d := range nodes {
			expect(t, "sessions with "+d.name, d.sessions(), 1)
		}
		expect(t, "dials of the address that n1 is not configured by", len(n.dialled(nodes[0].address)), 0)
		a.beat(1, false)
		for _, d := range nodes {
			expect(t, "heartbeats to "+d.name, len(d.got.all()), 1)
		}

		// n3 is removed for good. The others say so in the Welcome of their next sessions.
		nodes[2].stop()
		for _, d := range nodes[:2] {
			d.set(func() { d.nodes = listed[:2] })
			d.stop()
			d.start()
		}
		time.Sleep(2 * time.Minute)
		last := a.last(nodes[2].address)
		if !last.Forgotten || last.Up {
			t.Errorf("of the removed node was told %+v; want that it is forgotten", last)
		}
		tries := len(n.dialled(nodes[2].address))
		time.Sleep(time.Minute)
		expect(t, "tries after that", len(n.dialled(nodes[2].address))-tries, 0)
		expect(t, "sessions with n2", nodes[1].sessions(), 1)
	})
}

// TestTwoWaysToOneNode: what was learned makes room when the configured address works after all.
func TestTwoWaysToOneNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork()
		one, two := newNode(n, "n1"), newNode(n, "n2")
		defer one.stop()
		defer two.stop()
		one.set(func() { one.nodes = []*witnessv1.WitnessNode{one.listed("n1"), two.listed("n2")} })
		const alias = "10.0.0.2:7401"
		a := newAgent(t, n, one.address, alias)
		defer a.end()
		time.Sleep(time.Second)
		expect(t, "by the learned address", a.last(two.address).Up, true)
		n.mu.Lock()
		n.listeners[alias] = n.listeners[two.address]
		n.mu.Unlock()
		time.Sleep(10 * time.Second)
		expect(t, "by the configured address", a.last(alias).Up, true)
		expect(t, "the learned one is dropped", a.last(two.address).Forgotten, true)
		expect(t, "sessions with n2", two.sessions(), 1)
		a.beat(1, true)
		expect(t, "heartbeats to n2", len(two.got.all()), 1)
	})
}

// TestMalformed: a message that cannot be right ends the session and reaches nobody.
func TestMalformed(t *testing.T) {
	tests := []struct {
		name   string
		answer *witnessv1.SessionResponse
		want   string
	}{
		{"no term", answering(&witnessv1.Answer{Sequence: 1}), "answer without a term"},
		{"to nothing", answering(&witnessv1.Answer{Term: 1}), "answer to heartbeat 0, the newest is 1"},
		{
			"to a heartbeat that was not sent", answering(&witnessv1.Answer{Sequence: 2, Term: 1}),
			"answer to heartbeat 2, the newest is 1",
		},
		{
			"too many pairs",
			answering(&witnessv1.Answer{Sequence: 1, Term: 1, Pairs: make([]*witnessv1.PairAnswer, 10_001)}),
			"answer about more than 10000 pairs",
		},
		{"no answer in it", answering(nil), "answer without a term"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := newNetwork()
				d := newNode(n, "n1")
				defer d.stop()
				d.answer = func(*witnessv1.Heartbeat) *witnessv1.SessionResponse { return tt.answer }
				a := newAgent(t, n, d.address)
				defer a.end()
				synctest.Wait()
				a.beat(1, true)
				expect(t, "answers", len(a.answers.all()), 0)
				expect(t, "told", a.last(d.address), link.SessionState{
					Endpoint: d.address, Node: "n1", Reason: link.ReasonMalformed, Detail: tt.want,
				})
			})
		})
	}
}

// TestNewerWitness: what this agent does not know makes the pair mute, never something else.
func TestNewerWitness(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.close()
		known := func(pair string) *witnessv1.PairAnswer {
			return &witnessv1.PairAnswer{
				Pair: pair, Name: "sales", Instance: "main", Stage: witnessv1.Stage_STAGE_READY,
				Revision: 7, Epoch: 2, Primary: "db1", Mirror: "db2",
				Right: witnessv1.Right_RIGHT_LEASED, Mode: witnessv1.Mode_MODE_AUTOMATIC,
				Policy: &witnessv1.Policy{
					Heartbeat: durationpb.New(500 * time.Millisecond), Lease: durationpb.New(3 * time.Second),
					Guard: durationpb.New(300 * time.Millisecond), MirrorTimeout: durationpb.New(2 * time.Second),
				},
				LongestLease: durationpb.New(4 * time.Second), Lease: durationpb.New(3 * time.Second),
			}
		}
		odd := known("p-2")
		odd.Right = 99
		for _, n := range w.nodes {
			n.answer = func(h *witnessv1.Heartbeat) *witnessv1.SessionResponse {
				return answering(&witnessv1.Answer{
					Sequence: h.GetSequence(), Term: 5, Pairs: []*witnessv1.PairAnswer{known("p-1"), odd},
				})
			}
		}
		w.nodes["n1"].say(&witnessv1.SessionResponse{}) // a message of a kind that does not exist yet
		w.beat(1, true)
		w.beat(2, true)
		answers := w.answers.all()
		if len(answers) != 6 {
			t.Fatalf("%d answers, want 6", len(answers))
		}
		expect(t, "pairs", answers[0].Pairs, []link.PairAnswer{
			{
				Pair: "p-1", Name: "sales", Instance: "main",
				Says: hold.WitnessSays{
					Term: 5, Revision: 7, Epoch: 2, Primary: "db1", Mirror: "db2", Right: hold.RightLeased,
					Automatic: true, Name: "sales", Longest: 4 * time.Second, Lease: 3 * time.Second,
					Timing: hold.Timing{
						Heartbeat: 500 * time.Millisecond, Lease: 3 * time.Second,
						Guard: 300 * time.Millisecond, MirrorTimeout: 2 * time.Second,
					},
				},
			},
			{
				Pair: "p-2", Name: "sales", Instance: "main", Mute: true,
				Says: hold.WitnessSays{Term: 5, Name: "sales", Refused: link.RefusedNotUnderstood},
			},
		})
		expect(t, "lines about the pair", w.log.with("right 99 is not known"), 1)
		expect(t, "lines about the message", w.log.with("kind of message"), 1)
	})
}

func TestWitnessOptions(t *testing.T) {
	good := link.WitnessOptions{Host: "db1", AgentID: "a", Start: "s", Endpoints: []string{"n1:1"}}
	tests := []struct {
		name   string
		change func(o *link.WitnessOptions)
		want   string
	}{
		{"no endpoints", func(o *link.WitnessOptions) { o.Endpoints = nil }, "no endpoints"},
		{"no port", func(o *link.WitnessOptions) { o.Endpoints = []string{"n1"} }, "missing port"},
		{"no host of the endpoint", func(o *link.WitnessOptions) { o.Endpoints = []string{":1"} }, "host:port"},
		{"no host", func(o *link.WitnessOptions) { o.Host = "" }, "host is empty"},
		{"long host", func(o *link.WitnessOptions) { o.Host = strings.Repeat("x", 200) }, "200 bytes"},
		{"no start", func(o *link.WitnessOptions) { o.Start = "" }, "start is empty"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o := good
			tt.change(&o)
			err := link.NewWitness(o).Run(t.Context())
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want something about %q", err, tt.want)
			}
		})
	}
}

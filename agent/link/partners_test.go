package link_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/witnessd/witnessd/agent/hold"
	"github.com/witnessd/witnessd/agent/link"
	witnessv1 "github.com/witnessd/witnessd/proto/gen/witness/v1"
)

// host is one host's Partners with what it was told.
type host struct {
	*link.Partners
	name, address string
	asked         list[string]
	answers       list[string]
	states        list[link.SessionState]
	end           func()

	mu    sync.Mutex
	reply func(ctx context.Context, from string, says []hold.Says) ([]hold.Says, error)
}

func newHost(t *testing.T, n *network, name string) *host {
	t.Helper()
	h := &host{name: name, address: name + ".example:7412"}
	h.reply = func(_ context.Context, _ string, says []hold.Says) ([]hold.Says, error) { return says, nil }
	h.Partners = link.NewPartners(link.PartnerOptions{
		Host: name, Start: "start of " + name, Dial: n.dial,
		OnAnswer: func(partner string, sequence uint64, says []hold.Says) {
			h.answers.add(fmt.Sprintf("%s %d %d", partner, sequence, len(says)))
		},
		OnAsk: func(ctx context.Context, from string, says []hold.Says) ([]hold.Says, error) {
			h.asked.add(from + " " + epochs(says))
			h.mu.Lock()
			reply := h.reply
			h.mu.Unlock()
			return reply(ctx, from, says)
		},
		OnState: h.states.add,
	})
	ctx, cancel := context.WithCancel(t.Context())
	listener := n.listen(h.address)
	var running sync.WaitGroup
	running.Go(func() {
		if err := h.Run(ctx); err != nil {
			t.Errorf("run: %v", err)
		}
	})
	running.Go(func() {
		if err := h.Serve(ctx, listener); err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	h.end = sync.OnceFunc(func() {
		cancel()
		running.Wait()
	})
	return h
}

func epochs(says []hold.Says) string {
	var s []string
	for _, say := range says {
		s = append(s, fmt.Sprint(say.Epoch))
	}
	return strings.Join(s, ",")
}

// ask sends a request that can be told from others by its epoch, which is the sequence.
func (h *host) ask(partner string, sequence uint64) {
	h.Send(partner, sequence, []hold.Says{{Pair: "p-1", Epoch: hold.Epoch(sequence)}})
	synctest.Wait()
}

func (h *host) set(reply func(context.Context, string, []hold.Says) ([]hold.Says, error)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.reply = reply
}

// couple is two hosts that know each other, with open links.
func couple(t *testing.T) (*network, *host, *host) {
	t.Helper()
	n := newNetwork()
	a, b := newHost(t, n, "db1"), newHost(t, n, "db2")
	a.SetPeers(map[string]string{"db2": b.address})
	b.SetPeers(map[string]string{"db1": a.address})
	synctest.Wait()
	return n, a, b
}

func TestPartnersTalk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, a, b := couple(t)
		defer b.end()
		defer a.end()
		says := []hold.Says{
			{
				Pair: "p-1", Epoch: 4, Primary: "db1", Revision: 9, Longest: 3 * time.Second, Released: 3,
				ReleasedEverything: true, AskLease: true, ReleaseAsked: 4,
				Engine: hold.Engine{Running: true, Role: hold.RolePrimary, Position: 77, Commits: hold.CommitsHeld},
			},
			{Pair: "p-2", Refused: "FORMING"},
		}
		var got []hold.Says
		b.set(func(_ context.Context, from string, asked []hold.Says) ([]hold.Says, error) {
			expect(t, "from", from, "db1")
			got = asked
			return []hold.Says{{Pair: "p-1", Epoch: 4, Lease: 3 * time.Second}}, nil
		})
		a.Send("db2", 1, says)
		synctest.Wait()
		expect(t, "asked", got, says)
		expect(t, "answers", a.answers.all(), []string{"db2 1 1"})
		expect(t, "told", a.states.all(), []link.SessionState{{Endpoint: b.address, Node: "db2", Up: true}})

		b.ask("db1", 1)
		expect(t, "answers the other way", b.answers.all(), []string{"db1 1 1"})
		a.ask("stranger", 2) // whom nobody has set
	})
}

// TestLinkCutAndBack: requests into the cut wait for nothing, and the first ones after it are answered.
func TestLinkCutAndBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, a, b := couple(t)
		defer b.end()
		defer a.end()
		a.ask("db2", 1)
		n.cut(b.address)
		sequence := uint64(1)
		beat := func(d time.Duration) {
			for began := time.Now(); time.Since(began) < d; {
				sequence++
				before := time.Now()
				a.ask("db2", sequence)
				if took := time.Since(before); took != 0 {
					t.Errorf("sending took %v", took)
				}
				time.Sleep(500 * time.Millisecond)
			}
		}
		a.answers.take()
		beat(900 * time.Millisecond)
		expect(t, "up before the silence is long enough", len(a.states.all()), 1)
		beat(30 * time.Second)
		expect(t, "answers in the cut", len(a.answers.all()), 0)
		first := a.states.all()[1]
		expect(t, "told", first.Detail, "requests went unanswered for 1.5s")

		n.heal(b.address)
		beat(6 * time.Second) // what is left of a dial into the cut, and the longest pause
		if len(a.answers.take()) == 0 {
			t.Error("no answers after the cut")
		}
		beat(10 * time.Second)
		expect(t, "answers in 10 s", len(a.answers.all()), 20)
	})
}

// TestPartnerComesBackSoon: a partner's agent that is restarted is reached again within its back-off.
func TestPartnerComesBackSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, a, b := couple(t)
		defer a.end()
		b.end() // for long enough that every pause is the longest
		n.off(b.address)
		time.Sleep(time.Minute)
		b = newHost(t, n, "db2")
		time.Sleep(2 * time.Second)
		const well = 20
		for sequence := uint64(1); sequence <= well; sequence++ {
			a.ask("db2", sequence)
			time.Sleep(500 * time.Millisecond)
		}
		b.end()
		n.off(b.address)
		synctest.Wait()
		states := a.states.all()
		expect(t, "up", states[len(states)-1].Up, false)
		b = newHost(t, n, "db2")
		defer b.end()
		time.Sleep(200 * time.Millisecond)
		a.ask("db2", well+1)
		expect(t, "answers", len(a.answers.all()), well+1)
	})
}

// TestPartnersDoNotWaitForEachOther: one partner is a black hole, another's agent does not answer.
func TestPartnersDoNotWaitForEachOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork()
		a := newHost(t, n, "db1")
		defer a.end()
		peers := map[string]string{}
		for _, name := range []string{"hole", "stuck", "well"} {
			b := newHost(t, n, name)
			defer b.end()
			peers[name] = b.address
			if name == "stuck" {
				b.set(func(ctx context.Context, _ string, _ []hold.Says) ([]hold.Says, error) {
					<-ctx.Done()
					return nil, ctx.Err()
				})
			}
		}
		a.SetPeers(peers)
		synctest.Wait()
		n.cut(peers["hole"])
		for sequence := range uint64(20) {
			for name := range peers {
				a.ask(name, sequence+1)
			}
			time.Sleep(500 * time.Millisecond)
		}
		expect(t, "answers", len(a.answers.all()), 20)
		for _, answer := range a.answers.all() {
			if !strings.HasPrefix(answer, "well ") {
				t.Errorf("answer %q", answer)
			}
		}
	})
}

// TestSlowAnswers: the agent is busy for a while. What could not be answered in time is dropped, what was
// overtaken is not asked, and the newest is answered.
func TestSlowAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, a, b := couple(t)
		defer b.end()
		defer a.end()
		b.set(func(ctx context.Context, _ string, says []hold.Says) ([]hold.Says, error) {
			if says[0].Epoch == 1 {
				<-ctx.Done()
				return nil, ctx.Err()
			}
			return says, nil
		})
		began := time.Now()
		for sequence := uint64(1); sequence <= 4; sequence++ {
			a.ask("db2", sequence)
			time.Sleep(200 * time.Millisecond)
		}
		expect(t, "asked while the first waits", b.asked.all(), []string{"db1 1"})
		time.Sleep(time.Second - time.Since(began))
		synctest.Wait()
		expect(t, "asked", b.asked.all(), []string{"db1 1", "db1 4"})
		expect(t, "answers", a.answers.all(), []string{"db2 4 1"})
		expect(t, "told", a.states.all(), []link.SessionState{{Endpoint: b.address, Node: "db2", Up: true}})
	})
}

// TestBlockedPartner: the partner takes the stream and reads nothing. What waits is replaced by what is newer.
func TestBlockedPartner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork()
		a := newHost(t, n, "db1")
		defer a.end()
		fake := &rawPartner{handle: func(stream linkServer) error {
			<-stream.Context().Done()
			return nil
		}}
		defer fake.serve(n, "db2.example:7412")()
		a.SetPeers(map[string]string{"db2": "db2.example:7412"})
		synctest.Wait()
		says := make([]hold.Says, 100)
		for i := range says {
			says[i] = hold.Says{Pair: "p", Refused: strings.Repeat("x", 1000)}
		}
		began := time.Now()
		for sequence := uint64(1); sequence < 100; sequence++ {
			a.Send("db2", sequence, says)
			synctest.Wait()
		}
		expect(t, "time that sending took", time.Since(began), time.Duration(0))
	})
}

// TestStuckSocket: the connection takes no byte any more. It is replaced as soon as the silence is long enough;
// nobody waits to say good-bye on it.
func TestStuckSocket(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, a, b := couple(t)
		defer b.end()
		defer a.end()
		a.ask("db2", 1)
		n.stick(b.address)
		a.ask("db2", 2)
		time.Sleep(1600 * time.Millisecond)
		synctest.Wait()
		expect(t, "dials", len(n.dialled(b.address)), 2)
		a.ask("db2", 3)
		expect(t, "answers", a.answers.all(), []string{"db2 1 1", "db2 3 1"})
		n.stick(b.address)
		a.ask("db2", 4)
		began := time.Now()
		a.end()
		expect(t, "time to end", time.Since(began), time.Duration(0))
	})
}

func TestSetPeers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, a, b := couple(t)
		defer b.end()
		defer a.end()
		a.ask("db2", 1)
		a.SetPeers(map[string]string{"db2": b.address}) // no change
		synctest.Wait()
		expect(t, "dials", len(n.dialled(b.address)), 1)

		const moved = "db2.example:9999"
		n.mu.Lock()
		n.listeners[moved] = n.listeners[b.address]
		n.mu.Unlock()
		a.states.take()
		a.SetPeers(map[string]string{"db2": moved, "db1": a.address, "nowhere": ""})
		synctest.Wait()
		a.ask("db2", 2)
		states := a.states.take()
		slices.SortFunc(states, func(x, y link.SessionState) int { return strings.Compare(x.Endpoint, y.Endpoint) })
		expect(t, "told", states, []link.SessionState{
			{
				Endpoint: b.address, Node: "db2", Reason: link.ReasonNotReached,
				Detail: "no pair has its partner there any more", Forgotten: true,
			},
			{Endpoint: moved, Node: "db2", Up: true},
		})
		expect(t, "dials of itself", len(n.dialled(a.address)), 1) // that of db2

		a.SetPeers(nil)
		synctest.Wait()
		expect(t, "told", a.states.take(), []link.SessionState{{
			Endpoint: moved, Node: "db2", Reason: link.ReasonNotReached,
			Detail: "no pair has its partner there any more", Forgotten: true,
		}})
		a.ask("db2", 3)
		expect(t, "answers", a.answers.all(), []string{"db2 1 1", "db2 2 1"})
	})
}

type linkServer = grpc.BidiStreamingServer[witnessv1.LinkRequest, witnessv1.LinkResponse]

// rawPartner is a partner that behaves as a test says.
type rawPartner struct {
	witnessv1.UnimplementedPartnerServiceServer
	handle func(linkServer) error
}

func (r *rawPartner) Link(stream linkServer) error { return r.handle(stream) }

func (r *rawPartner) serve(n *network, address string) (stop func()) {
	server := grpc.NewServer(grpc.WaitForHandlers(true))
	witnessv1.RegisterPartnerServiceServer(server, r)
	listener := n.listen(address)
	go func() { _ = server.Serve(listener) }()
	return server.Stop
}

// TestWrongAnswers: a lease counts as the mirror's by the name of the host that was called, so nothing that is
// not certainly its answer may pass.
func TestWrongAnswers(t *testing.T) {
	tests := []struct {
		name   string
		answer *witnessv1.LinkResponse
		want   string
	}{
		{
			"another host", &witnessv1.LinkResponse{Host: "db3", Sequence: 1},
			`db2.example:7412 is answered by host "db3", not by db2`,
		},
		{
			"to nothing", &witnessv1.LinkResponse{Host: "db2"},
			"answer to request 0; the newest is 1, of which 0 was answered last",
		},
		{
			"to a request that was not sent", &witnessv1.LinkResponse{Host: "db2", Sequence: 2},
			"answer to request 2; the newest is 1, of which 0 was answered last",
		},
		{
			"a lease of minus one second",
			&witnessv1.LinkResponse{Host: "db2", Sequence: 1, Pairs: []*witnessv1.PartnerSays{
				{Pair: "p", Lease: durationpb.New(-time.Second)},
			}},
			"lease is -1s",
		},
		{
			"a lease for ever",
			&witnessv1.LinkResponse{Host: "db2", Sequence: 1, Pairs: []*witnessv1.PartnerSays{
				{Pair: "p", Lease: &durationpb.Duration{Seconds: 1 << 62}},
			}},
			"lease is 2562047h47m16.854775807s",
		},
		{
			"a pair without an id",
			&witnessv1.LinkResponse{Host: "db2", Sequence: 1, Pairs: []*witnessv1.PartnerSays{{}}},
			"the pair's id is empty",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := newNetwork()
				a := newHost(t, n, "db1")
				defer a.end()
				fake := &rawPartner{handle: func(stream linkServer) error {
					if _, err := stream.Recv(); err != nil {
						return err
					}
					if err := stream.Send(tt.answer); err != nil {
						return err
					}
					<-stream.Context().Done()
					return nil
				}}
				defer fake.serve(n, "db2.example:7412")()
				a.SetPeers(map[string]string{"db2": "db2.example:7412"})
				synctest.Wait()
				a.ask("db2", 1)
				expect(t, "answers", len(a.answers.all()), 0)
				states := a.states.all()
				if len(states) != 1 || states[0].Up || states[0].Reason != link.ReasonMalformed ||
					!strings.HasPrefix(states[0].Detail, tt.want) {
					t.Errorf("told %+v, want %q", states, tt.want)
				}
			})
		})
	}
}

// call opens a plain gRPC connection to a host.
func call(t *testing.T, n *network, address string) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient("passthrough:///"+address, grpc.WithContextDialer(n.dial),
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

// TestWrongRequests: each gets an error that says what is wrong, and the agent is not asked.
func TestWrongRequests(t *testing.T) {
	good := func(sequence uint64) *witnessv1.LinkRequest {
		return &witnessv1.LinkRequest{Host: "db1", Start: "s", Sequence: sequence}
	}
	pair := func(p *witnessv1.PartnerSays) *witnessv1.LinkRequest {
		r := good(1)
		r.Pairs = []*witnessv1.PartnerSays{p}
		return r
	}
	long := strings.Repeat("x", 129)
	tests := []struct {
		name     string
		requests []*witnessv1.LinkRequest
		asked    int
		code     codes.Code
		want     string
	}{
		{"empty", []*witnessv1.LinkRequest{{}}, 0, codes.InvalidArgument, "host is empty"},
		{
			"long host", []*witnessv1.LinkRequest{{Host: long, Start: "s", Sequence: 1}}, 0,
			codes.InvalidArgument, "host is 129 bytes long, more than 128",
		},
		{
			"no start", []*witnessv1.LinkRequest{{Host: "db1", Sequence: 1}}, 0,
			codes.InvalidArgument, "start is empty",
		},
		{
			"this host's own name", []*witnessv1.LinkRequest{{Host: "db2", Start: "s", Sequence: 1}}, 0,
			codes.InvalidArgument, "db2 is the name of this host",
		},
		{"no sequence", []*witnessv1.LinkRequest{good(0)}, 0, codes.InvalidArgument, "request 0 after request 0"},
		{
			"the same sequence", []*witnessv1.LinkRequest{good(4), good(4)}, 1,
			codes.InvalidArgument, "request 4 after request 4",
		},
		{
			"another host on the link",
			[]*witnessv1.LinkRequest{good(4), {Host: "db3", Start: "s", Sequence: 5}}, 1,
			codes.InvalidArgument, "the link of host db1 speaks for db3",
		},
		{
			"too many pairs",
			[]*witnessv1.LinkRequest{
				{Host: "db1", Start: "s", Sequence: 1, Pairs: make([]*witnessv1.PartnerSays, 10_001)},
			}, 0,
			codes.InvalidArgument, "10001 pairs, more than 10000",
		},
		{"a pair without an id", []*witnessv1.LinkRequest{pair(nil)}, 0, codes.InvalidArgument, "pair's id is empty"},
		{
			"a pair with a long id", []*witnessv1.LinkRequest{pair(&witnessv1.PartnerSays{Pair: long})}, 0,
			codes.InvalidArgument, "the pair's id is 129 bytes long",
		},
		{
			"a longest lease that no clock can hold",
			[]*witnessv1.LinkRequest{
				pair(&witnessv1.PartnerSays{Pair: "p", LongestLease: &durationpb.Duration{Seconds: 1 << 60}}),
			}, 0,
			codes.InvalidArgument, "longest lease is",
		},
		{
			"too large",
			[]*witnessv1.LinkRequest{pair(&witnessv1.PartnerSays{Pair: "p", Refused: strings.Repeat("x", 5<<20)})},
			0, codes.ResourceExhausted, "larger than max",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := newNetwork()
				b := newHost(t, n, "db2")
				defer b.end()
				conn := call(t, n, b.address)
				defer conn.Close()
				stream, err := witnessv1.NewPartnerServiceClient(conn).Link(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				for _, r := range tt.requests {
					if err := stream.Send(r); err != nil {
						break // Recv says why
					}
					synctest.Wait()
				}
				for err == nil {
					_, err = stream.Recv()
				}
				s := status.Convert(err)
				if s.Code() != tt.code || !strings.Contains(s.Message(), tt.want) {
					t.Errorf("got %v, want %v with %q", err, tt.code, tt.want)
				}
				expect(t, "asked", len(b.asked.all()), tt.asked)
			})
		})
	}
}

// TestTooManyLinks: whoever opens streams without end does so at its own cost.
func TestTooManyLinks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork()
		b := newHost(t, n, "db2")
		defer b.end()
		var refused error
		for range 33 {
			conn := call(t, n, b.address)
			defer conn.Close()
			for range 8 {
				stream, err := witnessv1.NewPartnerServiceClient(conn).Link(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				answer := make(chan error, 1)
				go func() {
					_, err := stream.Recv()
					answer <- err
				}()
				synctest.Wait()
				select {
				case refused = <-answer:
				default:
				}
			}
		}
		if s := status.Convert(refused); s.Code() != codes.ResourceExhausted {
			t.Errorf("link 264: got %v, want that no more are taken", refused)
		}
	})
}

func TestHealth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork()
		b := newHost(t, n, "db2")
		defer b.end()
		conn := call(t, n, b.address)
		defer conn.Close()
		for _, service := range []string{"", "witness.v1.PartnerService"} {
			got, err := healthv1.NewHealthClient(conn).Check(t.Context(), &healthv1.HealthCheckRequest{Service: service})
			if err != nil || got.GetStatus() != healthv1.HealthCheckResponse_SERVING {
				t.Errorf("health of %q: %v, %v", service, got, err)
			}
		}
	})
}

// TestOverTCP goes over real sockets, and so in real time.
func TestOverTCP(t *testing.T) {
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	answered := make(chan uint64, 100)
	a := link.NewPartners(link.PartnerOptions{
		Host: "db1", Start: "s", OnAnswer: func(_ string, sequence uint64, _ []hold.Says) { answered <- sequence },
	})
	b := link.NewPartners(link.PartnerOptions{
		Host: "db2", Start: "s",
		OnAsk: func(_ context.Context, _ string, says []hold.Says) ([]hold.Says, error) { return says, nil },
	})
	address := listener.Addr().String()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	var running sync.WaitGroup
	running.Go(func() {
		if err := a.Run(ctx); err != nil {
			t.Errorf("run: %v", err)
		}
	})
	running.Go(func() {
		if err := b.Serve(ctx, listener); err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	a.SetPeers(map[string]string{"db2": address})
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for sequence := uint64(1); ctx.Err() == nil; sequence++ {
		a.Send("db2", sequence, []hold.Says{{Pair: "p-1"}})
		select {
		case <-answered:
			cancel()
		case <-ticker.C:
		}
	}
	running.Wait()
	if !errors.Is(ctx.Err(), context.Canceled) {
		t.Error("no answer")
	}
}

// TestServeEndsWithItsListener: an agent whose partners cannot reach it must know.
func TestServeEndsWithItsListener(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork()
		listener := n.listen("db1.example:7412")
		if err := listener.Close(); err != nil {
			t.Fatal(err)
		}
		p := link.NewPartners(link.PartnerOptions{Host: "db1"})
		if err := p.Serve(t.Context(), listener); err == nil {
			t.Error("serving on a closed listener ended without an error")
		}
	})
}

package link

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/witnessd/witnessd/agent/hold"
	witnessv1 "github.com/witnessd/witnessd/proto/gen/witness/v1"
)

func partnerRequest(sequence uint64, says ...*witnessv1.PartnerSays) *witnessv1.LinkRequest {
	return &witnessv1.LinkRequest{Host: "db1", Start: "1", Sequence: sequence, Pairs: says}
}

// linkSeeds are what a partner says, and what none should.
func linkSeeds() []*witnessv1.LinkRequest {
	honest := &witnessv1.PartnerSays{
		Pair: "p-1", Epoch: 4, Primary: "db1", Revision: 9, LongestLease: durationpb.New(3 * time.Second), AskLease: true,
		Engine: &witnessv1.EngineState{Running: true, Role: "primary", Commits: "held"},
	}
	long := strings.Repeat("ü", 64<<10)
	return []*witnessv1.LinkRequest{
		partnerRequest(1, honest), partnerRequest(2, honest, honest), partnerRequest(1), partnerRequest(0, honest), {},
		{Host: "db2", Start: "1", Sequence: 1}, {Host: long, Start: long, Sequence: 1 << 63},
		partnerRequest(1, &witnessv1.PartnerSays{}), partnerRequest(1, &witnessv1.PartnerSays{Pair: long}), partnerRequest(1, nil),
		partnerRequest(1, &witnessv1.PartnerSays{Pair: "p", Refused: long, Engine: &witnessv1.EngineState{Role: "x", Step: long}}),
		partnerRequest(1, &witnessv1.PartnerSays{Pair: "p", LongestLease: &durationpb.Duration{Seconds: 1 << 62}}),
		partnerRequest(1, &witnessv1.PartnerSays{Pair: "p", Lease: &durationpb.Duration{Seconds: -1, Nanos: 1 << 30}}),
	}
}

// loop answers as an agent does: what it is told, with nothing granted. It notes what it must not be told.
type loop struct {
	mu  sync.Mutex
	odd string
}

func (l *loop) ask(_ context.Context, from string, says []hold.Says) ([]hold.Says, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range says {
		if from == "" || s.Pair == "" || len(s.Pair) > maxName || s.Longest < 0 || s.Longest > maxLength ||
			s.Lease < 0 || s.Lease > maxLength || len(s.Refused) > maxText || len(s.Engine.Step) > maxText {
			l.odd = from + " says " + s.Pair
		}
	}
	return says, nil
}

// FuzzLink plays a partner that says anything, twice over on one stream. The agent behind it hears only what an
// honest one could say, the stream ends with a code that tells the caller what is wrong, and the link beside it
// goes on.
func FuzzLink(f *testing.F) {
	for _, m := range linkSeeds() {
		for _, then := range []*witnessv1.LinkRequest{{}, partnerRequest(2)} {
			first, err := proto.Marshal(m)
			if err != nil {
				f.Fatal(err)
			}
			second, err := proto.Marshal(then)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(first, second)
		}
	}
	l := &loop{}
	client := serveLink(f, l)
	beside, err := client.Link(context.Background())
	if err != nil {
		f.Fatal(err)
	}
	sequence := uint64(0)
	f.Fuzz(func(t *testing.T, first, second []byte) {
		var course []*witnessv1.LinkRequest
		for _, body := range [][]byte{first, second} {
			m := &witnessv1.LinkRequest{}
			if proto.Unmarshal(body, m) != nil {
				return
			}
			course = append(course, m)
		}
		playPartner(t, client, course)
		sequence++
		late := time.AfterFunc(5*time.Second, func() { panic("the link beside is not answered") })
		defer late.Stop()
		if err := beside.Send(&witnessv1.LinkRequest{Host: "db3", Start: "1", Sequence: sequence}); err != nil {
			t.Fatalf("the link beside has ended: %v", err)
		}
		if m, err := beside.Recv(); err != nil || m.GetSequence() != sequence {
			t.Fatalf("the link beside: %v, %v", m, err)
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.odd != "" {
			t.Fatalf("the agent hears that %.300s", l.odd)
		}
	})
}

// serveLink is a host's partner service, and a client of it.
func serveLink(f *testing.F, l *loop) witnessv1.PartnerServiceClient {
	f.Helper()
	p := NewPartners(PartnerOptions{Host: "db2", Start: "1", OnAsk: l.ask,
		OnAnswer: func(string, uint64, []hold.Says) {}})
	listener := bufconn.Listen(1 << 20)
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- p.Serve(ctx, listener) }()
	conn, err := grpc.NewClient("passthrough:///db2", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() {
		_ = conn.Close()
		cancel()
		if err := <-served; err != nil {
			f.Error(err)
		}
	})
	return witnessv1.NewPartnerServiceClient(conn)
}

func playPartner(t *testing.T, client witnessv1.PartnerServiceClient, course []*witnessv1.LinkRequest) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	stream, err := client.Link(ctx)
	if err != nil {
		t.Fatal(err)
	}
	sent := map[uint64]bool{}
	for _, m := range course {
		if stream.Send(m) != nil {
			break // it was ended; Recv says why
		}
		sent[m.GetSequence()] = true
	}
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return
		}
		if code := status.Code(err); err != nil {
			if code != codes.InvalidArgument && code != codes.ResourceExhausted || len(err.Error()) > maxText {
				t.Fatalf("the link ended with %v: %.300s", code, err.Error())
			}
			return
		}
		if !sent[m.GetSequence()] || m.GetHost() != "db2" || proto.Size(m) > maxMessage {
			t.Fatalf("answered %.300v", m)
		}
	}
}

// FuzzAnswer reads any message as the witness's answer. Of a pair that it does not understand wholly nothing is
// believed, and nothing gets through that could make an instant overflow or a primary serve without an end.
func FuzzAnswer(f *testing.F) {
	policy := &witnessv1.Policy{Heartbeat: durationpb.New(time.Second), Lease: durationpb.New(3 * time.Second),
		Guard: durationpb.New(time.Second), MirrorTimeout: durationpb.New(time.Second)}
	for _, change := range []func(*witnessv1.PairAnswer){
		func(*witnessv1.PairAnswer) {}, func(p *witnessv1.PairAnswer) { p.Mute = true },
		func(p *witnessv1.PairAnswer) { p.Stage = 9 }, func(p *witnessv1.PairAnswer) { p.Policy = nil },
		func(p *witnessv1.PairAnswer) { p.Lease = &durationpb.Duration{Seconds: 1 << 62} },
		func(p *witnessv1.PairAnswer) { p.Procedure = &witnessv1.Procedure{Kind: 3, Step: 2, Epoch: 4} },
	} {
		p := &witnessv1.PairAnswer{Pair: "p-1", Name: "sales", Instance: "db", Stage: 2, Revision: 7, Epoch: 4, Primary: "db1",
			Mirror: "db2", Right: 2, Mode: 1, Policy: policy, LongestLease: durationpb.New(3 * time.Second),
			Lease: durationpb.New(3 * time.Second)}
		change(p)
		body, err := proto.Marshal(&witnessv1.Answer{Sequence: 1, Term: 2, Pairs: []*witnessv1.PairAnswer{p}, Removed: []string{"x"}})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(body)
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		m := &witnessv1.Answer{}
		if proto.Unmarshal(body, m) != nil || checkAnswer(m) != nil {
			return
		}
		a, odd := answerOf(m)
		if len(a.Pairs) > len(m.GetPairs()) || len(a.Pairs)+len(a.Removed)+len(odd) < len(m.GetPairs()) {
			t.Fatalf("%d pairs became %d, with %d oddities", len(m.GetPairs()), len(a.Pairs), len(odd))
		}
		for _, p := range a.Pairs {
			s := p.Says
			if p.Pair == "" || s.Term != m.GetTerm() {
				t.Fatalf("%+v", p)
			}
			if p.Mute {
				if s.Lease != 0 || s.Epoch != 0 || s.Right != hold.RightUnknown {
					t.Fatalf("mute, and says %+v", s)
				}
				continue
			}
			if s.Lease < 0 || s.Lease > s.Longest || s.Longest > maxLength || s.Timing.Guard <= 0 ||
				s.Timing.Lease <= s.Timing.Guard || s.Right == hold.RightUnknown || s.Forming != (s.Epoch == 0) ||
				s.Epoch > 0 && s.Primary == "" {
				t.Fatalf("believed %+v", s)
			}
		}
	})
}

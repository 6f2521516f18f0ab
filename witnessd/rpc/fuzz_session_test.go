package rpc

import (
	"context"
	"errors"
	"io"
	"testing"
	"time"

	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	witnessv1 "github.com/witnessd/witnessd/proto/gen/witness/v1"
)

func helloOf(host string) *witnessv1.Hello {
	return &witnessv1.Hello{Host: host, AgentId: "agent-" + host, Start: "1", Version: "test"}
}

func beatOf(sequence uint64, change func(*witnessv1.PairReport)) *witnessv1.Heartbeat {
	r := &witnessv1.PairReport{
		Pair: "id-sales", Member: &witnessv1.Member{Host: "a", Instance: "sales", LinkAddress: "a:7412", Engine: "demo"},
		FileKnown: true, Epoch: 1, EpochPrimary: "a", Revision: 3, LongestLease: durationpb.New(3 * time.Second),
		AskLease: true, Serving: true, Engine: &witnessv1.EngineState{Running: true, SystemId: "7", Promotable: true},
	}
	change(r)
	return &witnessv1.Heartbeat{Sequence: sequence, TermHeard: 1, Pairs: []*witnessv1.PairReport{r}}
}

func asHello(session uint64, h *witnessv1.Hello) *witnessv1.RelayedRequest {
	return &witnessv1.RelayedRequest{Session: session, Message: &witnessv1.RelayedRequest_Hello{Hello: h}}
}

func asBeat(session uint64, h *witnessv1.Heartbeat) *witnessv1.RelayedRequest {
	return &witnessv1.RelayedRequest{Session: session, Message: &witnessv1.RelayedRequest_Heartbeat{Heartbeat: h}}
}

// sessions are what agents say, and what none should, as a relay carries it: the widest message that there is.
func sessions() []*witnessv1.RelayRequest {
	ending := &witnessv1.RelayedRequest{Session: 1, Message: &witnessv1.RelayedRequest_End{End: &witnessv1.SessionEnd{}}}
	course := func(all ...*witnessv1.RelayedRequest) *witnessv1.RelayRequest {
		return &witnessv1.RelayRequest{Node: "n2", Requests: all}
	}
	bad := func(change func(*witnessv1.PairReport)) *witnessv1.RelayRequest {
		return course(asHello(1, helloOf("a")), asHello(2, helloOf("b")), asBeat(1, beatOf(1, change)),
			asBeat(2, beatOf(1, func(*witnessv1.PairReport) {})))
	}
	many := beatOf(2, func(*witnessv1.PairReport) {})
	for range maxReports {
		many.Pairs = append(many.Pairs, &witnessv1.PairReport{})
	}
	return []*witnessv1.RelayRequest{
		course(asHello(1, helloOf("a")), asBeat(1, beatOf(1, func(*witnessv1.PairReport) {})), ending),
		course(asBeat(1, beatOf(1, func(*witnessv1.PairReport) {})), asHello(1, helloOf("a"))),
		course(asHello(1, helloOf("a")), asHello(1, helloOf("b")), ending, asBeat(1, many)),
		course(asHello(1, helloOf(long)), asHello(2, &witnessv1.Hello{}), asHello(3, helloOf("a")), asBeat(3, many)),
		{}, course(), course(nil, &witnessv1.RelayedRequest{}),
		bad(func(r *witnessv1.PairReport) { r.Request, r.RequestRevision = 9, 3 }),
		bad(func(r *witnessv1.PairReport) { r.Request, r.RequestRevision = 2, 3 }),
		bad(func(r *witnessv1.PairReport) { r.Pair, r.Complaint = long, long }),
		bad(func(r *witnessv1.PairReport) { r.Epoch, r.Revision, r.Released = 1<<64-1, 1<<64-1, 1<<64-1 }),
		bad(func(r *witnessv1.PairReport) { r.Member, r.Engine, r.LongestLease = nil, nil, nil }),
		bad(func(r *witnessv1.PairReport) {
			r.Promise, r.ServesFor = &durationpb.Duration{Seconds: 1<<63 - 1}, &durationpb.Duration{Seconds: -1 << 63, Nanos: 1<<31 - 1}
		}),
	}
}

func addSessions(f *testing.F) {
	for _, m := range sessions() {
		body, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(body)
	}
}

// neighbour is an honest agent's session beside the one that is fuzzed.
type neighbour struct {
	stream   witnessv1.AgentService_SessionClient
	sequence uint64
}

func (b *bench) neighbour(f *testing.F) *neighbour {
	ctx, cancel := context.WithCancel(context.Background())
	f.Cleanup(cancel)
	stream, err := witnessv1.NewAgentServiceClient(b.conn).Session(ctx)
	if err == nil {
		err = stream.Send(&witnessv1.SessionRequest{Message: &witnessv1.SessionRequest_Hello{Hello: helloOf("b")}})
	}
	if err != nil {
		f.Fatal(err)
	}
	for b.lobby.current() == nil {
		time.Sleep(time.Millisecond)
	}
	return &neighbour{stream: stream}
}

// ask fails unless the neighbour's next heartbeat is answered.
func (n *neighbour) ask(t *testing.T) {
	t.Helper()
	n.sequence++
	beat := beatOf(n.sequence, func(r *witnessv1.PairReport) { r.AskLease = false })
	late := time.AfterFunc(answerTime, func() { panic("the neighbour's session is not answered") })
	defer late.Stop()
	if err := n.stream.Send(&witnessv1.SessionRequest{
		Message: &witnessv1.SessionRequest_Heartbeat{Heartbeat: beat},
	}); err != nil {
		t.Fatalf("the neighbour's session has ended: %v", err)
	}
	for {
		m, err := n.stream.Recv()
		if err != nil {
			t.Fatalf("the neighbour's session has ended: %v", err)
		}
		if m.GetAnswer().GetSequence() == n.sequence {
			return
		}
	}
}

// FuzzSession plays an agent that says anything. It is answered or refused in the witness's own words, and the
// session beside it goes on.
func FuzzSession(f *testing.F) {
	addSessions(f)
	b := newBench(f)
	beside := b.neighbour(f)
	f.Fuzz(func(t *testing.T, body []byte) {
		course := &witnessv1.RelayRequest{}
		if proto.Unmarshal(body, course) != nil {
			return
		}
		b.reset(t)
		ctx, cancel := context.WithTimeout(context.Background(), answerTime)
		defer cancel()
		stream, err := witnessv1.NewAgentServiceClient(b.conn).Session(ctx)
		if err != nil {
			t.Fatal(err)
		}
		beats := 0
		for _, said := range course.GetRequests() {
			m := &witnessv1.SessionRequest{}
			switch {
			case said.GetHello() != nil:
				m.Message = &witnessv1.SessionRequest_Hello{Hello: said.GetHello()}
			case said.GetHeartbeat() != nil:
				m.Message = &witnessv1.SessionRequest_Heartbeat{Heartbeat: said.GetHeartbeat()}
				beats++
			}
			if stream.Send(m) != nil {
				break // it was ended; Recv says why
			}
		}
		if err := stream.CloseSend(); err != nil {
			t.Fatal(err)
		}
		answers, err := listen(stream)
		checkRefusal(t, err)
		if answers > beats {
			t.Fatalf("%d answers to %d heartbeats", answers, beats)
		}
		beside.ask(t)
	})
}

// listen counts the answers of a session until it ends.
func listen(stream witnessv1.AgentService_SessionClient) (answers int, err error) {
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return answers, nil
		}
		if err != nil {
			return answers, err
		}
		if m.GetAnswer() != nil {
			answers++
		}
	}
}

// FuzzRelay plays a node that relays anything. Its stream goes on, whatever is in it; what is wrong with a session
// ends that session, with a reason; nothing is said about sessions that were not named.
func FuzzRelay(f *testing.F) {
	addSessions(f)
	b := newBench(f)
	beside := b.neighbour(f)
	f.Fuzz(func(t *testing.T, body []byte) {
		course := &witnessv1.RelayRequest{}
		if proto.Unmarshal(body, course) != nil {
			return
		}
		b.reset(t)
		ctx, cancel := context.WithTimeout(context.Background(), answerTime)
		defer cancel()
		stream, err := witnessv1.NewRelayServiceClient(b.conn).Relay(ctx)
		for range 2 { // all of it once more
			if err == nil && len(body) > 0 {
				err = stream.Send(course)
			}
		}
		if err != nil {
			t.Fatal(err)
		}
		named := map[uint64]bool{}
		for _, r := range course.GetRequests() {
			named[r.GetSession()] = true
		}
		if err := stream.CloseSend(); err != nil {
			t.Fatal(err)
		}
		for {
			m, err := stream.Recv()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatalf("the relay has ended: %v %v", status.Code(err), err)
			}
			for _, r := range m.GetResponses() {
				end := r.GetEnd()
				if !named[r.GetSession()] || end != nil && (end.GetReason() == "" || end.GetDetail() == "" ||
					proto.Size(end) > maxRefusal) {
					t.Fatalf("said of session %d: %.300v", r.GetSession(), r)
				}
			}
		}
		beside.ask(t)
	})
}

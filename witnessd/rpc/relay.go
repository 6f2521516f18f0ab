package rpc

import (
	"context"
	"sync"

	"google.golang.org/grpc"

	witnessv1 "github.com/witnessd/witnessd/proto/gen/witness/v1"
	"github.com/witnessd/witnessd/witnessd/pair"
)

// relay carries the sessions of this node to the leader, for as long as its stream lasts. Whatever waits
// when the stream is ready goes in one message, so batches grow with the load and nothing waits for a timer.
type relay struct {
	leader string
	done   chan struct{} // closed when the stream has ended

	mu       sync.Mutex
	batch    []*witnessv1.RelayedRequest
	sessions map[uint64]*session
	ready    chan struct{} // has room for one: the batch is not empty
}

func newRelay(leader string) *relay {
	return &relay{
		leader: leader, done: make(chan struct{}),
		sessions: make(map[uint64]*session), ready: make(chan struct{}, 1),
	}
}

func (r *relay) gone() <-chan struct{} { return r.done }

func (r *relay) enter(_ context.Context, s *session) (stay, error) {
	r.mu.Lock()
	r.sessions[s.number] = s
	r.mu.Unlock()
	r.put(&witnessv1.RelayedRequest{
		Session: s.number, Message: &witnessv1.RelayedRequest_Hello{Hello: fromAgent(s.agent)},
	})
	return relayStay{relay: r, number: s.number}, nil
}

type relayStay struct {
	relay  *relay
	number uint64
}

func (s relayStay) heartbeat(m *witnessv1.Heartbeat, _ Heartbeat) {
	s.relay.put(&witnessv1.RelayedRequest{
		Session: s.number, Message: &witnessv1.RelayedRequest_Heartbeat{Heartbeat: m},
	})
}

func (s relayStay) leave() {
	s.relay.mu.Lock()
	delete(s.relay.sessions, s.number)
	s.relay.mu.Unlock()
	s.relay.put(&witnessv1.RelayedRequest{
		Session: s.number, Message: &witnessv1.RelayedRequest_End{End: &witnessv1.SessionEnd{}},
	})
}

// put adds to the batch. Of heartbeats only so many wait; beginnings and ends are as many as sessions.
func (r *relay) put(m *witnessv1.RelayedRequest) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if m.GetHeartbeat() != nil && len(r.batch) >= relayRoom {
		return
	}
	r.batch = append(r.batch, m)
	select {
	case r.ready <- struct{}{}:
	default:
	}
}

func (r *relay) take() []*witnessv1.RelayedRequest {
	r.mu.Lock()
	defer r.mu.Unlock()
	batch := r.batch
	r.batch = nil
	return batch
}

// run carries until the stream ends; its error is only for the log. It closes accepted when the leader says
// that it hears this relay, which it does by an empty batch.
func (r *relay) run(ctx context.Context, conn grpc.ClientConnInterface, node string, accepted chan<- struct{}) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := witnessv1.NewRelayServiceClient(conn).Relay(ctx)
	if err != nil {
		return err
	}
	if err := stream.Send(&witnessv1.RelayRequest{Node: node}); err != nil {
		return err
	}
	if _, err := stream.Recv(); err != nil {
		return err
	}
	close(accepted)
	var sender sync.WaitGroup
	defer sender.Wait()
	defer cancel()
	sender.Go(func() {
		defer cancel() // a stream that cannot be sent on is of no use
		for {
			select {
			case <-r.ready:
			case <-stream.Context().Done():
				return
			}
			err := batches(r.take(), func(batch []*witnessv1.RelayedRequest) error {
				return stream.Send(&witnessv1.RelayRequest{Requests: batch})
			})
			if err != nil {
				return
			}
		}
	})
	for {
		m, err := stream.Recv()
		if err != nil {
			return err
		}
		for _, response := range m.GetResponses() {
			r.deliver(response)
		}
	}
}

func (r *relay) deliver(m *witnessv1.RelayedResponse) {
	r.mu.Lock()
	s := r.sessions[m.GetSession()]
	r.mu.Unlock()
	if s == nil {
		return // it has left meanwhile
	}
	switch said := m.GetMessage().(type) {
	case *witnessv1.RelayedResponse_Answer:
		s.relayed(said.Answer)
	case *witnessv1.RelayedResponse_Nudge:
		s.Nudge()
	case *witnessv1.RelayedResponse_End:
		s.End(&pair.Refusal{Reason: pair.Reason(said.End.GetReason()), Detail: said.End.GetDetail(), Do: said.End.GetDo()})
	}
}

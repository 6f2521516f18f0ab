package rpc

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"sync"

	"google.golang.org/grpc"

	witnessv1 "github.com/witnessd/witnessd/proto/gen/witness/v1"
	"github.com/witnessd/witnessd/witnessd/pair"
)

// relayService hears, on the leader, the sessions that other nodes carry to it.
type relayService struct {
	witnessv1.UnimplementedRelayServiceServer
	*Server
}

// carried is one relay's stream at the leader. Its receiver owns the sessions.
type carried struct {
	office   Office
	log      *slog.Logger
	sessions map[uint64]*carriedSession

	mu    sync.Mutex
	batch []*carriedResponse
	ready chan struct{} // has room for one: the batch is not empty
}

// carriedResponse is turned into a message by the sender: the office must not be kept waiting.
type carriedResponse struct {
	session *carriedSession
	answer  *Answer
	end     *pair.Refusal // neither: a nudge
}

// Relay lasts as long as the office does to which it brings its sessions.
func (r relayService) Relay(stream grpc.BidiStreamingServer[witnessv1.RelayRequest, witnessv1.RelayResponse]) error {
	office, _ := r.court.Office()
	if office == nil {
		return r.failure(ErrNotLeading, "")
	}
	first, err := stream.Recv()
	if errors.Is(err, io.EOF) {
		return nil // it left before it relayed anything
	}
	if err != nil {
		return err
	}
	c := &carried{
		office: office, log: r.log.With("node", first.GetNode()),
		sessions: make(map[uint64]*carriedSession), ready: make(chan struct{}, 1),
	}
	if err := stream.Send(&witnessv1.RelayResponse{}); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	received := make(chan error, 1)
	r.work.Go(func() {
		defer cancel()
		defer c.leave()
		for m := first; ; {
			for _, request := range m.GetRequests() {
				c.hear(ctx, request)
			}
			var err error
			if m, err = stream.Recv(); err != nil {
				received <- err
				return
			}
		}
	})
	for {
		select {
		case <-c.ready:
			if err := c.flush(stream); err != nil {
				return err
			}
		case <-office.Done():
			return r.failure(ErrNotLeading, "")
		case <-r.stopping:
			return r.stopped()
		case <-ctx.Done():
			if err := <-received; !errors.Is(err, io.EOF) {
				return err
			}
			return nil
		}
	}
}

func (c *carried) flush(stream grpc.BidiStreamingServer[witnessv1.RelayRequest, witnessv1.RelayResponse]) error {
	c.mu.Lock()
	batch := c.batch
	c.batch = nil
	c.mu.Unlock()
	responses := make([]*witnessv1.RelayedResponse, 0, len(batch))
	for _, response := range batch {
		responses = append(responses, response.message())
	}
	return batches(responses, func(part []*witnessv1.RelayedResponse) error {
		return stream.Send(&witnessv1.RelayResponse{Responses: part})
	})
}

func (r *carriedResponse) message() *witnessv1.RelayedResponse {
	m := &witnessv1.RelayedResponse{Session: r.session.number}
	switch {
	case r.answer != nil:
		m.Message = &witnessv1.RelayedResponse_Answer{Answer: fromAnswer(r.session.agent.Host, *r.answer)}
	case r.end != nil:
		why := brief(r.end)
		m.Message = &witnessv1.RelayedResponse_End{End: &witnessv1.SessionEnd{
			Reason: string(why.Reason), Detail: why.Detail, Do: why.Do,
		}}
	default:
		m.Message = &witnessv1.RelayedResponse_Nudge{Nudge: &witnessv1.Nudge{}}
	}
	return m
}

// hear takes one message of one session. Its receipt is now, whenever the agent sent it.
func (c *carried) hear(ctx context.Context, m *witnessv1.RelayedRequest) {
	s := c.sessions[m.GetSession()]
	switch said := m.GetMessage().(type) {
	case *witnessv1.RelayedRequest_Hello:
		if s != nil || len(c.sessions) >= maxSessions {
			return
		}
		c.begin(ctx, m.GetSession(), said.Hello)
	case *witnessv1.RelayedRequest_Heartbeat:
		if s == nil || s.seat == nil {
			return
		}
		hb, bad := toHeartbeat(said.Heartbeat)
		if bad != nil {
			s.End(bad)
			return
		}
		s.seat.Heartbeat(hb)
	case *witnessv1.RelayedRequest_End:
		if s != nil && s.seat != nil {
			s.seat.Leave()
		}
		delete(c.sessions, m.GetSession())
	}
}

func (c *carried) begin(ctx context.Context, number uint64, hello *witnessv1.Hello) {
	agent, bad := toAgent(hello)
	s := &carriedSession{number: number, agent: agent, of: c}
	c.sessions[number] = s
	if bad != nil {
		s.End(bad)
		return
	}
	seat, err := c.office.Join(ctx, agent, s)
	var refusal *pair.Refusal
	switch {
	case errors.As(err, &refusal):
		s.End(refusal)
	case err == nil:
		s.seat = seat
	default:
		c.log.DebugContext(ctx, "session not taken over", "host", string(agent.Host), "error", err)
	}
}

// leave gives up all seats when the relay is gone.
func (c *carried) leave() {
	for _, s := range c.sessions {
		if s.seat != nil {
			s.seat.Leave()
		}
	}
}

func (c *carried) put(r *carriedResponse) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if r.end == nil && len(c.batch) >= relayRoom {
		return
	}
	c.batch = append(c.batch, r)
	select {
	case c.ready <- struct{}{}:
	default:
	}
}

// carriedSession is the outlet of a session that another node carries.
type carriedSession struct {
	number uint64
	agent  Agent
	of     *carried
	seat   Seat // nil: it was refused
}

func (s *carriedSession) Answer(a Answer)       { s.of.put(&carriedResponse{session: s, answer: &a}) }
func (s *carriedSession) Nudge()                { s.of.put(&carriedResponse{session: s}) }
func (s *carriedSession) End(why *pair.Refusal) { s.of.put(&carriedResponse{session: s, end: why}) }

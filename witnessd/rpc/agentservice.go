package rpc

import (
	"context"
	"errors"
	"io"

	"google.golang.org/grpc"

	witnessv1 "github.com/witnessd/witnessd/proto/gen/witness/v1"
	"github.com/witnessd/witnessd/witnessd/pair"
)

// agentService takes agents in, on every node.
type agentService struct {
	witnessv1.UnimplementedAgentServiceServer
	*Server
}

type agentStream = grpc.BidiStreamingServer[witnessv1.SessionRequest, witnessv1.SessionResponse]

// Session lasts until the agent leaves, the witness ends it, or this node stops. That leaders come and go
// does not show in it, but by heartbeats that are not answered for a moment.
func (a agentService) Session(stream agentStream) error {
	first, err := stream.Recv()
	if errors.Is(err, io.EOF) {
		return nil // it left before it said who it is
	}
	if err != nil {
		return err
	}
	if first.GetHello() == nil {
		return a.refused(badRequest("", "the first message of a session must be a hello"), "")
	}
	agent, bad := toAgent(first.GetHello())
	if bad != nil {
		return a.refused(bad, "")
	}
	s, bad := a.lobby.admit(agent)
	if bad != nil {
		return a.refused(bad, "")
	}
	defer a.lobby.dismiss(s)
	welcome := &witnessv1.Welcome{Node: a.node}
	for _, n := range a.nodes() {
		welcome.Nodes = append(welcome.Nodes, fromNode(n))
	}
	s.send(func() *witnessv1.SessionResponse {
		return &witnessv1.SessionResponse{Message: &witnessv1.SessionResponse_Welcome{Welcome: welcome}}
	})

	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	received := make(chan error, 1)
	a.work.Go(func() {
		received <- a.receive(ctx, stream, s)
		cancel() // the sender has nothing to wait for
	})
	sendErr := a.send(ctx, stream, s)
	// Returning ends the stream, and with it the receiver's wait for a message: its result is only waited for
	// if it has ended first.
	select {
	case err := <-received:
		if err != nil {
			return err
		}
		return sendErr
	default:
		return sendErr
	}
}

// send is the only sender of a session's stream.
func (a agentService) send(ctx context.Context, stream agentStream, s *session) error {
	nudge := &witnessv1.SessionResponse{Message: &witnessv1.SessionResponse_Nudge{Nudge: &witnessv1.Nudge{}}}
	for {
		var m *witnessv1.SessionResponse
		select {
		case message := <-s.out:
			m = message()
		case <-s.nudged:
			m = nudge
		case <-s.ended:
			return a.refused(s.why, "")
		case <-a.stopping:
			return a.stopped()
		case <-ctx.Done():
			return nil
		}
		if err := stream.Send(m); err != nil {
			return err
		}
	}
}

// receive takes heartbeats and gives them to whoever hears them now.
func (a agentService) receive(ctx context.Context, stream agentStream, s *session) error {
	var at home
	var here stay
	defer func() {
		if here != nil {
			here.leave()
		}
	}()
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if m.GetHeartbeat() == nil {
			return a.refused(badRequest("", "after the hello a session takes heartbeats only"), "")
		}
		hb, bad := toHeartbeat(m.GetHeartbeat())
		if bad != nil {
			return a.refused(bad, "")
		}
		if now := a.lobby.current(); now != at {
			if here != nil {
				here.leave()
			}
			at, here = now, nil
		}
		if at == nil {
			continue // nobody leads: not answered
		}
		if here == nil {
			if here, err = at.enter(ctx, s); err != nil {
				here = nil
				if refusal, ok := errors.AsType[*pair.Refusal](err); ok {
					return a.refused(refusal, "")
				}
				at = nil
				continue
			}
		}
		here.heartbeat(m.GetHeartbeat(), hb)
	}
}

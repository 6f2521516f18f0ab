package link

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"

	witnessv1 "github.com/witnessd/witnessd/proto/gen/witness/v1"
)

// Serve answers partners on the listener until ctx ends, and closes it.
func (p *Partners) Serve(ctx context.Context, listener net.Listener) error {
	server := grpc.NewServer(
		grpc.Creds(transportCredentials()),
		grpc.MaxRecvMsgSize(maxMessage), grpc.MaxSendMsgSize(maxMessage),
		grpc.MaxConcurrentStreams(maxStreams), grpc.MaxHeaderListSize(16<<10),
		grpc.ConnectionTimeout(openTimeout),
		grpc.KeepaliveParams(keepalive.ServerParameters{
			Time: KeepaliveTime, Timeout: KeepaliveTimeout, MaxConnectionIdle: time.Minute,
		}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{
			MinTime: KeepaliveMinTime, PermitWithoutStream: true,
		}),
		grpc.WaitForHandlers(true),
	)
	witnessv1.RegisterPartnerServiceServer(server, &answerer{partners: p})
	healthy := health.NewServer()
	healthy.SetServingStatus(witnessv1.PartnerService_ServiceDesc.ServiceName, healthv1.HealthCheckResponse_SERVING)
	healthv1.RegisterHealthServer(server, healthy)

	address := listener.Addr()
	stop := context.AfterFunc(ctx, server.Stop)
	defer stop()
	err := server.Serve(listener)
	server.Stop()
	if ctx.Err() != nil {
		return nil
	}
	return fmt.Errorf("serve partners on %v: %w", address, err)
}

// answerer is the called end of links.
type answerer struct {
	witnessv1.UnimplementedPartnerServiceServer
	partners *Partners
}

// Link hears the requests of one partner. They are answered beside it, in order, and one that waits for its
// turn makes room for a newer one: what is asked late is not worth a promise.
func (a *answerer) Link(stream linkServer) error {
	select {
	case a.partners.links <- struct{}{}:
		defer func() { <-a.partners.links }()
	default:
		return status.Errorf(codes.ResourceExhausted, "%d links are open here, no more are taken", maxLinks)
	}
	ctx, cancel := context.WithCancel(stream.Context())
	requests := newOutbox[*witnessv1.LinkRequest]()
	var answering sync.WaitGroup
	answering.Go(func() { a.answer(ctx, stream, requests) })
	err := a.hear(stream, requests)
	cancel()
	answering.Wait()
	return err
}

type linkServer = grpc.BidiStreamingServer[witnessv1.LinkRequest, witnessv1.LinkResponse]

// hear returns when the stream ends or brings what cannot be right.
func (a *answerer) hear(stream linkServer, requests outbox[*witnessv1.LinkRequest]) error {
	var last *witnessv1.LinkRequest
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err // gRPC's own
		}
		if err := a.check(m, last); err != nil {
			return status.Error(codes.InvalidArgument, err.Error())
		}
		requests.put(m)
		last = m
	}
}

// check refuses a request that no agent sends. last is the former one on the stream, nil before.
func (a *answerer) check(m, last *witnessv1.LinkRequest) error {
	if err := cmp.Or(checkName("host", m.GetHost()), checkName("start", m.GetStart())); err != nil {
		return err
	}
	switch {
	case m.GetHost() == a.partners.options.Host:
		return malformed("%s is the name of this host: two agents use it", m.GetHost())
	case last != nil && (m.GetHost() != last.GetHost() || m.GetStart() != last.GetStart()):
		return malformed("the link of host %s speaks for %s", last.GetHost(), m.GetHost())
	case m.GetSequence() <= last.GetSequence():
		return malformed("request %d after request %d", m.GetSequence(), last.GetSequence())
	}
	return checkPairs(m.GetPairs())
}

// answer has the agent answer one request after the other.
func (a *answerer) answer(ctx context.Context, stream linkServer, requests outbox[*witnessv1.LinkRequest]) {
	for {
		select {
		case m := <-requests:
			response, err := a.ask(ctx, m)
			if err != nil {
				a.partners.options.Logger.DebugContext(ctx, "partner's request dropped",
					"host", m.GetHost(), "error", err)
				continue
			}
			if stream.Send(response) != nil {
				return // the stream has ended; hear learns why
			}
		case <-ctx.Done():
			return
		}
	}
}

func (a *answerer) ask(ctx context.Context, m *witnessv1.LinkRequest) (*witnessv1.LinkResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	says, err := a.partners.options.OnAsk(ctx, m.GetHost(), saysOf(m.GetPairs()))
	if err != nil {
		return nil, err
	}
	o := a.partners.options
	return &witnessv1.LinkResponse{
		Host: utf(o.Host), Start: utf(o.Start), Sequence: m.GetSequence(), Pairs: partnerSays(says),
	}, nil
}

package rpc

import (
	"context"
	"errors"
	"io"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	witnessv1 "github.com/witnessd/witnessd/proto/gen/witness/v1"
	"github.com/witnessd/witnessd/witnessd/pair"
)

// This file passes calls on to the leader. It knows services by name only, so that a call added to the
// schema needs nothing here.

// passedOn marks a call that came from another node. Such a call is answered here or not at all: two nodes
// that each take the other for the leader must not play ball with it.
const passedOn = "witness-passed-on-by"

// forLeader says whether a call must be answered by the leader.
func forLeader(method string, req any) bool {
	switch {
	case strings.HasPrefix(method, "/"+witnessv1.AdminService_ServiceDesc.ServiceName+"/"):
	case strings.HasPrefix(method, "/"+witnessv1.WitnessService_ServiceDesc.ServiceName+"/"):
	default:
		return false
	}
	if r, ok := req.(interface{ GetStale() bool }); ok && r.GetStale() {
		return false
	}
	if r, ok := req.(interface{ GetLocal() bool }); ok && r.GetLocal() {
		return false
	}
	// Events are never wrong on a follower, only a moment late, and the stream outlives every leader.
	return method != witnessv1.AdminService_WatchEvents_FullMethodName
}

// reads says whether a call changes nothing, so that it may be repeated after any failure of the way.
func reads(method string) bool {
	name := method[strings.LastIndexByte(method, '/')+1:]
	for _, prefix := range []string{"Get", "List", "Watch", "Explain", "Snapshot"} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}

// unary answers a call here if this node leads or the call does not need the leader, and else passes it on.
func (s *Server) unary(
	ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler,
) (any, error) {
	if !forLeader(info.FullMethod, req) {
		return handler(ctx, req)
	}
	var answer any
	err := s.atLeader(ctx, info.FullMethod, func() (err error) {
		answer, err = handler(ctx, req)
		return err
	}, func(ctx context.Context, conn *grpc.ClientConn) (err error) {
		out, err := messageOf(info.FullMethod, protoreflect.MethodDescriptor.Output)
		if err != nil {
			return err
		}
		answer = out
		return conn.Invoke(ctx, info.FullMethod, req, out)
	})
	if err != nil && info.FullMethod == witnessv1.WitnessService_GetStatus_FullMethodName && unheard(err) {
		return handler(ctx, req) // how the witness is, is asked above all when there is no leader
	}
	if err != nil {
		return nil, err
	}
	return answer, nil
}

// stream is unary for calls that are answered by a stream. Such a stream begins again with the next leader
// when one is lost, without an end of the caller's.
func (s *Server) stream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	if info.IsClientStream {
		return handler(srv, ss)
	}
	req, err := messageOf(info.FullMethod, protoreflect.MethodDescriptor.Input)
	if err != nil {
		return err
	}
	if err := ss.RecvMsg(req); err != nil {
		return err
	}
	replay := &replayed{ServerStream: ss, request: req}
	if !forLeader(info.FullMethod, req) {
		return handler(srv, replay)
	}
	ctx, cancel := s.untilStop(ss.Context())
	defer cancel()
	// A snapshot is one file: it cannot go on with what another leader has.
	whole := func(err error) error {
		if replay.sent > 0 && info.FullMethod == witnessv1.WitnessService_Snapshot_FullMethodName &&
			(unheard(err) || status.Code(err) == codes.Unavailable) {
			return s.refused(&pair.Refusal{Reason: reasonCut, Detail: "the leader was lost", Do: "take the backup again"}, "")
		}
		return err
	}
	for {
		sent := replay.sent
		err := s.atLeader(ctx, info.FullMethod, func() error {
			return whole(handler(srv, replay))
		}, func(ctx context.Context, conn *grpc.ClientConn) error {
			return whole(proxy(ctx, conn, info.FullMethod, replay))
		})
		select {
		case <-s.stopping:
			return s.stopped()
		default:
		}
		// A stream that brought something has a right to as much patience as a new one.
		if err == nil || !unheard(err) || replay.sent == sent {
			return err
		}
	}
}

// atLeader runs one of two ways to answer a call: here, while this node leads, or there, at the leader. It
// waits a moment for a leader, and tries again what is known not to have been heard.
func (s *Server) atLeader(
	ctx context.Context, method string, here func() error, there func(context.Context, *grpc.ClientConn) error,
) error {
	giveUp := time.NewTimer(patience)
	defer giveUp.Stop()
	for {
		office, changed := s.court.Office()
		err := s.refused(&pair.Refusal{Reason: reasonNoLeader, Detail: "the witness has no leader at the moment",
			Do: "try again; if it lasts, see witnessctl status"}, "")
		switch leader := s.group.Leader(); {
		case office != nil:
			err = here()
		case isPassedOn(ctx):
			return s.failure(ErrNotLeading, "")
		case leader != "" && leader != s.node:
			err = s.pass(ctx, leader, method, there)
		}
		if err == nil || !unheard(err) || isPassedOn(ctx) {
			return err
		}
		select {
		case <-giveUp.C:
			return err
		case <-s.stopping:
			return s.stopped()
		case <-ctx.Done():
			return status.FromContextError(ctx.Err()).Err()
		case <-changed:
		case <-time.After(again):
		}
	}
}

// pass makes a call at the leader. An error of the way there, and not of the leader, is turned into one that
// says what is known: that the call was not heard, or that this is not known.
func (s *Server) pass(
	ctx context.Context, leader, method string, there func(context.Context, *grpc.ClientConn) error,
) error {
	conn, err := s.peers.ready(ctx, leader)
	if err != nil {
		return s.refused(&pair.Refusal{Reason: reasonNoLeader,
			Detail: "the leader " + leader + " cannot be reached from node " + s.node, Do: "try another node"}, "")
	}
	err = there(metadata.AppendToOutgoingContext(ctx, passedOn, s.node), conn)
	switch {
	case err == nil, reasonOf(err) != "", ctx.Err() != nil, status.Code(err) != codes.Unavailable:
		return err
	case reads(method):
		return s.refused(&pair.Refusal{Reason: reasonNoLeader,
			Detail: "the leader " + leader + " was lost", Do: "try again"}, "")
	default:
		return s.failure(ErrOutcomeUnknown, "")
	}
}

func isPassedOn(ctx context.Context) bool {
	return len(metadata.ValueFromIncomingContext(ctx, passedOn)) > 0
}

// proxy copies a stream of the leader's.
func proxy(ctx context.Context, conn *grpc.ClientConn, method string, replay *replayed) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	up, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, method)
	if err != nil {
		return err
	}
	if err := up.SendMsg(replay.request); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if err := up.CloseSend(); err != nil {
		return err
	}
	for {
		m, err := messageOf(method, protoreflect.MethodDescriptor.Output)
		if err != nil {
			return err
		}
		if err := up.RecvMsg(m); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if err := replay.SendMsg(m); err != nil {
			return err
		}
	}
}

// replayed gives a handler the request that was read already, as often as it is called.
type replayed struct {
	grpc.ServerStream
	request proto.Message
	sent    int
}

func (r *replayed) RecvMsg(m any) error {
	into, ok := m.(proto.Message)
	if !ok {
		return status.Errorf(codes.Internal, "%T is not a message", m)
	}
	proto.Merge(into, r.request)
	return nil
}

func (r *replayed) SendMsg(m any) error {
	r.sent++
	return r.ServerStream.SendMsg(m)
}

// messageOf makes an empty request or response of a method.
func messageOf(
	method string, side func(protoreflect.MethodDescriptor) protoreflect.MessageDescriptor,
) (proto.Message, error) {
	name := protoreflect.FullName(strings.ReplaceAll(strings.TrimPrefix(method, "/"), "/", "."))
	found, err := protoregistry.GlobalFiles.FindDescriptorByName(name)
	if err != nil {
		return nil, status.Errorf(codes.Unimplemented, "method %s is not known to this release", method)
	}
	descriptor, ok := found.(protoreflect.MethodDescriptor)
	if !ok {
		return nil, status.Errorf(codes.Unimplemented, "%s is not a method", method)
	}
	kind, err := protoregistry.GlobalTypes.FindMessageByName(side(descriptor).FullName())
	if err != nil {
		return nil, status.Errorf(codes.Internal, "message of %s: %v", method, err)
	}
	return kind.New().Interface(), nil
}

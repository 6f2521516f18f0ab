package link

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/keepalive"
)

// Keepalive of every connection, calling and called. A server that is called must allow pings at this rate
// (keepalive.EnforcementPolicy with a MinTime of at most KeepaliveMinTime), or gRPC ends the connection as
// abuse: by default it allows one in five minutes. gRPC's client does not ping more often than every 10 s.
//
// On Linux a connection is also given up when what was sent is not acknowledged for KeepaliveTimeout.
const (
	KeepaliveTime    = 10 * time.Second
	KeepaliveTimeout = 5 * time.Second
	KeepaliveMinTime = 5 * time.Second
)

// openTimeout bounds the way from nothing to an open stream.
const openTimeout = 3 * time.Second

// connect opens a connection with one stream on it, has talk use it, and closes both when talk returns.
// Every try gets a connection of its own, so that nothing of an old one, a half-dead socket, a window, a
// back-off of gRPC's, outlives it.
//
// talk must call opened once the other side has shown that it takes part. It ends the stream with fail.
func connect[S any](
	ctx context.Context, endpoint string, dial dialFunc,
	open func(context.Context, grpc.ClientConnInterface) (S, error),
	talk func(ctx context.Context, stream S, opened func(), fail context.CancelCauseFunc) error,
) error {
	outer := ctx
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	limit := time.AfterFunc(openTimeout, func() { fail(errNotOpened) })
	defer limit.Stop()

	sockets := sockets{dial: dial}
	conn, err := grpc.NewClient("passthrough:///"+endpoint, dialOptions(sockets.open)...)
	if err != nil {
		return err
	}
	defer conn.Close()
	// Before that, because gRPC waits up to 5 s to say good-bye on a connection that takes nothing.
	defer sockets.close()

	stream, err := open(ctx, conn)
	if err == nil {
		err = talk(ctx, stream, func() { limit.Stop() }, fail)
	}
	cause := context.Cause(ctx)
	if cause == nil || errors.Is(cause, context.Canceled) || outer.Err() != nil {
		return err
	}
	return cause // gRPC only says that it was cancelled
}

func dialOptions(dial dialFunc) []grpc.DialOption {
	return []grpc.DialOption{
		grpc.WithTransportCredentials(transportCredentials()),
		grpc.WithContextDialer(dial),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: KeepaliveTime, Timeout: KeepaliveTimeout}),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: backoff.DefaultConfig, MinConnectTimeout: openTimeout}),
		grpc.WithDefaultCallOptions(
			grpc.MaxCallRecvMsgSize(maxMessage), grpc.MaxCallSendMsgSize(maxMessage), grpc.WaitForReady(false)),
		grpc.WithDisableServiceConfig(),
	}
}

// dialFunc opens a socket.
type dialFunc = func(ctx context.Context, address string) (net.Conn, error)

func dialTCP(ctx context.Context, address string) (net.Conn, error) {
	return (&net.Dialer{}).DialContext(ctx, "tcp", address)
}

var errClosed = errors.New("connection closed")

// sockets are those that gRPC has opened for one connection.
type sockets struct {
	dial dialFunc

	mu     sync.Mutex
	opened []net.Conn
	closed bool
}

func (s *sockets) open(ctx context.Context, address string) (net.Conn, error) {
	conn, err := s.dial(ctx, address)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, errors.Join(errClosed, conn.Close())
	}
	s.opened = append(s.opened, conn)
	return conn, nil
}

func (s *sockets) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for _, conn := range s.opened {
		_ = conn.Close() // nobody is left who could do anything about it
	}
}

// pump sends what is put into the outbox until the stream ends.
func pump[Q, A any](
	ctx context.Context, stream grpc.BidiStreamingClient[Q, A], out outbox[*Q],
	sending func(*Q), fail context.CancelCauseFunc,
) {
	for {
		select {
		case message := <-out:
			sending(message)
			err := stream.Send(message)
			if err == nil {
				continue
			}
			if !errors.Is(err, io.EOF) { // which means that the receiver learns why
				fail(err)
			}
			return
		case <-ctx.Done():
			return
		}
	}
}

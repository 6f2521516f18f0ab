// Package nodetest is a witness for the tests of its clients: nodes in memory that answer what the test
// tells them to, and that die, freeze and come back when it says so. It knows no rules; what a witness
// would answer is the test's to say.
package nodetest

import (
	"context"
	"errors"
	"net"
	"sync"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	witnessv1 "github.com/witnessd/witnessd/proto/gen/witness/v1"
)

// Call is a call that a node received.
type Call struct {
	Context context.Context
	Node    string // address
	Method  string // without the service
	Request proto.Message
}

// Answer answers a call; what it sends before it returns nil is the answer, once or as a stream.
type Answer func(c Call, send func(proto.Message) error) error

// Witness is the nodes of one.
type Witness struct {
	t       testing.TB
	mu      sync.Mutex
	nodes   map[string]*node
	answers map[string]Answer
	calls   []Call
}

type node struct {
	listener *bufconn.Listener
	server   *grpc.Server
	serving  sync.WaitGroup
	frozen   bool
}

// New starts nodes at addresses, and stops them when the test ends.
func New(t testing.TB, addresses ...string) *Witness {
	w := &Witness{t: t, nodes: map[string]*node{}, answers: map[string]Answer{}}
	for _, a := range addresses {
		w.Start(a)
	}
	t.Cleanup(func() {
		for a := range w.nodes {
			w.Kill(a)
		}
	})
	return w
}

// Start starts a node.
func (w *Witness) Start(address string) {
	n := &node{listener: bufconn.Listen(1 << 20), server: grpc.NewServer()}
	for _, d := range []grpc.ServiceDesc{witnessv1.AdminService_ServiceDesc, witnessv1.WitnessService_ServiceDesc} {
		w.register(n.server, address, d.ServiceName)
	}
	n.serving.Go(func() {
		if err := n.server.Serve(n.listener); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
			w.t.Errorf("node %s: %v", address, err)
		}
	})
	w.mu.Lock()
	defer w.mu.Unlock()
	w.nodes[address] = n
}

// Kill ends a node and all its connections.
func (w *Witness) Kill(address string) {
	w.mu.Lock()
	n := w.nodes[address]
	delete(w.nodes, address)
	w.mu.Unlock()
	if n != nil {
		n.server.Stop()
		n.serving.Wait()
	}
}

// Freeze lets a node accept connections and say nothing on them. Connections that are there go on.
func (w *Witness) Freeze(address string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.nodes[address].frozen = true
}

// Dial connects to a node.
func (w *Witness) Dial(ctx context.Context, address string) (net.Conn, error) {
	w.mu.Lock()
	n := w.nodes[address]
	w.mu.Unlock()
	switch {
	case n == nil:
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: errors.New("connect: connection refused")}
	case n.frozen:
		silent, _ := net.Pipe()
		return silent, nil
	default:
		return n.listener.DialContext(ctx)
	}
}

// Do answers a method with a function. A method that nobody answers is not known to the nodes.
func (w *Witness) Do(method string, a Answer) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.answers[method] = a
}

// Say answers a method with messages.
func (w *Witness) Say(method string, messages ...proto.Message) {
	w.Do(method, func(_ Call, send func(proto.Message) error) error {
		for _, m := range messages {
			if err := send(m); err != nil {
				return err
			}
		}
		return nil
	})
}

// Fail answers a method with an error.
func (w *Witness) Fail(method string, err error) {
	w.Do(method, func(Call, func(proto.Message) error) error { return err })
}

// Calls lists the calls of a method in the order of their receipt.
func (w *Witness) Calls(method string) []Call {
	w.mu.Lock()
	defer w.mu.Unlock()
	var found []Call
	for _, c := range w.calls {
		if c.Method == method {
			found = append(found, c)
		}
	}
	return found
}

// Refusal is an error as the witness sends it.
func Refusal(code codes.Code, reason, detail, do string) error {
	info := &errdetails.ErrorInfo{Reason: reason, Domain: "witnessd", Metadata: map[string]string{"leader": "w1"}}
	message := detail
	if do != "" {
		info.Metadata["do"] = do
		message += "; " + do
	}
	st, err := status.New(code, message).WithDetails(info)
	if err != nil {
		panic(err)
	}
	return st.Err()
}

// register answers every method of a service. To gRPC each is a stream: one that is answered once is no
// different on the wire.
func (w *Witness) register(server *grpc.Server, address, service string) {
	found, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(service))
	if err != nil {
		w.t.Fatal(err)
	}
	desc := &grpc.ServiceDesc{ServiceName: service}
	methods := found.(protoreflect.ServiceDescriptor).Methods()
	for i := range methods.Len() {
		m := methods.Get(i)
		desc.Streams = append(desc.Streams, grpc.StreamDesc{
			StreamName: string(m.Name()), ServerStreams: true,
			Handler: func(_ any, stream grpc.ServerStream) error { return w.answer(address, m, stream) },
		})
	}
	server.RegisterService(desc, nil)
}

func (w *Witness) answer(address string, m protoreflect.MethodDescriptor, stream grpc.ServerStream) error {
	kind, err := protoregistry.GlobalTypes.FindMessageByName(m.Input().FullName())
	if err != nil {
		return err
	}
	c := Call{Context: stream.Context(), Node: address, Method: string(m.Name()), Request: kind.New().Interface()}
	if err := stream.RecvMsg(c.Request); err != nil {
		return err
	}
	w.mu.Lock()
	w.calls = append(w.calls, c)
	a := w.answers[c.Method]
	w.mu.Unlock()
	if a == nil {
		return status.Errorf(codes.Unimplemented, "unknown method %s", c.Method)
	}
	return a(c, func(m proto.Message) error { return stream.SendMsg(m) })
}

// Answering returns how a method is answered now, to be wrapped.
func (w *Witness) Answering(method string) Answer {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.answers[method]
}

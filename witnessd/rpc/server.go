package rpc

import (
	"cmp"
	"context"
	"log/slog"
	"net"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection"
	"google.golang.org/protobuf/types/known/durationpb"

	witnessv1 "github.com/witnessd/witnessd/proto/gen/witness/v1"
	"github.com/witnessd/witnessd/witnessd/ledger"
	"github.com/witnessd/witnessd/witnessd/pair"
)

// Options say what a server answers from. All but Credentials and Log are needed.
type Options struct {
	Node    string // this node's name
	Version string
	Court   Court
	Group   Group
	Ledger  *ledger.Ledger
	// Known are the nodes by the configuration, for as long as the ledger does not name them.
	Known []ledger.Node
	// Dial connects to another node's API.
	Dial func(ctx context.Context, address string) (net.Conn, error)
	// Credentials is where transport security will come in; until then everything is in the clear.
	Credentials Credentials
	// Wall is the wall clock in milliseconds, and Uptime how long this node has been running; both for people.
	Wall   func() int64
	Uptime func() time.Duration
	Log    *slog.Logger
}

// Credentials secure this node's listener and its connections to the other nodes.
type Credentials struct {
	Server, Client credentials.TransportCredentials // nil: in the clear
}

func (c Credentials) server() credentials.TransportCredentials {
	return cmp.Or[credentials.TransportCredentials](c.Server, insecure.NewCredentials())
}

func (c Credentials) client() credentials.TransportCredentials {
	return cmp.Or[credentials.TransportCredentials](c.Client, insecure.NewCredentials())
}

// Server is this node's edge.
type Server struct {
	node    string
	version string
	court   Court
	group   Group
	ledger  *ledger.Ledger
	known   []ledger.Node
	wall    func() int64
	uptime  func() time.Duration
	log     *slog.Logger

	grpc   *grpc.Server
	health *health.Server
	peers  *peers
	lobby  *lobby

	stopping chan struct{} // closed when Stop begins: streams end
	cancel   context.CancelFunc
	work     sync.WaitGroup // the home's keeper, and receivers of streams
	once     sync.Once
}

// New returns a server that is not listening yet.
func New(o Options) *Server {
	s := &Server{
		node: o.Node, version: o.Version, court: o.Court, group: o.Group, ledger: o.Ledger, known: o.Known,
		wall: o.Wall, uptime: o.Uptime, log: o.Log,
		health: health.NewServer(), lobby: newLobby(), stopping: make(chan struct{}),
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	s.peers = &peers{
		address: s.apiAddress, dial: o.Dial, credentials: o.Credentials.client(),
		conns: make(map[string]*grpc.ClientConn),
	}
	s.grpc = grpc.NewServer(append(serverLimits(),
		grpc.WaitForHandlers(true), // what they use is closed after Stop
		grpc.Creds(o.Credentials.server()),
		grpc.UnaryInterceptor(s.unary),
		grpc.StreamInterceptor(s.stream),
	)...)
	witnessv1.RegisterAgentServiceServer(s.grpc, agentService{Server: s})
	witnessv1.RegisterAdminServiceServer(s.grpc, adminService{Server: s})
	witnessv1.RegisterWitnessServiceServer(s.grpc, witnessService{Server: s})
	witnessv1.RegisterRelayServiceServer(s.grpc, relayService{Server: s})
	healthv1.RegisterHealthServer(s.grpc, s.health)
	reflection.Register(s.grpc)
	s.report(false)
	s.reportLevels()
	return s
}

// Serve takes calls until Stop, and then returns nil. Call it once.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	ctx, s.cancel = context.WithCancel(ctx)
	s.work.Go(func() { s.keepHome(ctx) })
	s.work.Go(func() { s.watchHealth(ctx) })
	return s.grpc.Serve(l)
}

// Stop ends all streams with a reason that sends their callers to another node, and waits until all has ended.
func (s *Server) Stop() {
	s.once.Do(func() {
		close(s.stopping)
		hurry := time.AfterFunc(patience, s.grpc.Stop)
		s.grpc.GracefulStop()
		hurry.Stop()
		if s.cancel != nil {
			s.cancel()
		}
		s.work.Wait()
		s.peers.close()
	})
}

// Sessions counts the agents' sessions on this node.
func (s *Server) Sessions() int { return s.lobby.count() }

// Ready says whether agents and operators get answers by this node.
func (s *Server) Ready() bool { return s.lobby.current() != nil && s.group.Leader() != "" }

// untilStop is ctx, but it ends when this node is being stopped.
func (s *Server) untilStop(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	s.work.Go(func() {
		select {
		case <-s.stopping:
			cancel()
		case <-ctx.Done():
		}
	})
	return ctx, cancel
}

func (s *Server) stopped() error {
	return s.refused(&pair.Refusal{Reason: reasonStopping, Detail: "node " + s.node + " is being stopped",
		Do: "use another node"}, "")
}

// nodes are all nodes of the witness by id, as the ledger has them, and at first as the configuration has.
func (s *Server) nodes() []ledger.Node {
	all := s.ledger.Nodes()
	if len(all) > 0 {
		return all
	}
	return s.known
}

func (s *Server) apiAddress(node string) string {
	for _, list := range [][]ledger.Node{s.ledger.Nodes(), s.known} {
		if i := slices.IndexFunc(list, func(n ledger.Node) bool { return n.ID == node }); i >= 0 {
			return list[i].APIAddress
		}
	}
	return ""
}

// asOf says where an answer comes from.
func (s *Server) asOf(stale bool) *witnessv1.AsOf {
	st := s.group.Status()
	m := &witnessv1.AsOf{
		Node: s.node, Leader: s.group.Leader(), Term: st.Term, Index: s.ledger.AppliedIndex(), Stale: stale,
		At: timestamp(s.wall()),
	}
	if st.LeaderHeard >= 0 {
		m.Age = durationpb.New(st.LeaderHeard)
	}
	return m
}

// report tells health checkers whether agents and operators get answers by this node. The service of the
// witness itself answers always.
func (s *Server) report(ready bool) {
	status := healthv1.HealthCheckResponse_NOT_SERVING
	if ready {
		status = healthv1.HealthCheckResponse_SERVING
	}
	s.health.SetServingStatus("", status)
	s.health.SetServingStatus(witnessv1.AgentService_ServiceDesc.ServiceName, status)
	s.health.SetServingStatus(witnessv1.AdminService_ServiceDesc.ServiceName, status)
	s.health.SetServingStatus(witnessv1.WitnessService_ServiceDesc.ServiceName, healthv1.HealthCheckResponse_SERVING)
}

// watchHealth keeps that report true until ctx ends.
func (s *Server) watchHealth(ctx context.Context) {
	ticker := time.NewTicker(again)
	defer ticker.Stop()
	for said := false; ; {
		select {
		case <-ctx.Done():
			return
		case <-s.stopping:
			s.report(false)
			return
		case <-ticker.C:
		}
		if ready := s.Ready(); ready != said {
			s.report(ready)
			said = ready
		}
	}
}

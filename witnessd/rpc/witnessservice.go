package rpc

import (
	"bufio"
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"

	witnessv1 "github.com/witnessd/witnessd/proto/gen/witness/v1"
	"github.com/witnessd/witnessd/witnessd/ledger"
	"github.com/witnessd/witnessd/witnessd/pair"
)

// witnessService is about the witness itself.
type witnessService struct {
	witnessv1.UnimplementedWitnessServiceServer
	*Server
}

// GetStatus is this node's own view, with what the other nodes say of themselves unless only this node's
// word was asked for.
func (w witnessService) GetStatus(
	ctx context.Context, req *witnessv1.GetStatusRequest,
) (*witnessv1.GetStatusResponse, error) {
	st := w.group.Status()
	leader := w.group.Leader()
	office, _ := w.court.Office()
	m := &witnessv1.GetStatusResponse{
		Node: w.node, Leader: leader, Term: st.Term, CommitIndex: st.Committed,
		AppliedIndex: w.ledger.AppliedIndex(), Generation: w.ledger.Generation(),
		Pairs: uint32(len(w.ledger.Pairs())), At: timestamp(w.wall()),
		Ready: office != nil || leader != "" && leader != w.node,
	}
	for _, n := range w.members(st) {
		n.Leader = n.GetId() == leader
		m.Nodes = append(m.Nodes, n)
	}
	if !req.GetLocal() {
		w.askNodes(ctx, m)
	}
	return m, nil
}

// members are the nodes of the log and of the ledger; a node that is being added can be in one only.
func (w witnessService) members(st Status) []*witnessv1.NodeStatus {
	byID := make(map[string]*witnessv1.NodeStatus)
	of := func(id string) *witnessv1.NodeStatus {
		if byID[id] == nil {
			byID[id] = &witnessv1.NodeStatus{Id: id}
		}
		return byID[id]
	}
	for _, n := range w.nodes() {
		m := of(n.ID)
		m.RaftAddress, m.ApiAddress = n.RaftAddress, n.APIAddress
	}
	for _, member := range st.Members {
		m := of(member.ID)
		m.RaftAddress, m.Voter = member.RaftAddress, member.Voter
		if member.Heard >= 0 {
			m.LastContact = durationpb.New(member.Heard)
		}
	}
	self := of(w.node)
	self.Reachable, self.Version = true, w.version
	self.Uptime, self.Sessions = durationpb.New(w.uptime()), uint32(w.lobby.count())
	self.AppliedIndex = w.ledger.AppliedIndex()
	all := make([]*witnessv1.NodeStatus, 0, len(byID))
	for _, m := range byID {
		all = append(all, m)
	}
	slices.SortFunc(all, func(a, b *witnessv1.NodeStatus) int { return strings.Compare(a.GetId(), b.GetId()) })
	return all
}

// askNodes fills in what only the nodes themselves know. One that does not answer soon is unreachable.
func (w witnessService) askNodes(ctx context.Context, m *witnessv1.GetStatusResponse) {
	ctx, cancel := context.WithTimeout(ctx, reach)
	defer cancel()
	var asked sync.WaitGroup
	for _, n := range m.GetNodes() {
		if n.GetId() == w.node || n.GetApiAddress() == "" {
			continue
		}
		asked.Go(func() {
			conn, err := w.peers.ready(ctx, n.GetId())
			if err != nil {
				return
			}
			said, err := witnessv1.NewWitnessServiceClient(conn).GetStatus(ctx, &witnessv1.GetStatusRequest{Local: true})
			if err != nil {
				return
			}
			for _, own := range said.GetNodes() {
				if own.GetId() == n.GetId() {
					n.Reachable, n.Version, n.Uptime = true, own.GetVersion(), own.GetUptime()
					n.Sessions, n.AppliedIndex = own.GetSessions(), own.GetAppliedIndex()
				}
			}
		})
	}
	asked.Wait()
}

// AddNode takes a node in. It returns when the node has all entries and a vote.
func (w witnessService) AddNode(
	ctx context.Context, req *witnessv1.AddNodeRequest,
) (*witnessv1.AddNodeResponse, error) {
	if bad := checkName("node name", req.GetId()); bad != nil {
		return nil, w.refused(bad, "")
	}
	for what, address := range map[string]string{
		"raft address": req.GetRaftAddress(), "api address": req.GetApiAddress(),
	} {
		if bad := checkAddress(what, address); bad != nil {
			return nil, w.refused(bad, "")
		}
	}
	n := ledger.Node{ID: req.GetId(), RaftAddress: req.GetRaftAddress(), APIAddress: req.GetApiAddress()}
	if refusal := w.reachAPI(ctx, n); refusal != nil {
		return nil, w.refused(refusal, "")
	}
	if err := w.group.AddNode(ctx, n); err != nil {
		return nil, w.groupFailure(err)
	}
	return &witnessv1.AddNodeResponse{}, nil
}

// reachAPI looks whether a new node listens for agents and clients: they will be told to. A member with a
// vote is not asked, for where it moves to may be told before it runs there.
func (w witnessService) reachAPI(ctx context.Context, n ledger.Node) *pair.Refusal {
	for _, m := range w.group.Status().Members {
		if m.ID == n.ID && m.Voter {
			return nil
		}
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	conn, err := w.peers.dial(ctx, n.APIAddress)
	if err != nil {
		w.log.InfoContext(ctx, "new node does not answer", "node", n.ID, "address", n.APIAddress, "error", err)
		return NodeUnreachable(n.ID, n.APIAddress)
	}
	_ = conn.Close() // that it was accepted is all there was to know
	return nil
}

// RemoveNode takes a node out.
func (w witnessService) RemoveNode(
	ctx context.Context, req *witnessv1.RemoveNodeRequest,
) (*witnessv1.RemoveNodeResponse, error) {
	if err := w.group.RemoveNode(ctx, req.GetId()); err != nil {
		return nil, w.groupFailure(err)
	}
	return &witnessv1.RemoveNodeResponse{}, nil
}

// TransferLeadership has another node elected and says which.
func (w witnessService) TransferLeadership(
	ctx context.Context, req *witnessv1.TransferLeadershipRequest,
) (*witnessv1.TransferLeadershipResponse, error) {
	if err := w.group.Transfer(ctx, req.GetTo()); err != nil {
		return nil, w.groupFailure(err)
	}
	for deadline := time.NewTimer(patience); ; {
		if leader := w.group.Leader(); leader != "" && leader != w.node {
			deadline.Stop()
			return &witnessv1.TransferLeadershipResponse{Leader: leader}, nil
		}
		select {
		case <-deadline.C:
			return &witnessv1.TransferLeadershipResponse{}, nil
		case <-ctx.Done():
			deadline.Stop()
			return nil, w.failure(ctx.Err(), "")
		case <-time.After(again):
		}
	}
}

// groupFailure says what kept the nodes from being changed.
func (w witnessService) groupFailure(err error) error {
	if errors.Is(err, ErrOutcomeUnknown) {
		return w.refused(&pair.Refusal{Reason: reasonOutcomeUnknown,
			Detail: "the leader was lost, and whether the nodes were changed is not known",
			Do:     "see witnessctl status before trying again"}, "")
	}
	for _, known := range []error{ErrNotLeading, ErrBusy, context.Canceled, context.DeadlineExceeded} {
		if errors.Is(err, known) {
			return w.failure(err, "")
		}
	}
	if refusal, ok := errors.AsType[*pair.Refusal](err); ok {
		return w.refused(refusal, "")
	}
	return w.refused(&pair.Refusal{Reason: reasonGroup, Detail: err.Error()}, "")
}

// Snapshot streams a backup of all that was accepted before the call.
func (w witnessService) Snapshot(
	_ *witnessv1.SnapshotRequest, stream grpc.ServerStreamingServer[witnessv1.SnapshotResponse],
) error {
	if err := w.group.Read(stream.Context()); err != nil {
		return w.failure(err, "")
	}
	out := bufio.NewWriterSize(chunks{stream}, snapshotRun)
	if err := w.group.Backup(stream.Context(), out); err != nil {
		return w.failure(err, "")
	}
	return out.Flush()
}

// chunks writes each piece as one message.
type chunks struct {
	stream grpc.ServerStreamingServer[witnessv1.SnapshotResponse]
}

func (c chunks) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0; {
		n := min(len(rest), snapshotRun)
		if err := c.stream.Send(&witnessv1.SnapshotResponse{Chunk: rest[:n]}); err != nil {
			return 0, err
		}
		rest = rest[n:]
	}
	return len(p), nil
}

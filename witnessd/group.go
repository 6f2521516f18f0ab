package witnessd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/witnessd/witnessd/raftstore"
	"github.com/witnessd/witnessd/witnessd/ledger"
	"github.com/witnessd/witnessd/witnessd/pair"
	"github.com/witnessd/witnessd/witnessd/rpc"
)

// group is the witness's nodes as the edge wants them.
type group struct{ *Node }

func (g group) Leader() string {
	leader, known := g.store.Leader()
	if !known {
		return ""
	}
	return leader.ID
}

func (g group) Status() rpc.Status {
	st := g.store.Status()
	s := rpc.Status{Term: st.Term, Committed: st.Committed, Applied: st.Applied}
	if st.Role != raftstore.Leader {
		s.LeaderHeard = age(st.LastContact)
	}
	heard := make(map[string]raftstore.Peer)
	for _, p := range st.Peers {
		heard[p.ID] = p
	}
	for _, m := range g.store.Servers() {
		member := rpc.Member{ID: m.ID, RaftAddress: m.Address, Voter: !m.Nonvoter, Heard: -1}
		if p, ok := heard[m.ID]; ok && st.Role == raftstore.Leader {
			member.Heard = age(p.Heard)
		}
		s.Members = append(s.Members, member)
	}
	return s
}

func (g group) Read(ctx context.Context) error { return groupError(g.store.Read(ctx)) }

// AddNode names the node to agents and clients first: it takes their calls as soon as it has a vote. Before
// that, it must answer, and if it is not taken in after all, it is named no more.
//
// It says ErrNotLeading only while nothing was changed. An edge repeats that call with the next leader, and
// would bring back a node that somebody has removed since.
func (g group) AddNode(ctx context.Context, n ledger.Node) error {
	if g.store.State() != raftstore.Leader {
		return rpc.ErrNotLeading
	}
	server := raftstore.Server{ID: n.ID, Address: n.RaftAddress}
	if err := g.store.Reach(ctx, server); err != nil {
		return g.notAdded(ctx, n, err)
	}
	if err := g.propose(ctx, ledger.EncodeSetNode(n)); err != nil {
		return err
	}
	err := g.store.AddServer(ctx, server)
	if err == nil {
		return nil
	}
	if g.store.State() == raftstore.Leader && !g.member(n.ID) {
		undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), handover)
		defer cancel()
		if failed := g.propose(undo, ledger.EncodeRemoveNode(n.ID)); failed != nil {
			g.log.WarnContext(ctx, "node is named and no member", "node", n.ID, "error", failed)
		}
	}
	err = g.notAdded(ctx, n, err)
	if errors.Is(err, rpc.ErrNotLeading) {
		return fmt.Errorf("%w: %s", rpc.ErrOutcomeUnknown, err.Error())
	}
	return err
}

// notAdded says why a node was not taken in.
func (g group) notAdded(ctx context.Context, n ledger.Node, err error) error {
	g.log.InfoContext(ctx, "node not added", "node", n.ID, "error", err)
	switch {
	case errors.Is(err, raftstore.ErrUnreachable):
		return rpc.NodeUnreachable(n.ID, n.RaftAddress)
	case errors.Is(err, raftstore.ErrBehind):
		// Why the wait ended is not passed on: as a deadline of the caller's it would be tried again.
		return rpc.NodeBehind(err.Error(), "see why it is slow, then repeat; a longer --timeout gives it more time")
	default:
		return groupError(err)
	}
}

func (g group) member(id string) bool {
	return slices.ContainsFunc(g.store.Servers(), func(m raftstore.Server) bool { return m.ID == id })
}

// RemoveNode takes the vote first: a node that still counts must still be named. A leader that is to be
// removed hands over, and the next one removes it.
func (g group) RemoveNode(ctx context.Context, id string) error {
	if g.store.State() != raftstore.Leader {
		return rpc.ErrNotLeading
	}
	if id == g.config.Node {
		if err := g.Transfer(ctx, ""); err != nil {
			return err
		}
		return rpc.ErrNotLeading
	}
	if err := g.store.RemoveServer(ctx, id); err != nil && !errors.Is(err, raftstore.ErrUnknownServer) {
		return groupError(err)
	} else if err != nil && !g.named(id) {
		return &pair.Refusal{Reason: "UNKNOWN_NODE", Detail: "there is no node " + id, Do: "see witnessctl status"}
	}
	return g.propose(ctx, ledger.EncodeRemoveNode(id))
}

func (g group) named(id string) bool {
	for _, n := range g.ledger.Nodes() {
		if n.ID == id {
			return true
		}
	}
	return false
}

func (g group) Transfer(ctx context.Context, to string) error {
	return groupError(g.store.TransferLeadership(ctx, to))
}

func (g group) Backup(ctx context.Context, w io.Writer) error { return g.store.BackupSnapshot(ctx, w) }

func (g group) propose(ctx context.Context, entry []byte) error {
	result, err := g.store.Propose(ctx, entry)
	if err != nil {
		return groupError(err)
	}
	if r, ok := result.(ledger.Result); ok && r.Refusal != nil {
		return r.Refusal
	}
	return nil
}

// groupError says an error of the log in the words of the edge.
func groupError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, raftstore.ErrOutcomeUnknown):
		return fmt.Errorf("%w: %w", rpc.ErrOutcomeUnknown, err)
	case errors.Is(err, raftstore.ErrNotLeader):
		return fmt.Errorf("%w: %w", rpc.ErrNotLeading, err)
	case errors.Is(err, raftstore.ErrBehind):
		return rpc.NodeBehind(err.Error(), "wait until witnessctl status shows it caught up")
	case errors.Is(err, raftstore.ErrTooBusy):
		return fmt.Errorf("%w: %w", rpc.ErrBusy, err)
	default:
		return err
	}
}

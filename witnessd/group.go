package witnessd

import (
	"context"
	"errors"
	"fmt"
	"io"

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

// AddNode names the node to agents and clients first: it takes their calls as soon as it has a vote.
func (g group) AddNode(ctx context.Context, n ledger.Node) error {
	if err := g.propose(ctx, ledger.EncodeSetNode(n)); err != nil {
		return err
	}
	return groupError(g.store.AddServer(ctx, raftstore.Server{ID: n.ID, Address: n.RaftAddress}))
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
	case errors.Is(err, raftstore.ErrTooBusy):
		return fmt.Errorf("%w: %w", rpc.ErrBusy, err)
	default:
		return err
	}
}

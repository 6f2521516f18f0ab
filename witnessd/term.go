package witnessd

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/witnessd/witnessd/raftstore"
	"github.com/witnessd/witnessd/witnessd/ledger"
	"github.com/witnessd/witnessd/witnessd/pair"
)

// lead is what this node does while it leads one term. It returns when all of that has ended.
func (n *Node) lead(ctx context.Context, term uint64) {
	var parts sync.WaitGroup
	defer parts.Wait()
	beside, stop := context.WithCancel(ctx)
	defer stop()
	changes := n.ledger.Watch(beside) // before anything can be decided
	parts.Go(func() { n.record(beside, changes) })
	parts.Go(func() {
		n.registerNodes(beside)
		n.raise(beside)
	})
	parts.Go(func() { n.webhooks.Run(beside) })
	err := n.arbiter.Serve(ctx, pair.Term(term))
	if err == nil || ctx.Err() != nil {
		return
	}
	// The term goes on, but nobody decides in it. Another node can, or nobody can.
	n.log.ErrorContext(ctx, "office lost", "term", term, "error", err)
	transfer, cancel := context.WithTimeout(ctx, handover)
	defer cancel()
	if failed := n.store.TransferLeadership(transfer, ""); failed != nil && ctx.Err() == nil {
		n.onFault(fmt.Errorf("this node leads and cannot decide (%w), nor hand over: %w", err, failed))
	}
}

// record writes down what happens while this node leads. If it cannot keep up, lines of the log are lost;
// the history has them all the same.
func (n *Node) record(ctx context.Context, w *ledger.Watch) {
	for ; ctx.Err() == nil; w = n.ledger.Watch(ctx) {
		for c := range w.Changes() {
			for _, e := range c.Events {
				n.journal.Record(ctx, e.Fact)
			}
		}
	}
}

// registerNodes sees to it that the ledger names every member of the log, and this node as it is now: agents
// and clients learn of nodes from there.
func (n *Node) registerNodes(ctx context.Context) {
	for _, want := range n.unregistered() {
		if _, err := n.store.Propose(ctx, ledger.EncodeSetNode(want)); err != nil {
			if ctx.Err() == nil {
				n.log.WarnContext(ctx, "node not registered", "node", want.ID, "error", err)
			}
			return
		}
	}
}

const (
	// raiseAgain is how soon a leader asks again what the other nodes read.
	raiseAgain = 2 * time.Second
	// raiseLate is after how many questions it is worth a line of the log: nodes may still be starting.
	raiseLate = 5
)

// raise lets the log hold what this release has added to it, as soon as every node has said that it reads that:
// a node that does not would stop. Once that is in the log nobody is asked again.
func (n *Node) raise(ctx context.Context) {
	for asked := 1; n.ledger.Level() < ledger.Level; asked++ {
		silent := n.rpc.NotReading(ctx, ledger.Level)
		switch {
		case ctx.Err() != nil:
			return
		case len(silent) == 0:
			if _, err := n.store.Propose(ctx, ledger.EncodeRaise(ledger.Level)); err == nil {
				n.log.InfoContext(ctx, "every node reads the log's new entries", "log_level", ledger.Level)
				return
			}
		case asked == raiseLate && len(n.config.Webhooks) > 0:
			n.log.WarnContext(ctx, "webhooks wait: not every node is up and of a release that knows them",
				"nodes", strings.Join(silent, ", "))
		}
		select {
		case <-ctx.Done():
		case <-time.After(raiseAgain):
		}
	}
}

func (n *Node) unregistered() []ledger.Node {
	there := n.ledger.Nodes()
	self := ledger.Node{ID: n.config.Node, RaftAddress: n.config.Raft.Advertise, APIAddress: n.config.API.Advertise}
	wanted := []ledger.Node{}
	if !slices.Contains(there, self) {
		wanted = append(wanted, self)
	}
	members := n.store.Servers()
	for _, known := range n.config.known() {
		sameID := func(other ledger.Node) bool { return other.ID == known.ID }
		member := slices.ContainsFunc(members, func(s raftstore.Server) bool { return s.ID == known.ID })
		if member && known.ID != self.ID && !slices.ContainsFunc(there, sameID) {
			wanted = append(wanted, known)
		}
	}
	return wanted
}

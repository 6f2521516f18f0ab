package crash

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"

	witnessv1 "github.com/witnessd/witnessd/proto/gen/witness/v1"
	"github.com/witnessd/witnessd/test/fleet"
)

// witness is three nodes as processes, and a client of each.
type witness struct {
	*fleet.Fleet
	clients []client
	terms   map[string]uint64 // the highest that each node has named
}

type client struct {
	node    *fleet.Node
	conn    *grpc.ClientConn
	admin   witnessv1.AdminServiceClient
	witness witnessv1.WitnessServiceClient
}

// startWitness starts three nodes, and for each of the named pairs two hosts with real agents and databases.
func startWitness(ctx context.Context, t *testing.T, pairs ...string) *witness {
	t.Helper()
	f, err := fleet.Start(ctx, fleet.Options{Engine: "demo", Pairs: pairs})
	if err != nil {
		t.Fatal(err)
	}
	w := &witness{Fleet: f, terms: map[string]uint64{}}
	t.Cleanup(func() {
		if t.Failed() {
			for _, n := range f.Nodes {
				t.Logf("log of %s ends:\n%s", n.ID, n.Logs(40))
			}
		}
		for _, c := range w.clients {
			_ = c.conn.Close()
		}
		f.Close()
	})
	for _, n := range f.Nodes {
		// A node that was killed is back soon: gRPC's own back-off is for servers that are not.
		conn, err := grpc.NewClient("passthrough:///"+n.API, grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithConnectParams(grpc.ConnectParams{
				Backoff: backoff.Config{BaseDelay: 20 * time.Millisecond, Multiplier: 1, MaxDelay: 20 * time.Millisecond},
			}))
		if err != nil {
			t.Fatal(err)
		}
		w.clients = append(w.clients, client{
			n, conn, witnessv1.NewAdminServiceClient(conn), witnessv1.NewWitnessServiceClient(conn),
		})
	}
	return w
}

// call asks one node, whichever.
func (w *witness) call(ctx context.Context, rng *rand.Rand, ask func(context.Context, client) error) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return ask(ctx, w.clients[rng.IntN(len(w.clients))])
}

// opened waits until a node that was started answers, which it does once its store is open, and looks at its
// term: what a node has written down of it, it must not forget.
func (w *witness) opened(ctx context.Context, c client) error {
	var last error
	for end := time.Now().Add(patience); time.Now().Before(end) && ctx.Err() == nil; time.Sleep(10 * time.Millisecond) {
		one, cancel := context.WithTimeout(ctx, time.Second)
		r, err := c.witness.GetStatus(one, &witnessv1.GetStatusRequest{Local: true})
		cancel()
		if err != nil {
			last = err
			continue
		}
		if had := w.terms[c.node.ID]; r.GetTerm() < had {
			return fmt.Errorf("node %s is in term %d, and was in term %d", c.node.ID, r.GetTerm(), had)
		}
		w.terms[c.node.ID] = r.GetTerm()
		return nil
	}
	return fmt.Errorf("node %s has not answered: %w; its log ends:\n%s", c.node.ID,
		errors.Join(last, ctx.Err()), c.node.Logs(20))
}

// view is what one node knows by itself.
type view struct {
	index  uint64
	pairs  map[string]*witnessv1.Pair
	events []*witnessv1.Event
}

func (c client) view(ctx context.Context) (view, error) {
	r, err := c.admin.ListPairs(ctx, &witnessv1.ListPairsRequest{Stale: true})
	if err != nil {
		return view{}, err
	}
	v := view{index: r.GetAsOf().GetIndex(), pairs: map[string]*witnessv1.Pair{}}
	for _, p := range r.GetPairs() {
		p.AsOf = nil
		v.pairs[p.GetName()] = p
	}
	history, err := c.admin.ListEvents(ctx, &witnessv1.ListEventsRequest{Limit: 1000})
	v.events = history.GetEvents()
	return v, err
}

// backup takes a backup through one node.
func (c client) backup(ctx context.Context) ([]byte, error) {
	stream, err := c.witness.Snapshot(ctx, &witnessv1.SnapshotRequest{})
	if err != nil {
		return nil, err
	}
	var file []byte
	for {
		part, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return file, nil
		}
		if err != nil {
			return nil, err
		}
		file = append(file, part.GetChunk()...)
	}
}

// data is a node's data directory.
func (w *witness) data(n *fleet.Node) string { return filepath.Join(w.Dir(), n.ID, "data") }

// complaints are the lines of the nodes' logs that no crash excuses.
func (w *witness) complaints() []string {
	var found []string
	for _, n := range w.Nodes {
		for line := range strings.SplitSeq(n.Logs(1<<20), "\n") {
			for _, word := range []string{"panic", "fatal error", "must not go on", "damaged", "failed to restore"} {
				if strings.Contains(line, word) {
					found = append(found, n.ID+": "+line)
				}
			}
		}
	}
	return found
}

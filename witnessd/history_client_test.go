package witnessd_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	witnessv1 "github.com/witnessd/witnessd/proto/gen/witness/v1"
)

// history is what the clients of one world have asked and heard.
type history struct {
	t     *testing.T
	start time.Time

	mu       sync.Mutex
	ops      []porcupine.Operation
	faults   []porcupine.Annotation
	outcomes map[string]int
	views    map[string]view // by id and revision
}

func newHistory(t *testing.T) *history {
	return &history{t: t, start: time.Now(), outcomes: make(map[string]int), views: make(map[string]view)}
}

func (h *history) now() int64 { return int64(time.Since(h.start)) }

// never is later than every end.
const never = int64(1) << 62

func (h *history) add(client int, began int64, c call, a answer) {
	h.mu.Lock()
	defer h.mu.Unlock()
	ended := h.now()
	if a.unknown {
		ended = never
	}
	h.ops = append(h.ops, porcupine.Operation{ClientId: client, Input: c, Output: a, Call: began, Return: ended})
	h.show(a.view)
}

// show holds every view, also one of the past, against the others: a revision says the same to everybody.
func (h *history) show(v view) {
	if !v.there {
		return
	}
	key := fmt.Sprintf("%s@%d", v.id, v.revision)
	if other, seen := h.views[key]; seen && other != v {
		h.t.Errorf("revision %s is %v and %v", key, other, v)
	}
	h.views[key] = v
}

func (h *history) count(outcome string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.outcomes[outcome]++
}

// client is one admin client; it talks to any node.
type client struct {
	h     *history
	n     int
	r     *rand.Rand
	conns []*grpc.ClientConn
	node  int               // the one it called last
	known map[string]uint64 // revision that it last saw of a pair
	calls int
}

func (w *world) client(h *history, n int, seed uint64) *client {
	c := &client{h: h, n: n, r: rand.New(rand.NewPCG(seed, uint64(n))), known: make(map[string]uint64)}
	for _, id := range w.ids {
		c.conns = append(c.conns, w.dial(id, fmt.Sprintf("client%d", n)))
	}
	return c
}

func (c *client) close() {
	for _, conn := range c.conns {
		_ = conn.Close()
	}
}

// run makes calls until ctx ends.
func (c *client) run(ctx context.Context, pairs []string) {
	for ctx.Err() == nil {
		time.Sleep(time.Duration(c.r.IntN(80)) * time.Millisecond)
		if c.r.IntN(4) == 0 {
			c.node = c.r.IntN(len(c.conns))
		}
		conn := c.conns[c.node]
		// A call on a connection that is not up would fail without it being known whether it was sent.
		if conn.GetState() != connectivity.Ready {
			conn.Connect()
			c.node = (c.node + 1) % len(c.conns)
			continue
		}
		c.one(witnessv1.NewAdminServiceClient(conn), pairs)
	}
}

// one makes one call and writes down what came of it.
func (c *client) one(admin witnessv1.AdminServiceClient, pairs []string) {
	c.calls++
	// Whoever waits for as long as a node does hears that node's word; who does not, hears nothing.
	limit := []time.Duration{400 * time.Millisecond, 2500 * time.Millisecond, 5 * time.Second}[c.r.IntN(3)]
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	q := call{pair: pairs[c.r.IntN(len(pairs))], by: fmt.Sprintf("%d.%d", c.n, c.calls)}
	switch verb := c.r.IntN(20); {
	case verb < 2:
		c.list(ctx, admin, pairs)
		return
	case verb < 3:
		c.stale(ctx, admin, q.pair)
		return
	case verb < 9:
		q.verb, q.by = "get", ""
	case verb < 10, c.known[q.pair] == 0:
		q.verb, q.by = "create", ""
	default:
		c.change(&q)
	}
	began := c.h.now()
	p, created, err := q.make(ctx, admin)
	c.heard(began, q, p, created, err)
}

// change chooses a change of a pair.
func (c *client) change(q *call) {
	verbs := []string{"pause", "observe", "resume", "resume", "policy", "policy", "release-timeout", "release-timeout"}
	q.verb = verbs[c.r.IntN(len(verbs))]
	switch {
	case c.r.IntN(20) == 0:
		q.verb = "remove"
	case q.verb == "policy":
		q.profile = []string{"default", "fast", "patient"}[c.r.IntN(3)]
	case q.verb == "release-timeout":
		q.release = time.Duration(1+c.r.IntN(30)) * time.Second
	case q.verb == "resume", c.r.IntN(6) == 0:
		// So that what is asked may be so already. Who resumed a pair is not shown, so nothing is lost by it.
		q.by = "somebody"
	}
	if c.r.IntN(3) == 0 {
		q.expect = c.known[q.pair]
	}
}

// make makes the call. What is removed has no view.
func (q call) make(ctx context.Context, admin witnessv1.AdminServiceClient) (*witnessv1.Pair, bool, error) {
	switch q.verb {
	case "get":
		r, err := admin.GetPair(ctx, &witnessv1.GetPairRequest{Pair: q.pair})
		return r.GetPair(), false, err
	case "create":
		r, err := admin.CreatePair(ctx, &witnessv1.CreatePairRequest{
			Name: q.pair, Primary: q.pair + "-a", Members: []*witnessv1.Member{
				{Host: q.pair + "-a", Instance: "db"}, {Host: q.pair + "-b", Instance: "db"},
			},
		})
		return r.GetPair(), r.GetCreated(), err
	case "pause", "observe":
		mode := witnessv1.Mode_MODE_MANUAL
		if q.verb == "observe" {
			mode = witnessv1.Mode_MODE_OBSERVE
		}
		r, err := admin.Pause(ctx, &witnessv1.PauseRequest{Pair: q.pair, Mode: mode, By: q.by, ExpectedRevision: q.expect})
		return r.GetPair(), false, err
	case "resume":
		r, err := admin.Resume(ctx, &witnessv1.ResumeRequest{Pair: q.pair, By: q.by, ExpectedRevision: q.expect})
		return r.GetPair(), false, err
	case "remove":
		r, err := admin.RemovePair(ctx, &witnessv1.RemovePairRequest{Pair: q.pair, By: q.by, ExpectedRevision: q.expect})
		return r.GetPair(), false, err
	default:
		policy := &witnessv1.Policy{Profile: q.profile}
		if q.release != 0 {
			policy.ReleaseTimeout = durationpb.New(q.release)
		}
		r, err := admin.SetPolicy(ctx, &witnessv1.SetPolicyRequest{
			Pair: q.pair, Policy: policy, By: q.by, ExpectedRevision: q.expect,
		})
		return r.GetPair(), false, err
	}
}

// heard sorts what came of a call. A refusal that promises that nothing was changed leaves no trace in the
// history: if something was changed after all, somebody else sees it, and nobody did it.
func (c *client) heard(began int64, q call, p *witnessv1.Pair, created bool, err error) {
	code, reason := status.Code(err), reasonOf(err)
	kind := "refused"
	switch {
	case err == nil:
		kind = "known"
		v := viewOf(p)
		c.known[q.pair] = v.revision
		c.h.add(c.n, began, q, answer{created: created, view: v})
	case reason == unknownPair, reason == nameTaken, reason == staleRevision && q.expect != 0:
		if reason == unknownPair {
			delete(c.known, q.pair)
		}
		c.h.add(c.n, began, q, answer{reason: reason})
	case reason == "NO_LEADER", reason == "NOT_LEADER", reason == "BUSY", reason == "STOPPING",
		reason == "CHANGE_UNDECIDED", reason == "STALE_TERM", reason == staleRevision:
	case reason == "OUTCOME_UNKNOWN", code == codes.DeadlineExceeded, code == codes.Unavailable:
		kind = "unknown"
		if q.verb != "get" {
			c.h.add(c.n, began, q, answer{unknown: true})
		}
	default:
		c.h.t.Errorf("%s: %v %s", describe(q, answer{unknown: true}), err, reason)
	}
	c.h.count(kind)
	if kind == "refused" {
		c.h.count(reason)
	}
}

// list reads all pairs at one moment, which is a read of each.
func (c *client) list(ctx context.Context, admin witnessv1.AdminServiceClient, pairs []string) {
	began := c.h.now()
	r, err := admin.ListPairs(ctx, &witnessv1.ListPairsRequest{})
	if err != nil {
		return
	}
	there := make(map[string]*witnessv1.Pair)
	for _, p := range r.GetPairs() {
		there[p.GetName()] = p
	}
	for _, name := range pairs {
		a := answer{view: viewOf(there[name])}
		if !a.view.there {
			a.reason = unknownPair
		}
		c.h.add(c.n, began, call{verb: "get", pair: name}, a)
	}
}

// stale reads what one node knows by itself: it may be old, never wrong.
func (c *client) stale(ctx context.Context, admin witnessv1.AdminServiceClient, name string) {
	r, err := admin.GetPair(ctx, &witnessv1.GetPairRequest{Pair: name, Stale: true})
	if err != nil {
		return
	}
	c.h.mu.Lock()
	defer c.h.mu.Unlock()
	c.h.show(viewOf(r.GetPair()))
}

func reasonOf(err error) string {
	for _, d := range status.Convert(err).Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok {
			return info.GetReason()
		}
	}
	return ""
}

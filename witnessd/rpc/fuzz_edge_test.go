package rpc

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"

	"github.com/witnessd/witnessd/witnessd/ledger"
	"github.com/witnessd/witnessd/witnessd/pair"
)

// bench is a leader for fuzz targets: a real server, ledger and rules, and a court that carries everything out at
// once. Each input begins with the same pairs.
type bench struct {
	*Server
	conn  *grpc.ClientConn
	court *quickCourt
	image []byte
}

func newBench(f testing.TB) *bench {
	f.Helper()
	c := &quickCourt{ledger: ledger.New(), done: make(chan struct{})}
	b := &bench{court: c}
	b.Server = New(c.options())
	l := bufconn.Listen(1 << 20)
	served := make(chan error, 1)
	go func() { served <- b.Serve(context.Background(), l) }()
	conn, err := grpc.NewClient("passthrough:///n1", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) }))
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() {
		_ = conn.Close()
		b.Stop()
		if err := <-served; err != nil {
			f.Error(err)
		}
	})
	b.conn = conn
	b.image = c.found(f)
	return b
}

// options are those of a node whose court is c.
func (c *quickCourt) options() Options {
	return Options{
		Node: "n1", Version: "test", Court: c, Group: quickGroup{c}, Ledger: c.ledger,
		Known: []ledger.Node{{ID: "n1", RaftAddress: "n1:7400", APIAddress: "n1:7401"}},
		Dial:  dialNobody, Wall: func() int64 { return 1_700_000_000_000 }, Uptime: func() time.Duration { return time.Hour },
	}
}

// dialNobody is a network on which only the node n4 answers.
func dialNobody(_ context.Context, address string) (net.Conn, error) {
	if address != "n4:7401" {
		return nil, errors.New("connection refused")
	}
	here, there := net.Pipe()
	_ = there.Close()
	return here, nil
}

// reset begins anew.
func (b *bench) reset(t *testing.T) {
	t.Helper()
	b.court.mu.Lock()
	defer b.court.mu.Unlock()
	b.court.watches = make(map[pair.ID]pair.Watch)
	if err := b.court.ledger.Restore(bytes.NewReader(b.image)); err != nil {
		t.Fatal(err)
	}
}

// quickCourt decides by the real rules, without a log and without waiting.
type quickCourt struct {
	ledger *ledger.Ledger
	done   chan struct{}

	mu      sync.Mutex
	watches map[pair.ID]pair.Watch
}

const quickNow = pair.Instant(time.Hour)

// found makes a pair in each stage, and returns the ledger's image.
func (c *quickCourt) found(f testing.TB) []byte {
	c.watches = make(map[pair.ID]pair.Watch)
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, name := range []string{"sales", "forming", "gone", "busy"} {
		spec := pair.Create{Name: name, Primary: "a", Mode: pair.ModeAutomatic, Policy: pair.DefaultPolicy(),
			Members: [2]pair.Member{{Host: "a", Instance: name}, {Host: "b", Instance: name}}}
		id := pair.ID("id-" + name)
		bodies := []pair.Body{spec, pair.Begin{}, pair.Arm{Host: "a"}}
		switch name {
		case "forming":
			bodies = bodies[:1]
		case "gone":
			bodies = []pair.Body{spec, pair.Remove{Cause: "test"}}
		case "busy":
			bodies = append(bodies, pair.StartProcedure{Procedure: pair.Procedure{ID: "p1", Kind: pair.KindSwitchover,
				Step: pair.StepRelease, Epoch: 1, Target: "b", Timeout: time.Minute}})
		}
		for _, body := range bodies {
			if r := c.apply(id, body); r.Refusal != nil {
				f.Fatal(r.Refusal)
			}
		}
	}
	var image bytes.Buffer
	write, err := c.ledger.Snapshot()
	if err == nil {
		err = write(&image)
	}
	if err != nil {
		f.Fatal(err)
	}
	return image.Bytes()
}

func (c *quickCourt) apply(id pair.ID, body pair.Body) ledger.Result {
	revision := c.ledger.FirstRevision()
	if r, ok := c.ledger.Pair(id); ok {
		revision = r.Revision
	}
	entry := ledger.EncodeCommand(pair.Command{Pair: id, Revision: revision, Term: 1, At: 1_700_000_000_000, Body: body})
	return c.ledger.Apply(c.ledger.AppliedIndex()+1, 1, entry).(ledger.Result)
}

func (c *quickCourt) Office() (Office, <-chan struct{}) { return c, c.done }
func (c *quickCourt) Done() <-chan struct{}             { return c.done }

func (c *quickCourt) find(nameOrID string) (pair.Record, error) {
	if r, ok := c.ledger.PairByName(nameOrID); ok {
		return r, nil
	}
	if r, ok := c.ledger.Pair(pair.ID(nameOrID)); ok {
		return r, nil
	}
	return pair.Record{}, ErrUnknownPair
}

func (c *quickCourt) live(r pair.Record) Live {
	w, ok := c.watches[r.ID]
	if !ok {
		w = pair.NewWatch(r, 1, quickNow)
	}
	return Live{Record: r, Watch: w, Now: quickNow}
}

// step lets the rules decide and carries out what they want. It returns the last answer and reply.
func (c *quickCourt) step(r pair.Record, ev pair.Event) (answer pair.Answer, reply *pair.Reply, after pair.Record) {
	after = r
	w, actions := pair.Step(r, c.live(r).Watch, ev, quickNow)
	c.watches[r.ID] = w
	for _, action := range actions {
		switch act := action.(type) {
		case pair.Answer:
			answer = act
		case pair.Reply:
			reply = &act
		case pair.Propose:
			result := c.apply(r.ID, act.Command.Body)
			reply = &pair.Reply{Token: act.Token, Refusal: result.Refusal}
			ended := pair.Event(pair.Dropped{})
			if result.Refusal == nil {
				ended = pair.Applied{Before: r, Body: act.Command.Body}
			}
			after = result.Record
			c.watches[r.ID], _ = pair.Step(after, w, ended, quickNow)
			// What the rules want next is not wanted here: a command for an event is enough.
			c.watches[r.ID], _ = pair.Step(after, c.watches[r.ID], pair.Dropped{}, quickNow)
		}
	}
	return answer, reply, after
}

func (c *quickCourt) Ask(_ context.Context, ask Ask) (Reply, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r, err := c.find(ask.Pair)
	if err != nil {
		return Reply{}, err
	}
	_, reply, after := c.step(r, pair.Ask{Token: 1, Revision: ask.Revision, Epoch: ask.Epoch, Wish: ask.Wish})
	if reply.Refusal != nil {
		return Reply{}, reply.Refusal
	}
	return Reply{Live: c.live(after), Procedure: "p"}, nil
}

func (c *quickCourt) Create(_ context.Context, spec pair.Create) (Reply, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if bad := pair.CheckSpec(spec); bad != nil {
		return Reply{}, bad
	}
	result := c.apply(pair.ID("id-"+spec.Name), spec)
	if result.Refusal != nil {
		return Reply{}, result.Refusal
	}
	return Reply{Live: c.live(result.Record), Created: true}, nil
}

func (c *quickCourt) Look(_ context.Context, nameOrID string) ([]Live, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if nameOrID != "" {
		r, err := c.find(nameOrID)
		return []Live{c.live(r)}, err
	}
	var all []Live
	for _, r := range c.ledger.Pairs() {
		all = append(all, c.live(r))
	}
	return all, nil
}

// Join takes everybody; who may speak for a host is the arbiter's to say.
func (c *quickCourt) Join(_ context.Context, agent Agent, out Outlet) (Seat, error) {
	return quickSeat{c, agent, out}, nil
}

type quickSeat struct {
	court *quickCourt
	agent Agent
	out   Outlet
}

func (quickSeat) Leave() {}

func (s quickSeat) Heartbeat(hb Heartbeat) bool {
	s.court.mu.Lock()
	defer s.court.mu.Unlock()
	a := Answer{Sequence: hb.Sequence, Term: 1}
	for _, said := range hb.Reports {
		r, err := s.court.find(string(said.Pair))
		if _, member := r.Member(s.agent.Host); err != nil || !member {
			a.Removed = append(a.Removed, said.Pair)
			continue
		}
		report := said.Said
		report.Host, report.Member.Host, report.Start = s.agent.Host, s.agent.Host, s.agent.Start
		report.Sequence, report.TermHeard = hb.Sequence, hb.TermHeard
		_, _, r = s.court.step(r, pair.Heard{Report: report, Receipt: quickNow})
		answer, _, r := s.court.step(r, pair.Confirmed{Host: s.agent.Host, Receipt: quickNow, AskLease: report.AskLease})
		a.Pairs = append(a.Pairs, PairAnswer{Record: r, Lease: answer.Lease, Refused: answer.Refused, Mute: answer.Mute})
	}
	s.out.Answer(a)
	return true
}

// quickGroup is a group of one node that says yes to every change that a group can say yes to.
type quickGroup struct{ court *quickCourt }

// Leader is another node, so that a transfer has succeeded as soon as it is asked for.
func (quickGroup) Leader() string { return "n2" }
func (quickGroup) Status() Status {
	return Status{Term: 1, Members: []Member{{ID: "n1", RaftAddress: "n1:7400", Voter: true}}}
}
func (quickGroup) Read(context.Context) error { return nil }

func (quickGroup) AddNode(context.Context, ledger.Node) error { return nil }

func (quickGroup) RemoveNode(_ context.Context, id string) error {
	if id != "n1" {
		return &pair.Refusal{Reason: "UNKNOWN_NODE", Detail: "there is no node " + id}
	}
	return nil
}

func (quickGroup) Transfer(_ context.Context, to string) error {
	if !slices.Contains([]string{"", "n1", "n2"}, to) {
		return errors.New("no node " + to)
	}
	return nil
}

func (g quickGroup) Backup(_ context.Context, w io.Writer) error {
	write, err := g.court.ledger.Snapshot()
	if err != nil {
		return err
	}
	return write(w)
}

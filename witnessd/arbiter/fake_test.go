package arbiter_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/witnessd/witnessd/witnessd/arbiter"
	"github.com/witnessd/witnessd/witnessd/ledger"
	"github.com/witnessd/witnessd/witnessd/pair"
)

// court is an arbiter with a fake log, in the virtual time of a bubble.
type court struct {
	*arbiter.Arbiter
	t      *testing.T
	log    *fakeLog
	ledger *ledger.Ledger
	cancel context.CancelFunc
	ended  chan error
	fence  func(context.Context, pair.HostID, pair.Procedure) error
	ids    int
}

func newCourt(t *testing.T) *court {
	l := ledger.New()
	c := &court{t: t, ledger: l, log: newFakeLog(l)}
	start := time.Now()
	options := arbiter.Options{
		Log: c.log, Ledger: l,
		Clock: func() pair.Instant { return pair.Instant(time.Since(start)) + pair.Instant(time.Hour) },
		Wall:  func() int64 { return time.Now().UnixMilli() },
		NewID: func() pair.ID { c.ids++; return pair.ID(fmt.Sprintf("id-%04d-0000", c.ids)) },
		Fence: func(ctx context.Context, h pair.HostID, p pair.Procedure) error { return c.fence(ctx, h, p) },
	}
	c.Arbiter = arbiter.New(options)
	t.Cleanup(func() { c.end(); c.log.stop() })
	return c
}

// lead opens the office of the next term.
func (c *court) lead() *arbiter.Office {
	term := c.log.elect()
	ctx, cancel := context.WithCancel(c.t.Context())
	c.cancel, c.ended = cancel, make(chan error, 1)
	go func() { c.ended <- c.Serve(ctx, pair.Term(term)) }()
	synctest.Wait()
	o, _ := c.Office()
	return o
}

// end ends the present term and waits for its office.
func (c *court) end() {
	if c.cancel == nil {
		return
	}
	c.log.depose()
	c.cancel()
	if err := <-c.ended; err != nil {
		c.t.Errorf("office ended with %v", err)
	}
	c.cancel = nil
}

// create makes the pair "sales" of hosts a and b, and forms it with their first heartbeats.
func (c *court) create(o *arbiter.Office) pair.Record {
	c.t.Helper()
	r, err := o.Create(c.t.Context(), spec("sales", "a", "b"))
	if err != nil {
		c.t.Fatalf("create: %v", err)
	}
	return r.Live.Record
}

func spec(name string, a, b pair.HostID) pair.Create {
	return pair.Create{
		Name: name, Members: [2]pair.Member{{Host: a, Instance: "db"}, {Host: b, Instance: "db"}},
		Primary: a, Mode: pair.ModeAutomatic, Policy: pair.DefaultPolicy(), By: "test",
	}
}

func (c *court) look(o *arbiter.Office, name string) arbiter.Live {
	c.t.Helper()
	all, err := o.Look(c.t.Context(), name)
	if err != nil || len(all) != 1 {
		c.t.Fatalf("look at %s: %d pairs, %v", name, len(all), err)
	}
	return all[0]
}

// fakeLog applies what is proposed to a ledger after a moment, and confirms marks by itself every 30 ms.
type fakeLog struct {
	ledger *ledger.Ledger

	mu        sync.Mutex
	term      uint64
	index     uint64
	leading   bool
	numbers   uint64
	confirmed uint64
	held      bool          // nothing is confirmed
	fail      error         // Propose returns it at once
	delay     time.Duration // of an application
	changed   chan struct{}
	stopped   chan struct{}
}

func newFakeLog(l *ledger.Ledger) *fakeLog {
	f := &fakeLog{ledger: l, delay: time.Millisecond, changed: make(chan struct{}), stopped: make(chan struct{})}
	go f.beat()
	return f
}

func (f *fakeLog) stop() { close(f.stopped) }

func (f *fakeLog) beat() {
	ticker := time.NewTicker(30 * time.Millisecond)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			f.exchange()
		case <-f.stopped:
			return
		}
	}
}

func (f *fakeLog) exchange() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.numbers++
	if !f.held {
		f.confirmed = f.numbers
		f.ring()
	}
}

func (f *fakeLog) ring() {
	close(f.changed)
	f.changed = make(chan struct{})
}

func (f *fakeLog) elect() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.term++
	f.leading, f.confirmed = true, 0
	return f.term
}

func (f *fakeLog) depose() { f.set(func() { f.leading = false }) }

func (f *fakeLog) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
	f.ring()
}

func (f *fakeLog) Mark() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.numbers++
	return f.numbers
}

func (f *fakeLog) Confirmed(term uint64) (uint64, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.leading || term != f.term {
		return 0, false
	}
	return f.confirmed, true
}

func (f *fakeLog) ConfirmChanged() <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.changed
}

var errLost = errors.New("leadership lost while committing")

func (f *fakeLog) Propose(ctx context.Context, entry []byte) (any, error) {
	f.mu.Lock()
	term, fail, delay := f.term, f.fail, f.delay
	f.mu.Unlock()
	if fail != nil {
		return nil, fail
	}
	select {
	case <-time.After(delay):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.index++
	result := f.ledger.Apply(f.index, term, entry).(ledger.Result)
	return result, nil
}

// bodies are the kinds of the changes so far, by the facts of the history.
func (c *court) facts() []pair.FactKind {
	var kinds []pair.FactKind
	for _, e := range c.ledger.Events(ledger.EventFilter{}) {
		kinds = append(kinds, e.Fact.Kind)
	}
	return kinds
}

func (c *court) happened(kind pair.FactKind) bool { return slices.Contains(c.facts(), kind) }

// agent is a host's agent, as far as the witness sees it.
type agent struct {
	t    *testing.T
	seat *arbiter.Seat
	who  arbiter.Agent

	mu       sync.Mutex
	answers  []arbiter.Answer
	nudges   int
	ended    *pair.Refusal
	sequence uint64
	term     pair.Term
	said     pair.Report
	id       pair.ID
}

func (c *court) agent(o *arbiter.Office, host, id, start string) *agent {
	c.t.Helper()
	a := &agent{t: c.t, who: arbiter.Agent{Host: pair.HostID(host), ID: id, Start: start}}
	a.said = pair.Report{
		FileKnown: true,
		Member:    pair.Member{Host: pair.HostID(host), Instance: "db", LinkAddress: host + ":7420", Engine: "demo"},
		Engine:    pair.Engine{Running: true, SystemID: "7", Promotable: true, Following: true},
	}
	a.sit(c, o)
	return a
}

func (a *agent) sit(c *court, o *arbiter.Office) {
	a.t.Helper()
	seat, err := o.Join(c.t.Context(), a.who, a)
	if err != nil {
		a.t.Fatalf("%s: %v", a.who.Host, err)
	}
	a.seat = seat
}

func (a *agent) Answer(answer arbiter.Answer) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.answers = append(a.answers, answer)
	a.term = answer.Term
	for _, p := range answer.Pairs {
		if r := p.Record; !p.Mute && r.Revision >= a.said.Revision {
			a.id, a.said.Revision, a.said.Epoch, a.said.EpochPrimary = r.ID, r.Revision, r.Epoch, r.Primary
		}
	}
}

func (a *agent) Nudge() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.nudges++
}

func (a *agent) End(why *pair.Refusal) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.ended = why
}

// beat sends a heartbeat that says what the agent knows, after change.
func (a *agent) beat(change func(*pair.Report)) bool {
	a.mu.Lock()
	if change != nil {
		change(&a.said)
	}
	a.sequence++
	hb := arbiter.Heartbeat{
		Sequence: a.sequence, TermHeard: a.term, Reports: []arbiter.Report{{Pair: a.id, Said: a.said}},
	}
	a.mu.Unlock()
	return a.seat.Heartbeat(hb)
}

func (a *agent) last() (arbiter.Answer, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.answers) == 0 {
		return arbiter.Answer{}, false
	}
	return a.answers[len(a.answers)-1], true
}

// lease is what the last answer says of the only pair.
func (a *agent) lease() (time.Duration, pair.Reason) {
	answer, ok := a.last()
	if !ok || len(answer.Pairs) != 1 {
		return 0, "NO_ANSWER"
	}
	return answer.Pairs[0].Lease, answer.Pairs[0].Refused
}

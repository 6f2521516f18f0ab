package whole

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"

	witnessv1 "github.com/witnessd/witnessd/proto/gen/witness/v1"
	"github.com/witnessd/witnessd/raftstore/raftstoretest"
)

// The timing that DESIGN gives as the default, and that the pairs of these tests have.
const (
	heartbeat     = 500 * time.Millisecond
	lease         = 3 * time.Second
	guard         = 300 * time.Millisecond
	mirrorTimeout = 2 * time.Second

	// agentTick is how late an agent notices that time has passed, tick the same of the leader.
	agentTick = 20 * time.Millisecond
	tick      = 25 * time.Millisecond
	// look is how often an agent looks at its databases.
	look = 200 * time.Millisecond
	// pace is how often a client writes.
	pace = 20 * time.Millisecond
	// hop is the way of one message.
	hop = 200 * time.Microsecond
)

// world is the whole system in one bubble.
type world struct {
	t     *testing.T
	start time.Time
	net   *raftstoretest.Network
	nodes []*node
	hosts map[string]*host
	pairs []*books
	conns map[string]*grpc.ClientConn
	taps  bool     // whether the wire is listened to
	dirs  []string // removed at the end

	clients     sync.WaitGroup
	stopClients chan struct{}

	mu        sync.Mutex // of all databases and books
	timelines uint64
	faults    int

	logs    sync.Mutex
	trace   []string
	traced  int // how many lines of it are kept; 0: all
	offices []office
	onLog   func(on, line string) // is told of each line that a node or an agent logs
}

// office is when a node began to decide, which is after the first barrier of its term was applied.
type office struct {
	node string
	at   time.Duration
}

// newWorld starts three nodes. Every machine's clock counts from another instant.
func newWorld(t *testing.T) *world {
	w := &world{
		t: t, start: time.Now(), net: raftstoretest.NewNetwork(), hosts: map[string]*host{},
		conns: map[string]*grpc.ClientConn{}, taps: true, stopClients: make(chan struct{}),
	}
	w.net.SetLatency(hop)
	t.Cleanup(w.close)
	for i, id := range []string{"n1", "n2", "n3"} {
		w.newNode(id, time.Duration(3-i)*1000*time.Hour)
	}
	for _, n := range w.nodes {
		n.run()
	}
	return w
}

func (w *world) close() {
	close(w.stopClients)
	w.net.HealAll()
	for _, n := range w.nodes {
		n.disk.Resume()
	}
	for _, conn := range w.conns {
		_ = conn.Close()
	}
	for _, h := range w.hosts {
		h.stopAgent()
	}
	for _, n := range w.nodes {
		if n.proc != nil {
			n.proc.stop()
			n.gone()
		}
	}
	for _, b := range w.pairs {
		for _, d := range b.copies {
			w.mu.Lock()
			d.end("the end")
			w.mu.Unlock()
			d.tasks.Wait()
		}
	}
	w.clients.Wait()
	for _, dir := range w.dirs {
		if err := os.RemoveAll(dir); err != nil {
			w.t.Error(err)
		}
	}
	if w.t.Failed() || os.Getenv("WITNESSD_TEST_LOG") != "" {
		w.t.Log("\n" + strings.Join(w.trace, "\n"))
	}
}

func (w *world) now() time.Duration { return time.Since(w.start) }

func (w *world) logf(format string, args ...any) {
	w.logs.Lock()
	defer w.logs.Unlock()
	if w.traced > 0 && len(w.trace) >= 2*w.traced {
		w.trace = append(w.trace[:0], w.trace[w.traced:]...)
	}
	w.trace = append(w.trace, fmt.Sprintf("%10.4f  ", w.now().Seconds())+fmt.Sprintf(format, args...))
}

// violate notes that a promise was broken; of many, the first are enough.
func (w *world) violate(format string, args ...any) {
	if w.faults++; w.faults <= 3 {
		w.t.Errorf("%v: "+format, append([]any{w.now()}, args...)...)
	}
	w.logf("VIOLATION "+format, args...)
}

// logger writes into the trace, with all details when WITNESSD_TEST_LOG is set.
func (w *world) logger(on string) *slog.Logger {
	h := &traceHandler{w: w, on: on}
	if os.Getenv("WITNESSD_TEST_LOG") != "" {
		h.level = slog.LevelDebug
	}
	return slog.New(h)
}

// traceHandler puts what is logged into the world's trace.
type traceHandler struct {
	slog.Handler
	w     *world
	on    string
	level slog.Level
}

func (h *traceHandler) Enabled(_ context.Context, level slog.Level) bool { return level >= h.level }
func (h *traceHandler) WithAttrs([]slog.Attr) slog.Handler               { return h }
func (h *traceHandler) WithGroup(string) slog.Handler                    { return h }
func (h *traceHandler) Handle(_ context.Context, r slog.Record) error {
	var b strings.Builder
	r.Attrs(func(a slog.Attr) bool {
		fmt.Fprintf(&b, " %s=%v", a.Key, a.Value)
		return true
	})
	h.w.logf("%s: %s%s", h.on, r.Message, b.String())
	h.w.logs.Lock()
	tell := h.w.onLog
	h.w.logs.Unlock()
	if tell != nil {
		tell(h.on, r.Message+b.String())
	}
	if r.Message == "office opened" {
		h.w.logs.Lock()
		defer h.w.logs.Unlock()
		h.w.offices = append(h.w.offices, office{node: h.on, at: h.w.now()})
	}
	return nil
}

// until waits for something to become true.
func (w *world) until(what string, limit time.Duration, ok func() bool) {
	w.t.Helper()
	for start := time.Now(); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Since(start) > limit {
			w.t.Fatalf("not within %v: %s", limit, what)
		}
	}
}

// addPair creates a pair of instances of that name on two hosts; the first has the data.
func (w *world) addPair(name string, port int, primary, mirror *host) *books {
	b := &books{w: w, pair: name}
	for _, h := range []*host{primary, mirror} {
		d := w.newDatabase(b, h.name, port)
		h.names = append(h.names, name)
		h.dbs[name] = d
	}
	first := b.copies[0]
	w.mu.Lock()
	w.timelines++
	first.data, first.system, first.eras = true, "system of "+name, []era{{Timeline: w.timelines}}
	first.start()
	w.mu.Unlock()
	w.pairs = append(w.pairs, b)
	return b
}

// create tells the witness of a pair.
func (w *world) create(b *books) {
	w.t.Helper()
	var members []*witnessv1.Member
	for _, d := range b.copies {
		members = append(members, &witnessv1.Member{Host: d.name, Instance: b.pair})
	}
	_, err := w.admin(w.leader().id).CreatePair(w.t.Context(), &witnessv1.CreatePairRequest{
		Name: b.pair, Primary: b.copies[0].name, Members: members, By: "test",
	})
	if err != nil {
		w.t.Fatalf("create %s: %v", b.pair, err)
	}
}

// record is a pair as a node's own ledger has it; nil if the node does not answer.
func (w *world) record(by *node, name string) *witnessv1.Pair {
	ctx, cancel := context.WithTimeout(w.t.Context(), 100*time.Millisecond)
	defer cancel()
	r, err := w.admin(by.id).GetPair(ctx, &witnessv1.GetPairRequest{Pair: name, Stale: true})
	if err != nil {
		return nil
	}
	return r.GetPair()
}

// settled is the record of a pair by the leader if it can fail over now, else nil.
func (w *world) settled(name string) *witnessv1.Pair {
	n := w.leading()
	if n == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(w.t.Context(), time.Second)
	defer cancel()
	r, err := w.admin(n.id).GetPair(ctx, &witnessv1.GetPairRequest{Pair: name})
	p := r.GetPair()
	if err != nil || p.GetRight() != witnessv1.Right_RIGHT_LEASED || p.GetProcedure() != nil || !p.GetFailoverReady() {
		return nil
	}
	return p
}

// untilArmed waits until the pair's primary serves and its mirror could take over, and returns its record.
func (w *world) untilArmed(name string, limit time.Duration) *witnessv1.Pair {
	w.t.Helper()
	var p *witnessv1.Pair
	w.until(name+" is armed and serves", limit, func() bool {
		p = w.settled(name)
		return p != nil && w.hosts[p.GetPrimary()].dbs[name].serves()
	})
	return p
}

// onePair is a world with the pair sales on the hosts a and b, armed, with clients that write.
func onePair(t *testing.T) (w *world, a, b *host) {
	t.Helper()
	w = newWorld(t)
	a, b = w.newHost("a", 10*time.Hour), w.newHost("b", 777*time.Hour)
	sales := w.addPair("sales", 5432, a, b)
	w.create(sales)
	a.startAgent()
	b.startAgent()
	sales.clients(pace, &w.clients, w.stopClients)
	w.untilArmed("sales", 20*time.Second)
	w.logf("armed")
	return w, a, b
}

// listen has each line that is logged from now on told, at the instant of the logging.
func (w *world) listen(tell func(on, line string)) {
	w.logs.Lock()
	defer w.logs.Unlock()
	w.onLog = tell
}

// lastOffice is when a node last began to decide.
func (w *world) lastOffice() office {
	w.logs.Lock()
	defer w.logs.Unlock()
	return w.offices[len(w.offices)-1]
}

// bubble runs a test in virtual time.
func bubble(t *testing.T, test func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, test)
}

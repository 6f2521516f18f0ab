package agent

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/witnessd/witnessd/agent/engine"
	"github.com/witnessd/witnessd/agent/fence"
	"github.com/witnessd/witnessd/agent/hold"
	"github.com/witnessd/witnessd/agent/watchdog"
	witnessv1 "github.com/witnessd/witnessd/proto/gen/witness/v1"
)

// fakeKernel writes down what it is told, and is open and closed as the real one would be.
type fakeKernel struct {
	w *world

	mu      sync.Mutex
	refuses error // by Guard
	stuck   bool  // Open changes nothing
	rules   bool
	opened  bool
	found   []fence.StartService
	guarded []fence.Service
	until   hold.Instant
	endless bool
	readers hold.Instant
	shuts   []time.Time
	letGo   int
	closed  int
}

func (k *fakeKernel) open(_ context.Context, o fence.KernelOptions) (kernelFence, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.found, k.opened = o.Services, true
	for _, s := range o.Services {
		k.rules, k.until, k.endless = true, s.Right.Until, s.Right.Endless
	}
	return k, nil
}

func (k *fakeKernel) Guard(s fence.Service, r fence.Right) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.guarded = append(k.guarded, s)
	if k.refuses != nil {
		return k.refuses
	}
	if !k.rules {
		k.rules, k.until, k.endless = true, r.Until, r.Endless
	}
	return nil
}

// Open is ignored without rules.
func (k *fakeKernel) Open(_ string, r fence.Right) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.rules && !k.stuck {
		k.until, k.endless, k.readers = r.Until, r.Endless, 0
	}
}

func (k *fakeKernel) OpenNow(name string, r fence.Right) error {
	k.Open(name, r)
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.stuck {
		return errors.New("the kernel does not answer")
	}
	return nil
}

func (k *fakeKernel) Bounded(string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return !k.endless
}

func (k *fakeKernel) OpenForReads(_ string, until hold.Instant) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.rules {
		k.until, k.endless, k.readers = 0, false, until
	}
}

func (k *fakeKernel) Shut(string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.until, k.endless, k.readers = 0, false, 0
	k.shuts = append(k.shuts, time.Now())
	return nil
}

func (k *fakeKernel) LetGo(string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.letGo++
	k.rules = false
	return nil
}

func (k *fakeKernel) Healthy() error { return nil }

func (k *fakeKernel) Stats() fence.KernelStats { return fence.KernelStats{} }

func (k *fakeKernel) Close() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.closed++
	return nil
}

// passes says who gets in now.
func (k *fakeKernel) passes() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch now := k.w.clock(); {
	case !k.rules:
		return "all, without rules"
	case k.endless:
		return "all, without end"
	case now < k.until:
		return "all"
	case now < k.readers:
		return "readers"
	}
	return "none"
}

func (k *fakeKernel) want(t *testing.T, when, want string) {
	t.Helper()
	if got := k.passes(); got != want {
		t.Errorf("%s: %s get in, want %s", when, got, want)
	}
}

// told is what it was told so far.
type told struct {
	found         []fence.StartService
	guarded       []fence.Service
	until         hold.Instant
	shuts         int
	letGo, closed int
}

func (k *fakeKernel) told() told {
	k.mu.Lock()
	defer k.mu.Unlock()
	return told{
		found: slices.Clone(k.found), guarded: slices.Clone(k.guarded), until: k.until, shuts: len(k.shuts),
		letGo: k.letGo, closed: k.closed,
	}
}

// fenced is a host with a kernel's fence.
func (w *world) fenced(name string) *testHost {
	h := w.host(name)
	h.kernel = &fakeKernel{w: w}
	return h
}

func TestKernelFollowsTheRight(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, w *world) {
		w.set(func() { w.pairs = []*witnessv1.PairAnswer{leased()} })
		h := w.fenced("db1")
		h.start()
		time.Sleep(time.Second)
		h.kernel.want(t, "before the promise that it may have given is over", "none")
		time.Sleep(3 * time.Second)
		h.kernel.want(t, "with a lease", "all")
		if s := h.kernel.told().guarded; len(s) == 0 || s[0].Port != 5432 || len(s[0].Addresses) != 1 {
			t.Errorf("guarded %v", s)
		}
		w.silence(true)
		time.Sleep(right - 600*time.Millisecond)
		h.kernel.want(t, "on the last lease", "all")
		time.Sleep(700 * time.Millisecond)
		h.kernel.want(t, "after the last lease", "none")
		if h.kernel.told().shuts == 0 {
			t.Error("it was left to the kernel alone")
		}
		w.silence(false)
		time.Sleep(3 * time.Second)
		h.kernel.want(t, "with a lease again", "all")
		h.stop()
		h.kernel.want(t, "stopped in order, within the lease", "all")
		if n := h.kernel.told().closed; n != 1 {
			t.Errorf("left %d times", n)
		}
	})
}

// A new start finds what the former one left open, and asks for no more.
func TestKernelIsToldWhatWasLeftOpen(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, w *world) {
		w.set(func() { w.pairs = []*witnessv1.PairAnswer{leased()} })
		h := w.fenced("db1")
		h.start()
		time.Sleep(4 * time.Second)
		h.stop()
		left := h.kernel.told().until
		w.silence(true)
		h.kernel = &fakeKernel{w: w}
		h.start()
		time.Sleep(10 * time.Millisecond)
		found := h.kernel.told().found
		if len(found) != 1 || found[0].Right.Until != left || found[0].Right.Endless {
			t.Errorf("told %v, left open until %v", found, left)
		}
		time.Sleep(right)
		h.kernel.want(t, "after the former right", "none")
		h.stop()
	})
}

func TestKernelLetsReadersInAtAMirror(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, w *world) {
		w.set(func() { w.pairs = []*witnessv1.PairAnswer{leased()} })
		h := w.fenced("db2")
		h.db.st.Running, h.db.st.Role, h.db.st.Run = true, engine.RoleMirror, "run0"
		h.start()
		time.Sleep(time.Second)
		h.kernel.want(t, "a mirror", "readers")
		time.Sleep(10 * time.Second)
		h.kernel.want(t, "a mirror, later", "readers")
		h.db.mu.Lock()
		h.db.st.Role = engine.RolePrimary // by somebody's hand
		h.db.mu.Unlock()
		time.Sleep(250 * time.Millisecond)
		h.kernel.want(t, "a mirror that was made a primary by hand", "none")
		h.stop()
	})
}

// set changes what the kernel does.
func (k *fakeKernel) set(change func()) {
	k.mu.Lock()
	defer k.mu.Unlock()
	change()
}

// A database that does not answer may have become anything; its readers are let in no longer than for a lease.
func TestReadersNeedALook(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, w *world) {
		w.set(func() { w.pairs = []*witnessv1.PairAnswer{leased()} })
		h := w.fenced("db2")
		h.db.st.Running, h.db.st.Role, h.db.st.Run = true, engine.RoleMirror, "run0"
		h.start()
		time.Sleep(time.Second)
		h.kernel.want(t, "a mirror", "readers")
		hang := make(chan struct{})
		h.db.mu.Lock()
		h.db.onLook = func() { <-hang }
		h.db.mu.Unlock()
		time.Sleep(3500 * time.Millisecond)
		h.kernel.want(t, "no look for more than a lease", "none")
		close(hang)
		h.stop()
	})
}

// soleThenAutomatic is a primary under a sole right whose pair may be armed from now on.
func soleThenAutomatic(t *testing.T, w *world, h *testHost) {
	t.Helper()
	sole := leased()
	sole.Right, sole.Mode = witnessv1.Right_RIGHT_SOLE, witnessv1.Mode_MODE_MANUAL
	w.set(func() { w.pairs = []*witnessv1.PairAnswer{sole} })
	h.start()
	time.Sleep(4 * time.Second)
	w.set(func() { w.pairs[0].Revision++ }) // R8: the first revision heard may be that of an arm
	time.Sleep(2 * time.Second)
	h.kernel.want(t, "sole", "all, without end")
}

func (n *fakeNode) asked(r witnessv1.Request) bool {
	return n.last(func(p *witnessv1.PairReport) bool { return p.GetRequest() == r }) != nil
}

// R8: from the instant a primary asks to arm, its right must end by itself.
func TestArmWaitsForTheKernel(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, w *world) {
		h := w.fenced("db1")
		soleThenAutomatic(t, w, h)
		h.kernel.set(func() { h.kernel.stuck = true })
		w.set(func() {
			w.pairs[0].Revision++
			w.pairs[0].Mode = witnessv1.Mode_MODE_AUTOMATIC
		})
		time.Sleep(6 * time.Second)
		if w.nodes[0].asked(witnessv1.Request_REQUEST_ARM) {
			t.Error("asked to arm while the kernel had an opening without end")
		}
		h.kernel.set(func() { h.kernel.stuck = false })
		time.Sleep(6 * time.Second)
		if !w.nodes[0].asked(witnessv1.Request_REQUEST_ARM) {
			t.Error("never asked to arm")
		}
		h.kernel.want(t, "asked to arm", "all")
		h.stop()
	})
}

// A refusal stands until it is tried again, and rules that come late do not close a right that lasts.
func TestRulesThatComeLate(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, w *world) {
		sole := leased()
		sole.Right, sole.Mode = witnessv1.Right_RIGHT_SOLE, witnessv1.Mode_MODE_MANUAL
		w.set(func() { w.pairs = []*witnessv1.PairAnswer{sole} })
		h := w.fenced("db1")
		h.kernel.refuses = errors.New("no descriptors left")
		h.start()
		time.Sleep(4 * time.Second)
		w.set(func() { w.pairs[0].Revision++ }) // as above
		time.Sleep(2 * time.Second)
		h.kernel.want(t, "refused", "all, without rules")
		if level, note := h.level(); level != string(fence.LevelEngine) || note == "" {
			t.Errorf("claims level %s (%s) without rules", level, note)
		}
		h.kernel.set(func() { h.kernel.refuses = nil })
		time.Sleep(2 * time.Second)
		h.kernel.want(t, "rules in force", "all, without end")
		if level, _ := h.level(); level != string(fence.LevelKernel) {
			t.Errorf("claims level %s with rules", level)
		}
		h.kernel.set(func() { h.kernel.refuses = fence.ErrPartnerHere })
		h.agent.names.set("db2", netip.MustParseAddr("192.0.2.99"))
		time.Sleep(2 * time.Second)
		if level, _ := h.level(); level != string(fence.LevelEngine) {
			t.Errorf("claims level %s although the partner's new address was refused", level)
		}
		w.set(func() {
			w.pairs[0].Epoch++
			w.pairs[0].Revision++
			w.pairs[0].Primary, w.pairs[0].Mirror = "db2", "db1"
		})
		time.Sleep(200 * time.Millisecond)
		if h.kernel.told().shuts == 0 {
			t.Error("the rules that are in force were not shut")
		}
		h.stop()
	})
}

func (h *testHost) level() (level, note string) {
	st := h.agent.status.Load().instances[0]
	return st.fence, st.fenceNote
}

// What cannot be read says nothing about who may come in, so the kernel's table stays as it is.
func TestDamagedFileLeavesTheKernelAlone(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, w *world) {
		h := w.fenced("db1")
		if err := os.MkdirAll(h.state, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(h.state, "main.epoch"), []byte("{"), 0o600); err != nil {
			t.Fatal(err)
		}
		h.start()
		if err := <-h.ended; err == nil || h.kernel.opened {
			t.Errorf("ended with %v, kernel opened %t", err, h.kernel.opened)
		}
	})
}

// While a pair forms its database is none of the agent's business, and after its removal again.
func TestKernelOnlyWhileInAPair(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, w *world) {
		forming := leased()
		forming.Stage, forming.Epoch, forming.Primary, forming.Mirror = witnessv1.Stage_STAGE_FORMING, 0, "", ""
		w.set(func() { w.pairs = []*witnessv1.PairAnswer{forming} })
		h := w.fenced("db1")
		h.start()
		time.Sleep(2 * time.Second)
		if s := h.kernel.told().guarded; len(s) > 0 {
			t.Errorf("guarded while the pair forms: %v", s)
		}
		w.set(func() { w.pairs = []*witnessv1.PairAnswer{leased()} })
		time.Sleep(4 * time.Second)
		if len(h.kernel.told().guarded) == 0 {
			t.Error("not guarded")
		}
		w.set(func() { w.pairs, w.nodes[0].removed = nil, []string{leased().Pair} })
		time.Sleep(time.Second)
		if n := h.kernel.told().letGo; n != 1 {
			t.Errorf("let go %d times", n)
		}
		h.stop()
	})
}

func TestLevels(t *testing.T) {
	for name, c := range map[string]struct {
		refuses error
		want    fence.Level
	}{
		"the kernel fences":   {nil, fence.LevelKernel},
		"the partner is here": {fence.ErrPartnerHere, fence.LevelEngine},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, 1, func(t *testing.T, w *world) {
				w.set(func() { w.pairs = []*witnessv1.PairAnswer{leased()} })
				h := w.fenced("db1")
				h.kernel.refuses = c.refuses
				h.start()
				time.Sleep(4 * time.Second)
				w.mu.Lock()
				reports := w.nodes[0].heard[len(w.nodes[0].heard)-1].GetPairs()
				w.mu.Unlock()
				if got := reports[0].GetFenceLevel(); got != string(c.want) {
					t.Errorf("reports %s, want %s", got, c.want)
				}
				if note := reports[0].GetFenceNote(); (note == "") != (c.want == fence.LevelKernel) {
					t.Errorf("reports %s with the note %q", c.want, note)
				}
				h.stop()
			})
		})
	}
}

// Without the kernel the strongest of the others counts, and each has its conditions.
func TestWeakerLevels(t *testing.T) {
	timing := hold.Timing{Lease: 3 * time.Second, Guard: 300 * time.Millisecond}
	for name, c := range map[string]struct {
		gate     Gate
		level    string
		watchdog string // systemd's, in microseconds
		atEnd    bool
		want     fence.Level
	}{
		"nothing":                     {want: fence.LevelEngine},
		"a gate with ways around it":  {gate: Gate{Listen: ":1"}, want: fence.LevelEngine},
		"a gate and no way around it": {gate: Gate{Listen: ":1", Exclusive: true}, want: fence.LevelGate},
		"a gate that is not wanted":   {gate: Gate{Listen: ":1", Exclusive: true}, level: FenceEngine, want: fence.LevelEngine},
		"a watchdog":                  {watchdog: "2000000", atEnd: true, want: fence.LevelWatchdog},
		"a watchdog that ends the agent and not the database": {watchdog: "2000000", want: fence.LevelEngine},
		"a watchdog that is too late":                         {watchdog: "2500000", atEnd: true, want: fence.LevelEngine},
	} {
		t.Run(name, func(t *testing.T) {
			if c.watchdog != "" {
				t.Setenv("NOTIFY_SOCKET", "@witness-agent-test-"+c.watchdog)
				t.Setenv("WATCHDOG_USEC", c.watchdog)
			}
			w, err := watchdog.Open(watchdog.Options{})
			if err != nil {
				t.Log(err) // nobody listens there
			}
			a := &Agent{watchdog: w, atEnd: c.atEnd, kernelBad: errors.New("none")}
			a.config.Fence.Level = c.level
			i := &instance{config: Instance{Gate: c.gate}, managed: true}
			i.state.File.Timing = timing
			if got, note := a.level(i); got != c.want || note == "" {
				t.Errorf("%s (%s), want %s", got, note, c.want)
			}
		})
	}
}

// What waits for clients hears at once, and before the database is ended.
func TestClosingIsToldBeforeTheEnd(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, w *world) {
		w.set(func() { w.pairs = []*witnessv1.PairAnswer{leased()} })
		h := w.fenced("db1")
		h.start()
		time.Sleep(4 * time.Second)
		now := w.clock()
		if snap := h.agent.status.Load(); !snap.instances[0].serving(now) {
			t.Fatal("does not serve")
		}
		var mu sync.Mutex
		var during []bool
		h.db.onFence = func() {
			mu.Lock()
			defer mu.Unlock()
			during = append(during, h.agent.status.Load().instances[0].serving(w.clock()))
		}
		w.set(func() {
			w.pairs[0].Epoch++
			w.pairs[0].Revision++
			w.pairs[0].Primary, w.pairs[0].Mirror = "db2", "db1"
		})
		time.Sleep(time.Second)
		mu.Lock()
		defer mu.Unlock()
		if len(during) == 0 || slices.Contains(during, true) {
			t.Errorf("said to serve while it was being fenced: %v", during)
		}
		h.stop()
	})
}

func TestFenceLevelKernelRefusesToStartWithoutIt(t *testing.T) {
	c := DefaultConfig()
	dir := t.TempDir()
	c.Host, c.StateDir, c.RunDir, c.HTTP.Listen = "db1", dir, dir, ""
	c.Link = Listen{Listen: "127.0.0.1:0", Advertise: "127.0.0.1:1"}
	c.Fence.Level = FenceKernel
	refused := errors.New("no such thing here")
	a, err := New(c, Options{Kernel: func(context.Context, fence.KernelOptions) (kernelFence, error) {
		return nil, refused
	}})
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Run(t.Context()); !errors.Is(err, refused) {
		t.Errorf("started: %v", err)
	}
}

package fence

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/witnessd/witnessd/agent/hold"
)

// rulesOfTest stands in for the kernel's packet filter, with virtual time.
type rulesOfTest struct {
	mu       sync.Mutex
	now      func() hold.Instant
	opened   map[string]hold.Instant // until when the kernel lets clients in
	calls    []string
	fail     map[string]error // by call
	token    func()           // between the token and the states
	sent     func()           // between the states and the kernel's work
	arranged []string
	letGo    []string
	unknown  string // has no sets: closing it fails
}

func (r *rulesOfTest) call(name string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calls = append(r.calls, name)
	return r.fail[name]
}

func (r *rulesOfTest) failing(name string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.fail[name] = err
}

func (r *rulesOfTest) count(name string) (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.calls {
		if c == name {
			n++
		}
	}
	return n
}

func (r *rulesOfTest) shut(services []Service) error {
	if err := r.call("shut"); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if slices.ContainsFunc(services, func(s Service) bool { return s.Name == r.unknown }) {
		return errLost
	}
	for _, s := range services {
		delete(r.opened, s.Name)
	}
	return nil
}

func (r *rulesOfTest) renew(states func() []state) error {
	if err := r.call("renew"); err != nil {
		return err
	}
	r.token()
	list := states()
	r.sent()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range list {
		delete(r.opened, s.service.Name)
		if s.endless {
			r.opened[s.service.Name] = 1 << 62
		} else if s.left > 0 {
			r.opened[s.service.Name] = r.now().Add(s.left)
		}
	}
	return nil
}

func (r *rulesOfTest) arrange(makePlan func() plan) error {
	if err := r.call("arrange"); err != nil {
		return err
	}
	p := makePlan()
	r.sent()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.arranged, r.letGo = nil, p.letGo
	for _, s := range p.states {
		r.arranged = append(r.arranged, s.service.Name)
	}
	return nil
}

func (r *rulesOfTest) left() ([]Shown, error) { return nil, r.call("left") }

func (r *rulesOfTest) intact() error            { return r.call("intact") }
func (r *rulesOfTest) changes() <-chan struct{} { return nil }
func (r *rulesOfTest) close() error             { return r.call("close") }

func (r *rulesOfTest) until(name string) hold.Instant {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.opened[name]
}

// kernelBench is a Kernel over such rules, with one instance, in a bubble of virtual time.
type kernelBench struct {
	*Kernel
	rules *rulesOfTest
	slept atomic.Int64 // of the host, which only the clock of the rights counts
	start time.Time
	lost  []error
}

func inBubble(t *testing.T, test func(t *testing.T, b *kernelBench)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b := &kernelBench{start: time.Now(), rules: &rulesOfTest{
			opened: map[string]hold.Instant{}, fail: map[string]error{}, token: func() {}, sent: func() {},
		}}
		b.rules.now = b.now
		k, err := OpenKernel(t.Context(), KernelOptions{
			Clock: b.now, OnLost: func(err error) { b.lost = append(b.lost, err) },
			Services: []StartService{
				{Service: Service{Name: "main", Port: 1}},
				{Service: Service{Name: "here", Port: 2, Partners: []netip.Addr{netip.IPv6Loopback()}}},
			},
			seams: seams{
				addresses: func() ([]netip.Addr, error) { return nil, nil },
				dial:      func(KernelOptions) (ruleset, error) { return b.rules, nil },
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		b.Kernel = k
		test(t, b)
		if err := k.Close(); err != nil {
			t.Error(err)
		}
	})
}

func (b *kernelBench) now() hold.Instant {
	return hold.Instant(int64(time.Since(b.start))+b.slept.Load()) + 1
}

// What an element may outlive its right by is part of what a fence may need.
func TestKernelTokenFits(t *testing.T) {
	const ticks = 2 * 10 * time.Millisecond
	if work := hold.FenceTime - tokenLife - ticks; work < 50*time.Millisecond {
		t.Errorf("a token of %v leaves %v for the kernel's work", tokenLife, work)
	}
}

func TestKernelLeavesOutWhatItCannotFence(t *testing.T) {
	inBubble(t, func(t *testing.T, b *kernelBench) {
		if got := strings.Join(b.rules.arranged, ","); got != "main" {
			t.Errorf("fenced: %s, want main", got)
		}
	})
}

func TestKernelRenewsAndCloses(t *testing.T) {
	inBubble(t, func(t *testing.T, b *kernelBench) {
		until := b.now().Add(time.Second)
		b.Open("main", Right{Until: until})
		b.Open("nobody", Right{Endless: true})
		synctest.Wait()
		if got := b.rules.until("main"); got != until {
			t.Errorf("open until %v, want %v", got, until)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if got := b.rules.until("main"); got != 0 {
			t.Error("the end of the right was left to the kernel alone")
		}
		time.Sleep(time.Minute)
		if n := b.rules.count("shut"); n != 1 {
			t.Errorf("closed %d times, want once", n)
		}
		b.Open("main", Right{Until: b.now().Add(shortestOpening - 1)})
		synctest.Wait()
		if got := b.rules.until("main"); got != 0 {
			t.Error("opened for a right that is as good as over")
		}
		if n := b.rules.count("renew"); n != 2 {
			t.Errorf("%d renewals, want 2", n)
		}
	})
}

// A shorter right takes the place of a longer one.
func TestKernelShortens(t *testing.T) {
	inBubble(t, func(t *testing.T, b *kernelBench) {
		b.Open("main", Right{Endless: true})
		synctest.Wait()
		until := b.now().Add(time.Second)
		b.Open("main", Right{Until: until})
		synctest.Wait()
		if got := b.rules.until("main"); got != until {
			t.Errorf("open until %v, want %v", got, until)
		}
	})
}

// While the kernel is slow the latest order counts, each is done once, and a Shut is done before any.
func TestKernelCoalesces(t *testing.T) {
	inBubble(t, func(t *testing.T, b *kernelBench) {
		release := make(chan struct{})
		b.rules.sent = func() { <-release }
		for i := range 100 {
			b.Open("main", Right{Until: b.now().Add(time.Duration(i+1) * time.Second)})
		}
		synctest.Wait()
		begun := time.Now()
		if err := b.Shut("main"); err == nil || time.Since(begun) != shutPatience {
			t.Errorf("shut: %v after %v, want an error after %v", err, time.Since(begun), shutPatience)
		}
		time.Sleep(hold.FenceTime)
		if b.Healthy() == nil {
			t.Error("healthy while the kernel does not answer")
		}
		close(release)
		time.Sleep(time.Second)
		if err := b.Healthy(); err != nil {
			t.Error(err)
		}
		if got := b.rules.until("main"); got != 0 {
			t.Error("an Open was done after the Shut that followed it")
		}
		if n := b.rules.count("renew"); n > 2 {
			t.Errorf("%d renewals for 100 orders at once", n)
		}
		if err := b.Shut("main"); err != nil {
			t.Error(err)
		}
	})
}

// The process is stopped between the token and the clock, and was told to shut meanwhile.
func TestKernelShutBetweenTokenAndClock(t *testing.T) {
	inBubble(t, func(t *testing.T, b *kernelBench) {
		b.rules.token = func() {
			b.rules.token = func() {}
			_ = b.Shut("main")
		}
		b.Open("main", Right{Endless: true})
		time.Sleep(time.Second)
		if got := b.rules.until("main"); got != 0 {
			t.Error("opened after it was shut")
		}
	})
}

func TestKernelFailsAndTriesOn(t *testing.T) {
	inBubble(t, func(t *testing.T, b *kernelBench) {
		b.Open("main", Right{Endless: true})
		synctest.Wait()
		bad := errors.New("bad kernel")
		b.rules.failing("shut", bad)
		b.rules.failing("arrange", bad)
		if err := b.Shut("main"); !errors.Is(err, bad) {
			t.Errorf("shut: %v, want %v", err, bad)
		}
		if err := b.Healthy(); err != nil {
			t.Errorf("unhealthy after a moment: %v", err)
		}
		time.Sleep(time.Second)
		if err := b.Healthy(); !errors.Is(err, bad) {
			t.Errorf("healthy is %v, want %v", err, bad)
		}
		b.rules.failing("shut", nil)
		b.rules.failing("arrange", nil)
		time.Sleep(2 * retryAfter)
		synctest.Wait()
		if got := b.rules.until("main"); got != 0 || b.Healthy() != nil {
			t.Errorf("open until %v, healthy %v; want it closed at last", got, b.Healthy())
		}
		b.rules.failing("renew", errTokenOut)
		b.Open("main", Right{Endless: true})
		time.Sleep(time.Second)
		b.rules.failing("renew", nil)
		time.Sleep(2 * retryAfter)
		synctest.Wait()
		if b.rules.until("main") == 0 || b.Stats().Late == 0 {
			t.Errorf("not opened, or not counted: %+v", b.Stats())
		}
	})
}

// The host sleeps: the kernel's time-outs do not notice.
func TestKernelAfterSleep(t *testing.T) {
	inBubble(t, func(t *testing.T, b *kernelBench) {
		b.Open("main", Right{Until: b.now().Add(10 * time.Second)})
		synctest.Wait()
		b.slept.Store(int64(time.Minute))
		time.Sleep(longestSleep)
		synctest.Wait()
		if got := b.rules.until("main"); got != 0 {
			t.Error("still open after the host has slept")
		}
	})
}

// The host sleeps, or the clock jumps, just between the reading of the clock and the kernel's work.
func TestKernelSleepsInRenewal(t *testing.T) {
	inBubble(t, func(t *testing.T, b *kernelBench) {
		b.rules.sent = func() {
			b.rules.sent = func() {}
			b.slept.Store(int64(10 * time.Second))
		}
		until := b.now().Add(30 * time.Second)
		b.Open("main", Right{Until: until})
		time.Sleep(longestSleep)
		synctest.Wait()
		if got := b.rules.until("main"); got != until {
			t.Errorf("open until %v, want %v", got, until)
		}
	})
}

func TestKernelLooksAfterItsRules(t *testing.T) {
	inBubble(t, func(t *testing.T, b *kernelBench) {
		time.Sleep(10 * checkEvery)
		if n := b.rules.count("intact"); n < 9 || n > 11 {
			t.Errorf("looked %d times in 10 s", n)
		}
		before := b.rules.count("arrange")
		b.rules.failing("intact", errLost)
		b.rules.failing("arrange", errors.New("not now"))
		time.Sleep(checkEvery + retryAfter)
		b.rules.failing("intact", nil)
		b.rules.failing("arrange", nil)
		time.Sleep(checkEvery)
		synctest.Wait()
		if len(b.lost) == 0 || !errors.Is(b.lost[0], errLost) || b.Stats().Rebuilt != len(b.lost) {
			t.Errorf("told %v, counted %d", b.lost, b.Stats().Rebuilt)
		}
		if b.rules.count("arrange") == before || b.Healthy() != nil {
			t.Error("not put back")
		}
	})
}

func TestKernelGuardWaitsForTheKernel(t *testing.T) {
	inBubble(t, func(t *testing.T, b *kernelBench) {
		b.rules.failing("arrange", errors.New("bad kernel"))
		other := Service{Name: "other", Port: 3}
		if err := b.Guard(other, Right{}); err == nil || strings.Contains(strings.Join(b.rules.arranged, ","), "other") {
			t.Errorf("guard: %v", err)
		}
		b.rules.failing("arrange", nil)
		if err := b.Guard(other, Right{}); err != nil {
			t.Error(err)
		}
		n := b.rules.count("arrange")
		if err := b.Guard(other, Right{}); err != nil || b.rules.count("arrange") != n {
			t.Errorf("guarded again: %v, %d changes", err, b.rules.count("arrange")-n)
		}
		if err := b.LetGo("other"); err != nil || strings.Join(b.rules.arranged, ",") != "main" {
			t.Errorf("let go: %v, %v", err, b.rules.arranged)
		}
	})
}

package fence

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// An instance is bounded only after the kernel has confirmed that nothing without end is left.
func TestKernelBounded(t *testing.T) {
	inBubble(t, func(t *testing.T, b *kernelBench) {
		see := func(when string, want bool) {
			t.Helper()
			if got := b.Bounded("main"); got != want {
				t.Errorf("%s: bounded %t, want %t", when, got, want)
			}
		}
		bad := errors.New("bad kernel")
		timed := func() Right { return Right{Until: b.now().Add(time.Minute)} }
		see("at first", true)
		if !b.Bounded("nobody") {
			t.Error("an instance without rules is open without end")
		}
		b.rules.failing("renew", bad)
		b.Open("main", Right{Endless: true})
		see("ordered without end", false)
		begun := time.Now()
		err := b.OpenNow("main", timed())
		if !errors.Is(err, ErrTryingOn) || !errors.Is(err, bad) || time.Since(begun) != shutPatience {
			t.Errorf("%v after %v, want %v after %v", err, time.Since(begun), ErrTryingOn, shutPatience)
		}
		see("the kernel has not confirmed the end", false)
		b.rules.failing("renew", nil)
		time.Sleep(2 * retryAfter)
		synctest.Wait()
		see("confirmed", true)
		if err := b.OpenNow("main", Right{Endless: true}); err != nil {
			t.Error(err)
		}
		see("open without end", false)
		b.rules.sent = func() { // an endless order comes while the kernel is told of one with an end
			b.rules.sent = func() {}
			b.Open("main", Right{Endless: true})
		}
		b.Open("main", timed())
		synctest.Wait()
		see("open without end again", false)
		if err := b.Shut("main"); err != nil {
			t.Error(err)
		}
		see("shut", true)
		if err := b.OpenNow("nobody", timed()); err == nil || errors.Is(err, ErrTryingOn) {
			t.Errorf("an instance without rules was opened: %v", err)
		}
	})
}

// Orders to guard and to let go of a service while the kernel refuses them: the latest counts.
func TestKernelGuardAndLetGoTryOn(t *testing.T) {
	inBubble(t, func(t *testing.T, b *kernelBench) {
		b.rules.failing("arrange", errors.New("bad kernel"))
		b.rules.failing("shut", errors.New("no such set"))
		other := Service{Name: "other", Port: 3}
		for _, err := range []error{
			b.Guard(other, Right{Endless: true}), b.LetGo("other"), b.Guard(other, Right{}), b.LetGo("left"),
		} {
			if !errors.Is(err, ErrTryingOn) {
				t.Errorf("%v, want %v", err, ErrTryingOn)
			}
		}
		if b.Bounded("other") {
			t.Error("what is not gone yet may be open without end")
		}
		b.rules.failing("arrange", nil)
		b.rules.failing("shut", nil)
		time.Sleep(2 * retryAfter)
		synctest.Wait()
		if got := b.rules.letGo; len(got) != 1 || got[0] != "left" {
			t.Errorf("let go of %v, want of left", got)
		}
		if !b.Bounded("other") {
			t.Error("not bounded once its rules are in force")
		}
		if err := b.LetGo("other"); err != nil {
			t.Error(err)
		}
		if got := b.rules.letGo; len(got) != 1 || got[0] != "other" {
			t.Errorf("let go of %v, want of other", got)
		}
	})
}

// What cannot be put in force yet does not keep the ports of others open.
func TestKernelShutsBesideWhatIsNotArranged(t *testing.T) {
	inBubble(t, func(t *testing.T, b *kernelBench) {
		b.Open("main", Right{Endless: true})
		synctest.Wait()
		b.rules.failing("arrange", errors.New("bad kernel"))
		b.rules.unknown = "other"
		if err := b.Guard(Service{Name: "other", Port: 3}, Right{Until: b.now() + 1}); !errors.Is(err, ErrTryingOn) {
			t.Errorf("%v, want %v", err, ErrTryingOn)
		}
		if err := b.Shut("main"); err != nil || b.rules.until("main") != 0 {
			t.Errorf("open until %v, %v; want it closed", b.rules.until("main"), err)
		}
	})
}

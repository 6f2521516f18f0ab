package protocol

import (
	"testing"
	"time"

	"github.com/witnessd/witnessd/witnessd/pair"
)

// scenario is a story that begins with an armed pair.
type scenario struct {
	name string
	run  func(t *testing.T, w *world)
}

func play(t *testing.T, scenarios []scenario) {
	t.Helper()
	for _, s := range scenarios {
		t.Run(s.name, func(t *testing.T) { s.run(t, armed(t)) })
	}
}

// newTold is a new world whose trace is shown if the test fails.
func newTold(t *testing.T) *world {
	t.Helper()
	w := newWorld()
	t.Cleanup(func() {
		if len(w.faults) > 0 {
			t.Errorf("violations: %v", w.faults)
		}
		if t.Failed() {
			t.Logf("trace:\n%s", w)
		}
	})
	return w
}

// armed runs a new world until the pair is armed.
func armed(t *testing.T) *world {
	t.Helper()
	w := newTold(t)
	if !w.until(15*time.Second, func() bool { return w.record.Armed() }) {
		t.Fatal("pair did not arm")
	}
	w.run(2 * time.Second)
	return w
}

// must asks for what must not be refused.
func (w *world) must(t *testing.T, wish pair.Wish) {
	t.Helper()
	if r := w.ask(wish); r != nil {
		t.Fatalf("%T refused: %v", wish, r)
	}
}

// mustNot asks for what must be refused for that reason.
func (w *world) mustNot(t *testing.T, wish pair.Wish, reason pair.Reason) {
	t.Helper()
	if r := w.ask(wish); r == nil || r.Reason != reason {
		t.Errorf("%T: %v, want reason %s", wish, r, reason)
	}
}

func (w *world) armedAgain(t *testing.T) {
	t.Helper()
	if !w.until(30*time.Second, func() bool { return w.record.Armed() && w.record.Procedure == nil }) {
		t.Error("pair is not armed again")
	}
	w.run(5 * time.Second)
	if !w.record.Armed() {
		t.Error("pair did not stay armed")
	}
	if lost := w.lacking(w.primary().db); len(lost) > 0 {
		t.Errorf("%d acknowledged writes are lost", len(lost))
	}
}

func (w *world) servedBy(t *testing.T, host string, from, limit time.Duration) {
	t.Helper()
	at := w.firstAck(host, from)
	switch {
	case at < 0:
		t.Errorf("%s has acknowledged no write since %v", host, from)
	case at-from > limit:
		t.Errorf("%s acknowledged its first write %v after %v, limit %v", host, at-from, from, limit)
	}
}

// steady checks that clients could write all the time since from, and that the epoch is the same.
func (w *world) steady(t *testing.T, from time.Duration, epoch pair.Epoch) {
	t.Helper()
	if gap := w.longestGap(from); gap > 50*time.Millisecond || w.record.Epoch != epoch {
		t.Errorf("longest time without a write %v, epoch %d, want 50ms and %d", gap, w.record.Epoch, epoch)
	}
}

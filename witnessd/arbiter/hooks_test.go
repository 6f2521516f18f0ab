package arbiter_test

import (
	"testing"
	"testing/synctest"

	"github.com/witnessd/witnessd/witnessd/arbiter"
	"github.com/witnessd/witnessd/witnessd/ledger"
	"github.com/witnessd/witnessd/witnessd/pair"
)

// tell sends a heartbeat with hooks.
func (a *agent) tell(id pair.ID, hooks ...pair.Hook) {
	a.sequence++
	a.seat.Heartbeat(arbiter.Heartbeat{Sequence: a.sequence, TermHeard: a.term,
		Reports: []arbiter.Report{{Pair: id, Said: a.said, Hooks: hooks}}})
}

func (a *agent) recorded() uint64 {
	answer, _ := a.last()
	return answer.Pairs[0].HooksRecorded
}

// TestHooks: they become lines of the history and the agent that reported them is told so. Whom a line is about is in
// the log only once every node reads that.
func TestHooks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _, a, b := formed(t)
		newest := func() ledger.Event {
			all := c.ledger.Events(ledger.EventFilter{})
			return all[len(all)-1]
		}
		hook := pair.Hook{Sequence: 1, Event: "mirror", Command: "notify", OK: true}
		settle(func() { b.tell(b.id, hook) })
		settle(func() { b.beat(nil) })
		f := newest().Fact
		if f.Kind != pair.FactHookDone || f.Host != "a" || f.Cause != "hook notify on b for mirror (epoch 0) done after 0s" {
			t.Errorf("before every node reads the host: %+v", f)
		}
		c.log.set(func() {
			c.log.index++
			c.ledger.Apply(c.log.index, c.log.term, ledger.EncodeRaise(1))
		})
		hook.Sequence++
		settle(func() { b.tell(b.id, hook) })
		settle(func() { b.beat(nil); a.beat(nil) })
		if f := newest().Fact; f.Host != "b" {
			t.Errorf("afterwards: %+v", f)
		}
		if b.recorded() != 2 || a.recorded() != 0 {
			t.Errorf("b was told %d, a %d; want 2, 0", b.recorded(), a.recorded())
		}
		events := newest().Sequence
		hook.Sequence++
		settle(func() { b.tell("id-of-another", hook); b.tell("", hook) })
		if newest().Sequence != events {
			t.Errorf("a hook of another pair is in the history: %+v", newest())
		}
	})
}

package protocol

import (
	"fmt"
	"strings"
	"time"

	"github.com/witnessd/witnessd/witnessd/pair"
)

// whoServes says who acknowledges writes and what the record says about it.
func (s *script) whoServes() {
	r := s.w.record
	state := "exposed: automatic failover is not possible"
	switch {
	case r.Stage != pair.StageReady:
		state = r.Stage.String() + ": nothing is decided"
	case r.Armed():
		state = "armed"
	case r.Mode != pair.ModeAutomatic:
		state = "mode " + r.Mode.String()
	}
	who := "nobody serves"
	for _, name := range pairHosts(s.w) {
		if s.serves(name) {
			who = name + " serves"
		}
	}
	s.story.answer(s.w.now, "%s; in the record: primary %s, epoch %d, right %v, %s",
		who, r.Primary, r.Epoch, r.Right, state)
	s.others()
}

// others says what became of the pairs that the scenario is not about.
func (s *script) others() {
	if len(s.w.pairs) < 2 {
		return
	}
	armed, pause := 0, time.Duration(0)
	for _, w := range s.w.pairs[1:] {
		if w.record.Armed() && w.record.Epoch == 1 {
			armed++
		}
		pause = max(pause, pauseIn(w, s.zero))
	}
	pauses := "no pause in their writes"
	if pause > stall {
		pauses = "longest pause in their writes " + seconds(pause) + " s"
	}
	s.story.answer(s.w.now, "%d of %d other pairs armed in epoch 1; %s", armed, len(s.w.pairs)-1, pauses)
}

// explain is the part of "witnessctl pair explain" that does not depend on the primary being lost.
func (s *script) explain() {
	if s.w.leader == nil {
		s.story.answer(s.w.now, "explain: nobody answers, the witness has no leader")
		return
	}
	r := s.w.record
	v := pair.FailoverVerdict(r, s.w.leader.watch, s.w.witnessNow())
	if v.Ready() {
		s.story.answer(s.w.now, "explain: if %s were lost now, %s would take over", r.Primary, r.Mirror)
		return
	}
	s.story.answer(s.w.now, "explain: if %s were lost now, %s would not take over:", r.Primary, r.Mirror)
	for _, p := range v.Preconditions {
		if !p.OK && !p.PrimaryLoss {
			s.story.answer(s.w.now, "  %s: %s", p.Reason, p.Detail)
		}
	}
}

// writes is the service level of the time since zero.
func (s *script) writes() {
	var parts []string
	gap := pauseIn(s.w, s.zero)
	switch {
	case gap <= stall:
		parts = append(parts, "no pause")
	case s.w.now-s.story.last >= gap:
		parts = append(parts, fmt.Sprintf("none acknowledged since %+.2f", max(0, s.story.last-s.zero).Seconds()))
	default:
		parts = append(parts, "longest pause "+seconds(gap)+" s")
	}
	switch lost := len(s.w.lacking(s.w.primary().db)); {
	case s.w.withinBound > 0:
		parts = append(parts, plural(s.w.withinBound, "acknowledged write")+" lost, within the bound that is stated")
	case len(s.w.forgiven) > 0:
		parts = append(parts, plural(len(s.w.forgiven), "acknowledged write")+" lost, as an operator accepted")
	case lost > 0:
		parts = append(parts, plural(lost, "acknowledged write")+" not on the recorded primary")
	default:
		parts = append(parts, "no acknowledged write lost")
	}
	s.story.answer(s.w.now, "writes: %s", strings.Join(parts, "; "))
}

// pauseIn is the longest time without an acknowledged write since zero, counted from the last one before.
func pauseIn(w *world, zero time.Duration) time.Duration {
	last, longest := time.Duration(-1), time.Duration(0)
	for _, a := range w.acked {
		if last >= 0 && a.at >= zero {
			longest = max(longest, a.at-last)
		}
		last = a.at
	}
	return max(longest, w.now-last)
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.2f", max(0, d).Seconds()) }

func plural(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

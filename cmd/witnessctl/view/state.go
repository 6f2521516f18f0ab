package view

import (
	"cmp"
	"fmt"
	"time"

	"github.com/witnessd/witnessd/cmd/witnessctl/table"
	witnessv1 "github.com/witnessd/witnessd/proto/gen/witness/v1"
)

// Level is how much a state wants a person.
type Level int

// The levels, worst first.
const (
	Split     Level = iota // both hosts say that they serve
	Outage                 // nobody is known to serve
	Problem                // no automatic failover if something breaks now
	Attention              // somebody's doing, or on its way
	Fine
)

// State is the one word for a pair, and why it is not "armed".
type State struct {
	Word  string
	Level Level
	Note  string
}

// StateOf finds the word for a pair: the worst that is known of it. Of a stale answer only the record is
// known, and the word speaks of the record.
func StateOf(p *witnessv1.Pair) State {
	switch p.GetStage() {
	case witnessv1.Stage_STAGE_FORMING:
		if s, watched := watching(p); watched {
			return s
		}
		if recent(p.GetChanged(), p.GetAsOf()) { // agents learn of a pair with their next heartbeat
			return State{"forming", Attention, cmp.Or(complaint(p), "just created; waiting for both agents")}
		}
		return State{"forming", Attention, cmp.Or(complaint(p), unheard(p), "waits for both agents")}
	case witnessv1.Stage_STAGE_RESTORED:
		return State{"restored", Problem, cmp.Or(unheard(p), "waits for the epoch files of both agents")}
	case witnessv1.Stage_STAGE_REMOVED:
		return State{"removed", Attention, p.GetLast().GetDetail()}
	default:
	}
	if p.GetAsOf().GetStale() {
		return recorded(p)
	}
	if s, bad := serving(p); bad {
		return s
	}
	return recorded(p)
}

// watching: its agents only look at what somebody else decides about.
func watching(p *witnessv1.Pair) (State, bool) {
	for _, h := range p.GetHosts() {
		if !h.GetReport().GetEngine().GetWatched() {
			return State{}, false
		}
	}
	if len(p.GetHosts()) == 0 {
		return State{}, false
	}
	if text := cmp.Or(unheard(p), complaint(p), warning(p)); text != "" {
		return State{"watched", Attention, text}, true
	}
	return State{"watched", Fine, ""}, true
}

// serving looks at what the hosts report: does exactly the recorded primary serve?
func serving(p *witnessv1.Pair) (State, bool) {
	primary, mirror := host(p, p.GetPrimary()), host(p, p.GetMirror())
	switch {
	case primary.GetReport().GetServing() && servesUnasked(p, mirror):
		return State{"TWO PRIMARIES", Split, mirror.GetHost() + " reports that it serves as well"}, true
	case p.GetProcedure() != nil:
		return State{}, false
	case !primary.GetFresh():
		return State{"primary silent", Outage, silence(primary, p.GetPrimary()) + because(p)}, true
	case !primary.GetReport().GetServing():
		return State{"no primary serving", Outage,
			cmp.Or(primary.GetReport().GetComplaint(), primary.GetReport().GetEngine().GetStep(),
				p.GetPrimary()+" is heard and lets no client write")}, true
	default:
		return State{}, false
	}
}

// servesUnasked: the mirror has said so since the present epoch began, so it is no report that was
// overtaken by the change of primary.
func servesUnasked(p *witnessv1.Pair, mirror *witnessv1.HostState) bool {
	if !mirror.GetFresh() || !mirror.GetReport().GetServing() || p.GetEpochChanged() == nil {
		return false
	}
	epochAge := p.GetAsOf().GetAt().AsTime().Sub(p.GetEpochChanged().AsTime())
	return mirror.GetAge().AsDuration() < epochAge-time.Second
}

// recorded is the word for what the record says, with what keeps an armed pair from failing over.
func recorded(p *witnessv1.Pair) State {
	stale := p.GetAsOf().GetStale()
	switch {
	case p.GetProcedure() != nil:
		return State{underWay(p.GetProcedure().GetKind()), Attention, stepText(p.GetProcedure())}
	case p.GetMode() == witnessv1.Mode_MODE_OBSERVE:
		return State{"observing", Attention, pausedBy(p)}
	case p.GetMode() == witnessv1.Mode_MODE_MANUAL:
		return State{"paused", Attention, pausedBy(p)}
	case p.GetRight() != witnessv1.Right_RIGHT_LEASED:
		return State{"exposed", Problem, mirrorTrouble(p)}
	case !stale && !p.GetFailoverReady():
		return State{"not ready", Problem, blocked(p)}
	case complaint(p) != "":
		return State{"armed", Attention, complaint(p)}
	case !stale && warning(p) != "":
		return State{"armed", Attention, warning(p)}
	default:
		return State{"armed", Fine, ""}
	}
}

func underWay(k witnessv1.ProcedureKind) string {
	switch k {
	case witnessv1.ProcedureKind_PROCEDURE_KIND_FAILOVER:
		return "failing over"
	case witnessv1.ProcedureKind_PROCEDURE_KIND_SWITCHOVER:
		return "switching over"
	case witnessv1.ProcedureKind_PROCEDURE_KIND_FORCED:
		return "forced failover"
	case witnessv1.ProcedureKind_PROCEDURE_KIND_REINSTATE:
		return "reinstating"
	case witnessv1.ProcedureKind_PROCEDURE_KIND_REMOVE:
		return "removing"
	default:
		return "changing"
	}
}

func stepText(q *witnessv1.Procedure) string {
	return deed(q) + ": step " + Step(q.GetStep())
}

func pausedBy(p *witnessv1.Pair) string {
	return cmp.Or(p.GetPause().GetReason(), "no reason given") + " (" + cmp.Or(p.GetPause().GetBy(), "nobody") + ")"
}

// host is what is known of one host; of an unknown one, nothing.
func host(p *witnessv1.Pair, name string) *witnessv1.HostState {
	for _, h := range p.GetHosts() {
		if h.GetHost() == name {
			return h
		}
	}
	return nil
}

func member(p *witnessv1.Pair, name string) *witnessv1.Member {
	for _, m := range p.GetMembers() {
		if m.GetHost() == name {
			return m
		}
	}
	return nil
}

// complaint is what a host says that keeps it from its part.
func complaint(p *witnessv1.Pair) string {
	for _, h := range p.GetHosts() {
		if c := h.GetReport().GetComplaint(); c != "" {
			return h.GetHost() + ": " + c
		}
	}
	return ""
}

func unheard(p *witnessv1.Pair) string {
	for _, h := range p.GetHosts() {
		if !h.GetFresh() {
			return silence(h, h.GetHost())
		}
	}
	return ""
}

func silence(h *witnessv1.HostState, name string) string {
	if !h.GetHeard() {
		return name + " has not been heard by this leader"
	}
	return name + " not heard for " + Duration(h.GetAge().AsDuration())
}

// because is what holds a failover up.
func because(p *witnessv1.Pair) string {
	if p.GetFailoverReady() || p.GetFailoverBlocked() == nil {
		return ""
	}
	return "; no failover: " + blocked(p)
}

func blocked(p *witnessv1.Pair) string {
	b := p.GetFailoverBlocked()
	return cmp.Or(b.GetDetail(), b.GetReason(), "the witness gives no reason")
}

// warning is what a host wants mended although it does its part.
func warning(p *witnessv1.Pair) string {
	for _, h := range p.GetHosts() {
		if text := h.GetReport().GetEngine().GetWarning(); text != "" && h.GetFresh() {
			return h.GetHost() + ": " + text
		}
	}
	return ""
}

// mirrorTrouble says why a primary is exposed.
func mirrorTrouble(p *witnessv1.Pair) string {
	if p.GetAsOf().GetStale() {
		return ""
	}
	m := host(p, p.GetMirror())
	e := m.GetReport().GetEngine()
	switch {
	case m.GetFresh() && e.GetStep() != "":
		// What is being done about a complaint says more than the complaint, which stays until it has helped.
		text := p.GetMirror() + ": " + e.GetStep()
		if before := m.GetReport().GetComplaint(); before != "" {
			text += "; before: " + before
		}
		return text
	case complaint(p) != "":
		return complaint(p)
	case !m.GetFresh():
		return silence(m, p.GetMirror())
	case !e.GetFollowing():
		return p.GetMirror() + " receives no changes"
	default:
		return p.GetMirror() + " follows: " + Lag(p)
	}
}

// Lag says how far the mirror is behind, by the primary's own word.
func Lag(p *witnessv1.Pair) string {
	h := host(p, p.GetPrimary())
	e := h.GetReport().GetEngine()
	switch {
	case p.GetAsOf().GetStale() || !h.GetFresh() || e == nil:
		return "?"
	case !e.GetMirrorAttached():
		return "detached"
	case e.GetCommits() == commitsHeld:
		return "synced"
	case e.GetPosition() <= e.GetMirrorFlushed():
		return "caught up"
	default:
		return size(e.GetPosition()-e.GetMirrorFlushed(), member(p, p.GetPrimary()).GetEngine())
	}
}

const commitsHeld = "held"

// style is how a state looks.
func (s State) style() table.Style {
	switch s.Level {
	case Fine:
		return table.Good
	case Attention:
		return table.Warn
	default:
		return table.Bad
	}
}

// Loss says what a forced failover may lose, as far as that is known.
func Loss(p *witnessv1.Pair) string {
	h := host(p, p.GetPrimary())
	if p.GetRight() == witnessv1.Right_RIGHT_LEASED {
		return p.GetMirror() + " has every acknowledged commit: the right is leased"
	}
	text := fmt.Sprintf("commits of %s that %s lacks may be lost: ", p.GetPrimary(), p.GetMirror())
	if !h.GetHeard() {
		return text + "how many is not known, " + silence(h, p.GetPrimary())
	}
	e, m := h.GetReport().GetEngine(), host(p, p.GetMirror()).GetReport().GetEngine()
	behind := max(e.GetPosition(), m.GetPosition()) - m.GetPosition()
	return text + fmt.Sprintf("%s when %s was last heard %s ago, and whatever it committed since",
		size(behind, member(p, p.GetPrimary()).GetEngine()), p.GetPrimary(), Duration(h.GetAge().AsDuration()))
}

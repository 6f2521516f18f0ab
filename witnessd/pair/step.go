package pair

import (
	"fmt"
)

// Step takes one event on the leader's clock and says what to do. It never changes the record: a change is
// a Propose, conditional on the record and the term it was decided on. Events must come in the order of
// their now.
func Step(r Record, w Watch, ev Event, now Instant) (Watch, []Action) {
	var acts []Action
	switch e := ev.(type) {
	case Heard:
		w, acts = heard(r, w, e)
	case Hooked:
		w, acts = decide(r, w, now)
		if len(acts) > 0 { // whatever else there is to do comes first
			return w, acts
		}
		return hooked(r, w, e, now)
	case Confirmed:
		return confirm(r, w, e, now)
	case Applied:
		w, acts = applied(r, w, e, now)
	case Dropped:
		w.Pending = Pending{}
		w = hookDropped(w)
	case Tick:
	case Ask:
		return ask(r, w, e, now)
	case FenceDone:
		if r.Procedure != nil && r.Procedure.ID == e.Procedure {
			w.fence.done, w.fence.ok, w.fence.why = true, e.OK, e.Detail
		}
	default:
		panic(fmt.Sprintf("pair: unknown event %T", ev))
	}
	w, more := decide(r, w, now)
	return w, append(acts, more...)
}

// heard takes a report in. Reports of strangers are ignored: the edge has told them already.
func heard(r Record, w Watch, e Heard) (Watch, []Action) {
	i := r.index(e.Report.Host)
	if i < 0 || r.Stage == StageRemoved {
		return w, nil
	}
	// A report that was overtaken on the way must not hide a newer one.
	if last := w.Seen[i].Report; last.Start == e.Report.Start && e.Report.Sequence <= last.Sequence {
		return w, nil
	}
	w.Seen[i] = Seen{Report: e.Report, At: e.Receipt, Heard: true}
	w = hearIdle(r, w, e)
	w, acts := hearReleases(r, w, e)
	if p, ok := request(r, w, e.Report); ok && !w.Pending.Active && ahead(r, w) == "" {
		w, acts = propose(r, w, p, 0, acts)
	} else if m, ok := announcement(r, e.Report); ok && !w.Pending.Active && ahead(r, w) == "" {
		w, acts = propose(r, w, Announce{Member: m}, 0, acts)
	}
	return w, acts
}

// hearReleases takes note of a release, whoever tells it (rule R9). A release counts for the epoch it names
// and only if that epoch's primary gave it.
func hearReleases(r Record, w Watch, e Heard) (Watch, []Action) {
	epoch, everything := Epoch(0), false
	switch e.Report.Host {
	case r.Primary:
		epoch, everything = e.Report.Released, e.Report.ReleasedEverything
	case r.Mirror:
		epoch, everything = e.Report.PartnerReleased, e.Report.PartnerReleasedEverything
	}
	if epoch != r.Epoch || epoch == 0 {
		return w, nil
	}
	if w.Released == epoch {
		w.ReleasedEverything = w.ReleasedEverything || everything
		return w, nil
	}
	w.Released, w.ReleasedEverything, w.ReleasedAt = epoch, everything, e.Receipt
	// The mirror need not wait for its promise any more, and says so in its next report.
	return w, []Action{Nudge{Host: r.Mirror}}
}

// hearIdle notes since when the primary's agent is there and its database does not serve.
func hearIdle(r Record, w Watch, e Heard) Watch {
	switch {
	case e.Report.Host != r.Primary:
	case e.Report.Serving:
		w.idle = false
	case !w.idle:
		w.idle, w.idleSince = true, e.Receipt
	}
	return w
}

// request turns the primary's own wish to arm or expose into a command. The revision that the agent named
// must be the record's: the agent acts on "sole" only above the revision it named in an arm (rule R8).
func request(r Record, w Watch, rep Report) (Body, bool) {
	if rep.Request == RequestNone || r.Stage != StageReady || rep.Host != r.Primary ||
		rep.Epoch != r.Epoch || rep.RequestRevision != r.Revision || w.released(r) {
		return nil, false
	}
	if rep.Request == RequestExpose {
		return Expose{Host: rep.Host, Cause: orNone(rep.RequestCause)}, !withheld(r)
	}
	armable := r.Mode == ModeAutomatic && (r.Procedure == nil || r.Procedure.Step == StepPromote)
	return Arm{Host: rep.Host}, armable
}

// announcement finds what the record does not know yet about the host's agent.
func announcement(r Record, rep Report) (Member, bool) {
	known, _ := r.Member(rep.Host)
	m := rep.Member
	if m.Instance != known.Instance || m.LinkAddress == "" || known.LinkAddress == "" && rep.Epoch != r.Epoch {
		return Member{}, false
	}
	// An instance that is empty or down does not know its identity; the record keeps the last one.
	if m.SystemID == "" {
		m.SystemID = known.SystemID
	}
	return m, m != known
}

// ahead is rule R15's last sentence: an agent that remembers more than the record proves that this witness
// has lost history. It then decides nothing for the pair.
func ahead(r Record, w Watch) string {
	if r.Stage != StageReady {
		return ""
	}
	for _, s := range w.Seen {
		if !s.Heard {
			continue
		}
		if s.Report.Epoch > r.Epoch || s.Report.Revision > r.Revision {
			return fmt.Sprintf("%s remembers epoch %d revision %v, the record holds epoch %d revision %v",
				s.Report.Host, s.Report.Epoch, s.Report.Revision, r.Epoch, r.Revision)
		}
	}
	return ""
}

// confirm answers a request whose confirmation has arrived. The conditions are looked at again here and not
// when the request came, because a change may have been decided since (rule R3).
func confirm(r Record, w Watch, e Confirmed, now Instant) (Watch, []Action) {
	a := Answer{Host: e.Host}
	switch {
	case adopting(r, w):
		a.Mute, a.Refused = true, ReasonRestored
	case ahead(r, w) != "":
		a.Mute, a.Refused = true, ReasonAhead
	case !e.AskLease:
	case r.Stage != StageReady:
		a.Refused = ReasonForming
	case e.Host != r.Primary:
		a.Refused = ReasonNotPrimary
	case w.Pending.Active && w.Pending.MovesEpoch:
		a.Refused = ReasonChangeUndecided
	case w.released(r):
		a.Refused = ReasonReleased
	case withheld(r):
		a.Refused = ReasonWithheld
	default:
		a.Lease = r.Policy.Lease
		// R1: the granter counts from receipt, in full.
		w.LeaseUntil = later(w.LeaseUntil, e.Receipt.Add(a.Lease))
	}
	return w, []Action{a}
}

// withheld says whether a forced failover lets the primary's leases run out.
func withheld(r Record) bool {
	return r.Procedure != nil && r.Procedure.Kind == KindForced && r.Procedure.Epoch == r.Epoch &&
		r.Procedure.Step == StepWithhold
}

// applied follows the record after a command, whoever proposed it.
func applied(r Record, w Watch, e Applied, now Instant) (Watch, []Action) {
	if _, restored := e.Body.(Restore); restored {
		// R15: what was heard before, and the time that passed, were of another history.
		return NewWatch(r, w.Term, now), []Action{Nudge{Host: r.Primary}, Nudge{Host: r.Mirror}}
	}
	w.Pending = Pending{}
	if r.Epoch != e.Before.Epoch {
		// R4: a committed change of epoch counts as a grant to the new primary at the moment of its commit.
		w.LeaseUntil = now.Add(r.LongestLease)
		w.Released, w.ReleasedEverything, w.ReleasedAt = 0, false, 0
		w.idle = false
	}
	for i := range r.Members {
		if r.Members[i].Host != e.Before.Members[i].Host {
			w.Seen[i] = Seen{}
			w = hooksForgotten(w, i)
		}
	}
	if note, ok := e.Body.(Note); ok {
		return hookApplied(r, w, note)
	}
	w = hookDropped(w)
	return w, []Action{Nudge{Host: r.Primary}, Nudge{Host: r.Mirror}}
}

// propose decides on a command and sets the mark of rule R3 in the same step.
func propose(r Record, w Watch, b Body, token uint64, acts []Action) (Watch, []Action) {
	w.Pending = Pending{Active: true, MovesEpoch: MovesEpoch(b)}
	c := Command{Pair: r.ID, Revision: r.Revision, Term: w.Term, Body: b}
	return w, append(acts, Propose{Command: c, Token: token})
}

// decide looks at the whole situation. At most one command comes out of it.
func decide(r Record, w Watch, now Instant) (Watch, []Action) {
	w = followProcedure(r, w, now)
	w = followPolicy(r, w, now)
	if w.Pending.Active {
		return w, nil
	}
	if why := ahead(r, w); why != "" {
		return suspend(r, w, why)
	}
	switch r.Stage {
	case StageForming, StageRestored:
		if adopting(r, w) {
			if a, v := adoption(r, w, now); v.OK() {
				return propose(r, w, a, 0, nil)
			}
			return w, nil
		}
		if FormVerdict(r, w, now).OK() {
			return propose(r, w, Begin{}, 0, nil)
		}
		return w, nil
	case StageReady:
		return decideReady(r, w, now)
	default:
		return w, nil
	}
}

// adopting says whether the pair waits for its agents' files (rule R15). A pair that is forming while an agent
// remembers an epoch of it was restored from a backup of its first moments.
func adopting(r Record, w Watch) bool {
	if r.Stage != StageForming {
		return r.Stage == StageRestored
	}
	for _, s := range w.Seen {
		if s.Heard && s.Report.Epoch > 0 {
			return true
		}
	}
	return false
}

func decideReady(r Record, w Watch, now Instant) (Watch, []Action) {
	if mayFailOver(r, w, now) {
		return propose(r, w, promotion(r, w, now), 0, nil)
	}
	if r.Procedure != nil {
		return procedureDue(r, w, now)
	}
	if why := reinstatement(r, w, now); why != "" {
		return propose(r, w, Reinstate{Cause: why}, 0, nil)
	}
	if p, ok := relief(r, w, now); ok {
		return propose(r, w, StartProcedure{Procedure: p}, 0, nil)
	}
	if lowerDue(r, w, now) {
		return propose(r, w, LowerLongest{To: r.Policy.Lease}, 0, nil)
	}
	return observe(r, w, now)
}

func suspend(r Record, w Watch, why string) (Watch, []Action) {
	if w.noted == r.Epoch+1 {
		return w, nil
	}
	w.noted = r.Epoch + 1
	cause := "decisions suspended: " + why +
		"; this witness was restored or has lost data: see docs/operations.md, restore"
	return propose(r, w, Note{Kind: FactDecisionsSuspended, Cause: cause}, 0, nil)
}

// observe says once per epoch what the witness would have done (mode observe).
func observe(r Record, w Watch, now Instant) (Watch, []Action) {
	if r.Mode != ModeObserve || w.noted == r.Epoch || now < w.LeaseUntil || !w.Seen[r.index(r.Mirror)].Heard {
		return w, nil
	}
	v := FailoverVerdict(r, w, now)
	for _, p := range v.Preconditions {
		if !p.OK && p.Reason != ReasonNotAutomatic && p.Reason != ReasonExposed {
			return w, nil
		}
	}
	w.noted = r.Epoch
	return propose(r, w, Note{Kind: FactWouldFailOver,
		Cause: fmt.Sprintf("would have failed over to %s: %s is silent", r.Mirror, r.Primary)}, 0, nil)
}

// followPolicy notes since when both agents are known to hold the present revision in their files. A promise
// that an agent gave before it heard of a shorter policy runs for up to one longest lease from then on.
func followPolicy(r Record, w Watch, now Instant) Watch {
	for _, s := range w.Seen {
		if !s.Heard || s.Report.Revision != r.Revision || s.Report.Epoch != r.Epoch {
			w.agreed, w.agreedSince = false, 0
			return w
		}
	}
	if !w.agreed {
		w.agreed, w.agreedSince = true, now
	}
	return w
}

// lowerDue is rule R12: one longest lease after both agents' files held the shorter policy, nothing longer
// than it can be outstanding. (The commit of the policy came earlier still, and with it the leader's last
// longer grant.)
func lowerDue(r Record, w Watch, now Instant) bool {
	return r.LongestLease > r.Policy.Lease && w.agreed && now >= w.agreedSince.Add(r.LongestLease)
}

package pair

import (
	"fmt"
	"time"
)

// ask takes an operator's wish. What it was decided on must still be so; then its verdict decides.
func ask(r Record, w Watch, e Ask, now Instant) (Watch, []Action) {
	if bad := current(r, w, e); bad != nil {
		return w, []Action{Reply{Token: e.Token, Refusal: bad}}
	}
	var body Body
	var bad *Refusal
	switch wish := e.Wish.(type) {
	case WishSwitchover:
		body, bad = askSwitchover(r, w, wish, now)
	case WishForce:
		body, bad = askForce(r, w, wish, now)
	case WishRemove:
		body, bad = askRemove(r, w, wish, now)
	case WishSpeak:
		return speak(r, w, e.Token, wish)
	case WishCommand:
		if settled(r, wish.Body) {
			return w, []Action{Reply{Token: e.Token}}
		}
		body, bad = wish.Body, checkWish(wish.Body)
	default:
		panic(fmt.Sprintf("pair: unknown wish %T", wish))
	}
	if bad != nil {
		return w, []Action{Reply{Token: e.Token, Refusal: bad}}
	}
	return propose(r, w, body, e.Token, nil)
}

// settled says whether the record is as it is wished to be already; then nothing goes into the history.
func settled(r Record, b Body) bool {
	switch b := b.(type) {
	case SetMode:
		return r.Mode == b.Mode && r.Pause == b.Pause
	case SetPolicy:
		return r.Policy == b.Policy
	default:
		return false
	}
}

// checkWish refuses what Apply would refuse in any case, before it stops other decisions for a moment.
func checkWish(b Body) *Refusal {
	if policy, ok := b.(SetPolicy); ok {
		if bad := policy.Policy.Validate(); len(bad) > 0 {
			return refuse(ReasonBadSpec, "choose a profile: fast, default or patient", "%s", bad[0])
		}
	}
	return nil
}

func current(r Record, w Watch, e Ask) *Refusal {
	why := ahead(r, w)
	switch {
	case r.Stage == StageRemoved:
		return refuse(ReasonRemoved, "", "pair %s was removed", r.Name)
	case why != "":
		// Every order would raise the revision, and a record that has lost history would seem to be the newer one.
		return refuse(ReasonAhead, "see docs/operations.md, restore", "%s", why)
	case e.Revision != 0 && e.Revision != r.Revision:
		return StaleRevision(r, e.Revision)
	case e.Epoch != 0 && e.Epoch != r.Epoch:
		return refuse(ReasonStaleEpoch, readAgain, "decided on epoch %d of pair %s, which is now at %d",
			e.Epoch, r.Name, r.Epoch)
	case w.Pending.Active:
		return refuse(ReasonChangeUndecided, "try again", "a change of pair %s is being decided", r.Name)
	}
	return nil
}

func askSwitchover(r Record, w Watch, wish WishSwitchover, now Instant) (Body, *Refusal) {
	target := wish.Target
	if target == "" {
		target = r.Mirror
	}
	if target == r.Primary {
		return nil, refuse(ReasonAlreadyPrimary, "", "%s is the primary of pair %s already", target, r.Name)
	}
	if target != r.Mirror {
		return nil, refuse(ReasonBadSpec, "", "%s is not a host of pair %s", target, r.Name)
	}
	v := SwitchoverVerdict(r, w, now)
	if bad := v.Refusal(); bad != nil {
		bad.Do = "see witnessctl pair explain " + r.Name
		return nil, bad
	}
	return StartProcedure{Procedure: Procedure{
		ID: r.procedureID(), Kind: KindSwitchover, Step: StepRelease, Epoch: r.Epoch, Target: target,
		Timeout: r.Policy.ReleaseTimeout, By: wish.By, Reason: wish.Reason,
	}}, nil
}

// askForce is the beginning of rule R14. What can be refused at once is; the rest is decided after the
// primary was asked to release.
func askForce(r Record, w Watch, wish WishForce, now Instant) (Body, *Refusal) {
	mirror := w.seen(r, r.Mirror)
	silent := !w.fresh(r, r.Primary, now) && !w.released(r)
	switch {
	case r.Stage != StageReady:
		return nil, refuse(ReasonForming, "", "pair %s is %v", r.Name, r.Stage)
	case r.Procedure != nil:
		return nil, r.busy()
	case wish.HostOff != "" && wish.HostOff != r.Primary:
		return nil, refuse(ReasonBadSpec, "type the name of the host that is off",
			"%s is not the primary of pair %s (%s is)", wish.HostOff, r.Name, r.Primary)
	case r.Right == RightSole && !wish.AcceptLoss && silent:
		return nil, refuse(ReasonLossNotAccepted, "add --accept-loss if you accept that",
			"the mirror of pair %s may lack acknowledged commits", r.Name)
	case r.Right == RightSole && silent && wish.HostOff == "" && !wish.CanFence:
		return nil, refuse(ReasonHostOffUnconfirmed,
			fmt.Sprintf("make sure that %s is off or cut from its clients, then add --host-off %s", r.Primary, r.Primary),
			"%s serves alone by right and does not answer: it may still be serving clients", r.Primary)
	case r.Right == RightSole && silent && !r.knowsMirror():
		return nil, refuse(ReasonPrimarySilent, "bring its agent back, or remove the pair and create it anew", "%s",
			mirrorKnownText(r))
	case r.Right == RightSole && silent && mirror.Heard && mirror.Report.HearsPartner:
		return nil, refuse(ReasonPrimaryHeard, "use switchover", "%s hears the agent of %s", r.Mirror, r.Primary)
	}
	return StartProcedure{Procedure: Procedure{
		ID: r.procedureID(), Kind: KindForced, Step: StepRelease, Epoch: r.Epoch, Target: r.Mirror,
		Timeout: r.askTime(), AcceptLoss: wish.AcceptLoss, HostOff: wish.HostOff, By: wish.By, Reason: wish.Reason,
	}}, nil
}

func askRemove(r Record, w Watch, wish WishRemove, now Instant) (Body, *Refusal) {
	switch {
	case r.Stage == StageForming:
		return Remove{Cause: "removed before it began, by " + wish.By}, nil
	case r.Stage != StageReady:
		return nil, refuse(ReasonRestored, "", "pair %s is %v", r.Name, r.Stage)
	case r.Procedure != nil:
		return nil, r.busy()
	case wish.HostOff != "" && wish.HostOff != r.Primary:
		return nil, refuse(ReasonBadSpec, "type the name of the host that is off",
			"%s is not the primary of pair %s (%s is)", wish.HostOff, r.Name, r.Primary)
	case wish.HostOff == "" && !w.fresh(r, r.Primary, now):
		return nil, refuse(ReasonHostOffUnconfirmed,
			fmt.Sprintf("bring its agent back, or make sure that %s is off and add --host-off %s", r.Primary, r.Primary),
			"%s does not answer and may still be serving clients", r.Primary)
	}
	return StartProcedure{Procedure: Procedure{
		ID: r.procedureID(), Kind: KindRemove, Step: StepUnmanage, Epoch: r.Epoch, Target: r.Primary,
		Timeout: r.Policy.ReleaseTimeout, HostOff: wish.HostOff, By: wish.By, Reason: wish.Reason,
	}}, nil
}

// speak lets an operator stand in for an epoch file that is gone for good.
func speak(r Record, w Watch, token uint64, wish WishSpeak) (Watch, []Action) {
	i := r.index(wish.Host)
	switch {
	case i < 0:
		return w, []Action{Reply{Token: token, Refusal: refuse(ReasonBadSpec, "", "%s is not a host of pair %s",
			wish.Host, r.Name)}}
	case !adopting(r, w):
		return w, []Action{Reply{Token: token, Refusal: refuse(ReasonBadSpec, "", "pair %s does not wait for epoch files",
			r.Name)}}
	}
	w.spoken[i] = true
	return w, []Action{Reply{Token: token}}
}

// procedureID is unique for ever: a revision of a pair is committed once.
func (r Record) procedureID() string {
	return fmt.Sprintf("%.8s-%v", string(r.ID), r.Revision)
}

// askTime is how long a forced failover waits for the primary to release before it goes on without: long
// enough for a request over every path and a clean stop to be reported, short enough for an emergency.
func (r Record) askTime() time.Duration { return r.Policy.Lease + 2*r.Policy.Heartbeat }

// followProcedure starts the leader's clock for a step that it sees for the first time.
func followProcedure(r Record, w Watch, now Instant) Watch {
	if r.Procedure == nil {
		w.step = stepClock{}
		return w
	}
	p := r.Procedure
	if w.step.ID != p.ID || w.step.Step != p.Step {
		w.step = stepClock{ID: p.ID, Step: p.Step, Since: now}
		w.fence.asked, w.fence.done, w.fence.ok, w.fence.why = false, false, false, ""
	}
	return w
}

// procedureDue moves the procedure under way on, or ends it. A promotion that may happen now was decided
// before this is asked.
func procedureDue(r Record, w Watch, now Instant) (Watch, []Action) {
	p := *r.Procedure
	late := now.Sub(w.step.Since) >= p.Timeout
	switch p.Step {
	case StepPromote:
		return promoteDue(r, w, now, late)
	case StepUnmanage:
		return unmanageDue(r, w, late)
	case StepFence:
		return fenceDue(r, w, late)
	case StepRelease:
		if p.Epoch != r.Epoch {
			return end(r, w, false, ReasonStaleEpoch, "the epoch has changed")
		}
		if why := inVain(r, w, now); why != "" {
			return end(r, w, false, ReasonReleased, why)
		}
		if p.Kind == KindForced && late {
			if r.Right == RightSole && w.fresh(r, r.Primary, now) && now.Sub(w.step.Since) < r.Policy.ReleaseTimeout {
				return w, nil // it answers, so it may be on its way, and nothing else than its release will do
			}
			return forceWithoutRelease(r, w)
		}
	case StepWithhold:
	}
	if late {
		v := FailoverVerdict(r, w, now)
		return end(r, w, false, ReasonTimedOut, fmt.Sprintf("step %v took longer than %v (%v)", p.Step, p.Timeout, v))
	}
	return w, nil
}

// inVain says why a release does not lead to a promotion, or "" if it may yet: then the primary is better
// reinstated than left stopped until the step is late.
func inVain(r Record, w Watch, now Instant) string {
	s := w.seen(r, r.Primary)
	own := s.Heard && s.Report.Released == r.Epoch // not hearsay, which may lack the word about the mirror
	switch {
	case !w.released(r):
		return ""
	case own && !w.ReleasedEverything && r.Right == RightSole && !r.Procedure.AcceptLoss:
		return fmt.Sprintf("%s stopped, but %s may lack acknowledged commits", r.Primary, r.Mirror)
	case now.Sub(w.ReleasedAt) > r.LongestLease:
		return fmt.Sprintf("%s stopped, but %s could not be promoted", r.Primary, r.Mirror)
	}
	return ""
}

// promoteDue waits for the new primary to serve. If it is lost before, the procedure ends so that the next
// failover is not held up by it.
func promoteDue(r Record, w Watch, now Instant, late bool) (Watch, []Action) {
	s := w.seen(r, r.Primary)
	switch {
	case s.Heard && s.Report.Epoch == r.Epoch && s.Report.Serving:
		return end(r, w, true, ReasonNone, fmt.Sprintf("%s serves epoch %d", r.Primary, r.Epoch))
	case w.released(r):
		return end(r, w, false, ReasonReleased, fmt.Sprintf("%s gave epoch %d back before it served", r.Primary, r.Epoch))
	case now >= w.LeaseUntil && (!w.fresh(r, r.Primary, now) || s.Report.Epoch < r.Epoch):
		return end(r, w, false, ReasonPrimarySilent, fmt.Sprintf("%s was lost before it served", r.Primary))
	case late:
		return end(r, w, false, ReasonTimedOut, fmt.Sprintf("%s did not serve within %v", r.Primary, r.Procedure.Timeout))
	}
	return w, nil
}

func unmanageDue(r Record, w Watch, late bool) (Watch, []Action) {
	s := w.seen(r, r.Primary)
	switch {
	case s.Heard && s.Report.Unmanaged && s.Report.Revision == r.Revision: // not the word of an earlier removal
		return propose(r, w, Remove{Cause: fmt.Sprintf("%s confirmed that it is no longer managed", r.Primary)}, 0, nil)
	case w.released(r):
		return propose(r, w, Remove{Cause: fmt.Sprintf("%s released epoch %d", r.Primary, r.Epoch)}, 0, nil)
	case late && r.Procedure.HostOff == r.Primary:
		return propose(r, w, Remove{Cause: fmt.Sprintf("%s stated that %s is off", r.Procedure.By, r.Primary)}, 0, nil)
	case late:
		return end(r, w, false, ReasonPrimarySilent,
			fmt.Sprintf("%s did not confirm within %v", r.Primary, r.Procedure.Timeout))
	}
	return w, nil
}

// forceWithoutRelease goes on with a forced failover whose primary did not release (R14).
func forceWithoutRelease(r Record, w Watch) (Watch, []Action) {
	p := r.Procedure
	step := func(s ProcedureStep, timeout time.Duration, cause string) (Watch, []Action) {
		return propose(r, w, StepProcedure{ID: p.ID, Step: s, Timeout: timeout, Cause: cause}, 0, nil)
	}
	wait := 3 * r.LongestLease
	switch {
	case r.Right == RightLeased:
		return step(StepWithhold, wait, fmt.Sprintf("%s did not release; its leases run out", r.Primary))
	case !p.AcceptLoss:
		return end(r, w, false, ReasonLossNotAccepted, "the mirror may lack acknowledged commits")
	case p.HostOff == r.Primary:
		return step(StepWithhold, wait, fmt.Sprintf("%s stated that %s is off", p.By, r.Primary))
	default:
		return step(StepFence, time.Minute, fmt.Sprintf("%s did not release", r.Primary))
	}
}

// fenceDue runs the fencing command once per leader and goes on only if it said that it succeeded.
func fenceDue(r Record, w Watch, late bool) (Watch, []Action) {
	p := r.Procedure
	switch {
	case !w.fence.asked:
		w.fence.asked = true
		return w, []Action{RunFence{Procedure: p.ID, Host: r.Primary}}
	case w.fence.done && w.fence.ok:
		return propose(r, w, StepProcedure{ID: p.ID, Step: StepWithhold, Timeout: 3 * r.LongestLease,
			Cause: fmt.Sprintf("the fencing command cut %s off", r.Primary)}, 0, nil)
	case w.fence.done || late:
		return end(r, w, false, ReasonFenceFailed, orElse(w.fence.why, "the fencing command gave no answer in time"))
	}
	return w, nil
}

func end(r Record, w Watch, done bool, reason Reason, detail string) (Watch, []Action) {
	return propose(r, w, EndProcedure{ID: r.Procedure.ID, Done: done, Reason: reason, Detail: detail}, 0, nil)
}

// promotion is the command for a verdict that said yes.
func promotion(r Record, w Watch, now Instant) Promote {
	b := Promote{To: r.Mirror, Procedure: r.procedureID()}
	if r.Procedure != nil {
		b.Procedure = r.Procedure.ID
		b.Forced = r.Procedure.AcceptLoss && r.Right == RightSole && !(w.released(r) && w.ReleasedEverything)
	}
	switch {
	case w.released(r) && r.Procedure != nil:
		b.Cause = fmt.Sprintf("%s stopped and released epoch %d", r.Primary, r.Epoch)
	case w.released(r):
		b.Cause = fmt.Sprintf("%s lost its database and released epoch %d", r.Primary, r.Epoch)
	default:
		b.Cause = fmt.Sprintf("lease of %s ended %v ago, last heard %s", r.Primary,
			round(now.Sub(w.LeaseUntil)), lastHeard(w.seen(r, r.Primary), now))
	}
	return b
}

func lastHeard(s Seen, now Instant) string {
	if !s.Heard {
		return "by an earlier leader"
	}
	return round(now.Sub(s.At)).String() + " ago"
}

// reinstatement says why the same primary gets a new epoch (R9), or "" if it does not. The released epoch
// cannot serve again, so if nobody else may or can take over, this is the only way back.
func reinstatement(r Record, w Watch, now Instant) string {
	s := w.seen(r, r.Primary)
	if !w.released(r) || !w.fresh(r, r.Primary, now) || s.Report.Epoch != r.Epoch ||
		!s.Report.Engine.Promotable {
		return ""
	}
	switch {
	case r.Mode != ModeAutomatic:
		return fmt.Sprintf("epoch %d was released and mode is %v", r.Epoch, r.Mode)
	case r.Right == RightSole && !w.ReleasedEverything:
		return fmt.Sprintf("epoch %d was released while %s alone had everything", r.Epoch, r.Primary)
	case now.Sub(w.ReleasedAt) >= r.LongestLease:
		return fmt.Sprintf("epoch %d was released and %s could not be promoted", r.Epoch, r.Mirror)
	}
	return ""
}

// relief is a failover away from a primary whose agent is well but whose database does not come to serve, say
// because its promotion hangs: it keeps its leases for ever, so they are taken from it as from any primary that
// is forced. The right is leased, so nothing is lost.
func relief(r Record, w Watch, now Instant) (Procedure, bool) {
	if r.Right != RightLeased || w.released(r) || !w.idle || !w.fresh(r, r.Primary, now) ||
		now.Sub(w.idleSince) < r.Policy.PromoteTimeout || !mayFailOverOnLoss(r, w, now) {
		return Procedure{}, false
	}
	return Procedure{
		ID: r.procedureID(), Kind: KindForced, Step: StepRelease, Epoch: r.Epoch, Target: r.Mirror,
		Timeout: r.askTime(),
		Reason:  fmt.Sprintf("%s has not served for %v though its agent is there", r.Primary, round(now.Sub(w.idleSince))),
	}, true
}

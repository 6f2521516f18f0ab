package pair

import (
	"fmt"
	"time"
)

// FailoverVerdict is rule R5: may the right move to the mirror now? Automatic failover, switchover and
// forced failover ask the same question; an operator replaces the mode, and accepted loss replaces the
// condition on the right, but nobody replaces a wait.
func FailoverVerdict(r Record, w Watch, now Instant) Verdict {
	q := inquire(AskFailover, fmt.Sprintf("may %s be promoted now?", r.Mirror))
	q.failover(r, w, now)
	return q.verdict
}

// mayFailOver is FailoverVerdict without its sentences, as the leader asks at each step.
func mayFailOver(r Record, w Watch, now Instant) bool {
	q := inquiry{brief: true}
	q.failover(r, w, now)
	return !q.no
}

// mayFailOverOnLoss says whether everything holds that does not depend on the primary being lost.
func mayFailOverOnLoss(r Record, w Watch, now Instant) bool {
	q := inquiry{brief: true}
	q.failover(r, w, now)
	return !q.noOnLoss
}

func (q *inquiry) failover(r Record, w Watch, now Instant) {
	operator := operatorAsked(r)
	q.require(r.Stage == StageReady, "pair is ready", ReasonForming, func() string {
		return fmt.Sprintf("pair is %v", r.Stage)
	})
	why := ahead(r, w)
	q.require(why == "", "record is not behind its agents", ReasonAhead, func() string {
		return orElse(why, "no agent remembers more")
	})
	free := (r.Procedure == nil || operator) && !w.Pending.Active
	q.require(free, "no other change under way", ReasonProcedureUnderWay, func() string {
		return underWay(r, w)
	})
	q.require(r.Mode == ModeAutomatic || operator, "mode is automatic", ReasonNotAutomatic, func() string {
		return fmt.Sprintf("mode is %v", r.Mode)
	})
	q.right(r, w)
	q.loss(r, w)
	q.primaryGone(r, w, now)
	q.mirror(r, w, now)
}

// loss: an engine that cannot hold commits until the record says sole (SQL Server's mirroring) may have told clients of
// commits that the mirror lacks. A primary that has released its epoch has seen its own end; for the rest the mirror's
// agent states a bound, or that its configuration takes nothing unproven.
func (q *inquiry) loss(r Record, w Watch) {
	e := w.seen(r, r.Mirror).Report.Engine
	if e.LossBound <= 0 && !e.NeedsRelease {
		return
	}
	p := r.Procedure
	accepted := p != nil && p.Kind == KindForced && p.Epoch == r.Epoch && p.AcceptLoss
	q.require(!e.NeedsRelease || w.released(r) || accepted, "loss is excluded, or bounded and accepted",
		ReasonLossNotExcluded, func() string {
			bound := fmt.Sprintf("its engine may have acknowledged commits alone for up to %v", round(e.LossBound))
			switch {
			case w.released(r):
				return fmt.Sprintf("%s released epoch %d", r.Primary, r.Epoch)
			case accepted:
				return "an operator accepted the loss"
			case e.NeedsRelease:
				return fmt.Sprintf("%s has not said that it stopped, %s, and the policy of %s is strict", r.Primary, bound,
					r.Mirror)
			}
			return fmt.Sprintf("without a word of %s %s; with its word nothing is lost", r.Primary, bound)
		})
}

// right: the record permits a promotion, or the old primary has said that it stopped and that the
// mirror has everything, or an operator has accepted the loss and its procedure has done what R14 asks.
func (q *inquiry) right(r Record, w Watch) {
	everything := w.released(r) && w.ReleasedEverything
	p := r.Procedure
	accepted := p != nil && p.Kind == KindForced && p.Epoch == r.Epoch && p.AcceptLoss &&
		(p.Step == StepWithhold || w.released(r))
	q.require(r.Right == RightLeased || everything || accepted, "mirror has every acknowledged commit",
		ReasonExposed, func() string {
			switch {
			case everything:
				return fmt.Sprintf("right is %v, and %s stopped with everything on the mirror", r.Right, r.Primary)
			case accepted:
				return fmt.Sprintf("right is %v, and an operator accepted the loss", r.Right)
			case r.Right == RightSole:
				return "right is sole: the mirror may lack acknowledged commits"
			}
			return fmt.Sprintf("right is %v", r.Right)
		})
}

func (q *inquiry) primaryGone(r Record, w Watch, now Instant) {
	left := w.LeaseUntil.Sub(now)
	switch {
	case w.released(r):
		q.requireLoss(true, "primary's lease is over", "", func() string {
			return fmt.Sprintf("%s released epoch %d", r.Primary, r.Epoch)
		})
	case left <= 0:
		q.requireLoss(true, "primary's lease is over", "", func() string {
			return fmt.Sprintf("lease ended %v ago", round(-left))
		})
	default:
		reason := ReasonLeaseOutstanding
		if s := w.seen(r, r.Primary); !s.Heard {
			reason = ReasonGrace
		}
		q.requireLoss(false, "primary's lease is over", reason, func() string {
			return fmt.Sprintf("%s may hold a lease for another %v", r.Primary, round(left))
		})
	}
}

// mirror: the mirror's own word, in a message that quotes this leader's term and the record's epoch.
func (q *inquiry) mirror(r Record, w Watch, now Instant) {
	s := w.seen(r, r.Mirror)
	fresh := w.fresh(r, r.Mirror, now)
	q.require(fresh, "mirror is heard", ReasonMirrorSilent, func() string {
		return age(r.Mirror, s, now, r.Policy.Lease)
	})
	heard := s.Heard && s.Report.TermHeard == w.Term && s.Report.Epoch == r.Epoch
	q.require(heard, "mirror has heard this leader", ReasonMirrorNotHeardTerm, func() string {
		return fmt.Sprintf("%s quotes term %d and epoch %d; leader's term is %d, epoch %d", r.Mirror,
			s.Report.TermHeard, s.Report.Epoch, w.Term, r.Epoch)
	})
	promise := s.Heard && s.Report.Promise <= 0
	q.requireLoss(promise, "mirror has no promise outstanding", ReasonPromiseOutstanding, func() string {
		return fmt.Sprintf("%s has %s", r.Mirror, promiseText(s))
	})
	q.require(s.Heard && s.Report.Engine.Promotable, "mirror can be promoted", ReasonNotPromotable, func() string {
		return fmt.Sprintf("%s %s", r.Mirror, promotableText(s))
	})
	if p := r.Procedure; p != nil && p.Kind == KindForced && r.Right == RightSole && !w.released(r) {
		q.require(s.Heard && !s.Report.HearsPartner, "mirror does not hear the primary",
			ReasonPrimaryHeard, func() string {
				return fmt.Sprintf("%s %s", r.Mirror, hearsText(s, r.Primary))
			})
		q.require(r.knowsMirror(), "primary has heard of its mirror", ReasonPrimarySilent, func() string {
			return mirrorKnownText(r)
		})
		q.require(!w.fresh(r, r.Primary, now), "witness does not hear the primary", ReasonPrimaryHeard,
			func() string {
				return age(r.Primary, w.seen(r, r.Primary), now, r.Policy.Lease)
			})
	}
}

// operatorAsked says whether the procedure under way is an operator's wish for this very epoch.
func operatorAsked(r Record) bool {
	p := r.Procedure
	if p == nil || p.Epoch != r.Epoch {
		return false
	}
	switch p.Kind {
	case KindSwitchover, KindForced:
		return p.Step != StepPromote
	default:
		return false
	}
}

// SwitchoverVerdict says whether a planned change of primary may begin.
func SwitchoverVerdict(r Record, w Watch, now Instant) Verdict {
	q := inquire(AskSwitchover, fmt.Sprintf("may %s take over as planned now?", r.Mirror))
	q.require(r.Stage == StageReady, "pair is ready", ReasonForming, func() string {
		return fmt.Sprintf("pair is %v", r.Stage)
	})
	why := ahead(r, w)
	q.require(why == "", "record is not behind its agents", ReasonAhead, func() string {
		return orElse(why, "no agent remembers more")
	})
	q.require(r.Procedure == nil && !w.Pending.Active, "no other change under way",
		ReasonProcedureUnderWay, func() string {
			return underWay(r, w)
		})
	p, m := w.seen(r, r.Primary), w.seen(r, r.Mirror)
	q.require(w.fresh(r, r.Primary, now), "primary is heard", ReasonPrimarySilent, func() string {
		return age(r.Primary, p, now, r.Policy.Lease)
	})
	q.require(w.fresh(r, r.Mirror, now), "mirror is heard", ReasonMirrorSilent, func() string {
		return age(r.Mirror, m, now, r.Policy.Lease)
	})
	q.require(m.Heard && m.Report.Engine.Following, "mirror follows", ReasonNotFollowing, func() string {
		return followText(r.Mirror, m)
	})
	q.require(m.Heard && m.Report.Engine.Promotable, "mirror can be promoted", ReasonNotPromotable, func() string {
		return fmt.Sprintf("%s %s", r.Mirror, promotableText(m))
	})
	return q.verdict
}

// FenceVerdict says whether promise G1 holds on the primary's host whatever happens to its agent. Nothing that the
// witness decides depends on it.
func FenceVerdict(r Record, w Watch) Verdict {
	q := inquire(AskFence,
		fmt.Sprintf("is one primary at a time (G1) promised if the agent of %s is killed or frozen?", r.Primary))
	s := w.seen(r, r.Primary)
	q.require(s.Heard && s.Report.fencedAlone(), "primary's host has a fence that does not need its agent",
		ReasonFenceNeedsAgent, func() string {
			return fmt.Sprintf("%s %s", r.Primary, fenceText(s))
		})
	return q.verdict
}

// fencedAlone says whether something ends service on the host when its agent cannot (DESIGN section 4).
func (r Report) fencedAlone() bool {
	switch r.FenceLevel {
	case "kernel", "gate", "watchdog":
		return true
	default:
		return r.Watchdog
	}
}

func fenceText(s Seen) string {
	if !s.Heard {
		return "has not said how it is fenced"
	}
	text := fmt.Sprintf("fences at level %s", orElse(s.Report.FenceLevel, "none"))
	if s.Report.Watchdog {
		text += ", with a watchdog"
	}
	if !s.Report.fencedAlone() {
		text += ": its agent alone ends service there"
	}
	if s.Report.FenceNote != "" {
		text += "; why not stronger: " + s.Report.FenceNote
	}
	return text
}

// FormVerdict is rule R16 for a new pair: its first epoch is committed only when both agents report no right
// and no promise outstanding under another id, and nothing else speaks against it.
func FormVerdict(r Record, w Watch, now Instant) Verdict {
	q := inquire(AskForm, "may the pair begin?")
	for i, m := range r.Members {
		s := w.Seen[i]
		q.require(w.fresh(r, m.Host, now), string(m.Host)+" is heard", ReasonHostSilent, func() string {
			return age(m.Host, s, now, r.Policy.Lease)
		})
		// An agent that knows of the pair before it begins need not fear that it has forgotten a promise.
		q.require(s.Heard && s.Report.FileKnown, string(m.Host)+" knows of the pair", ReasonHostSilent,
			func() string {
				return fmt.Sprintf("%s %s", m.Host, knowsText(s))
			})
		q.require(s.Heard && !s.Report.OtherRight, string(m.Host)+" is free", ReasonHostBusy, func() string {
			return fmt.Sprintf("%s instance %s %s", m.Host, m.Instance, busyText(s))
		})
		q.require(!s.Report.Engine.Watched, string(m.Host)+" may act", ReasonWatched, func() string {
			if s.Report.Engine.Watched {
				return fmt.Sprintf("instance %s on %s is only watched: somebody else decides who serves", m.Instance, m.Host)
			}
			return "its agent drives the instance"
		})
		q.require(s.Heard && s.Report.Complaint == "", string(m.Host)+" has no complaint",
			ReasonHostConflict, func() string {
				return orElse(s.Report.Complaint, "no complaint")
			})
	}
	p, m := w.seen(r, r.Primary).Report.Engine, w.seen(r, r.Mirror).Report.Engine
	q.require(p.SystemID != "", "primary has data", ReasonPrimaryData, func() string {
		return fmt.Sprintf("%s has %s", r.Primary, orElse(p.SystemID,
			"no database: initialize it, or name the other host as primary"))
	})
	q.require(m.SystemID == "" || m.SystemID == p.SystemID, "mirror is empty or a copy",
		ReasonForeignData, func() string {
			return fmt.Sprintf("%s holds database %s, %s holds %s; nothing was touched", r.Mirror,
				orElse(m.SystemID, "none"), r.Primary, orElse(p.SystemID, "none"))
		})
	return q.verdict
}

// epochsUnheard is more epochs than a host can have been through while the other one heard of none. An epoch
// file that turns up although an operator spoke for it must be older than what was adopted.
const epochsUnheard = 100_000

// adoption is rule R15: one longest lease after the restored witness has a leader, and with both agents'
// files (or an operator's word for a missing one), the highest epoch + 1 goes to that epoch's primary, sole.
func adoption(r Record, w Watch, now Instant) (Adopt, Verdict) {
	q := inquire(AskAdopt, "may the restored pair be adopted?")
	epoch, primary, longest := r.Epoch, r.Primary, r.LongestLease
	unheard := Epoch(0)
	for i, m := range r.Members {
		s := w.Seen[i]
		q.require(s.Heard && s.Report.FileKnown || w.spoken[i],
			string(m.Host)+" has reported its epoch file", ReasonFileMissing, func() string {
				return fmt.Sprintf("%s: %s", m.Host, fileText(s, w.spoken[i]))
			})
		if !s.Heard || !s.Report.FileKnown {
			unheard = epochsUnheard
			continue
		}
		longest = max(longest, s.Report.LongestLease)
		if s.Report.Epoch > epoch {
			epoch, primary = s.Report.Epoch, s.Report.EpochPrimary
		}
	}
	waited := now.Sub(w.Since)
	q.require(waited >= longest, "one longest lease has passed", ReasonGrace, func() string {
		return fmt.Sprintf("%v of %v passed", round(waited), longest)
	})
	q.require(r.index(primary) >= 0, "the primary is of the pair", ReasonHostConflict, func() string {
		return fmt.Sprintf("epoch %d is of %s, the restored pair is of %s and %s", epoch, primary,
			r.Members[0].Host, r.Members[1].Host)
	})
	cause := fmt.Sprintf("highest epoch reported is %d of %s", epoch, primary)
	return Adopt{Epoch: epoch + unheard + 1, Primary: primary, Cause: cause}, q.verdict
}

// Explain answers, for people and programs, every question that a pair may raise.
func Explain(r Record, w Watch, now Instant) []Verdict {
	switch r.Stage {
	case StageForming, StageRestored:
		if adopting(r, w) {
			_, v := adoption(r, w, now)
			return []Verdict{v}
		}
		return []Verdict{FormVerdict(r, w, now)}
	case StageReady:
		return []Verdict{FailoverVerdict(r, w, now), SwitchoverVerdict(r, w, now), FenceVerdict(r, w)}
	default:
		return nil
	}
}

func underWay(r Record, w Watch) string {
	switch {
	case r.Procedure != nil:
		return fmt.Sprintf("%v %s is at step %v", r.Procedure.Kind, r.Procedure.ID, r.Procedure.Step)
	case w.Pending.Active:
		return "a change was proposed and its outcome is awaited"
	default:
		return "nothing is under way"
	}
}

func age(h HostID, s Seen, now Instant, limit time.Duration) string {
	if !s.Heard {
		return fmt.Sprintf("%s has not been heard by this leader", h)
	}
	return fmt.Sprintf("%s was heard %v ago (limit %v)", h, round(now.Sub(s.At)), limit)
}

func promiseText(s Seen) string {
	switch {
	case !s.Heard:
		return "not said whether a promise is outstanding"
	case s.Report.Promise > 0:
		return fmt.Sprintf("a promise to the primary for another %v", round(s.Report.Promise))
	default:
		return "no promise outstanding"
	}
}

func promotableText(s Seen) string {
	switch {
	case !s.Heard:
		return "has not reported its database"
	case !s.Report.Engine.Promotable:
		return "cannot be promoted: " + orElse(s.Report.Engine.NotPromotable, "its database is not running")
	default:
		return "can be promoted"
	}
}

func hearsText(s Seen, primary HostID) string {
	if s.Heard && s.Report.HearsPartner {
		return fmt.Sprintf("hears the agent of %s, which has not released", primary)
	}
	return fmt.Sprintf("does not hear the agent of %s", primary)
}

func followText(h HostID, s Seen) string {
	if s.Heard && s.Report.Engine.Following {
		return fmt.Sprintf("%s receives changes", h)
	}
	return fmt.Sprintf("%s receives no changes", h)
}

func busyText(s Seen) string {
	if s.Heard && s.Report.OtherRight {
		return "still holds a right or a promise under another pair id; remove that pair first"
	}
	return "holds no other right"
}

func mirrorKnownText(r Record) string {
	if r.knowsMirror() {
		return fmt.Sprintf("%s has heard that %s is its mirror", r.Primary, r.Mirror)
	}
	return fmt.Sprintf("%s has not heard that %s is its mirror now: the one of before might let it serve",
		r.Primary, r.Mirror)
}

func knowsText(s Seen) string {
	if s.Heard && s.Report.FileKnown {
		return "has an epoch file for it"
	}
	return "has no epoch file for it yet"
}

func fileText(s Seen, spoken bool) string {
	switch {
	case spoken:
		return "an operator spoke for it"
	case !s.Heard:
		return "not heard; bring it back, or speak for it: witnessctl pair adopt"
	case !s.Report.FileKnown:
		return "it has no epoch file; speak for it: witnessctl pair adopt"
	default:
		return fmt.Sprintf("epoch %d of %s", s.Report.Epoch, s.Report.EpochPrimary)
	}
}

func orElse(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// round makes durations readable without hiding what matters at this scale.
func round(d time.Duration) time.Duration { return d.Round(10 * time.Millisecond) }

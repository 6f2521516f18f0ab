package hold

import (
	"fmt"
	"time"
)

// release is rule R9 under way: stop the database, make sure that it cannot come back as primary by itself,
// write "released", then tell.
type release struct {
	begun      bool
	asked      bool // by an operator, who may withdraw it
	stopped    bool // an OpStop or OpHandOver of this release has succeeded
	everything bool // ... and the mirror has everything
	noHandOver bool // a hand-over failed; stop without
}

// considerRelease begins, withdraws or finishes a release.
func (s *State) considerRelease(now Instant, o *out) {
	if !s.primary() {
		return
	}
	if s.release.begun {
		s.finishRelease(now, o)
		return
	}
	// What was asked a while ago may not be asked any more: nobody could promote the mirror then.
	asked := s.askEpoch == s.File.Epoch && now.Sub(s.askAt) <= s.File.Timing.Lease &&
		(s.ask == AskHandOver || s.ask == AskRelease || s.ask == AskWithhold)
	silent := s.silentFor(now)
	switch {
	case asked && s.ask == AskHandOver && !s.engine.MirrorAttached:
		// A hand-over without a mirror would only stop the database; the witness aborts it in time.
	case asked:
		s.beginRelease(true, "an operator asked", o)
	case s.right != RightSole && s.failures >= promoteTries:
		s.beginRelease(false, "the database cannot be brought up as primary", o)
	case s.right != RightSole && s.hung.crashes >= promoteTries:
		s.beginRelease(false, "the database dies again and again", o)
	case s.right != RightSole && s.allowed && s.op != OpPromote && silent > hungLeases*s.File.Timing.Lease:
		// A promotion may take its time; the witness looks after that.
		why := fmt.Sprintf("the database has not answered for %v", silent.Round(time.Millisecond))
		if s.witnessed(now) {
			s.beginRelease(false, why, o)
			return
		}
		s.shut(why, now, o) // and is started again, on the partner's word
	}
}

// witnessed says whether the witness can act on a release now, as far as this host knows. Without it the
// partner's lease is worth more than a release that nobody hears.
func (s *State) witnessed(now Instant) bool { return now < s.witnessLease }

// handingOver says whether the release under way lets clients finish: until the hand-over has ended, the right
// is needed, and kept, as before.
func (s *State) handingOver() bool {
	return s.release.begun && !s.release.stopped && s.stopping() == OpHandOver
}

// wantsLease says whether this host asks for leases.
func (s *State) wantsLease() bool { return s.primary() && (!s.release.begun || s.handingOver()) }

// releasedBefore takes note that this host released the epoch that it is primary of: it has lost the file that
// said so (rule R9).
func (s *State) releasedBefore(now Instant, o *out) {
	o.note(true, "the witness has heard that this host released epoch %d; the epoch file does not say so", s.File.Epoch)
	s.File.Released, s.File.ReleasedEverything = s.File.Epoch, false
	s.release = release{}
	s.witnessLease, s.partnerLease = 0, 0
	s.save(o)
}

func (s *State) beginRelease(asked bool, why string, o *out) {
	s.release = release{begun: true, asked: asked}
	s.request = RequestNone
	o.note(true, "giving epoch %d back: %s", s.File.Epoch, why)
}

// finishRelease writes and then tells, once the database is stopped. A hand-over that is no longer asked for
// is withdrawn if it has not come that far: a written release is final.
func (s *State) finishRelease(now Instant, o *out) {
	if s.release.asked && s.ask == AskNothing {
		s.release = release{}
		// The database may be stopped or on its way; what starts now needs an answer first (R10).
		s.shut("the release was withdrawn", now, o)
		o.note(true, "epoch %d is kept: nobody asks for it any more", s.File.Epoch)
		return
	}
	if !s.release.stopped {
		return
	}
	s.File.Released, s.File.ReleasedEverything = s.File.Epoch, s.release.everything
	s.release = release{}
	s.witnessLease, s.partnerLease = 0, 0
	s.save(o)
	o.note(true, "epoch %d released", s.File.Epoch)
}

// stopping prefers a hand-over, which leaves everything on the mirror, where an operator asked.
func (s *State) stopping() Op {
	orderly := (s.ask == AskHandOver || s.ask == AskRelease) && !s.release.noHandOver
	if orderly && s.engine.Running && s.engine.Role == RolePrimary && s.engine.MirrorAttached {
		return OpHandOver
	}
	if s.op == OpHandOver {
		return OpHandOver // let it finish: the last look is from before it began
	}
	return OpStop
}

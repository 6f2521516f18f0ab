package hold

import (
	"fmt"
	"time"
)

// A database that hangs runs and answers nobody, or answers and brings no commit to an end. Killing one that is
// only slow does more harm than waiting, so it takes several leases of silence in a row, and one answer ends them:
//
//   - leased, the epoch is given back, because the mirror is the quicker way to service (considerRelease);
//   - sole, or as a mirror, it is restarted in place, later, because nobody gains by haste.
//
// Silence is counted in looks that failed and not on the clock: a host or an agent that stood still has not listened.

const (
	// hungLeases is for how many leases a leased database may be silent before its agent treats it as dead.
	hungLeases = 3
	// restartLeases is the same for a database that nobody else could replace.
	restartLeases = 5
	// leastPatience is for how long such a database is left alone at least: with short leases a checkpoint on a slow
	// disk takes longer than five of them.
	leastPatience = 10 * time.Second
	// leastStall is for how long a leased database that answers may bring no commit to an end at least: a disk's pause
	// of some seconds (a full journal, a snapshot that freezes the file system) is over sooner than a failover is
	// worth, whatever the lease.
	leastStall = 5 * time.Second
	// provenAlive is how long a database that died soon after it had come up must run before that is forgotten.
	provenAlive = 10 * time.Second
	// mostDoublings bounds the patience after restarts that did not help.
	mostDoublings = 5
	// longestSilence is what one failed look counts for at most: its own limit of time, and the pause before it.
	longestSilence = 1200 * time.Millisecond
	// provenGood is how long a restarted database must answer before the next restart is a first one again.
	provenGood = 10 * time.Minute
)

// hungState is what is known of a database that hangs or keeps dying. It is empty for one that does neither.
type hungState struct {
	silence   time.Duration // of the looks that failed since the last one that did not
	silentAt  Instant       // when a look failed last
	restarts  int           // because of silence, since the database was proven good
	restarted Instant       // the last one
	crashes   int           // in a row, each soon after the database had come up
	upRun     string        // the run seen since the last crash, if crashes > 0,
	upAt      Instant       // and when it was first seen
	complaint string        // about the crashes
}

// engineSilent takes a look in that got no answer in time.
func (s *State) engineSilent(now Instant) {
	heard := max(s.engine.Began, s.Started, s.hung.silentAt)
	s.hung.silence += min(now.Sub(heard), longestSilence)
	s.hung.silentAt = now
}

// engineHeard takes a look in that was answered. A database that answers while its commits do not end is silent in
// the way that matters.
func (s *State) engineHeard(e Engine) {
	h := &s.hung
	h.silence, h.silentAt = e.Stalled, 0
	s.outlived(e)
	if h.restarts > 0 && e.Running && e.Stalled == 0 && e.Began.Sub(h.restarted) > provenGood {
		h.restarts = 0
	}
}

// outlived forgets former crashes of a database that has run for a while since: the next one is a first one.
func (s *State) outlived(e Engine) {
	h := &s.hung
	switch {
	case h.crashes == 0 || !e.Running:
	case h.upRun != e.Run:
		h.upRun, h.upAt = e.Run, e.Began
	case e.Began.Sub(h.upAt) > provenAlive:
		if s.complaint == h.complaint {
			s.complaint = ""
		}
		h.crashes, h.upRun, h.upAt, h.complaint = 0, "", 0, ""
	}
}

// silentFor is how long a leased primary has been silent at now. Its lease ends with the agent's standing still, so
// the clock may be believed.
func (s *State) silentFor(now Instant) time.Duration {
	stalled := s.engine.Stalled
	if stalled < leastStall {
		stalled = 0
	}
	return max(now.Sub(max(s.engine.Began, s.Started)), stalled)
}

// patience is how long a database that nobody can replace may be silent before it is restarted.
func (s *State) patience() time.Duration {
	return max(restartLeases*s.File.Timing.Lease, leastPatience) << min(s.hung.restarts, mostDoublings)
}

// considerRestart ends a sole primary or a mirror that has been silent for too long. What ended is then brought up
// as always: a primary on the next answer (rule R10), a mirror at once.
func (s *State) considerRestart(now Instant, o *out) {
	if s.hung.silence < s.patience() || s.File.Epoch == 0 || s.unmanaged || s.release.begun {
		return
	}
	if !s.restartableMirror(now) && !s.restartable(now) {
		return
	}
	why := fmt.Sprintf("the database has not answered for %v; it is restarted", s.hung.silence.Round(time.Second))
	s.hung.silence, s.hung.silentAt, s.hung.restarted = 0, 0, now
	s.hung.restarts++
	o.note(true, "%s", why)
	s.shut(why, now, o)
}

// restartable says whether a primary may be ended because it hangs: nobody else can take over, and the witness is
// there to let it open again (rule R10). A promotion may take its time.
func (s *State) restartable(now Instant) bool {
	return s.primary() && s.allowed && s.right == RightSole && s.op != OpPromote &&
		now.Sub(s.termSent) <= s.File.Timing.Lease
}

// restartableMirror says whether a mirror may be ended because it hangs: only if it will be made to follow again at
// once. A copy that has nobody to follow may be the last one, and a database that is not the pair's is not ours to end.
func (s *State) restartableMirror(now Instant) bool {
	return s.File.Primary != s.Self && (s.engine.Running || !s.engineOK) && !s.foreign &&
		s.File.Peer.ServiceAddress != "" && s.hearsPartner(now) && s.peerRole == RolePrimary
}

// longestPause is the longest wait before a database that keeps dying is brought up again.
const longestPause = time.Minute

// diedAgain counts the ends of a database that lived for a moment only, as it does on a full disk: each time it is
// brought up later, so that the loop does not eat up what is left of the host. A leased primary gives its epoch back
// after promoteTries (considerRelease).
func (s *State) diedAgain(e EngineExited, op Op, now Instant) {
	if !e.Soon {
		s.hung.crashes = 0
		return
	}
	s.hung.crashes++
	s.hung.upRun = ""
	pause := min(retryDelay<<min(s.hung.crashes-1, mostDoublings), longestPause)
	s.failedOp, s.retryAt = op, now.Add(pause)
	s.complaint = fmt.Sprintf("the database died %s soon after it had come up; next try in %v: %s",
		times(s.hung.crashes), pause, e.Reason)
	s.hung.complaint = s.complaint
}

func times(n int) string {
	if n == 1 {
		return "once"
	}
	return fmt.Sprint(n, " times in a row")
}

package agent

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/witnessd/witnessd/agent/hold"
)

// staleAfter is how old the loop's last word may be before the endpoints stop believing it.
const staleAfter = 2 * time.Second

// snapshot is what the loop last published. Readers compare its instants with the clock themselves, so that a
// stuck loop cannot keep an endpoint at 200 beyond the right. It is never changed once it is published.
type snapshot struct {
	at        hold.Instant
	instances []instanceStatus
	troubles  []string
}

// instanceStatus is what is shown of one instance.
type instanceStatus struct {
	name   string
	status hold.Status
	until  hold.Instant  // end of the right, if it has one
	lease  time.Duration // of the pair's policy; 0: not heard yet
	ending bool          // service is being ended

	fence     string // level in force
	fenceNote string // why no stronger one is
	watchdog  bool
	gate      string // where the instance's gate listens; empty: it has none

	peer   hold.Engine  // what the partner's agent last said of its database
	peerAt hold.Instant // when; 0: it has said nothing yet
}

// publish is called by the loop after every event.
func (a *Agent) publish() {
	now := a.clock()
	s := &snapshot{at: now, troubles: a.troubles()}
	for _, i := range a.instances {
		s.instances = append(s.instances, a.seen(i, now))
	}
	a.status.Store(s)
}

// seen is called by the loop.
func (a *Agent) seen(i *instance, now hold.Instant) instanceStatus {
	level, note := a.level(i)
	st := instanceStatus{
		name: i.name, fence: string(level), fenceNote: note, watchdog: a.watchdog.Limit() > 0,
		gate: i.config.Gate.Listen, ending: i.closing.Load(), peer: i.peer.engine, peerAt: i.peer.at,
	}
	if !i.managed {
		st.status.Engine = i.lastSeen
		return st
	}
	st.status = i.state.Status(now)
	st.until = now.Add(st.status.ServesFor)
	st.lease = i.state.File.Timing.Lease
	return st
}

// ending is called by the loop before it ends service, which takes a moment: from here on no load balancer is
// told to send clients. The next publish tells what has become of it.
func (a *Agent) ending(instance string) {
	last := a.status.Load()
	if last == nil {
		return
	}
	next := *last
	next.instances = slices.Clone(last.instances)
	for k := range next.instances {
		if next.instances[k].name == instance {
			next.instances[k].ending = true
		}
	}
	a.status.Store(&next)
}

// fresh says whether the loop turns.
func (s *snapshot) fresh(now hold.Instant) bool { return now.Sub(s.at) <= staleAfter }

// pick finds the instance that is asked about. With one instance there is no need to name it.
func (s *snapshot) pick(name string) (st instanceStatus, bad string) {
	if name == "" && len(s.instances) == 1 {
		return s.instances[0], ""
	}
	var names []string
	for _, st := range s.instances {
		if st.name == name {
			return st, ""
		}
		names = append(names, st.name)
	}
	return instanceStatus{}, fmt.Sprintf("no instance %q here; ask with ?instance=NAME or /NAME/primary for one of: %s",
		name, strings.Join(names, ", "))
}

// right is how long the right to serve lasts. Endless rights have no length.
func (st instanceStatus) right(now hold.Instant) (left time.Duration, endless bool) {
	if st.status.ServesFor < 0 {
		return 0, true
	}
	return max(0, st.until.Sub(now)), false
}

// line tells a person in one line what this agent does, for systemd's status.
func (s *snapshot) line(now hold.Instant) string {
	var parts []string
	for _, st := range s.instances {
		parts = append(parts, st.line(now))
	}
	return strings.Join(parts, "; ")
}

func (st instanceStatus) line(now hold.Instant) string {
	name := st.status.Name
	if name == "" {
		return "instance " + st.name + ": in no pair"
	}
	switch {
	case st.serving(now):
		left, endless := st.right(now)
		lasts := fmt.Sprintf("serves for %.1f s", left.Seconds())
		if endless {
			lasts = "serves without end"
		}
		return fmt.Sprintf("%s: primary, %s, fence %s", name, lasts, st.fence)
	case st.follows():
		return name + ": mirror, follows"
	case st.status.Primary:
		return name + ": recorded as primary, does not serve"
	default:
		return name + ": mirror, does not follow"
	}
}

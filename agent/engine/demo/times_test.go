//go:build linux

package demo

import (
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/witnessd/witnessd/agent/engine"
)

// guard is the default guard of the agent: the time by which a host stops before its lease ends.
const guard = 300 * time.Millisecond

// timeLimit is what detecting an end, and fencing, may take: a third of the guard.
const timeLimit = guard / 3

// The end of the process is told, and a fence is done, well within the guard. The median of several
// rounds counts: one of them may meet a moment in which the machine does other things.
func TestTimes(t *testing.T) {
	const rounds = 9
	took := map[string][]time.Duration{}
	note := func(what string, since time.Time) { took[what] = append(took[what], time.Since(since)) }
	a, b := newPair(t)
	hold := engine.Peer{Pair: "sales"}
	for range rounds {
		pid := a.pid()
		begun := time.Now()
		a.must(syscall.Kill(pid, syscall.SIGKILL))
		a.exit()
		note("detect", begun)

		begun = time.Now()
		b.promote()
		note("promote a running mirror", begun)

		begun = time.Now()
		a.follow(b)
		note("start and follow", begun)

		begun = time.Now()
		b.must(b.ReleaseCommits(b.ctx()))
		note("release", begun)

		begun = time.Now()
		b.must(b.HoldCommits(b.ctx(), hold))
		note("hold", begun)

		begun = time.Now()
		b.must(b.Fence(b.ctx()))
		note("fence", begun)

		begun = time.Now()
		b.promote()
		note("promote a stopped copy", begun)
		a.follow(b)
		a, b = b, a
	}
	for what, times := range took {
		slices.Sort(times)
		median := times[len(times)/2]
		t.Logf("%-24s median %v, at most %v", what, median, times[len(times)-1])
		if (what == "detect" || what == "fence") && median > timeLimit {
			t.Errorf("%s: median %v, at most %v is allowed", what, median, timeLimit)
		}
	}
}

package pair_test

import (
	"slices"
	"testing"
	"time"

	"github.com/witnessd/witnessd/witnessd/pair"
)

// hooks are what an agent reports that has run those of these sequences.
func hooks(sequences ...uint64) []pair.Hook {
	var all []pair.Hook
	for _, n := range sequences {
		all = append(all, pair.Hook{Sequence: n, Event: "primary", Epoch: 1, Command: "notify", OK: n%2 == 1,
			Detail: "exit status 0", Took: 120 * ms})
	}
	return all
}

func (l *leader) tells(h pair.HostID, start string, sequences ...uint64) []pair.Action {
	l.t.Helper()
	return l.step(pair.Hooked{Host: h, Start: start, Hooks: hooks(sequences...)})
}

// noted is how many hooks are in the history.
func (l *leader) noted() int {
	n := 0
	for _, f := range l.facts {
		if f.Kind == pair.FactHookDone || f.Kind == pair.FactHookFailed {
			n++
		}
	}
	return n
}

func TestHooksAreRecordedInOrder(t *testing.T) {
	l := armed(t)
	l.facts = nil
	for range 4 { // each heartbeat reports all that is not confirmed
		l.after(time.Second)
		l.hear("a", "b")
		l.tells("b", "1", 1, 2, 3)
	}
	want := []pair.Fact{
		{Kind: pair.FactHookDone, Host: "b", Cause: "hook notify on b for primary (epoch 1) done after 120ms: exit status 0"},
		{Kind: pair.FactHookFailed, Host: "b",
			Cause: "hook notify on b for primary (epoch 1) failed after 120ms: exit status 0"},
		{Kind: pair.FactHookDone, Host: "b", Cause: "hook notify on b for primary (epoch 1) done after 120ms: exit status 0"},
	}
	for i := range l.facts {
		f := l.facts[i]
		l.facts[i] = pair.Fact{Kind: f.Kind, Host: f.Host, Cause: f.Cause}
	}
	if !slices.Equal(l.facts, want) {
		t.Errorf("got %+v\nwant %+v", l.facts, want)
	}
	if got := l.w.HooksRecorded(l.r, "b", "1"); got != 3 {
		t.Errorf("recorded up to %d, want 3", got)
	}
	for host, start := range map[pair.HostID]string{"a": "1", "b": "2", "z": "1"} {
		if got := l.w.HooksRecorded(l.r, host, start); got != 0 {
			t.Errorf("%s, start %s: recorded up to %d, want 0", host, start, got)
		}
	}
}

func TestHooksThatAreNotRecorded(t *testing.T) {
	for _, tt := range []struct {
		name string
		tell func(l *leader)
		want int
	}{
		{"one that is recorded", func(l *leader) { l.tells("b", "1", 1); l.tells("b", "1", 1) }, 1},
		{"of a stranger", func(l *leader) { l.tells("z", "1", 1) }, 0},
		{"of a start that does not speak", func(l *leader) { l.tells("b", "0", 1) }, 0},
		{"of a pair that is paused all the same", func(l *leader) {
			l.must(pair.WishCommand{Body: pair.SetMode{Mode: pair.ModeManual}})
			l.tells("b", "1", 1)
		}, 1},
		{"of a restored pair", func(l *leader) { l.apply(pair.Restore{Generation: 1}); l.tells("b", "1", 1) }, 0},
		{"while an agent is ahead", func(l *leader) {
			l.says("b", func(r *pair.Report) { r.Epoch++ })
			l.tells("b", "1", 1)
		}, 0},
		{"while a change is undecided", func(l *leader) {
			l.wait = true
			l.must(pair.WishSwitchover{By: "ann"})
			l.tells("b", "1", 1)
			l.wait = false
			l.settle()
		}, 0},
		{"a sequence of nothing", func(l *leader) { l.tells("b", "1", 0) }, 0},
		{"one that was dropped, until it is reported again", func(l *leader) {
			l.wait = true
			l.tells("b", "1", 1)
			l.pending, l.wait = nil, false
			l.step(pair.Dropped{})
			if got := l.w.HooksRecorded(l.r, "b", "1"); got != 0 {
				l.t.Errorf("a dropped note counts: %d", got)
			}
			l.tells("b", "1", 1)
		}, 1},
		{"by the next leader again, which cannot know", func(l *leader) {
			l.tells("b", "1", 1)
			l.elect()
			l.hear("a", "b")
			l.tells("b", "1", 1)
		}, 2},
		{"of a new start from its first", func(l *leader) {
			l.tells("b", "1", 7)
			l.says("b", func(r *pair.Report) { r.Start, r.Sequence = "2", 1 })
			l.tells("b", "2", 1)
		}, 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := armed(t)
			tt.tell(l)
			if got := l.noted(); got != tt.want {
				t.Errorf("%d hooks are in the history, want %d", got, tt.want)
			}
		})
	}
}

// TestHooksAreRationed: an agent that reports without end fills the log by one line a second.
func TestHooksAreRationed(t *testing.T) {
	l := armed(t)
	next := uint64(0)
	const long = 100 * time.Second
	for range int(long / (20 * ms)) {
		l.after(20 * ms)
		l.hear("a", "b")
		next++
		l.tells("a", "1", next)
		l.tells("b", "1", next)
	}
	if got := l.noted(); got < 100 || got > 106 {
		t.Errorf("%d hooks in %v are in the history, want one a second and a few at first", got, long)
	}
}

// TestHooksDoNotKeepAPrimaryWaiting: a request that came while a hook was being recorded is asked for again at once.
func TestHooksDoNotKeepAPrimaryWaiting(t *testing.T) {
	l := armed(t)
	l.wait = true
	l.tells("b", "1", 1)
	l.says("a", func(r *pair.Report) { r.Request, r.RequestRevision = pair.RequestExpose, l.r.Revision })
	if l.r.Right != pair.RightLeased {
		t.Fatal("exposed while a change was pending")
	}
	p := l.pending
	l.pending, l.wait = nil, false
	acts := l.step(pair.Applied{Before: l.r, Body: p.Command.Body})
	if !slices.Contains(acts, pair.Action(pair.Nudge{Host: "a"})) {
		t.Errorf("the primary was not nudged: %v", acts)
	}
	l.says("a", func(r *pair.Report) { r.Request, r.RequestRevision = pair.RequestExpose, l.r.Revision })
	if l.r.Right != pair.RightSole {
		t.Error("not exposed afterwards")
	}
	if acts := l.tells("b", "1", 2); slices.Contains(acts, pair.Action(pair.Nudge{Host: "a"})) {
		t.Error("nudged for nothing")
	}
}

// TestHooksGiveWay: a failover that is due comes first.
func TestHooksGiveWay(t *testing.T) {
	l := armed(t)
	l.says("a", func(r *pair.Report) { r.Released, r.ReleasedEverything, r.AskLease, r.Serving = 1, true, false, false })
	l.wait = true
	l.says("b", func(r *pair.Report) { r.Promise = 0 })
	l.tells("b", "1", 1)
	if _, promote := l.pending.Command.Body.(pair.Promote); !promote {
		t.Errorf("%T was proposed", l.pending.Command.Body)
	}

	l = armed(t) // the lease ends, and the first to come after that are hooks
	l.confirm("a", l.now)
	l.after(2900 * ms)
	l.says("b", func(r *pair.Report) { r.Promise = 0 })
	l.after(200 * ms)
	l.wait, l.proposed = true, nil
	l.tells("b", "1", 1)
	if !proposedAny[pair.Promote](l) {
		t.Errorf("proposed %v", l.proposed)
	}
}

// TestReplacedHostsHooksAreForgotten: the next host in the place counts its own.
func TestReplacedHostsHooksAreForgotten(t *testing.T) {
	l := formed(t)
	l.tells("b", "1", 9)
	l.apply(pair.ReplaceMirror{Member: pair.Member{Host: "c", Instance: "db"}})
	if got := l.w.HooksRecorded(l.r, "c", "1"); got != 0 {
		t.Errorf("hooks of the host before count as recorded: %d", got)
	}
}

func TestFenceVerdict(t *testing.T) {
	for _, tt := range []struct {
		level    string
		watchdog bool
		note     string
		ok       bool
		want     string
	}{
		{"kernel", false, "", true, "a fences at level kernel"},
		{"gate", false, "no nf_tables here", true, "a fences at level gate; why not stronger: no nf_tables here"},
		{"watchdog", true, "", true, "a fences at level watchdog, with a watchdog"},
		{"engine", true, "", true, "a fences at level engine, with a watchdog"},
		{"engine", false, "not root", false,
			"a fences at level engine: its agent alone ends service there; why not stronger: not root"},
		{"", false, "", false, "a fences at level none: its agent alone ends service there"},
	} {
		l := armed(t)
		l.says("a", func(r *pair.Report) { r.FenceLevel, r.Watchdog, r.FenceNote = tt.level, tt.watchdog, tt.note })
		v := pair.FenceVerdict(l.r, l.w)
		if v.OK() != tt.ok || v.Preconditions[0].Detail != tt.want {
			t.Errorf("%q, watchdog %v: got %+v, want %v, %s", tt.level, tt.watchdog, v, tt.ok, tt.want)
		}
		if !pair.FailoverVerdict(l.r, l.w, l.now).Ready() {
			t.Error("the fence level keeps the pair from failing over")
		}
	}
	l := armed(t)
	l.elect()
	if v := pair.FenceVerdict(l.r, l.w); v.OK() || v.Preconditions[0].Detail != "a has not said how it is fenced" {
		t.Errorf("unheard: %+v", v)
	}
}

package pair_test

import (
	"slices"
	"testing"
	"time"

	"github.com/witnessd/witnessd/witnessd/pair"
)

const ms = time.Millisecond

// leader is the leader of one pair in virtual time: it keeps record and watch, and applies at once what Step
// proposes, unless it is told to wait.
type leader struct {
	t    *testing.T
	r    pair.Record
	w    pair.Watch
	term pair.Term
	base pair.Instant
	now  pair.Instant
	seq  uint64

	wait     bool // proposals stay pending
	pending  *pair.Propose
	proposed []pair.Body
	replies  map[uint64]*pair.Refusal
	fencing  int
	facts    []pair.Fact
}

func members() [2]pair.Member {
	return [2]pair.Member{{Host: "a", Instance: "db"}, {Host: "b", Instance: "db"}}
}

func create() pair.Create {
	return pair.Create{Name: "sales", Members: members(), Primary: "a", Mode: pair.ModeAutomatic,
		Policy: pair.DefaultPolicy(), By: "test"}
}

// newLeader leads a pair that was just created.
func newLeader(t *testing.T) *leader {
	t.Helper()
	l := &leader{t: t, term: 1, base: pair.Instant(time.Hour), now: pair.Instant(time.Hour),
		replies: map[uint64]*pair.Refusal{}}
	var err error
	l.r, _, err = pair.Record{}.Apply(pair.Command{Pair: "p1-long-id", Term: 1, Body: create()}, 1)
	if err != nil {
		t.Fatal(err)
	}
	l.w = pair.NewWatch(l.r, l.term, l.now)
	return l
}

// formed leads a pair that has begun; its grace is over and both hosts have been heard at instant 0.
func formed(t *testing.T) *leader {
	t.Helper()
	l := newLeader(t)
	l.hear("a", "b")
	l.hear("a", "b") // announced; now it begins
	if l.r.Stage != pair.StageReady {
		t.Fatalf("pair is %v", l.r.Stage)
	}
	l.at(4 * time.Second)
	l.hear("a", "b")
	l.base = l.now
	l.proposed = nil
	return l
}

// armed leads a formed pair with the right leased.
func armed(t *testing.T) *leader {
	t.Helper()
	l := formed(t)
	l.says("a", func(r *pair.Report) { r.Request, r.RequestRevision = pair.RequestArm, l.r.Revision })
	if !l.r.Armed() {
		t.Fatalf("right is %v", l.r.Right)
	}
	l.hear("a", "b")
	l.proposed = nil
	return l
}

// at goes to an instant after the beginning of the test's story.
func (l *leader) at(d time.Duration) { l.now = l.base.Add(d) }

func (l *leader) after(d time.Duration) { l.now = l.now.Add(d) }

// report is what a healthy agent would say now.
func (l *leader) report(h pair.HostID) pair.Report {
	l.seq++
	primary := h == l.r.Primary && l.r.Epoch > 0
	promise := 2 * time.Second // a healthy mirror has promised a moment ago
	if primary || l.r.Epoch == 0 {
		promise = 0
	}
	r := pair.Report{
		Host: h, Start: "1", Sequence: l.seq, TermHeard: l.term,
		FileKnown: true, Epoch: l.r.Epoch, EpochPrimary: l.r.Primary, Revision: l.r.Revision,
		LongestLease: l.r.LongestLease, AskLease: primary, HearsPartner: true, Serving: primary, Promise: promise,
		Member: pair.Member{Host: h, Instance: "db", LinkAddress: string(h) + ":1", ServiceAddress: string(h) + ":2",
			Engine: "demo", SystemID: "7"},
		Engine: pair.Engine{Running: true, Role: "mirror", SystemID: "7", Promotable: true, Following: true},
	}
	if primary {
		r.Engine.Role, r.Engine.Following, r.Engine.MirrorAttached = "primary", false, true
	}
	return r
}

// says lets a host's agent say what a healthy one would, but for the changes.
func (l *leader) says(h pair.HostID, changes ...func(*pair.Report)) {
	r := l.report(h)
	for _, change := range changes {
		change(&r)
	}
	l.step(pair.Heard{Report: r, Receipt: l.now})
}

func (l *leader) hear(hosts ...pair.HostID) {
	for _, h := range hosts {
		l.says(h)
	}
}

// left is what a mirror says that its primary has left alone for long enough.
func (l *leader) left(h pair.HostID) {
	l.says(h, func(r *pair.Report) { r.Promise, r.HearsPartner = 0, false })
}

// tick lets time be noticed.
func (l *leader) tick() { l.step(pair.Tick{}) }

// confirm is the confirmation, now, of a request that asked for a lease at receipt.
func (l *leader) confirm(h pair.HostID, receipt pair.Instant) pair.Answer {
	l.t.Helper()
	acts := l.step(pair.Confirmed{Host: h, Receipt: receipt, AskLease: true})
	if len(acts) != 1 {
		l.t.Fatalf("a confirmation led to %v", acts)
	}
	return acts[0].(pair.Answer)
}

// lease asks for a lease now and says whether it was granted.
func (l *leader) lease(h pair.HostID) bool { return l.confirm(h, l.now).Lease > 0 }

// ask asks an operator's wish and returns the refusal.
func (l *leader) ask(w pair.Wish) *pair.Refusal {
	l.seq++
	l.step(pair.Ask{Token: l.seq, Wish: w})
	return l.replies[l.seq]
}

func (l *leader) must(w pair.Wish) {
	l.t.Helper()
	if bad := l.ask(w); bad != nil {
		l.t.Fatalf("%T refused: %v", w, bad)
	}
}

func (l *leader) step(ev pair.Event) []pair.Action {
	l.t.Helper()
	var acts []pair.Action
	l.w, acts = pair.Step(l.r, l.w, ev, l.now)
	proposals := 0
	for _, act := range acts {
		switch a := act.(type) {
		case pair.Propose:
			proposals++
			l.proposed = append(l.proposed, a.Command.Body)
			l.pending = &a
		case pair.Reply:
			l.replies[a.Token] = a.Refusal
		case pair.RunFence:
			l.fencing++
		case pair.Answer, pair.Nudge:
		}
	}
	if proposals > 1 {
		l.t.Fatalf("%T led to %d proposals", ev, proposals)
	}
	if !l.wait {
		l.settle()
	}
	return acts
}

// settle applies what is pending.
func (l *leader) settle() {
	l.t.Helper()
	p := l.pending
	l.pending = nil
	if p == nil {
		return
	}
	before := l.r
	after, facts, err := l.r.Apply(p.Command, l.term)
	if err != nil {
		l.t.Logf("refused: %v", err)
		l.replies[p.Token] = err.(*pair.Refusal)
		l.step(pair.Dropped{})
		return
	}
	l.r = after
	l.facts = append(l.facts, facts...)
	l.step(pair.Applied{Before: before, Body: p.Command.Body})
}

// elect begins a new term: pending proposals are lost, and so is what was heard.
func (l *leader) elect() {
	l.term++
	l.pending = nil
	l.w = pair.NewWatch(l.r, l.term, l.now)
}

// apply is a command that somebody else proposed.
func (l *leader) apply(b pair.Body) *pair.Refusal {
	before := l.r
	after, _, err := l.r.Apply(pair.Command{Pair: l.r.ID, Revision: l.r.Revision, Term: l.term, Body: b}, l.term)
	if err != nil {
		return err.(*pair.Refusal)
	}
	l.r = after
	l.step(pair.Applied{Before: before, Body: b})
	return nil
}

// last is the type of the last proposal's body.
func (l *leader) last() pair.Body {
	if len(l.proposed) == 0 {
		return nil
	}
	return l.proposed[len(l.proposed)-1]
}

// proposedAny says whether a body of T's type was proposed.
func proposedAny[T pair.Body](l *leader) bool {
	return slices.ContainsFunc(l.proposed, func(b pair.Body) bool { _, ok := b.(T); return ok })
}

func (l *leader) wantEpoch(primary pair.HostID, epoch pair.Epoch) {
	l.t.Helper()
	if l.r.Primary != primary || l.r.Epoch != epoch {
		l.t.Errorf("got epoch %d of %s, want epoch %d of %s", l.r.Epoch, l.r.Primary, epoch, primary)
	}
}

func wantRefusal(t *testing.T, got *pair.Refusal, want pair.Reason) {
	t.Helper()
	switch {
	case got == nil && want != pair.ReasonNone:
		t.Errorf("accepted, want %s", want)
	case got != nil && got.Reason != want:
		t.Errorf("refused for %s (%v), want %q", got.Reason, got, want)
	}
}

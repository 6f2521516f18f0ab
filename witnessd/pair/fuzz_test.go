package pair_test

import (
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/witnessd/witnessd/witnessd/pair"
)

// source makes choices out of fuzz input. When it is used up every choice is the first one, which is always what
// an honest party would say.
type source struct{ left []byte }

func (s *source) pick(n int) int {
	if len(s.left) == 0 {
		return 0
	}
	b := s.left[0]
	s.left = s.left[1:]
	return int(b) % n
}

func choose[T any](s *source, choices ...T) T { return choices[s.pick(len(choices))] }

// stepBytes is how much input one command or event is made of, so that a change of one does not change the meaning
// of all that follow.
const stepBytes = 16

// steps cuts fuzz input into sources of one step each. Longer input than that finds nothing new.
func steps(input []byte) []*source {
	var all []*source
	for len(input) > 0 && len(all) < 64 {
		n := min(stepBytes, len(input))
		all = append(all, &source{left: input[:n]})
		input = input[n:]
	}
	return all
}

// script is the input that makes these choices, step by step.
func script(lines ...[]byte) []byte {
	var input []byte
	for _, line := range lines {
		input = append(input, line...)
		input = append(input, make([]byte, stepBytes-len(line))...)
	}
	return input
}

// FuzzApply applies sequences of commands to one record and holds each result against what the record promises.
func FuzzApply(f *testing.F) {
	for _, seed := range lives() {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, input []byte) {
		var r pair.Record
		for _, s := range steps(input) {
			c, entry := anyCommand(s, r)
			r = applyChecked(t, r, c, entry)
		}
	})
}

// The places of the bodies in anyBody, for seeds.
const (
	toCreate byte = iota
	toBegin
	toArm
	toExpose
	toPromote
	toReinstate
	toSetMode
	toSetPolicy
	toLower
	toStart
	toStep
	toEnd
	toReplace
	toRemove
	toRestore
	toAdopt
	toAnnounce
	toNote
)

// lives are courses that pairs really take.
func lives() [][]byte {
	born := [][]byte{{toCreate}, {toAnnounce}, {toAnnounce, 0, 0, 0, 1}, {toBegin}, {toArm}}
	life := func(lines ...[]byte) []byte { return script(append(slices.Clip(born), lines...)...) }
	return [][]byte{
		life([]byte{toPromote}, []byte{toExpose}, []byte{toEnd}, []byte{toArm}),
		life([]byte{toStart}, []byte{toPromote}, []byte{toEnd}),
		life([]byte{toSetMode, 0, 0, 0, 1}, []byte{toReplace}, []byte{toSetMode}, []byte{toArm}),
		life([]byte{toSetPolicy, 0, 0, 0, 1}, []byte{toSetPolicy}, []byte{toLower}, []byte{toReinstate}),
		life([]byte{toStart, 0, 0, 0, 4, 4}, []byte{toStep}, []byte{toRemove}, []byte{toArm}),
		life([]byte{toRestore}, []byte{toAdopt}, []byte{toNote}, []byte{toArm}),
	}
}

func anyCommand(s *source, r pair.Record) (pair.Command, pair.Term) {
	kind := byte(s.pick(int(toNote) + 1))
	c := pair.Command{
		Pair: "id", Revision: r.Revision + choose(s, pair.Revision(0), 0, 0, 1) - choose(s, pair.Revision(0), 0, 0, 1),
		Term: 1, At: 1000,
	}
	body := byte(0)
	if len(s.left) > 0 {
		body = s.left[0]
	}
	c.Body = anyBody(kind, s, r)
	c.At = choose(s, r.Changed+1, 0, -1, r.Changed-1)
	return c, pair.Term(1 + body/255)
}

func anyBody(kind byte, s *source, r pair.Record) pair.Body {
	host, id := choose(s, r.Primary, r.Mirror, "a", "b", "c", ""), "p"
	if r.Procedure != nil {
		id = choose(s, r.Procedure.ID, r.Procedure.ID, "other")
	}
	switch kind {
	case toCreate:
		return pair.Create{
			Name: choose(s, "sales", "", "-x"), Primary: choose(s, pair.HostID("a"), "b", "c"),
			Members: [2]pair.Member{{Host: "a", Instance: "db"}, {Host: choose(s, pair.HostID("b"), "a", ""), Instance: "db"}},
			Mode:    choose(s, pair.ModeAutomatic, pair.ModeManual, pair.ModeObserve, 0, 9), Policy: anyPolicy(s),
		}
	case toAnnounce:
		m, _ := r.Member(host)
		return pair.Announce{Member: pair.Member{Host: host, Instance: choose(s, m.Instance, "other"), LinkAddress: "x:1",
			ServiceAddress: "x:2", Engine: "demo", SystemID: choose(s, "7", "8", "")}}
	case toBegin:
		return pair.Begin{}
	case toArm:
		return pair.Arm{Host: host}
	case toExpose:
		return pair.Expose{Host: host, Cause: "fuzz"}
	case toPromote:
		return pair.Promote{To: choose(s, r.Mirror, r.Primary, "c"), Procedure: id, Forced: choose(s, false, true), Cause: "fuzz"}
	case toReinstate:
		return pair.Reinstate{Cause: "fuzz"}
	case toReplace:
		return pair.ReplaceMirror{Member: pair.Member{
			Host: choose(s, pair.HostID("c"), r.Mirror, r.Primary, ""), Instance: choose(s, "db", "other", ""),
		}}
	case toRemove:
		return pair.Remove{Cause: "fuzz"}
	case toRestore:
		return pair.Restore{Generation: r.Revision.Generation() + choose(s, uint64(1), 0, 2)}
	case toAdopt:
		return pair.Adopt{Epoch: r.Epoch + choose(s, pair.Epoch(1), 0, 5), Primary: host, Cause: "fuzz"}
	case toNote:
		return pair.Note{Kind: choose(s, pair.FactWouldFailOver, pair.FactDecisionsSuspended, pair.FactHookFailed),
			Cause: "fuzz", Host: choose(s, "", host)}
	default:
		return anySetting(kind, s, r, id)
	}
}

// anySetting is the second half of anyBody: mode, policy and procedures.
func anySetting(kind byte, s *source, r pair.Record, id string) pair.Body {
	switch kind {
	case toSetMode:
		return pair.SetMode{Mode: choose(s, pair.ModeAutomatic, pair.ModeManual, pair.ModeObserve, 0, 9),
			Pause: pair.Pause{By: choose(s, "", "ann"), Reason: choose(s, "", "patching")}}
	case toSetPolicy:
		return pair.SetPolicy{Policy: anyPolicy(s)}
	case toLower:
		return pair.LowerLongest{To: choose(s, r.Policy.Lease, r.LongestLease, 0, r.LongestLease-1)}
	case toStep:
		return pair.StepProcedure{ID: id, Step: pair.StepRelease + pair.ProcedureStep(s.pick(5)),
			Timeout: choose(s, time.Second, 0, -time.Second), Cause: "fuzz"}
	case toEnd:
		return pair.EndProcedure{ID: id, Done: choose(s, true, false),
			Reason: choose(s, pair.ReasonNone, pair.ReasonAborted), Detail: "fuzz"}
	default:
		return pair.StartProcedure{Procedure: pair.Procedure{
			ID:    "p",
			Kind:  choose(s, pair.KindSwitchover, pair.KindFailover, pair.KindForced, pair.KindReinstate, pair.KindRemove, 0, 9),
			Step:  choose(s, pair.StepRelease, pair.StepWithhold, pair.StepFence, pair.StepPromote, pair.StepUnmanage, 0, 9),
			Epoch: r.Epoch + choose(s, pair.Epoch(0), 0, 1), Target: choose(s, r.Mirror, r.Primary, "c"),
			Timeout: time.Second, AcceptLoss: choose(s, false, true), HostOff: choose(s, "", r.Primary),
		}}
	}
}

// anyPolicy is a profile or one with a duration that an operator should not have given.
func anyPolicy(s *source) pair.Policy {
	p, _ := pair.ProfilePolicy(choose(s, "default", "patient", "fast"))
	odd := choose(s, p.Lease, 0, -1, -1<<63, 1<<63-1, time.Millisecond, pair.MaximumLease, pair.MaximumLease+1)
	switch s.pick(7) {
	case 1:
		p.Lease = odd
	case 2:
		p.Guard = odd
	case 3:
		p.Heartbeat = odd
	case 4:
		p.MirrorTimeout = odd
	case 5:
		p.ReleaseTimeout = odd
	case 6:
		p.PromoteTimeout = odd
	}
	return p
}

// applyChecked applies one command and fails unless the outcome keeps every promise of Apply.
func applyChecked(t *testing.T, r pair.Record, c pair.Command, entry pair.Term) pair.Record {
	t.Helper()
	kept := deepCopy(r)
	next, facts, err := r.Apply(c, entry)
	again, factsAgain, errAgain := r.Apply(c, entry)
	if !reflect.DeepEqual(next, again) || !reflect.DeepEqual(facts, factsAgain) || !reflect.DeepEqual(err, errAgain) {
		t.Fatalf("%T twice on %+v:\n%+v %v %v\n%+v %v %v", c.Body, r, next, facts, err, again, factsAgain, errAgain)
	}
	if !reflect.DeepEqual(r, kept) {
		t.Fatalf("%T wrote into the record it was applied to: %+v, was %+v", c.Body, r, kept)
	}
	if err != nil {
		refusal, ok := err.(*pair.Refusal) // one, and not one wrapped
		if !ok || refusal.Reason == "" || refusal.Detail == "" || facts != nil || !reflect.DeepEqual(next, r) {
			t.Fatalf("%T refused by %#v with facts %v: %+v, was %+v", c.Body, err, facts, next, r)
		}
		return r
	}
	checkTransition(t, r, c, next)
	checkRecord(t, next)
	checkFacts(t, c, next, facts)
	return next
}

func deepCopy(r pair.Record) pair.Record {
	if r.Procedure != nil {
		p := *r.Procedure
		r.Procedure = &p
	}
	if r.Last != nil {
		o := *r.Last
		r.Last = &o
	}
	return r
}

// checkTransition holds an accepted command against what it may change.
func checkTransition(t *testing.T, r pair.Record, c pair.Command, next pair.Record) {
	t.Helper()
	_, note := c.Body.(pair.Note)
	_, restore := c.Body.(pair.Restore)
	_, create := c.Body.(pair.Create)
	_, arm := c.Body.(pair.Arm)
	_, promote := c.Body.(pair.Promote)
	_, adopt := c.Body.(pair.Adopt)
	replace, replaced := c.Body.(pair.ReplaceMirror)
	switch {
	case note && next.Revision != r.Revision, !note && next.Revision <= r.Revision,
		!note && !restore && next.Revision != r.Revision+1:
		t.Fatalf("%T took revision %v to %v", c.Body, r.Revision, next.Revision)
	case next.Epoch < r.Epoch, next.Epoch != r.Epoch && !pair.MovesEpoch(c.Body):
		t.Fatalf("%T took epoch %d to %d", c.Body, r.Epoch, next.Epoch)
	case !create && (next.ID != r.ID || next.Name != r.Name):
		t.Fatalf("%T renamed %s %s to %s %s", c.Body, r.ID, r.Name, next.ID, next.Name)
	case next.Primary != r.Primary && !create && (!promote && !adopt || next.Epoch == r.Epoch):
		t.Fatalf("%T made %s primary in epoch %d", c.Body, next.Primary, next.Epoch)
	case next.Mirror != r.Mirror && next.Mirror != r.Primary && !create && (!replaced || next.Mirror != replace.Member.Host):
		t.Fatalf("%T made %s mirror", c.Body, next.Mirror)
	case next.Right == pair.RightLeased && r.Right != pair.RightLeased && !arm:
		t.Fatalf("%T made the right leased (R8)", c.Body)
	case promote && next.Right != r.Right:
		t.Fatalf("a promotion took the right from %v to %v", r.Right, next.Right)
	case next.Changed < r.Changed || next.EpochChanged < r.EpochChanged:
		t.Fatalf("%T took the history's clock back from %d, %d to %d, %d", c.Body,
			r.Changed, r.EpochChanged, next.Changed, next.EpochChanged)
	}
}

// checkRecord is what is true of every record that Apply has made.
func checkRecord(t *testing.T, r pair.Record) {
	t.Helper()
	a, z := r.Members[0].Host, r.Members[1].Host
	p := r.Procedure
	switch {
	case r.ID == "" || r.Name == "" || a == "" || z == "" || a == z:
		t.Fatalf("nameless: %+v", r)
	case !(r.Primary == a && r.Mirror == z) && !(r.Primary == z && r.Mirror == a):
		t.Fatalf("primary %s and mirror %s are not hosts %s and %s", r.Primary, r.Mirror, a, z)
	case r.Stage.String() == "unspecified" || r.Mode.String() == "unspecified" || r.Right.String() == "unspecified":
		t.Fatalf("stage %v, mode %v, right %v", r.Stage, r.Mode, r.Right)
	case len(r.Policy.Validate()) > 0 || r.Policy.Lease <= 0 || r.LongestLease < r.Policy.Lease:
		t.Fatalf("policy %+v, longest lease %v: %v", r.Policy, r.LongestLease, r.Policy.Validate())
	case r.Stage == pair.StageForming && (r.Epoch != 0 || r.Right != pair.RightSole || p != nil):
		t.Fatalf("forming with epoch %d, right %v, procedure %v", r.Epoch, r.Right, p)
	case (r.Stage == pair.StageReady || r.Stage == pair.StageRestored) && r.Epoch == 0:
		t.Fatalf("%v without an epoch", r.Stage)
	case r.Stage == pair.StageRemoved && (p != nil || r.Right != pair.RightSole):
		t.Fatalf("removed with right %v, procedure %v", r.Right, p)
	case r.Right == pair.RightLeased && r.Mode != pair.ModeAutomatic:
		t.Fatalf("leased in mode %v", r.Mode)
	case p != nil && (p.Kind.String() == "unspecified" || p.Step.String() == "unspecified" || p.Epoch > r.Epoch):
		t.Fatalf("procedure %+v in epoch %d", p, r.Epoch)
	}
}

// checkFacts: each accepted command says one thing, in full.
func checkFacts(t *testing.T, c pair.Command, r pair.Record, facts []pair.Fact) {
	t.Helper()
	if len(facts) != 1 {
		t.Fatalf("%T made %d facts: %v", c.Body, len(facts), facts)
	}
	f := facts[0]
	if f.Kind == "" || f.Pair != r.ID || f.PairName != r.Name || f.Revision != r.Revision || f.Epoch != r.Epoch ||
		f.Cause == "" || f.String() == "" {
		t.Fatalf("%T made fact %+v of %+v", c.Body, f, r)
	}
}

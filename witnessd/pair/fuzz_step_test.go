package pair_test

import (
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/witnessd/witnessd/witnessd/pair"
)

// FuzzStep drives a leader through events that nobody honest need have sent, in any order: no party may bring it
// to break what it promises, or to its end.
func FuzzStep(f *testing.F) {
	armed := [][]byte{
		{hears}, {settles}, {hears, 0, 1}, {settles}, {confirms}, {hears, 0, 0, 0, 1}, {settles}, {hears, 0, 1}, {confirms},
	}
	for _, rest := range [][][]byte{
		{{waits, 200}, {hears, 0, 1}, {confirms}, {settles}, {confirms}, {hears, 0, 0}, {settles}}, // failover
		{{hears, 0, 0, 0, 0, 0, 2}, {hears, 0, 1}, {confirms}, {settles}, {hears, 0, 1}},           // release
		{{asks}, {settles}, {hears, 0, 0, 0, 0, 0, 2}, {hears, 0, 1}, {settles}},
		{{asks, 1}, {settles}, {waits, 255}, {fences}, {settles}},
		{{asks, 2}, {settles}, {waits, 255}, {settles}},
		{{elects}, {hears}, {hears, 0, 1}, {confirms}},
		{{ordered, toRestore}, {hears}, {hears, 0, 1}, {waits, 200}, {hears}, {hears, 0, 1}, {settles}, {confirms}},
		{{tells}, {settles}, {tells, 1}, {hears}, {settles, 1}, {tells, 0, 0, 2}, {settles}}, // hooks
	} {
		f.Add(script(append(slices.Clip(armed), rest...)...))
	}
	f.Fuzz(func(t *testing.T, input []byte) {
		l := newChair(t)
		for _, s := range steps(input) {
			l.play(s)
		}
	})
}

// The places of the events in play, for seeds.
const (
	hears byte = iota
	confirms
	waits
	asks
	settles
	fences
	elects
	ordered
	tells
)

// chair is a leader that is told anything, with the record that its commands have made.
type chair struct {
	t       *testing.T
	r       pair.Record
	w       pair.Watch
	now     pair.Instant
	seq     uint64
	pending *pair.Propose
}

func newChair(t *testing.T) *chair {
	l := &chair{t: t, r: applied(forming(), pair.Begin{}), now: pair.Instant(time.Hour)}
	l.w = pair.NewWatch(l.r, 1, l.now)
	return l
}

func (l *chair) play(s *source) {
	switch byte(s.pick(int(tells) + 1)) {
	case hears:
		l.step(pair.Heard{Report: l.report(s), Receipt: l.now.Add(-choose(s, 0, time.Millisecond, time.Minute))})
	case confirms:
		l.step(pair.Confirmed{Host: choose(s, l.r.Primary, l.r.Mirror, "c", ""), AskLease: choose(s, true, false),
			Receipt: l.now.Add(-choose(s, 0, time.Millisecond, time.Minute))})
	case waits:
		l.now = l.now.Add(time.Duration(s.pick(256)) * 50 * time.Millisecond)
		l.step(pair.Tick{})
	case asks:
		l.ask(s)
	case settles:
		l.settle(s)
	case fences:
		id := choose(s, "p", "", "other")
		if l.r.Procedure != nil {
			id = choose(s, l.r.Procedure.ID, id)
		}
		l.step(pair.FenceDone{Procedure: id, OK: choose(s, true, false), Detail: "fuzz"})
	case tells:
		l.step(pair.Hooked{Host: choose(s, l.r.Primary, l.r.Mirror, "c", ""), Start: choose(s, "1", "2", ""),
			Hooks: hooks(choose(s, uint64(1), 0, 2, 1<<64-1), choose(s, uint64(2), 1))})
	case elects:
		l.pending = nil
		l.w = pair.NewWatch(l.r, l.w.Term+1, l.now)
	default:
		// The log brings what an earlier leader decided; procedures that no leader begins are not among that.
		switch c, _ := anyCommand(s, l.r); c.Body.(type) {
		case pair.Note, pair.StartProcedure, pair.StepProcedure:
		default:
			l.apply(c)
		}
	}
}

// report is what a host may say, honest or not.
func (l *chair) report(s *source) pair.Report {
	l.seq += choose(s, uint64(1), 0, 1)
	host := choose(s, l.r.Primary, l.r.Mirror, "c", "")
	extreme := choose(s, 0, time.Second, -1<<63, 1<<63-1)
	r := pair.Report{
		Host: host, Start: "1", Sequence: l.seq, TermHeard: l.w.Term, FileKnown: true,
		Epoch: l.r.Epoch, Revision: l.r.Revision, LongestLease: l.r.LongestLease, AskLease: true, HearsPartner: true,
		Request:         choose(s, pair.RequestNone, pair.RequestArm, pair.RequestExpose, 9),
		RequestRevision: l.r.Revision, EpochPrimary: l.r.Primary,
		Engine: pair.Engine{Running: true, Promotable: true, Following: true, SystemID: "7", Role: "primary"},
		Member: pair.Member{Host: host, Instance: "db", LinkAddress: "x:1", SystemID: choose(s, "7", "8", "")},
	}
	switch s.pick(12) {
	case 1:
		r.Start, r.Sequence = choose(s, "2", "", "1"), choose(s, uint64(0), 1<<64-1)
	case 2:
		r.Released, r.ReleasedEverything = l.r.Epoch, choose(s, true, false)
		r.PartnerReleased, r.PartnerReleasedEverything = l.r.Epoch, r.ReleasedEverything
	case 3:
		r.Epoch = choose(s, 0, l.r.Epoch-1, l.r.Epoch+1)
	case 4:
		r.Revision, r.RequestRevision = choose(s, 0, l.r.Revision-1, l.r.Revision+1, 1<<64-1), choose(s, 0, l.r.Revision+1)
	case 5:
		r.Promise, r.LongestLease, r.ServesFor = extreme, extreme, -extreme
	case 6:
		r.Serving, r.Unmanaged, r.OtherRight = choose(s, true, false), choose(s, true, false), choose(s, true, false)
	case 7:
		r.FileKnown, r.TermHeard = choose(s, false, true), choose(s, 0, l.w.Term+1, 1<<64-1)
	case 8:
		r.Engine = pair.Engine{NotPromotable: "fuzz", Position: 1<<64 - 1, MirrorFlushed: 1<<64 - 1}
	case 9:
		// The host is the session's, whatever the agent says.
		r.Member = pair.Member{Host: host, Instance: choose(s, "", "other", "db"), LinkAddress: choose(s, "", "x:2")}
	case 10:
		r.EpochPrimary = choose(s, l.r.Mirror, "c", "")
	}
	return r
}

// ask has an operator ask for anything; exactly one thing comes of it.
func (l *chair) ask(s *source) {
	which := s.pick(8)
	revision, epoch := choose(s, 0, l.r.Revision, l.r.Revision-1, 0), choose(s, pair.Epoch(0), l.r.Epoch, l.r.Epoch+1)
	off := choose(s, "", l.r.Primary, l.r.Mirror, "c")
	wish := []pair.Wish{
		pair.WishSwitchover{Target: choose(s, "", l.r.Mirror, l.r.Primary, "c")},
		pair.WishForce{AcceptLoss: choose(s, true, false), HostOff: off, CanFence: choose(s, true, false)},
		pair.WishRemove{HostOff: off}, pair.WishSpeak{Host: choose(s, l.r.Primary, l.r.Mirror, "c")},
		pair.WishCommand{Body: pair.SetMode{Mode: choose(s, pair.ModeManual, pair.ModeObserve)}},
		pair.WishCommand{Body: pair.SetMode{Mode: pair.ModeAutomatic}},
		pair.WishCommand{Body: pair.SetPolicy{Policy: anyPolicy(s)}},
		pair.WishCommand{Body: pair.ReplaceMirror{Member: pair.Member{Host: "c", Instance: "db"}}},
	}[which]
	outcomes := 0
	for _, act := range l.step(pair.Ask{Token: 7, Revision: revision, Epoch: epoch, Wish: wish}) {
		switch a := act.(type) {
		case pair.Propose:
			outcomes++
			if a.Token != 7 {
				l.t.Fatalf("%+v led to %T that nobody waits for", wish, a.Command.Body)
			}
		case pair.Reply:
			outcomes++
			if a.Token != 7 || a.Refusal != nil && (a.Refusal.Reason == "" || a.Refusal.Detail == "") {
				l.t.Fatalf("%+v was answered by %+v", wish, a)
			}
		}
	}
	if outcomes != 1 {
		l.t.Fatalf("%+v has %d outcomes", wish, outcomes)
	}
}

// settle ends what is pending: applied or dropped.
func (l *chair) settle(s *source) {
	p := l.pending
	switch {
	case p == nil:
		return
	case choose(s, true, false):
		l.apply(p.Command)
	}
	if l.pending != nil {
		l.pending = nil
		l.step(pair.Dropped{})
	}
}

func (l *chair) apply(c pair.Command) {
	before := l.r
	l.r = applyChecked(l.t, l.r, c, c.Term)
	if l.r.Revision == before.Revision {
		return
	}
	l.pending = nil
	l.step(pair.Applied{Before: before, Body: c.Body})
}

// step checks what is true of every single step, whoever lied in the events before.
func (l *chair) step(ev pair.Event) []pair.Action {
	l.t.Helper()
	undecided := l.w.Pending.Active && l.w.Pending.MovesEpoch
	wasPending := l.w.Pending.Active
	w, acts := pair.Step(l.r, l.w, ev, l.now)
	again, actsAgain := pair.Step(l.r, l.w, ev, l.now)
	if !reflect.DeepEqual(w, again) || !reflect.DeepEqual(acts, actsAgain) {
		l.t.Fatalf("%+v twice: %+v and %+v", ev, acts, actsAgain)
	}
	l.w = w
	for _, act := range acts {
		switch a := act.(type) {
		case pair.Answer:
			if a.Lease != 0 && (a.Lease < 0 || a.Lease > l.r.LongestLease || undecided || a.Mute ||
				a.Host != l.r.Primary || l.r.Stage != pair.StageReady || w.Pending.Active && w.Pending.MovesEpoch) {
				l.t.Fatalf("%+v led to lease %+v", ev, a)
			}
		case pair.Propose:
			c := a.Command
			if l.pending != nil || wasPending && !settling(ev) || !w.Pending.Active || c.Revision != l.r.Revision ||
				c.Term != w.Term || c.Pair != l.r.ID || w.Pending.MovesEpoch != pair.MovesEpoch(c.Body) {
				l.t.Fatalf("%+v led to proposal %+v with %+v pending", ev, c, l.pending)
			}
			if _, _, err := l.r.Apply(c, c.Term); err != nil && a.Token == 0 {
				l.t.Fatalf("%+v led to a proposal that must be refused: %T: %v", ev, c.Body, err)
			}
			l.pending = &a
		}
	}
	l.explain()
	return acts
}

// settling says whether an event ends what was pending before it.
func settling(ev pair.Event) bool {
	switch ev.(type) {
	case pair.Applied, pair.Dropped:
		return true
	default:
		return false
	}
}

// explain asks everything that an operator can ask: each no has a reason.
func (l *chair) explain() {
	for _, v := range pair.Explain(l.r, l.w, l.now) {
		if v.Question == "" || v.String() == "" || v.OK() && v.Refusal() != nil {
			l.t.Fatalf("verdict %+v", v)
		}
		for _, p := range v.Preconditions {
			if p.OK != (p.Reason == "") || p.Name == "" || p.Detail == "" {
				l.t.Fatalf("%s: precondition %+v", v.Question, p)
			}
		}
	}
}

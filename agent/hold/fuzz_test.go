package hold_test

import (
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/witnessd/witnessd/agent/hold"
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

// eventBytes is how much input one event is made of.
const eventBytes = 12

// The places of the events in play, for seeds.
const (
	witness byte = iota
	look
	done
	passes
	answers
	partnerAsks
	exits
	fenced
	forgets
	restarts
)

// FuzzStep plays a host to which everybody says anything, in any order. What it must never do does not depend on
// who lies: to open without a right, to open again what it gave back, to act on what is not on disk, to forget.
func FuzzStep(f *testing.F) {
	seed := func(lines ...[]byte) {
		var input []byte
		for _, line := range lines {
			input = append(append(input, line...), make([]byte, eventBytes-len(line))...)
		}
		f.Add(input)
	}
	serves := [][]byte{{passes, 250}, {look}, {witness}, {done}, {look}, {done}, {look}, {witness, 1}}
	with := func(lines ...[]byte) [][]byte { return append(slices.Clip(serves), lines...) }
	seed(with([]byte{passes, 200}, []byte{passes, 255}, []byte{fenced})...)
	seed(with([]byte{exits}, []byte{witness, 1}, []byte{look})...)
	seed(with([]byte{witness, 1, 0, 0, 0, 1}, []byte{done}, []byte{witness, 1, 0, 1}, []byte{partnerAsks, 1})...)
	seed(with([]byte{answers}, []byte{passes, 100}, []byte{answers}, []byte{restarts}, []byte{witness})...)
	seed(with([]byte{witness, 1, 0, 0, 0, 4}, []byte{done}, []byte{forgets}, []byte{witness})...)
	f.Fuzz(func(t *testing.T, input []byte) {
		h := &fuzzHost{t: t, now: hold.Instant(time.Hour), disk: fileOf("a", 1, "a")}
		h.s = hold.New("a", h.disk, true, hold.Mark{}, h.now)
		for i := 0; i < len(input) && i < 64*eventBytes; i += eventBytes {
			h.play(&source{left: input[i:min(i+eventBytes, len(input))]})
		}
	})
}

// fuzzHost is the host a with its disk, its fence and its engine's last order.
type fuzzHost struct {
	t     *testing.T
	s     hold.State
	now   hold.Instant
	disk  hold.File
	fence hold.Renew // zero: shut
	do    hold.Do
}

func (h *fuzzHost) play(s *source) {
	sent := h.now.Add(-choose(s, 0, time.Millisecond, time.Second, time.Hour, -time.Second))
	switch byte(s.pick(int(restarts) + 1)) {
	case witness:
		h.step(h.record(s, sent))
	case look:
		h.step(hold.EngineSeen{Engine: h.engine(s)})
	case done:
		op := choose(s, h.do.Op, h.do.Op, hold.OpPromote, hold.OpStop, hold.OpLetGo)
		h.step(hold.EngineDone{Op: op, ID: h.do.ID + choose(s, uint64(0), 0, 1), Engine: h.engine(s),
			Err: choose(s, "", "", "fuzz"), Cut: choose(s, false, false, true), Foreign: choose(s, false, true),
			Everything: choose(s, true, false)})
	case passes:
		h.now = h.now.Add(time.Duration(s.pick(256)) * 20 * ms)
		h.step(hold.Tick{})
	case answers:
		h.step(hold.PartnerAnswered{Sent: sent, Host: choose(s, "b", "a", "c", ""), Says: h.says(s)})
	case partnerAsks:
		h.step(hold.PartnerAsked{Token: 3, Host: choose(s, "b", "a", "c", ""), Says: h.says(s)})
	case exits:
		h.step(hold.EngineExited{Reason: "fuzz"})
	case fenced:
		h.fence = hold.Renew{}
		h.step(hold.Fenced{Why: "fuzz"})
	case forgets:
		h.step(hold.Forget{})
	default:
		mark := choose(s, hold.Mark{}, hold.Mark(h.fence), hold.Mark{Epoch: h.disk.Epoch, Until: h.now.Add(time.Second)})
		known := h.disk != hold.File{}
		h.s = hold.New("a", h.disk, known, mark, h.now)
		h.fence, h.do = hold.Renew{}, hold.Do{}
	}
}

// record is what the witness may say and what the link lets through: lengths are bounded there.
func (h *fuzzHost) record(s *source, sent hold.Instant) hold.WitnessSays {
	length := choose(s, lease, 0, ms, 365*24*time.Hour)
	w := hold.WitnessSays{
		Sent: sent, Term: choose(s, uint64(1), 2, 1<<64-1), Revision: h.disk.Revision + choose(s, hold.Revision(0), 1, 2, 9),
		Epoch: max(h.disk.Epoch, 1), Primary: "a", Mirror: "b", Right: choose(s, hold.RightLeased, hold.RightSole),
		Automatic: true, Timing: timing(), Longest: lease, Name: "sales", Lease: lease,
		Peer:     hold.Peer{Host: "b", ServiceAddress: "db", LinkAddress: "link"},
		Ask:      choose(s, hold.AskNothing, hold.AskHandOver, hold.AskRelease, hold.AskWithhold, hold.AskUnmanage),
		AskEpoch: h.disk.Epoch,
	}
	switch s.pick(10) {
	case 1:
		w.Epoch += choose(s, hold.Epoch(1), 2, 1<<63)
		w.Primary, w.Mirror = choose(s, "b", "a"), choose(s, "a", "b")
	case 2:
		w.Epoch, w.Revision = choose(s, w.Epoch, w.Epoch-1, 0), choose(s, 0, h.disk.Revision-1, w.Revision)
	case 3:
		w.Lease, w.Longest = 0, length
	case 4:
		w.Lease, w.Longest = length, length
	case 5:
		w.Released = choose(s, h.disk.Epoch, h.disk.Epoch+1, h.disk.Epoch-1)
	case 6:
		w.Primary, w.Mirror = choose(s, "c", "b", ""), choose(s, "", "c", "a")
	case 7:
		w.Peer = choose(s, hold.Peer{}, hold.Peer{Host: "c", ServiceAddress: "other"})
	case 8:
		w.Automatic, w.AskEpoch = choose(s, false, true), choose(s, 0, h.disk.Epoch+1)
	case 9:
		w.Timing = hold.Timing{Heartbeat: choose(s, ms, length+1), Lease: length + 2, Guard: ms, MirrorTimeout: ms}
	}
	return w
}

func (h *fuzzHost) says(s *source) hold.Says {
	r := hold.Says{Pair: choose(s, "p1", "p2"), Epoch: h.disk.Epoch, Primary: h.disk.Primary, Revision: h.disk.Revision,
		Longest: lease, AskLease: true, Lease: choose(s, lease, 0, 365*24*time.Hour)}
	switch s.pick(6) {
	case 1:
		r.Epoch, r.Primary = h.disk.Epoch+choose(s, hold.Epoch(1), 1<<63), choose(s, "a", "b", "c", "")
	case 2:
		r.Released, r.ReleasedEverything = choose(s, h.disk.Epoch, h.disk.Epoch+1), choose(s, true, false)
	case 3:
		r.ReleaseAsked, r.Revision = h.disk.Epoch, h.disk.Revision+choose(s, hold.Revision(1), 0, 1<<63)
	case 4:
		r.Longest = choose(s, 365*24*time.Hour, 0)
	case 5:
		r.Engine = hold.Engine{Role: choose(s, hold.RolePrimary, hold.RoleMirror), Running: true}
	}
	return r
}

func (h *fuzzHost) engine(s *source) hold.Engine {
	e := hold.Engine{Began: h.now.Add(-choose(s, 0, time.Second, -time.Second)), Running: choose(s, true, true, false),
		Run: choose(s, "1", "2", ""), SystemID: choose(s, "7", "8", ""), Promotable: true, Position: 100, MirrorFlushed: 100,
		Role:    choose(s, hold.RolePrimary, hold.RoleMirror, hold.RoleNone),
		Commits: choose(s, hold.CommitsHeld, hold.CommitsAlone, hold.CommitsUnknown), MirrorAttached: true}
	switch s.pick(4) {
	case 1:
		e.MirrorAttached, e.MirrorFlushed = false, 0
	case 2:
		e.Position, e.MirrorFlushed = 1<<64-1, choose(s, uint64(0), 1<<64-1)
	case 3:
		e.Following, e.Promotable, e.Empty = choose(s, true, false), false, choose(s, true, false)
	}
	return e
}

// step carries the actions out in order and fails at the first that must not be.
func (h *fuzzHost) step(ev hold.Event) {
	h.t.Helper()
	before := h.s
	next, acts := hold.Step(before, ev, h.now)
	if again, actsAgain := hold.Step(before, ev, h.now); !reflect.DeepEqual(next, again) || !reflect.DeepEqual(acts, actsAgain) {
		h.t.Fatalf("%+v twice: %+v and %+v", ev, acts, actsAgain)
	}
	h.s = next
	if _, forgotten := ev.(hold.Forget); forgotten {
		// The tombstone takes everything along; another pair would have another file.
		h.disk, h.fence, h.do = hold.File{}, hold.Renew{}, hold.Do{}
		return
	}
	begun := 0
	for _, act := range acts {
		switch act := act.(type) {
		case hold.Save:
			h.saved(act.File)
		case hold.Renew:
			if h.disk.Primary != "a" || act.Epoch != h.disk.Epoch || h.disk.Released >= act.Epoch ||
				!act.Endless && act.Until <= h.now {
				h.t.Fatalf("%+v: %+v with %+v on disk at %v", ev, act, h.disk, h.now)
			}
			h.fence = act
		case hold.Fence:
			h.fence = hold.Renew{}
		case hold.Do:
			if h.do = act; act.Op != hold.OpNone {
				begun++
			}
			if act.Op == hold.OpPromote && (h.disk.Primary != "a" || h.fence == (hold.Renew{})) {
				h.t.Fatalf("%+v: promotes with %+v on disk and fence %+v", ev, h.disk, h.fence)
			}
		case hold.ReplyPartner:
			if act.Says.Lease > 0 && (h.disk.Primary != "b" || h.disk.Mirror != "a" || act.Says.Epoch != h.disk.Epoch) {
				h.t.Fatalf("%+v: granted %+v with %+v on disk", ev, act.Says, h.disk)
			}
		}
	}
	h.rest(ev, begun)
}

// saved: the file never goes back.
func (h *fuzzHost) saved(f hold.File) {
	if f.Epoch < h.disk.Epoch || f.Released < h.disk.Released || f.Revision < h.disk.Revision {
		h.t.Fatalf("file went back from %+v to %+v", h.disk, f)
	}
	h.disk = f
}

// rest is what is true after every step.
func (h *fuzzHost) rest(ev hold.Event, begun int) {
	until, endless, ok := h.s.ServeUntil(h.now)
	r := h.s.Report(h.now)
	switch {
	case h.s.Known && h.disk != h.s.File:
		h.t.Fatalf("%+v: %+v is not on disk, which has %+v", ev, h.s.File, h.disk)
	case begun > 1:
		h.t.Fatalf("%+v began %d operations", ev, begun)
	case ok && h.fence != hold.Renew{Epoch: h.disk.Epoch, Until: until, Endless: endless}:
		h.t.Fatalf("%+v: serves until %v, endless %t, and the fence knows %+v", ev, until, endless, h.fence)
	case !ok && (h.fence.Endless || h.fence.Until > h.now):
		h.t.Fatalf("%+v: no right, and the fence knows %+v at %v", ev, h.fence, h.now)
	case r.Serving && !ok, r.AskLease && h.disk.Primary != "a", r.Promise < 0:
		h.t.Fatalf("%+v: reports %+v", ev, r)
	case r.Request == hold.RequestArm && h.fence.Endless:
		h.t.Fatalf("%+v: asks to arm with an endless fence", ev)
	}
	h.s.Status(h.now)
	h.s.OtherRight(h.now)
}

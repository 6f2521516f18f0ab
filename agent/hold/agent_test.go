package hold_test

import (
	"slices"
	"testing"
	"time"

	"github.com/witnessd/witnessd/agent/hold"
)

const (
	ms    = time.Millisecond
	lease = 3 * time.Second
	guard = 300 * ms
)

func timing() hold.Timing {
	return hold.Timing{Heartbeat: 500 * ms, Lease: lease, Guard: guard, MirrorTimeout: 2 * time.Second}
}

// fileOf is the epoch file of host a or b in an epoch of that primary.
func fileOf(self string, epoch hold.Epoch, primary string) hold.File {
	f := hold.File{Pair: "p1", Name: "sales", Epoch: epoch, Primary: primary, Mirror: other(primary), Revision: 10,
		Longest: lease, Timing: timing(), Peer: hold.Peer{Host: other(self), ServiceAddress: "db", LinkAddress: "link"}}
	if epoch == 0 {
		f.Revision = 1
	}
	return f
}

func other(host string) string {
	if host == "a" {
		return "b"
	}
	return "a"
}

// agent steps one host's state in virtual time and keeps its disk, its fence and its engine's last order.
type agent struct {
	t    *testing.T
	s    hold.State
	base hold.Instant
	now  hold.Instant

	acts   []hold.Action // of the last step
	disk   hold.File
	saved  bool
	fence  hold.Renew // as last told; zero: shut
	fences int
	do     hold.Do
	dos    []hold.Op
	notes  []string
	engine hold.Engine // as the next look will show it
}

// start is a start of the agent with this file; its clock has run for an hour.
func start(t *testing.T, self string, file hold.File, mark hold.Mark) *agent {
	t.Helper()
	now := hold.Instant(time.Hour)
	a := &agent{t: t, base: now, now: now, disk: file, saved: true}
	a.s = hold.New(self, file, true, mark, now)
	a.engine = hold.Engine{Running: true, Run: "1", Role: hold.RoleMirror, SystemID: "7", Promotable: true,
		Following: true, Position: 100}
	return a
}

// blank is a first start: there is no file.
func blank(t *testing.T, self string) *agent {
	t.Helper()
	a := start(t, self, hold.File{}, hold.Mark{})
	a.s = hold.New(self, hold.File{Pair: "p1"}, false, hold.Mark{}, a.now)
	a.saved = false
	return a
}

func (a *agent) at(d time.Duration) { a.now = a.base.Add(d) }
func (a *agent) mark() *agent       { a.base = a.now; return a }

func (a *agent) step(ev hold.Event) []hold.Action {
	a.t.Helper()
	a.s, a.acts = hold.Step(a.s, ev, a.now)
	for _, act := range a.acts {
		switch act := act.(type) {
		case hold.Save:
			a.disk, a.saved = act.File, true
		case hold.Renew:
			a.fence = act
		case hold.Fence:
			a.fence = hold.Renew{}
			a.fences++
			a.engine.Running, a.engine.Role, a.engine.MirrorAttached = false, hold.RoleNone, false
		case hold.Do:
			a.do = act
			a.dos = append(a.dos, act.Op)
		case hold.Note:
			a.notes = append(a.notes, act.Text)
		}
	}
	if a.s.Known && a.disk != a.s.File {
		a.t.Fatalf("%T: the file is not on disk: %+v, on disk %+v", ev, a.s.File, a.disk)
	}
	return a.acts
}

// answer is what the witness says to a request that is sent now and answered now, unless changed.
func (a *agent) answer(changes ...func(*hold.WitnessSays)) []hold.Action {
	a.t.Helper()
	says := hold.WitnessSays{
		Sent: a.now, Term: 1, Revision: max(a.disk.Revision, 2), Epoch: max(a.disk.Epoch, 1), Primary: "a", Mirror: "b",
		Right: hold.RightLeased, Automatic: true, Timing: timing(), Longest: lease, Name: "sales",
		Peer: hold.Peer{Host: other(a.s.Self), ServiceAddress: "db", LinkAddress: "link"},
	}
	if a.disk.Epoch > 0 {
		says.Primary, says.Mirror = a.disk.Primary, a.disk.Mirror
	}
	if says.Primary == a.s.Self {
		says.Lease = lease
	}
	for _, change := range changes {
		change(&says)
	}
	return a.step(says)
}

func sole(s *hold.WitnessSays)    { s.Right = hold.RightSole }
func later(s *hold.WitnessSays)   { s.Revision++ }
func noLease(s *hold.WitnessSays) { s.Lease = 0 }
func manual(s *hold.WitnessSays)  { s.Right, s.Automatic = hold.RightSole, false }
func newEpoch(p string) func(*hold.WitnessSays) {
	return func(s *hold.WitnessSays) {
		s.Epoch, s.Primary, s.Mirror, s.Lease = s.Epoch+1, p, other(p), 0
		s.Revision++
	}
}

func asked(what hold.Ask) func(*hold.WitnessSays) {
	return func(s *hold.WitnessSays) { s.Ask, s.AskEpoch = what, s.Epoch; s.Revision++ }
}

// looks is a look at the engine that begins now.
func (a *agent) looks(changes ...func(*hold.Engine)) []hold.Action {
	a.t.Helper()
	for _, change := range changes {
		change(&a.engine)
	}
	a.engine.Began = a.now
	return a.step(hold.EngineSeen{Engine: a.engine})
}

// finish is the end of the operation that runs, with the effect that it should have.
func (a *agent) finish(changes ...func(*hold.EngineDone)) []hold.Action {
	a.t.Helper()
	if a.do.Op == hold.OpNone {
		a.t.Fatal("no operation runs")
	}
	done := hold.EngineDone{Op: a.do.Op, ID: a.do.ID}
	for _, change := range changes {
		change(&done)
	}
	e := &a.engine
	if done.Err == "" {
		switch a.do.Op {
		case hold.OpFollow:
			e.Running, e.Role, e.Following, e.Commits = true, hold.RoleMirror, true, hold.CommitsUnknown
		case hold.OpPromote:
			e.Running, e.Role, e.Following, e.Commits = true, hold.RolePrimary, false, hold.CommitsHeld
		case hold.OpHold:
			e.Commits = hold.CommitsHeld
		case hold.OpReleaseCommits:
			e.Commits = hold.CommitsAlone
		case hold.OpHandOver, hold.OpStop:
			e.Running, e.Role, e.MirrorAttached, e.Commits = false, hold.RoleNone, false, hold.CommitsUnknown
		case hold.OpLetGo, hold.OpNone:
		}
	}
	a.do = hold.Do{}
	e.Began = a.now
	done.Engine = *e
	return a.step(done)
}

func failed(d *hold.EngineDone)     { d.Err = "it failed" }
func everything(d *hold.EngineDone) { d.Everything = true }

// attached says that the mirror receives changes and has all of them.
func attached(e *hold.Engine) { e.MirrorAttached, e.MirrorFlushed = true, e.Position }
func detached(e *hold.Engine) { e.MirrorAttached, e.MirrorFlushed = false, 0 }

// primaryOf is a host that serves epoch 1 as leased primary, with its mirror attached.
func leasedPrimary(t *testing.T) *agent {
	t.Helper()
	a := start(t, "a", fileOf("a", 1, "a"), hold.Mark{})
	a.at(lease) // the promise that a new start assumes is over
	a.looks()
	a.answer()
	a.finish() // promote
	a.looks(attached)
	a.finish() // hold
	a.at(lease + 100*ms)
	a.looks()
	a.answer()
	a.mark()
	a.wantServing(true)
	return a
}

// solePrimary is a host that serves epoch 1 alone.
func solePrimary(t *testing.T) *agent {
	t.Helper()
	a := start(t, "a", fileOf("a", 1, "a"), hold.Mark{})
	a.at(lease)
	a.looks()
	a.answer(sole)        // asks to expose
	a.answer(sole, later) // exposed
	a.finish()            // promote
	a.finish()            // release commits
	a.mark()
	a.wantServing(true)
	return a
}

// armable is a sole primary whose mirror has everything, so that it asks to arm.
func armable(t *testing.T) *agent {
	t.Helper()
	a := solePrimary(t)
	for range 40 {
		a.now = a.now.Add(100 * ms)
		a.answer(sole)
		if a.looks(attached); a.do.Op == hold.OpHold {
			a.finish()
		}
		if a.report().Request == hold.RequestArm {
			return a.mark()
		}
	}
	t.Fatal("it does not ask to arm")
	return nil
}

func (a *agent) report() hold.Report { return a.s.Report(a.now) }

func (a *agent) wantServing(want bool) {
	a.t.Helper()
	if got := a.report().Serving; got != want {
		a.t.Fatalf("serving: %t, want %t", got, want)
	}
}

// has finds an action of a type in the last step.
func has[T hold.Action](a *agent) bool {
	return slices.ContainsFunc(a.acts, func(act hold.Action) bool { _, ok := act.(T); return ok })
}

// get returns the first action of a type in the last step.
func get[T hold.Action](a *agent) (found T) {
	for _, act := range a.acts {
		if act, ok := act.(T); ok {
			return act
		}
	}
	return found
}

// asks is a request of the partner, and the answer to it.
func (a *agent) asks(changes ...func(*hold.Says)) hold.Says {
	a.t.Helper()
	says := hold.Says{Pair: "p1", Epoch: a.disk.Epoch, Primary: a.disk.Primary, Revision: a.disk.Revision, Longest: lease,
		AskLease: true}
	for _, change := range changes {
		change(&says)
	}
	a.step(hold.PartnerAsked{Token: 3, Host: other(a.s.Self), Says: says})
	reply := get[hold.ReplyPartner](a)
	if reply.Token != 3 {
		a.t.Fatalf("no reply: %v", a.acts)
	}
	return reply.Says
}

// vouches is the partner's answer with a lease to a request that was sent at that instant.
func (a *agent) vouches(sent hold.Instant, changes ...func(*hold.PartnerAnswered)) {
	a.t.Helper()
	e := hold.PartnerAnswered{Sent: sent, Host: other(a.s.Self), Says: hold.Says{
		Pair: "p1", Epoch: a.disk.Epoch, Primary: a.disk.Primary, Revision: a.disk.Revision, Longest: lease, Lease: lease,
	}}
	for _, change := range changes {
		change(&e)
	}
	a.step(e)
}

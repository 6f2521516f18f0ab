package hold_test

import (
	"testing"
	"time"

	"github.com/witnessd/witnessd/agent/hold"
)

// TestExposeBeforeArmAfter is rule R8 from the primary's side.
func TestExposeBeforeArmAfter(t *testing.T) {
	t.Run("commits are held until the record says sole", func(t *testing.T) {
		a := leasedPrimary(t)
		a.looks(detached)
		for at := 200 * ms; at <= 2*time.Second; at += 200 * ms {
			a.at(at)
			a.looks()
			a.answer()
			if at < 2*time.Second && a.report().Request != hold.RequestNone {
				t.Fatalf("asks for %v after %v", a.report().Request, at)
			}
		}
		if r := a.report(); r.Request != hold.RequestExpose || r.RequestRevision != a.disk.Revision || r.RequestCause == "" {
			t.Fatalf("report %+v", r)
		}
		a.at(2100 * ms)
		a.looks()
		if a.engine.Commits != hold.CommitsHeld || a.do.Op != hold.OpNone {
			t.Fatalf("commits let go before the record says sole: %v", a.dos)
		}
		a.answer(sole, later)
		if a.do.Op != hold.OpReleaseCommits || !a.fence.Endless {
			t.Errorf("told %v, fence %+v", a.dos, a.fence)
		}
	})
	t.Run("mirror comes back in time: nothing is asked", func(t *testing.T) {
		a := leasedPrimary(t)
		a.looks(detached)
		a.at(1800 * ms)
		a.answer()
		a.looks(attached)
		a.at(2 * time.Second)
		a.looks()
		a.at(2200 * ms)
		a.looks()
		if a.report().Request != hold.RequestNone {
			t.Errorf("asks for %v", a.report().Request)
		}
	})
	t.Run("mirror that is attached and confirms nothing is lost too", func(t *testing.T) {
		a := leasedPrimary(t)
		a.looks()
		for at := 200 * ms; at <= 2200*ms; at += 200 * ms {
			a.at(at)
			a.looks(func(e *hold.Engine) { e.Position += 10 })
			a.answer()
		}
		if a.report().Request != hold.RequestExpose {
			t.Errorf("asks for %v", a.report().Request)
		}
	})
	t.Run("new primary exposes as soon as it is up, without a mirror time-out", func(t *testing.T) {
		a := start(t, "b", fileOf("b", 1, "a"), hold.Mark{})
		a.at(lease)
		a.looks()
		a.answer(newEpoch("b"))
		a.answer()
		if a.report().Request != hold.RequestNone {
			t.Fatal("asks before it is up: the old primary could not take over again")
		}
		a.finish()
		if r := a.report(); r.Request != hold.RequestExpose || a.engine.Commits != hold.CommitsHeld {
			t.Errorf("report %+v", r)
		}
	})
}

// TestArm: what must be proved before a primary asks to arm, in which order, and what it is from then on.
func TestArm(t *testing.T) {
	t.Run("from the instant it asks it is leased, the fence included", func(t *testing.T) {
		a := armable(t)
		r := a.report()
		if r.Request != hold.RequestArm || r.RequestRevision != a.disk.Revision {
			t.Fatalf("report %+v", r)
		}
		if a.fence.Endless || a.fence.Until == 0 {
			t.Errorf("fence is told %+v", a.fence)
		}
		for _, act := range a.acts {
			switch act.(type) {
			case hold.SendWitness:
				t.Error("told before the fence knew")
			case hold.Renew:
				return
			}
		}
	})
	t.Run("late answers that say sole are not acted on", func(t *testing.T) {
		a := armable(t)
		a.at(100 * ms)
		a.answer(sole, noLease)
		if a.fence.Endless {
			t.Error("an answer at the revision that the arm named was acted on")
		}
		a.at(lease)
		a.step(hold.Tick{})
		a.wantServing(false)
	})
	t.Run("an answer of a higher revision that says sole is", func(t *testing.T) {
		a := armable(t)
		a.at(100 * ms)
		a.answer(sole, later)
		if !a.fence.Endless && a.report().Request != hold.RequestArm { // it may ask again at once
			t.Errorf("fence %+v, asks for %v", a.fence, a.report().Request)
		}
	})
	t.Run("mirror lost before the answer: exposes again, and goes on to hold", func(t *testing.T) {
		a := armable(t)
		for at := 200 * ms; at <= 2400*ms; at += 200 * ms {
			a.at(at)
			a.looks(detached)
			a.answer(sole)
		}
		if a.report().Request != hold.RequestExpose || a.engine.Commits != hold.CommitsHeld || a.do.Op != hold.OpNone {
			t.Errorf("asks for %v, told %v", a.report().Request, a.dos)
		}
	})
	for _, test := range []struct {
		name   string
		change func(a *agent)
	}{
		{"paused", func(a *agent) { a.answer(manual, later) }},
		{"release asked", func(a *agent) { a.answer(sole, asked(hold.AskHandOver)) }},
		{"lease nearly over", func(a *agent) { a.at(lease - guard - 400*ms) }},
		{"mirror detached", func(a *agent) { a.looks(detached) }},
		{"commits not seen to hold", func(a *agent) { a.looks(func(e *hold.Engine) { e.Commits = hold.CommitsUnknown }) }},
		{"another run of the database", func(a *agent) { a.looks(func(e *hold.Engine) { e.Run = "2" }) }},
		{"mirror confirms nothing", func(a *agent) {
			for at := 200 * ms; at <= 2600*ms; at += 200 * ms {
				a.at(at)
				a.answer(sole)
				a.looks(func(e *hold.Engine) { e.Position += 10 })
			}
		}},
	} {
		t.Run("not asked when: "+test.name, func(t *testing.T) {
			a := armable(t)
			a.answer(sole, later) // answered; what follows would lead to the next request
			a.answer(sole, later)
			a.at(ms)
			test.change(a)
			a.answer(sole, later, func(s *hold.WitnessSays) {
				if test.name == "paused" {
					s.Automatic = false
				}
				if test.name == "release asked" {
					s.Ask, s.AskEpoch = hold.AskHandOver, 1
				}
				if test.name == "lease nearly over" {
					s.Lease = 0
				}
			})
			if r := a.report(); r.Request == hold.RequestArm {
				t.Errorf("asks to arm: %+v", r)
			}
		})
	}
	t.Run("a position read before holding was proved is no baseline", func(t *testing.T) {
		a := solePrimary(t)
		a.at(2500 * ms)
		a.answer(sole)
		for range 3 {
			a.now = a.now.Add(200 * ms)
			a.looks(attached)
		}
		if a.do.Op != hold.OpHold {
			t.Fatalf("told %v", a.dos)
		}
		// A look that began before the operation ended has a position that commits may have passed unheld.
		early := a.engine
		early.Began, early.Commits, early.Position, early.MirrorFlushed = a.now.Add(-ms), hold.CommitsHeld, 100, 100
		do := a.do
		a.now = a.now.Add(50 * ms)
		late := a.engine
		late.Began, late.Commits, late.Position, late.MirrorFlushed = a.now, hold.CommitsHeld, 200, 100
		a.step(hold.EngineSeen{Engine: early})
		a.step(hold.EngineDone{Op: hold.OpHold, ID: do.ID, Engine: late})
		a.step(hold.EngineSeen{Engine: early})
		if a.report().Request == hold.RequestArm {
			t.Error("asks to arm with 100 of 200 confirmed")
		}
		late.Began, late.MirrorFlushed = a.now.Add(ms), 200
		a.now = a.now.Add(ms)
		a.answer(sole)
		a.step(hold.EngineSeen{Engine: late})
		if a.report().Request != hold.RequestArm {
			t.Error("does not ask to arm")
		}
	})
	t.Run("letting commits go voids the proof from its beginning on", func(t *testing.T) {
		a := armable(t)
		a.answer(sole, later)
		a.answer(sole, manual, later) // paused, so that nothing is asked while the mirror stalls
		for at := 200 * ms; at <= 2200*ms; at += 200 * ms {
			a.at(at)
			a.looks(func(e *hold.Engine) { e.Position += 10 })
			a.answer(manual)
		}
		if a.do.Op != hold.OpReleaseCommits {
			t.Fatalf("told %v", a.dos)
		}
		// It is still on its way when the mirror confirms everything and the pair is resumed.
		a.looks(attached)
		a.at(2400 * ms)
		a.looks(attached)
		a.answer(sole, later)
		a.looks(attached)
		if a.report().Request == hold.RequestArm {
			t.Error("asks to arm while commits are being let go")
		}
	})
	t.Run("letting commits go that failed voids it too", func(t *testing.T) {
		a := solePrimary(t)
		a.engine.Commits = hold.CommitsHeld
		a.at(100 * ms)
		a.looks()
		if a.do.Op != hold.OpReleaseCommits {
			t.Fatalf("told %v", a.dos)
		}
		a.finish(failed)
		a.answer(sole)
		a.at(200 * ms)
		a.looks(attached)
		if a.report().Request == hold.RequestArm {
			t.Error("asks to arm")
		}
	})
}

// TestNewStartDoesNotBelieveSole: a former start may have sent an arm at the first revision that this one hears.
func TestNewStartDoesNotBelieveSole(t *testing.T) {
	for _, test := range []struct {
		name string
		file hold.File
		hear []func(*hold.WitnessSays)
		want bool
	}{
		{"first word", fileOf("a", 1, "a"), nil, false},
		{"the same again", fileOf("a", 1, "a"), []func(*hold.WitnessSays){func(*hold.WitnessSays) {}}, false},
		{"a higher revision", fileOf("a", 1, "a"), []func(*hold.WitnessSays){later}, true},
		{"the file's revision, after an older first word", fileOf("a", 1, "a"),
			[]func(*hold.WitnessSays){func(s *hold.WitnessSays) { s.Revision = 10 }}, false},
		{"a pair that was forming in its file", fileOf("a", 0, "a"), nil, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			a := start(t, "a", test.file, hold.Mark{})
			a.at(lease)
			a.looks()
			a.answer(sole, noLease, func(s *hold.WitnessSays) {
				if test.hear != nil && test.name[:3] == "the" && test.name != "the same again" {
					s.Revision = 9
				}
			})
			for _, change := range test.hear {
				a.answer(sole, noLease, change)
			}
			if _, _, ok := a.s.ServeUntil(a.now); ok != test.want {
				t.Errorf("serves alone: %t, want %t", ok, test.want)
			}
			if !test.want && a.report().Request != hold.RequestExpose && test.name != "the file's revision, after an older first word" {
				t.Errorf("asks for %v", a.report().Request)
			}
		})
	}
}

// TestUnmanage is the primary's part of a removal: sole first, then let go, never left holding commits.
func TestUnmanage(t *testing.T) {
	t.Run("leased: exposes, lets commits go, lets go", func(t *testing.T) {
		a := leasedPrimary(t)
		a.answer(asked(hold.AskUnmanage))
		if a.report().Request != hold.RequestExpose || a.report().Unmanaged {
			t.Fatalf("report %+v", a.report())
		}
		keep := func(s *hold.WitnessSays) { s.Ask, s.AskEpoch = hold.AskUnmanage, 1 }
		a.answer(sole, later, keep)
		if a.do.Op != hold.OpReleaseCommits {
			t.Fatalf("told %v", a.dos)
		}
		a.finish()
		if a.do.Op != hold.OpLetGo || a.report().Unmanaged {
			t.Fatalf("told %v, report %+v", a.dos, a.report())
		}
		a.finish()
		if r := a.report(); !r.Unmanaged || r.AskLease || !a.fence.Endless {
			t.Errorf("report %+v, fence %+v", r, a.fence)
		}
		a.answer(sole, later) // the removal was given up
		if a.report().Unmanaged {
			t.Error("still unmanaged")
		}
	})
	t.Run("database is just being started: that is waited for", func(t *testing.T) {
		a := solePrimary(t)
		a.step(hold.EngineExited{Reason: "test"})
		a.engine.Running, a.engine.Role = false, hold.RoleNone
		a.at(100 * ms)
		a.looks()
		a.answer(sole)
		if a.do.Op != hold.OpPromote {
			t.Fatalf("told %v", a.dos)
		}
		a.answer(sole, asked(hold.AskUnmanage))
		if a.report().Unmanaged {
			t.Fatal("let go of a database that will come up holding commits")
		}
		a.finish(failed)
		a.step(hold.Tick{})
		if !a.report().Unmanaged {
			t.Error("a database that does not come up is not let go of")
		}
	})
}

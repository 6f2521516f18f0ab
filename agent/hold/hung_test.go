package hold_test

import (
	"strings"
	"testing"
	"time"

	"github.com/witnessd/witnessd/agent/hold"
)

// patience is for how long a sole primary or a mirror may be silent.
const patience = 5 * lease

// hears lets looks go unanswered for d, one a second, while the witness answers.
func (a *agent) hears(d time.Duration, changes ...func(*hold.WitnessSays)) {
	a.t.Helper()
	for end := a.now.Add(d); a.now < end; {
		a.now = a.now.Add(time.Second)
		a.answer(changes...)
		if a.s.Self == "b" {
			a.asks(fromPrimary)
		}
		a.step(hold.EngineSilent{})
	}
}

func fromPrimary(s *hold.Says) { s.Engine.Role = hold.RolePrimary }

func stalled(d time.Duration) func(*hold.Engine) {
	return func(e *hold.Engine) { e.Stalled = d }
}

// TestStalledLeased: a leased primary whose looks are answered while no commit ends gives its epoch back after three
// leases, and not before.
func TestStalledLeased(t *testing.T) {
	a := leasedPrimary(t)
	for d := 200 * ms; d <= 3*lease; d += 200 * ms {
		a.at(d)
		a.answer()
		a.looks(attached, stalled(d))
	}
	if a.do.Op != hold.OpNone {
		t.Fatalf("told %v while it may only be slow", a.dos)
	}
	a.at(3*lease + 200*ms)
	a.looks(attached, stalled(3*lease+200*ms))
	if a.do.Op != hold.OpStop {
		t.Fatalf("told %v", a.dos)
	}
}

// TestSlowIsLeftAlone: whatever the right, one answer in time begins the count anew.
func TestSlowIsLeftAlone(t *testing.T) {
	mirror := func(t *testing.T) *agent {
		a := start(t, "b", fileOf("b", 1, "a"), hold.Mark{})
		a.looks()
		a.finish()
		return a
	}
	for name, make := range map[string]func(t *testing.T) *agent{
		"leased": leasedPrimary, "sole": solePrimary, "mirror": mirror,
	} {
		t.Run(name, func(t *testing.T) {
			a := make(t)
			says := func(s *hold.WitnessSays) { s.Right = a.s.Status(a.now).Right }
			a.answer(says)
			before, fences := len(a.dos), a.fences
			for range 20 {
				a.hears(2*lease, says)
				a.looks(stalled(0))
				a.now = a.now.Add(200 * ms)
				a.looks(stalled(2 * lease))
				a.looks(stalled(0))
			}
			if len(a.dos) != before || a.fences != fences {
				t.Errorf("told %v, fenced %d times", a.dos[before:], a.fences-fences)
			}
		})
	}
}

// TestHungSole: nobody else could serve, so it is restarted in place, later than a leased one is given back; and
// each time later when that does not help.
func TestHungSole(t *testing.T) {
	a := solePrimary(t)
	for round := range 3 {
		fences := a.fences
		a.looks()
		a.hears(patience<<round-time.Second, sole)
		if a.fences != fences {
			t.Fatalf("round %d: ended after less than %v", round, patience<<round)
		}
		a.hears(2*time.Second, sole)
		if a.fences != fences+1 || a.disk.Released != 0 {
			t.Fatalf("round %d: not ended after %v; on disk %+v", round, patience<<round, a.disk)
		}
		a.now = a.now.Add(100 * ms)
		a.looks()
		a.answer(sole)
		if a.do.Op != hold.OpPromote {
			t.Fatalf("round %d: told %v", round, a.dos)
		}
		a.engine.Run += "+"
		a.finish()
		a.finish() // release commits
		a.wantServing(true)
	}
	t.Run("stalled commits count like failed looks", func(t *testing.T) {
		a := solePrimary(t)
		a.answer(sole)
		a.looks(stalled(patience - time.Second))
		if a.fences != 0 {
			t.Fatal("ended too early")
		}
		a.answer(sole)
		a.looks(stalled(patience))
		if a.fences != 1 {
			t.Error("not ended")
		}
	})
	t.Run("after ten good minutes it counts from anew", func(t *testing.T) {
		for range 2 {
			a.now = a.now.Add(11 * time.Minute)
			a.answer(sole)
			a.looks()
		}
		fences := a.fences
		a.hears(patience+time.Second, sole)
		if a.fences != fences+1 {
			t.Error("still as patient as after three restarts")
		}
	})
}

// TestNotRestarted: what is ended could not be opened again, or was not listened to.
func TestNotRestarted(t *testing.T) {
	t.Run("without a witness", func(t *testing.T) {
		a := solePrimary(t)
		for range 30 {
			a.now = a.now.Add(time.Second)
			a.step(hold.EngineSilent{})
		}
		if a.fences != 0 {
			t.Error("ended, and only the witness could let it open again")
		}
	})
	t.Run("after the host stood still", func(t *testing.T) {
		a := solePrimary(t)
		a.looks()
		a.now = a.now.Add(time.Hour)
		a.step(hold.EngineSilent{})
		a.answer(sole)
		a.step(hold.Tick{})
		if a.fences != 0 {
			t.Error("an hour in which nobody looked was taken for silence")
		}
	})
	t.Run("while it is promoted", func(t *testing.T) {
		a := solePrimary(t)
		a.step(hold.EngineExited{Reason: "test"})
		a.engine.Running, a.engine.Role = false, hold.RoleNone
		a.now = a.now.Add(100 * ms)
		a.looks()
		a.answer(sole)
		if a.do.Op != hold.OpPromote {
			t.Fatalf("told %v", a.dos)
		}
		fences := a.fences
		a.hears(10*patience, sole)
		if a.fences != fences {
			t.Error("a promotion that takes its time was cut short")
		}
	})
}

// TestHungMirror: nobody reads or writes there, and the primary goes on alone; its own agent restarts it.
func TestHungMirror(t *testing.T) {
	a := start(t, "b", fileOf("b", 1, "a"), hold.Mark{})
	a.looks()
	a.finish()
	a.hears(patience - 2*time.Second)
	if a.fences != 0 {
		t.Fatal("ended too early")
	}
	a.hears(4 * time.Second)
	if a.fences != 1 {
		t.Fatalf("fenced %d times", a.fences)
	}
	a.now = a.now.Add(100 * ms)
	a.looks(func(e *hold.Engine) { e.Running, e.Role, e.Following = false, hold.RoleNone, false })
	if a.do.Op != hold.OpFollow {
		t.Errorf("told %v", a.dos)
	}
}

// TestHungMirrorLeftAlone: a mirror that would not be made to follow again is not ended: it may be the last copy, or
// another pair's database.
func TestHungMirrorLeftAlone(t *testing.T) {
	for name, unfit := range map[string]func(a *agent){
		"foreign": func(a *agent) {
			a.finish(func(d *hold.EngineDone) { d.Err, d.Foreign = "another database", true })
			a.hears(2 * patience)
		},
		"primary silent": func(a *agent) {
			a.finish()
			for range 2 * patience / time.Second {
				a.now = a.now.Add(time.Second)
				a.answer()
				a.step(hold.EngineSilent{})
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			a := start(t, "b", fileOf("b", 1, "a"), hold.Mark{})
			a.looks()
			if unfit(a); a.fences != 0 {
				t.Errorf("fenced %d times", a.fences)
			}
		})
	}
}

// TestCrashesForgotten: a primary that died twice while it was alone, and has run well since, does not give its epoch
// back because of that when it is armed again.
func TestCrashesForgotten(t *testing.T) {
	for _, ran := range []time.Duration{time.Second, time.Minute} {
		a := solePrimary(t)
		for range 2 {
			a.dies(time.Minute, sole)
			a.engine.Run += "+"
			a.finish()
			a.finish()
		}
		for end := a.now.Add(ran); a.now < end; {
			a.now = a.now.Add(200 * ms)
			a.answer(sole)
			a.looks()
		}
		a.do = hold.Do{}
		a.now = a.now.Add(200 * ms)
		a.answer(later) // leased
		a.looks(attached)
		if stopped := a.do.Op == hold.OpStop; stopped != (ran < 10*time.Second) {
			t.Errorf("ran for %v: stopped %t (%v)", ran, stopped, a.dos)
		}
	}
}

// TestShortStall: with a short lease a pause of the disk is still no reason to fail over.
func TestShortStall(t *testing.T) {
	a := leasedPrimary(t)
	a.answer(func(s *hold.WitnessSays) {
		s.Timing.Lease, s.Timing.Heartbeat, s.Revision = lease/3, 200*ms, s.Revision+1
	})
	a.looks(attached, stalled(4900*ms))
	if a.do.Op == hold.OpStop {
		t.Error("given back after less than 5 s")
	}
	a.looks(attached, stalled(5100*ms))
	if a.do.Op != hold.OpStop {
		t.Errorf("told %v", a.dos)
	}
}

// TestHungMirrorInFollow: a call that hangs with the database is ended with it; a clone, for which the database does
// not run, is not.
func TestHungMirrorInFollow(t *testing.T) {
	for _, runs := range []bool{true, false} {
		a := start(t, "b", fileOf("b", 1, "a"), hold.Mark{})
		a.looks(func(e *hold.Engine) { e.Running = runs })
		if a.do.Op != hold.OpFollow {
			t.Fatalf("told %v", a.dos)
		}
		a.hears(patience + 2*time.Second)
		if ended := a.fences == 1; ended != runs {
			t.Errorf("running %t: ended %t", runs, ended)
		}
	}
}

// dies ends the database soon after it came up, and lets looks and answers come for d.
func (a *agent) dies(d time.Duration, changes ...func(*hold.WitnessSays)) {
	a.t.Helper()
	a.step(hold.EngineExited{Reason: "no space left", Soon: true})
	if a.do.Op != hold.OpStop {
		a.do = hold.Do{}
	}
	a.engine.Running, a.engine.Role, a.engine.MirrorAttached = false, hold.RoleNone, false
	for end := a.now.Add(d); a.now < end && a.do.Op == hold.OpNone; {
		a.now = a.now.Add(100 * ms)
		a.looks()
		a.answer(changes...)
	}
}

// TestDiesAgain: a database that comes up and dies, as on a full disk, does not do so in a tight loop.
func TestDiesAgain(t *testing.T) {
	t.Run("sole: later and later, and it says so", func(t *testing.T) {
		a := solePrimary(t)
		for _, seconds := range []int{2, 4, 8, 16, 32, 60, 60} {
			pause := time.Duration(seconds) * time.Second
			began := a.now
			a.dies(time.Hour, sole)
			if got := a.now.Sub(began); a.do.Op != hold.OpPromote || got < pause || got > pause+200*ms {
				t.Fatalf("tried again after %v, not %v: %v", got, pause, a.do.Op)
			}
			if c := a.report().Complaint; !strings.Contains(c, "no space left") {
				t.Errorf("complaint %q", c)
			}
			a.engine.Run += "+"
			a.finish()
			a.finish() // release commits
		}
	})
	t.Run("sole: an end long after does not count", func(t *testing.T) {
		a := solePrimary(t)
		a.dies(time.Hour, sole)
		a.finish()
		a.finish()
		a.step(hold.EngineExited{Reason: "killed"})
		a.engine.Running, a.engine.Role = false, hold.RoleNone
		a.do = hold.Do{}
		a.now = a.now.Add(100 * ms)
		a.looks()
		a.answer(sole)
		if a.do.Op != hold.OpPromote {
			t.Errorf("told %v", a.dos)
		}
	})
	t.Run("leased without a mirror: given back after two", func(t *testing.T) {
		a := leasedPrimary(t)
		a.looks(detached)
		a.dies(time.Hour)
		if a.do.Op != hold.OpPromote {
			t.Fatalf("told %v", a.dos)
		}
		a.engine.Run += "+"
		a.finish()
		a.dies(time.Hour)
		if a.do.Op != hold.OpStop {
			t.Fatalf("told %v", a.dos)
		}
	})
	t.Run("mirror: later and later", func(t *testing.T) {
		a := start(t, "b", fileOf("b", 1, "a"), hold.Mark{})
		a.looks()
		a.finish()
		for _, seconds := range []int{2, 4, 8} {
			pause := time.Duration(seconds) * time.Second
			began := a.now
			a.dies(time.Hour)
			if got := a.now.Sub(began); a.do.Op != hold.OpFollow || got < pause || got > pause+200*ms {
				t.Fatalf("tried again after %v, not %v: %v", got, pause, a.do.Op)
			}
			a.finish()
		}
	})
}

package hold_test

import (
	"testing"
	"time"

	"github.com/witnessd/witnessd/agent/hold"
)

// TestRestartGate is rule R10: nothing is opened before an answer to a request of this start.
func TestRestartGate(t *testing.T) {
	mark := func(until time.Duration) hold.Mark {
		return hold.Mark{Epoch: 1, Until: hold.Instant(time.Hour).Add(until)}
	}
	endless := hold.Mark{Epoch: 1, Endless: true}
	open := func(e *hold.Engine) {
		e.Role, e.Following, e.Commits = hold.RolePrimary, false, hold.CommitsAlone
	}
	for _, test := range []struct {
		name  string
		file  hold.File
		mark  hold.Mark
		story func(a *agent)
		// Whether clients may be in, and what the engine was told.
		ok  bool
		ops []hold.Op
	}{
		{"nothing was heard", fileOf("a", 1, "a"), hold.Mark{}, func(a *agent) { a.looks() }, false, nil},
		{"heard, but the promise of a former start may be out", fileOf("a", 1, "a"), hold.Mark{}, func(a *agent) {
			a.looks()
			a.at(lease - ms)
			a.answer()
		}, false, nil},
		{"heard, and that promise is over", fileOf("a", 1, "a"), hold.Mark{}, func(a *agent) {
			a.looks()
			a.at(lease)
			a.answer()
		}, true, []hold.Op{hold.OpPromote}},
		{"the partner of the same epoch was heard", fileOf("a", 1, "a"), hold.Mark{}, func(a *agent) {
			a.looks()
			a.at(lease)
			a.vouches(a.now)
		}, true, []hold.Op{hold.OpPromote}},
		{"the answer is to a request of the former start", fileOf("a", 1, "a"), hold.Mark{}, func(a *agent) {
			a.at(lease)
			a.looks()
			a.answer(func(s *hold.WitnessSays) { s.Sent = a.base - 1 })
		}, false, nil},
		{"timed mark: an open database stays open, untouched", fileOf("a", 1, "a"), mark(time.Second), func(a *agent) {
			a.looks(open)
		}, true, nil},
		{"timed mark: no longer than that", fileOf("a", 1, "a"), mark(time.Second), func(a *agent) {
			a.looks(open)
			a.at(time.Second)
			a.step(hold.Tick{})
		}, false, nil},
		{"timed mark, and an answer: goes on without waiting for a promise", fileOf("a", 1, "a"), mark(time.Second),
			func(a *agent) {
				a.looks(open)
				a.answer()
			}, true, []hold.Op{hold.OpPromote}},
		{"mark of another epoch", fileOf("a", 2, "a"), mark(time.Second), func(a *agent) { a.looks(open) }, false, nil},
		{"mark of a released epoch", func() hold.File { f := fileOf("a", 1, "a"); f.Released = 1; return f }(), endless,
			func(a *agent) { a.looks(open) }, false, nil},
		{"mark of a host that is mirror now", fileOf("a", 1, "b"), endless, func(a *agent) { a.looks(open) }, false,
			[]hold.Op{hold.OpFollow}},
		{"endless mark: an open database stays open for ever", fileOf("a", 1, "a"), endless, func(a *agent) {
			a.looks(open)
			a.at(24 * time.Hour)
			a.looks()
		}, true, nil},
		{"endless mark, and the partner's lease: it goes on to be endless", fileOf("a", 1, "a"), endless, func(a *agent) {
			a.looks(open)
			a.vouches(a.now)
			a.at(24 * time.Hour)
			a.looks()
		}, true, nil},
		{"endless mark, and the record says leased: it is over", fileOf("a", 1, "a"), endless, func(a *agent) {
			a.looks(open)
			a.answer(noLease)
		}, false, nil},
		{"endless mark, and a database that is not open: nothing is opened", fileOf("a", 1, "a"), endless, func(a *agent) {
			a.looks(func(e *hold.Engine) { e.Running, e.Role = false, hold.RoleNone })
			a.looks()
		}, false, nil},
		{"timed mark, and a database that came up as a copy: nothing is opened", fileOf("a", 1, "a"), mark(time.Second),
			func(a *agent) { a.looks(); a.looks() }, false, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			a := start(t, "a", test.file, test.mark)
			test.story(a)
			if _, _, ok := a.s.ServeUntil(a.now); ok != test.ok {
				t.Errorf("clients may be in: %t, want %t", ok, test.ok)
			}
			if !test.ok && a.fence != (hold.Renew{}) {
				t.Errorf("the fence was told %+v", a.fence)
			}
			var ops []hold.Op
			for _, op := range a.dos {
				if op != hold.OpNone {
					ops = append(ops, op)
				}
			}
			if len(ops) != len(test.ops) || len(ops) > 0 && ops[0] != test.ops[0] {
				t.Errorf("engine was told %v, want %v", ops, test.ops)
			}
		})
	}
}

// TestWhateverEndedServiceNeedsANewAnswer: a right that was answered before service ended does not open again.
func TestWhateverEndedServiceNeedsANewAnswer(t *testing.T) {
	for name, end := range map[string]func(a *agent){
		"the fence": func(a *agent) { a.step(hold.Fenced{Why: "test"}) },
		"a crash of an exposed primary's database": func(a *agent) {
			a.step(hold.EngineExited{Reason: "test"})
		},
	} {
		t.Run(name, func(t *testing.T) {
			a := solePrimary(t)
			sent := a.now
			a.at(100 * ms)
			end(a)
			a.engine.Running, a.engine.Role = false, hold.RoleNone
			a.at(200 * ms)
			a.looks()
			a.answer(sole, func(s *hold.WitnessSays) { s.Sent = sent })
			if _, _, ok := a.s.ServeUntil(a.now); ok {
				t.Fatal("opened by an answer to an older request")
			}
			a.answer(sole)
			if _, _, ok := a.s.ServeUntil(a.now); !ok {
				t.Error("not opened by a new answer")
			}
		})
	}
}

// TestLooksThatBeganBeforeAFence are not believed: they show what is no more.
func TestLooksThatBeganBeforeAFence(t *testing.T) {
	a := leasedPrimary(t)
	seen := a.engine
	seen.Began = a.now
	a.at(100 * ms)
	a.step(hold.Fenced{Why: "test"})
	a.step(hold.EngineSeen{Engine: seen})
	if a.report().Engine.Running || a.fences > 0 {
		t.Error("believed")
	}
}

// TestFormingLeavesTheDatabaseAlone: before the first epoch it is none of the agent's business.
func TestFormingLeavesTheDatabaseAlone(t *testing.T) {
	a := blank(t, "a")
	if a.report().Complaint == "" {
		t.Error("nothing says that the database was not looked at yet")
	}
	serve := func(e *hold.Engine) { e.Role, e.Commits = hold.RolePrimary, hold.CommitsAlone }
	a.looks(serve)
	forming := func(s *hold.WitnessSays) {
		s.Forming, s.Epoch, s.Lease, s.Right, s.Revision = true, 0, 0, hold.RightSole, 1
	}
	a.answer(forming)
	a.looks()
	if a.fences > 0 || len(a.dos) > 0 || !a.saved || !a.report().Known || a.report().Complaint != "" {
		t.Errorf("fenced %d times, told %v, saved %t, report %+v", a.fences, a.dos, a.saved, a.report())
	}
	// It begins: an agent that knew it while forming has promised nothing and armed nothing.
	a.answer(sole, func(s *hold.WitnessSays) { s.Epoch, s.Revision = 1, 2 })
	if !a.fence.Endless || a.fences > 0 || a.do.Op != hold.OpPromote {
		t.Errorf("fence %+v, fenced %d times, told %v", a.fence, a.fences, a.dos)
	}
}

// TestNoRightNoService: a database that serves without a right is shut at every look.
func TestNoRightNoService(t *testing.T) {
	a := start(t, "a", fileOf("a", 3, "b"), hold.Mark{})
	for i := range 3 {
		a.at(time.Duration(i) * 200 * ms)
		a.looks(func(e *hold.Engine) { e.Running, e.Role = true, hold.RolePrimary })
	}
	if a.fences != 3 {
		t.Errorf("fenced %d times in 3 looks", a.fences)
	}
}

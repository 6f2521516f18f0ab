package hold_test

import (
	"testing"
	"time"

	"github.com/witnessd/witnessd/agent/hold"
)

// TestRelease is rule R9: stopped, written, told; and final.
func TestRelease(t *testing.T) {
	t.Run("database died: stopped, written, then told", func(t *testing.T) {
		a := leasedPrimary(t)
		a.step(hold.EngineExited{Reason: "test"})
		a.wantServing(false)
		if a.do.Op != hold.OpStop || a.disk.Released != 0 || a.report().AskLease || a.s.Ask().AskLease {
			t.Fatalf("told %v, on disk %+v, report %+v", a.dos, a.disk, a.report())
		}
		a.finish()
		if a.disk.Released != 1 || a.disk.ReleasedEverything || a.report().Released != 1 || a.s.Ask().Released != 1 {
			t.Fatalf("on disk %+v", a.disk)
		}
		order := []string{}
		for _, act := range a.acts {
			switch act.(type) {
			case hold.Save:
				order = append(order, "save")
			case hold.SendWitness:
				order = append(order, "witness")
			case hold.SendPartner:
				order = append(order, "partner")
			}
		}
		if len(order) != 3 || order[0] != "save" {
			t.Errorf("in the order %v", order)
		}
		// It is final: grants are ignored, and nothing is started.
		a.at(100 * ms)
		a.answer()
		a.vouches(a.now)
		a.looks()
		if _, _, ok := a.s.ServeUntil(a.now); ok || a.do.Op != hold.OpNone {
			t.Errorf("serves: %t, told %v", ok, a.dos)
		}
		a.looks(func(e *hold.Engine) { e.Running, e.Role = true, hold.RoleMirror }) // somebody started it
		if a.do.Op != hold.OpStop {
			t.Errorf("told %v", a.dos)
		}
		// The way back is a new epoch for the same primary.
		a.answer(newEpoch("a"))
		a.answer()
		if a.do.Op != hold.OpPromote || a.disk.Epoch != 2 || a.report().Released != 1 {
			t.Errorf("told %v, on disk %+v", a.dos, a.disk)
		}
	})
	t.Run("a new start does not serve a released epoch", func(t *testing.T) {
		f := fileOf("a", 1, "a")
		f.Released = 1
		a := start(t, "a", f, hold.Mark{Epoch: 1, Endless: true})
		a.at(time.Minute)
		a.looks()
		a.answer(sole)
		a.answer(sole, later)
		if _, _, ok := a.s.ServeUntil(a.now); ok {
			t.Error("serves")
		}
	})
	t.Run("nor one that lost its file, if the witness has heard of the release", func(t *testing.T) {
		for _, r := range []hold.Right{hold.RightSole, hold.RightLeased} {
			a := blank(t, "a")
			a.looks()
			says := func(s *hold.WitnessSays) { s.Right, s.Released = r, s.Epoch }
			a.answer(says)
			a.at(lease)
			a.answer(says)
			a.answer(says, later)
			if _, _, ok := a.s.ServeUntil(a.now); ok || a.disk.Released != 1 {
				t.Errorf("%v: serves: %t, on disk %+v", r, ok, a.disk)
			}
		}
	})
}

// TestDatabaseDied: with a mirror that was there a moment ago and a witness to promote it, the mirror is the quicker
// way back; else the database is restarted in place.
func TestDatabaseDied(t *testing.T) {
	for _, test := range []struct {
		name    string
		a       func(t *testing.T) *agent
		release bool
	}{
		{"leased, mirror attached", leasedPrimary, true},
		{"leased, mirror detached", func(t *testing.T) *agent { a := leasedPrimary(t); a.looks(detached); return a }, false},
		{"leased, mirror attached, but the witness is lost", func(t *testing.T) *agent {
			a := leasedPrimary(t)
			for at := 500 * ms; at <= 2*lease; at += 500 * ms {
				a.at(at)
				a.vouches(a.now)
				a.looks()
			}
			return a
		}, false},
		{"sole", solePrimary, false},
		{"sole, mirror attached", func(t *testing.T) *agent { a := solePrimary(t); a.looks(attached); return a }, false},
		{"arm sent", armable, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			a := test.a(t)
			a.step(hold.EngineExited{Reason: "test"})
			if stop := a.do.Op == hold.OpStop; stop != test.release {
				t.Fatalf("told %v", a.dos)
			}
			if test.release {
				return
			}
			a.now = a.now.Add(10 * ms)
			a.engine.Running, a.engine.Role = false, hold.RoleNone
			a.looks()
			a.vouches(a.now)
			a.answer(func(s *hold.WitnessSays) { s.Right = a.s.Status(a.now).Right })
			if a.do.Op != hold.OpPromote {
				t.Errorf("not restarted: %v", a.dos)
			}
		})
	}
	t.Run("of a mirror: nothing is given back", func(t *testing.T) {
		a := start(t, "b", fileOf("b", 1, "a"), hold.Mark{})
		a.looks()
		a.finish()
		a.step(hold.EngineExited{Reason: "test"})
		if a.disk.Released != 0 || a.do.Op == hold.OpStop {
			t.Errorf("told %v", a.dos)
		}
	})
}

// TestDatabaseHangs: one that answers no look for three leases is treated as dead.
func TestDatabaseHangs(t *testing.T) {
	// silence runs the agent without looks for d, answered by the witness or by the partner only.
	silence := func(a *agent, d time.Duration, witness bool) {
		for at := a.now.Sub(a.base); at < d; {
			at += 500 * ms
			a.at(at)
			if witness {
				a.answer()
			} else {
				a.vouches(a.now)
			}
		}
	}
	t.Run("not before that", func(t *testing.T) {
		a := leasedPrimary(t)
		a.looks()
		silence(a, 3*lease, true)
		if a.do.Op != hold.OpNone {
			t.Errorf("told %v", a.dos)
		}
		silence(a, 3*lease+500*ms, true)
		if a.do.Op != hold.OpStop {
			t.Errorf("told %v", a.dos)
		}
	})
	t.Run("also while an operation runs", func(t *testing.T) {
		a := leasedPrimary(t)
		a.step(hold.EngineExited{Reason: "test"}) // so that it must be brought up and made to hold again
		a = leasedPrimary(t)
		a.looks(func(e *hold.Engine) { e.Run = "2" })
		a.finish()
		a.looks(attached)
		if a.do.Op != hold.OpHold {
			t.Fatalf("told %v", a.dos)
		}
		a.mark()
		silence(a, 3*lease+500*ms, true)
		if a.do.Op != hold.OpStop {
			t.Errorf("told %v", a.dos)
		}
	})
	t.Run("also if this start has never seen it", func(t *testing.T) {
		a := start(t, "a", fileOf("a", 1, "a"), hold.Mark{})
		silence(a, 3*lease+500*ms, true)
		if a.do.Op != hold.OpStop {
			t.Errorf("told %v", a.dos)
		}
	})
	t.Run("without a witness it is restarted in place", func(t *testing.T) {
		a := leasedPrimary(t)
		a.looks()
		silence(a, 3*lease+500*ms, false)
		if a.fences != 1 || a.disk.Released != 0 {
			t.Fatalf("fenced %d times, on disk %+v", a.fences, a.disk)
		}
		a.now = a.now.Add(100 * ms)
		a.looks()
		a.vouches(a.now)
		if a.do.Op != hold.OpPromote {
			t.Errorf("told %v", a.dos)
		}
	})
	t.Run("sole: nobody else could serve", func(t *testing.T) {
		a := solePrimary(t)
		a.at(time.Hour)
		a.answer(sole)
		a.wantServing(true)
	})
	t.Run("promotion takes its time", func(t *testing.T) {
		a := start(t, "a", fileOf("a", 1, "a"), hold.Mark{})
		a.at(lease)
		a.looks()
		a.answer()
		a.mark()
		silence(a, time.Minute, true)
		if a.do.Op != hold.OpPromote {
			t.Errorf("told %v", a.dos)
		}
	})
}

// TestHandOver is what a switchover asks.
func TestHandOver(t *testing.T) {
	ask := func(s *hold.WitnessSays) { s.Ask, s.AskEpoch = hold.AskHandOver, s.Epoch }
	t.Run("the right lasts until the hand-over has ended", func(t *testing.T) {
		a := leasedPrimary(t)
		a.answer(asked(hold.AskHandOver))
		if a.do.Op != hold.OpHandOver {
			t.Fatalf("told %v", a.dos)
		}
		for at := 500 * ms; at <= 10*time.Second; at += 500 * ms {
			a.at(at)
			a.answer(ask)
			a.looks()
			if a.fences > 0 || !a.report().AskLease || !a.s.Ask().AskLease {
				t.Fatalf("after %v: fenced %d times, report %+v", at, a.fences, a.report())
			}
		}
		a.finish(everything)
		if a.disk.Released != 1 || !a.disk.ReleasedEverything || a.report().AskLease {
			t.Errorf("on disk %+v", a.disk)
		}
		if _, _, ok := a.s.ServeUntil(a.now); ok {
			t.Error("serves")
		}
	})
	t.Run("its leases run out meanwhile: fenced, stopped, released without everything", func(t *testing.T) {
		a := leasedPrimary(t)
		a.answer(asked(hold.AskHandOver))
		a.at(lease)
		a.step(hold.Tick{})
		if a.fences != 1 {
			t.Fatalf("fenced %d times", a.fences)
		}
		a.step(hold.Tick{})
		a.finish()
		if a.disk.Released != 1 || a.disk.ReleasedEverything {
			t.Errorf("on disk %+v", a.disk)
		}
	})
	t.Run("it fails: stopped without", func(t *testing.T) {
		a := leasedPrimary(t)
		a.answer(asked(hold.AskHandOver))
		a.finish(failed)
		if a.do.Op != hold.OpStop {
			t.Fatalf("told %v", a.dos)
		}
		a.finish()
		if a.disk.Released != 1 || a.disk.ReleasedEverything {
			t.Errorf("on disk %+v", a.disk)
		}
	})
	t.Run("withdrawn before it has ended: shut, and opened by a new answer", func(t *testing.T) {
		a := leasedPrimary(t)
		a.answer(asked(hold.AskHandOver))
		a.at(100 * ms)
		a.answer(later)
		if a.fences != 1 || a.disk.Released != 0 {
			t.Fatalf("fenced %d times, on disk %+v", a.fences, a.disk)
		}
		a.at(200 * ms)
		a.looks()
		a.answer()
		if a.do.Op != hold.OpPromote {
			t.Errorf("told %v", a.dos)
		}
	})
	t.Run("nothing is stopped for it without a mirror", func(t *testing.T) {
		a := leasedPrimary(t)
		a.looks(detached)
		a.answer(asked(hold.AskHandOver))
		if a.do.Op != hold.OpNone {
			t.Errorf("told %v", a.dos)
		}
	})
	t.Run("nor for what was asked longer ago than a lease", func(t *testing.T) {
		a := leasedPrimary(t)
		a.looks(detached)
		a.answer(asked(hold.AskHandOver))
		for at := 500 * ms; at <= lease+500*ms; at += 500 * ms { // the witness is lost
			a.at(at)
			a.vouches(a.now)
			a.looks()
		}
		a.looks(attached)
		if a.do.Op != hold.OpNone {
			t.Fatalf("told %v", a.dos)
		}
		a.answer(ask)
		if a.do.Op != hold.OpHandOver {
			t.Errorf("told %v", a.dos)
		}
	})
	t.Run("nor for another epoch", func(t *testing.T) {
		a := leasedPrimary(t)
		a.answer(asked(hold.AskHandOver), func(s *hold.WitnessSays) { s.AskEpoch = 0 })
		if a.do.Op != hold.OpNone {
			t.Errorf("told %v", a.dos)
		}
	})
}

// TestReleaseIsAskedByThePartner is rule R14's other path.
func TestReleaseIsAskedByThePartner(t *testing.T) {
	for _, test := range []struct {
		name     string
		epoch    hold.Epoch
		revision hold.Revision
		want     bool
	}{
		{"from a later record", 1, 11, true},
		{"from the same record: it has not asked", 1, 10, false},
		{"from an older record: it was long ago", 1, 9, false},
		{"for another epoch", 2, 11, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			a := leasedPrimary(t)
			a.asks(func(s *hold.Says) { s.AskLease, s.ReleaseAsked, s.Revision = false, test.epoch, test.revision })
			if got := a.do.Op == hold.OpHandOver; got != test.want {
				t.Errorf("told %v", a.dos)
			}
		})
	}
	t.Run("the mirror passes on what it has heard", func(t *testing.T) {
		for ask, want := range map[hold.Ask]hold.Epoch{hold.AskRelease: 1, hold.AskWithhold: 1, hold.AskHandOver: 0, hold.AskUnmanage: 0} {
			a := start(t, "b", fileOf("b", 1, "a"), hold.Mark{})
			a.step(hold.Tick{}) // says hello
			a.answer(asked(ask))
			if got := a.s.Ask().ReleaseAsked; got != want {
				t.Errorf("%v: passes on %d", ask, got)
			}
			if (want > 0) != has[hold.SendPartner](a) {
				t.Errorf("%v: %v", ask, a.acts)
			}
		}
	})
}

// TestPartnerReleased: what the partner said of one epoch says nothing of a later one.
func TestPartnerReleased(t *testing.T) {
	a := start(t, "b", fileOf("b", 1, "a"), hold.Mark{})
	a.asks(func(s *hold.Says) { s.Released, s.ReleasedEverything = 1, true })
	if r := a.report(); r.PartnerReleased != 1 || !r.PartnerReleasedEverything {
		t.Fatalf("report %+v", r)
	}
	a.answer(newEpoch("b"))
	a.answer(newEpoch("a"))
	a.asks(func(s *hold.Says) { s.Released, s.ReleasedEverything = 3, false })
	if r := a.report(); r.PartnerReleased != 3 || r.PartnerReleasedEverything {
		t.Errorf("report %+v: the mirror of epoch 3 has not everything", r)
	}
	a.asks(func(s *hold.Says) { s.Released, s.ReleasedEverything = 3, true })
	if r := a.report(); !r.PartnerReleasedEverything {
		t.Errorf("report %+v", r)
	}
}

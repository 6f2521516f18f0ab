package hold_test

import (
	"testing"
	"time"

	"github.com/witnessd/witnessd/agent/hold"
)

// mirror is a host that follows in epoch 1.
func mirror(t *testing.T) *agent {
	t.Helper()
	a := start(t, "b", fileOf("b", 1, "a"), hold.Mark{})
	a.looks()
	if a.do.Op != hold.OpFollow {
		t.Fatalf("told %v", a.dos)
	}
	a.finish()
	a.at(lease)
	a.looks()
	a.mark()
	a.dos = nil
	return a
}

// TestMirror: follow once in each epoch, and leave alone what follows.
func TestMirror(t *testing.T) {
	t.Run("what follows is left alone", func(t *testing.T) {
		a := mirror(t)
		for at := 200 * ms; at < 20*time.Second; at += 200 * ms {
			a.at(at)
			a.looks()
		}
		if len(a.dos) > 0 {
			t.Errorf("told %v", a.dos)
		}
	})
	t.Run("a receiver may come back by itself for a while", func(t *testing.T) {
		a := mirror(t)
		a.looks(func(e *hold.Engine) { e.Following = false })
		a.at(5*time.Second - ms)
		a.looks()
		if len(a.dos) > 0 {
			t.Fatalf("told %v", a.dos)
		}
		a.at(5 * time.Second)
		a.looks()
		if a.do.Op != hold.OpFollow {
			t.Errorf("told %v", a.dos)
		}
	})
	t.Run("a new epoch of the same primary is followed anew", func(t *testing.T) {
		a := mirror(t)
		a.answer(newEpoch("a"))
		if a.do.Op != hold.OpFollow {
			t.Errorf("told %v", a.dos)
		}
	})
	t.Run("a clone goes on through a new epoch of the same primary", func(t *testing.T) {
		a := start(t, "b", fileOf("b", 1, "a"), hold.Mark{})
		a.looks()
		do := a.do
		a.answer(newEpoch("a"))
		if a.do != do {
			t.Errorf("told %v", a.dos)
		}
	})
	t.Run("promoted in the middle of a clone: the clone is ended", func(t *testing.T) {
		a := start(t, "b", fileOf("b", 1, "a"), hold.Mark{})
		a.looks()
		a.at(lease)
		a.answer(newEpoch("b"))
		a.answer()
		if a.do.Op != hold.OpPromote {
			t.Errorf("told %v", a.dos)
		}
	})
	t.Run("data of another database: not tried again before that has changed", func(t *testing.T) {
		a := mirror(t)
		a.answer(newEpoch("a"))
		a.finish(failed, func(d *hold.EngineDone) { d.Foreign = true })
		if a.report().Complaint == "" {
			t.Error("no complaint")
		}
		a.at(time.Minute)
		a.looks()
		if a.do.Op != hold.OpNone {
			t.Fatalf("told %v", a.dos)
		}
		a.looks(func(e *hold.Engine) { e.SystemID = "" })
		if a.do.Op != hold.OpFollow {
			t.Errorf("told %v", a.dos)
		}
	})
	t.Run("nobody to follow yet", func(t *testing.T) {
		f := fileOf("b", 1, "a")
		f.Peer.ServiceAddress = ""
		a := start(t, "b", f, hold.Mark{})
		a.looks()
		if len(a.dos) > 0 {
			t.Errorf("told %v", a.dos)
		}
	})
}

// TestFailedOperation: it is tried again after a while, and holds nothing else up.
func TestFailedOperation(t *testing.T) {
	t.Run("tried again after two seconds", func(t *testing.T) {
		a := mirror(t)
		a.answer(newEpoch("a"))
		a.finish(failed)
		a.at(2*time.Second - ms)
		a.looks()
		if a.do.Op != hold.OpNone {
			t.Fatalf("told %v", a.dos)
		}
		a.at(2 * time.Second)
		a.looks()
		if a.do.Op != hold.OpFollow {
			t.Errorf("told %v", a.dos)
		}
	})
	t.Run("a failed hold does not hold a release up", func(t *testing.T) {
		a := leasedPrimary(t)
		a.looks(func(e *hold.Engine) { e.Run = "2" })
		a.finish()
		a.looks(attached)
		if a.do.Op != hold.OpHold {
			t.Fatalf("told %v", a.dos)
		}
		a.finish(failed)
		a.at(100 * ms)
		a.step(hold.EngineExited{Reason: "test"})
		if a.do.Op != hold.OpStop {
			t.Errorf("told %v", a.dos)
		}
	})
	t.Run("the end of an operation that was ended before is ignored", func(t *testing.T) {
		a := mirror(t)
		a.answer(newEpoch("a"))
		old := a.do
		a.answer(newEpoch("b"))
		a.at(lease)
		a.answer()
		a.step(hold.EngineDone{Op: old.Op, ID: old.ID, Err: "cancelled"})
		if a.report().Complaint != "" || a.do.Op != hold.OpPromote {
			t.Errorf("complains %q, told %v", a.report().Complaint, a.dos)
		}
	})
	t.Run("leased: a database that does not come up is given back after two tries", func(t *testing.T) {
		a := leasedPrimary(t)
		a.looks(detached)
		a.step(hold.EngineExited{Reason: "test"})
		a.engine.Running, a.engine.Role = false, hold.RoleNone
		tries := 0
		for at := 100 * ms; at < 20*time.Second && a.do.Op != hold.OpStop; at += 100 * ms {
			a.at(at)
			a.looks()
			a.answer()
			if a.do.Op == hold.OpPromote {
				tries++
				a.finish(failed)
			}
		}
		if tries != 2 || a.do.Op != hold.OpStop {
			t.Errorf("tried %d times, told %v", tries, a.dos)
		}
	})
	t.Run("sole: it is tried for ever", func(t *testing.T) {
		a := solePrimary(t)
		a.step(hold.EngineExited{Reason: "test"})
		a.engine.Running, a.engine.Role = false, hold.RoleNone
		tries := 0
		for at := 100 * ms; at < time.Minute; at += 100 * ms {
			a.at(at)
			a.looks()
			a.answer(sole)
			if a.do.Op == hold.OpPromote {
				tries++
				a.finish(failed)
			}
		}
		if tries < 29 { // every 2 s: nobody else can serve
			t.Errorf("tried %d times", tries)
		}
	})
}

// TestOperationsOfAnEpoch: what was begun for one epoch proves nothing in the next, which may have another mirror.
func TestOperationsOfAnEpoch(t *testing.T) {
	a := start(t, "a", fileOf("a", 1, "a"), hold.Mark{})
	a.at(lease)
	a.looks()
	a.answer()
	do := a.do
	if do.Op != hold.OpPromote {
		t.Fatalf("told %v", a.dos)
	}
	a.answer(newEpoch("a"), func(s *hold.WitnessSays) { s.Peer.Host, s.Mirror, s.Lease = "c", "c", lease })
	if a.do.Op != hold.OpPromote || a.do.ID == do.ID || a.do.Peer.Host != "c" {
		t.Errorf("told %v, the last for %q", a.dos, a.do.Peer.Host)
	}
	a.step(hold.EngineDone{Op: do.Op, ID: do.ID, Engine: a.engine})
	a.wantServing(false)
}

// TestStartedByOthers: a database that somebody restarted is brought up as this epoch's primary anew.
func TestStartedByOthers(t *testing.T) {
	a := leasedPrimary(t)
	a.looks(func(e *hold.Engine) { e.Run, e.Role = "2", hold.RoleMirror })
	if a.do.Op != hold.OpPromote || a.report().Serving {
		t.Errorf("told %v, serving %t", a.dos, a.report().Serving)
	}
}

// TestTermHeard is that of the newest request that was answered: a restored witness counts from lower.
func TestTermHeard(t *testing.T) {
	a := leasedPrimary(t)
	term := func(n uint64, sent time.Duration) func(*hold.WitnessSays) {
		return func(s *hold.WitnessSays) { s.Term, s.Sent = n, a.base.Add(sent) }
	}
	a.at(time.Second)
	for _, test := range []struct {
		term uint64
		sent time.Duration
		want uint64
	}{{7, 500 * ms, 7}, {6, 400 * ms, 7}, {3, 600 * ms, 3}} {
		a.answer(term(test.term, test.sent))
		if a.s.TermHeard != test.want {
			t.Errorf("after term %d sent at %v: %d, want %d", test.term, test.sent, a.s.TermHeard, test.want)
		}
	}
}

// TestStatus is what load balancers and screens ask.
func TestStatus(t *testing.T) {
	for _, test := range []struct {
		name string
		a    *agent
		want hold.Status
	}{
		{"leased primary", leasedPrimary(t), hold.Status{Managed: true, Primary: true, Serving: true, Right: hold.RightLeased, Heard: true}},
		{"sole primary", solePrimary(t), hold.Status{Managed: true, Primary: true, Serving: true, Right: hold.RightSole, Trusted: true, Heard: true}},
		{"mirror", mirror(t), hold.Status{Managed: true, Following: true}},
		{"no pair", blank(t, "a"), hold.Status{}},
	} {
		got := test.a.s.Status(test.a.now)
		if got.Managed != test.want.Managed || got.Primary != test.want.Primary || got.Serving != test.want.Serving ||
			got.Right != test.want.Right || got.Trusted != test.want.Trusted || got.Following != test.want.Following ||
			got.Heard != test.want.Heard {
			t.Errorf("%s: %+v", test.name, got)
		}
	}
}

package hold_test

import (
	"testing"
	"time"

	"github.com/witnessd/witnessd/agent/hold"
)

// TestLeaseIsCountedFromTheRequest is the holder's half of rule R1.
func TestLeaseIsCountedFromTheRequest(t *testing.T) {
	for _, test := range []struct {
		name  string
		grant func(a *agent)
		want  time.Duration // when service must have ended, after the instant 0 of the story
	}{
		{"of the witness", func(a *agent) {
			sent := a.now
			a.at(900 * ms)
			a.answer(func(s *hold.WitnessSays) { s.Sent = sent })
		}, lease - guard},
		{"of the partner", func(a *agent) {
			sent := a.now
			a.at(900 * ms)
			a.vouches(sent)
		}, lease - guard},
		{"the later of the two", func(a *agent) {
			a.vouches(a.now.Add(400 * ms))
			a.answer()
		}, 400*ms + lease - guard},
		{"a late answer to an older request shortens nothing", func(a *agent) {
			a.answer()
			older := a.now.Add(-400 * ms)
			a.answer(func(s *hold.WitnessSays) { s.Sent = older })
			a.vouches(older)
		}, lease - guard},
		{"a length of its own", func(a *agent) {
			a.answer(func(s *hold.WitnessSays) { s.Lease = 5 * time.Second })
		}, 5*time.Second - guard},
	} {
		t.Run(test.name, func(t *testing.T) {
			a := leasedPrimary(t)
			a.at(lease)
			a.looks() // what was granted before is over, and so it has stopped
			a.finish0()
			a.mark()
			test.grant(a)
			if want := a.base.Add(test.want); a.fence.Until != want || a.fence.Endless {
				t.Errorf("fence is told %+v, want until %v", a.fence, want)
			}
			a.at(test.want - ms)
			a.step(hold.Tick{})
			if _, _, ok := a.s.ServeUntil(a.now); !ok {
				t.Error("stopped early")
			}
			a.at(test.want)
			a.step(hold.Tick{})
			if _, _, ok := a.s.ServeUntil(a.now); ok || !has[hold.Fence](a) {
				t.Errorf("not stopped: %v", a.acts)
			}
		})
	}
}

// finish0 finishes what runs, if anything does.
func (a *agent) finish0() {
	if a.do.Op != hold.OpNone {
		a.finish()
	}
}

// TestLeaseThatDoesNotCount: grants of another epoch, of another host, after a release.
func TestLeaseThatDoesNotCount(t *testing.T) {
	for _, test := range []struct {
		name  string
		grant func(a *agent)
	}{
		{"partner's of an older epoch", func(a *agent) {
			a.vouches(a.now, func(e *hold.PartnerAnswered) { e.Says.Epoch-- })
		}},
		{"of a host that is not the partner", func(a *agent) {
			a.vouches(a.now, func(e *hold.PartnerAnswered) { e.Host = "c" })
		}},
		{"witness's of an older epoch", func(a *agent) {
			a.answer(func(s *hold.WitnessSays) { s.Epoch-- })
		}},
		{"witness's refusal", func(a *agent) { a.answer(noLease) }},
		{"partner's refusal", func(a *agent) {
			a.vouches(a.now, func(e *hold.PartnerAnswered) { e.Says.Lease, e.Says.Refused = 0, "NO" })
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := fileOf("a", 2, "a")
			a := start(t, "a", f, hold.Mark{})
			a.at(lease)
			a.looks()
			test.grant(a)
			if _, _, ok := a.s.ServeUntil(a.now); ok {
				t.Error("counted")
			}
		})
	}
	t.Run("of a partner that the record does not name mirror", func(t *testing.T) {
		f := fileOf("a", 2, "a")
		f.Mirror = "c"
		a := start(t, "a", f, hold.Mark{})
		a.at(lease)
		a.vouches(a.now)
		if _, _, ok := a.s.ServeUntil(a.now); ok {
			t.Error("counted")
		}
	})
	t.Run("after a release", func(t *testing.T) {
		f := fileOf("a", 2, "a")
		f.Released = 2
		a := start(t, "a", f, hold.Mark{})
		a.at(lease)
		a.looks()
		a.answer()
		a.vouches(a.now)
		if _, _, ok := a.s.ServeUntil(a.now); ok || a.report().AskLease || a.s.Ask().AskLease {
			t.Errorf("serves, or asks for leases: %+v", a.report())
		}
	})
}

func TestSoleRightHasNoEnd(t *testing.T) {
	a := solePrimary(t)
	a.at(time.Hour)
	a.looks()
	a.wantServing(true)
	if !a.fence.Endless {
		t.Errorf("fence is told %+v", a.fence)
	}
	if r := a.report(); r.ServesFor >= 0 || !r.AskLease {
		t.Errorf("report %+v: it needs a lease before it may ask to arm", r)
	}
}

// TestLaterEpochEndsServiceAtOnce is rule R11: nothing else takes a right away.
func TestLaterEpochEndsServiceAtOnce(t *testing.T) {
	for name, tell := range map[string]func(a *agent){
		"by the witness": func(a *agent) { a.answer(newEpoch("b")) },
		"by the partner": func(a *agent) { a.asks(func(s *hold.Says) { s.Epoch, s.Primary = 2, "b" }) },
	} {
		for name2, from := range map[string]func(*testing.T) *agent{"leased": leasedPrimary, "sole": solePrimary} {
			t.Run(name+", "+name2, func(t *testing.T) {
				a := from(t)
				tell(a)
				a.wantServing(false)
				if a.fences != 1 || a.disk.Epoch != 2 || a.disk.Primary != "b" {
					t.Errorf("fenced %d times, on disk %+v", a.fences, a.disk)
				}
				a.answer(func(s *hold.WitnessSays) { s.Epoch, s.Primary, s.Mirror, s.Lease = 1, "a", "b", lease })
				if _, _, ok := a.s.ServeUntil(a.now); ok {
					t.Error("an older answer gave the right back")
				}
			})
		}
	}
	t.Run("errors and refusals do not", func(t *testing.T) {
		a := leasedPrimary(t)
		a.answer(noLease, func(s *hold.WitnessSays) { s.Refused = "ANYTHING" })
		a.wantServing(true)
	})
	t.Run("lower revisions are ignored", func(t *testing.T) {
		a := leasedPrimary(t)
		a.answer(sole, func(s *hold.WitnessSays) { s.Revision-- })
		if a.fence.Endless {
			t.Error("an older record made it sole")
		}
	})
}

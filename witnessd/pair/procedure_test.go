package pair_test

import (
	"strings"
	"testing"
	"time"

	"github.com/witnessd/witnessd/witnessd/pair"
)

func (l *leader) wantStep(step pair.ProcedureStep) {
	l.t.Helper()
	if p := l.r.Procedure; p == nil || p.Step != step {
		l.t.Fatalf("procedure %+v, last %+v; want step %v", p, l.r.Last, step)
	}
}

func (l *leader) wantEnded(done bool, reason pair.Reason) {
	l.t.Helper()
	last := l.r.Last
	if l.r.Procedure != nil || last == nil || last.Done != done || last.Reason != reason {
		l.t.Fatalf("procedure %+v, last %+v; want it ended: done %t, reason %q", l.r.Procedure, last, done, reason)
	}
}

func TestSwitchover(t *testing.T) {
	for _, test := range []struct {
		name  string
		story func(l *leader)
	}{
		{"primary hands over, the mirror serves: done", func(l *leader) {
			l.says("a", released(true))
			l.says("b", partnerReleased(true))
			l.wantStep(pair.StepPromote)
			l.wantEpoch("b", 2)
			l.hear("b")
			l.wantEnded(true, pair.ReasonNone)
		}},
		{"primary is lost instead: promoted when its lease is over", func(l *leader) {
			l.at(3 * time.Second)
			l.left("b")
			l.wantEpoch("b", 2)
		}},
		{"nothing happens: failed when it is late, not before", func(l *leader) {
			for at := time.Second; at < 30*time.Second; at += time.Second {
				l.at(at)
				l.hear("a", "b")
				l.lease("a")
			}
			l.wantStep(pair.StepRelease)
			l.at(30 * time.Second)
			l.hear("a")
			l.wantEnded(false, pair.ReasonTimedOut)
			l.wantEpoch("a", 1)
		}},
		{"a new leader counts the step anew", func(l *leader) {
			l.at(20 * time.Second)
			l.elect()
			l.hear("a", "b")
			l.at(49 * time.Second)
			l.hear("a", "b")
			l.wantStep(pair.StepRelease)
			l.at(50 * time.Second)
			l.hear("a", "b")
			l.wantEnded(false, pair.ReasonTimedOut)
		}},
		{"stopped in vain, as the mirror may lack commits: failed and reinstated at once", func(l *leader) {
			l.apply(pair.Expose{Host: "a"})
			l.says("a", released(false))
			l.wantEnded(false, pair.ReasonReleased)
			l.wantEpoch("a", 2)
		}},
		{"hearsay does not say that it was in vain", func(l *leader) {
			l.apply(pair.Expose{Host: "a"})
			l.hear("a")
			l.says("b", partnerReleased(false))
			l.wantStep(pair.StepRelease)
			l.says("a", released(true))
			l.wantEpoch("b", 2)
		}},
		{"stopped, and the mirror cannot be promoted: failed and reinstated after one longest lease", func(l *leader) {
			l.says("a", released(true))
			l.at(3 * time.Second)
			l.says("a", released(true))
			l.wantStep(pair.StepRelease)
			l.at(3*time.Second + ms)
			l.says("a", released(true))
			l.wantEnded(false, pair.ReasonReleased)
			l.wantEpoch("a", 2)
		}},
		{"new primary gives back before it serves: failed, and the old one takes over again", func(l *leader) {
			l.says("a", released(true))
			l.says("b", partnerReleased(true))
			l.says("b", released(false))
			l.wantEnded(false, pair.ReasonReleased)
			l.says("a", partnerReleased(false))
			l.wantEpoch("a", 3)
		}},
		{"new primary is lost before it serves: failed when its lease is over", func(l *leader) {
			l.says("a", released(true))
			l.says("b", partnerReleased(true))
			l.at(3*time.Second + ms)
			l.tick()
			l.wantEnded(false, pair.ReasonPrimarySilent)
		}},
		{"new primary does not come to serve: failed when it is late", func(l *leader) {
			l.says("a", released(true))
			l.says("b", partnerReleased(true))
			for at := time.Second; at <= 60*time.Second; at += time.Second {
				l.at(at)
				l.wantStep(pair.StepPromote)
				l.says("b", func(r *pair.Report) { r.Serving = false })
				l.lease("b")
			}
			l.wantEnded(false, pair.ReasonTimedOut)
		}},
		{"new primary is heard, but does not hear: failed when its lease is over", func(l *leader) {
			l.says("a", released(true))
			l.says("b", partnerReleased(true))
			deaf := func(r *pair.Report) { r.Epoch, r.Revision, r.AskLease, r.Serving = 1, 1, false, false }
			l.at(3*time.Second - ms)
			l.says("b", deaf)
			l.wantStep(pair.StepPromote)
			l.at(3 * time.Second)
			l.says("b", deaf)
			l.wantEnded(false, pair.ReasonPrimarySilent)
			l.says("a", func(r *pair.Report) { r.Promise = 0 })
			l.wantEpoch("a", 3)
		}},
		{"serving another epoch is not serving this one", func(l *leader) {
			l.says("a", released(true))
			l.says("b", partnerReleased(true))
			l.says("b", func(r *pair.Report) { r.Epoch = 1 })
			l.wantStep(pair.StepPromote)
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			l := armed(t)
			l.hear("a", "b")
			l.lease("a")
			l.must(pair.WishSwitchover{By: "op"})
			l.wantStep(pair.StepRelease)
			test.story(l)
		})
	}
}

// TestForced is rule R14.
func TestForced(t *testing.T) {
	sole := func(l *leader) { l.apply(pair.Expose{Host: "a"}) }
	silent := func(l *leader) { l.after(4 * time.Second); l.left("b") }
	for _, test := range []struct {
		name   string
		before []func(l *leader)
		wish   pair.WishForce
		want   pair.Reason // of the refusal
		story  func(l *leader)
	}{
		{"leased: asked, then leases are withheld, then promoted", nil, pair.WishForce{}, pair.ReasonNone, func(l *leader) {
			l.at(4*time.Second - ms)
			l.hear("a", "b")
			l.lease("a")
			l.wantStep(pair.StepRelease)
			l.at(4 * time.Second)
			l.hear("a", "b")
			l.wantStep(pair.StepWithhold)
			if l.lease("a") {
				l.t.Error("a lease was granted")
			}
			l.at(7*time.Second - 2*ms)
			l.hear("a")
			l.left("b")
			l.wantEpoch("a", 1)
			l.at(7*time.Second - ms)
			l.hear("a")
			l.left("b")
			l.wantEpoch("b", 2)
		}},
		{"leased, and the mirror goes on to promise: fails in the end, and leases are granted again", nil, pair.WishForce{},
			pair.ReasonNone, func(l *leader) {
				for at := time.Second; at <= 13*time.Second; at += time.Second {
					l.at(at)
					l.hear("a", "b")
				}
				l.wantEnded(false, pair.ReasonTimedOut)
				if !l.lease("a") {
					l.t.Error("no lease")
				}
			}},
		{"sole and heard, loss not accepted: asked, then given up", []func(*leader){sole}, pair.WishForce{},
			pair.ReasonNone, func(l *leader) {
				l.at(30*time.Second - ms)
				l.hear("a", "b")
				l.wantStep(pair.StepRelease)
				l.at(30 * time.Second)
				l.hear("a", "b")
				l.wantEnded(false, pair.ReasonLossNotAccepted)
			}},
		{"sole and heard, then silent: no longer waited for", []func(*leader){sole}, pair.WishForce{AcceptLoss: true, HostOff: "a"},
			pair.ReasonNone, func(l *leader) {
				l.at(3 * time.Second)
				l.left("b")
				l.at(4 * time.Second)
				l.left("b")
				l.wantEpoch("b", 2)
			}},
		{"sole, loss accepted, released without everything: promoted at once, and the loss is recorded",
			[]func(*leader){sole}, pair.WishForce{AcceptLoss: true}, pair.ReasonNone, func(l *leader) {
				l.says("a", released(false))
				l.says("b", partnerReleased(false))
				l.wantEpoch("b", 2)
				if p, ok := l.proposed[len(l.proposed)-1].(pair.Promote); !ok || !p.Forced {
					l.t.Errorf("proposed %+v", l.proposed[len(l.proposed)-1])
				}
			}},
		{"sole, loss accepted, released with everything: no loss", []func(*leader){sole}, pair.WishForce{AcceptLoss: true},
			pair.ReasonNone, func(l *leader) {
				l.says("a", released(true))
				l.says("b", partnerReleased(true))
				if p, ok := l.last().(pair.Promote); !ok || p.Forced {
					l.t.Errorf("proposed %+v", l.last())
				}
			}},
		{"sole and silent, loss not accepted: refused", []func(*leader){sole, silent}, pair.WishForce{},
			pair.ReasonLossNotAccepted, nil},
		{"sole and silent, no word that it is off: refused", []func(*leader){sole, silent},
			pair.WishForce{AcceptLoss: true}, pair.ReasonHostOffUnconfirmed, nil},
		{"sole and silent, but heard by the mirror: refused", []func(*leader){sole, silent, func(l *leader) { l.hear("b") }},
			pair.WishForce{AcceptLoss: true, HostOff: "a"}, pair.ReasonPrimaryHeard, nil},
		{"another host stated off: refused", []func(*leader){sole, silent}, pair.WishForce{AcceptLoss: true, HostOff: "b"},
			pair.ReasonBadSpec, nil},
		{"stated off: asked, then withheld, then promoted with loss", []func(*leader){sole, silent},
			pair.WishForce{AcceptLoss: true, HostOff: "a"}, pair.ReasonNone, func(l *leader) {
				l.after(4*time.Second - ms)
				l.left("b")
				l.wantStep(pair.StepRelease)
				l.after(ms)
				l.left("b")
				l.wantEpoch("b", 2)
				if p, ok := l.last().(pair.Promote); !ok || !p.Forced {
					l.t.Errorf("proposed %+v", l.last())
				}
			}},
		{"stated off, and a new leader: grace is waited for", []func(*leader){sole, silent},
			pair.WishForce{AcceptLoss: true, HostOff: "a"}, pair.ReasonNone, func(l *leader) {
				l.after(4 * time.Second)
				l.elect()
				l.tick()
				l.base = l.now
				l.at(3*time.Second - ms)
				l.left("b")
				l.wantEpoch("a", 1)
				l.at(5 * time.Second)
				l.left("b")
				l.wantEpoch("b", 2)
			}},
		{"stated off, but the mirror hears it after all: fails", []func(*leader){sole, silent},
			pair.WishForce{AcceptLoss: true, HostOff: "a"}, pair.ReasonNone, func(l *leader) {
				for range 30 {
					l.after(time.Second)
					l.says("b", func(r *pair.Report) { r.Promise = 0 })
				}
				l.wantEnded(false, pair.ReasonTimedOut)
				l.wantEpoch("a", 1)
			}},
		{"stated off, but this leader hears it after all: fails", []func(*leader){sole, silent},
			pair.WishForce{AcceptLoss: true, HostOff: "a"}, pair.ReasonNone, func(l *leader) {
				for range 60 {
					l.after(time.Second)
					l.left("b")
					l.hear("a")
				}
				l.wantEnded(false, pair.ReasonTimedOut)
				l.wantEpoch("a", 1)
			}},
		{"stated off, but it has not heard of its mirror: refused", []func(*leader){sole, func(l *leader) {
			l.apply(pair.ReplaceMirror{Member: pair.Member{Host: "c", Instance: "db"}})
			l.after(4 * time.Second)
			l.left("c")
		}}, pair.WishForce{AcceptLoss: true, HostOff: "a"}, pair.ReasonPrimarySilent, nil},
		{"fencing command succeeds: promoted", []func(*leader){sole, silent}, pair.WishForce{AcceptLoss: true, CanFence: true},
			pair.ReasonNone, func(l *leader) {
				l.after(4 * time.Second)
				l.left("b")
				l.wantStep(pair.StepFence)
				if l.tick(); l.fencing != 1 {
					l.t.Errorf("the command ran %d times", l.fencing)
				}
				l.step(pair.FenceDone{Procedure: "another", OK: true})
				l.wantStep(pair.StepFence)
				l.step(pair.FenceDone{Procedure: l.r.Procedure.ID, OK: true})
				l.left("b")
				l.wantEpoch("b", 2)
			}},
		{"fencing command fails: nothing moves", []func(*leader){sole, silent}, pair.WishForce{AcceptLoss: true, CanFence: true},
			pair.ReasonNone, func(l *leader) {
				l.after(4 * time.Second)
				l.left("b")
				l.step(pair.FenceDone{Procedure: l.r.Procedure.ID, Detail: "no power switch"})
				l.wantEnded(false, pair.ReasonFenceFailed)
				l.wantEpoch("a", 1)
			}},
		{"fencing command says nothing: nothing moves", []func(*leader){sole, silent},
			pair.WishForce{AcceptLoss: true, CanFence: true}, pair.ReasonNone, func(l *leader) {
				l.after(4 * time.Second)
				l.left("b")
				l.after(time.Minute)
				l.left("b")
				l.wantEnded(false, pair.ReasonFenceFailed)
			}},
		{"fencing command runs once for each leader", []func(*leader){sole, silent},
			pair.WishForce{AcceptLoss: true, CanFence: true}, pair.ReasonNone, func(l *leader) {
				l.after(4 * time.Second)
				l.left("b")
				l.elect()
				l.tick()
				l.tick()
				if l.fencing != 2 {
					l.t.Errorf("the command ran %d times", l.fencing)
				}
			}},
		{"released during the fencing: promoted", []func(*leader){sole, silent},
			pair.WishForce{AcceptLoss: true, CanFence: true}, pair.ReasonNone, func(l *leader) {
				l.after(4 * time.Second)
				l.left("b")
				l.says("b", partnerReleased(false), func(r *pair.Report) { r.HearsPartner = false })
				l.wantEpoch("b", 2)
			}},
		{"restored: refused", []func(*leader){func(l *leader) { l.apply(pair.Restore{Generation: 1}) }},
			pair.WishForce{}, pair.ReasonForming, nil},
		{"another change: refused", []func(*leader){func(l *leader) { l.must(pair.WishSwitchover{}) }},
			pair.WishForce{}, pair.ReasonProcedureUnderWay, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			l := armed(t)
			l.hear("a", "b")
			l.lease("a")
			for _, before := range test.before {
				before(l)
			}
			wantRefusal(t, l.ask(test.wish), test.want)
			if test.story != nil && l.r.Procedure != nil {
				l.wantStep(pair.StepRelease)
				test.story(l)
			}
		})
	}
}

// TestExposeWhileWithheld: a sole right has no end, so it must not begin while the end of a lease is waited for.
func TestExposeWhileWithheld(t *testing.T) {
	l := armed(t)
	l.must(pair.WishForce{AcceptLoss: true})
	l.apply(pair.StepProcedure{ID: l.r.Procedure.ID, Step: pair.StepWithhold, Timeout: time.Minute})
	l.says("a", func(r *pair.Report) { r.Request, r.RequestRevision = pair.RequestExpose, r.Revision })
	if l.r.Right != pair.RightLeased || proposedAny[pair.Expose](l) {
		t.Errorf("right is %v, proposed %v", l.r.Right, l.proposed)
	}
}

// TestOperatorDecidesOnWhatHeSaw: the wish names revision and epoch, and a change of either refuses it.
func TestOperatorDecidesOnWhatHeSaw(t *testing.T) {
	for _, test := range []struct {
		name string
		ask  func(l *leader) pair.Ask
		want pair.Reason
	}{
		{"as it is", func(l *leader) pair.Ask { return pair.Ask{Revision: l.r.Revision, Epoch: l.r.Epoch} }, pair.ReasonNone},
		{"whatever it is", func(*leader) pair.Ask { return pair.Ask{} }, pair.ReasonNone},
		{"another revision", func(l *leader) pair.Ask { return pair.Ask{Revision: l.r.Revision - 1} }, pair.ReasonStaleRevision},
		{"another epoch", func(l *leader) pair.Ask { return pair.Ask{Epoch: l.r.Epoch + 1} }, pair.ReasonStaleEpoch},
		{"while a change is undecided", func(l *leader) pair.Ask {
			l.wait = true
			l.ask(pair.WishCommand{Body: pair.SetPolicy{Policy: profile("fast")}})
			return pair.Ask{}
		}, pair.ReasonChangeUndecided},
		{"while an agent is ahead", func(l *leader) pair.Ask {
			l.says("b", func(r *pair.Report) { r.Revision++ })
			return pair.Ask{}
		}, pair.ReasonAhead},
	} {
		t.Run(test.name, func(t *testing.T) {
			l := armed(t)
			ask := test.ask(l)
			ask.Token, ask.Wish = 99, pair.WishCommand{Body: pair.SetMode{Mode: pair.ModeManual}}
			l.step(ask)
			wantRefusal(t, l.replies[99], test.want)
			if l.wait = false; (l.r.Mode == pair.ModeManual) != (test.want == pair.ReasonNone) {
				t.Errorf("mode is %v", l.r.Mode)
			}
		})
	}
	t.Run("of a removed pair", func(t *testing.T) {
		l := newLeader(t)
		l.must(pair.WishRemove{})
		wantRefusal(t, l.ask(pair.WishSwitchover{}), pair.ReasonRemoved)
	})
}

// TestRemove is the end of rule R16.
func TestRemove(t *testing.T) {
	unmanaged := func(r *pair.Report) { r.Unmanaged = true }
	for _, test := range []struct {
		name  string
		wish  pair.WishRemove
		story func(l *leader)
		want  pair.Stage
	}{
		{"confirmed by the primary", pair.WishRemove{}, func(l *leader) { l.says("a", unmanaged) }, pair.StageRemoved},
		{"released by the primary", pair.WishRemove{}, func(l *leader) { l.says("a", released(false)) }, pair.StageRemoved},
		{"confirmed of an earlier revision: not yet", pair.WishRemove{}, func(l *leader) {
			l.says("a", unmanaged, func(r *pair.Report) { r.Revision-- })
		}, pair.StageReady},
		{"confirmed by the mirror: not yet", pair.WishRemove{}, func(l *leader) { l.says("b", unmanaged) }, pair.StageReady},
		{"late: given up", pair.WishRemove{}, func(l *leader) {
			l.at(30 * time.Second)
			l.hear("a")
			l.wantEnded(false, pair.ReasonPrimarySilent)
		}, pair.StageReady},
		{"late, and the host is stated off", pair.WishRemove{HostOff: "a"}, func(l *leader) {
			l.at(30*time.Second - ms)
			l.tick()
			if l.r.Stage == pair.StageRemoved {
				l.t.Error("removed early")
			}
			l.at(30 * time.Second)
			l.tick()
		}, pair.StageRemoved},
		{"no failover meanwhile", pair.WishRemove{}, func(l *leader) {
			l.at(20 * time.Second)
			l.left("b")
			l.wantEpoch("a", 1)
		}, pair.StageReady},
	} {
		t.Run(test.name, func(t *testing.T) {
			l := armed(t)
			l.must(test.wish)
			test.story(l)
			if l.r.Stage != test.want {
				t.Errorf("pair is %v, want %v", l.r.Stage, test.want)
			}
		})
	}
	t.Run("refusals", func(t *testing.T) {
		l := armed(t)
		wantRefusal(t, l.ask(pair.WishRemove{HostOff: "b"}), pair.ReasonBadSpec)
		l.at(3*time.Second + ms)
		wantRefusal(t, l.ask(pair.WishRemove{}), pair.ReasonHostOffUnconfirmed)
		l.apply(pair.Restore{Generation: 1})
		wantRefusal(t, l.ask(pair.WishRemove{HostOff: "a"}), pair.ReasonRestored)
	})
}

// TestRelief: a primary whose agent is well and whose database does not serve keeps its leases for ever; they are
// taken from it, if the mirror can take over.
func TestRelief(t *testing.T) {
	idle := func(r *pair.Report) { r.Serving = false }
	for _, test := range []struct {
		name string
		// Each second, for a minute.
		each func(l *leader)
		want bool
	}{
		{"does not serve", func(l *leader) { l.says("a", idle); l.hear("b") }, true},
		{"served in between", func(l *leader) {
			l.says("a", idle)
			l.hear("b")
			if l.now.Sub(l.base) == 30*time.Second {
				l.hear("a")
			}
		}, false},
		{"mirror cannot be promoted", func(l *leader) {
			l.says("a", idle)
			l.says("b", func(r *pair.Report) { r.Engine.Promotable = false })
		}, false},
		{"mirror is silent", func(l *leader) { l.says("a", idle) }, false},
		{"right is sole", func(l *leader) {
			if l.r.Right == pair.RightLeased {
				l.apply(pair.Expose{Host: "a"})
			}
			l.says("a", idle)
			l.hear("b")
		}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			l := armed(t)
			for s := range 61 {
				l.at(time.Duration(s) * time.Second)
				if s < 60 && l.r.Procedure != nil {
					t.Fatalf("began after %ds", s)
				}
				l.lease("a")
				test.each(l)
			}
			if (l.r.Procedure != nil) != test.want {
				t.Fatalf("procedure %+v", l.r.Procedure)
			}
			if p := l.r.Procedure; p != nil && (p.Kind != pair.KindForced || p.AcceptLoss || p.Step != pair.StepRelease ||
				!strings.Contains(p.Reason, "1m0s")) {
				t.Errorf("procedure %+v", p)
			}
		})
	}
}

func TestProcedureIDsAreOfRevisions(t *testing.T) {
	l := armed(t)
	l.must(pair.WishSwitchover{})
	first := l.r.Procedure.ID
	l.apply(pair.EndProcedure{ID: first})
	l.must(pair.WishSwitchover{})
	if second := l.r.Procedure.ID; second == first || !strings.HasPrefix(second, "p1-long-") {
		t.Errorf("ids %q and %q", first, second)
	}
}

package hold_test

import (
	"slices"
	"testing"
	"time"

	"github.com/witnessd/witnessd/agent/hold"
)

// TestFileIsSavedFirst is rule R7: what the file will say is on disk before anything else is done or told; only
// service may be ended before, which needs no right.
func TestFileIsSavedFirst(t *testing.T) {
	for name, story := range map[string]func() *agent{
		"primary hears of a later epoch":    func() *agent { a := leasedPrimary(t); a.answer(newEpoch("b")); return a },
		"primary hears it from the partner": func() *agent { a := leasedPrimary(t); a.asks(laterEpoch); return a },
		"mirror is told to promote": func() *agent {
			a := start(t, "b", fileOf("b", 1, "a"), hold.Mark{})
			a.answer(newEpoch("b"))
			return a
		},
		"mirror hears it from the partner": func() *agent {
			a := start(t, "b", fileOf("b", 1, "a"), hold.Mark{})
			a.asks(func(s *hold.Says) { s.Epoch, s.Primary = 2, "b" })
			return a
		},
		"database that died": func() *agent {
			a := leasedPrimary(t)
			a.step(hold.EngineExited{Reason: "test"})
			a.finish()
			return a
		},
		"shorter policy": func() *agent {
			a := leasedPrimary(t)
			a.answer(later, func(s *hold.WitnessSays) { s.Timing.Lease = time.Second })
			return a
		},
		"first word": func() *agent { a := blank(t, "b"); a.answer(); return a },
	} {
		t.Run(name, func(t *testing.T) {
			a := story()
			if !has[hold.Save](a) {
				t.Fatalf("nothing was saved: %v", a.acts)
			}
			saved := false
			for _, done := range slices.Backward(a.acts) {
				switch act := done.(type) {
				case hold.Save:
					saved = true
				case hold.Fence, hold.Note:
				case hold.Do:
					if saved && act.Op != hold.OpNone {
						t.Errorf("%v begun before the file was saved: %v", act.Op, a.acts)
					}
				default:
					if saved {
						t.Errorf("%T before the file was saved: %v", act, a.acts)
					}
				}
			}
		})
	}
}

func laterEpoch(s *hold.Says) { s.Epoch, s.Primary = s.Epoch+1, "b" }

// TestPartnerLease is the granter's half of rules R1 and R7.
func TestPartnerLease(t *testing.T) {
	for _, test := range []struct {
		name  string
		file  hold.File
		story func(a *agent)
		ask   func(*hold.Says)
		want  string // why it is refused; empty: granted
	}{
		{"to the file's primary of the file's epoch", fileOf("b", 2, "a"), nil, nil, ""},
		{"before the witness was heard", fileOf("b", 2, "a"), nil, nil, ""},
		{"not for an older epoch", fileOf("b", 2, "a"), nil, func(s *hold.Says) { s.Epoch = 1 }, "STALE_EPOCH"},
		{"for a later epoch, once that is in the file", fileOf("b", 2, "a"), nil,
			func(s *hold.Says) { s.Epoch, s.Primary = 3, "a" }, ""},
		{"not by the primary", fileOf("b", 2, "b"), nil, func(s *hold.Says) { s.Primary = "b" }, "NOT_PRIMARY"},
		{"not by a host that is not that epoch's mirror", func() hold.File {
			f := fileOf("b", 2, "a")
			f.Mirror = "c"
			return f
		}(), nil, nil, "NOT_PRIMARY"},
		{"not while forming", fileOf("b", 0, "a"), nil, func(s *hold.Says) { s.Epoch = 0 }, "FORMING"},
		{"not after the partner said that it released", fileOf("b", 2, "a"), func(a *agent) {
			a.asks(func(s *hold.Says) { s.Released, s.AskLease = 2, false })
		}, nil, "EPOCH_RELEASED"},
		{"not after the witness said so", fileOf("b", 2, "a"), func(a *agent) {
			a.answer(func(s *hold.WitnessSays) { s.Released = 2 })
		}, nil, "EPOCH_RELEASED"},
		{"not while leases are withheld", fileOf("b", 2, "a"), func(a *agent) { a.answer(asked(hold.AskWithhold)) }, nil,
			"LEASE_WITHHELD"},
		{"again to a primary that has a later record than that", fileOf("b", 2, "a"), func(a *agent) {
			a.answer(asked(hold.AskWithhold))
		}, func(s *hold.Says) { s.Revision += 5 }, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			a := start(t, "b", test.file, hold.Mark{})
			a.at(lease) // what it assumes to have promised before is over
			a.looks()
			if test.story != nil {
				test.story(a)
			}
			reply := a.asks(func(s *hold.Says) {
				if test.ask != nil {
					test.ask(s)
				}
			})
			if reply.Refused != test.want || (reply.Lease == lease) != (test.want == "") || reply.AskLease {
				t.Errorf("replied %+v, want refusal %q", reply, test.want)
			}
			promise := lease
			if test.want != "" {
				promise = 0
			}
			if got := a.report().Promise; got != promise {
				t.Errorf("promise %v, want %v", got, promise)
			}
		})
	}
	t.Run("to a host that is not the partner", func(t *testing.T) {
		a := start(t, "b", fileOf("b", 2, "a"), hold.Mark{})
		a.step(hold.PartnerAsked{Token: 1, Host: "z", Says: hold.Says{Pair: "p1", Epoch: 2, Primary: "z", AskLease: true}})
		if reply := get[hold.ReplyPartner](a).Says; reply.Lease > 0 || reply.Refused == "" {
			t.Errorf("replied %+v", reply)
		}
	})
	t.Run("without a file", func(t *testing.T) {
		a := blank(t, "b")
		a.step(hold.PartnerAsked{Token: 1, Host: "a", Says: hold.Says{Pair: "p1", Epoch: 2, Primary: "a", AskLease: true}})
		if reply := get[hold.ReplyPartner](a).Says; reply.Lease > 0 || reply.Refused == "" || a.saved {
			t.Errorf("replied %+v, saved %t", reply, a.saved)
		}
	})
}

// TestPromiseIsWaitedFor: a mirror that was told to promote serves when its own promise has run out, and not a
// millisecond before, whatever the witness grants.
func TestPromiseIsWaitedFor(t *testing.T) {
	for _, test := range []struct {
		name  string
		begin func(t *testing.T) *agent
		want  time.Duration // after the beginning
	}{
		{"its last grant", func(t *testing.T) *agent {
			a := start(t, "b", fileOf("b", 1, "a"), hold.Mark{})
			a.at(10 * time.Second)
			a.asks()
			return a.mark()
		}, lease},
		{"after a restart, the longest lease in its file", func(t *testing.T) *agent {
			f := fileOf("b", 1, "a")
			f.Longest = 7 * time.Second
			return start(t, "b", f, hold.Mark{})
		}, 7 * time.Second},
		{"without a file, the longest that the witness knows, from its start", func(t *testing.T) *agent {
			a := blank(t, "b")
			a.at(time.Second)
			a.answer(func(s *hold.WitnessSays) { s.Longest = 7 * time.Second })
			a.at(0)
			return a
		}, 7 * time.Second},
		{"none, if the primary released", func(t *testing.T) *agent {
			a := start(t, "b", fileOf("b", 1, "a"), hold.Mark{})
			a.asks()
			a.at(100 * ms)
			a.asks(func(s *hold.Says) { s.Released, s.AskLease = 1, false })
			a.at(0)
			return a
		}, 200 * ms},
		{"a release of an older epoch shortens nothing", func(t *testing.T) *agent {
			a := start(t, "b", fileOf("b", 2, "a"), hold.Mark{})
			a.asks()
			a.at(100 * ms)
			a.asks(func(s *hold.Says) { s.Released, s.AskLease = 1, false })
			a.at(0)
			return a
		}, lease},
	} {
		t.Run(test.name, func(t *testing.T) {
			a := test.begin(t)
			a.at(200 * ms)
			a.looks()
			a.answer(newEpoch("b"))
			a.at(test.want - ms)
			a.answer()
			a.step(hold.Tick{})
			if _, _, ok := a.s.ServeUntil(a.now); ok && test.want > 200*ms {
				t.Fatal("serves while its promise may be out")
			}
			a.at(test.want)
			a.answer()
			if _, _, ok := a.s.ServeUntil(a.now); !ok || a.do.Op != hold.OpPromote {
				t.Errorf("does not serve, engine told %v", a.dos)
			}
		})
	}
}

// TestEpochFromThePartnerBringsNoRecord: of a later epoch, the partner tells who has it and no more.
func TestEpochFromThePartnerBringsNoRecord(t *testing.T) {
	a := start(t, "b", fileOf("b", 1, "a"), hold.Mark{})
	a.asks(func(s *hold.Says) { s.Epoch, s.Revision, s.Longest = 2, 99, 9*time.Second })
	if f := a.disk; f.Epoch != 2 || f.Revision != 10 || f.Longest != 9*time.Second || f.Primary != "a" || f.Mirror != "b" {
		t.Errorf("on disk %+v: the revision says which policy it has", f)
	}
	p := start(t, "b", fileOf("b", 1, "a"), hold.Mark{})
	p.at(lease)
	p.looks()
	p.answer(manual)
	p.answer(manual, later)
	p.asks(func(s *hold.Says) { s.Epoch, s.Primary, s.AskLease = 2, "b", false })
	p.step(hold.Tick{})
	if _, _, ok := p.s.ServeUntil(p.now); ok {
		t.Error("serves on the right of the epoch before")
	}
	p.vouches(p.now)
	if until, endless, ok := p.s.ServeUntil(p.now); !ok || endless || until != p.now.Add(lease-guard) {
		t.Errorf("serves until %v, endless %t, %t; want one lease", until, endless, ok)
	}
}

// TestForget: a host that the pair does not name any more lets go, but opens nothing that was closed.
func TestForget(t *testing.T) {
	for _, test := range []struct {
		name   string
		a      func(t *testing.T) *agent
		fenced bool
	}{
		{"primary that let go before", func(t *testing.T) *agent {
			a := solePrimary(t)
			a.answer(sole, asked(hold.AskUnmanage))
			a.finish() // let go
			return a
		}, false},
		{"primary that serves by right", leasedPrimary, false},
		{"primary that was fenced", func(t *testing.T) *agent {
			a := leasedPrimary(t)
			a.step(hold.Fenced{Why: "test"})
			return a
		}, true},
		{"mirror", mirror, false},
		{"mirror whose database was not looked at yet", func(t *testing.T) *agent {
			return start(t, "b", fileOf("b", 1, "a"), hold.Mark{})
		}, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			a := test.a(t)
			a.fences = 0
			a.step(hold.Forget{})
			if a.s.Known || a.s.OtherRight(a.now) || (a.fences > 0) != test.fenced {
				t.Errorf("known %t, fenced %d times", a.s.Known, a.fences)
			}
			if a.step(hold.Tick{}); has[hold.Renew](a) || has[hold.Do](a) {
				t.Errorf("did %v", a.acts)
			}
		})
	}
}

func TestOtherRight(t *testing.T) {
	for _, test := range []struct {
		name string
		a    *agent
		want bool
	}{
		{"primary", leasedPrimary(t), true},
		{"mirror with a promise", start(t, "b", fileOf("b", 1, "a"), hold.Mark{}), true},
		{"mirror without", func() *agent { a := start(t, "b", fileOf("b", 1, "a"), hold.Mark{}); a.at(lease); return a }(), false},
		{"forming", start(t, "b", fileOf("b", 0, "a"), hold.Mark{}), false},
		{"no file", blank(t, "b"), false},
	} {
		if got := test.a.s.OtherRight(test.a.now); got != test.want {
			t.Errorf("%s: %t", test.name, got)
		}
	}
}

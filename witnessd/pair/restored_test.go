package pair_test

import (
	"slices"
	"testing"
	"time"

	"github.com/witnessd/witnessd/witnessd/pair"
)

// TestAdoption is rule R15.
func TestAdoption(t *testing.T) {
	file := func(epoch pair.Epoch, primary pair.HostID, longest time.Duration) func(*pair.Report) {
		return func(r *pair.Report) {
			r.Epoch, r.EpochPrimary, r.LongestLease, r.Revision = epoch, primary, longest, 900
			r.AskLease, r.Serving, r.FileKnown = false, false, epoch > 0
		}
	}
	for _, test := range []struct {
		name    string
		a, b    func(*pair.Report)
		speak   pair.HostID
		after   time.Duration // adopted at this instant, and not a millisecond before
		epoch   pair.Epoch    // 0: never
		primary pair.HostID
	}{
		{"both remember what the record does", file(1, "a", 3*time.Second), file(1, "a", 3*time.Second), "",
			3 * time.Second, 2, "a"},
		{"one remembers more", file(4, "a", 3*time.Second), file(5, "b", 3*time.Second), "", 3 * time.Second, 6, "b"},
		{"one has a longer lease in its file", file(4, "a", 12*time.Second), file(5, "b", 3*time.Second), "",
			12 * time.Second, 6, "b"},
		{"one has no file", file(4, "a", 3*time.Second), file(0, "", 0), "", 0, 0, ""},
		{"one has no file, and an operator speaks for it: far above what it may remember", file(4, "a", 3*time.Second),
			file(0, "", 0), "b", 3 * time.Second, 100_005, "a"},
		{"one is silent", file(4, "a", 3*time.Second), nil, "", 0, 0, ""},
		{"one is silent, and an operator speaks for it", nil, file(5, "b", 3*time.Second), "a", 3 * time.Second, 100_006, "b"},
		{"an operator speaks for one that is there", file(4, "a", 3*time.Second), file(5, "b", 3*time.Second), "b",
			3 * time.Second, 6, "b"},
		{"the newest epoch is of a host that the record does not name", file(4, "a", 3*time.Second),
			file(5, "z", 3*time.Second), "", 0, 0, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			l := armed(t)
			l.at(time.Hour) // the leader has led for long: that does not count
			l.apply(pair.Restore{Generation: 1})
			l.base = l.now
			say := func() {
				for h, report := range map[pair.HostID]func(*pair.Report){"a": test.a, "b": test.b} {
					if report != nil {
						l.says(h, report)
					}
				}
			}
			say()
			if test.speak != "" {
				wantRefusal(t, l.ask(pair.WishSpeak{Host: test.speak, By: "op"}), pair.ReasonNone)
			}
			wait := test.after
			if test.epoch == 0 {
				wait = time.Minute
			}
			l.at(wait - ms)
			l.tick()
			if l.r.Stage != pair.StageRestored {
				t.Fatalf("adopted early: epoch %d of %s", l.r.Epoch, l.r.Primary)
			}
			l.at(wait)
			say()
			if test.epoch == 0 {
				if l.r.Stage != pair.StageRestored || proposedAny[pair.Adopt](l) {
					t.Errorf("pair is %v, proposed %v", l.r.Stage, l.proposed)
				}
				return
			}
			l.wantEpoch(test.primary, test.epoch)
			if l.r.Stage != pair.StageReady || l.r.Right != pair.RightSole {
				t.Errorf("pair is %v, right %v", l.r.Stage, l.r.Right)
			}
		})
	}
	t.Run("speaking for a stranger, and when nobody waits", func(t *testing.T) {
		l := armed(t)
		wantRefusal(t, l.ask(pair.WishSpeak{Host: "a"}), pair.ReasonBadSpec)
		l.apply(pair.Restore{Generation: 1})
		wantRefusal(t, l.ask(pair.WishSpeak{Host: "z"}), pair.ReasonBadSpec)
	})
	t.Run("what was heard before the restore does not count", func(t *testing.T) {
		l := armed(t)
		l.apply(pair.Restore{Generation: 1})
		l.at(time.Minute)
		l.tick()
		if l.r.Stage != pair.StageRestored {
			t.Errorf("pair is %v", l.r.Stage)
		}
	})
}

// TestRestoredFromItsFirstMoments: the record says forming, and the agents know better.
func TestRestoredFromItsFirstMoments(t *testing.T) {
	l := newLeader(t)
	l.apply(pair.Restore{Generation: 1})
	if l.r.Stage != pair.StageForming {
		t.Fatal(l.r.Stage)
	}
	remembers := func(r *pair.Report) { r.Epoch, r.EpochPrimary, r.LongestLease = 4, "b", 3*time.Second }
	l.says("b", remembers)
	if a := l.confirm("b", l.now); !a.Mute {
		t.Errorf("answered %+v", a)
	}
	if v := pair.Explain(l.r, l.w, l.now); len(v) != 1 || v[0].OK() {
		t.Errorf("explained by %v", v)
	}
	l.hear("a")
	if l.r.Epoch != 0 {
		t.Errorf("begun with epoch %d", l.r.Epoch)
	}
	l.at(3 * time.Second)
	l.says("b", remembers)
	l.wantEpoch("b", 5)
}

// TestAhead is the end of R15: a leader that hears of more than its record holds decides nothing, and says so once.
func TestAhead(t *testing.T) {
	for name, more := range map[string]func(*pair.Report){
		"epoch":    func(r *pair.Report) { r.Epoch++ },
		"revision": func(r *pair.Report) { r.Revision++ },
	} {
		t.Run(name, func(t *testing.T) {
			l := armed(t)
			before := l.r
			l.says("b", more, func(r *pair.Report) { r.Promise = 0 })
			l.at(10 * time.Second)
			l.says("b", more, func(r *pair.Report) { r.Promise = 0 })
			l.says("a", func(r *pair.Report) { r.Request, r.RequestRevision = pair.RequestExpose, r.Revision })
			l.tick()
			if l.r != before {
				t.Errorf("decided: %v", l.proposed)
			}
			notes := slices.DeleteFunc(slices.Clone(l.facts), func(f pair.Fact) bool { return f.Kind != pair.FactDecisionsSuspended })
			if len(notes) != 1 {
				t.Errorf("noted %v", notes)
			}
			for _, h := range []pair.HostID{"a", "b"} {
				if a := l.confirm(h, l.now); !a.Mute || a.Refused != pair.ReasonAhead {
					t.Errorf("answered %+v to %s", a, h)
				}
			}
			// When the agent says otherwise, it was another one, and the pair goes on.
			l.left("b")
			l.wantEpoch("b", 2)
		})
	}
}

package pair_test

import (
	"testing"
	"time"

	"github.com/witnessd/witnessd/witnessd/pair"
)

// TestForming is rule R16 for a new pair: it begins when both agents know of it and nothing speaks against it.
func TestForming(t *testing.T) {
	for _, test := range []struct {
		name string
		a, b func(*pair.Report)
		want pair.Reason
	}{
		{"both are free", nil, nil, pair.ReasonNone},
		{"mirror is empty", nil, func(r *pair.Report) { r.Engine.SystemID, r.Member.SystemID = "", "" }, pair.ReasonNone},
		{"mirror holds another database", nil, func(r *pair.Report) { r.Engine.SystemID = "8" }, pair.ReasonForeignData},
		{"primary is empty", func(r *pair.Report) { r.Engine.SystemID = "" }, nil, pair.ReasonPrimaryData},
		{"primary has a right under another id", func(r *pair.Report) { r.OtherRight = true }, nil, pair.ReasonHostBusy},
		{"mirror has a promise under another id", nil, func(r *pair.Report) { r.OtherRight = true }, pair.ReasonHostBusy},
		{"agent complains", nil, func(r *pair.Report) { r.Complaint = "no such instance" }, pair.ReasonHostConflict},
		{"agent has not heard of the pair", nil, func(r *pair.Report) { r.FileKnown = false }, pair.ReasonHostSilent},
	} {
		t.Run(test.name, func(t *testing.T) {
			l := newLeader(t)
			for h, change := range map[pair.HostID]func(*pair.Report){"a": test.a, "b": test.b} {
				if change == nil {
					change = func(*pair.Report) {}
				}
				l.says(h, change)
				l.says(h, change) // the first was an announcement
			}
			l.tick()
			if (l.r.Stage == pair.StageReady) != (test.want == pair.ReasonNone) {
				t.Errorf("pair is %v", l.r.Stage)
			}
			if l.r.Stage == pair.StageForming {
				wantRefusal(t, pair.FormVerdict(l.r, l.w, l.now).Refusal(), test.want)
			}
		})
	}
	t.Run("one is silent", func(t *testing.T) {
		l := newLeader(t)
		l.hear("a", "a")
		l.at(3*time.Second + ms)
		l.hear("b", "b")
		if l.r.Stage != pair.StageForming {
			t.Errorf("pair is %v", l.r.Stage)
		}
		l.hear("a")
		if l.r.Stage != pair.StageReady || l.r.Epoch != 1 || l.r.Right != pair.RightSole {
			t.Errorf("pair is %v, epoch %d, right %v", l.r.Stage, l.r.Epoch, l.r.Right)
		}
	})
	t.Run("removed before it began", func(t *testing.T) {
		l := newLeader(t)
		l.must(pair.WishRemove{By: "op"})
		if l.r.Stage != pair.StageRemoved {
			t.Errorf("pair is %v", l.r.Stage)
		}
	})
}

// TestAnnounce: what agents say of themselves gets into the record, and only when it differs.
func TestAnnounce(t *testing.T) {
	l := armed(t)
	before := l.r.Revision
	l.hear("a", "b")
	if l.r.Revision != before {
		t.Errorf("announced again: %v", l.proposed)
	}
	l.says("b", func(r *pair.Report) { r.Member.ServiceAddress = "b:9" })
	if m, _ := l.r.Member("b"); m.ServiceAddress != "b:9" {
		t.Errorf("member %+v", m)
	}
	l.says("b", func(r *pair.Report) { r.Member.SystemID, r.Member.ServiceAddress = "", "b:9" })
	if m, _ := l.r.Member("b"); m.SystemID != "7" {
		t.Errorf("the identity was forgotten: %+v", m)
	}
	l.says("b", func(r *pair.Report) { r.Member.Instance = "other" })
	if l.r.Revision != before+1 {
		t.Errorf("another instance was announced: %v", l.proposed)
	}
	t.Run("primary that has not heard of its new mirror", func(t *testing.T) {
		l := formed(t)
		l.apply(pair.ReplaceMirror{Member: pair.Member{Host: "c", Instance: "db"}})
		l.says("a", func(r *pair.Report) { r.Epoch-- })
		if m, _ := l.r.Member("a"); m.LinkAddress != "" {
			t.Errorf("announced by an agent of an older epoch: %+v", m)
		}
		l.hear("a")
		if m, _ := l.r.Member("a"); m.LinkAddress == "" {
			t.Error("not announced")
		}
	})
}

// TestReplacedMirrorIsNotHeard: what was heard of the old one says nothing of the new one.
func TestReplacedMirrorIsNotHeard(t *testing.T) {
	l := formed(t)
	l.left("b")
	l.apply(pair.ReplaceMirror{Member: pair.Member{Host: "c", Instance: "db"}})
	if _, _, heard := l.w.SeenOf(l.r, "c", l.now); heard {
		t.Error("c was heard")
	}
	l.left("b")
	if v := pair.FailoverVerdict(l.r, l.w, l.now); v.Ready() {
		t.Error(v)
	}
}

package protocol

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/witnessd/witnessd/agent/hold"
	"github.com/witnessd/witnessd/witnessd/pair"
)

// TestMutantsOfRights is about what may be believed of the right, and acted on.
func TestMutantsOfRights(t *testing.T) {
	play(t, []scenario{
		{"late answer that says sole", func(t *testing.T, w *world) {
			w.alone(t)
			a := w.hosts["a"]
			record := w.record
			sole := a.says(&record, w.leader, pair.Answer{})
			sole.Sent = a.now()
			w.hosts["b"].boot()
			w.armedAgain(t)
			w.cut("a", "w")
			w.cut("a", "b")
			w.run(500 * time.Millisecond)
			a.step(sole)
			w.run(10 * time.Second) // two primaries, if a believes it
			w.heal("a", "w")
			w.heal("a", "b")
			w.armedAgain(t)
		}},
		{"sole of an earlier epoch, and a later one heard from the partner only", func(t *testing.T, w *world) {
			w.must(t, pair.WishCommand{Body: pair.SetMode{Mode: pair.ModeManual}})
			w.run(3 * time.Second)
			w.oneWay("w", "b") // b goes on believing sole
			w.must(t, pair.WishCommand{Body: pair.SetMode{Mode: pair.ModeAutomatic}})
			if !w.until(10*time.Second, func() bool { return w.record.Armed() }) {
				t.Fatal("not armed")
			}
			w.hosts["a"].crash()
			if !w.until(10*time.Second, func() bool { return w.hosts["b"].file.Epoch == 2 }) {
				t.Fatal("b has not heard of its promotion")
			}
			w.run(time.Second)
			w.cut("a", "b")
			w.cut("b", "w")
			w.run(15 * time.Second)
			w.cuts = map[string]bool{}
			w.armedAgain(t)
		}},
		{"arm that is on its way into the log when its agent starts anew", func(t *testing.T, w *world) {
			w.alone(t)
			a := w.hosts["a"]
			w.hosts["b"].boot()
			if !w.until(20*time.Second, func() bool { return a.state.Report(a.now()).Request == hold.RequestArm }) {
				t.Fatal("a does not ask to arm")
			}
			w.commits = func() time.Duration { return 2 * time.Second }
			w.run(20 * time.Millisecond)
			w.commits = nil
			a.killAgent()
			a.boot()
			w.run(500 * time.Millisecond) // the record still says sole
			w.cut("a", "w")
			w.cut("a", "b")
			w.run(15 * time.Second)
			w.cuts = map[string]bool{}
			w.armedAgain(t)
		}},
		{"answer to a request from before the database died", func(t *testing.T, w *world) {
			w.alone(t)
			a := w.hosts["a"]
			record := w.record
			says := a.says(&record, w.leader, pair.Answer{Lease: 3 * time.Second})
			says.Sent = a.now()
			w.cut("a", "w")
			a.crash()
			w.run(5 * time.Millisecond)
			a.step(says)
			w.run(2 * time.Second)
			if a.db.open() {
				t.Error("a was opened again on an answer to a request from before its end")
			}
			w.heal("a", "w")
			w.hosts["b"].boot()
			w.armedAgain(t)
		}},
		{"arm that comes twice, the second time after an expose", func(t *testing.T, w *world) {
			w.hosts["b"].lose()
			w.run(10 * time.Second)
			c := pair.Command{Pair: w.record.ID, Revision: w.record.Revision - 1, Term: w.leader.term, Body: pair.Arm{Host: "a"}}
			var refusal *pair.Refusal
			if _, _, err := w.record.Apply(c, w.leader.term); !errors.As(err, &refusal) || refusal.Reason != pair.ReasonStaleRevision {
				t.Errorf("an arm of revision %v was accepted at %v: %v", c.Revision, w.record.Revision, err)
			}
		}},
	})
}

// TestMutantsOfOrder is rule R7: what is acted on or answered is on disk first, in the order of the actions.
func TestMutantsOfOrder(t *testing.T) {
	timing := hold.Timing{Heartbeat: 500 * time.Millisecond, Lease: 3 * time.Second, Guard: 300 * time.Millisecond,
		MirrorTimeout: 2 * time.Second}
	file := hold.File{Pair: "p1", Name: "p1", Epoch: 1, Primary: "a", Mirror: "b", Revision: 5, Longest: timing.Lease,
		Timing: timing, Peer: hold.Peer{Host: "a", ServiceAddress: "db"}}
	now := hold.Instant(100 * time.Second)
	s := hold.New("b", file, true, hold.Mark{}, now)
	s, _ = hold.Step(s, hold.EngineSeen{Engine: hold.Engine{Began: now, Running: true, Role: hold.RoleMirror, Run: "1",
		Promotable: true, Following: true}}, now)
	now = now.Add(10 * time.Second)
	says := hold.WitnessSays{Sent: now, Term: 1, Revision: 6, Epoch: 2, Primary: "b", Mirror: "a", Right: hold.RightLeased,
		Automatic: true, Timing: timing, Longest: timing.Lease, Peer: file.Peer, Name: "p1", Lease: timing.Lease}
	events := map[string]hold.Event{
		"promotion": says,
		"later epoch, asked by the partner": hold.PartnerAsked{Host: "a", Says: hold.Says{Pair: "p1", Epoch: 3, Primary: "a",
			AskLease: true, Longest: timing.Lease}},
	}
	for name, ev := range events {
		_, actions := hold.Step(s, ev, now)
		acts := func(a hold.Action) bool {
			do, isDo := a.(hold.Do)
			switch a.(type) {
			case hold.Renew, hold.ReplyPartner, hold.SendWitness, hold.SendPartner:
				return true
			}
			return isDo && do.Op != hold.OpNone
		}
		isSave := func(a hold.Action) bool { _, ok := a.(hold.Save); return ok }
		first := slices.IndexFunc(actions, acts)
		if first < 0 || !slices.ContainsFunc(actions, isSave) || slices.ContainsFunc(actions[first:], isSave) {
			t.Errorf("%s: saved after it was acted on: %T", name, actions)
		}
	}
}

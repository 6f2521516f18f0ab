package mirroring

import (
	"testing"

	"github.com/witnessd/witnessd/agent/engine"
)

func TestAWholeLife(t *testing.T) {
	a, b := pair(t, "one", "two")
	first := a.state(t)
	if first.Role != engine.RolePrimary || first.SystemID == "" || first.Data != engine.DataPresent || first.LossBound == 0 {
		t.Fatalf("a principal before there was an agent is seen as %+v", first)
	}
	second := b.state(t)
	if second.Role != engine.RoleMirror || second.SystemID != first.SystemID || !second.Following {
		t.Fatalf("its mirror is seen as %+v", second)
	}
	a.must(t, "promote")
	b.must(t, "follow")
	if s := a.state(t); s.Commits != engine.CommitsAlone || !s.Mirror.Attached || s.Mirror.Flushed != s.Position {
		t.Fatalf("promoted: %+v", s)
	}
	a.must(t, "hold")
	s := a.until(t, "holds commits", func(s engine.State) bool { return s.Commits == engine.CommitsHeld })
	if len(s.Databases) != 2 || s.Databases[0].Role != "Principal" || s.Databases[0].Status != "Synchronized" {
		t.Errorf("databases are shown as %+v", s.Databases)
	}
	if want := lease + fenceTime; s.LossBound != want {
		t.Errorf("loss bound %v, want %v", s.LossBound, want)
	}

	c := a.client(t, "one")
	stop := c.busy(t)
	c.written(t, 5)
	a.must(t, "hand over")
	stop()
	a.becomes(t, "one M SYNCHRONIZED, two M SYNCHRONIZED")
	b.until(t, "waits for the word", func(s engine.State) bool {
		return s.Role == engine.RoleMirror && s.Step == "principal of 2 databases, waits for the witness's word" &&
			s.Following && s.Promotable
	})
	// What an agent does once its release is written: the fence closes, the database is to be stopped.
	a.must(t, "fence")
	a.must(t, "stop")
	a.must(t, "stop")
	if n := a.service.killed(); n != 0 {
		t.Errorf("an instance that has handed everything over was killed %d times", n)
	}
	b.must(t, "promote")
	if s := b.state(t); s.Role != engine.RolePrimary || !s.Mirror.Attached {
		t.Fatalf("promoted: %+v", s)
	}
	a.must(t, "follow")
	b.must(t, "hold")
	c.mustHave(t, b, "one")
	b.until(t, "holds commits", func(s engine.State) bool { return s.Commits == engine.CommitsHeld })

	// A fence is a fence again.
	a.must(t, "fence")
	if n := a.service.killed(); n == 0 {
		t.Error("a mirror that hangs, say, is not killed by a fence")
	}
	b.until(t, "is exposed", func(s engine.State) bool { return s.Commits == engine.CommitsAlone && !s.Mirror.Attached })
	if s := a.state(t); s.Running || s.Promotable {
		t.Errorf("stopped: %+v", s)
	}
	a.must(t, "follow")
	a.until(t, "follows", func(s engine.State) bool { return s.Following })
	b.must(t, "release")
	if s := b.state(t); s.Commits != engine.CommitsAlone {
		t.Errorf("released: %v", s.Commits)
	}
	b.must(t, "let go")
	if s := b.state(t); s.Role != engine.RolePrimary {
		t.Errorf("let go of: %+v", s)
	}
}

package mirroring

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/witnessd/witnessd/agent/engine"
	"github.com/witnessd/witnessd/agent/engine/sqlserver/sqlservertest"
	"github.com/witnessd/witnessd/agent/engine/sqlserver/sqlservertest/model"
)

// dies ends a primary's process, once its clients have got some rows acknowledged.
func dies(t *testing.T, h *host, database string) *client {
	t.Helper()
	c := h.client(t, database)
	stop := c.busy(t)
	c.written(t, 10)
	h.service.crash()
	stop()
	select {
	case <-h.engine.Exits():
	case <-time.After(5 * time.Second):
		t.Fatal("the end of the process was not told")
	}
	return c
}

func TestThePrimaryDies(t *testing.T) {
	a, b := armed(t, "one", "two")
	c := dies(t, a, "two")
	b.must(t, "promote")
	c.mustHave(t, b, "two")
	if s := b.state(t); s.Role != engine.RolePrimary || s.Mirror.Attached || s.Commits != engine.CommitsAlone {
		t.Errorf("the new primary is seen as %+v", s)
	}
	if err := b.client(t, "two").write(t.Context()); err != nil {
		t.Errorf("the new primary takes no write: %v", err)
	}
	// The end was seen a moment after a look that excludes a loss, so the former primary may go on as a mirror.
	a.must(t, "follow")
	a.until(t, "follows", func(s engine.State) bool {
		return s.Following && !strings.Contains(s.Warning, "SUSPENDED")
	})
	b.must(t, "hold")
	c.mustHave(t, b, "two")
}

func TestThePrimarysAgentIsDead(t *testing.T) {
	a, b := armed(t, "one", "two")
	c := a.client(t, "one")
	stop := c.busy(t)
	c.written(t, 10)
	a.end(t)
	// The fence of its host has cut the clients off; the instance lives.
	stop()
	b.must(t, "promote")
	c.mustHave(t, b, "one")
	a.becomes(t, "one M SYNCHRONIZED, two M SYNCHRONIZED")
	if s := b.state(t); !s.Mirror.Attached {
		t.Errorf("an exchange of roles has cost the mirror: %+v", s)
	}
}

func TestThePrimaryLivesAndAnswersNobody(t *testing.T) {
	a, b := armed(t, "one", "two")
	c := a.client(t, "one")
	stop := c.busy(t)
	c.written(t, 10)
	a.end(t)
	stop()
	if err := a.instance.Knobs().Listener(false); err != nil {
		t.Fatal(err)
	}
	b.must(t, "promote")
	c.mustHave(t, b, "one")
	if _, state, _ := b.instance.Model().EndpointState(); state != "STARTED" {
		t.Errorf("the mirroring endpoint is %s after the promotion", state)
	}
	a.becomes(t, "one M SUSPENDED, two M SUSPENDED")
}

func TestPromotionGoesOnWhereADeadAgentWas(t *testing.T) {
	a, b := armed(t, "one", "two")
	a.end(t)
	if err := a.instance.Knobs().Listener(false); err != nil {
		t.Fatal(err)
	}
	b.instance.Knobs().FailNext("two", model.ForceService, &model.Error{Number: 1430, Class: 16, Message: "unstable"})
	b.refuses(t, "promote", "force service of two", "1430")
	if _, state, _ := b.instance.Model().EndpointState(); state != "STOPPED" {
		t.Fatalf("the endpoint is %s half way", state)
	}
	b.end(t)
	b.run(t)
	b.must(t, "promote")
	b.until(t, "serves", func(s engine.State) bool { return s.Role == engine.RolePrimary })
	if _, state, _ := b.instance.Model().EndpointState(); state != "STARTED" {
		t.Errorf("the mirroring endpoint is %s after the promotion", state)
	}
}

func TestAMirrorThatRestartedIsNoEvidence(t *testing.T) {
	a, b := armed(t, "one", "two")
	dies(t, a, "one")
	b.until(t, "has lost its partner", func(s engine.State) bool { return !s.Following })
	b.must(t, "stop")
	b.until(t, "is stopped", func(s engine.State) bool { return !s.Running })
	b.refuses(t, "promote", "this instance was started anew after one was last seen synchronized")
	if s := b.state(t); s.Promotable || s.Role != engine.RoleMirror {
		t.Errorf("a mirror that knows nothing is seen as %+v", s)
	}
	b.becomes(t, "one M DISCONNECTED, two M DISCONNECTED")
}

func TestNothingIsForcedWhereSomethingIsMissing(t *testing.T) {
	t.Run("suspended", func(t *testing.T) {
		a, b := armed(t, "one", "two")
		a.instance.Exec(t, "ALTER DATABASE [two] SET PARTNER SUSPEND")
		b.until(t, "sees it", func(s engine.State) bool { return s.NotPromotable == "two is SUSPENDED" })
		dies(t, a, "one")
		b.refuses(t, "promote", "two")
		b.becomes(t, "one M DISCONNECTED, two M SUSPENDED")
	})
	t.Run("catching up", func(t *testing.T) {
		a, b := armed(t, "one", "two")
		a.instance.Exec(t, "ALTER DATABASE [two] SET PARTNER SUSPEND")
		a.until(t, "is exposed", func(s engine.State) bool { return s.Commits == engine.CommitsAlone })
		c := a.client(t, "two")
		for range 20 {
			if err := c.write(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		b.instance.Knobs().Delay(a.instance.Endpoint(), 300*time.Millisecond)
		a.instance.Knobs().Delay(b.instance.Endpoint(), 300*time.Millisecond)
		a.instance.Exec(t, "ALTER DATABASE [two] SET PARTNER RESUME")
		b.until(t, "catches up", func(s engine.State) bool { return s.NotPromotable == "two is SYNCHRONIZING" })
		a.service.crash()
		b.refuses(t, "promote", "service is not forced", "two")
		b.becomes(t, "one M DISCONNECTED, two M DISCONNECTED")
	})
	t.Run("not mirrored", func(t *testing.T) {
		a, b := armed(t, "one", "two")
		a.instance.Exec(t, "ALTER DATABASE [two] SET PARTNER OFF")
		b.until(t, "sees it", func(s engine.State) bool { return !s.Promotable })
		if s := a.state(t); s.Role != engine.RolePrimary || s.Mirror.Attached {
			t.Errorf("a primary that has lost a session is seen as %+v", s)
		}
		b.refuses(t, "promote", "two is not mirrored")
	})
}

func TestBothHostsRestart(t *testing.T) {
	a, b := armed(t, "one", "two")
	a.end(t)
	b.end(t)
	a.service.end()
	b.service.end()
	a.run(t)
	b.run(t)
	b.refuses(t, "promote", "started anew")
	a.until(t, "is stopped", func(s engine.State) bool { return !s.Running && !s.Promotable })
	a.must(t, "promote")
	if m := a.engine.memory.read(); m.Ended != nil || len(m.Opened) != 2 {
		t.Errorf("a primary that serves again remembers %+v", m)
	}
	b.must(t, "follow")
	a.must(t, "hold")
}

func TestThePairsOwnSessionsOnly(t *testing.T) {
	a, b := armed(t, "one")
	other := b.peer()
	other.SystemID = "mirroring:0123456789abcdef"
	for what, do := range map[string]func() error{
		"follow":  func() error { return b.engine.Follow(t.Context(), other, nil) },
		"promote": func() error { return b.engine.Promote(t.Context(), other) },
		"hold":    func() error { return a.engine.HoldCommits(t.Context(), other) },
		"hand over": func() error {
			_, err := a.engine.HandOver(t.Context(), other)
			return err
		},
	} {
		if err := do(); !errors.Is(err, engine.ErrForeign) {
			t.Errorf("%s: %v, want %v", what, err, engine.ErrForeign)
		}
	}
	a.becomes(t, "one P SYNCHRONIZED")
}

func TestAPrimaryThatIsCutOffIsExposedAndThenBack(t *testing.T) {
	a, b := armed(t, "one", "two")
	a.instance.Knobs().Cut(b.instance.Endpoint(), true, true)
	b.instance.Knobs().Cut(a.instance.Endpoint(), true, true)
	a.instance.Knobs().Reset(b.instance.Endpoint())
	a.until(t, "is exposed", func(s engine.State) bool {
		return s.Role == engine.RolePrimary && s.Commits == engine.CommitsAlone && !s.Mirror.Attached
	})
	b.until(t, "has lost its partner", func(s engine.State) bool { return !s.Following && s.Promotable })
	a.must(t, "release")
	a.instance.Knobs().Cut(b.instance.Endpoint(), false, false)
	b.instance.Knobs().Cut(a.instance.Endpoint(), false, false)
	sqlservertest.Synchronized(t, a.instance, "one", "two")
	a.until(t, "does not hold by itself", func(s engine.State) bool {
		return s.Mirror.Attached && s.Commits == engine.CommitsAlone && s.Mirror.Flushed == s.Position
	})
	a.must(t, "hold")
	a.until(t, "holds commits", func(s engine.State) bool { return s.Commits == engine.CommitsHeld })
}

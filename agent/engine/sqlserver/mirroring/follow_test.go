package mirroring

import (
	"errors"
	"strings"
	"testing"

	"github.com/witnessd/witnessd/agent/engine"
)

func TestAnEndThatProvesNothingIsLeftToAPerson(t *testing.T) {
	a, b := armed(t, "one", "two")
	c := a.client(t, "one")
	stop := c.busy(t)
	c.written(t, 10)
	a.end(t) // nobody looks any more
	a.service.crash()
	stop()
	b.must(t, "promote")
	a.run(t)
	a.refuses(t, "follow", "one is SUSPENDED after a forced service", "the agent had not looked at the instance",
		"ALTER DATABASE [one] SET PARTNER RESUME")
	if err := a.do(t, "follow"); !errors.Is(err, ErrHuman) {
		t.Errorf("%v is not an error for a person", err)
	}
	a.until(t, "says so", func(s engine.State) bool {
		return s.Role == engine.RoleMirror && !s.Following && !s.Promotable && strings.Contains(s.Warning, "discards them")
	})
	a.becomes(t, "one M SUSPENDED, two M SUSPENDED")
	// Somebody has compared, and decides.
	b.instance.Exec(t, "ALTER DATABASE [one] SET PARTNER RESUME", "ALTER DATABASE [two] SET PARTNER RESUME")
	a.must(t, "follow")
	b.must(t, "hold")
}

func TestAnEndWhileExposedProvesNothing(t *testing.T) {
	a, b := armed(t, "one", "two")
	a.instance.Exec(t, "ALTER DATABASE [two] SET PARTNER SUSPEND")
	a.until(t, "is exposed", func(s engine.State) bool { return s.Commits == engine.CommitsAlone })
	a.must(t, "fence")
	if e := a.engine.memory.read().Ended; e == nil || e.Proven || !strings.Contains(e.Why, "two PRINCIPAL SUSPENDED") {
		t.Errorf("the end of an exposed primary is remembered as %+v", e)
	}
	b.refuses(t, "promote", "two")
}

func TestAPersonsSuspendIsNotResumed(t *testing.T) {
	a, b := armed(t, "one", "two")
	a.instance.Exec(t, "ALTER DATABASE [two] SET PARTNER SUSPEND")
	b.until(t, "sees it", func(s engine.State) bool { return !s.Following })
	b.refuses(t, "follow", "two is SUSPENDED, and not by a failover of this pair", "SET PARTNER RESUME")
	b.becomes(t, "one M SYNCHRONIZED, two M SUSPENDED")
}

func TestAFormerPrincipalIsNotStartedBeforeItsPartnerAnswers(t *testing.T) {
	a, b := armed(t, "one")
	a.service.crash()
	b.service.crash()
	a.refuses(t, "follow", "they are not started before it answers")
	if s := a.state(t); s.Running {
		t.Error("it was started")
	}
	// The partner runs, and is a mirror: whose mirror would this host be?
	if err := b.engine.Standby(t.Context()); err != nil {
		t.Fatal(err)
	}
	a.refuses(t, "follow", "the partner is not principal of one: they are not started")
	if s := a.state(t); s.Running {
		t.Error("it was started")
	}
}

func TestAMirrorIsStartedWhoeverIsThere(t *testing.T) {
	a, b := armed(t, "one")
	b.must(t, "fence")
	b.until(t, "is stopped", func(s engine.State) bool { return !s.Running })
	if err := b.engine.Standby(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.until(t, "follows by itself", func(s engine.State) bool { return s.Following })
	a.until(t, "has its mirror", func(s engine.State) bool { return s.Mirror.Attached })
	a.must(t, "fence")
	if err := a.engine.Standby(t.Context()); err != nil {
		t.Fatal(err)
	}
	if s := a.state(t); s.Running {
		t.Error("a former principal was started without knowing whom it follows")
	}
}

func TestAPrincipalThatNobodyOpenedIsAPrimary(t *testing.T) {
	a, b := armed(t, "one")
	b.service.crash()
	a.end(t)
	a.service.end()
	a.run(t)
	// Somebody starts the instance, and its partner is not there.
	if err := a.service.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	a.until(t, "is a primary that has to be fenced", func(s engine.State) bool { return s.Role == engine.RolePrimary })
	if m := a.engine.memory.read(); len(m.Opened) > 0 {
		t.Errorf("a run that nobody opened is remembered as open: %+v", m.Opened)
	}
}

package mirroring

import (
	"strings"
	"testing"

	"github.com/witnessd/witnessd/agent/engine"
	"github.com/witnessd/witnessd/agent/engine/sqlserver/sqlservertest/model"
)

// ten are the databases of a pool, in the order in which they are to move, which is not that of their names.
func ten() []string {
	return []string{"xds", "lis", "rtcab", "rtcxds", "rtcshared", "rgsconfig", "rgsdyn", "cpsdyn", "LcsLog", "mgc"}
}

func TestTenDatabasesMoveTogether(t *testing.T) {
	a, b := armed(t, ten()...)
	c := a.client(t, "mgc")
	stop := c.busy(t)
	c.written(t, 3)
	a.must(t, "hand over")
	stop()
	b.must(t, "promote")
	a.must(t, "follow")
	b.must(t, "hold")
	c.mustHave(t, b, "mgc")
	b.until(t, "holds commits", func(s engine.State) bool { return s.Commits == engine.CommitsHeld })
}

func TestHandOverThatFailsHalfWay(t *testing.T) {
	a, b := armed(t, ten()...)
	a.instance.Knobs().FailNext("rtcxds", model.Failover, &model.Error{Number: 1430, Class: 16, Message: "unstable"})
	a.refuses(t, "hand over", "rtcxds", "1430", "the pair is split: xds, lis, rtcab moved to the partner, rtcxds, "+
		"rtcshared, rgsconfig, rgsdyn, cpsdyn, LcsLog, mgc not")
	s := a.until(t, "is split", func(s engine.State) bool { return strings.Contains(s.Warning, "split:") })
	if s.Role != engine.RolePrimary || s.Mirror.Attached || s.Commits != engine.CommitsAlone {
		t.Errorf("the primary of a split pair is seen as %+v", s)
	}
	s = b.until(t, "is split", func(s engine.State) bool { return strings.Contains(s.Warning, "split:") })
	if s.Role != engine.RoleMirror || s.Following {
		t.Errorf("the mirror of a split pair is seen as %+v", s)
	}
	b.must(t, "follow")
	b.until(t, "follows", func(s engine.State) bool { return s.Following && s.Role == engine.RoleMirror })
	a.until(t, "has everything back", func(s engine.State) bool { return !strings.Contains(s.Warning, "split") })
	a.must(t, "promote")
	if s := a.state(t); s.Role != engine.RolePrimary || !s.Mirror.Attached {
		t.Errorf("repaired: %+v", s)
	}
}

func TestHandOverGoesOnWhereADeadAgentWas(t *testing.T) {
	a, b := armed(t, "one", "two", "three")
	a.instance.Knobs().FailNext("two", model.Failover, &model.Error{Number: 1430, Class: 16, Message: "unstable"})
	a.refuses(t, "hand over", "split: one moved")
	a.end(t)
	a.run(t)
	a.must(t, "hand over")
	b.must(t, "promote")
	a.must(t, "follow")
}

func TestCommandsThatSucceedAndFailLater(t *testing.T) {
	a, _ := armed(t, "one", "two")
	a.instance.Knobs().FailNext("two", model.Failover, nil)
	a.must(t, "hand over")

	a, _ = armed(t, "one", "two")
	for range commandTries {
		a.instance.Knobs().FailNext("one", model.Failover, nil)
	}
	a.refuses(t, "hand over", "was acknowledged, and one is still PRINCIPAL, SYNCHRONIZED", "nothing has moved")
	if s := a.state(t); s.Role != engine.RolePrimary {
		t.Errorf("after a hand-over of which nothing came: %+v", s)
	}
	a.instance.Knobs().FailNext("one", model.Failover, &model.Error{Number: 1404, Class: 16, Message: "busy"})
	a.must(t, "hand over")
}

func TestAPersonExchangesTheRoles(t *testing.T) {
	a, b := armed(t, "one", "two")
	a.instance.Exec(t, "ALTER DATABASE [one] SET PARTNER FAILOVER", "ALTER DATABASE [two] SET PARTNER FAILOVER")
	b.until(t, "waits", func(s engine.State) bool {
		return s.Role == engine.RoleMirror && strings.Contains(s.Step, "principal of 2 databases")
	})
	a.until(t, "is mirror", func(s engine.State) bool { return s.Role == engine.RoleMirror })
	// The record still names the first host, so its agent has it promoted.
	a.must(t, "promote")
	a.becomes(t, "one P SYNCHRONIZED, two P SYNCHRONIZED")
	b.until(t, "follows", func(s engine.State) bool { return s.Following && s.Step == "" })
}

func TestAPersonExchangesTheRolesOfOne(t *testing.T) {
	a, b := armed(t, "one", "two")
	a.instance.Exec(t, "ALTER DATABASE [two] SET PARTNER FAILOVER")
	b.until(t, "does not follow", func(s engine.State) bool { return !s.Following && strings.Contains(s.Warning, "split") })
	b.must(t, "follow")
	a.becomes(t, "one P SYNCHRONIZED, two P SYNCHRONIZED")
	a.must(t, "promote")
	a.until(t, "serves", func(s engine.State) bool { return s.Role == engine.RolePrimary && s.Mirror.Attached })
}

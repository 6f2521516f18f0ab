package mirroring

import (
	"strings"
	"testing"
	"time"

	"github.com/witnessd/witnessd/agent/engine"
	"github.com/witnessd/witnessd/agent/engine/sqlserver"
	"github.com/witnessd/witnessd/agent/engine/sqlserver/sqlservertest"
)

func TestCommitsAreNotHeldBesideSQLServersOwnWitness(t *testing.T) {
	a, b := hosts(t)
	w := sqlservertest.Start(t, sqlservertest.Options{Ping: ping, Second: second, EndpointRole: "WITNESS"})
	sqlservertest.Mirror(t, []string{"one", "two"}, a.instance, b.instance, w, 0)
	a.run(t)
	b.run(t)
	a.must(t, "promote")
	a.refuses(t, "hold", "one has a witness of SQL Server's", "ALTER DATABASE [one] SET WITNESS OFF", "sqlserver-rescue")
	if s := b.state(t); s.Promotable {
		t.Error("a mirror beside SQL Server's own witness can be promoted")
	}
	a.instance.Exec(t, "ALTER DATABASE [one] SET WITNESS OFF", "ALTER DATABASE [two] SET WITNESS OFF")
	a.must(t, "hold")
	a.until(t, "holds", func(s engine.State) bool { return s.Commits == engine.CommitsHeld })
	a.instance.Exec(t, "ALTER DATABASE [two] SET WITNESS = '"+w.Endpoint()+"'")
	a.until(t, "does not hold any more", func(s engine.State) bool {
		return s.Commits == engine.CommitsAlone && strings.Contains(s.Warning, "SQL Server's own witness is set for two")
	})
}

func TestCommitsAreNotHeldForLessThanAFenceTakes(t *testing.T) {
	a, b := pair(t, "one", "two")
	a.must(t, "promote")
	b.must(t, "follow")
	a.instance.Exec(t, "ALTER DATABASE [two] SET PARTNER TIMEOUT 5")
	long := a.peer()
	long.Lease = 5 * time.Second
	err := a.engine.HoldCommits(t.Context(), long)
	if err == nil || !strings.Contains(err.Error(), "two stops waiting for its mirror after 5s") ||
		!strings.Contains(err.Error(), "SET PARTNER TIMEOUT 11") {
		t.Errorf("with a lease of 5 s: %v", err)
	}
	a.must(t, "hold")
}

func TestSafetyIsSet(t *testing.T) {
	a, b := pair(t, "one", "two")
	a.must(t, "promote")
	b.must(t, "follow")
	a.instance.Exec(t, "ALTER DATABASE [two] SET PARTNER SAFETY OFF")
	b.until(t, "is no evidence", func(s engine.State) bool { return !s.Promotable })
	a.refuses(t, "hand over", "two has SAFETY OFF", "nothing was changed")
	a.must(t, "hold")
	a.until(t, "holds", func(s engine.State) bool { return s.Commits == engine.CommitsHeld })
}

func TestStrict(t *testing.T) {
	a, b := hosts(t)
	sqlservertest.Mirror(t, []string{"one"}, a.instance, b.instance, nil, 0)
	a.cfg.Policy, b.cfg.Policy = sqlserver.PolicyStrict, sqlserver.PolicyStrict
	b.run(t)
	if s := b.state(t); !s.NeedsRelease || s.LossBound != unknownLease+fenceTime {
		t.Errorf("strict, before the lease is known: %+v", s)
	}
}

func TestWhatLetGoLeaves(t *testing.T) {
	a, b := armed(t, "one", "two")
	before := a.roles()
	a.must(t, "let go")
	b.must(t, "let go")
	if got := a.roles(); got != before {
		t.Errorf("LetGo has made %q of %q", got, before)
	}
	// Whoever restarts it now gets a principal, and nobody thinks otherwise.
	a.service.end()
	if err := a.service.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	a.until(t, "is primary", func(s engine.State) bool { return s.Running && s.Role == engine.RolePrimary })
}

func TestARestartGateThatIsOpenIsSaid(t *testing.T) {
	a, b := hosts(t)
	sqlservertest.Mirror(t, []string{"one"}, a.instance, b.instance, nil, 0)
	a.instance.Exec(t, "CREATE DATABASE payroll")
	a.cfg.Databases = []string{"one"}
	a.service.gate = "systemd starts it at boot"
	a.run(t)
	a.until(t, "says so", func(s engine.State) bool {
		return strings.Contains(s.Warning, "systemd starts it at boot") &&
			strings.Contains(s.Warning, "a fence of this pair stops 1 database of the instance that is not in it: payroll")
	})
}

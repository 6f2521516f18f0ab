package availability

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/witnessd/witnessd/agent/engine"
	"github.com/witnessd/witnessd/agent/engine/sqlserver/sqlservertest"
	"github.com/witnessd/witnessd/agent/engine/sqlserver/sqlservertest/model"
)

// An agent that ends in the middle of a step leaves something that the next one finishes.
func TestAgentEndsInTheMiddle(t *testing.T) {
	t.Run("of a promotion", func(t *testing.T) {
		a, b := held(t, false)
		a.process.crash()
		b.until("alone", func(s engine.State) bool { return !s.Following })
		b.Knobs().SlowGroups(300 * time.Millisecond)
		ended := make(chan error, 1)
		go func() { ended <- b.engine.Promote(t.Context(), a.peer()) }()
		sqlservertest.Eventually(t, "failover under way", func() (bool, string) {
			local := b.Model().Groups()[0].Local
			return local.Operational == "PENDING_FAILOVER", local.Operational
		})
		b.agent()
		wantError(t, <-ended, errClosed, "")
		must(t, b.engine.Promote(t.Context(), a.peer()))
		if s := b.observe(); s.Role != engine.RolePrimary || s.Commits != engine.CommitsHeld {
			t.Fatalf("the new primary shows %+v", s)
		}
	})
	t.Run("before a promotion", func(t *testing.T) {
		a, b := held(t, false)
		a.process.crash()
		b.until("alone", func(s engine.State) bool { return !s.Following })
		b.agent()
		if s := b.observe(); !s.Promotable {
			t.Fatalf("a new agent does not know what the mirror has: %s", s.NotPromotable)
		}
		must(t, b.engine.Promote(t.Context(), a.peer()))
	})
	t.Run("of a hand-over", func(t *testing.T) {
		a, b := held(t, false)
		a.Exec(t, "ALTER AVAILABILITY GROUP [lync] OFFLINE") // the last that it did
		a.agent()
		h, err := a.engine.HandOver(t.Context(), b.peer())
		must(t, err)
		if h.MirrorHasEverything {
			t.Fatal("what an earlier agent saw was taken for a proof")
		}
		must(t, b.engine.Promote(t.Context(), a.peer()))
	})
	t.Run("of a follow", func(t *testing.T) {
		a, b := held(t, false)
		must(t, a.engine.Stop(t.Context()))
		must(t, b.engine.Promote(t.Context(), a.peer()))
		a.Exec(t, "ALTER AVAILABILITY GROUP [lync] SET (ROLE = SECONDARY)")
		a.agent()
		must(t, a.engine.Follow(t.Context(), b.peer(), nil))
	})
	t.Run("of a release", func(t *testing.T) {
		a, b := held(t, false)
		b.process.crash()
		a.until("mirror lost", func(s engine.State) bool { return !s.Mirror.Attached })
		must(t, a.engine.ReleaseCommits(t.Context()))
		a.agent()
		must(t, a.engine.Promote(t.Context(), b.peer()))
		if s := a.observe(); s.Commits != engine.CommitsAlone {
			t.Fatalf("a new agent held up the clients of a primary that goes on alone: %v", s.Commits)
		}
		fence(t, a)
		must(t, a.engine.Promote(t.Context(), b.peer()))
		if s := a.observe(); s.Commits != engine.CommitsHeld {
			t.Fatalf("after a fence commits are %v before anybody has said that they need not be held", s.Commits)
		}
		must(t, a.engine.ReleaseCommits(t.Context()))
		a.process.crash()
		must(t, a.engine.Promote(t.Context(), b.peer()))
		if s := a.observe(); s.Commits != engine.CommitsHeld {
			t.Fatalf("in a new run commits are %v before anybody has said that they need not be held", s.Commits)
		}
	})
}

func TestLetGo(t *testing.T) {
	a, _ := held(t, false)
	must(t, a.engine.LetGo(t.Context()))
	must(t, a.write("rtcxds", "1", time.Second))
	if s := a.observe(); s.Role != engine.RolePrimary || s.Commits != engine.CommitsAlone {
		t.Fatalf("what was let go of shows %+v", s)
	}
}

func TestPromoteReadsBack(t *testing.T) {
	a, b := held(t, false)
	a.process.crash()
	b.until("alone", func(s engine.State) bool { return !s.Following })
	b.Knobs().FailNext(groupName, model.Verb(model.GroupFailover), nil)
	must(t, b.engine.Promote(t.Context(), a.peer())) // sent again
	if s := b.observe(); s.Role != engine.RolePrimary {
		t.Fatalf("promoted, and it is %v", s.Role)
	}
}

// A group without a cluster's manager comes back as primary: it is watched, and nothing else.
func TestClusterTypeNone(t *testing.T) {
	t.Setenv("FAKE_PASSWORD", "fake")
	a, b := startHost(t, "SQL1"), startHost(t, "SQL2")
	create(t, "NONE", "", a, b)
	a.agent()
	b.agent()
	s := a.until("observed", func(s engine.State) bool { return s.Role == engine.RolePrimary })
	if !strings.Contains(s.Warning, "CLUSTER_TYPE = NONE") || s.Promotable && b.observe().Promotable {
		t.Fatalf("it shows %+v", s)
	}
	_, handOver := a.engine.HandOver(t.Context(), b.peer())
	for what, err := range map[string]error{
		"promote": a.engine.Promote(t.Context(), b.peer()), "hold": a.engine.HoldCommits(t.Context(), b.peer()),
		"follow": b.engine.Follow(t.Context(), a.peer(), nil), "hand over": handOver,
	} {
		if err == nil || !strings.Contains(err.Error(), "CLUSTER_TYPE = NONE") {
			t.Errorf("%s: %v", what, err)
		}
	}
	fence(t, a) // it would serve: the process ends
	if a.process.running() {
		t.Fatal("a fenced primary of a group without a cluster goes on")
	}
}

func TestObserveShowsDatabases(t *testing.T) {
	a, b := held(t, false)
	b.Knobs().StopRedo("rtcab", true)
	for range 3 {
		must(t, a.write("rtcab", strings.Repeat("x", 190), time.Second))
	}
	s := a.observe()
	if len(s.Databases) != 2 || s.Databases[0].Role != "Primary" || s.Databases[0].Status != "Synchronized" {
		t.Fatalf("the primary shows %+v", s.Databases)
	}
	s = b.observe()
	if len(s.Databases) != 2 || s.Databases[0].Role != "Secondary" || s.Databases[0].Status != "Synchronized" {
		t.Fatalf("the mirror shows %+v", s.Databases)
	}
	b.process.crash()
	s = a.until("mirror lost", func(s engine.State) bool { return !s.Mirror.Attached })
	if s.Databases[0].Status == "Synchronized" {
		t.Fatalf("the primary shows %+v", s.Databases)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := a.engine.Observe(ctx); err == nil {
		t.Fatal("a look whose time was over said something")
	}
}

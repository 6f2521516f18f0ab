package availability

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/witnessd/witnessd/agent/engine"
	"github.com/witnessd/witnessd/agent/engine/sqlserver/sqlservertest/model"
)

// The life of a pair: commits held, the primary dies, the mirror takes over and goes on alone, the former primary
// follows, and hands back.
func TestLife(t *testing.T) {
	a, b := held(t, false)
	s := a.until("everything is on the mirror", func(s engine.State) bool {
		return s.Commits == engine.CommitsHeld && s.Mirror.Attached && s.Mirror.Flushed == s.Position
	})
	if s.Role != engine.RolePrimary || s.LossBound != 0 || s.SystemID == "" || s.SystemID != b.observe().SystemID {
		t.Fatalf("the primary shows %+v", s)
	}
	must(t, a.write("rtcxds", "1", time.Second))
	must(t, a.write("rtcab", "2", time.Second))
	baseline := a.observe().Position
	a.until("the mirror has the new commits", func(s engine.State) bool { return s.Mirror.Flushed.Offset >= baseline.Offset })

	a.process.crash()
	if exit := <-a.engine.Exits(); exit.Reason != "crash" {
		t.Fatalf("the exit is %+v", exit)
	}
	if s := a.observe(); s.Running || s.SystemID == "" || s.Data != engine.DataPresent {
		t.Fatalf("a stopped instance shows %+v", s)
	}
	b.until("without a primary", func(s engine.State) bool { return !s.Following && s.Promotable })
	must(t, b.engine.Promote(t.Context(), a.peer()))
	wantRows(t, b, "rtcxds", "1")
	wantRows(t, b, "rtcab", "2")

	// Nothing is acknowledged until the record allows it.
	if s := b.observe(); s.Role != engine.RolePrimary || s.Commits != engine.CommitsHeld || s.Mirror.Attached {
		t.Fatalf("the new primary shows %+v", s)
	}
	waits := make(chan error, 1)
	go func() { waits <- b.write("rtcxds", "3", 10*time.Second) }()
	wantError(t, b.write("rtcab", "never told", 100*time.Millisecond), context.DeadlineExceeded, "")
	must(t, b.engine.ReleaseCommits(t.Context()))
	must(t, <-waits)
	if s := b.observe(); s.Commits != engine.CommitsAlone {
		t.Fatalf("released commits are %v", s.Commits)
	}

	must(t, a.engine.Standby(t.Context()))
	if s := a.observe(); !s.Running || s.Role != engine.RoleMirror || s.Following {
		t.Fatalf("a former primary came back as %+v", s)
	}
	must(t, a.engine.Follow(t.Context(), b.peer(), nil))
	a.until("follows", func(s engine.State) bool { return s.Following && s.Promotable })
	b.until("the mirror is back", func(s engine.State) bool { return s.Mirror.Attached && s.Mirror.Flushed == s.Position })
	must(t, b.engine.HoldCommits(t.Context(), a.peer()))
	must(t, b.write("rtcxds", "4", time.Second))

	h, err := b.engine.HandOver(t.Context(), a.peer())
	must(t, err)
	if !h.MirrorHasEverything {
		t.Fatal("the hand-over does not prove that the mirror has everything")
	}
	must(t, a.engine.Promote(t.Context(), b.peer()))
	must(t, b.engine.Follow(t.Context(), a.peer(), nil))
	wantRows(t, a, "rtcxds", "1", "3", "4")
	if n := a.process.kills() + b.process.kills(); n != 0 {
		t.Fatalf("%d processes were killed", n)
	}
}

func TestPromoteRefusesWhatLacksCommits(t *testing.T) {
	a, b := pair(t, false)
	b.Exec(t, "ALTER DATABASE rtcab SET HADR SUSPEND")
	a.until("exposed", func(s engine.State) bool { return !s.Mirror.Attached })
	must(t, a.write("rtcab", "only here", time.Second))
	a.process.crash()
	s := b.until("not promotable", func(s engine.State) bool { return !s.Promotable })
	if s.NotPromotable == "" {
		t.Fatal("nobody says why")
	}
	err := b.engine.Promote(t.Context(), a.peer())
	wantError(t, err, ErrLacks, "41142")
	wantError(t, err, engine.ErrNoData, "never forces")
	must(t, b.engine.Fence(t.Context())) // refused for certain: nothing has to be killed
	if b.process.kills() != 0 {
		t.Fatal("a refused failover was fenced by a kill")
	}
}

// What a mirror has is known only while it hears its primary; it is remembered, also by the next agent.
func TestMirrorThatWasCatchingUp(t *testing.T) {
	a, b := pair(t, false)
	a.Exec(t, "ALTER DATABASE rtcab SET HADR SUSPEND")
	b.until("catching up", func(s engine.State) bool { return !s.Promotable })
	a.process.crash()
	b.until("alone", func(s engine.State) bool { return !s.Following })
	for range 2 {
		if s := b.observe(); s.Promotable {
			t.Fatal("a mirror that was catching up is taken for complete")
		}
		b.agent()
	}
	wantError(t, b.engine.Promote(t.Context(), a.peer()), ErrLacks, "41142")
}

func TestHoldCommitsReadsBack(t *testing.T) {
	a, b := pair(t, false)
	a.Knobs().FailNext(groupName, model.Verb(model.GroupRequired), nil)
	must(t, a.engine.HoldCommits(t.Context(), b.peer()))
	if s := a.observe(); s.Commits != engine.CommitsHeld {
		t.Fatalf("commits are %v", s.Commits)
	}
	for range commandTries {
		a.Knobs().FailNext(groupName, model.Verb(model.GroupRequired), nil)
	}
	wantError(t, a.engine.ReleaseCommits(t.Context()), nil, "said yes")
	if s := a.observe(); s.Commits != engine.CommitsHeld {
		t.Fatalf("commits are %v", s.Commits)
	}
}

func TestHoldCommitsWaitsForNobody(t *testing.T) {
	a, b := pair(t, false)
	b.process.crash()
	a.until("mirror lost", func(s engine.State) bool { return !s.Mirror.Attached })
	wantError(t, a.engine.HoldCommits(t.Context(), b.peer()), nil, "does not have everything")
	must(t, a.write("rtcxds", "alone", time.Second))
	if s := a.observe(); s.Commits != engine.CommitsAlone {
		t.Fatalf("commits are %v", s.Commits)
	}
}

func TestHandOverRefuses(t *testing.T) {
	a, b := pair(t, false)
	_, err := a.engine.HandOver(t.Context(), b.peer())
	wantError(t, err, nil, "commits are not held")
	must(t, a.engine.HoldCommits(t.Context(), b.peer()))
	b.Exec(t, "ALTER DATABASE rtcab SET HADR SUSPEND")
	a.until("behind", func(s engine.State) bool { return !s.Mirror.Attached })
	_, err = a.engine.HandOver(t.Context(), b.peer())
	wantError(t, err, nil, "rtcab")
	if s := a.observe(); s.Role != engine.RolePrimary {
		t.Fatalf("a refused hand-over left it %v", s.Role)
	}
}

func TestFollowLeavesToPeopleWhatTheyDid(t *testing.T) {
	a, b := held(t, false)
	b.Exec(t, "ALTER DATABASE rtcab SET HADR SUSPEND")
	b.until("suspended", func(s engine.State) bool { return !s.Following })
	wantError(t, b.engine.Follow(t.Context(), a.peer(), nil), ErrHuman, "SET HADR RESUME")
	b.Exec(t, "ALTER DATABASE rtcab SET HADR RESUME")
	must(t, b.engine.Follow(t.Context(), a.peer(), nil))
}

// After a forced failover the former primary has what the new one has not: the agent throws nothing away.
func TestFollowAfterForce(t *testing.T) {
	a, b := pair(t, false)
	b.Exec(t, "ALTER DATABASE rtcab SET HADR SUSPEND")
	a.until("exposed", func(s engine.State) bool { return !s.Mirror.Attached })
	must(t, a.write("rtcab", "worth something", time.Second))
	a.process.crash()
	b.until("alone", func(s engine.State) bool { return !s.Following })
	b.Exec(t, "EXEC sp_set_session_context @key = N'external_cluster', @value = N'yes'; "+
		"ALTER AVAILABILITY GROUP [lync] FORCE_FAILOVER_ALLOW_DATA_LOSS")
	must(t, b.engine.Promote(t.Context(), a.peer())) // goes on from where the person was
	must(t, b.engine.ReleaseCommits(t.Context()))
	wantError(t, a.engine.Follow(t.Context(), b.peer(), nil), ErrHuman, "forced failover")
	if s := a.observe(); s.Promotable || s.Warning == "" {
		t.Fatalf("the former primary shows %+v", s)
	}
	a.Exec(t, "ALTER DATABASE rtcab SET HADR RESUME", "ALTER DATABASE rtcxds SET HADR RESUME")
	must(t, a.engine.Follow(t.Context(), b.peer(), nil))
}

func TestFollowBeforeThereIsAPrimary(t *testing.T) {
	a, b := held(t, false)
	must(t, a.engine.Stop(t.Context()))
	wantError(t, a.engine.Follow(t.Context(), b.peer(), nil), nil, "not primary yet")
	if s := a.observe(); s.Role != engine.RoleMirror || !s.Promotable {
		t.Fatalf("a stopped primary shows %+v", s)
	}
	must(t, a.engine.Promote(t.Context(), b.peer())) // the switchover was withdrawn
}

func TestForeign(t *testing.T) {
	a, b := held(t, false)
	other := b.peer()
	other.SystemID = "ag:00000000-0000-0000-0000-000000000000"
	for what, err := range map[string]error{
		"promote": a.engine.Promote(t.Context(), other),
		"follow":  b.engine.Follow(t.Context(), other, nil),
		"hold":    a.engine.HoldCommits(t.Context(), other),
	} {
		if !errors.Is(err, engine.ErrForeign) {
			t.Errorf("%s: %v", what, err)
		}
	}
	// The same name on another pair of hosts.
	c, _ := pair(t, false)
	must(t, a.engine.Stop(t.Context()))
	wantError(t, a.engine.Follow(t.Context(), c.peer(), nil), engine.ErrForeign, "nothing was changed")
}

func TestConfigurationOnly(t *testing.T) {
	a, b := held(t, true)
	must(t, a.write("rtcxds", "1", time.Second))
	a.process.crash()
	b.until("alone", func(s engine.State) bool { return !s.Following })
	must(t, b.engine.Promote(t.Context(), a.peer()))
	must(t, b.engine.ReleaseCommits(t.Context()))
	must(t, b.write("rtcxds", "2", time.Second))
	must(t, a.engine.Follow(t.Context(), b.peer(), nil))
	b.until("the mirror is back", func(s engine.State) bool { return s.Mirror.Attached && s.Mirror.Flushed == s.Position })
	must(t, b.engine.HoldCommits(t.Context(), a.peer()))
}

// Two replicas of which both are needed to change the configuration: the release ends in time, and says what helps.
func TestReleaseWithoutMajority(t *testing.T) {
	a, b := held(t, false)
	a.Knobs().StrictPairs(true)
	b.process.crash()
	a.until("mirror lost", func(s engine.State) bool { return !s.Mirror.Attached })
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	wantError(t, a.engine.ReleaseCommits(ctx), context.DeadlineExceeded, "configuration-only")
	wantError(t, a.write("rtcxds", "never told", 100*time.Millisecond), context.DeadlineExceeded, "")
	if s := a.observe(); s.Commits != engine.CommitsUnknown {
		t.Fatalf("a release that is not in force is shown as %v", s.Commits)
	}
	must(t, b.process.Start(t.Context()))
	must(t, b.engine.Follow(t.Context(), a.peer(), nil))
	a.until("the change has come into force", func(s engine.State) bool { return s.Commits == engine.CommitsAlone })
}

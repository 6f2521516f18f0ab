package availability

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/witnessd/witnessd/agent/engine"
	"github.com/witnessd/witnessd/agent/engine/sqlserver"
	"github.com/witnessd/witnessd/agent/engine/sqlserver/sqlservertest"
	"github.com/witnessd/witnessd/agent/engine/sqlserver/sqlservertest/model"
)

// budget is a fence's time in these tests: with the race detector everything takes longer.
const budget = time.Second

func fence(t *testing.T, h *host) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), budget)
	defer cancel()
	must(t, h.engine.Fence(ctx))
}

func TestFenceTakesTheGroupOffline(t *testing.T) {
	a, b := held(t, false)
	client := a.open("rtcxds")
	must(t, client.PingContext(t.Context()))
	fence(t, a)
	if a.process.kills() != 0 {
		t.Fatal("the instance was killed although the group went offline")
	}
	if err := client.PingContext(t.Context()); err == nil {
		t.Fatal("a client's session outlived the fence")
	}
	if s := a.observe(); s.Role != engine.RoleMirror || s.Following {
		t.Fatalf("a fenced instance shows %+v", s)
	}
	if err := a.write("rtcxds", "x", time.Second); err == nil {
		t.Fatal("a fenced primary acknowledged a commit")
	}
	a.process.crash()
	must(t, a.process.Start(t.Context()))
	if err := a.write("rtcxds", "x", time.Second); err == nil {
		t.Fatal("a restart opened what was fenced")
	}
	must(t, b.engine.Promote(t.Context(), a.peer()))
}

func TestFenceKills(t *testing.T) {
	hangs := map[string]func(h *host){
		"an instance that hangs":              func(h *host) { h.Knobs().Hang(true) },
		"one that does not listen to clients": func(h *host) { h.Knobs().HangClients(true) },
		"a command that changes nothing": func(h *host) {
			h.Knobs().FailNext(groupName, model.Verb(model.GroupOffline), nil)
		},
		"a command that is refused": func(h *host) {
			h.Knobs().FailNext(groupName, model.Verb(model.GroupOffline), &model.Error{Number: 41150, Class: 16})
		},
		"a group that is gone": func(h *host) { h.engine.cfg.Group = "other" },
	}
	for what, hang := range hangs {
		t.Run(what, func(t *testing.T) {
			a, _ := held(t, false)
			hang(a)
			fence(t, a)
			if a.process.kills() != 1 || a.process.running() {
				t.Fatal("the instance was not killed")
			}
			select {
			case exit := <-a.engine.Exits():
				t.Fatalf("a fence was told as an exit: %+v", exit)
			default:
			}
		})
	}
}

// A failover whose end was not waited for may come to its end after the fence has looked.
func TestFenceDuringPromotion(t *testing.T) {
	a, b := held(t, false)
	a.process.crash()
	b.until("alone", func(s engine.State) bool { return !s.Following })
	b.Knobs().SlowGroups(time.Minute)
	promoted := make(chan error, 1)
	go func() { promoted <- b.engine.Promote(t.Context(), a.peer()) }()
	sqlservertest.Eventually(t, "failover under way", func() (bool, string) {
		local := b.Model().Groups()[0].Local
		return local.Operational == "PENDING_FAILOVER", local.Operational
	})
	fence(t, b)
	wantError(t, <-promoted, engine.ErrFenced, "")
	if b.process.kills() != 1 {
		t.Fatal("the instance was left to become primary")
	}
	// It comes back as what it was, and can still take over.
	must(t, b.engine.Promote(t.Context(), a.peer()))
}

// So may one that was acknowledged and showed no effect.
func TestFenceAfterPromotionWithoutEffect(t *testing.T) {
	a, b := held(t, false)
	a.process.crash()
	b.until("alone", func(s engine.State) bool { return !s.Following })
	for range commandTries {
		b.Knobs().FailNext(groupName, model.Verb(model.GroupFailover), nil)
	}
	wantError(t, b.engine.Promote(t.Context(), a.peer()), nil, "said yes")
	fence(t, b)
	if b.process.kills() != 1 {
		t.Fatal("the instance was left to become primary")
	}
}

// A primary that is cut off cannot acknowledge anything, fenced or not, and what it has more is gone afterwards.
func TestCutOffPrimaryAcknowledgesNothing(t *testing.T) {
	a, b := held(t, false)
	must(t, a.write("rtcxds", "1", time.Second))
	a.Knobs().Cut(b.Endpoint(), true, true)
	b.Knobs().Cut(a.Endpoint(), true, true)
	wantError(t, a.write("rtcxds", "never told", 300*time.Millisecond), context.DeadlineExceeded, "")
	b.until("without a primary", func(s engine.State) bool { return !s.Following && s.Promotable })
	must(t, b.engine.Promote(t.Context(), a.peer()))
	must(t, b.engine.ReleaseCommits(t.Context()))
	must(t, b.write("rtcxds", "2", time.Second))
	wantError(t, a.write("rtcxds", "never told", 300*time.Millisecond), context.DeadlineExceeded, "")
	fence(t, a)
	a.Knobs().Cut(b.Endpoint(), false, false)
	b.Knobs().Cut(a.Endpoint(), false, false)
	must(t, a.engine.Follow(t.Context(), b.peer(), nil))
	a.until("follows", func(s engine.State) bool { return s.Following && s.Promotable })
	b.until("the mirror is back", func(s engine.State) bool { return s.Mirror.Attached })
	must(t, b.engine.HoldCommits(t.Context(), a.peer()))
	h, err := b.engine.HandOver(t.Context(), a.peer())
	if err != nil || !h.MirrorHasEverything {
		t.Fatalf("hand over: %+v, %v", h, err)
	}
	must(t, a.engine.Promote(t.Context(), b.peer()))
	wantRows(t, a, "rtcxds", "1", "2")
}

func TestHungInstance(t *testing.T) {
	a, _ := held(t, false)
	a.Knobs().HangClients(true)
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := a.engine.Observe(ctx); !errors.Is(err, engine.ErrHung) {
		t.Fatalf("a look at a hung instance ended with %v", err)
	}
}

func TestStop(t *testing.T) {
	a, b := held(t, false)
	must(t, a.engine.Stop(t.Context()))
	must(t, a.engine.Stop(t.Context()))
	if s := a.observe(); !s.Running || s.Role != engine.RoleMirror || a.process.kills() != 0 {
		t.Fatalf("a stopped primary shows %+v", s)
	}
	must(t, b.engine.Promote(t.Context(), a.peer()))
	for range commandTries {
		b.Knobs().FailNext(groupName, model.Verb(model.GroupOffline), &model.Error{Number: 41150, Class: 16})
	}
	must(t, b.engine.Stop(t.Context()))
	if b.process.running() {
		t.Fatal("an instance that does not go offline was left running")
	}
}

// createWithLease makes a group with a write lease instead of the harness's one.
func createWithLease(t *testing.T) (a, b *host) {
	t.Helper()
	t.Setenv("FAKE_PASSWORD", "fake")
	a, b = startHost(t, "SQL1"), startHost(t, "SQL2")
	a.cfg.WriteLease, b.cfg.WriteLease = 10*time.Second, 10*time.Second
	create(t, "EXTERNAL", ", WRITE_LEASE_VALIDITY = 10", a, b)
	a.agent()
	b.agent()
	return a, b
}

func create(t *testing.T, cluster, with string, a, b *host) {
	t.Helper()
	a.Exec(t, "CREATE DATABASE rtcxds", "CREATE TABLE rtcxds.dbo.t (v nvarchar(200))",
		"CREATE AVAILABILITY GROUP [lync] WITH (CLUSTER_TYPE = "+cluster+with+") FOR DATABASE rtcxds REPLICA ON "+
			"N'SQL1' WITH (ENDPOINT_URL = N'"+a.Endpoint()+"', AVAILABILITY_MODE = SYNCHRONOUS_COMMIT), "+
			"N'SQL2' WITH (ENDPOINT_URL = N'"+b.Endpoint()+"', AVAILABILITY_MODE = SYNCHRONOUS_COMMIT)")
	b.Exec(t, "ALTER AVAILABILITY GROUP [lync] JOIN WITH (CLUSTER_TYPE = "+cluster+")")
	sqlservertest.Eventually(t, "synchronized", func() (bool, string) {
		for _, d := range b.Model().GroupDatabases() {
			return d.State == sqlserver.StateSynchronized, d.State
		}
		return false, "no database"
	})
}

// A second of the fake takes 100 ms.
func TestWriteLease(t *testing.T) {
	a, b := createWithLease(t)
	must(t, a.engine.Promote(t.Context(), b.peer()))
	must(t, a.engine.HoldCommits(t.Context(), b.peer()))
	must(t, a.engine.Extend(t.Context(), 600*time.Second)) // no more than the group was created with
	if ticks := a.Model().Groups()[0].LeaseTicks; ticks > int64(time.Second/100) {
		t.Fatalf("the lease lasts for %d ticks", ticks)
	}
	must(t, a.write("rtcxds", "1", time.Second))
	must(t, a.engine.Extend(t.Context(), 2*time.Second)) // shorter than what there is: harmless
	a.closeAgent()                                       // nobody extends any more
	sqlservertest.Eventually(t, "writes end by themselves", func() (bool, string) {
		err := a.write("rtcxds", "2", time.Second)
		return err != nil, "written"
	})
	a.agent()
	must(t, a.engine.Extend(t.Context(), 20*time.Second)) // not before a promotion
	if a.write("rtcxds", "3", time.Second) == nil {
		t.Fatal("clients were let in without a promotion")
	}
	must(t, a.engine.Promote(t.Context(), b.peer()))
	a.until("warns", func(s engine.State) bool { return s.Warning != "" })
	must(t, a.engine.Extend(t.Context(), 20*time.Second))
	must(t, a.write("rtcxds", "4", time.Second))
	fence(t, a)
	ticks := a.Model().Groups()[0].LeaseTicks
	must(t, a.engine.Extend(t.Context(), 20*time.Second))
	if a.Model().Groups()[0].LeaseTicks > ticks {
		t.Fatal("the lease was extended after a fence")
	}
	must(t, a.engine.Promote(t.Context(), b.peer()))
	must(t, a.engine.Stop(t.Context()))
	must(t, a.engine.Extend(t.Context(), 20*time.Second))
	if a.Model().Groups()[0].LeaseTicks > ticks {
		t.Fatal("the lease was extended after a stop")
	}
	must(t, a.engine.Promote(t.Context(), b.peer()))
	must(t, a.engine.Extend(t.Context(), 20*time.Second))
	must(t, a.write("rtcxds", "5", time.Second))
}

func TestWriteLeaseThatTheGroupHasNot(t *testing.T) {
	a, b := pair(t, false)
	a.closeAgent()
	a.cfg.WriteLease = 10 * time.Second
	a.agent()
	must(t, a.engine.Promote(t.Context(), b.peer()))
	wantError(t, a.engine.Extend(t.Context(), 5*time.Second), nil, "47116")
	if s := a.observe(); s.Warning == "" {
		t.Fatal("nobody says that there is no write lease")
	}
}

func TestValidity(t *testing.T) {
	for _, c := range []struct{ left, most, want time.Duration }{
		{2900 * time.Millisecond, time.Minute, 2 * time.Second},
		{3 * time.Second, time.Minute, 2 * time.Second},
		{3300 * time.Millisecond, time.Minute, 3 * time.Second},
		{time.Second, time.Minute, 0},
		{-time.Second, time.Minute, 0},
		{30 * time.Second, 10 * time.Second, 10 * time.Second},
		{30 * time.Second, 0, 0},
	} {
		if got := max(0, validity(c.left, c.most)); got != c.want {
			t.Errorf("validity(%v, %v) = %v, want %v", c.left, c.most, got, c.want)
		}
	}
}

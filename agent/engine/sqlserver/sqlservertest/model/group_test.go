package model

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"
)

// groupWorld is a group on several instances, with a second of 40 ms.
type groupWorld struct {
	t    *testing.T
	all  []*Instance
	opts []Options
}

const testGroup, groupDB = "lync", "rtcxds"

func newGroupWorld(t *testing.T, cluster string, lease int, modes ...string) *groupWorld {
	t.Helper()
	w := &groupWorld{t: t}
	spec := GroupSpec{Name: testGroup, ClusterType: cluster, DBFailover: true, Lease: lease, Databases: []string{groupDB}}
	for n, mode := range modes {
		o := Options{
			Name: fmt.Sprintf("SQL%d", n+1), Dir: t.TempDir(), Endpoint: "127.0.0.1:0", Ping: 20 * time.Millisecond,
			Second: 40 * time.Millisecond,
		}
		i, err := Open(o)
		if err != nil {
			t.Fatal(err)
		}
		o.Endpoint = i.EndpointAddress()
		w.all, w.opts = append(w.all, i), append(w.opts, o)
		spec.Replicas = append(spec.Replicas, ReplicaSpec{Server: o.Name, Endpoint: "TCP://" + o.Endpoint, Mode: mode})
	}
	t.Cleanup(func() {
		for _, i := range w.all {
			i.Crash()
		}
	})
	ctx := t.Context()
	w.must(w.all[0].CreateDatabase(groupDB))
	w.must(w.all[0].CreateTable(ctx, groupDB, "t"))
	w.must(w.all[0].CreateGroup(ctx, spec))
	for _, i := range w.all[1:] {
		w.must(i.AlterGroup(ctx, testGroup, GroupJoin, cluster, false))
	}
	w.synchronized(0, 1)
	return w
}

func (w *groupWorld) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *groupWorld) wait(what string, ok func() bool) {
	w.t.Helper()
	for begun := time.Now(); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Since(begun) > 10*time.Second {
			w.t.Fatalf("waited in vain: %s", what)
		}
	}
}

func (w *groupWorld) role(n int) string { return w.all[n].Groups()[0].Local.Role }

// remote is the state of the other's database as a primary sees it.
func (w *groupWorld) remote(primary, other int) string {
	for _, d := range w.all[primary].GroupDatabases() {
		for _, r := range w.all[primary].Replicas() {
			if !d.IsLocal && r.ID == d.ReplicaID && r.Server == w.opts[other].Name {
				return d.State
			}
		}
	}
	return ""
}

// synchronized waits until both sides know that the other replica has everything.
func (w *groupWorld) synchronized(primary, other int) {
	w.t.Helper()
	w.wait("synchronized", func() bool {
		return w.remote(primary, other) == groupSynchronized && w.local(other).State == groupSynchronized
	})
}

func (w *groupWorld) local(n int) GroupDatabase {
	for _, d := range w.all[n].GroupDatabases() {
		if d.IsLocal {
			return d
		}
	}
	return GroupDatabase{}
}

func (w *groupWorld) alter(n int, verb GroupVerb, argument string) error {
	ctx, cancel := context.WithTimeout(w.t.Context(), 3*time.Second)
	defer cancel()
	return w.all[n].AlterGroup(ctx, testGroup, verb, argument, true)
}

func (w *groupWorld) write(n int, value string, patience time.Duration) error {
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	return w.all[n].Commit(ctx, groupDB, []Row{{"t", value}})
}

func (w *groupWorld) restart(n int) {
	w.t.Helper()
	i, err := Open(w.opts[n])
	w.must(err)
	w.all[n] = i
}

func (w *groupWorld) values(n int) []string {
	w.t.Helper()
	values, err := w.all[n].Select(groupDB, "t")
	w.must(err)
	return values
}

func (w *groupWorld) refused(err error, want int32) {
	w.t.Helper()
	var e *Error
	if !errors.As(err, &e) || e == nil || e.Number != want {
		w.t.Fatalf("got %v, want error %d", err, want)
	}
}

func TestGroupFailoverAfterCrash(t *testing.T) {
	w := newGroupWorld(t, clusterExternal, 0, modeSync, modeSync)
	w.must(w.alter(0, GroupRequired, "1"))
	w.must(w.write(0, "a", time.Second))
	w.all[0].Crash()
	w.wait("the secondary notices", func() bool { return w.local(1).State == groupNotSynchronizing })
	w.refused(w.all[1].AlterGroup(t.Context(), testGroup, GroupFailover, "", false), 47104)
	w.must(w.alter(1, GroupFailover, ""))
	w.wait("it is primary", func() bool { return w.role(1) == groupPrimary })
	if got := w.values(1); !slices.Equal(got, []string{"a"}) {
		t.Fatalf("the new primary has %v", got)
	}
	w.refused(w.alter(1, GroupFailover, ""), 41122)
	if err := w.write(1, "b", 100*time.Millisecond); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("a commit without the secondary that is required ended with %v", err)
	}
	w.must(w.alter(1, GroupRequired, "0"))
	w.must(w.write(1, "c", time.Second))

	w.restart(0)
	if got := w.role(0); got != groupResolving {
		t.Fatalf("a former primary came back as %s", got)
	}
	w.refused(w.all[0].Access(groupDB, false), 983)
	w.wait("it hears of the new primary", func() bool { return w.all[0].Groups()[0].Sequence>>32 == 2 })
	w.refused(w.alter(0, GroupFailover, ""), 41142)
	w.must(w.alter(0, GroupRole, "SECONDARY"))
	w.synchronized(1, 0)
	w.refused(w.all[0].Access(groupDB, false), 976)
	w.must(w.alter(0, GroupFailover, "")) // planned, with the primary alive
	w.wait("roles exchanged", func() bool { return w.role(0) == groupPrimary && w.role(1) == groupSecondary })
	if got := w.values(0); !slices.Equal(got, []string{"a", "b", "c"}) {
		t.Fatalf("after the way back there is %v", got)
	}
}

func TestGroupOffline(t *testing.T) {
	w := newGroupWorld(t, clusterExternal, 0, modeSync, modeSync)
	w.refused(w.alter(1, GroupOffline, ""), 41140)
	w.refused(w.alter(1, GroupRequired, "1"), 41140)
	w.must(w.alter(0, GroupOffline, ""))
	if got := w.role(0); got != groupResolving {
		t.Fatalf("offline made it %s", got)
	}
	w.wait("the secondary has no primary", func() bool { return w.local(1).State == groupNotSynchronizing })
	w.must(w.alter(1, GroupFailover, ""))
	w.must(w.alter(0, GroupRole, "SECONDARY"))
	w.synchronized(1, 0)
}

func TestGroupLagging(t *testing.T) {
	w := newGroupWorld(t, clusterExternal, 0, modeSync, modeSync)
	w.must(w.all[1].AlterHadr(t.Context(), groupDB, HadrSuspend))
	w.wait("suspended", func() bool { return w.remote(0, 1) == groupNotSynchronizing })
	w.must(w.write(0, "lost", time.Second))
	if d := w.local(1); !d.Suspended || d.SuspendReason != byUser {
		t.Fatalf("suspended shows as %+v", d)
	}
	w.all[0].Crash()
	w.refused(w.alter(1, GroupFailover, ""), 41142)
	w.restart(0)
	w.must(w.alter(0, GroupFailover, ""))
	w.must(w.all[1].AlterHadr(t.Context(), groupDB, HadrResume))
	w.synchronized(0, 1)
	w.all[0].Crash()
	w.must(w.alter(1, GroupFailover, ""))
	if got := w.values(1); !slices.Equal(got, []string{"lost"}) {
		t.Fatalf("the new primary has %v", got)
	}
}

func TestGroupForced(t *testing.T) {
	w := newGroupWorld(t, clusterExternal, 0, modeSync, modeSync)
	w.must(w.all[1].AlterHadr(t.Context(), groupDB, HadrSuspend))
	w.wait("suspended", func() bool { return w.remote(0, 1) == groupNotSynchronizing })
	w.must(w.write(0, "discarded", time.Second))
	w.all[0].Crash()
	w.must(w.alter(1, GroupForce, ""))
	w.wait("primary", func() bool { return w.all[1].Access(groupDB, true) == nil })
	w.restart(0)
	w.wait("it hears of the new primary", func() bool { return w.all[0].Groups()[0].Sequence>>32 == 2 })
	w.must(w.alter(0, GroupRole, "SECONDARY"))
	w.wait("suspended by the force", func() bool { return w.local(0).SuspendReason == byPartner })
	w.must(w.all[0].AlterHadr(t.Context(), groupDB, HadrResume))
	w.synchronized(1, 0)
	w.must(w.alter(0, GroupFailover, ""))
	w.wait("roles exchanged", func() bool { return w.all[0].Access(groupDB, true) == nil })
	if got := w.values(0); len(got) != 0 {
		t.Fatalf("resume kept %v", got)
	}
}

func TestGroupLease(t *testing.T) {
	w := newGroupWorld(t, clusterExternal, 5, modeSync, modeSync)
	w.refused(w.alter(0, GroupLease, "1"), 47119)
	w.must(w.write(0, "a", time.Second))
	w.wait("the lease runs out", func() bool { return w.all[0].Access(groupDB, true) != nil })
	w.refused(w.all[0].Access(groupDB, true), 983)
	w.must(w.alter(0, GroupLease, "100"))
	w.must(w.write(0, "b", time.Second))
	if ticks := w.all[0].Groups()[0].LeaseTicks; ticks <= 0 || ticks > int64(4*time.Second/100) {
		t.Fatalf("%d ticks are left", ticks)
	}
	none := newGroupWorld(t, clusterExternal, 0, modeSync, modeSync)
	none.refused(none.alter(0, GroupLease, "10"), 47116)
}

func TestGroupConfigurationOnly(t *testing.T) {
	w := newGroupWorld(t, clusterExternal, 0, modeSync, modeSync, modeConfigOnly)
	w.refused(w.alter(2, GroupFailover, ""), 41190)
	w.wait("the third has the configuration", func() bool {
		return w.all[2].Groups()[0].Sequence == w.all[0].Groups()[0].Sequence
	})
	// The secondary goes, and the primary goes on alone: the third one knows.
	w.all[1].Crash()
	w.must(w.write(0, "alone", 5*time.Second))
	w.all[0].Crash()
	w.restart(1)
	w.wait("the secondary hears of it", func() bool {
		return w.all[1].Groups()[0].Sequence == w.all[2].Groups()[0].Sequence
	})
	w.refused(w.alter(1, GroupFailover, ""), 41142)
	w.restart(0)
	w.must(w.alter(0, GroupFailover, ""))
	w.must(w.alter(1, GroupRole, "SECONDARY"))
	w.synchronized(0, 1)
	// Without a majority a secondary becomes primary and serves nobody.
	w.all[0].Crash()
	w.all[2].Crash()
	w.must(w.alter(1, GroupFailover, ""))
	w.refused(w.all[1].Access(groupDB, true), 983)
	w.restart(2)
	w.wait("the majority is back", func() bool { return w.all[1].Access(groupDB, true) == nil })
}

func TestGroupStrictPair(t *testing.T) {
	w := newGroupWorld(t, clusterExternal, 0, modeSync, modeSync)
	w.all[0].StrictPairs(true)
	w.must(w.alter(0, GroupRequired, "1"))
	w.all[1].Crash()
	w.wait("lost", func() bool { return w.remote(0, 1) == groupNotSynchronizing })
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	err := w.all[0].AlterGroup(ctx, testGroup, GroupRequired, "0", false)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("a change without a majority ended with %v", err)
	}
	if w.all[0].Groups()[0].Configuring.IsZero() {
		t.Fatal("the change under way is not shown")
	}
}

func TestGroupNone(t *testing.T) {
	w := newGroupWorld(t, clusterNone, 0, modeSync, modeSync)
	w.refused(w.alter(1, GroupFailover, ""), 47122)
	w.refused(w.alter(0, GroupOffline, ""), 41190)
	w.all[0].Crash()
	w.must(w.alter(1, GroupForce, ""))
	w.restart(0)
	if got := w.role(0); got != groupPrimary {
		t.Fatalf("a former primary of a group without a cluster came back as %s", got)
	}
}

func TestGroupCut(t *testing.T) {
	w := newGroupWorld(t, clusterExternal, 0, modeSync, modeSync)
	w.must(w.alter(0, GroupRequired, "1"))
	w.all[0].Knobs().Cut(w.opts[1].Endpoint, true, true)
	w.all[1].Knobs().Cut(w.opts[0].Endpoint, true, true)
	waits := make(chan error, 1)
	go func() { waits <- w.write(0, "never told", 5*time.Second) }()
	w.wait("both notice", func() bool {
		return w.local(1).State == groupNotSynchronizing && w.remote(0, 1) == groupNotSynchronizing
	})
	w.must(w.alter(1, GroupFailover, ""))
	w.must(w.alter(1, GroupRequired, "0"))
	w.must(w.write(1, "told", time.Second))
	select {
	case err := <-waits:
		t.Fatalf("the old primary's commit ended with %v", err)
	default:
	}
	w.all[0].Knobs().Cut(w.opts[1].Endpoint, false, false)
	w.all[1].Knobs().Cut(w.opts[0].Endpoint, false, false)
	w.wait("the old primary hears of the new one", func() bool { return w.role(0) == groupResolving })
	if err := <-waits; !errors.Is(err, ErrEnded) {
		t.Fatalf("the old primary's commit ended with %v", err)
	}
	w.must(w.alter(0, GroupRole, "SECONDARY"))
	w.synchronized(1, 0)
	if a, b := w.all[0].database(groupDB).end(), w.all[1].database(groupDB).end(); a != b {
		t.Fatalf("the logs end at %v and %v", a, b)
	}
}

func TestGroupAcknowledgedAndFailedLater(t *testing.T) {
	w := newGroupWorld(t, clusterExternal, 0, modeSync, modeSync)
	w.all[0].Knobs().FailNext(testGroup, Verb(GroupRequired), nil)
	w.must(w.alter(0, GroupRequired, "1"))
	if got := w.all[0].Groups()[0].Required; got != 0 {
		t.Fatalf("required is %d", got)
	}
	w.all[0].Crash()
	w.all[1].SlowGroups(200 * time.Millisecond)
	w.must(w.alter(1, GroupFailover, ""))
	if got := w.all[1].Groups()[0].Local; got.Role != groupResolving || got.Operational != "PENDING_FAILOVER" {
		t.Fatalf("a slow failover shows as %+v", got)
	}
	w.wait("it is primary", func() bool { return w.role(1) == groupPrimary })
}

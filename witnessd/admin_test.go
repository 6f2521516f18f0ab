package witnessd_test

import (
	"context"
	"errors"
	"io"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	witnessv1 "github.com/witnessd/witnessd/proto/gen/witness/v1"
)

// TestAdminCalls makes every call of the AdminService, each by the leader and by a follower.
func TestAdminCalls(t *testing.T) {
	for _, by := range []string{"leader", "follower"} {
		t.Run(by, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w, a, _ := armedPair(t)
				node := w.leader()
				if by == "follower" {
					node = w.follower()
				}
				c := calls{w: w, t: t, ctx: t.Context(), admin: w.admin(node)}
				c.read()
				c.settings()
				c.switchover()
				c.events()
				c.force(a)
				c.remove()
			})
		})
	}
}

type calls struct {
	w     *world
	t     *testing.T
	ctx   context.Context
	admin witnessv1.AdminServiceClient
}

func (c calls) must(err error, what string) {
	c.t.Helper()
	if err != nil {
		c.t.Fatalf("%s: %v %v", what, err, status.Convert(err).Details())
	}
}

func (c calls) read() {
	again, err := c.admin.CreatePair(c.ctx, salesRequest())
	c.must(err, "create again")
	if again.GetCreated() || again.GetPair().GetEpoch() != 1 {
		c.t.Errorf("create again: %v", again)
	}
	other := salesRequest()
	other.Members[1].Host = "c"
	_, err = c.admin.CreatePair(c.ctx, other)
	wantReason(c.t, err, "NAME_TAKEN")
	other.Name = "crm"
	_, err = c.admin.CreatePair(c.ctx, other)
	wantReason(c.t, err, "HOST_CONFLICT")
	other.Members = other.GetMembers()[:1]
	_, err = c.admin.CreatePair(c.ctx, other)
	wantReason(c.t, err, "BAD_SPEC")
	_, err = c.admin.CreatePair(c.ctx, &witnessv1.CreatePairRequest{Policy: &witnessv1.Policy{Profile: "hasty"}})
	wantReason(c.t, err, "BAD_SPEC")

	one, err := c.admin.GetPair(c.ctx, &witnessv1.GetPairRequest{Pair: "sales"})
	c.must(err, "get")
	p := one.GetPair()
	if p.GetPrimary() != "a" || !p.GetFailoverReady() || p.GetFailoverBlocked() != nil || p.GetAsOf().GetStale() ||
		p.GetLeaseLeft().AsDuration() <= 0 {
		c.t.Errorf("get: %v", p)
	}
	for i, h := range p.GetHosts() {
		if !h.GetHeard() || !h.GetFresh() || h.GetReport().GetFenceLevel() != "engine" ||
			h.GetAgent().GetVersion() != "test" || h.GetHost() != []string{"a", "b"}[i] {
			c.t.Errorf("host: %v", h)
		}
	}
	byID, err := c.admin.GetPair(c.ctx, &witnessv1.GetPairRequest{Pair: p.GetId()})
	c.must(err, "get by id")
	if byID.GetPair().GetName() != "sales" {
		c.t.Errorf("get by id: %v", byID)
	}
	_, err = c.admin.GetPair(c.ctx, &witnessv1.GetPairRequest{Pair: "nosuch"})
	wantReason(c.t, err, "UNKNOWN_PAIR")
	if status.Code(err) != codes.NotFound {
		c.t.Errorf("unknown pair: code %v", status.Code(err))
	}
	_, err = c.admin.GetPair(c.ctx, &witnessv1.GetPairRequest{Pair: "nosuch", Stale: true})
	wantReason(c.t, err, "UNKNOWN_PAIR")
	_, err = c.admin.GetPair(c.ctx, &witnessv1.GetPairRequest{})
	wantReason(c.t, err, "BAD_REQUEST")

	for _, stale := range []bool{false, true} {
		all, err := c.admin.ListPairs(c.ctx, &witnessv1.ListPairsRequest{Stale: stale})
		c.must(err, "list")
		if len(all.GetPairs()) != 1 || all.GetAsOf().GetStale() != stale {
			c.t.Errorf("list, stale %v: %v", stale, all)
		}
	}
	why, err := c.admin.ExplainPair(c.ctx, &witnessv1.ExplainPairRequest{Pair: "sales"})
	c.must(err, "explain")
	if v := why.GetVerdicts(); len(v) != 3 || v[0].GetOk() || !v[0].GetReady() || !v[1].GetOk() ||
		len(v[0].GetPreconditions()) < 5 || v[0].GetQuestion() == "" {
		c.t.Errorf("explain: %v", v)
	}
}

func (c calls) settings() {
	p := c.w.pair(c.w.leader())
	_, err := c.admin.Pause(c.ctx, &witnessv1.PauseRequest{Pair: "sales", ExpectedRevision: p.GetRevision() + 1})
	wantReason(c.t, err, "STALE_REVISION")
	if status.Code(err) != codes.Aborted {
		c.t.Errorf("stale revision: code %v", status.Code(err))
	}
	_, err = c.admin.Pause(c.ctx, &witnessv1.PauseRequest{Pair: "sales", Mode: witnessv1.Mode_MODE_AUTOMATIC})
	wantReason(c.t, err, "BAD_SPEC")
	paused, err := c.admin.Pause(c.ctx, &witnessv1.PauseRequest{
		Pair: "sales", ExpectedRevision: p.GetRevision(), ExpectedEpoch: 1, By: "me", Reason: "patch day",
	})
	c.must(err, "pause")
	if q := paused.GetPair(); q.GetMode() != witnessv1.Mode_MODE_MANUAL || q.GetPause().GetReason() != "patch day" ||
		q.GetPause().GetBy() != "me" || q.GetRight() != witnessv1.Right_RIGHT_SOLE || q.GetFailoverReady() ||
		q.GetFailoverBlocked().GetReason() != "MODE_NOT_AUTOMATIC" {
		c.t.Errorf("pause: %v", q)
	}
	_, err = c.admin.Pause(c.ctx, &witnessv1.PauseRequest{Pair: "sales", Mode: witnessv1.Mode_MODE_OBSERVE})
	c.must(err, "observe")
	resumed, err := c.admin.Resume(c.ctx, &witnessv1.ResumeRequest{Pair: "sales", By: "me"})
	c.must(err, "resume")
	if q := resumed.GetPair(); q.GetMode() != witnessv1.Mode_MODE_AUTOMATIC || q.GetPause() != nil {
		c.t.Errorf("resume: %v", q)
	}
	c.w.untilArmed()

	set, err := c.admin.SetPolicy(c.ctx, &witnessv1.SetPolicyRequest{
		Pair: "sales", By: "me", Policy: &witnessv1.Policy{ReleaseTimeout: seconds(5)},
	})
	c.must(err, "set policy")
	if q := set.GetPair().GetPolicy(); q.GetProfile() != "custom" || q.GetReleaseTimeout().AsDuration() != 5*time.Second ||
		q.GetLease().AsDuration() != 3*time.Second {
		c.t.Errorf("set policy: %v", q)
	}
	set, err = c.admin.SetPolicy(c.ctx, &witnessv1.SetPolicyRequest{
		Pair: "sales", Policy: &witnessv1.Policy{Profile: "default"},
	})
	c.must(err, "set policy back")
	if q := set.GetPair().GetPolicy(); q.GetProfile() != "default" ||
		q.GetReleaseTimeout().AsDuration() != 30*time.Second {
		c.t.Errorf("set policy back: %v", q)
	}
	_, err = c.admin.SetPolicy(c.ctx, &witnessv1.SetPolicyRequest{
		Pair: "sales", Policy: &witnessv1.Policy{Lease: durationpb.New(time.Second)},
	})
	wantReason(c.t, err, "BAD_SPEC")
	_, err = c.admin.SetPolicy(c.ctx, &witnessv1.SetPolicyRequest{Pair: "sales", ExpectedRevision: 1})
	wantReason(c.t, err, "STALE_REVISION")

	_, err = c.admin.AdoptPair(c.ctx, &witnessv1.AdoptPairRequest{Pair: "sales", Host: "a", By: "me"})
	wantReason(c.t, err, "BAD_SPEC")
	_, err = c.admin.ReplaceMirror(c.ctx, &witnessv1.ReplaceMirrorRequest{
		Pair: "sales", Member: &witnessv1.Member{Host: "c", Instance: "db"},
	})
	wantReason(c.t, err, "RIGHT_SOLE")
	_, err = c.admin.ReplaceMirror(c.ctx, &witnessv1.ReplaceMirrorRequest{Pair: "sales"})
	wantReason(c.t, err, "BAD_REQUEST")
}

func (c calls) switchover() {
	c.w.untilArmed()
	_, err := c.admin.Switchover(c.ctx, &witnessv1.SwitchoverRequest{Pair: "sales", Target: "a"})
	wantReason(c.t, err, "ALREADY_PRIMARY")
	_, err = c.admin.Switchover(c.ctx, &witnessv1.SwitchoverRequest{Pair: "sales", ExpectedEpoch: 9})
	wantReason(c.t, err, "STALE_EPOCH")
	started, err := c.admin.Switchover(c.ctx, &witnessv1.SwitchoverRequest{Pair: "sales", By: "me", Reason: "test"})
	c.must(err, "switchover")
	if started.GetProcedure() == "" || started.GetPair().GetProcedure().GetBy() != "me" {
		c.t.Errorf("switchover: %v", started)
	}
	stream, err := c.admin.WatchProcedure(c.ctx, &witnessv1.WatchProcedureRequest{Procedure: started.GetProcedure()})
	c.must(err, "watch procedure")
	states := receive(c.t, stream)
	if len(states) == 0 {
		c.t.Fatal("no state of the procedure")
	}
	for _, s := range states[:len(states)-1] {
		if s.GetState().GetWaitsFor() == "" || s.GetState().GetOutcome() != nil {
			c.t.Errorf("step: %v", s)
		}
	}
	if s := states[len(states)-1].GetState(); !s.GetOutcome().GetDone() || s.GetPairName() != "sales" ||
		s.GetProcedure().GetTarget() != "b" {
		c.t.Errorf("last state: %v", s)
	}
	one, err := c.admin.GetProcedure(c.ctx, &witnessv1.GetProcedureRequest{Procedure: started.GetProcedure()})
	c.must(err, "get procedure")
	if !one.GetState().GetOutcome().GetDone() {
		c.t.Errorf("get procedure: %v", one)
	}
	_, err = c.admin.GetProcedure(c.ctx, &witnessv1.GetProcedureRequest{Procedure: "nosuch"})
	wantReason(c.t, err, "NO_SUCH_PROCEDURE")
	c.w.untilArmed()

	// Back, so that the first procedure is only in the history.
	back, err := c.admin.Switchover(c.ctx, &witnessv1.SwitchoverRequest{Pair: "sales", By: "me"})
	c.must(err, "switchover back")
	stream, err = c.admin.WatchProcedure(c.ctx, &witnessv1.WatchProcedureRequest{Procedure: back.GetProcedure()})
	c.must(err, "watch procedure")
	receive(c.t, stream)
	one, err = c.admin.GetProcedure(c.ctx, &witnessv1.GetProcedureRequest{Procedure: started.GetProcedure()})
	c.must(err, "get procedure of the past")
	if o := one.GetState().GetOutcome(); !o.GetDone() || o.GetProcedure().GetId() != started.GetProcedure() {
		c.t.Errorf("procedure of the past: %v", one)
	}
	c.w.untilArmed()
}

// receive reads a stream to its end.
func receive[M any](t *testing.T, stream grpc.ServerStreamingClient[M]) []*M {
	t.Helper()
	var all []*M
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatalf("stream: %v", err)
		}
		all = append(all, m)
	}
}

func (c calls) events() {
	all, err := c.admin.ListEvents(c.ctx, &witnessv1.ListEventsRequest{Pair: "sales", Limit: 1000})
	c.must(err, "events")
	n := len(all.GetEvents())
	if n < 10 || all.GetEvents()[0].GetKind() != "CREATED" || all.GetOldest() != 1 ||
		all.GetNewest() != all.GetEvents()[n-1].GetSequence() {
		c.t.Errorf("events: %v", all)
	}
	three := uint64(3)
	some, err := c.admin.ListEvents(c.ctx, &witnessv1.ListEventsRequest{After: &three, Limit: 2, Stale: true})
	c.must(err, "some events")
	if e := some.GetEvents(); len(e) != 2 || e[0].GetSequence() != 4 || e[1].GetSequence() != 5 || e[0].GetCause() == "" ||
		e[0].GetAt() == nil {
		c.t.Errorf("events after 3: %v", some)
	}
	last, err := c.admin.ListEvents(c.ctx, &witnessv1.ListEventsRequest{Limit: 1})
	c.must(err, "last event")
	if e := last.GetEvents(); len(e) != 1 || e[0].GetSequence() != all.GetNewest() {
		c.t.Errorf("last event: %v", last)
	}
	_, err = c.admin.ListEvents(c.ctx, &witnessv1.ListEventsRequest{Pair: "nosuch"})
	wantReason(c.t, err, "UNKNOWN_PAIR")

	ctx, cancel := context.WithCancel(c.ctx)
	defer cancel()
	stream, err := c.admin.WatchEvents(ctx, &witnessv1.WatchEventsRequest{Pair: "sales", After: &three})
	c.must(err, "watch events")
	// A follower may be a moment behind.
	watched := 0
	for through := uint64(0); through < all.GetNewest(); {
		m, err := stream.Recv()
		c.must(err, "watch events")
		if m.GetMissed() {
			c.t.Errorf("events were missed before %d", m.GetThrough())
		}
		watched, through = watched+len(m.GetEvents()), m.GetThrough()
	}
	if watched < n-3 {
		c.t.Errorf("watched %d events, want %d", watched, n-3)
	}
}

// force is rule R14 as far as the edge is concerned: what must be named, and what is refused.
func (c calls) force(a *host) {
	_, err := c.admin.ForceFailover(c.ctx, &witnessv1.ForceFailoverRequest{Pair: "sales"})
	wantReason(c.t, err, "BAD_SPEC")
	_, err = c.admin.ForceFailover(c.ctx, &witnessv1.ForceFailoverRequest{Pair: "sales", ExpectedEpoch: 1})
	wantReason(c.t, err, "STALE_EPOCH")
	p := c.w.pair(c.w.leader())
	_, err = c.admin.Pause(c.ctx, &witnessv1.PauseRequest{Pair: "sales"})
	c.must(err, "pause")
	a.silent(true)
	time.Sleep(4 * time.Second)
	force := &witnessv1.ForceFailoverRequest{Pair: "sales", ExpectedEpoch: p.GetEpoch(), By: "me"}
	_, err = c.admin.ForceFailover(c.ctx, force)
	wantReason(c.t, err, "LOSS_NOT_ACCEPTED")
	force.AcceptLoss = true
	_, err = c.admin.ForceFailover(c.ctx, force)
	wantReason(c.t, err, "HOST_OFF_NOT_CONFIRMED")
	force.HostOff = "b"
	_, err = c.admin.ForceFailover(c.ctx, force)
	wantReason(c.t, err, "BAD_SPEC")
	force.HostOff = "a"
	started, err := c.admin.ForceFailover(c.ctx, force)
	c.must(err, "force")
	stream, err := c.admin.WatchProcedure(c.ctx, &witnessv1.WatchProcedureRequest{Procedure: started.GetProcedure()})
	c.must(err, "watch procedure")
	states := receive(c.t, stream)
	if s := states[len(states)-1].GetState(); !s.GetOutcome().GetDone() || s.GetProcedure().GetHostOff() != "a" {
		c.t.Errorf("forced failover: %v", s)
	}
	a.silent(false)
}

func (c calls) remove() {
	replaced, err := c.admin.ReplaceMirror(c.ctx, &witnessv1.ReplaceMirrorRequest{
		Pair: "sales", Member: &witnessv1.Member{Host: "c", Instance: "db"}, By: "me",
	})
	c.must(err, "replace mirror")
	if replaced.GetPair().GetMirror() != "c" {
		c.t.Errorf("replace mirror: %v", replaced)
	}
	id := replaced.GetPair().GetId()
	removed, err := c.admin.RemovePair(c.ctx, &witnessv1.RemovePairRequest{Pair: "sales", By: "me"})
	c.must(err, "remove")
	stream, err := c.admin.WatchProcedure(c.ctx, &witnessv1.WatchProcedureRequest{Procedure: removed.GetProcedure()})
	c.must(err, "watch procedure")
	if states := receive(c.t, stream); !states[len(states)-1].GetState().GetOutcome().GetDone() {
		c.t.Errorf("remove: %v", states)
	}
	_, err = c.admin.GetPair(c.ctx, &witnessv1.GetPairRequest{Pair: "sales"})
	wantReason(c.t, err, "UNKNOWN_PAIR")
	gone, err := c.admin.GetPair(c.ctx, &witnessv1.GetPairRequest{Pair: id})
	c.must(err, "get the removed pair")
	if gone.GetPair().GetStage() != witnessv1.Stage_STAGE_REMOVED {
		c.t.Errorf("removed pair: %v", gone)
	}
	_, err = c.admin.Pause(c.ctx, &witnessv1.PauseRequest{Pair: id})
	wantReason(c.t, err, "PAIR_REMOVED")
	events, err := c.admin.ListEvents(c.ctx, &witnessv1.ListEventsRequest{Pair: "sales", Limit: 5})
	c.must(err, "events of a removed pair by name")
	if len(events.GetEvents()) == 0 {
		c.t.Error("the removed pair has no events")
	}
	// A pair that has not begun is removed at once.
	_, err = c.admin.CreatePair(c.ctx, &witnessv1.CreatePairRequest{
		Name: "crm", Primary: "x", Mode: witnessv1.Mode_MODE_OBSERVE, Policy: &witnessv1.Policy{Profile: "fast"},
		Members: []*witnessv1.Member{{Host: "x", Instance: "db"}, {Host: "y", Instance: "db"}},
	})
	c.must(err, "create crm")
	removed, err = c.admin.RemovePair(c.ctx, &witnessv1.RemovePairRequest{Pair: "crm"})
	c.must(err, "remove crm")
	if removed.GetProcedure() != "" || removed.GetPair().GetStage() != witnessv1.Stage_STAGE_REMOVED {
		c.t.Errorf("remove a forming pair: %v", removed)
	}
}

// TestWatchPairs: the stream shows everything, then changes soon and everything every second, and goes on
// over a change of leader.
func TestWatchPairs(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w, _, _ := armedPair(t)
		node := w.follower()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		stream, err := w.admin(node).WatchPairs(ctx, &witnessv1.WatchPairsRequest{})
		if err != nil {
			t.Fatal(err)
		}
		next := func() *witnessv1.WatchPairsResponse {
			t.Helper()
			m, err := stream.Recv()
			if err != nil {
				t.Fatalf("stream: %v", err)
			}
			return m
		}
		first := next()
		if !first.GetReset_() || !first.GetComplete() || len(first.GetPairs()) != 1 ||
			!first.GetPairs()[0].GetHosts()[0].GetHeard() || first.GetAsOf().GetTerm() == 0 {
			t.Errorf("first: %v", first)
		}
		start := time.Now()
		if m := next(); m.GetReset_() || len(m.GetPairs()) != 1 || time.Since(start) > 1200*time.Millisecond {
			t.Errorf("refresh after %v: %v", time.Since(start), m)
		}
		start = time.Now()
		if _, err := w.admin(node).Pause(ctx, &witnessv1.PauseRequest{Pair: "sales"}); err != nil {
			t.Fatal(err)
		}
		for next().GetPairs()[0].GetMode() != witnessv1.Mode_MODE_MANUAL {
			continue
		}
		if took := time.Since(start); took > 400*time.Millisecond {
			t.Errorf("a change was shown after %v", took)
		}
		leader := w.leader()
		w.net.Isolate(leader)
		for !next().GetReset_() {
			continue
		}
		w.net.Rejoin(leader)
		if _, err := w.admin(node).RemovePair(ctx, &witnessv1.RemovePairRequest{Pair: "sales"}); err != nil {
			t.Fatal(err)
		}
		for start = time.Now(); len(next().GetRemoved()) == 0; {
			if time.Since(start) > 10*time.Second {
				t.Fatal("the removal was not shown")
			}
		}
	})
}

// TestWatchProcedureOverLeaders: whoever waits for a procedure learns its end, whichever leader comes to it.
func TestWatchProcedureOverLeaders(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w, a, b := armedPair(t)
		node, leader := w.follower(), w.leader()
		b.leave() // its session is with the leader
		w.host("b", node)
		w.untilArmed()
		a.silent(true) // it does not hear that it should release
		started, err := w.admin(node).Switchover(t.Context(), &witnessv1.SwitchoverRequest{Pair: "sales"})
		if err != nil {
			t.Fatal(err)
		}
		stream, err := w.admin(node).WatchProcedure(t.Context(),
			&witnessv1.WatchProcedureRequest{Procedure: started.GetProcedure()})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := stream.Recv(); err != nil {
			t.Fatal(err)
		}
		w.net.Isolate(leader)
		time.Sleep(2 * time.Second)
		a.silent(false)
		states := receive(t, stream)
		if s := states[len(states)-1].GetState(); !s.GetOutcome().GetDone() || s.GetAsOf().GetNode() == leader {
			t.Errorf("last state: %v", s)
		}
	})
}

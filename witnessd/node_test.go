package witnessd_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	witnessv1 "github.com/witnessd/witnessd/proto/gen/witness/v1"
)

// TestLostLeader is promise G3: the loss of the leader changes no pair, and no agent notices more than a
// moment without answers.
func TestLostLeader(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w, a, _ := armedPair(t)
		leader := w.leader()
		before := w.pair(leader)
		w.net.Isolate(leader)
		lost, granted := time.Now(), a.granted()
		w.until("leases from the next leader", 2*time.Second, func() bool { return a.granted() > granted+1 })
		t.Logf("leases again %v after the leader was lost", time.Since(lost))
		time.Sleep(5 * time.Second)
		after := w.pair(w.follower())
		if after.GetEpoch() != before.GetEpoch() || after.GetPrimary() != "a" {
			t.Errorf("epoch %d of %s became epoch %d of %s", before.GetEpoch(), before.GetPrimary(),
				after.GetEpoch(), after.GetPrimary())
		}
		if ends := a.ends(); len(ends) > 0 {
			t.Errorf("the session on another node broke: %v", ends)
		}
		w.net.Rejoin(leader)
		w.until("the lost node follows", 5*time.Second, func() bool {
			st, err := w.local(leader)
			return err == nil && st.GetReady() && st.GetLeader() != leader
		})
	})
}

// TestStoppedLeader: a node that is told to stop hands over, and its agents go to other nodes.
func TestStoppedLeader(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w, a, b := armedPair(t) // b's session is with the leader
		leader := w.leader()
		granted := a.granted()
		stopped := time.Now()
		w.stop(leader)
		w.until("leases from the next leader", time.Second, func() bool { return a.granted() > granted+1 })
		t.Logf("leases again %v after SIGTERM", time.Since(stopped))
		if ends := b.ends(); len(ends) == 0 || status.Code(ends[0]) != codes.Unavailable {
			t.Errorf("the session with the stopped node ended with %v", ends)
		} else {
			wantReason(t, ends[0], "STOPPING")
		}
	})
}

// TestNoLeader: without a quorum nothing is answered, and calls say so soon; then all goes on.
func TestNoLeader(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w, a, _ := armedPair(t)
		for _, id := range w.ids {
			w.net.Isolate(id)
		}
		// The client and the agents still reach every node, by a way of their own.
		w.net.HealAll()
		for _, x := range w.ids {
			for _, y := range w.ids {
				if x != y {
					w.net.Cut(x, y)
				}
			}
		}
		time.Sleep(2 * time.Second)
		granted := a.granted()
		asked := time.Now()
		_, err := w.admin("n1").GetPair(t.Context(), &witnessv1.GetPairRequest{Pair: "sales"})
		wantReason(t, err, "NO_LEADER")
		if waited := time.Since(asked); waited < time.Second || waited > 3*time.Second {
			t.Errorf("refused after %v, want about 2s", waited)
		}
		if r, err := w.admin("n1").GetPair(t.Context(), &witnessv1.GetPairRequest{Pair: "sales", Stale: true}); err != nil ||
			!r.GetPair().GetAsOf().GetStale() || r.GetPair().GetPrimary() != "a" {
			t.Errorf("stale: %v, %v", r, err)
		}
		st, err := w.witness("n1").GetStatus(t.Context(), &witnessv1.GetStatusRequest{})
		if err != nil || st.GetLeader() != "" || st.GetReady() || st.GetNode() != "n1" {
			t.Errorf("status: %v, %v", st, err)
		}
		if got := w.health("n1", ""); got != healthv1.HealthCheckResponse_NOT_SERVING {
			t.Errorf("health without a leader: %v", got)
		}
		if a.granted() != granted {
			t.Error("a lease was granted without a quorum")
		}
		w.net.HealAll()
		w.until("leases again", 3*time.Second, func() bool { return a.granted() > granted })
		w.leader()
		time.Sleep(200 * time.Millisecond)
		if got := w.health("n1", "witness.v1.AgentService"); got != healthv1.HealthCheckResponse_SERVING {
			t.Errorf("health with a leader: %v", got)
		}
		if ends := a.ends(); len(ends) > 0 {
			t.Errorf("the agent's session broke: %v", ends)
		}
	})
}

func (w *world) health(id, service string) healthv1.HealthCheckResponse_ServingStatus {
	r, err := healthv1.NewHealthClient(w.conn(id)).Check(w.t.Context(), &healthv1.HealthCheckRequest{Service: service})
	if err != nil {
		w.t.Errorf("health of %s: %v", id, err)
	}
	return r.GetStatus()
}

// TestPassedOnOnce: a call that one node has passed on is not passed on again.
func TestPassedOnOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, "n1", "n2", "n3")
		ctx := metadata.AppendToOutgoingContext(t.Context(), "witness-passed-on-by", "n9")
		node := w.follower()
		start := time.Now()
		_, err := w.admin(node).ListPairs(ctx, &witnessv1.ListPairsRequest{})
		wantReason(t, err, "NOT_LEADER")
		if time.Since(start) > 100*time.Millisecond {
			t.Errorf("refused after %v, want at once", time.Since(start))
		}
	})
}

// TestFailover is the row "primary host lost", with both agents on followers.
func TestFailover(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w, a, b := armedPair(t)
		watch := w.watchEvents(w.follower())
		a.silent(true)
		lost := time.Now()
		w.until("b is primary", 4*time.Second, func() bool { return w.pair(w.ids[0]).GetPrimary() == "b" })
		took := time.Since(lost)
		if took < 2500*time.Millisecond || took > 3600*time.Millisecond {
			t.Errorf("failover after %v, want one lease", took)
		}
		w.until("b serves", time.Second, func() bool { return b.granted() > 0 })
		w.until("PROCEDURE_DONE", time.Second, func() bool { return slices.Contains(watch(), "PROCEDURE_DONE") })
		a.silent(false)
		w.untilArmed()
		if p := w.pair("n2"); p.GetEpoch() != 2 || p.GetMirror() != "a" {
			t.Errorf("after the failover: %v", p)
		}
	})
}

// watchEvents collects the kinds of events of a stream.
func (w *world) watchEvents(by string) func() []string {
	w.t.Helper()
	ctx, cancel := context.WithCancel(w.t.Context())
	stream, err := w.admin(by).WatchEvents(ctx, &witnessv1.WatchEventsRequest{})
	if err != nil {
		w.t.Fatal(err)
	}
	if _, err := stream.Recv(); err != nil { // the stream's beginning
		w.t.Fatal(err)
	}
	got := make(chan string, 1000)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			m, err := stream.Recv()
			if err != nil {
				return
			}
			for _, e := range m.GetEvents() {
				got <- e.GetKind()
			}
		}
	}()
	w.t.Cleanup(func() { cancel(); <-done })
	var kinds []string
	return func() []string {
		for range len(got) {
			kinds = append(kinds, <-got)
		}
		return kinds
	}
}

// TestHostClaimed: of two agents with one host name the second is refused, also over a relay.
func TestHostClaimed(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w, _, _ := armedPair(t)
		conn := w.dial(w.follower(), "impostor")
		defer conn.Close()
		stream, err := witnessv1.NewAgentServiceClient(conn).Session(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range []*witnessv1.SessionRequest{
			{Message: &witnessv1.SessionRequest_Hello{Hello: &witnessv1.Hello{Host: "a", AgentId: "other", Start: "1"}}},
			{Message: &witnessv1.SessionRequest_Heartbeat{Heartbeat: &witnessv1.Heartbeat{Sequence: 1}}},
		} {
			if err := stream.Send(m); err != nil {
				t.Fatal(err)
			}
		}
		for err == nil {
			_, err = stream.Recv()
		}
		wantReason(t, err, "HOST_CLAIMED")
	})
}

// TestBadSession: what no honest agent sends ends the session with a reason.
func TestBadSession(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, "n1")
		w.leader()
		hello := func(host string) *witnessv1.SessionRequest {
			return &witnessv1.SessionRequest{Message: &witnessv1.SessionRequest_Hello{
				Hello: &witnessv1.Hello{Host: host, AgentId: "i", Start: "1"},
			}}
		}
		beat := func(n int) *witnessv1.SessionRequest {
			return &witnessv1.SessionRequest{Message: &witnessv1.SessionRequest_Heartbeat{
				Heartbeat: &witnessv1.Heartbeat{Pairs: make([]*witnessv1.PairReport, n)},
			}}
		}
		unknown := beat(1)
		unknown.GetHeartbeat().Pairs[0] = &witnessv1.PairReport{Request: 99}
		for name, messages := range map[string][]*witnessv1.SessionRequest{
			"no hello":        {beat(0)},
			"bad host name":   {hello("a;b")},
			"hello twice":     {hello("a"), hello("a")},
			"too many pairs":  {hello("a"), beat(1000)},
			"unknown request": {hello("a"), unknown},
		} {
			stream, err := witnessv1.NewAgentServiceClient(w.conn("n1")).Session(t.Context())
			for _, m := range messages {
				if err == nil {
					err = stream.Send(m)
				}
			}
			for err == nil {
				_, err = stream.Recv()
			}
			if wantReason(t, err, "BAD_REQUEST"); t.Failed() {
				t.Fatal(name)
			}
		}
	})
}

// TestSingleNode: one node is a witness too, for a try or after a restore.
func TestSingleNode(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, "n1")
		w.leader()
		w.createSales("n1")
		a := w.host("a", "n1")
		w.host("b", "n1")
		w.untilArmed()
		w.until("leases", time.Second, func() bool { return a.granted() > 1 })
	})
}

// TestManyPairs: one witness, many pairs, agents on all nodes; the leader is lost and nobody moves. Then all
// primaries of one place are lost at once.
func TestManyPairs(t *testing.T) {
	bubble(t, func(t *testing.T) {
		const pairs = 60
		w := newWorld(t, "n1", "n2", "n3")
		leader := w.leader()
		var primaries []*host
		for i := range pairs {
			a, b := fmt.Sprintf("a%d", i), fmt.Sprintf("b%d", i)
			w.createPair(leader, fmt.Sprintf("pair-%d", i), a, b)
			order := []string{w.ids[i%3], w.ids[(i+1)%3], w.ids[(i+2)%3]}
			primaries = append(primaries, w.host(a, order...))
			w.host(b, order...)
		}
		armed := func() (n int) {
			for _, p := range w.list(w.follower()) {
				if p.GetRight() == witnessv1.Right_RIGHT_LEASED && p.GetFailoverReady() && p.GetProcedure() == nil {
					n++
				}
			}
			return n
		}
		w.until("all pairs are armed", 10*time.Second, func() bool { return armed() == pairs })
		w.stop(leader)
		time.Sleep(10 * time.Second)
		for _, p := range w.list(w.follower()) {
			if p.GetEpoch() != 1 {
				t.Errorf("pair %s is at epoch %d", p.GetName(), p.GetEpoch())
			}
		}
		for _, h := range primaries {
			h.silent(true)
		}
		time.Sleep(4 * time.Second)
		for _, p := range w.list(w.follower()) {
			if p.GetEpoch() != 2 {
				t.Errorf("pair %s is at epoch %d: %v", p.GetName(), p.GetEpoch(), p.GetFailoverBlocked())
			}
		}
	})
}

package witnessd_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"path/filepath"
	"strings"
	"testing"
	"time"

	witnessv1 "github.com/witnessd/witnessd/proto/gen/witness/v1"
	"github.com/witnessd/witnessd/raftstore/raftstoretest"
	"github.com/witnessd/witnessd/witnessd"
)

func TestNodes(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, "n1", "n2", "n3")
		leader := w.leader()
		by := w.follower()
		st, err := w.witness(by).GetStatus(t.Context(), &witnessv1.GetStatusRequest{})
		if err != nil || st.GetNode() != leader || len(st.GetNodes()) != 3 || st.GetCommitIndex() == 0 {
			t.Fatalf("status: %v, %v", st, err)
		}
		for _, n := range st.GetNodes() {
			if !n.GetReachable() || !n.GetVoter() || n.GetVersion() != "test" || n.GetApiAddress() != n.GetId()+":7401" ||
				n.GetLeader() != (n.GetId() == leader) || n.GetUptime().AsDuration() <= 0 {
				t.Errorf("node: %v", n)
			}
		}

		w.disks["n4"] = raftstoretest.NewDisk()
		joining := w.config("n4")
		joining.Join, joining.Nodes = true, nil
		w.run("n4", joining)
		add := &witnessv1.AddNodeRequest{Id: "n4", RaftAddress: "n4:7400", ApiAddress: "n4:7401"}
		if _, err := w.witness(by).AddNode(t.Context(), add); err != nil {
			t.Fatalf("add: %v", err)
		}
		w.until("n4 knows the leader", time.Second, func() bool {
			st, err := w.local("n4")
			return err == nil && st.GetReady()
		})
		if all := w.list("n4"); len(all) != 0 {
			t.Errorf("list by the new node: %v", all)
		}
		for _, bad := range []*witnessv1.AddNodeRequest{
			{Id: "", RaftAddress: "x:1", ApiAddress: "x:2"}, {Id: "n5", RaftAddress: "x", ApiAddress: "x:2"},
			{Id: "n5", RaftAddress: "x:1", ApiAddress: ":2"},
		} {
			_, err := w.witness(by).AddNode(t.Context(), bad)
			wantReason(t, err, "BAD_REQUEST")
		}

		moved, err := w.witness(by).TransferLeadership(t.Context(), &witnessv1.TransferLeadershipRequest{To: "n4"})
		if err != nil || moved.GetLeader() != "n4" {
			t.Fatalf("transfer: %v, %v", moved, err)
		}
		_, err = w.witness(by).TransferLeadership(t.Context(), &witnessv1.TransferLeadershipRequest{To: "n9"})
		wantReason(t, err, "GROUP_CHANGE")

		// A leader that is to be removed hands over first.
		if _, err := w.witness(by).RemoveNode(t.Context(), &witnessv1.RemoveNodeRequest{Id: "n4"}); err != nil {
			t.Fatalf("remove: %v", err)
		}
		st, err = w.witness(by).GetStatus(t.Context(), &witnessv1.GetStatusRequest{})
		if err != nil || len(st.GetNodes()) != 3 || st.GetLeader() == "n4" {
			t.Errorf("after the removal: %v, %v", st, err)
		}
		_, err = w.witness(by).RemoveNode(t.Context(), &witnessv1.RemoveNodeRequest{Id: "n4"})
		wantReason(t, err, "UNKNOWN_NODE")
	})
}

// TestAddNodeThatIsNotThere: the operator is told at once, and nothing is changed.
func TestAddNodeThatIsNotThere(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, "n1", "n2", "n3")
		by, leader := w.follower(), w.leader()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		add := &witnessv1.AddNodeRequest{Id: "n5", RaftAddress: "n5:7400", ApiAddress: "n5:7401"}
		refused := func(what, reason, detail string, within time.Duration) {
			t.Helper()
			before, err := w.local(leader)
			if err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			_, err = w.witness(by).AddNode(ctx, add)
			wantReason(t, err, reason)
			if took := time.Since(began); took > within || !strings.Contains(err.Error(), detail) {
				t.Errorf("%s: after %v: %v; want %q", what, took, err, detail)
			}
			after, err := w.local(leader)
			if err != nil || len(after.GetNodes()) != 3 {
				t.Fatalf("%s: %v, %v", what, after, err)
			}
			if reason == "NODE_UNREACHABLE" && after.GetCommitIndex() != before.GetCommitIndex() {
				t.Errorf("%s: something was written", what)
			}
		}
		refused("nothing runs", "NODE_UNREACHABLE", "n5 does not answer at n5:7401; start it with join: true", time.Second)
		api, err := w.net.Host("n5").Listen(7401)
		if err != nil {
			t.Fatal(err)
		}
		refused("no raft", "NODE_UNREACHABLE", "n5 does not answer at n5:7400; start it with join: true", time.Second)
		if err := api.Close(); err != nil {
			t.Fatal(err)
		}
		w.net.Isolate("n5")
		refused("cut off", "NODE_UNREACHABLE", "n5 does not answer", 3*time.Second)
		w.net.HealAll()

		// It answers, and its disk is too slow for the caller.
		w.disks["n5"] = raftstoretest.NewDisk()
		joining := w.config("n5")
		joining.Join, joining.Nodes = true, nil
		w.run("n5", joining)
		time.Sleep(time.Second)
		w.disks["n5"].Hang()
		time.AfterFunc(1500*time.Millisecond, w.disks["n5"].Resume)
		long := ctx
		ctx, cancel = context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		refused("slow disk", "NODE_BEHIND", "it was taken out again; see why", 2*time.Second)
		time.Sleep(time.Second)
		ctx = long
		if _, err = w.witness(by).AddNode(ctx, add); err != nil {
			t.Fatal(err)
		}
	})
}

// TestTransferToNodeBehind: a transfer that cannot succeed is refused, and no change of a pair waits for it.
func TestTransferToNodeBehind(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, "n1", "n2", "n3")
		leader, behind := w.leader(), w.follower()
		w.createSales(leader)
		w.stop(behind)
		w.createPair(leader, "crm", "c", "d")
		for range 2 {
			_, err := w.witness(leader).TransferLeadership(t.Context(), &witnessv1.TransferLeadershipRequest{To: behind})
			wantReason(t, err, "NODE_BEHIND")
			if !strings.Contains(err.Error(), behind) || !strings.Contains(err.Error(), "until witnessctl status shows it") {
				t.Errorf("transfer: %v", err)
			}
			began := time.Now()
			if _, err := w.admin(leader).Pause(t.Context(), &witnessv1.PauseRequest{Pair: "sales"}); err != nil {
				t.Error(err)
			}
			if took := time.Since(began); took > 100*time.Millisecond {
				t.Errorf("a change waited for %v", took)
			}
		}
		// The node that has everything is found; and with nobody left, a stop does not wait.
		moved, err := w.witness(leader).TransferLeadership(t.Context(), &witnessv1.TransferLeadershipRequest{})
		if err != nil || moved.GetLeader() == leader || moved.GetLeader() == behind {
			t.Fatalf("transfer: %v, %v", moved, err)
		}
		w.stop(leader)
		began := time.Now()
		w.stop(moved.GetLeader())
		if took := time.Since(began); took > time.Second {
			t.Errorf("the stop took %v", took)
		}
	})
}

func (w *world) list(by string) []*witnessv1.Pair {
	w.t.Helper()
	r, err := w.admin(by).ListPairs(w.t.Context(), &witnessv1.ListPairsRequest{})
	if err != nil {
		w.t.Fatalf("list by %s: %v", by, err)
	}
	return r.GetPairs()
}

// TestBackupAndRestore is rule R15 from the side of the witness: a backup by a follower, a new node of it,
// and nothing is decided before both agents have reported and one lease has passed.
func TestBackupAndRestore(t *testing.T) {
	var backup bytes.Buffer
	bubble(t, func(t *testing.T) {
		w, _, _ := armedPair(t)
		stream, err := w.witness(w.follower()).Snapshot(t.Context(), &witnessv1.SnapshotRequest{})
		for err == nil {
			var m *witnessv1.SnapshotResponse
			if m, err = stream.Recv(); err == nil {
				backup.Write(m.GetChunk())
			}
		}
		if !errors.Is(err, io.EOF) {
			t.Fatalf("snapshot: %v", err)
		}
	})
	c := witnessd.DefaultConfig()
	c.Node, c.DataDir = "n1", filepath.Join(t.TempDir(), "data")
	c.Raft.Advertise, c.API.Advertise = "n1:7400", "n1:7401"
	c.Nodes = []witnessd.NodeConfig{{ID: "n1", Raft: "n1:7400", API: "n1:7401"}}
	got, err := witnessd.Restore(c, bytes.NewReader(backup.Bytes()), testLog("restore"))
	if err != nil || got.Generation != 1 || got.Pairs != 1 {
		t.Fatalf("restore: %+v, %v", got, err)
	}
	if _, err := witnessd.Restore(c, bytes.NewReader(backup.Bytes()), testLog("restore")); err == nil ||
		!strings.Contains(err.Error(), "empty") {
		t.Errorf("restore into a directory that is not empty: %v", err)
	}
	half := c
	half.DataDir = filepath.Join(t.TempDir(), "other")
	if _, err := witnessd.Restore(half, bytes.NewReader(backup.Bytes()[:100]), testLog("restore")); err == nil {
		t.Error("half a backup was restored")
	}
	bubble(t, func(t *testing.T) { restored(t, c) })
}

// restored runs the node that Restore has made.
func restored(t *testing.T, c witnessd.Config) {
	w := newWorld(t)
	w.ids = []string{"n1"}
	w.run("n1", c)
	start := time.Now()
	w.leader()
	a := w.host("a", "n1")
	a.set(func(r *witnessv1.PairReport) { r.Epoch, r.EpochPrimary, r.Revision = 3, "a", 20 }) // ahead of the backup
	time.Sleep(5 * time.Second)
	p := w.pair("n1")
	if p.GetStage() != witnessv1.Stage_STAGE_RESTORED || p.GetRevision()>>40 != 1 || a.granted() > 0 {
		t.Errorf("with one agent: %v, %d leases", p, a.granted())
	}
	why, err := w.admin("n1").ExplainPair(t.Context(), &witnessv1.ExplainPairRequest{Pair: "sales"})
	if err != nil || len(why.GetVerdicts()) != 1 || why.GetVerdicts()[0].GetOk() {
		t.Errorf("explain: %v, %v", why, err)
	}
	speak := &witnessv1.AdoptPairRequest{Pair: "sales", Host: "b", By: "me"}
	if _, err := w.admin("n1").AdoptPair(t.Context(), speak); err != nil {
		t.Errorf("adopt: %v", err)
	}
	w.until("the pair is adopted", 2*time.Second, func() bool {
		return w.pair("n1").GetStage() == witnessv1.Stage_STAGE_READY
	})
	if p := w.pair("n1"); p.GetEpoch() < 4 || p.GetPrimary() != "a" || time.Since(start) < 3*time.Second {
		t.Errorf("adopted after %v: %v", time.Since(start), p)
	}
}

// TestRestartedNode: a node that was stopped comes back with what it had, and catches up.
func TestRestartedNode(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, "n1", "n2", "n3")
		w.leader()
		w.createSales("n1")
		node := w.follower()
		w.stop(node)
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		if _, err := w.admin(w.leader()).Pause(ctx, &witnessv1.PauseRequest{Pair: "sales"}); err != nil {
			t.Fatal(err)
		}
		w.run(node, w.config(node))
		w.until("it has caught up", 3*time.Second, func() bool {
			r, err := w.admin(node).GetPair(ctx, &witnessv1.GetPairRequest{Pair: "sales", Stale: true})
			return err == nil && r.GetPair().GetMode() == witnessv1.Mode_MODE_MANUAL
		})
	})
}

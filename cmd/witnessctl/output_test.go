package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/witnessd/witnessd/cmd/witnessctl/nodetest"
	witnessv1 "github.com/witnessd/witnessd/proto/gen/witness/v1"
)

func fromJSON(t *testing.T, text string, m proto.Message) {
	t.Helper()
	if err := protojson.Unmarshal([]byte(text), m); err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
}

// TestJSON: scripts depend on these names.
func TestJSON(t *testing.T) {
	at(t, func(c *console) {
		c.pair(nodetest.Pair("sales", nodetest.Paused))
		c.golden("list-json", "pair list -o json")
		var list witnessv1.ListPairsResponse
		fromJSON(t, c.out.String(), &list)
		c.expect("pair show sales -o json", exitDone, `"failover_ready": false`, `"epoch": "7"`, `"fence_level": "kernel"`)
		var show witnessv1.GetPairResponse
		fromJSON(t, c.out.String(), &show)
		if !proto.Equal(show.GetPair(), nodetest.Pair("sales", nodetest.Paused)) {
			t.Errorf("not what was sent: %v", &show)
		}
	})
}

// TestJSONIsTheSameTwice: protojson varies its spaces between builds on purpose; a script that compares
// outputs must not notice.
func TestJSONIsTheSameTwice(t *testing.T) {
	raw, err := encode(nodetest.Pair("sales"))
	if err != nil || strings.Contains(string(raw), `": `) || strings.Contains(string(raw), "\n") {
		t.Errorf("%v, %s", err, raw)
	}
}

func TestYAML(t *testing.T) {
	at(t, func(c *console) {
		c.pair(nodetest.Pair("sales"))
		c.expect("pair show sales -o yaml", exitDone, "name: sales", "failover_ready: true")
		var got struct {
			Pair struct{ Name, Primary string }
		}
		if err := yaml.Unmarshal([]byte(c.out.String()), &got); err != nil || got.Pair.Primary != "db1" {
			t.Errorf("%v, %+v", err, got)
		}
	})
}

func TestViews(t *testing.T) {
	at(t, func(c *console) {
		c.pair(nodetest.Pair("sales"))
		c.golden("list", "pair list")
		c.golden("show", "pair show sales")
	})
}

func TestStale(t *testing.T) {
	for _, line := range []string{"pair list --stale", "pair show sales --stale", "events --stale"} {
		at(t, func(c *console) {
			c.pair(nodetest.Pair("sales", nodetest.Recorded))
			c.Say("ListEvents", &witnessv1.ListEventsResponse{})
			c.expect(line, exitDone)
			for _, method := range []string{"ListPairs", "GetPair", "ListEvents"} {
				for _, call := range c.Calls(method) {
					if !call.Request.(interface{ GetStale() bool }).GetStale() {
						t.Errorf("%s asked for %v", line, call.Request)
					}
				}
			}
		})
	}
}

// TestChanges: what each verb asks for, and that it says how the pair is afterwards.
func TestChanges(t *testing.T) {
	p := nodetest.Pair("sales", nodetest.Paused)
	tests := []struct {
		line, method string
		answer, want proto.Message
	}{
		{
			"pair create sales --host db1=main --host db2 --primary db2 --profile fast --mode observe", "CreatePair",
			&witnessv1.CreatePairResponse{Pair: p, Created: true},
			&witnessv1.CreatePairRequest{Name: "sales", Primary: "db2", Mode: witnessv1.Mode_MODE_OBSERVE, By: "ann@desk",
				Members: []*witnessv1.Member{{Host: "db1", Instance: "main"}, {Host: "db2", Instance: "main"}},
				Policy:  &witnessv1.Policy{Profile: "fast"}},
		},
		{
			"pair pause sales --reason 'storage is being moved' --expect-revision 1.5", "Pause",
			&witnessv1.PauseResponse{Pair: p},
			&witnessv1.PauseRequest{Pair: "sales", Mode: witnessv1.Mode_MODE_MANUAL, By: "ann@desk",
				Reason: "storage is being moved", ExpectedRevision: 1<<40 + 5},
		},
		{
			"pair pause sales --observe --reason x --by bob", "Pause", &witnessv1.PauseResponse{Pair: p},
			&witnessv1.PauseRequest{Pair: "sales", Mode: witnessv1.Mode_MODE_OBSERVE, By: "bob", Reason: "x"},
		},
		{
			"pair resume sales --expect-epoch 7", "Resume", &witnessv1.ResumeResponse{Pair: p},
			&witnessv1.ResumeRequest{Pair: "sales", By: "ann@desk", ExpectedEpoch: 7},
		},
		{
			"pair set sales --profile patient --guard 1s", "SetPolicy", &witnessv1.SetPolicyResponse{Pair: p},
			&witnessv1.SetPolicyRequest{Pair: "sales", By: "ann@desk", Policy: func() *witnessv1.Policy {
				var t witnessv1.Policy
				t.Profile = "patient"
				t.Guard = seconds(1)
				return &t
			}()},
		},
		{
			"pair replace-mirror sales --host db3=other", "ReplaceMirror", &witnessv1.ReplaceMirrorResponse{Pair: p},
			&witnessv1.ReplaceMirrorRequest{Pair: "sales-0a1b2c3d", By: "ann@desk", ExpectedEpoch: 7,
				Member: &witnessv1.Member{Host: "db3", Instance: "other"}},
		},
		{
			"pair adopt sales --host db2", "AdoptPair", &witnessv1.AdoptPairResponse{Pair: p},
			&witnessv1.AdoptPairRequest{Pair: "sales", Host: "db2", By: "ann@desk"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.line, func(t *testing.T) {
			at(t, func(c *console) {
				c.pair(p)
				c.Say(tt.method, tt.answer)
				c.expect(tt.line, exitDone, "sales: paused, primary db1, mirror db2, epoch 7, right sole, mode manual")
				if policy := "policy  default: heartbeat 500ms, "; strings.Contains(c.out.String(), policy) !=
					(tt.method == "SetPolicy") {
					t.Errorf("the timing belongs to pair set:\n%s", c.out)
				}
				if got := c.last(tt.method); !proto.Equal(got, tt.want) {
					t.Errorf("asked for %v, want %v", got, tt.want)
				}
			})
		})
	}
}

func TestNodes(t *testing.T) {
	at(t, func(c *console) {
		c.Say("AddNode", &witnessv1.AddNodeResponse{})
		c.expect("node add w4 --raft w4:7400 --api w4:7401", exitDone, "w4 has a vote")
		want := &witnessv1.AddNodeRequest{Id: "w4", RaftAddress: "w4:7400", ApiAddress: "w4:7401"}
		if got := c.last("AddNode"); !proto.Equal(got, want) {
			t.Errorf("asked for %v, want %v", got, want)
		}
		c.Say("RemoveNode", &witnessv1.RemoveNodeResponse{})
		c.expect("node remove w1", exitDone, "w1 is no part of the witness")
		c.Say("TransferLeadership", &witnessv1.TransferLeadershipResponse{Leader: "w3"})
		c.expect("node transfer --to w3", exitDone, "w3 leads")
		c.Say("TransferLeadership", &witnessv1.TransferLeadershipResponse{})
		c.expect("node transfer", exitDone, "not known yet")
	})
	at(t, func(c *console) { // a new node gets its time
		c.Do("AddNode", waitThenFail(20*time.Second, nil))
		c.Do("AddNode", func(call nodetest.Call, send func(proto.Message) error) error {
			if err := waitThenFail(20*time.Second, nil)(call, send); err != nil {
				return err
			}
			return send(&witnessv1.AddNodeResponse{})
		})
		c.expect("node add w4 --raft w4:7400 --api w4:7401", exitDone, "... no answer from the witness yet")
	})
}

// TestNodesNotDone: what is said of nodes sends nobody to a pair, and a deadline is no missing leader.
func TestNodesNotDone(t *testing.T) {
	add := "node add w4 --raft w4:7400 --api w4:7401"
	tests := []struct {
		name, line string
		answer     nodetest.Answer
		code       int
		want       []string
	}{
		{"unreachable", add, waitThenFail(0, nodetest.Refusal(codes.FailedPrecondition, "NODE_UNREACHABLE",
			"w4 does not answer at w4:7400", "start w4")), exitRefused,
			[]string{"refused: node add w4\n  why: w4 does not answer at w4:7400 (NODE_UNREACHABLE)\n  do:  start w4\n"}},
		{"behind", "node transfer --to w3", waitThenFail(0, nodetest.Refusal(codes.FailedPrecondition, "NODE_BEHIND",
			"w3 lacks 4711 entries", "")), exitRefused,
			[]string{"refused: node transfer\n  why: w3 lacks 4711 entries (NODE_BEHIND)\n  do:  wait until it has caught up"}},
		{"late", "node remove w3", waitThenFail(time.Hour, nil), exitUnreached,
			[]string{"it is not known whether it was accepted", "look before you ask again: witnessctl status; "}},
		{"late, and the others do not reach the leader", add, func(call nodetest.Call, _ func(proto.Message) error) error {
			if call.Node == "w1:7401" {
				return waitThenFail(time.Hour, nil)(call, nil)
			}
			return nodetest.Refusal(codes.Unavailable, "NO_LEADER", "the leader w1 cannot be reached from "+call.Node, "")
		}, exitUnreached, []string{"w1:7401: did not answer in time; w2:7401: the leader w1 cannot be reached"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			at(t, func(c *console) {
				for _, method := range []string{"AddNode", "RemoveNode", "TransferLeadership"} {
					c.Do(method, tt.answer)
				}
				c.expect(tt.line, tt.code, tt.want...)
				for _, wrong := range []string{"witnessctl pair", "the witness has no leader"} {
					if strings.Contains(c.both(), wrong) {
						t.Errorf("%q is in what was printed:\n%s", wrong, c.both())
					}
				}
			})
		})
	}
}

func witnessStatus(node, leader string) *witnessv1.GetStatusResponse {
	return &witnessv1.GetStatusResponse{Node: node, Leader: leader, Term: 7, At: nodetest.Ago(0), Ready: leader != ""}
}

// TestStatus: a node that is cut off is not believed if another knows of a leader.
func TestStatus(t *testing.T) {
	tests := []struct {
		name    string
		leaders map[string]string // as each node sees it
		code    int
		want    string
	}{
		{"all well", map[string]string{"w1": "w1", "w2": "w1", "w3": "w1"}, exitDone, "answered by w1, the leader"},
		{"the first is cut off", map[string]string{"w2": "w3", "w3": "w3"}, exitDone, "answered by w2, leader w3"},
		{"no leader", nil, exitUnreached, "NO LEADER IS KNOWN"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			at(t, func(c *console) {
				c.Do("GetStatus", func(call nodetest.Call, send func(proto.Message) error) error {
					node := strings.TrimSuffix(call.Node, ":7401")
					return send(witnessStatus(node, tt.leaders[node]))
				})
				c.expect("status", tt.code, tt.want)
			})
		})
	}
	at(t, func(c *console) { // one that is no part of a witness
		s := witnessStatus("w4", "")
		s.Nodes = []*witnessv1.NodeStatus{{Id: "w4", Reachable: true, Version: "1.0.0"}}
		c.Say("GetStatus", s)
		c.golden("status-outside", "status -e w1:7401")
	})
	at(t, func(c *console) {
		c.Say("GetStatus", witnessStatus("w1", ""))
		c.expect("status --stale", exitUnreached)
		if n := len(c.Calls("GetStatus")); n != 1 || !c.last("GetStatus").(*witnessv1.GetStatusRequest).GetLocal() {
			t.Errorf("%d calls", n)
		}
	})
}

func TestExplain(t *testing.T) {
	verdict := func(ready bool) *witnessv1.ExplainPairResponse {
		return &witnessv1.ExplainPairResponse{Pair: nodetest.Pair("sales"), Verdicts: []*witnessv1.Verdict{
			{Question: "may db2 be promoted now?", Ready: ready}}}
	}
	at(t, func(c *console) {
		c.Say("ExplainPair", verdict(true))
		c.expect("pair explain sales", exitDone, "may db2 be promoted now? no; yes if the primary were lost")
		c.expect("pair explain sales --exit-code", exitDone)
		c.Say("ExplainPair", verdict(false))
		c.expect("pair explain sales", exitDone)
		c.expect("pair explain sales --exit-code", exitRefused, "may db2 be promoted now? no")
		if c.err.String() != "" {
			t.Errorf("stderr: %s", c.err)
		}
		c.expect("pair explain sales --exit-code -o json", exitRefused, `"verdicts"`)
	})
}

func event(n uint64) *witnessv1.Event {
	return &witnessv1.Event{Sequence: n, At: nodetest.Ago(0), Kind: "ARMED", PairName: "sales", Epoch: 7,
		Cause: "db2 is synchronized; armed"}
}

func TestEvents(t *testing.T) {
	at(t, func(c *console) {
		c.Say("ListEvents", &witnessv1.ListEventsResponse{
			Events: []*witnessv1.Event{event(3), event(4)}, Newest: 4, Oldest: 3,
		})
		c.golden("events", "events --pair sales --limit 2")
		c.expect("events -o json", exitDone)
		lines := strings.Split(strings.TrimSpace(c.out.String()), "\n")
		for i, line := range lines {
			var e witnessv1.Event
			fromJSON(t, line, &e)
			if e.GetSequence() != uint64(i+3) {
				t.Errorf("line %d: %s", i, line)
			}
		}
		c.expect("events --after 1", exitDone, "the history no longer holds the first of these events")
	})
}

// TestFollowEvents: each event once, in order, whatever happens to the nodes.
func TestFollowEvents(t *testing.T) {
	at(t, func(c *console) {
		c.Say("ListEvents", &witnessv1.ListEventsResponse{Events: []*witnessv1.Event{event(1)}, Newest: 1, Oldest: 1})
		start := time.Now()
		c.Do("WatchEvents", func(call nodetest.Call, send func(proto.Message) error) error {
			next := call.Request.(*witnessv1.WatchEventsRequest).GetAfter() + 1
			for {
				select { // one event each second; n happens in the n-th second
				case <-call.Context.Done():
					return status.FromContextError(call.Context.Err()).Err()
				case <-time.After(time.Until(start.Add(time.Duration(next) * time.Second))):
				}
				m := &witnessv1.WatchEventsResponse{Events: []*witnessv1.Event{event(next)}, Through: next}
				if err := send(m); err != nil {
					return err
				}
				next++
			}
		})
		time.AfterFunc(3500*time.Millisecond, func() { c.Kill("w1:7401") })
		time.AfterFunc(6500*time.Millisecond, func() { c.silence("WatchEvents", "w2:7401"); c.Kill("w2:7401") })
		c.interruptAfter(10500 * time.Millisecond)
		c.expect("events --follow -o json", exitInterrupted)
		var got []uint64
		for line := range strings.Lines(c.out.String()) {
			var e witnessv1.Event
			fromJSON(t, line, &e)
			got = append(got, e.GetSequence())
		}
		for i, n := range got {
			if n != uint64(i+1) {
				t.Fatalf("got %v", got)
			}
		}
		if len(got) != 10 {
			t.Errorf("got %v, want 10 events", got)
		}
	})
}

func TestSnapshot(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "witness.snap")
	read := func() string {
		raw, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		return string(raw)
	}
	chunk := func(text string) proto.Message { return &witnessv1.SnapshotResponse{Chunk: []byte(text)} }
	at(t, func(c *console) {
		c.Say("Snapshot", chunk("all of "), chunk("it"))
		c.expect("snapshot "+name, exitDone, "9 bytes")
	})
	if got := read(); got != "all of it" {
		t.Errorf("got %q", got)
	}
	at(t, func(c *console) { // one node breaks off in the middle: the other begins again
		c.Do("Snapshot", func(call nodetest.Call, send func(proto.Message) error) error {
			if err := send(chunk("half")); err != nil || call.Node == "w1:7401" {
				return errNoLeader
			}
			return send(chunk(" and half"))
		})
		c.expect("snapshot "+name+" -o json", exitDone, `"bytes": 13`)
	})
	if got := read(); got != "half and half" {
		t.Errorf("got %q", got)
	}
	at(t, func(c *console) { // nobody finishes: the older file stays, and nothing else
		c.Do("Snapshot", func(_ nodetest.Call, send func(proto.Message) error) error {
			if err := send(chunk("ha")); err != nil {
				return err
			}
			return errNoLeader
		})
		c.expect("snapshot "+name+" --timeout 2s", exitUnreached, "no leader")
		c.Say("Snapshot")
		c.expect("snapshot "+name, exitFailed, "empty snapshot")
	})
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 || read() != "half and half" {
		t.Errorf("%v, %v", entries, err)
	}
	at(t, func(c *console) { c.expect("snapshot "+filepath.Join(dir, "none", "x"), exitFailed) })
}

func TestVersion(t *testing.T) {
	at(t, func(c *console) {
		c.expect("version", exitDone, "witnessctl ")
		long := c.out.String()
		c.expect("--version", exitDone)
		if got := c.out.String(); got != long {
			t.Errorf("--version: %s, version: %s", got, long)
		}
		for _, line := range []string{"version -o json", "-o json --version"} {
			c.expect(line, exitDone)
			var got map[string]string
			if err := json.Unmarshal([]byte(c.out.String()), &got); err != nil || got["version"] == "" {
				t.Errorf("%s: %v, %v", line, err, got)
			}
		}
		c.expect("--version -o xml", exitUsage, "is not table, json or yaml")
	})
}

package view_test

import (
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/witnessd/witnessd/cmd/witnessctl/nodetest"
	"github.com/witnessd/witnessd/cmd/witnessctl/table"
	"github.com/witnessd/witnessd/cmd/witnessctl/view"
	witnessv1 "github.com/witnessd/witnessd/proto/gen/witness/v1"
)

func plain(width int) view.View {
	return view.View{Screen: table.Screen{Width: width}, Zone: time.UTC}
}

const (
	switchover = witnessv1.ProcedureKind_PROCEDURE_KIND_SWITCHOVER
	failover   = witnessv1.ProcedureKind_PROCEDURE_KIND_FAILOVER
	release    = witnessv1.ProcedureStep_PROCEDURE_STEP_RELEASE
	promote    = witnessv1.ProcedureStep_PROCEDURE_STEP_PROMOTE
)

func stage(s witnessv1.Stage) func(*witnessv1.Pair) {
	return func(p *witnessv1.Pair) { p.Stage = s }
}

func mirrorServes(p *witnessv1.Pair) { p.GetHosts()[1].GetReport().Serving = true }

func shut(p *witnessv1.Pair) {
	r := p.GetHosts()[0].GetReport()
	r.Serving, r.ServesFor, r.Complaint = false, nil, "its data directory is full; free some space"
	r.Engine.Running, r.Engine.Role = false, "none"
}

// fleet is a pair in each state.
func fleet() []*witnessv1.Pair {
	return []*witnessv1.Pair{
		nodetest.Pair("accounts"),
		nodetest.Pair("billing", nodetest.Exposed),
		nodetest.Pair("crm", nodetest.Exposed, nodetest.Silent("db2", 200*time.Second)),
		nodetest.Pair("docs", nodetest.Paused),
		nodetest.Pair("events", func(p *witnessv1.Pair) {
			nodetest.Paused(p)
			p.Mode = witnessv1.Mode_MODE_OBSERVE
		}),
		nodetest.Pair("files", nodetest.UnderWay(switchover, release)),
		nodetest.Pair("games", nodetest.UnderWay(failover, promote), nodetest.Silent("db1", 4*time.Second)),
		nodetest.Pair("hr", nodetest.Silent("db1", 90*time.Second), nodetest.Blocked("MIRROR_NOT_PROMOTABLE",
			"db2 cannot be promoted: its disk is full")),
		nodetest.Pair("inventory", shut, nodetest.Blocked("MIRROR_SILENT", "db2 was heard 5s ago (limit 3s)")),
		nodetest.Pair("jobs", mirrorServes),
		nodetest.Pair("keys", stage(witnessv1.Stage_STAGE_FORMING), nodetest.NeverHeard),
		nodetest.Pair("ledger", stage(witnessv1.Stage_STAGE_RESTORED), nodetest.Silent("db2", time.Hour)),
		nodetest.Pair("mail", nodetest.Silent("db2", 5*time.Second), nodetest.Blocked("MIRROR_SILENT",
			"db2 was heard 5s ago (limit 3s)")),
		nodetest.Pair("news", nodetest.NeverHeard, nodetest.Blocked("GRACE", "db1 may hold a lease for another 2.5s")),
		nodetest.Pair("orders", func(p *witnessv1.Pair) {
			p.GetHosts()[1].GetReport().Complaint = "no kernel fence: nft is not installed"
		}),
		nodetest.Pair("payroll"),
	}
}

func TestStateOf(t *testing.T) {
	want := map[string]view.State{
		"accounts": {"armed", view.Fine, ""},
		"billing":  {"exposed", view.Problem, "db2 follows: 12.0 MB"},
		"crm":      {"exposed", view.Problem, "db2 not heard for 3m20s"},
		"docs":     {"paused", view.Attention, "storage is being moved (ann@desk)"},
		"events":   {"observing", view.Attention, "storage is being moved (ann@desk)"},
		"files":    {"switching over", view.Attention, "switchover to db2: step release"},
		"games":    {"failing over", view.Attention, "failover to db2: step promote"},
		"hr": {"primary silent", view.Outage,
			"db1 not heard for 1m30s; no failover: db2 cannot be promoted: its disk is full"},
		"inventory": {"no primary serving", view.Outage, "its data directory is full; free some space"},
		"jobs":      {"TWO PRIMARIES", view.Split, "db2 reports that it serves as well"},
		"keys":      {"forming", view.Attention, "db1 has not been heard by this leader"},
		"ledger":    {"restored", view.Problem, "db2 not heard for 1h00m"},
		"mail":      {"not ready", view.Problem, "db2 was heard 5s ago (limit 3s)"},
		"news": {"primary silent", view.Outage,
			"db1 has not been heard by this leader; no failover: db1 may hold a lease for another 2.5s"},
		"orders":  {"armed", view.Attention, "db2: no kernel fence: nft is not installed"},
		"payroll": {"armed", view.Fine, ""},
	}
	for _, p := range fleet() {
		if got := view.StateOf(p); got != want[p.GetName()] {
			t.Errorf("%s: got %+v, want %+v", p.GetName(), got, want[p.GetName()])
		}
	}
}

// TestTwoPrimaries: a report that was sent before the epoch changed is no second primary.
func TestTwoPrimaries(t *testing.T) {
	p := nodetest.Pair("sales", mirrorServes)
	p.EpochChanged = nodetest.Ago(time.Second)
	p.Hosts[1].Age = durationpb.New(1200 * time.Millisecond)
	if got := view.StateOf(p).Word; got != "armed" {
		t.Errorf("just after a switchover: got %q, want armed", got)
	}
	p.EpochChanged = nodetest.Ago(10 * time.Second)
	if got := view.StateOf(p).Word; got != "TWO PRIMARIES" {
		t.Errorf("long after: got %q, want TWO PRIMARIES", got)
	}
}

func TestList(t *testing.T) {
	created := nodetest.Pair("sales", stage(witnessv1.Stage_STAGE_FORMING), nodetest.NeverHeard)
	created.Changed = nodetest.Ago(0)
	if got := view.StateOf(created).Note; got != "just created; waiting for both agents" {
		t.Errorf("just created: %s", got)
	}
	stale := fleet()[:4]
	for _, p := range stale {
		nodetest.Recorded(p)
	}
	colored := plain(100)
	colored.Screen.Color = true
	tests := []struct{ name, got string }{
		{"unlimited", plain(0).List(fleet(), nodetest.AsOf())},
		{"140", plain(140).List(fleet(), nodetest.AsOf())},
		{"80", plain(80).List(fleet(), nodetest.AsOf())},
		{"short", plain(120).ListOf(fleet(), nodetest.AsOf(), 8)},
		{"colors", colored.List(fleet()[:3], nodetest.AsOf())},
		{"stale", plain(120).List(stale, nodetest.Stale())},
		{"none", plain(120).List(nil, nodetest.AsOf())},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) { nodetest.Golden(t, "list-"+tt.name+".txt", tt.got) })
	}
}

// TestListFits: whatever the width, no line of a list is longer.
func TestListFits(t *testing.T) {
	for width := 76; width < 200; width++ {
		for line := range strings.Lines(plain(width).List(fleet(), nil)) {
			if n := len([]rune(strings.TrimSuffix(line, "\n"))); n > width && !strings.Contains(line, " pairs: ") {
				t.Errorf("width %d: a line of %d: %s", width, n, line)
			}
		}
	}
}

func TestShow(t *testing.T) {
	fenced := func(level string) func(*witnessv1.Pair) {
		return func(p *witnessv1.Pair) { p.GetHosts()[1].GetReport().FenceLevel = level }
	}
	last := func(p *witnessv1.Pair) {
		q := nodetest.Procedure(switchover, release)
		p.Last = &witnessv1.Outcome{Procedure: q, Reason: "TIMED_OUT", Ended: nodetest.Ago(time.Hour),
			Detail: "step release took longer than 30s"}
	}
	tests := []struct {
		name string
		pair *witnessv1.Pair
	}{
		{"armed", nodetest.Pair("sales", fenced("engine"), last)},
		{"exposed", nodetest.Pair("sales", nodetest.Exposed, fenced(""))},
		{"fenced-alike", nodetest.Pair("sales", fenced("engine"), func(p *witnessv1.Pair) {
			p.GetHosts()[0].GetReport().FenceLevel = "engine"
		})},
		{"unfenced", nodetest.Pair("sales", fenced(""), func(p *witnessv1.Pair) {
			p.GetHosts()[0].GetReport().FenceLevel = ""
		})},
		{"watchdog", nodetest.Pair("sales", fenced("engine"), func(p *witnessv1.Pair) {
			p.GetHosts()[1].GetReport().Watchdog = true
			r := p.GetHosts()[0].GetReport()
			r.FenceLevel, r.FenceNote = "gate", "the kernel has no nf_tables: load the module, or install a kernel with it"
		})},
		{"paused", nodetest.Pair("sales", nodetest.Paused)},
		{"silent", nodetest.Pair("sales", nodetest.Silent("db1", 90*time.Second),
			nodetest.Blocked("MIRROR_NOT_PROMOTABLE", "db2 cannot be promoted: its disk is full"))},
		{"shut", nodetest.Pair("sales", shut)},
		{"switching", nodetest.Pair("sales", nodetest.UnderWay(switchover, promote))},
		{"unheard", nodetest.Pair("sales", nodetest.NeverHeard, nodetest.Blocked("GRACE", "db1 may hold a lease"))},
		{"stale", nodetest.Pair("sales", nodetest.Recorded)},
		{"forming", nodetest.Pair("sales", stage(witnessv1.Stage_STAGE_FORMING), nodetest.NeverHeard,
			nodetest.Blocked("FORMING", "pair is forming"), func(p *witnessv1.Pair) {
				p.Epoch, p.EpochChanged, p.Right = 0, nil, witnessv1.Right_RIGHT_SOLE
			})},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			nodetest.Golden(t, "show-"+tt.name+".txt", plain(0).Show(tt.pair))
			nodetest.Golden(t, "show-"+tt.name+"-72.txt", plain(72).Show(tt.pair))
		})
	}
}

func TestExplain(t *testing.T) {
	e := &witnessv1.ExplainPairResponse{
		Pair: nodetest.Pair("sales", nodetest.Exposed),
		Verdicts: []*witnessv1.Verdict{
			{
				Question: "may db2 be promoted now?",
				Preconditions: []*witnessv1.Precondition{
					{Name: "pair is ready", Ok: true, Detail: "pair is ready"},
					{Name: "mirror has every acknowledged commit", Reason: "EXPOSED",
						Detail: "right is sole: the mirror may lack acknowledged commits"},
					{Name: "primary's lease is over", Reason: "LEASE_OUTSTANDING", PrimaryLoss: true,
						Detail: "db1 may hold a lease for another 2.7s"},
				},
			},
			{Question: "may db2 take over as planned now?", Ok: true, Ready: true,
				Preconditions: []*witnessv1.Precondition{{Name: "mirror follows", Ok: true, Detail: "db2 receives changes"}}},
			{Question: "may db2 be promoted later?", Ready: true},
		},
	}
	nodetest.Golden(t, "explain.txt", plain(0).Explain(e))
	nodetest.Golden(t, "explain-72.txt", plain(72).Explain(e))
	nodetest.Golden(t, "explain-removed.txt", plain(0).Explain(&witnessv1.ExplainPairResponse{
		Pair: nodetest.Pair("sales", stage(witnessv1.Stage_STAGE_REMOVED)),
	}))
}

func TestStatus(t *testing.T) {
	node := func(id string, role string, up bool) *witnessv1.NodeStatus {
		n := &witnessv1.NodeStatus{Id: id, RaftAddress: id + ":7400", ApiAddress: id + ":7401", Voter: role != "no vote",
			Leader: role == "leader", Reachable: up, Version: "1.0.0", Uptime: durationpb.New(50 * time.Hour),
			Sessions: 12, AppliedIndex: 4711}
		if role != "leader" {
			n.LastContact = durationpb.New(80 * time.Millisecond)
		}
		if !up {
			n.LastContact = durationpb.New(42 * time.Second)
		}
		return n
	}
	s := &witnessv1.GetStatusResponse{Node: "w1", Leader: "w1", Term: 7, CommitIndex: 4712, AppliedIndex: 4712, Pairs: 5,
		At: nodetest.Ago(0), Ready: true,
		Nodes: []*witnessv1.NodeStatus{node("w1", "leader", true), node("w2", "", true), node("w3", "", true)}}
	nodetest.Golden(t, "status.txt", plain(0).Status(s, false))
	s.Nodes[1], s.Generation, s.Ready = node("w2", "", false), 1, false
	nodetest.Golden(t, "status-one-down.txt", plain(0).Status(s, false))
	nodetest.Golden(t, "status-narrow.txt", plain(60).Status(s, false))
	s.Leader, s.Nodes[2] = "", node("w3", "no vote", false)
	nodetest.Golden(t, "status-alone.txt", plain(0).Status(s, true))
	nodetest.Golden(t, "status-no-leader.txt", plain(0).Status(s, false))
}

func TestProcedure(t *testing.T) {
	s := &witnessv1.ProcedureState{Pair: "sales-0a1b2c3d", PairName: "sales", AsOf: nodetest.AsOf(),
		Procedure: nodetest.Procedure(switchover, release)}
	nodetest.Golden(t, "procedure.txt", plain(0).Procedure(s))
	s.Outcome = &witnessv1.Outcome{Procedure: s.GetProcedure(), Reason: "TIMED_OUT", Detail: "it took too long",
		Ended: nodetest.Ago(time.Second)}
	nodetest.Golden(t, "procedure-ended.txt", plain(0).Procedure(s))
	old := &witnessv1.Procedure{Id: "0a1b2c3d-3"}
	nodetest.Golden(t, "procedure-old.txt", plain(0).Procedure(&witnessv1.ProcedureState{PairName: "sales",
		AsOf: nodetest.AsOf(), Procedure: old, Outcome: &witnessv1.Outcome{Procedure: old, Done: true}}))
}

// TestSteps: every step of the schema has words, also if the witness gives none.
func TestSteps(t *testing.T) {
	for n := range witnessv1.ProcedureStep_name {
		if n == 0 {
			continue
		}
		s := &witnessv1.ProcedureState{Procedure: nodetest.Procedure(switchover, witnessv1.ProcedureStep(n))}
		if got := view.StepLine(s); strings.Contains(got, "does not know") {
			t.Errorf("step %d: %s", n, got)
		}
	}
}

func TestEvent(t *testing.T) {
	e := &witnessv1.Event{Sequence: 17, At: nodetest.Ago(0), Kind: "PROMOTED", PairName: "sales", Epoch: 8, Host: "db2",
		Cause: "db2 promoted: db1 stopped and released epoch 7", By: "ann@desk"}
	want := "2026-11-23 12:00:00 UTC  #17     sales            epoch 8     PROMOTED               " +
		"db2 promoted: db1 stopped and released epoch 7 (asked by ann@desk)"
	if got := plain(0).Event(e); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestDuration(t *testing.T) {
	tests := []struct {
		d    time.Duration
		want string
	}{
		{0, "0.0s"}, {340 * time.Millisecond, "0.3s"}, {9940 * time.Millisecond, "9.9s"}, {59 * time.Second, "59s"},
		{200 * time.Second, "3m20s"}, {61 * time.Minute, "1h01m"}, {50 * time.Hour, "2d02h"}, {-time.Second, "-1.0s"},
	}
	for _, tt := range tests {
		if got := view.Duration(tt.d); got != tt.want {
			t.Errorf("Duration(%v) = %s, want %s", tt.d, got, tt.want)
		}
	}
}

func TestRevision(t *testing.T) {
	for text, n := range map[string]uint64{"0": 0, "12": 12, "1.5": 1<<40 + 5, "3.0": 3 << 40} {
		if got := view.Revision(n); got != text {
			t.Errorf("Revision(%d) = %s, want %s", n, got, text)
		}
		if got, err := view.ParseRevision(text); err != nil || got != n {
			t.Errorf("ParseRevision(%s) = %d, %v, want %d", text, got, err, n)
		}
	}
	if got, err := view.ParseRevision("1099511627781"); err != nil || view.Revision(got) != "1.5" {
		t.Errorf("the number of JSON: got %d, %v", got, err)
	}
	for _, bad := range []string{"", "x", "1.", ".5", "-1", "1.1099511627776", "16777216.0", "1.2.3"} {
		if got, err := view.ParseRevision(bad); err == nil {
			t.Errorf("ParseRevision(%q) = %d, want an error", bad, got)
		}
	}
}

func TestLoss(t *testing.T) {
	tests := []struct {
		name string
		pair *witnessv1.Pair
		want string
	}{
		{"armed", nodetest.Pair("sales"), "db2 has every acknowledged commit: the right is leased"},
		{"exposed", nodetest.Pair("sales", nodetest.Exposed, nodetest.Silent("db1", time.Minute)),
			"commits of db1 that db2 lacks may be lost: 12.0 MB when db1 was last heard 1m00s ago, " +
				"and whatever it committed since"},
		{"unheard", nodetest.Pair("sales", nodetest.Exposed, nodetest.NeverHeard),
			"commits of db1 that db2 lacks may be lost: how many is not known, db1 has not been heard by this leader"},
	}
	for _, tt := range tests {
		if got := view.Loss(tt.pair); got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
	}
}

// TestChangeOfStep: a rejoin is told step by step and tenth by tenth, not at every second.
func TestChangeOfStep(t *testing.T) {
	at := func(step string) *witnessv1.Pair {
		return nodetest.Pair("sales", nodetest.Exposed, func(p *witnessv1.Pair) {
			for _, h := range p.GetHosts() {
				if h.GetHost() == p.GetMirror() {
					h.GetReport().GetEngine().Step = step
					h.GetReport().Complaint = "follow: connection lost (tried again after 2s)"
				}
			}
		})
	}
	lines, last := 0, ""
	for _, step := range []string{"rewind (prepares)", "keep-aside (reads)", "clone 1 % (26 of 2600 MB)", "clone 9 %",
		"clone 10 %", "clone 19 % (x, 3 s left)", "clone 100 %", "catch-up", "catch-up 0 % (9 MB behind)", "catch-up 8 %"} {
		if now := view.Change(at(step)); now != last {
			lines, last = lines+1, now
		}
	}
	if lines != 7 {
		t.Errorf("%d lines", lines)
	}
	want := "db2: clone 45 % (1.2 of 2.6 GB, 110 MB/s, 13 s left); before: follow: connection lost"
	if got := view.Line(at("clone 45 % (1.2 of 2.6 GB, 110 MB/s, 13 s left)")); !strings.Contains(got, want) {
		t.Errorf("got %s", got)
	}
}

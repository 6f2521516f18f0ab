package nodetest

import (
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	witnessv1 "github.com/witnessd/witnessd/proto/gen/witness/v1"
)

// Now is the time on the clocks of these nodes.
func Now() time.Time { return time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC) }

// Ago is a moment before Now.
func Ago(d time.Duration) *timestamppb.Timestamp { return timestamppb.New(Now().Add(-d)) }

// AsOf is where an answer of the leader comes from.
func AsOf() *witnessv1.AsOf {
	return &witnessv1.AsOf{Node: "w2", Leader: "w1", Term: 7, Index: 4711, At: timestamppb.New(Now())}
}

// Stale is where an answer comes from that one node gave by itself.
func Stale() *witnessv1.AsOf {
	return &witnessv1.AsOf{
		Node: "w3", Term: 6, Index: 4700, Stale: true, Age: durationpb.New(42 * time.Second), At: timestamppb.New(Now()),
	}
}

// Pair is a pair that is well: db1 is primary, db2 its mirror, and it would fail over. The changes are made
// to it in order.
func Pair(name string, changes ...func(*witnessv1.Pair)) *witnessv1.Pair {
	p := &witnessv1.Pair{
		Id: name + "-0a1b2c3d", Name: name, Stage: witnessv1.Stage_STAGE_READY, Revision: 12, Epoch: 7,
		Primary: "db1", Mirror: "db2", Right: witnessv1.Right_RIGHT_LEASED, Mode: witnessv1.Mode_MODE_AUTOMATIC,
		Members: []*witnessv1.Member{
			{Host: "db1", Instance: "main", Engine: "postgres", ServiceAddress: "db1:5432"},
			{Host: "db2", Instance: "main", Engine: "postgres", ServiceAddress: "db2:5432"},
		},
		Policy: &witnessv1.Policy{
			Profile: "default", Heartbeat: durationpb.New(500 * time.Millisecond), Lease: durationpb.New(3 * time.Second),
			Guard: durationpb.New(300 * time.Millisecond), MirrorTimeout: durationpb.New(2 * time.Second),
			ReleaseTimeout: durationpb.New(30 * time.Second), PromoteTimeout: durationpb.New(time.Minute),
		},
		LongestLease: durationpb.New(3 * time.Second),
		Changed:      Ago(90 * time.Minute), EpochChanged: Ago(50 * time.Hour),
		FailoverReady: true, LeaseLeft: durationpb.New(2700 * time.Millisecond), AsOf: AsOf(),
		Hosts: []*witnessv1.HostState{primary(), mirror()},
	}
	for _, change := range changes {
		change(p)
	}
	return p
}

func primary() *witnessv1.HostState {
	return &witnessv1.HostState{
		Host: "db1", Heard: true, Fresh: true, Age: durationpb.New(300 * time.Millisecond),
		Agent: &witnessv1.Hello{Host: "db1", Version: "1.0.0", HttpAddress: "db1:7413"},
		Report: &witnessv1.PairReport{
			FileKnown: true, Epoch: 7, EpochPrimary: "db1", Revision: 12, HearsPartner: true, Serving: true,
			ServesFor: durationpb.New(2400 * time.Millisecond), FenceLevel: "kernel",
			Engine: &witnessv1.EngineState{
				Running: true, Role: "primary", Timeline: 3, Position: 0x1603000148, MirrorAttached: true,
				MirrorFlushed: 0x1603000148, Commits: "held",
			},
		},
	}
}

func mirror() *witnessv1.HostState {
	return &witnessv1.HostState{
		Host: "db2", Heard: true, Fresh: true, Age: durationpb.New(400 * time.Millisecond),
		Agent: &witnessv1.Hello{Host: "db2", Version: "1.0.0", HttpAddress: "db2:7413"},
		Report: &witnessv1.PairReport{
			FileKnown: true, Epoch: 7, EpochPrimary: "db1", Revision: 12, HearsPartner: true,
			Promise: durationpb.New(2100 * time.Millisecond), FenceLevel: "kernel",
			Engine: &witnessv1.EngineState{
				Running: true, Role: "mirror", Timeline: 3, Position: 0x1603000148, Following: true, Promotable: true,
			},
		},
	}
}

// Silent makes a host one that was last heard that long ago.
func Silent(host string, age time.Duration) func(*witnessv1.Pair) {
	return func(p *witnessv1.Pair) {
		for _, h := range p.GetHosts() {
			if h.GetHost() == host {
				h.Fresh, h.Age, h.Agent = false, durationpb.New(age), nil
			}
		}
	}
}

// NeverHeard makes the hosts ones that this leader has not heard.
func NeverHeard(p *witnessv1.Pair) {
	for i, h := range p.GetHosts() {
		p.Hosts[i] = &witnessv1.HostState{Host: h.GetHost()}
	}
}

// Blocked makes it a pair that would not fail over, for a reason.
func Blocked(reason, detail string) func(*witnessv1.Pair) {
	return func(p *witnessv1.Pair) {
		p.FailoverReady = false
		p.FailoverBlocked = &witnessv1.Precondition{Name: "-", Reason: reason, Detail: detail}
	}
}

// Exposed lets db1 serve alone, and db2 be behind.
func Exposed(p *witnessv1.Pair) {
	p.Right = witnessv1.Right_RIGHT_SOLE
	Blocked("EXPOSED", "right is sole: the mirror may lack acknowledged commits")(p)
	r := p.GetHosts()[0].GetReport()
	r.ServesFor = durationpb.New(-1)
	r.Engine.Commits, r.Engine.MirrorFlushed = "alone", r.GetEngine().GetPosition()-12<<20
	p.GetHosts()[1].GetReport().Engine.Position -= 12 << 20
	p.GetHosts()[1].GetReport().Promise = nil
}

// Paused leaves the decisions to an operator.
func Paused(p *witnessv1.Pair) {
	Exposed(p)
	p.Mode = witnessv1.Mode_MODE_MANUAL
	p.Pause = &witnessv1.PauseNote{By: "ann@desk", Reason: "storage is being moved"}
	Blocked("MODE_NOT_AUTOMATIC", "mode is manual")(p)
}

// UnderWay starts a procedure.
func UnderWay(kind witnessv1.ProcedureKind, step witnessv1.ProcedureStep) func(*witnessv1.Pair) {
	return func(p *witnessv1.Pair) {
		p.Procedure = Procedure(kind, step)
		Blocked("PROCEDURE_UNDER_WAY", "a procedure is under way")(p)
	}
}

// Procedure is one that began two seconds ago.
func Procedure(kind witnessv1.ProcedureKind, step witnessv1.ProcedureStep) *witnessv1.Procedure {
	return &witnessv1.Procedure{
		Id: "0a1b2c3d-12", Kind: kind, Step: step, Epoch: 7, Target: "db2", Timeout: durationpb.New(30 * time.Second),
		By: "ann@desk", Reason: "patch db1", Started: Ago(2 * time.Second),
	}
}

// Recorded leaves what one node knows by itself, which is only the record.
func Recorded(p *witnessv1.Pair) {
	p.Hosts, p.FailoverReady, p.FailoverBlocked, p.LeaseLeft, p.AsOf = nil, false, nil, nil, Stale()
}

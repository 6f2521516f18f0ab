package rpc

import (
	"cmp"
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	witnessv1 "github.com/witnessd/witnessd/proto/gen/witness/v1"
	"github.com/witnessd/witnessd/witnessd/ledger"
	"github.com/witnessd/witnessd/witnessd/pair"
)

// The enums of the schema and of package pair have the same numbers, which a test holds them to; zero is
// "unspecified" in both. From a peer an unknown number is refused, not guessed at.

func badRequest(do, format string, args ...any) *pair.Refusal {
	return &pair.Refusal{Reason: reasonBadRequest, Detail: fmt.Sprintf(format, args...), Do: do}
}

// timestamp is a wall clock in milliseconds; zero is absent.
func timestamp(ms int64) *timestamppb.Timestamp {
	if ms == 0 {
		return nil
	}
	return timestamppb.New(time.UnixMilli(ms))
}

func fromPolicy(p pair.Policy) *witnessv1.Policy {
	return &witnessv1.Policy{
		Profile:        p.Profile,
		Heartbeat:      durationpb.New(p.Heartbeat),
		Lease:          durationpb.New(p.Lease),
		Guard:          durationpb.New(p.Guard),
		MirrorTimeout:  durationpb.New(p.MirrorTimeout),
		ReleaseTimeout: durationpb.New(p.ReleaseTimeout),
		PromoteTimeout: durationpb.New(p.PromoteTimeout),
	}
}

// customProfile is the name of a policy that is none of the profiles.
const customProfile = "custom"

// toPolicy lays what a request says over a policy: first the profile that it names, then each duration that
// it gives.
func toPolicy(base pair.Policy, m *witnessv1.Policy) (pair.Policy, *pair.Refusal) {
	p := base
	if name := m.GetProfile(); name != "" && name != customProfile {
		var known bool
		if p, known = pair.ProfilePolicy(name); !known {
			return p, &pair.Refusal{Reason: pair.ReasonBadSpec, Do: "choose a profile: fast, default or patient",
				Detail: fmt.Sprintf("there is no timing profile %q", cut(name))}
		}
	}
	for _, field := range []struct {
		of *time.Duration
		is *durationpb.Duration
	}{
		{&p.Heartbeat, m.GetHeartbeat()}, {&p.Lease, m.GetLease()}, {&p.Guard, m.GetGuard()},
		{&p.MirrorTimeout, m.GetMirrorTimeout()}, {&p.ReleaseTimeout, m.GetReleaseTimeout()},
		{&p.PromoteTimeout, m.GetPromoteTimeout()},
	} {
		if field.is != nil {
			*field.of = field.is.AsDuration()
		}
	}
	p.Profile = customProfile
	if name, known := pair.ProfileOf(p); known {
		p.Profile = name
	}
	return p, nil
}

func fromMember(m pair.Member) *witnessv1.Member {
	return &witnessv1.Member{
		Host: string(m.Host), Instance: m.Instance, LinkAddress: m.LinkAddress,
		ServiceAddress: m.ServiceAddress, Engine: m.Engine, SystemId: m.SystemID,
	}
}

func toMember(m *witnessv1.Member) pair.Member {
	return pair.Member{
		Host: pair.HostID(m.GetHost()), Instance: m.GetInstance(), LinkAddress: m.GetLinkAddress(),
		ServiceAddress: m.GetServiceAddress(), Engine: m.GetEngine(), SystemID: m.GetSystemId(),
	}
}

// toMembers takes the two halves of a new pair.
func toMembers(m []*witnessv1.Member) ([2]pair.Member, *pair.Refusal) {
	if len(m) != 2 {
		return [2]pair.Member{}, &pair.Refusal{Reason: pair.ReasonBadSpec, Do: "name two hosts",
			Detail: fmt.Sprintf("a pair has two hosts, not %d", len(m))}
	}
	return [2]pair.Member{named(m[0]), named(m[1])}, nil
}

// named is the part of a member that an operator gives; the rest is announced by the agent itself.
func named(m *witnessv1.Member) pair.Member {
	return pair.Member{Host: pair.HostID(m.GetHost()), Instance: m.GetInstance()}
}

// toMode takes a request's mode; unspecified is what the request means by saying nothing.
func toMode(m witnessv1.Mode, unspecified pair.Mode) pair.Mode {
	return cmp.Or(pair.Mode(m), unspecified) // a number that does not exist is refused by the rules
}

func fromProcedure(p *pair.Procedure) *witnessv1.Procedure {
	if p == nil {
		return nil
	}
	return &witnessv1.Procedure{
		Id: p.ID, Kind: witnessv1.ProcedureKind(p.Kind), Step: witnessv1.ProcedureStep(p.Step),
		Epoch: uint64(p.Epoch), Target: string(p.Target), Timeout: durationpb.New(p.Timeout),
		AcceptLoss: p.AcceptLoss, HostOff: string(p.HostOff), By: p.By, Reason: p.Reason,
		Started: timestamp(p.Started),
	}
}

func fromOutcome(o *pair.Outcome) *witnessv1.Outcome {
	if o == nil {
		return nil
	}
	return &witnessv1.Outcome{
		Procedure: fromProcedure(&o.Procedure), Done: o.Done, Reason: string(o.Reason), Detail: o.Detail,
		Ended: timestamp(o.Ended),
	}
}

func fromVerdict(v pair.Verdict) *witnessv1.Verdict {
	m := &witnessv1.Verdict{Asked: string(v.Asked), Question: v.Question, Ok: v.OK(), Ready: v.Ready()}
	for _, p := range v.Preconditions {
		m.Preconditions = append(m.Preconditions, fromPrecondition(p))
	}
	return m
}

func fromPrecondition(p pair.Precondition) *witnessv1.Precondition {
	return &witnessv1.Precondition{
		Name: p.Name, Ok: p.OK, Reason: string(p.Reason), Detail: p.Detail, PrimaryLoss: p.PrimaryLoss,
	}
}

func fromEvent(e ledger.Event) *witnessv1.Event {
	return &witnessv1.Event{
		Sequence: e.Sequence, At: timestamp(e.At),
		Kind: string(e.Fact.Kind), Pair: string(e.Fact.Pair), PairName: e.Fact.PairName,
		Revision: uint64(e.Fact.Revision), Epoch: uint64(e.Fact.Epoch), Host: string(e.Fact.Host),
		Procedure: e.Fact.Procedure, Cause: e.Fact.Cause, By: e.Fact.By,
	}
}

// fromRecord is a pair as it is recorded.
func fromRecord(r pair.Record) *witnessv1.Pair {
	m := &witnessv1.Pair{
		Id: string(r.ID), Name: r.Name, Stage: witnessv1.Stage(r.Stage),
		Revision: uint64(r.Revision), Epoch: uint64(r.Epoch), Primary: string(r.Primary), Mirror: string(r.Mirror),
		Members: []*witnessv1.Member{fromMember(r.Members[0]), fromMember(r.Members[1])},
		Right:   witnessv1.Right(r.Right), Mode: witnessv1.Mode(r.Mode),
		Policy: fromPolicy(r.Policy), LongestLease: durationpb.New(r.LongestLease),
		Procedure: fromProcedure(r.Procedure), Last: fromOutcome(r.Last),
		Changed: timestamp(r.Changed), EpochChanged: timestamp(r.EpochChanged),
	}
	if r.Mode != pair.ModeAutomatic {
		m.Pause = &witnessv1.PauseNote{By: r.Pause.By, Reason: r.Pause.Reason}
	}
	return m
}

// fromLive is a pair as it is recorded, with what its hosts have reported.
func fromLive(l Live, asOf *witnessv1.AsOf) *witnessv1.Pair {
	m := fromRecord(l.Record)
	m.AsOf = asOf
	for i, member := range l.Record.Members {
		m.Hosts = append(m.Hosts, fromSeen(l, member.Host, l.Agents[i]))
	}
	m.LeaseLeft = durationpb.New(max(0, l.Watch.LeaseUntil.Sub(l.Now)))
	if l.Record.Stage != pair.StageReady {
		m.LeaseLeft = nil
	}
	v := pair.FailoverVerdict(l.Record, l.Watch, l.Now)
	m.FailoverReady = v.Ready()
	for _, p := range v.Preconditions {
		if !p.OK && !p.PrimaryLoss {
			m.FailoverBlocked = fromPrecondition(p)
			break
		}
	}
	return m
}

func fromSeen(l Live, host pair.HostID, agent Agent) *witnessv1.HostState {
	m := &witnessv1.HostState{Host: string(host)}
	report, age, heard := l.Watch.SeenOf(l.Record, host, l.Now)
	if heard {
		m.Heard, m.Fresh, m.Age = true, age <= l.Record.Policy.Lease, durationpb.New(age)
		m.Report = fromReport(Report{Pair: l.Record.ID, Said: report})
	}
	if agent != (Agent{}) {
		m.Agent = fromAgent(agent)
	}
	return m
}

func fromNode(n ledger.Node) *witnessv1.WitnessNode {
	return &witnessv1.WitnessNode{Id: n.ID, ApiAddress: n.APIAddress}
}

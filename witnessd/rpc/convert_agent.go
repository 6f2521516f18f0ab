package rpc

import (
	"strings"
	"time"
	"unicode"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	witnessv1 "github.com/witnessd/witnessd/proto/gen/witness/v1"
	"github.com/witnessd/witnessd/witnessd/pair"
)

// This file turns what agents say into values and answers into messages.

func fromAgent(a Agent) *witnessv1.Hello {
	return &witnessv1.Hello{
		Host: string(a.Host), AgentId: a.ID, Start: a.Start, Version: a.Version, HttpAddress: a.HTTPAddress,
	}
}

// toAgent refuses an agent that cannot be told from others.
func toAgent(m *witnessv1.Hello) (Agent, *pair.Refusal) {
	a := Agent{
		Host: pair.HostID(m.GetHost()), ID: m.GetAgentId(), Start: m.GetStart(),
		Version: m.GetVersion(), HTTPAddress: m.GetHttpAddress(),
	}
	if bad := checkName("host name", m.GetHost()); bad != nil {
		return a, bad
	}
	if a.ID == "" || a.Start == "" {
		return a, badRequest("", "the hello of host %s names no agent or no start", a.Host)
	}
	for what, s := range map[string]string{
		"agent id": a.ID, "start": a.Start, "version": a.Version, "http address": a.HTTPAddress,
	} {
		if bad := checkLength(what, s, maxWord); bad != nil {
			return a, bad
		}
	}
	return a, nil
}

// toHeartbeat refuses what an honest agent of any release cannot have sent.
func toHeartbeat(m *witnessv1.Heartbeat) (Heartbeat, *pair.Refusal) {
	hb := Heartbeat{Sequence: m.GetSequence(), TermHeard: pair.Term(m.GetTermHeard())}
	if size := proto.Size(m); size > maxBeat {
		return hb, badRequest("", "a heartbeat of %d bytes, at most %d are taken", size, maxBeat)
	}
	if len(m.GetPairs()) > maxReports {
		return hb, badRequest("", "a heartbeat of %d reports, at most %d are taken", len(m.GetPairs()), maxReports)
	}
	hb.Reports = make([]Report, 0, len(m.GetPairs()))
	for _, p := range m.GetPairs() {
		r, bad := toReport(p)
		if bad != nil {
			return hb, bad
		}
		hb.Reports = append(hb.Reports, r)
	}
	return hb, nil
}

func fromReport(r Report) *witnessv1.PairReport {
	said := r.Said
	m := &witnessv1.PairReport{
		Pair:                      string(r.Pair),
		Member:                    fromMember(said.Member),
		FileKnown:                 said.FileKnown,
		Epoch:                     uint64(said.Epoch),
		EpochPrimary:              string(said.EpochPrimary),
		Revision:                  uint64(said.Revision),
		LongestLease:              durationpb.New(said.LongestLease),
		Released:                  uint64(said.Released),
		ReleasedEverything:        said.ReleasedEverything,
		PartnerReleased:           uint64(said.PartnerReleased),
		PartnerReleasedEverything: said.PartnerReleasedEverything,
		AskLease:                  said.AskLease,
		Request:                   witnessv1.Request(said.Request),
		RequestRevision:           uint64(said.RequestRevision),
		RequestCause:              said.RequestCause,
		Promise:                   durationpb.New(said.Promise),
		HearsPartner:              said.HearsPartner,
		Serving:                   said.Serving,
		ServesFor:                 durationpb.New(said.ServesFor),
		Unmanaged:                 said.Unmanaged,
		OtherRight:                said.OtherRight,
		FenceLevel:                said.FenceLevel,
		Complaint:                 said.Complaint,
		Engine:                    fromEngine(said.Engine),
		FenceNote:                 said.FenceNote,
		Watchdog:                  said.Watchdog,
	}
	for _, h := range r.Hooks {
		m.Hooks = append(m.Hooks, fromHook(h))
	}
	return m
}

// toReport leaves out host, start, sequence and term: those are the session's and the heartbeat's.
func toReport(m *witnessv1.PairReport) (Report, *pair.Refusal) {
	if _, known := witnessv1.Request_name[int32(m.GetRequest())]; !known {
		return Report{}, badRequest("upgrade the witness", "request %d is not known", m.GetRequest())
	}
	for what, s := range map[string]string{
		"pair id": m.GetPair(), "epoch's primary": m.GetEpochPrimary(), "host": m.GetMember().GetHost(),
		"instance": m.GetMember().GetInstance(), "link address": m.GetMember().GetLinkAddress(),
		"service address": m.GetMember().GetServiceAddress(), "engine": m.GetMember().GetEngine(),
		"system id": m.GetMember().GetSystemId(), "fence level": m.GetFenceLevel(),
	} {
		if bad := checkLength(what, s, maxWord); bad != nil {
			return Report{}, bad
		}
	}
	return Report{Pair: pair.ID(m.GetPair()), Hooks: toHooks(m.GetHooks()), Said: pair.Report{
		Member:                    toMember(m.GetMember()),
		FileKnown:                 m.GetFileKnown(),
		Epoch:                     pair.Epoch(m.GetEpoch()),
		EpochPrimary:              pair.HostID(m.GetEpochPrimary()),
		Revision:                  pair.Revision(m.GetRevision()),
		LongestLease:              m.GetLongestLease().AsDuration(),
		Released:                  pair.Epoch(m.GetReleased()),
		ReleasedEverything:        m.GetReleasedEverything(),
		PartnerReleased:           pair.Epoch(m.GetPartnerReleased()),
		PartnerReleasedEverything: m.GetPartnerReleasedEverything(),
		AskLease:                  m.GetAskLease(),
		Request:                   pair.Request(m.GetRequest()),
		RequestRevision:           pair.Revision(m.GetRequestRevision()),
		RequestCause:              cut(m.GetRequestCause()),
		Promise:                   m.GetPromise().AsDuration(),
		HearsPartner:              m.GetHearsPartner(),
		Serving:                   m.GetServing(),
		ServesFor:                 m.GetServesFor().AsDuration(),
		Unmanaged:                 m.GetUnmanaged(),
		OtherRight:                m.GetOtherRight(),
		FenceLevel:                m.GetFenceLevel(),
		Complaint:                 cut(m.GetComplaint()),
		FenceNote:                 cut(m.GetFenceNote()),
		Watchdog:                  m.GetWatchdog(),
		Engine:                    toEngine(m.GetEngine()),
	}}, nil
}

func fromEngine(e pair.Engine) *witnessv1.EngineState {
	return &witnessv1.EngineState{
		Running: e.Running, Role: e.Role, SystemId: e.SystemID, Timeline: e.Timeline, Position: e.Position,
		MirrorAttached: e.MirrorAttached, MirrorFlushed: e.MirrorFlushed, Commits: e.Commits,
		Following: e.Following, Promotable: e.Promotable, NotPromotable: e.NotPromotable, Step: e.Step,
		Replayed: e.Replayed, Warning: e.Warning, LossBound: some(e.LossBound), NeedsRelease: e.NeedsRelease,
		ServeIn: some(e.ServeIn), Watched: e.Watched, Databases: fromDatabases(e.Databases),
	}
}

// some leaves a duration out that says nothing.
func some(d time.Duration) *durationpb.Duration {
	if d == 0 {
		return nil
	}
	return durationpb.New(d)
}

func toEngine(m *witnessv1.EngineState) pair.Engine {
	return pair.Engine{
		Running: m.GetRunning(), Role: cut(m.GetRole()), SystemID: cut(m.GetSystemId()),
		Timeline: m.GetTimeline(), Position: m.GetPosition(),
		MirrorAttached: m.GetMirrorAttached(), MirrorFlushed: m.GetMirrorFlushed(), Commits: cut(m.GetCommits()),
		Following: m.GetFollowing(), Promotable: m.GetPromotable(), NotPromotable: cut(m.GetNotPromotable()),
		Step: cut(m.GetStep()), Replayed: m.GetReplayed(), Warning: cut(m.GetWarning()),
		LossBound: max(0, m.GetLossBound().AsDuration()), NeedsRelease: m.GetNeedsRelease(),
		ServeIn: max(0, m.GetServeIn().AsDuration()), Watched: m.GetWatched(), Databases: toDatabases(m.GetDatabases()),
	}
}

func fromHook(h pair.Hook) *witnessv1.HookResult {
	return &witnessv1.HookResult{
		Sequence: h.Sequence, Event: h.Event, Epoch: uint64(h.Epoch), Command: h.Command, Ok: h.OK, Detail: h.Detail,
		Took: durationpb.New(h.Took),
	}
}

// toHooks takes the oldest ones; the agent reports the others again. What a command printed goes into the history
// of every node for good, so it is one line and short.
func toHooks(reported []*witnessv1.HookResult) []pair.Hook {
	var hooks []pair.Hook
	for _, m := range reported[:min(len(reported), maxHooks)] {
		hooks = append(hooks, pair.Hook{
			Sequence: m.GetSequence(), Event: cutTo(oneLine(m.GetEvent()), maxName), Epoch: pair.Epoch(m.GetEpoch()),
			Command: cutTo(oneLine(m.GetCommand()), maxCommand), OK: m.GetOk(),
			Detail: cutTo(oneLine(m.GetDetail()), maxHookText), Took: m.GetTook().AsDuration(),
		})
	}
	return hooks
}

// oneLine makes every run of spaces and of what no screen can show one space.
func oneLine(s string) string {
	return strings.Join(strings.FieldsFunc(s, func(c rune) bool { return unicode.IsSpace(c) || !unicode.IsPrint(c) }), " ")
}

// fromAnswer is what goes to an agent on host.
func fromAnswer(host pair.HostID, a Answer) *witnessv1.Answer {
	m := &witnessv1.Answer{Sequence: a.Sequence, Term: uint64(a.Term)}
	for _, p := range a.Pairs {
		m.Pairs = append(m.Pairs, fromPairAnswer(host, p))
	}
	for _, id := range a.Removed {
		m.Removed = append(m.Removed, string(id))
	}
	return m
}

func fromPairAnswer(host pair.HostID, p PairAnswer) *witnessv1.PairAnswer {
	r := p.Record
	own, _ := r.Member(host)
	partner, _ := r.Member(r.Partner(host))
	m := &witnessv1.PairAnswer{
		Pair: string(r.ID), Name: r.Name, Instance: own.Instance, Mute: p.Mute, Refused: string(p.Refused),
	}
	if p.Mute {
		return m // nothing else may be believed, so nothing else is said (rule R15)
	}
	m.Stage = witnessv1.Stage(r.Stage)
	m.Revision, m.Epoch = uint64(r.Revision), uint64(r.Epoch)
	m.Primary, m.Mirror = string(r.Primary), string(r.Mirror)
	m.Right, m.Mode = witnessv1.Right(r.Right), witnessv1.Mode(r.Mode)
	m.Policy, m.LongestLease = fromPolicy(r.Policy), durationpb.New(r.LongestLease)
	m.Procedure = fromProcedure(r.Procedure)
	m.Partner = fromMember(partner)
	m.Lease = durationpb.New(p.Lease)
	m.Released = uint64(p.Released)
	m.HooksRecorded = p.HooksRecorded
	return m
}

package link

import (
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/witnessd/witnessd/agent/hold"
	witnessv1 "github.com/witnessd/witnessd/proto/gen/witness/v1"
)

// Every function here is total: whatever it is given, it returns a value and an absent message is an empty
// one. What must not be believed is said in check.go and by odd values, never guessed.

func heartbeatRequest(h Heartbeat) *witnessv1.SessionRequest {
	m := &witnessv1.Heartbeat{
		Sequence: h.Sequence, TermHeard: h.TermHeard, Pairs: make([]*witnessv1.PairReport, len(h.Pairs)),
	}
	for i, p := range h.Pairs {
		m.Pairs[i] = pairReport(p)
	}
	return &witnessv1.SessionRequest{Message: &witnessv1.SessionRequest_Heartbeat{Heartbeat: m}}
}

func pairReport(p PairReport) *witnessv1.PairReport {
	return &witnessv1.PairReport{
		Pair:                      utf(p.Pair),
		Member:                    member(p.Member),
		FileKnown:                 p.Known,
		Epoch:                     uint64(p.Epoch),
		EpochPrimary:              utf(p.Primary),
		Revision:                  uint64(p.Revision),
		LongestLease:              duration(p.Longest),
		Released:                  uint64(p.Released),
		ReleasedEverything:        p.ReleasedEverything,
		PartnerReleased:           uint64(p.PartnerReleased),
		PartnerReleasedEverything: p.PartnerReleasedEverything,
		AskLease:                  p.AskLease,
		Request:                   request(p.Request),
		RequestRevision:           uint64(p.RequestRevision),
		RequestCause:              text(p.RequestCause),
		Promise:                   duration(p.Promise),
		HearsPartner:              p.HearsPartner,
		Serving:                   p.Serving,
		ServesFor:                 duration(p.ServesFor),
		Unmanaged:                 p.Unmanaged,
		OtherRight:                p.OtherRight,
		FenceLevel:                utf(p.FenceLevel),
		FenceNote:                 text(p.FenceNote),
		Watchdog:                  p.Watchdog,
		Hooks:                     hookResults(p.Hooks),
		Complaint:                 text(p.Complaint),
		Engine:                    engineState(p.Engine),
	}
}

func hookResults(list []HookResult) []*witnessv1.HookResult {
	out := make([]*witnessv1.HookResult, len(list))
	for i, h := range list {
		out[i] = &witnessv1.HookResult{
			Sequence: h.Sequence, Event: utf(h.Event), Epoch: uint64(h.Epoch), Command: text(h.Command), Ok: h.OK,
			Detail: text(h.Detail), Took: duration(h.Took),
		}
	}
	return out
}

func member(m Member) *witnessv1.Member {
	return &witnessv1.Member{
		Host: utf(m.Host), Instance: utf(m.Instance), LinkAddress: utf(m.LinkAddress),
		ServiceAddress: utf(m.ServiceAddress), Engine: utf(m.Engine), SystemId: utf(m.SystemID),
	}
}

func request(r hold.Request) witnessv1.Request {
	switch r {
	case hold.RequestArm:
		return witnessv1.Request_REQUEST_ARM
	case hold.RequestExpose:
		return witnessv1.Request_REQUEST_EXPOSE
	case hold.RequestNone:
	}
	return witnessv1.Request_REQUEST_UNSPECIFIED
}

// answerOf turns an answer into values. What was not understood is returned as well, to be told once.
func answerOf(m *witnessv1.Answer) (Answer, []oddity) {
	a := Answer{Sequence: m.GetSequence(), Term: m.GetTerm()}
	var odd []oddity
	for _, p := range m.GetPairs() {
		answer, err := pairAnswer(p, a.Term)
		if err != nil {
			odd = append(odd, oddity{pair: text(p.GetPair()), what: err.Error()})
		}
		if answer.Pair != "" {
			a.Pairs = append(a.Pairs, answer)
		}
	}
	for _, id := range m.GetRemoved() {
		if err := checkName("a removed pair's id", id); err != nil {
			odd = append(odd, oddity{what: err.Error()})
			continue
		}
		a.Removed = append(a.Removed, id)
	}
	return a, odd
}

// pairAnswer turns the answer about one pair into values. It is mute if the witness says so and if anything in
// it was not understood; in the latter case the error says what. Without a name to call it by it is empty.
func pairAnswer(m *witnessv1.PairAnswer, term uint64) (PairAnswer, error) {
	if err := checkPairNames(m); err != nil {
		return PairAnswer{}, err
	}
	a := PairAnswer{
		Pair: m.GetPair(), Name: m.GetName(), Instance: m.GetInstance(), Mute: true, HooksRecorded: m.GetHooksRecorded(),
	}
	a.Says = hold.WitnessSays{Term: term, Name: m.GetName(), Refused: text(m.GetRefused())}
	if m.GetMute() {
		return a, nil
	}
	stage := m.GetStage()
	if stage == witnessv1.Stage_STAGE_RESTORED || stage == witnessv1.Stage_STAGE_REMOVED {
		// A restored record is not the truth before both agents have spoken (R15), and of a removal only
		// Answer.Removed tells.
		return a, nil
	}
	says, err := witnessSays(m)
	if err != nil {
		a.Says.Refused = RefusedNotUnderstood
		return a, err
	}
	says.Term, says.Name, says.Refused = a.Says.Term, a.Says.Name, a.Says.Refused
	a.Mute, a.Says = false, says
	return a, nil
}

// RefusedNotUnderstood is the reason in a pair's answer that this agent did not understand: the witness is
// newer, and the agent must be upgraded.
const RefusedNotUnderstood = "NOT_UNDERSTOOD"

// witnessSays converts all that is in force while a pair is forming or ready.
func witnessSays(m *witnessv1.PairAnswer) (hold.WitnessSays, error) {
	var says hold.WitnessSays
	var err error
	if says.Forming, err = forming(m.GetStage()); err != nil {
		return says, err
	}
	if says.Right, err = right(m.GetRight()); err != nil {
		return says, err
	}
	if says.Automatic, err = automatic(m.GetMode()); err != nil {
		return says, err
	}
	if says.Ask, says.AskEpoch, err = ask(m.GetProcedure()); err != nil {
		return says, err
	}
	says.Revision, says.Epoch = hold.Revision(m.GetRevision()), hold.Epoch(m.GetEpoch())
	says.Primary, says.Mirror = m.GetPrimary(), m.GetMirror()
	says.Timing, says.Longest = timing(m.GetPolicy()), m.GetLongestLease().AsDuration()
	says.Peer = peer(m.GetPartner())
	says.Lease, says.Released = m.GetLease().AsDuration(), hold.Epoch(m.GetReleased())
	return says, checkWitnessSays(says)
}

func forming(s witnessv1.Stage) (bool, error) {
	switch s {
	case witnessv1.Stage_STAGE_FORMING:
		return true, nil
	case witnessv1.Stage_STAGE_READY:
		return false, nil
	default:
		return false, unknown("stage", s)
	}
}

func right(r witnessv1.Right) (hold.Right, error) {
	switch r {
	case witnessv1.Right_RIGHT_SOLE:
		return hold.RightSole, nil
	case witnessv1.Right_RIGHT_LEASED:
		return hold.RightLeased, nil
	default:
		return hold.RightUnknown, unknown("right", r)
	}
}

func automatic(m witnessv1.Mode) (bool, error) {
	switch m {
	case witnessv1.Mode_MODE_AUTOMATIC:
		return true, nil
	case witnessv1.Mode_MODE_MANUAL, witnessv1.Mode_MODE_OBSERVE:
		return false, nil
	default:
		return false, unknown("mode", m)
	}
}

// ask says what the procedure under way asks of the primary. Both hosts are told: the mirror passes a wish for
// a release on and refuses leases while they are withheld.
func ask(p *witnessv1.Procedure) (hold.Ask, hold.Epoch, error) {
	if p == nil {
		return hold.AskNothing, 0, nil
	}
	asked, err := askOf(p.GetKind(), p.GetStep())
	return asked, hold.Epoch(p.GetEpoch()), err
}

func askOf(kind witnessv1.ProcedureKind, step witnessv1.ProcedureStep) (hold.Ask, error) {
	switch step {
	case witnessv1.ProcedureStep_PROCEDURE_STEP_RELEASE, witnessv1.ProcedureStep_PROCEDURE_STEP_WITHHOLD,
		witnessv1.ProcedureStep_PROCEDURE_STEP_FENCE, witnessv1.ProcedureStep_PROCEDURE_STEP_PROMOTE,
		witnessv1.ProcedureStep_PROCEDURE_STEP_UNMANAGE:
	default:
		return hold.AskNothing, unknown("procedure step", step)
	}
	switch kind {
	case witnessv1.ProcedureKind_PROCEDURE_KIND_SWITCHOVER:
		if step == witnessv1.ProcedureStep_PROCEDURE_STEP_RELEASE {
			return hold.AskHandOver, nil
		}
	case witnessv1.ProcedureKind_PROCEDURE_KIND_FORCED:
		return askForced(step), nil
	case witnessv1.ProcedureKind_PROCEDURE_KIND_REMOVE:
		if step == witnessv1.ProcedureStep_PROCEDURE_STEP_UNMANAGE {
			return hold.AskUnmanage, nil
		}
	case witnessv1.ProcedureKind_PROCEDURE_KIND_FAILOVER, witnessv1.ProcedureKind_PROCEDURE_KIND_REINSTATE:
	default:
		return hold.AskNothing, unknown("procedure kind", kind)
	}
	return hold.AskNothing, nil
}

// askForced: while the fencing command runs, a primary that hears of it after all may still spare it.
func askForced(step witnessv1.ProcedureStep) hold.Ask {
	switch step {
	case witnessv1.ProcedureStep_PROCEDURE_STEP_RELEASE, witnessv1.ProcedureStep_PROCEDURE_STEP_FENCE:
		return hold.AskRelease
	case witnessv1.ProcedureStep_PROCEDURE_STEP_WITHHOLD:
		return hold.AskWithhold
	default:
		return hold.AskNothing
	}
}

func timing(p *witnessv1.Policy) hold.Timing {
	return hold.Timing{
		Heartbeat: p.GetHeartbeat().AsDuration(), Lease: p.GetLease().AsDuration(),
		Guard: p.GetGuard().AsDuration(), MirrorTimeout: p.GetMirrorTimeout().AsDuration(),
	}
}

func peer(m *witnessv1.Member) hold.Peer {
	return hold.Peer{
		Host: m.GetHost(), Instance: m.GetInstance(), LinkAddress: m.GetLinkAddress(),
		ServiceAddress: m.GetServiceAddress(), SystemID: m.GetSystemId(),
	}
}

func partnerSays(list []hold.Says) []*witnessv1.PartnerSays {
	out := make([]*witnessv1.PartnerSays, len(list))
	for i, s := range list {
		out[i] = &witnessv1.PartnerSays{
			Pair:               utf(s.Pair),
			Epoch:              uint64(s.Epoch),
			Primary:            utf(s.Primary),
			Revision:           uint64(s.Revision),
			LongestLease:       duration(s.Longest),
			Released:           uint64(s.Released),
			ReleasedEverything: s.ReleasedEverything,
			AskLease:           s.AskLease,
			Lease:              duration(s.Lease),
			Refused:            text(s.Refused),
			ReleaseAsked:       uint64(s.ReleaseAsked),
			Engine:             engineState(s.Engine),
			GateAddress:        utf(s.GateAddress),
			Serving:            s.Serving,
		}
	}
	return out
}

func saysOf(list []*witnessv1.PartnerSays) []hold.Says {
	out := make([]hold.Says, len(list))
	for i, m := range list {
		out[i] = hold.Says{
			Pair:               m.GetPair(),
			Epoch:              hold.Epoch(m.GetEpoch()),
			Primary:            m.GetPrimary(),
			Revision:           hold.Revision(m.GetRevision()),
			Longest:            m.GetLongestLease().AsDuration(),
			Released:           hold.Epoch(m.GetReleased()),
			ReleasedEverything: m.GetReleasedEverything(),
			AskLease:           m.GetAskLease(),
			Lease:              m.GetLease().AsDuration(),
			Refused:            text(m.GetRefused()),
			ReleaseAsked:       hold.Epoch(m.GetReleaseAsked()),
			Engine:             engineOf(m.GetEngine()),
			GateAddress:        address(m.GetGateAddress()),
			Serving:            m.GetServing(),
		}
	}
	return out
}

// address leaves out what nobody could connect to. A partner's odd gate is no reason to lose its leases.
func address(s string) string {
	if len(s) > maxAddress {
		return ""
	}
	return s
}

// engineState leaves out what means something on its own host only: when the look began, which run it was of,
// whether the directory is empty, and for how long something has stalled.
func engineState(e hold.Engine) *witnessv1.EngineState {
	return &witnessv1.EngineState{
		Running:        e.Running,
		Role:           e.Role.String(),
		SystemId:       utf(e.SystemID),
		Timeline:       e.Timeline,
		Position:       e.Position,
		MirrorAttached: e.MirrorAttached,
		MirrorFlushed:  e.MirrorFlushed,
		Commits:        e.Commits.String(),
		Following:      e.Following,
		Promotable:     e.Promotable,
		NotPromotable:  text(e.NotPromotable),
		Step:           text(e.Step),
		Replayed:       e.Replayed,
		Warning:        text(e.Warning),
		LossBound:      some(e.LossBound),
		NeedsRelease:   e.NeedsRelease,
		ServeIn:        some(e.ServeIn),
		Watched:        e.Watched,
		Databases:      databases(e.Databases),
	}
}

// some leaves a duration out that says nothing.
func some(d time.Duration) *durationpb.Duration {
	if d == 0 {
		return nil
	}
	return durationpb.New(d)
}

func databases(list []hold.Database) []*witnessv1.DatabaseState {
	var out []*witnessv1.DatabaseState
	for _, d := range list {
		m := &witnessv1.DatabaseState{
			Name: utf(d.Name), Role: utf(d.Role), Status: utf(d.Status), Detail: text(d.Detail),
		}
		for _, s := range d.Sets {
			m.Sets = append(m.Sets, utf(s))
		}
		out = append(out, m)
	}
	return out
}

func databasesOf(list []*witnessv1.DatabaseState) []hold.Database {
	var out []hold.Database
	for _, m := range list {
		out = append(out, hold.Database{
			Name: m.GetName(), Role: m.GetRole(), Status: m.GetStatus(), Detail: text(m.GetDetail()), Sets: m.GetSets(),
		})
	}
	return out
}

func engineOf(m *witnessv1.EngineState) hold.Engine {
	return hold.Engine{
		Running:        m.GetRunning(),
		Role:           role(m.GetRole()),
		SystemID:       m.GetSystemId(),
		Timeline:       m.GetTimeline(),
		Position:       m.GetPosition(),
		MirrorAttached: m.GetMirrorAttached(),
		MirrorFlushed:  m.GetMirrorFlushed(),
		Commits:        commits(m.GetCommits()),
		Following:      m.GetFollowing(),
		Promotable:     m.GetPromotable(),
		NotPromotable:  text(m.GetNotPromotable()),
		Step:           text(m.GetStep()),
		Replayed:       m.GetReplayed(),
		Warning:        text(m.GetWarning()),
		LossBound:      m.GetLossBound().AsDuration(),
		NeedsRelease:   m.GetNeedsRelease(),
		ServeIn:        m.GetServeIn().AsDuration(),
		Watched:        m.GetWatched(),
		Databases:      databasesOf(m.GetDatabases()),
	}
}

func role(s string) hold.Role {
	for _, r := range []hold.Role{hold.RolePrimary, hold.RoleMirror} {
		if r.String() == s {
			return r
		}
	}
	return hold.RoleNone
}

func commits(s string) hold.Commits {
	for _, c := range []hold.Commits{hold.CommitsHeld, hold.CommitsAlone} {
		if c.String() == s {
			return c
		}
	}
	return hold.CommitsUnknown
}

// duration leaves zero out; its absence is read as zero.
func duration(d time.Duration) *durationpb.Duration {
	if d == 0 {
		return nil
	}
	return durationpb.New(d)
}

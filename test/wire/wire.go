// Package wire turns what a host's agent says into what the witness hears, and back, without the messages between
// them: searches over the pure halves of the protocol send too many to encode each. It follows agent/link and
// witnessd/rpc, which carry the same values as messages.
package wire

import (
	"github.com/witnessd/witnessd/agent/hold"
	"github.com/witnessd/witnessd/witnessd/pair"
)

// Sender is what an agent adds to a report: which start of it speaks, and how much it has said.
type Sender struct {
	Host      string
	Start     string
	Sequence  uint64
	TermHeard uint64
	Member    pair.Member
}

// Report is a host's report as the leader hears it.
func Report(from Sender, r hold.Report) pair.Report {
	return pair.Report{
		Host: pair.HostID(from.Host), Start: from.Start, Sequence: from.Sequence, TermHeard: pair.Term(from.TermHeard),
		FileKnown: r.Known, Epoch: pair.Epoch(r.Epoch),
		EpochPrimary: pair.HostID(r.Primary), Revision: pair.Revision(r.Revision), LongestLease: r.Longest,
		Released: pair.Epoch(r.Released), ReleasedEverything: r.ReleasedEverything,
		PartnerReleased: pair.Epoch(r.PartnerReleased), PartnerReleasedEverything: r.PartnerReleasedEverything,
		AskLease: r.AskLease, Request: pair.Request(r.Request), RequestRevision: pair.Revision(r.RequestRevision),
		RequestCause: r.RequestCause, Promise: r.Promise, HearsPartner: r.HearsPartner, Serving: r.Serving,
		ServesFor: r.ServesFor, Unmanaged: r.Unmanaged, Complaint: r.Complaint,
		Engine: pair.Engine{
			Running: r.Engine.Running, Role: r.Engine.Role.String(), SystemID: r.Engine.SystemID,
			Timeline: r.Engine.Timeline, Position: r.Engine.Position, MirrorAttached: r.Engine.MirrorAttached,
			MirrorFlushed: r.Engine.MirrorFlushed, Commits: r.Engine.Commits.String(), Following: r.Engine.Following,
			Promotable: r.Engine.Promotable, NotPromotable: r.Engine.NotPromotable, Step: r.Engine.Step,
			LossBound: r.Engine.LossBound, NeedsRelease: r.Engine.NeedsRelease,
		},
		Member: from.Member,
	}
}

// Answer is the witness's answer to a host as its agent takes it in; the agent itself knows when it asked. released
// is the highest epoch of which the leader has heard the release.
func Answer(to string, r pair.Record, term pair.Term, a pair.Answer, released pair.Epoch) hold.WitnessSays {
	peer, _ := r.Member(r.Partner(pair.HostID(to)))
	says := hold.WitnessSays{
		Term: uint64(term), Forming: r.Stage == pair.StageForming, Revision: hold.Revision(r.Revision),
		Epoch: hold.Epoch(r.Epoch), Primary: string(r.Primary), Mirror: string(r.Mirror),
		Right: hold.RightSole, Automatic: r.Mode == pair.ModeAutomatic, Longest: r.LongestLease, Name: r.Name,
		Timing: hold.Timing{Heartbeat: r.Policy.Heartbeat, Lease: r.Policy.Lease, Guard: r.Policy.Guard,
			MirrorTimeout: r.Policy.MirrorTimeout},
		Peer: hold.Peer{Host: string(peer.Host), Instance: peer.Instance, LinkAddress: peer.LinkAddress,
			ServiceAddress: peer.ServiceAddress, SystemID: peer.SystemID},
		Lease: a.Lease, Refused: string(a.Refused), Released: hold.Epoch(released),
	}
	if r.Right == pair.RightLeased {
		says.Right = hold.RightLeased
	}
	if p := r.Procedure; p != nil {
		says.Ask, says.AskEpoch = asked(*p), hold.Epoch(p.Epoch)
	}
	return says
}

// asked is what a procedure asks of the primary.
func asked(p pair.Procedure) hold.Ask {
	switch {
	case p.Kind == pair.KindSwitchover && p.Step == pair.StepRelease:
		return hold.AskHandOver
	case p.Kind == pair.KindForced && (p.Step == pair.StepRelease || p.Step == pair.StepFence):
		return hold.AskRelease
	case p.Kind == pair.KindForced && p.Step == pair.StepWithhold:
		return hold.AskWithhold
	case p.Kind == pair.KindRemove && p.Step == pair.StepUnmanage:
		return hold.AskUnmanage
	default:
		return hold.AskNothing
	}
}

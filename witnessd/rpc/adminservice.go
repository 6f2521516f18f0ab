package rpc

import (
	"cmp"
	"context"
	"slices"

	witnessv1 "github.com/witnessd/witnessd/proto/gen/witness/v1"
	"github.com/witnessd/witnessd/witnessd/ledger"
	"github.com/witnessd/witnessd/witnessd/pair"
)

// adminService is for people and their programs. It runs on the leader; stale questions and events are
// answered by any node.
type adminService struct {
	witnessv1.UnimplementedAdminServiceServer
	*Server
}

// office is the one that is open here, or ErrNotLeading.
func (s *Server) office() (Office, error) {
	o, _ := s.court.Office()
	if o == nil {
		return nil, ErrNotLeading
	}
	return o, nil
}

// look returns pairs as their leader has them.
func (s *Server) look(ctx context.Context, nameOrID string) ([]Live, error) {
	o, err := s.office()
	if err == nil {
		var all []Live
		if all, err = o.Look(ctx, nameOrID); err == nil {
			return all, nil
		}
	}
	if ctx.Err() != nil {
		err = ctx.Err() // what a read was interrupted in is of no interest
	}
	return nil, s.failure(err, nameOrID)
}

// ask passes a wish on.
func (s *Server) ask(ctx context.Context, name, by, reason string, a Ask) (*witnessv1.Pair, string, error) {
	a.Pair = cmp.Or(a.Pair, name)
	if err := s.checkWords(by, reason); err != nil {
		return nil, "", err
	}
	o, err := s.office()
	if err != nil {
		return nil, "", s.failure(err, name)
	}
	reply, err := o.Ask(ctx, a)
	if err != nil {
		return nil, "", s.failure(err, name)
	}
	return fromLive(reply.Live, s.asOf(false)), reply.Procedure, nil
}

func (s *Server) checkWords(by, reason string) error {
	for what, word := range map[string]string{"by": by, "reason": reason} {
		if bad := checkLength(what, word, maxText); bad != nil {
			return s.refused(bad, "")
		}
	}
	return nil
}

// CreatePair makes a new pair, or finds the one that is there.
func (a adminService) CreatePair(
	ctx context.Context, req *witnessv1.CreatePairRequest,
) (*witnessv1.CreatePairResponse, error) {
	if err := a.checkWords(req.GetBy(), ""); err != nil {
		return nil, err
	}
	members, bad := toMembers(req.GetMembers())
	if bad != nil {
		return nil, a.refused(bad, req.GetName())
	}
	policy, bad := toPolicy(pair.DefaultPolicy(), req.GetPolicy())
	if bad != nil {
		return nil, a.refused(bad, req.GetName())
	}
	o, err := a.office()
	if err != nil {
		return nil, a.failure(err, req.GetName())
	}
	reply, err := o.Create(ctx, pair.Create{
		Name: req.GetName(), Members: members, Primary: pair.HostID(req.GetPrimary()),
		Mode: toMode(req.GetMode(), pair.ModeAutomatic), Policy: policy, By: req.GetBy(),
	})
	if err != nil {
		return nil, a.failure(err, req.GetName())
	}
	return &witnessv1.CreatePairResponse{Pair: fromLive(reply.Live, a.asOf(false)), Created: reply.Created}, nil
}

// GetPair returns one pair.
func (a adminService) GetPair(ctx context.Context, req *witnessv1.GetPairRequest) (*witnessv1.GetPairResponse, error) {
	if req.GetStale() {
		r, ok := a.recorded(req.GetPair())
		if !ok {
			return nil, a.failure(ErrUnknownPair, req.GetPair())
		}
		m := fromRecord(r)
		m.AsOf = a.asOf(true)
		return &witnessv1.GetPairResponse{Pair: m}, nil
	}
	one, err := a.one(ctx, req.GetPair())
	if err != nil {
		return nil, err
	}
	return &witnessv1.GetPairResponse{Pair: fromLive(one, a.asOf(false))}, nil
}

func (s *Server) one(ctx context.Context, nameOrID string) (Live, error) {
	if nameOrID == "" {
		return Live{}, s.refused(badRequest("", "the pair is not named"), "")
	}
	all, err := s.look(ctx, nameOrID)
	if err != nil {
		return Live{}, err
	}
	return all[0], nil
}

// recorded finds a pair in this node's own ledger.
func (s *Server) recorded(nameOrID string) (pair.Record, bool) {
	if r, ok := s.ledger.PairByName(nameOrID); ok {
		return r, true
	}
	return s.ledger.Pair(pair.ID(nameOrID))
}

// ListPairs returns all pairs.
func (a adminService) ListPairs(
	ctx context.Context, req *witnessv1.ListPairsRequest,
) (*witnessv1.ListPairsResponse, error) {
	m := &witnessv1.ListPairsResponse{}
	if req.GetStale() {
		m.AsOf = a.asOf(true)
		for _, r := range a.ledger.Pairs() {
			m.Pairs = append(m.Pairs, fromRecord(r))
		}
		return m, nil
	}
	all, err := a.look(ctx, "")
	if err != nil {
		return nil, err
	}
	m.AsOf = a.asOf(false)
	for _, l := range all {
		m.Pairs = append(m.Pairs, fromLive(l, nil))
	}
	return m, nil
}

// ExplainPair answers every question that the pair raises now.
func (a adminService) ExplainPair(
	ctx context.Context, req *witnessv1.ExplainPairRequest,
) (*witnessv1.ExplainPairResponse, error) {
	one, err := a.one(ctx, req.GetPair())
	if err != nil {
		return nil, err
	}
	m := &witnessv1.ExplainPairResponse{Pair: fromLive(one, a.asOf(false))}
	for _, v := range pair.Explain(one.Record, one.Watch, one.Now) {
		m.Verdicts = append(m.Verdicts, fromVerdict(v))
	}
	return m, nil
}

// Switchover starts a planned change of primary.
func (a adminService) Switchover(
	ctx context.Context, req *witnessv1.SwitchoverRequest,
) (*witnessv1.SwitchoverResponse, error) {
	m, procedure, err := a.ask(ctx, req.GetPair(), req.GetBy(), req.GetReason(), Ask{
		Revision: pair.Revision(req.GetExpectedRevision()), Epoch: pair.Epoch(req.GetExpectedEpoch()),
		Wish: pair.WishSwitchover{Target: pair.HostID(req.GetTarget()), By: req.GetBy(), Reason: req.GetReason()},
	})
	if err != nil {
		return nil, err
	}
	return &witnessv1.SwitchoverResponse{Pair: m, Procedure: procedure}, nil
}

// ForceFailover starts a change of primary on an operator's responsibility (rule R14).
func (a adminService) ForceFailover(
	ctx context.Context, req *witnessv1.ForceFailoverRequest,
) (*witnessv1.ForceFailoverResponse, error) {
	if req.GetExpectedEpoch() == 0 {
		return nil, a.refused(&pair.Refusal{Reason: pair.ReasonBadSpec,
			Detail: "a forced failover must name the epoch that it ends",
			Do:     "read the pair and name the epoch that you see"}, req.GetPair())
	}
	m, procedure, err := a.ask(ctx, req.GetPair(), req.GetBy(), req.GetReason(), Ask{
		Revision: pair.Revision(req.GetExpectedRevision()), Epoch: pair.Epoch(req.GetExpectedEpoch()),
		Wish: pair.WishForce{
			AcceptLoss: req.GetAcceptLoss(), HostOff: pair.HostID(req.GetHostOff()),
			By: req.GetBy(), Reason: req.GetReason(),
		},
	})
	if err != nil {
		return nil, err
	}
	return &witnessv1.ForceFailoverResponse{Pair: m, Procedure: procedure}, nil
}

// Pause keeps the witness from deciding.
func (a adminService) Pause(ctx context.Context, req *witnessv1.PauseRequest) (*witnessv1.PauseResponse, error) {
	mode := toMode(req.GetMode(), pair.ModeManual)
	if mode != pair.ModeManual && mode != pair.ModeObserve {
		return nil, a.refused(&pair.Refusal{Reason: pair.ReasonBadSpec, Do: "use manual or observe, or resume",
			Detail: "a pair is paused in mode manual or observe"}, req.GetPair())
	}
	m, _, err := a.ask(ctx, req.GetPair(), req.GetBy(), req.GetReason(), Ask{
		Revision: pair.Revision(req.GetExpectedRevision()), Epoch: pair.Epoch(req.GetExpectedEpoch()),
		Wish: pair.WishCommand{Body: pair.SetMode{
			Mode: mode, Pause: pair.Pause{By: req.GetBy(), Reason: req.GetReason()},
		}},
	})
	if err != nil {
		return nil, err
	}
	return &witnessv1.PauseResponse{Pair: m}, nil
}

// Resume lets the witness decide again.
func (a adminService) Resume(ctx context.Context, req *witnessv1.ResumeRequest) (*witnessv1.ResumeResponse, error) {
	m, _, err := a.ask(ctx, req.GetPair(), req.GetBy(), req.GetReason(), Ask{
		Revision: pair.Revision(req.GetExpectedRevision()), Epoch: pair.Epoch(req.GetExpectedEpoch()),
		Wish: pair.WishCommand{Body: pair.SetMode{
			Mode: pair.ModeAutomatic, Pause: pair.Pause{By: req.GetBy(), Reason: req.GetReason()},
		}},
	})
	if err != nil {
		return nil, err
	}
	return &witnessv1.ResumeResponse{Pair: m}, nil
}

// SetPolicy changes the timing. What the request does not say stays as it is, so it is decided on the policy
// that was read, and on no other: a change in between, or a new pair of that name, would be overwritten.
func (a adminService) SetPolicy(
	ctx context.Context, req *witnessv1.SetPolicyRequest,
) (*witnessv1.SetPolicyResponse, error) {
	name, expected := req.GetPair(), pair.Revision(req.GetExpectedRevision())
	for range tries {
		one, err := a.one(ctx, name)
		if err != nil {
			return nil, err
		}
		if expected != 0 && expected != one.Record.Revision {
			return nil, a.refused(pair.StaleRevision(one.Record, expected), name)
		}
		policy, bad := toPolicy(one.Record.Policy, req.GetPolicy())
		if bad != nil {
			return nil, a.refused(bad, name)
		}
		m, _, err := a.ask(ctx, name, req.GetBy(), "", Ask{
			Pair: string(one.Record.ID), Revision: one.Record.Revision, Epoch: pair.Epoch(req.GetExpectedEpoch()),
			Wish: pair.WishCommand{Body: pair.SetPolicy{Policy: policy, By: req.GetBy()}},
		})
		if err == nil {
			return &witnessv1.SetPolicyResponse{Pair: m}, nil
		}
		// Another look tells what the caller decided on: another revision, no pair of that name, or another one.
		if r := reasonOf(err); r != pair.ReasonStaleRevision && r != pair.ReasonRemoved {
			return nil, err
		}
	}
	return nil, a.failure(ErrBusy, name)
}

// tries bounds how often a change that the witness itself has overtaken is decided anew.
const tries = 5

// ReplaceMirror puts another host in the mirror's place.
func (a adminService) ReplaceMirror(
	ctx context.Context, req *witnessv1.ReplaceMirrorRequest,
) (*witnessv1.ReplaceMirrorResponse, error) {
	member := named(req.GetMember())
	for what, name := range map[string]string{"host name": string(member.Host), "instance name": member.Instance} {
		if bad := checkName(what, name); bad != nil {
			return nil, a.refused(bad, req.GetPair())
		}
	}
	m, _, err := a.ask(ctx, req.GetPair(), req.GetBy(), "", Ask{
		Revision: pair.Revision(req.GetExpectedRevision()), Epoch: pair.Epoch(req.GetExpectedEpoch()),
		Wish: pair.WishCommand{Body: pair.ReplaceMirror{Member: member, By: req.GetBy()}},
	})
	if err != nil {
		return nil, err
	}
	return &witnessv1.ReplaceMirrorResponse{Pair: m}, nil
}

// RemovePair takes the pair out of the witness's care.
func (a adminService) RemovePair(
	ctx context.Context, req *witnessv1.RemovePairRequest,
) (*witnessv1.RemovePairResponse, error) {
	m, procedure, err := a.ask(ctx, req.GetPair(), req.GetBy(), req.GetReason(), Ask{
		Revision: pair.Revision(req.GetExpectedRevision()), Epoch: pair.Epoch(req.GetExpectedEpoch()),
		Wish: pair.WishRemove{HostOff: pair.HostID(req.GetHostOff()), By: req.GetBy(), Reason: req.GetReason()},
	})
	if err != nil {
		return nil, err
	}
	return &witnessv1.RemovePairResponse{Pair: m, Procedure: procedure}, nil
}

// AdoptPair speaks for a host whose epoch file is gone (rule R15).
func (a adminService) AdoptPair(
	ctx context.Context, req *witnessv1.AdoptPairRequest,
) (*witnessv1.AdoptPairResponse, error) {
	m, _, err := a.ask(ctx, req.GetPair(), req.GetBy(), "", Ask{
		Revision: pair.Revision(req.GetExpectedRevision()),
		Wish:     pair.WishSpeak{Host: pair.HostID(req.GetHost()), By: req.GetBy()},
	})
	if err != nil {
		return nil, err
	}
	return &witnessv1.AdoptPairResponse{Pair: m}, nil
}

// ListEvents returns a part of the history.
func (a adminService) ListEvents(
	ctx context.Context, req *witnessv1.ListEventsRequest,
) (*witnessv1.ListEventsResponse, error) {
	if !req.GetStale() {
		if err := a.group.Read(ctx); err != nil {
			return nil, a.failure(err, "")
		}
	}
	filter, err := a.filter(req.GetPair())
	if err != nil {
		return nil, err
	}
	filter.Limit = min(int(req.GetLimit()), maxEvents)
	if filter.Limit == 0 {
		filter.Limit = 100
	}
	filter.After, filter.Newest = req.GetAfter(), req.After == nil
	m := &witnessv1.ListEventsResponse{AsOf: a.asOf(req.GetStale())}
	for _, e := range a.ledger.Events(filter) {
		m.Events = append(m.Events, fromEvent(e))
	}
	m.Oldest, m.Newest = a.bounds()
	return m, nil
}

// filter chooses the events of a pair, also of one that was removed, by id or by its last name.
func (s *Server) filter(nameOrID string) (ledger.EventFilter, error) {
	if nameOrID == "" {
		return ledger.EventFilter{}, nil
	}
	if r, ok := s.recorded(nameOrID); ok {
		return ledger.EventFilter{Pair: r.ID}, nil
	}
	for _, e := range slices.Backward(s.ledger.Events(ledger.EventFilter{})) {
		if e.Fact.PairName == nameOrID {
			return ledger.EventFilter{Pair: e.Fact.Pair}, nil
		}
	}
	return ledger.EventFilter{}, s.failure(ErrUnknownPair, nameOrID)
}

// bounds are the sequences of the oldest and the newest event that there are.
func (s *Server) bounds() (oldest, newest uint64) {
	for _, e := range s.ledger.Events(ledger.EventFilter{Limit: 1}) {
		oldest = e.Sequence
	}
	for _, e := range s.ledger.Events(ledger.EventFilter{Limit: 1, Newest: true}) {
		newest = e.Sequence
	}
	return oldest, newest
}

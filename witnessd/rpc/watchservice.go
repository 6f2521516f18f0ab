package rpc

import (
	"context"
	"time"

	"google.golang.org/grpc"

	witnessv1 "github.com/witnessd/witnessd/proto/gen/witness/v1"
	"github.com/witnessd/witnessd/witnessd/ledger"
	"github.com/witnessd/witnessd/witnessd/pair"
)

const (
	// notice is how soon a stream of pairs, procedures or events shows a change.
	notice = 100 * time.Millisecond
	// refresh is how old what a stream of pairs shows of the agents can be.
	refresh = time.Second
)

// pace calls look at once, again soon after each change of the ledger, and at least every refresh, until the
// client leaves, look is through or fails, or this node stops.
func (s *Server) pace(ctx context.Context, look func(refreshed bool) (through bool, err error)) error {
	ticker := time.NewTicker(notice)
	defer ticker.Stop()
	var index uint64
	for rounds := 0; ; rounds++ {
		refreshed := rounds%int(refresh/notice) == 0
		if now := s.ledger.AppliedIndex(); refreshed || now != index {
			index = now
			if through, err := look(refreshed); through || err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-s.stopping:
			return s.stopped()
		case <-ticker.C:
		}
	}
}

// WatchPairs sends all pairs, then changes at once and everything every second. It ends with the office; the
// node that the client called then goes on with the next leader's.
func (a adminService) WatchPairs(
	req *witnessv1.WatchPairsRequest, stream grpc.ServerStreamingServer[witnessv1.WatchPairsResponse],
) error {
	ctx := stream.Context()
	reset := true
	shown := make(map[pair.ID]pair.Revision)
	name := req.GetPair()
	return a.pace(ctx, func(refreshed bool) (bool, error) {
		all, err := a.look(ctx, name)
		if err != nil {
			return true, err
		}
		if name != "" {
			name = string(all[0].Record.ID) // from here on that very pair, whatever will have its name
		}
		view := &witnessv1.WatchPairsResponse{Reset_: reset, AsOf: a.asOf(false)}
		reset = false
		for _, l := range all {
			r := l.Record
			before, known := shown[r.ID]
			switch {
			case r.Stage == pair.StageRemoved:
				if known {
					view.Removed = append(view.Removed, string(r.ID))
				}
				continue
			case refreshed || !known || before != r.Revision:
				view.Pairs = append(view.Pairs, fromLive(l, nil))
			}
		}
		view.Removed = append(view.Removed, vanished(shown, all)...)
		clear(shown)
		for _, l := range all {
			if l.Record.Stage != pair.StageRemoved {
				shown[l.Record.ID] = l.Record.Revision
			}
		}
		return false, sendView(stream, view)
	})
}

// vanished are the pairs that were shown and are not there any more.
func vanished(shown map[pair.ID]pair.Revision, all []Live) []string {
	there := make(map[pair.ID]bool, len(all))
	for _, l := range all {
		there[l.Record.ID] = true
	}
	var gone []string
	for id := range shown {
		if !there[id] {
			gone = append(gone, string(id))
		}
	}
	return gone
}

// sendView sends a view in messages of bounded size.
func sendView(
	stream grpc.ServerStreamingServer[witnessv1.WatchPairsResponse], view *witnessv1.WatchPairsResponse,
) error {
	for rest := view.Pairs; ; {
		n := min(len(rest), pairsAtOnce)
		view.Pairs, rest = rest[:n], rest[n:]
		view.Complete = len(rest) == 0
		if err := stream.Send(view); err != nil || view.Complete {
			return err
		}
		view = &witnessv1.WatchPairsResponse{AsOf: view.AsOf}
	}
}

// WatchEvents sends events as they happen, from this node's own ledger. A node that knows of no leader for
// long may be cut off, and says so instead of saying nothing.
func (a adminService) WatchEvents(
	req *witnessv1.WatchEventsRequest, stream grpc.ServerStreamingServer[witnessv1.WatchEventsResponse],
) error {
	filter, err := a.filter(req.GetPair())
	if err != nil {
		return err
	}
	oldest, newest := a.bounds()
	filter.After, filter.Limit = newest, maxEvents
	missed := false
	if req.After != nil {
		filter.After = req.GetAfter()
		missed = filter.After+1 < oldest
	}
	leaderless := 0
	first := true
	return a.pace(stream.Context(), func(refreshed bool) (bool, error) {
		if refreshed {
			if leaderless++; a.group.Leader() != "" {
				leaderless = 0
			} else if time.Duration(leaderless)*refresh > 2*patience {
				return true, a.refused(&pair.Refusal{Reason: reasonNoLeader,
					Detail: "node " + a.node + " knows of no leader and may have missed events",
					Do:     "go on with another node"}, "")
			}
		}
		for {
			_, newest := a.bounds()
			events := a.ledger.Events(filter)
			m := &witnessv1.WatchEventsResponse{Missed: missed, Through: max(newest, filter.After)}
			if len(events) == filter.Limit {
				m.Through = events[len(events)-1].Sequence
			}
			for _, e := range events {
				m.Events = append(m.Events, fromEvent(e))
				m.Through = max(m.Through, e.Sequence)
			}
			filter.After, missed = m.Through, false
			if len(events) > 0 || refreshed || first {
				if err := stream.Send(m); err != nil {
					return true, err
				}
			}
			if first = false; len(events) < filter.Limit {
				return false, nil
			}
		}
	})
}

// GetProcedure returns a procedure, under way or ended.
func (a adminService) GetProcedure(
	ctx context.Context, req *witnessv1.GetProcedureRequest,
) (*witnessv1.GetProcedureResponse, error) {
	state, err := a.procedure(ctx, req.GetProcedure())
	if err != nil {
		return nil, err
	}
	return &witnessv1.GetProcedureResponse{State: state}, nil
}

// WatchProcedure ends with the procedure's outcome, whichever leader comes to it (rule R13).
func (a adminService) WatchProcedure(
	req *witnessv1.WatchProcedureRequest, stream grpc.ServerStreamingServer[witnessv1.WatchProcedureResponse],
) error {
	step, waits := witnessv1.ProcedureStep(-1), ""
	return a.pace(stream.Context(), func(bool) (bool, error) {
		state, err := a.procedure(stream.Context(), req.GetProcedure())
		if err != nil {
			return true, err
		}
		through := state.GetOutcome() != nil
		if !through && state.GetProcedure().GetStep() == step && state.GetWaitsFor() == waits {
			return false, nil
		}
		step, waits = state.GetProcedure().GetStep(), state.GetWaitsFor()
		return through, stream.Send(&witnessv1.WatchProcedureResponse{State: state})
	})
}

// procedure finds a procedure in its pair's record or, if others have followed it, in the history.
func (s *Server) procedure(ctx context.Context, id string) (*witnessv1.ProcedureState, error) {
	unknown := s.refused(&pair.Refusal{Reason: pair.ReasonNoProcedure,
		Detail: "procedure " + id + " is not known", Do: "see the pair's events"}, "")
	if id == "" {
		return nil, unknown
	}
	if err := s.group.Read(ctx); err != nil {
		return nil, s.failure(err, "")
	}
	record, ended := s.procedureOf(id)
	if record.ID == "" {
		return nil, unknown
	}
	m := &witnessv1.ProcedureState{Pair: string(record.ID), PairName: record.Name, AsOf: s.asOf(false)}
	switch {
	case record.Procedure != nil && record.Procedure.ID == id:
		m.Procedure = fromProcedure(record.Procedure)
		one, err := s.one(ctx, string(record.ID))
		if err != nil {
			return nil, err
		}
		m.WaitsFor = waitsFor(one, id)
	case record.Last != nil && record.Last.Procedure.ID == id:
		m.Outcome = fromOutcome(record.Last)
		m.Procedure = m.Outcome.GetProcedure()
	case ended.Fact.Kind != "":
		m.Procedure = &witnessv1.Procedure{Id: id, Target: string(ended.Fact.Host), By: ended.Fact.By}
		m.Outcome = &witnessv1.Outcome{Procedure: m.Procedure, Detail: ended.Fact.Cause, Ended: timestamp(ended.At),
			Done: ended.Fact.Kind != pair.FactProcedureFailed}
	default:
		return nil, unknown
	}
	return m, nil
}

// procedureOf finds the pair of a procedure, and the event of its end if there is one.
func (s *Server) procedureOf(id string) (record pair.Record, ended ledger.Event) {
	for _, r := range s.ledger.Pairs() {
		if r.Procedure != nil && r.Procedure.ID == id || r.Last != nil && r.Last.Procedure.ID == id {
			return r, ended
		}
	}
	for _, e := range s.ledger.Events(ledger.EventFilter{}) {
		if e.Fact.Procedure != id {
			continue
		}
		record, _ = s.ledger.Pair(e.Fact.Pair)
		switch e.Fact.Kind {
		case pair.FactProcedureDone, pair.FactProcedureFailed, pair.FactRemoved:
			ended = e
		default:
		}
	}
	return record, ended
}

// waitsFor says what a procedure waits for, for people.
func waitsFor(l Live, id string) string {
	r := l.Record
	p := r.Procedure
	if p == nil || p.ID != id {
		return ""
	}
	switch p.Step {
	case pair.StepRelease:
		return string(r.Primary) + " stops and releases its epoch"
	case pair.StepWithhold:
		return "the leases of " + string(r.Primary) + " run out"
	case pair.StepFence:
		return "the fencing command cuts " + string(r.Primary) + " off"
	case pair.StepPromote:
		return string(r.Primary) + " begins to serve"
	case pair.StepUnmanage:
		return "the agent of " + string(r.Primary) + " lets go of its instance"
	default:
		return p.Step.String()
	}
}

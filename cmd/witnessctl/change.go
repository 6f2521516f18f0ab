package main

import (
	"cmp"
	"context"
	"errors"

	"google.golang.org/protobuf/proto"

	"github.com/witnessd/witnessd/cmd/witnessctl/endpoints"
	"github.com/witnessd/witnessd/cmd/witnessctl/view"
	witnessv1 "github.com/witnessd/witnessd/proto/gen/witness/v1"
)

// changed prints what became of a change that is done with its answer.
func (r *run) changed(answer interface {
	proto.Message
	GetPair() *witnessv1.Pair
}) error {
	return r.show(answer, func(view.View) string { return view.Line(answer.GetPair()) + "\n" })
}

// begun is a procedure that was started, by this command.
type begun struct {
	id     string
	pair   *witnessv1.Pair // as it was before
	kind   witnessv1.ProcedureKind
	answer proto.Message // nil if the answer got lost and the procedure was found again
}

// begin starts a procedure. The request names the pair by its id and the epoch that was read, so that it can
// be repeated with another node after a try whose answer got lost: at most one of them can succeed.
func (r *run) begin(
	ctx context.Context, b begun, reason string, start func() (id string, answer proto.Message, err error),
) (begun, error) {
	id, answer, err := start()
	if err == nil {
		b.id, b.answer = id, answer
		return b, nil
	}
	refusal, ok := errors.AsType[*endpoints.Refusal](err)
	if !ok || !refusal.Doubt {
		return b, err
	}
	// Refused perhaps because the earlier try was accepted.
	now, readErr := r.getPair(ctx, b.pair.GetId(), false)
	if readErr != nil {
		return b, err
	}
	for _, q := range []*witnessv1.Procedure{now.GetPair().GetProcedure(), now.GetPair().GetLast().GetProcedure()} {
		if q.GetKind() == b.kind && q.GetEpoch() == b.pair.GetEpoch() && q.GetBy() == r.globals.by &&
			q.GetReason() == reason {
			b.id = q.GetId()
			return b, nil
		}
	}
	return b, err
}

// carry waits for a procedure that was begun, or says how to.
func (r *run) carry(ctx context.Context, b begun, noWait bool) error {
	what := view.Kind(b.kind) + " of " + b.pair.GetName()
	if noWait {
		return r.show(cmp.Or[proto.Message](b.answer, &witnessv1.SwitchoverResponse{Procedure: b.id}),
			func(view.View) string {
				return what + " is under way: procedure " + b.id + "\nwatch it: witnessctl procedure wait " + b.id + "\n"
			})
	}
	if err := r.tell("%s: procedure %s\n", what, b.id); err != nil {
		return err
	}
	return r.wait(ctx, b.id, what, true)
}

package main

import (
	"cmp"
	"context"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/proto"

	"github.com/witnessd/witnessd/cmd/witnessctl/view"
	witnessv1 "github.com/witnessd/witnessd/proto/gen/witness/v1"
)

func (r *run) pairRemove() *cobra.Command {
	q := &witnessv1.RemovePairRequest{}
	var e expected
	var noWait bool
	cmd := &cobra.Command{
		Use: "remove NAME", Short: "take a pair out of the witness's care",
		Long: `Take a pair out of the witness's care. Its databases are left as they are, and its id is never used again.

It ends when the primary's agent has let go of its instance. If that agent does not answer, you must state
that its host is off, by typing its name or with --host-off.`,
		Args: names("NAME"), ValidArgsFunction: r.completePair,
	}
	cmd.RunE = r.does(func(ctx context.Context, args []string) error {
		q.ExpectedRevision = uint64(e.revision)
		b, err := r.remove(ctx, args[0], q, &e)
		if err != nil {
			return err
		}
		if b.id == "" {
			return r.show(b.answer, func(view.View) string { return b.pair.GetName() + " is removed\n" })
		}
		return r.carry(ctx, b, noWait)
	})
	cmd.Flags().StringVar(&q.HostOff, "host-off", "", "you state that this `host`, the primary, is off")
	reasonFlag(cmd.Flags(), &q.Reason)
	noWaitFlag(cmd.Flags(), &noWait)
	e.define(cmd.Flags())
	complete(cmd, "host-off", r.completeHost)
	return cmd
}

func (r *run) remove(ctx context.Context, name string, q *witnessv1.RemovePairRequest, e *expected) (begun, error) {
	a, err := r.getPair(ctx, name, false)
	if err != nil {
		return begun{}, err
	}
	p := a.GetPair()
	q.Pair, q.By, q.ExpectedEpoch = p.GetId(), r.globals.by, cmp.Or(e.epoch, p.GetEpoch())
	ask := func() (begun, error) {
		b := begun{pair: p, kind: witnessv1.ProcedureKind_PROCEDURE_KIND_REMOVE}
		return r.begin(ctx, b, q.GetReason(), func() (string, proto.Message, error) {
			a, err := admin(ctx, r, witnessv1.AdminServiceClient.RemovePair, q, e.again()...)
			return a.GetProcedure(), a, err
		})
	}
	b, err := ask()
	if !r.mayConfirm(err, q.GetHostOff()) {
		return b, err
	}
	if q.HostOff, err = r.confirmOff(ctx, err, p.GetPrimary()); err != nil {
		return b, err
	}
	return ask()
}

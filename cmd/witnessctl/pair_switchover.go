package main

import (
	"cmp"
	"context"
	"slices"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/proto"

	"github.com/witnessd/witnessd/cmd/witnessctl/view"
	witnessv1 "github.com/witnessd/witnessd/proto/gen/witness/v1"
)

func (r *run) pairSwitchover() *cobra.Command {
	q := &witnessv1.SwitchoverRequest{}
	var e expected
	var noWait, dry bool
	cmd := &cobra.Command{
		Use: "switchover NAME", Short: "make the mirror primary as planned, without loss",
		Long: `Make the mirror primary as planned. The primary stops and hands over when the mirror has everything; nothing
is lost. If it cannot be done, the primary goes on.

Each step is printed as it happens. The procedure does not depend on this command: interrupting it or losing
the node that it talks to changes nothing.`,
		Example: `  witnessctl pair switchover sales --reason "patch db1"`,
		Args:    names("NAME"), ValidArgsFunction: r.completePair,
	}
	cmd.RunE = r.does(func(ctx context.Context, args []string) error {
		a, err := r.getPair(ctx, args[0], false)
		if err != nil {
			return err
		}
		p := a.GetPair()
		if dry {
			return r.wouldSwitchOver(ctx, p.GetId())
		}
		q.Pair, q.By = p.GetId(), r.globals.by
		q.ExpectedRevision, q.ExpectedEpoch = uint64(e.revision), cmp.Or(e.epoch, p.GetEpoch())
		b := begun{pair: p, kind: witnessv1.ProcedureKind_PROCEDURE_KIND_SWITCHOVER}
		b, err = r.begin(ctx, b, q.GetReason(), func() (string, proto.Message, error) {
			a, err := admin(ctx, r, witnessv1.AdminServiceClient.Switchover, q, e.again()...)
			return a.GetProcedure(), a, err
		})
		if err != nil {
			return err
		}
		return r.carry(ctx, b, noWait)
	})
	cmd.Flags().StringVar(&q.Target, "to", "", "`host` that is to be primary (default: the mirror)")
	reasonFlag(cmd.Flags(), &q.Reason)
	noWaitFlag(cmd.Flags(), &noWait)
	cmd.Flags().BoolVar(&dry, "dry-run", false, "only say whether it could begin now, and what would move")
	e.define(cmd.Flags())
	complete(cmd, "to", r.completeHost)
	return cmd
}

// wouldSwitchOver answers the question that the witness asks itself first, and names what would move.
func (r *run) wouldSwitchOver(ctx context.Context, pair string) error {
	a, err := admin(ctx, r, witnessv1.AdminServiceClient.ExplainPair, &witnessv1.ExplainPairRequest{Pair: pair})
	if err != nil {
		return err
	}
	a.Verdicts = slices.DeleteFunc(a.GetVerdicts(), func(v *witnessv1.Verdict) bool {
		return v.GetAsked() != "SWITCHOVER"
	})
	if err := r.show(a, func(v view.View) string { return v.Explain(a) + v.Moves(a.GetPair()) }); err != nil {
		return err
	}
	if len(a.GetVerdicts()) == 0 || !a.GetVerdicts()[0].GetOk() {
		return notReady{}
	}
	return nil
}

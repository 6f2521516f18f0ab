package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/witnessd/witnessd/cmd/witnessctl/view"
	witnessv1 "github.com/witnessd/witnessd/proto/gen/witness/v1"
)

func (r *run) pairSet() *cobra.Command {
	q := &witnessv1.SetPolicyRequest{}
	var e expected
	var t timing
	cmd := &cobra.Command{
		Use: "set NAME --profile PROFILE", Short: "change the timing of a pair",
		Long: `Change the timing of a pair: to a profile, or single durations, of which those that are not given stay as they
are. The witness refuses relations between them that would break its guarantees.`,
		Args: names("NAME"), ValidArgsFunction: r.completePair,
	}
	cmd.RunE = r.does(func(ctx context.Context, args []string) error {
		q.Pair, q.By, q.Policy = args[0], r.globals.by, t.policy()
		if q.GetPolicy() == nil {
			return usagef("nothing to set: give --profile, or a duration")
		}
		q.ExpectedRevision, q.ExpectedEpoch = uint64(e.revision), e.epoch
		a, err := admin(ctx, r, witnessv1.AdminServiceClient.SetPolicy, q, e.again()...)
		if err != nil {
			return err
		}
		return r.show(a, func(v view.View) string { return view.Line(a.GetPair()) + "\n" + v.Policy(a.GetPair()) + "\n" })
	})
	t.define(cmd)
	e.define(cmd.Flags())
	return cmd
}

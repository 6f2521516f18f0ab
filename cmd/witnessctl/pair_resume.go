package main

import (
	"context"

	"github.com/spf13/cobra"

	witnessv1 "github.com/witnessd/witnessd/proto/gen/witness/v1"
)

func (r *run) pairResume() *cobra.Command {
	q := &witnessv1.ResumeRequest{}
	var e expected
	cmd := &cobra.Command{
		Use: "resume NAME", Short: "let the witness decide again",
		Long: `Let the witness decide again. The pair is armed once its primary has made sure that the mirror has
everything, which takes a moment: see pair watch.`,
		Args: names("NAME"), ValidArgsFunction: r.completePair,
	}
	cmd.RunE = r.does(func(ctx context.Context, args []string) error {
		q.Pair, q.By = args[0], r.globals.by
		q.ExpectedRevision, q.ExpectedEpoch = uint64(e.revision), e.epoch
		a, err := admin(ctx, r, witnessv1.AdminServiceClient.Resume, q, e.again()...)
		if err != nil {
			return err
		}
		return r.changed(a)
	})
	reasonFlag(cmd.Flags(), &q.Reason)
	e.define(cmd.Flags())
	return cmd
}

package main

import (
	"context"

	"github.com/spf13/cobra"

	witnessv1 "github.com/witnessd/witnessd/proto/gen/witness/v1"
)

func (r *run) pairPause() *cobra.Command {
	q := &witnessv1.PauseRequest{}
	var e expected
	var observe bool
	cmd := &cobra.Command{
		Use: "pause NAME --reason WHY", Short: "keep the witness from deciding by itself",
		Long: `Keep the witness from deciding by itself. The primary goes on without needing a lease, and nobody else becomes
primary unless an operator asks. With --observe the events say what would have been done.

A pause lasts until pair resume; the reason is shown in pair list.`,
		Args: names("NAME"), ValidArgsFunction: r.completePair,
	}
	cmd.RunE = r.does(func(ctx context.Context, args []string) error {
		if q.GetReason() == "" {
			return usagef("a pause needs --reason: whoever is on call next will ask")
		}
		q.Pair, q.By, q.Mode = args[0], r.globals.by, witnessv1.Mode_MODE_MANUAL
		if observe {
			q.Mode = witnessv1.Mode_MODE_OBSERVE
		}
		q.ExpectedRevision, q.ExpectedEpoch = uint64(e.revision), e.epoch
		a, err := admin(ctx, r, witnessv1.AdminServiceClient.Pause, q, e.again()...)
		if err != nil {
			return err
		}
		return r.changed(a)
	})
	cmd.Flags().BoolVar(&observe, "observe", false, "say in the events what would have been done")
	reasonFlag(cmd.Flags(), &q.Reason)
	e.define(cmd.Flags())
	return cmd
}

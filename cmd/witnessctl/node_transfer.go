package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/witnessd/witnessd/cmd/witnessctl/view"
	witnessv1 "github.com/witnessd/witnessd/proto/gen/witness/v1"
)

func (r *run) nodeTransfer() *cobra.Command {
	q := &witnessv1.TransferLeadershipRequest{}
	cmd := &cobra.Command{
		Use: "transfer", Short: "make another node the leader, before the present one is stopped",
		Long: `Make another node the leader, for instance before the present one is upgraded. No pair notices.`,
		Args: names(), ValidArgsFunction: cobra.NoFileCompletions,
	}
	cmd.RunE = r.does(func(ctx context.Context, _ []string) error {
		a, err := nodeCall(ctx, r, witnessv1.WitnessServiceClient.TransferLeadership, q)
		if err != nil {
			return err
		}
		return r.show(a, func(view.View) string {
			if a.GetLeader() == "" {
				return "the leader gave its office up; who leads now is not known yet: witnessctl status\n"
			}
			return fmt.Sprintf("%s leads\n", a.GetLeader())
		})
	})
	cmd.Flags().StringVar(&q.To, "to", "", "`node` that is to lead (default: the one with the newest log)")
	complete(cmd, "to", r.completeNode)
	return cmd
}

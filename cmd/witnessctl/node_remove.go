package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/witnessd/witnessd/cmd/witnessctl/view"
	witnessv1 "github.com/witnessd/witnessd/proto/gen/witness/v1"
)

func (r *run) nodeRemove() *cobra.Command {
	cmd := &cobra.Command{
		Use: "remove ID", Short: "take a node out of the witness, for good",
		Long: `Take a node out of the witness, for good: before it comes back its data directory must be emptied. To replace
a dead node, add its successor first.`,
		Args: names("ID"), ValidArgsFunction: r.completeNode,
	}
	cmd.RunE = r.does(func(ctx context.Context, args []string) error {
		r.patient()
		a, err := nodeCall(ctx, r, witnessv1.WitnessServiceClient.RemoveNode, &witnessv1.RemoveNodeRequest{Id: args[0]})
		if err != nil {
			return err
		}
		return r.show(a, func(view.View) string { return fmt.Sprintf("%s is no part of the witness\n", args[0]) })
	})
	return cmd
}

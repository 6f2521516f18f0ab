package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/witnessd/witnessd/cmd/witnessctl/view"
	witnessv1 "github.com/witnessd/witnessd/proto/gen/witness/v1"
)

func (r *run) procedureShow() *cobra.Command {
	cmd := &cobra.Command{
		Use: "show ID", Short: "show what a procedure does, or how it ended",
		Args: names("ID"), ValidArgsFunction: r.completeProcedure,
	}
	cmd.RunE = r.does(func(ctx context.Context, args []string) error {
		a, err := admin(ctx, r, witnessv1.AdminServiceClient.GetProcedure,
			&witnessv1.GetProcedureRequest{Procedure: args[0]})
		if err != nil {
			return err
		}
		return r.show(a, func(v view.View) string { return v.Procedure(a.GetState()) })
	})
	return cmd
}

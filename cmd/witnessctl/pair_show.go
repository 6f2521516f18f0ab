package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/witnessd/witnessd/cmd/witnessctl/view"
	witnessv1 "github.com/witnessd/witnessd/proto/gen/witness/v1"
)

func (r *run) pairShow() *cobra.Command {
	var stale bool
	cmd := &cobra.Command{
		Use: "show NAME", Short: "show one pair: what is recorded, and what its hosts report",
		Long: `Show one pair: the record of the witness, beside it what each host reports of itself and how old that is,
and whether the pair would fail over if the primary were lost now.`,
		Args: names("NAME"), ValidArgsFunction: r.completePair,
	}
	cmd.RunE = r.does(func(ctx context.Context, args []string) error {
		a, err := r.getPair(ctx, args[0], stale)
		if err != nil {
			return err
		}
		return r.show(a, func(v view.View) string { return v.Show(a.GetPair()) })
	})
	staleFlag(cmd.Flags(), &stale)
	return cmd
}

func (r *run) getPair(ctx context.Context, name string, stale bool) (*witnessv1.GetPairResponse, error) {
	return admin(ctx, r, witnessv1.AdminServiceClient.GetPair, &witnessv1.GetPairRequest{Pair: name, Stale: stale})
}

package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/witnessd/witnessd/cmd/witnessctl/endpoints"
	"github.com/witnessd/witnessd/cmd/witnessctl/view"
	witnessv1 "github.com/witnessd/witnessd/proto/gen/witness/v1"
)

func (r *run) status() *cobra.Command {
	q := &witnessv1.GetStatusRequest{}
	cmd := &cobra.Command{
		Use: "status", Short: "show the witness itself: its nodes, its leader, what may still fail",
		Long: `Show the witness itself: its nodes, its leader, and how many more nodes may fail before nothing can be decided.
The exit code is 4 if no node knows of a leader; what the first node knows is shown all the same.`,
		Args: names(), ValidArgsFunction: cobra.NoFileCompletions,
	}
	cmd.RunE = r.does(func(ctx context.Context, _ []string) error {
		nodes, err := r.witness()
		if err != nil {
			return err
		}
		a, err := nodeCall(ctx, r, witnessv1.WitnessServiceClient.GetStatus, q)
		if err != nil {
			return err
		}
		alone := q.GetLocal()
		if a.GetLeader() == "" && !alone {
			a, alone = r.anotherView(ctx, nodes, a)
		}
		if err := r.show(a, func(v view.View) string { return v.Status(a, alone) }); err != nil {
			return err
		}
		if view.Outside(a) {
			return &outside{a.GetNode()}
		}
		if a.GetLeader() == "" {
			return &endpoints.Unanswered{NoLeader: true,
				Tries: []endpoints.Try{{Endpoint: a.GetNode(), Why: "knows of no leader"}}}
		}
		return nil
	})
	staleFlag(cmd.Flags(), &q.Local)
	return cmd
}

// anotherView asks the other nodes, of which one may know of a leader that this one is cut off from. Alone is
// the view of a node that has not asked the others.
func (r *run) anotherView(
	ctx context.Context, nodes *endpoints.Set, mine *witnessv1.GetStatusResponse,
) (_ *witnessv1.GetStatusResponse, alone bool) {
	for range len(nodes.Addresses()) - 1 {
		nodes.Next()
		a, err := nodeCall(ctx, r, witnessv1.WitnessServiceClient.GetStatus, &witnessv1.GetStatusRequest{Local: true})
		if err == nil && a.GetLeader() != "" {
			if full, err := nodeCall(ctx, r, witnessv1.WitnessServiceClient.GetStatus,
				&witnessv1.GetStatusRequest{}); err == nil && full.GetLeader() != "" {
				return full, false
			}
			return a, true
		}
	}
	return mine, false
}

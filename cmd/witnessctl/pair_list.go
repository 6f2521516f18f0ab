package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/witnessd/witnessd/cmd/witnessctl/view"
	witnessv1 "github.com/witnessd/witnessd/proto/gen/witness/v1"
)

func (r *run) pairList() *cobra.Command {
	q := &witnessv1.ListPairsRequest{}
	cmd := &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "show all pairs on one screen, problems first",
		Long: `Show all pairs on one screen. What wants a person comes first and has a "!".

STATE is one word, the worst that is known of a pair:
  TWO PRIMARIES       both hosts say that they serve: stop one of them now
  no primary serving  the primary's agent is heard, and lets no client write
  primary silent      the primary's agent is not heard by the witness
  restored            after a restore of the witness: waits for the epoch files of both agents
  exposed             the primary commits alone: its mirror is gone or behind
  not ready           the right is leased, but something else keeps a failover from happening
  forming             new: waits for both agents
  failing over, switching over, forced failover, reinstating, removing   a procedure is under way
  paused, observing   nothing is decided without an operator
  armed               the mirror takes over if the primary is lost

LAG is how far the mirror is behind: synced means that commits are held for it. AGE is that of the older
of the two hosts' reports. A "!" after a host says that its agent has not been heard for a lease.`,
		Args: names(), ValidArgsFunction: cobra.NoFileCompletions,
	}
	cmd.RunE = r.does(func(ctx context.Context, _ []string) error {
		a, err := admin(ctx, r, witnessv1.AdminServiceClient.ListPairs, q)
		if err != nil {
			return err
		}
		return r.show(a, func(v view.View) string { return v.List(a.GetPairs(), a.GetAsOf()) })
	})
	staleFlag(cmd.Flags(), &q.Stale)
	return cmd
}

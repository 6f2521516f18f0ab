package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/witnessd/witnessd/cmd/witnessctl/view"
	witnessv1 "github.com/witnessd/witnessd/proto/gen/witness/v1"
)

func (r *run) nodeAdd() *cobra.Command {
	q := &witnessv1.AddNodeRequest{}
	cmd := &cobra.Command{
		Use: "add ID --raft HOST:PORT --api HOST:PORT", Short: "take a started, empty node into the witness",
		Long: `Take a node into the witness. Its process must be running with an empty data directory. Agents and witnessctl
learn of it by themselves; add its endpoint to their configurations for their next start.`,
		Args: names("ID"), ValidArgsFunction: cobra.NoFileCompletions,
	}
	cmd.RunE = r.does(func(ctx context.Context, args []string) error {
		q.Id = args[0]
		if q.GetRaftAddress() == "" || q.GetApiAddress() == "" {
			return usagef("say where the node listens: --raft host:port and --api host:port")
		}
		r.patient()
		a, err := nodeCall(ctx, r, witnessv1.WitnessServiceClient.AddNode, q)
		if err != nil {
			return err
		}
		return r.show(a, func(view.View) string { return fmt.Sprintf("%s has a vote\n", q.GetId()) })
	})
	cmd.Flags().StringVar(&q.RaftAddress, "raft", "", "`host:port` where the other nodes reach it")
	cmd.Flags().StringVar(&q.ApiAddress, "api", "", "`host:port` of its API")
	return cmd
}

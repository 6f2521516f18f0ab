package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/witnessd/witnessd/cmd/witnessctl/view"
	witnessv1 "github.com/witnessd/witnessd/proto/gen/witness/v1"
)

func (r *run) pairExplain() *cobra.Command {
	var code bool
	cmd := &cobra.Command{
		Use: "explain NAME", Short: "say whether a pair would fail over, and why not",
		Long: `Say what the witness would do with a pair now: every precondition of every decision, whether it holds, and
the values and limits that decide it.

  pass   it holds
  wait   a healthy primary keeps it from holding; losing the primary makes it hold
  FAIL   it does not hold: this is why the answer is no`,
		Example: `  witnessctl pair explain sales --exit-code >/dev/null || echo "sales would not fail over"`,
		Args:    names("NAME"), ValidArgsFunction: r.completePair,
	}
	cmd.RunE = r.does(func(ctx context.Context, args []string) error {
		a, err := admin(ctx, r, witnessv1.AdminServiceClient.ExplainPair, &witnessv1.ExplainPairRequest{Pair: args[0]})
		if err != nil {
			return err
		}
		if err := r.show(a, func(v view.View) string { return v.Explain(a) }); err != nil {
			return err
		}
		if code && !ready(a) {
			return notReady{}
		}
		return nil
	})
	cmd.Flags().BoolVar(&code, "exit-code", false, "exit with 3 if the first answer is no, for scripts and monitoring")
	return cmd
}

// ready: the first question, which for a pair that works is automatic failover, could be answered yes.
func ready(a *witnessv1.ExplainPairResponse) bool {
	return len(a.GetVerdicts()) > 0 && a.GetVerdicts()[0].GetReady()
}

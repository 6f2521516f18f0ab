package main

import (
	"context"

	"github.com/spf13/cobra"
)

func (r *run) procedureWait() *cobra.Command {
	cmd := &cobra.Command{
		Use: "wait ID", Short: "print the steps of a procedure until it has ended",
		Long: `Print the steps of a procedure until it has ended, as the command that started it does. The exit code is 0 if
it did what it was for, and 5 if not.`,
		Args: names("ID"), ValidArgsFunction: r.completeProcedure,
	}
	cmd.RunE = r.does(func(ctx context.Context, args []string) error {
		return r.wait(ctx, args[0], "procedure "+args[0], false)
	})
	return cmd
}

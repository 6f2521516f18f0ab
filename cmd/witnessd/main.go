// Command witnessd is one node of the witness: three of them decide together which host of a pair may serve.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

// Exit codes, documented in docs/operations.md.
const (
	exitFailed = 1
	exitConfig = 2
	// exitDisk: the disk hangs or fails. A supervisor may start the node again at once.
	exitDisk = 75
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	err := root().ExecuteContext(ctx)
	if err == nil {
		return
	}
	fmt.Fprintln(os.Stderr, "witnessd:", err)
	stop()
	os.Exit(exitCode(err))
}

func exitCode(err error) int {
	if _, ok := errors.AsType[*configError](err); ok {
		return exitConfig
	}
	return exitFailed
}

func root() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "witnessd",
		Short: "One node of a witness for automatic failover of database pairs",
		Long: `witnessd is one of the three (or five) nodes of a witness. Together they decide, for any number of
database pairs, which host may serve.

Exit codes: 0 stopped when told to, 1 failed, 2 wrong usage or configuration,
75 the node's disk hangs or fails: start it again, and look at the disk.`,
		SilenceUsage:  true,
		SilenceErrors: true,
		Args: usage(func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return fmt.Errorf("there is no command %q; see witnessd --help", args[0])
			}
			return nil
		}),
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return &configError{err} })
	cmd.AddCommand(runCommand(), configCommand(), restoreCommand(), versionCommand())
	return cmd
}

// usage makes what is wrong with the arguments the caller's to mend.
func usage(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if err := check(cmd, args); err != nil {
			return &configError{err}
		}
		return nil
	}
}

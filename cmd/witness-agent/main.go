// Command witness-agent runs on every database host: it keeps the right to serve, and acts on it.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/witnessd/witnessd/agent"
)

// Exit codes, documented in docs/operations.md. 1 is any other failure.
const (
	exitFailed = 1
	exitConfig = 2
	// exitUnsafe: the agent could no longer keep a promise over a restart (its disk failed) and has fenced.
	exitUnsafe = 70
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	err := root().ExecuteContext(ctx)
	if err == nil {
		return
	}
	fmt.Fprintln(os.Stderr, "witness-agent:", err)
	stop()
	os.Exit(exitCode(err))
}

func exitCode(err error) int {
	var bad *configError
	switch {
	case errors.Is(err, agent.ErrUnsafe):
		return exitUnsafe
	case errors.As(err, &bad):
		return exitConfig
	default:
		return exitFailed
	}
}

func root() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "witness-agent",
		Short: "Keeps the right to serve of this host's databases, and acts on it",
		Long: `witness-agent runs on each host of a pair. It reports to the witness, asks for leases, tells the
database to follow, to take over or to stop, and ends its service when the right to serve ends.

Exit codes: 0 done, 1 failed, 2 wrong usage or configuration,
70 the agent's own disk failed and its databases were fenced.`,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	cmd.AddCommand(runCommand(), doctorCommand(), fenceCommand(), configCommand(), versionCommand())
	cmd.AddCommand(serviceCommands()...)
	return cmd
}

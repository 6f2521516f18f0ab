package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime"
	"slices"

	"github.com/spf13/cobra"

	"github.com/witnessd/witnessd/agent"
)

// configError marks what the user must mend in the configuration.
type configError struct{ err error }

func (e *configError) Error() string { return e.err.Error() }
func (e *configError) Unwrap() error { return e.err }

func runCommand() *cobra.Command {
	var path string
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Run the agent until it is told to stop",
		Long: `Run the agent until SIGTERM or SIGINT. Databases are then left as they are, for the next start to take
over: start it again within one lease, or pause the pair before.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runAgent(cmd.Context(), path, cmd.ErrOrStderr())
		},
	}
	cmd.Flags().StringVar(&path, "config", defaultConfig, "configuration file")
	return cmd
}

// runAgent runs the agent of a configuration until ctx ends.
func runAgent(ctx context.Context, path string, logs io.Writer) error {
	c, err := agent.LoadConfig(path)
	if err != nil {
		return &configError{err}
	}
	log, err := newLogger(logs, c.Log)
	if err != nil {
		return &configError{err}
	}
	giveGatesRoom(c)
	a, err := agent.New(c, agent.Options{Logger: log, Version: version(), StartGuard: guardian(path)})
	if err != nil {
		return err
	}
	return a.Run(ctx)
}

// giveGatesRoom lets the scheduler run more than there are processors, unless the administrator has set GOMAXPROCS: a
// gate's thread that waits for bytes holds one of them, and neither leases nor other gates shall wait for it.
func giveGatesRoom(c agent.Config) {
	gated := slices.ContainsFunc(c.Instances, func(i agent.Instance) bool { return i.Gate.Listen != "" })
	if gated && os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(2 * runtime.GOMAXPROCS(0))
	}
}

func newLogger(w io.Writer, c agent.Log) (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.Level)); err != nil {
		return nil, fmt.Errorf("log.level (%q) must be debug, info, warn or error", c.Level)
	}
	opts := &slog.HandlerOptions{Level: level}
	switch c.Format {
	case "json":
		return slog.New(slog.NewJSONHandler(w, opts)), nil
	case "text":
		return slog.New(slog.NewTextHandler(w, opts)), nil
	default:
		return nil, fmt.Errorf("log.format (%q) must be text or json", c.Format)
	}
}

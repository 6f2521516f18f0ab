package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/witnessd/witnessd/witnessd"
)

// defaultConfig is where packages install the configuration.
const defaultConfig = "/etc/witnessd/witnessd.yaml"

// configError marks what the user must mend on the command line or in the configuration.
type configError struct{ err error }

func (e *configError) Error() string { return e.err.Error() }
func (e *configError) Unwrap() error { return e.err }

func load(path string) (witnessd.Config, error) {
	c, err := witnessd.LoadConfig(path)
	if err != nil {
		return c, &configError{err}
	}
	return c, nil
}

func runCommand() *cobra.Command {
	var path string
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Run this node until it is told to stop",
		Long: `Run this node until SIGTERM or SIGINT. A node that leads hands over to another one first, so that
nobody notices: restart the nodes one after the other, each when the one before is back.`,
		Args: usage(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := load(path)
			if err != nil {
				return err
			}
			n, err := witnessd.New(c, witnessd.Options{
				Log: witnessd.NewLogger(cmd.ErrOrStderr(), c.Log), Version: witnessd.Version(), OnFault: fault,
			})
			if err != nil {
				return err
			}
			return n.Run(cmd.Context())
		},
	}
	cmd.Flags().StringVar(&path, "config", defaultConfig, "configuration file")
	return cmd
}

// fault ends the process without closing anything: what would be waited for is what hangs.
func fault(err error) {
	fmt.Fprintln(os.Stderr, "witnessd: this node must not go on:", err)
	os.Exit(exitDisk)
}

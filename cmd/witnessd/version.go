package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/witnessd/witnessd/witnessd"
)

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version of this program",
		Args:  usage(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprintln(cmd.OutOrStdout(), "witnessd", witnessd.Version())
			return err
		},
	}
}

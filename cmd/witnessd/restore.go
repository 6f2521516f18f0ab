package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/witnessd/witnessd/witnessd"
)

func restoreCommand() *cobra.Command {
	var path, snapshot string
	cmd := &cobra.Command{
		Use:   "restore --snapshot FILE",
		Short: "Make the first node of a new witness from a backup",
		Long: `Make the first node of a new witness from a backup that "witnessctl snapshot" wrote, after all nodes
of the old witness were lost. Make sure that none of them runs any more.

The data directory must be empty. Start this node afterwards; it leads alone. Then start the other nodes
with empty data directories and "join: true", and add each with "witnessctl node add".

A restored witness may have forgotten failovers. It therefore decides nothing for a pair until one longest
lease has passed and both agents have reported what they remember; see "witnessctl pair explain".`,
		Args: usage(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if snapshot == "" {
				return &configError{errors.New("name the backup with --snapshot FILE")}
			}
			c, err := load(path)
			if err != nil {
				return err
			}
			file, err := os.Open(snapshot)
			if err != nil {
				return fmt.Errorf("open the backup: %w", err)
			}
			defer file.Close()
			r, err := witnessd.Restore(c, file, witnessd.NewLogger(cmd.ErrOrStderr(), c.Log))
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "restored %d pairs into %s, generation %d\n",
				r.Pairs, c.DataDir, r.Generation)
			return err
		},
	}
	cmd.Flags().StringVar(&path, "config", defaultConfig, "configuration file")
	cmd.Flags().StringVar(&snapshot, "snapshot", "", "backup to restore")
	return cmd
}

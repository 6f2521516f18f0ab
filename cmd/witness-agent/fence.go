package main

import (
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/witnessd/witnessd/agent"
)

func fenceCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "fence", Short: "Look at this host's fence, take it away, or leave it to itself"}
	cmd.AddCommand(fenceShowCommand(), fenceRemoveCommand(), fenceAtEndCommand(), fenceGuardCommand())
	return cmd
}

func fenceShowCommand() *cobra.Command {
	var path string
	cmd := &cobra.Command{
		Use:   "show",
		Short: "Print what the kernel lets through now",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := agent.LoadConfig(path)
			if err != nil {
				return &configError{err}
			}
			shown, err := agent.ShowFence(c)
			if err != nil {
				return err
			}
			if len(shown) == 0 {
				_, err := fmt.Fprintln(cmd.OutOrStdout(), "no instance is in a pair: nothing is fenced")
				return err
			}
			t := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
			_, _ = fmt.Fprintln(t, "INSTANCE\tPORT\tCLIENTS\tFOR")
			for _, s := range shown {
				_, _ = fmt.Fprintf(t, "%s\t%d\t%s\t%s\n", s.Instance, s.Port, s.Clients, s.Left)
			}
			return t.Flush()
		},
	}
	cmd.Flags().StringVar(&path, "config", defaultConfig, "configuration file")
	return cmd
}

func fenceRemoveCommand() *cobra.Command {
	var path string
	var yes bool
	cmd := &cobra.Command{
		Use:   "remove",
		Short: "Take the kernel's fence away (uninstall)",
		Long: `Take the nftables table of this host's agent away, so that its databases' ports are open to everybody again.
Stop the agent before; it would put the fence back. Remove the host's pairs before (witnessctl pair remove): a
database that is still in a pair and has no right to serve would be opened, which --yes asks for all the same.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := agent.LoadConfig(path)
			if err != nil {
				return &configError{err}
			}
			if err := agent.RemoveFence(c, yes); err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "table %s is gone\n", c.Fence.Table)
			return err
		},
	}
	cmd.Flags().StringVar(&path, "config", defaultConfig, "configuration file")
	cmd.Flags().BoolVar(&yes, "yes", false, "also where a pair's database may be opened without a right")
	return cmd
}

func fenceAtEndCommand() *cobra.Command {
	var path string
	var wait bool
	cmd := &cobra.Command{
		Use:   "at-end",
		Short: "End service when the right of an agent that has ended runs out",
		Long: `End the service of this host's databases when the right that an agent has left behind runs out, unless an agent
runs again by then. The unit runs this after each end of the agent (ExecStopPost). It leaves a process behind that
waits, and returns at once; with --wait it waits itself.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := agent.LoadConfig(path)
			if err != nil {
				return &configError{err}
			}
			if !wait {
				return leaveBehind(path, "fence", "at-end", "--wait") // which has no other directory than the root
			}
			log, err := newLogger(cmd.ErrOrStderr(), c.Log)
			if err != nil {
				return &configError{err}
			}
			return agent.AtEnd(cmd.Context(), c, agent.Options{Logger: log.With(slog.String("command", "fence at-end"))})
		},
	}
	cmd.Flags().StringVar(&path, "config", defaultConfig, "configuration file")
	cmd.Flags().BoolVar(&wait, "wait", false, "wait here")
	return cmd
}

func fenceGuardCommand() *cobra.Command {
	var path string
	cmd := &cobra.Command{
		Use:   "guard",
		Short: "End service whenever a right has run out that nobody renews",
		Long: `End the service of this host's databases whenever their right has run out and the agent has not ended it
itself: because it was killed, or is frozen. On Windows the agent starts this by itself, beside it; elsewhere the
kernel's fence, or systemd with fence at-end, does better. It ends when for a minute no agent was there.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := agent.LoadConfig(path)
			if err != nil {
				return &configError{err}
			}
			log, err := newLogger(cmd.ErrOrStderr(), c.Log)
			if err != nil {
				return &configError{err}
			}
			return agent.Guard(cmd.Context(), c, agent.Options{Logger: log.With(slog.String("command", "fence guard"))})
		},
	}
	cmd.Flags().StringVar(&path, "config", defaultConfig, "configuration file")
	return cmd
}

// leaveBehind starts this program with other words, in a group of its own, so that what ends the unit's main process
// and what is sent to a terminal's group does not end it too.
func leaveBehind(config string, words ...string) error {
	config, err := filepath.Abs(config)
	if err != nil {
		return fmt.Errorf("find the configuration: %w", err)
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	//nolint:noctx // It outlives this process.
	cmd := exec.Command(self, append(words, "--config", config)...)
	cmd.Dir, cmd.Stderr = filepath.VolumeName(self)+string(filepath.Separator), os.Stderr
	cmd.SysProcAttr = apart()
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start a process that ends service when this one cannot: %w", err)
	}
	return cmd.Process.Release()
}

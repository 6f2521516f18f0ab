package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/witnessd/witnessd/agent"
)

func doctorCommand() *cobra.Command {
	var path, output string
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Look whether the agent works on this host, and how strong its fence is",
		Long: `Look whether the agent works on this host with this configuration: directories, epoch files, the fence of the
kernel (tried for a second on a spare port with a table of its own), gates, watchdog, and the way to the witness.
Nothing that an agent or a database uses is changed; it may be run beside a running agent, as the same user.

Exit codes: 0 all good or weak, 1 something is bad, 2 wrong usage or configuration.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := agent.LoadConfig(path)
			if err != nil {
				return &configError{err}
			}
			return report(cmd.Context(), cmd.OutOrStdout(), c, output)
		},
	}
	cmd.Flags().StringVar(&path, "config", defaultConfig, "configuration file")
	cmd.Flags().StringVarP(&output, "output", "o", "table", "table or json")
	return cmd
}

func report(ctx context.Context, w io.Writer, c agent.Config, output string) error {
	if output != "table" && output != "json" {
		return &configError{fmt.Errorf("--output (%q) must be table or json", output)}
	}
	found := agent.Doctor(ctx, c)
	show := printTable
	if output == "json" {
		show = printJSON
	}
	if err := show(w, found); err != nil {
		return err
	}
	for _, f := range found {
		if f.Result == agent.Bad {
			return errors.New("the agent does not work like this; see what is marked BAD")
		}
	}
	return nil
}

func printTable(w io.Writer, found []agent.Finding) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, f := range found {
		_, _ = fmt.Fprintf(t, "%s\t%s\t%s\n", f.Check, strings.ToUpper(string(f.Result)), f.Detail)
		if f.Do != "" {
			_, _ = fmt.Fprintf(t, "\t\t-> %s\n", f.Do)
		}
	}
	return t.Flush()
}

func printJSON(w io.Writer, found []agent.Finding) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(found)
}

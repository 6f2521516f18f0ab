package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/witnessd/witnessd/agent"
)

type doctorFlags struct {
	config, output string
	json           bool
	partners       []string
	fix, dryRun    bool
}

func doctorCommand() *cobra.Command {
	var flags doctorFlags
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Look whether the agent and its databases work on this host, and how strong the fence is",
		Long: `Look whether the agent works on this host with this configuration: directories, epoch files, the fence of the
kernel (tried for a second on a spare port with a table of its own), gates, watchdog, and the way to the witness; and
whether each PostgreSQL instance has what a pair needs, also seen from its partner's (--partner, or as the epoch file
knows it). Nothing that an agent or a database uses is changed; it may be run beside a running agent, as the same user.

With --fix it first does what it may do without asking, and says each thing that it did: the replication role, its
rights and its password file, lines of pg_hba.conf at the end, settings in a file of its own that the configuration
includes, Debian's start.conf, missing directories. It reloads a server and never restarts one. --fix --dry-run says
what it would do.

Exit codes: 0 all good or weak, 1 something is bad, 2 wrong usage or configuration.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := agent.LoadConfig(flags.config)
			if err != nil {
				return &configError{err}
			}
			return flags.report(cmd.Context(), cmd.OutOrStdout(), c)
		},
	}
	cmd.Flags().StringVar(&flags.config, "config", defaultConfig, "configuration file")
	cmd.Flags().StringVarP(&flags.output, "output", "o", "table", "table or json")
	cmd.Flags().BoolVar(&flags.json, "json", false, "the same as --output json")
	cmd.Flags().StringArrayVar(&flags.partners, "partner", nil,
		"address of the partner's database, host:port; INSTANCE=host:port where there are several instances")
	cmd.Flags().BoolVar(&flags.fix, "fix", false, "do what can be done without asking, and say it")
	cmd.Flags().BoolVar(&flags.dryRun, "dry-run", false, "with --fix: only say what it would do")
	return cmd
}

// options checks what was given on the command line.
func (f doctorFlags) options(c agent.Config) (agent.DoctorOptions, error) {
	options := agent.DoctorOptions{Partners: map[string]string{}, Fix: f.fix, DryRun: f.dryRun}
	if f.dryRun && !f.fix {
		return options, errors.New("--dry-run goes with --fix")
	}
	known := map[string]bool{"": true}
	for _, i := range c.Instances {
		known[i.Name] = true
	}
	for _, p := range f.partners {
		instance, address, named := strings.Cut(p, "=")
		if !named {
			instance, address = "", p
		}
		if !known[instance] {
			return options, fmt.Errorf("--partner %s: there is no instance %q", p, instance)
		}
		if !named && len(c.Instances) > 1 {
			return options, fmt.Errorf("--partner %s: there are several instances; say INSTANCE=host:port", p)
		}
		if host, port, err := net.SplitHostPort(address); err != nil || host == "" || port == "" {
			return options, fmt.Errorf("--partner %s: %q must be host:port", p, address)
		}
		options.Partners[instance] = address
	}
	return options, nil
}

func (f doctorFlags) report(ctx context.Context, w io.Writer, c agent.Config) error {
	if f.json {
		f.output = "json"
	}
	if f.output != "table" && f.output != "json" {
		return &configError{fmt.Errorf("--output (%q) must be table or json", f.output)}
	}
	options, err := f.options(c)
	if err != nil {
		return &configError{err}
	}
	found := agent.Doctor(ctx, c, options)
	show := printTable
	if f.output == "json" {
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

package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

const program = "witnessctl"

const about = `witnessctl shows the pairs of databases that a witness looks after, says whether each would fail
over and why not, and asks for what only a person may ask.

Name the nodes of the witness with --endpoint, in WITNESS_ENDPOINTS or in ~/.config/witnessctl.yaml.
Each of them takes every call; the others are tried when one is down.`

const examples = `  witnessctl pair list
  witnessctl pair explain sales
  witnessctl pair switchover sales --reason "patch db1"
  witnessctl pair list -o json | jq '.pairs[] | select(.failover_ready | not) | .name'`

// root is the tree of commands.
func (r *run) root() *cobra.Command {
	cmd := &cobra.Command{
		Use: program, Short: "speak to the witness of database pairs",
		Long: about + "\n\n" + exitCodesHelp(), Example: examples,
		SilenceUsage: true, SilenceErrors: true,
		Args: cobra.ArbitraryArgs,
	}
	version := cmd.Flags().Bool("version", false, "print the version of witnessctl")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if *version && len(args) == 0 {
			return r.does(r.printVersion)(cmd, args)
		}
		return missingVerb(cmd, args)
	}
	r.globals.define(cmd.PersistentFlags())
	cmd.AddCommand(r.pair(), r.procedure(), r.events(), r.status(), r.node(), r.snapshot(), r.version())
	complete(cmd, "output", cobra.FixedCompletions([]string{outputTable, outputJSON, outputYAML},
		cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// group is a noun whose verbs do the work.
func group(use, short, long string, verbs ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{Use: use, Short: short, Long: long, Args: cobra.ArbitraryArgs, RunE: missingVerb}
	cmd.AddCommand(verbs...)
	return cmd
}

// missingVerb is what a noun does without one: say which there are.
func missingVerb(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		if err := cmd.Help(); err != nil {
			return err
		}
		return fmt.Errorf("%s needs a command", cmd.CommandPath())
	}
	cmd.SuggestionsMinimumDistance = 2
	text := fmt.Sprintf("%s has no command %q", cmd.CommandPath(), args[0])
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		text += "; did you mean " + strings.Join(near, " or ") + "?"
	}
	return fmt.Errorf("%s", text)
}

// names asks for exactly these arguments.
func names(want ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) < len(want):
			return fmt.Errorf("%s needs %s", cmd.CommandPath(), strings.Join(want[len(args):], " and "))
		case len(args) > len(want):
			return fmt.Errorf("%s does not take %q", cmd.CommandPath(), args[len(want)])
		}
		return nil
	}
}

// oneOrNone lets an argument be left out.
func oneOrNone(cmd *cobra.Command, args []string) error {
	if len(args) > 1 {
		return fmt.Errorf("%s does not take %q", cmd.CommandPath(), args[1])
	}
	return nil
}

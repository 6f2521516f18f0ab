package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/witnessd/witnessd/cmd/witnessctl/view"
	witnessv1 "github.com/witnessd/witnessd/proto/gen/witness/v1"
)

// completionTimeout is how long somebody waits who has pressed the tab key.
const completionTimeout = time.Second

// complete gives a flag of a command its completions.
func complete(cmd *cobra.Command, flag string, f cobra.CompletionFunc) {
	if err := cmd.RegisterFlagCompletionFunc(flag, f); err != nil {
		panic(err) // the flag is not there: a mistake in this program
	}
}

// known asks a node for what it knows by itself, which is enough to choose from, and soon there. Nothing is
// said if nobody answers: a shell has no place for it.
func (r *run) known(cmd *cobra.Command) []*witnessv1.Pair {
	if _, err := r.load(); err != nil {
		return nil
	}
	ctx := cmd.Context()
	if ctx == nil {
		ctx = context.Background()
	}
	r.settings.Timeout = min(r.settings.Timeout, completionTimeout)
	a, err := admin(ctx, r, witnessv1.AdminServiceClient.ListPairs, &witnessv1.ListPairsRequest{Stale: true})
	if err != nil {
		return nil
	}
	view.Date(a.GetPairs(), a.GetAsOf())
	return a.GetPairs()
}

// shells makes cobra's command for completion scripts say no to a shell that it does not know. What a script
// is written to is set by now.
func shells(root *cobra.Command) {
	root.InitDefaultCompletionCmd()
	for _, cmd := range root.Commands() {
		if cmd.Name() == "completion" {
			cmd.Args, cmd.RunE = cobra.ArbitraryArgs, missingShell
		}
	}
}

func missingShell(cmd *cobra.Command, args []string) error {
	const shells = "bash, zsh, fish or powershell"
	if len(args) > 0 {
		return fmt.Errorf("%s takes %s, not %q", cmd.CommandPath(), shells, args[0])
	}
	return fmt.Errorf("%s needs a shell: %s", cmd.CommandPath(), shells)
}

func (r *run) completePair(
	cmd *cobra.Command, args []string, prefix string,
) ([]cobra.Completion, cobra.ShellCompDirective) {
	// As the value of a flag a name may come after arguments, as an argument it is the first.
	if len(args) > 0 && cmd.Name() != "events" {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var found []cobra.Completion
	for _, p := range r.known(cmd) {
		if strings.HasPrefix(p.GetName(), prefix) {
			found = append(found, cobra.CompletionWithDesc(p.GetName(), view.StateOf(p).Word+", primary "+p.GetPrimary()))
		}
	}
	return found, cobra.ShellCompDirectiveNoFileComp
}

// completeHost offers the hosts of the pair that was named.
func (r *run) completeHost(
	cmd *cobra.Command, args []string, prefix string,
) ([]cobra.Completion, cobra.ShellCompDirective) {
	var found []cobra.Completion
	for _, p := range r.known(cmd) {
		if len(args) == 0 || args[0] != p.GetName() && args[0] != p.GetId() {
			continue
		}
		for _, m := range p.GetMembers() {
			if strings.HasPrefix(m.GetHost(), prefix) {
				role := "mirror"
				if m.GetHost() == p.GetPrimary() {
					role = "primary"
				}
				found = append(found, cobra.CompletionWithDesc(m.GetHost(), role))
			}
		}
	}
	return found, cobra.ShellCompDirectiveNoFileComp
}

// completeProcedure offers what is under way, and what ended last.
func (r *run) completeProcedure(
	cmd *cobra.Command, args []string, prefix string,
) ([]cobra.Completion, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var under, ended []cobra.Completion
	for _, p := range r.known(cmd) {
		if q := p.GetProcedure(); q != nil && strings.HasPrefix(q.GetId(), prefix) {
			under = append(under, cobra.CompletionWithDesc(q.GetId(), view.Kind(q.GetKind())+" of "+p.GetName()))
		}
		if q := p.GetLast().GetProcedure(); q != nil && strings.HasPrefix(q.GetId(), prefix) {
			ended = append(ended, cobra.CompletionWithDesc(q.GetId(), view.Kind(q.GetKind())+" of "+p.GetName()+", ended"))
		}
	}
	return slices.Concat(under, ended), cobra.ShellCompDirectiveNoFileComp
}

func (r *run) completeNode(
	cmd *cobra.Command, args []string, prefix string,
) ([]cobra.Completion, cobra.ShellCompDirective) {
	if _, err := r.load(); err != nil || len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	r.settings.Timeout = min(r.settings.Timeout, completionTimeout)
	a, err := nodeCall(cmd.Context(), r, witnessv1.WitnessServiceClient.GetStatus, &witnessv1.GetStatusRequest{})
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var found []cobra.Completion
	for _, n := range a.GetNodes() {
		if strings.HasPrefix(n.GetId(), prefix) {
			found = append(found, n.GetId())
		}
	}
	return found, cobra.ShellCompDirectiveNoFileComp
}

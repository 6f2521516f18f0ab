package main

import (
	"cmp"
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/witnessd/witnessd/cmd/witnessctl/view"
	witnessv1 "github.com/witnessd/witnessd/proto/gen/witness/v1"
)

func (r *run) pairCreate() *cobra.Command {
	var hosts []string
	var primary, mode string
	var t timing
	cmd := &cobra.Command{
		Use: "create NAME --host HOST[=INSTANCE] --host HOST[=INSTANCE]", Short: "make a new pair",
		Long: `Make a new pair of two hosts. The host that is named first serves first, unless --primary says
otherwise: it is the one with the data, and the other becomes its copy. An instance is called as in the
configuration of the host's agent; without =INSTANCE that is "main".

Asking again with the same hosts is not an error: scripts may repeat it.`,
		Example: `  witnessctl pair create sales --host db1 --host db2 --profile patient
  witnessctl pair create hr --host db1=hr --host db2=hr --primary db2`,
		Args: names("NAME"),
	}
	cmd.RunE = r.does(func(ctx context.Context, args []string) error {
		q := &witnessv1.CreatePairRequest{Name: args[0], Policy: t.policy(), By: r.globals.by}
		if len(hosts) != 2 {
			return usagef("a pair has two hosts: give --host twice")
		}
		for _, h := range hosts {
			m, err := member(h)
			if err != nil {
				return err
			}
			q.Members = append(q.Members, m)
		}
		q.Primary = cmp.Or(primary, q.GetMembers()[0].GetHost())
		if mode != "" {
			m, ok := view.ParseMode(mode)
			if !ok {
				return usagef("mode %q is not automatic, manual or observe", mode)
			}
			q.Mode = m
		}
		return r.create(ctx, q)
	})
	cmd.Flags().StringArrayVar(&hosts, "host", nil, "`HOST[=INSTANCE]` of one half; give it twice")
	cmd.Flags().StringVar(&primary, "primary", "", "`host` that serves first (default: the first --host)")
	cmd.Flags().StringVar(&mode, "mode", "", "who decides: `automatic`, manual or observe (default automatic)")
	t.define(cmd)
	complete(cmd, "mode", cobra.FixedCompletions([]string{"automatic", "manual", "observe"},
		cobra.ShellCompDirectiveNoFileComp))
	complete(cmd, "host", cobra.NoFileCompletions)
	complete(cmd, "primary", cobra.NoFileCompletions)
	return cmd
}

func (r *run) create(ctx context.Context, q *witnessv1.CreatePairRequest) error {
	a, err := admin(ctx, r, witnessv1.AdminServiceClient.CreatePair, q)
	if err != nil {
		return err
	}
	return r.show(a, func(view.View) string {
		word := "created"
		if !a.GetCreated() {
			word = "was there before, unchanged"
		}
		var halves []string
		for _, m := range a.GetPair().GetMembers() {
			halves = append(halves, fmt.Sprintf("%s instance %s", m.GetHost(), m.GetInstance()))
		}
		name := a.GetPair().GetName()
		return fmt.Sprintf("%s %s: %s; id %s\n%s\nwatch it: witnessctl pair watch %s\n", name, word,
			strings.Join(halves, ", "), a.GetPair().GetId(), view.Line(a.GetPair()), name)
	})
}

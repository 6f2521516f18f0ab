package main

import (
	"context"
	"slices"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/witnessd/witnessd/cmd/witnessctl/view"
	witnessv1 "github.com/witnessd/witnessd/proto/gen/witness/v1"
)

func (r *run) pairShow() *cobra.Command {
	var stale, databases bool
	var choice view.Choice
	cmd := &cobra.Command{
		Use: "show NAME", Short: "show one pair: what is recorded, and what its hosts report",
		Long: `Show one pair: the record of the witness, beside it what each host reports of itself and how old that is,
and whether the pair would fail over if the primary were lost now.

Of engines that keep several databases in a pair, one row for each: --databases shows only these rows, --set only
those of sets that the agents' configuration names, --exclude leaves some out.`,
		Example: `  witnessctl pair show pool1 --databases --set User --exclude rtcshared`,
		Args:    names("NAME"), ValidArgsFunction: r.completePair,
	}
	cmd.RunE = r.does(func(ctx context.Context, args []string) error {
		a, err := r.getPair(ctx, args[0], stale)
		if err != nil {
			return err
		}
		p := a.GetPair()
		if databases || len(choice.Sets)+len(choice.Exclude) > 0 {
			chosen(p, choice)
			return r.show(a, func(v view.View) string { return v.DatabasesOnly(p) })
		}
		return r.show(a, func(v view.View) string { return v.Show(p) })
	})
	cmd.Flags().BoolVar(&databases, "databases", false, "show only the rows of the databases")
	choiceFlags(cmd.Flags(), &choice)
	staleFlag(cmd.Flags(), &stale)
	return cmd
}

func (r *run) getPair(ctx context.Context, name string, stale bool) (*witnessv1.GetPairResponse, error) {
	return admin(ctx, r, witnessv1.AdminServiceClient.GetPair, &witnessv1.GetPairRequest{Pair: name, Stale: stale})
}

// choiceFlags are those that pick databases of a pair.
func choiceFlags(flags *pflag.FlagSet, c *view.Choice) {
	flags.StringSliceVar(&c.Sets, "set", nil, "only databases of this `set`, as the agents' configuration names it")
	flags.StringSliceVar(&c.Exclude, "exclude", nil, "leave this `database` out")
}

// chosen leaves only the databases in the answer that were picked, so that JSON says the same as the table.
func chosen(p *witnessv1.Pair, c view.Choice) {
	var names []string
	for _, d := range view.DatabasesOf(p, c) {
		names = append(names, d.Name)
	}
	for _, h := range p.GetHosts() {
		if e := h.GetReport().GetEngine(); e != nil {
			e.Databases = slices.DeleteFunc(e.GetDatabases(), func(d *witnessv1.DatabaseState) bool {
				return !slices.Contains(names, d.GetName())
			})
		}
	}
}

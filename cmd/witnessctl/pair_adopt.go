package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	witnessv1 "github.com/witnessd/witnessd/proto/gen/witness/v1"
)

func (r *run) pairAdopt() *cobra.Command {
	q := &witnessv1.AdoptPairRequest{}
	var e expected
	cmd := &cobra.Command{
		Use: "adopt NAME --host HOST", Short: "after a restore of the witness, speak for a host that lost its epoch file",
		Long: `After a restore of the witness each pair waits until the agents of both its hosts have reported their epoch
files. If a host is gone for good, or its file is, say so here: you state that this host does not serve and
never will by what it remembers. Naming it with --host states it; on a terminal you may type it instead.`,
		Args: names("NAME"), ValidArgsFunction: r.completePair,
	}
	cmd.RunE = r.does(func(ctx context.Context, args []string) error {
		if q.GetHost() == "" {
			if !r.canAsk() {
				return usagef("name the host whose epoch file is gone: --host HOST")
			}
			host, err := r.whichFile(ctx, args[0])
			if err != nil {
				return err
			}
			q.Host = host
		}
		q.Pair, q.By, q.ExpectedRevision = args[0], r.globals.by, uint64(e.revision)
		a, err := admin(ctx, r, witnessv1.AdminServiceClient.AdoptPair, q, e.again()...)
		if err != nil {
			return err
		}
		return r.changed(a)
	})
	cmd.Flags().StringVar(&q.Host, "host", "", "`host` whose epoch file is gone for good")
	cmd.Flags().Var(&e.revision, "expect-revision", "refuse if the pair's `revision` is another by now")
	complete(cmd, "host", r.completeHost)
	return cmd
}

// whichFile finds the one host that has not reported an epoch file, and has a person type its name.
func (r *run) whichFile(ctx context.Context, name string) (string, error) {
	a, err := r.getPair(ctx, name, false)
	if err != nil {
		return "", err
	}
	var missing []string
	for _, h := range a.GetPair().GetHosts() {
		if !h.GetReport().GetFileKnown() {
			missing = append(missing, h.GetHost())
		}
	}
	if len(missing) != 1 {
		return "", usagef("%d hosts of %s have reported no epoch file: name the one that you speak for with --host HOST",
			len(missing), name)
	}
	return r.typed(ctx, fmt.Sprintf("%s has reported no epoch file. If it still serves, there will be two primaries.\n"+
		"Type its name to state that it does not: ", missing[0]), missing[0])
}

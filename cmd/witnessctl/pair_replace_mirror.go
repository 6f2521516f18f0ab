package main

import (
	"cmp"
	"context"
	"errors"

	"github.com/spf13/cobra"

	"github.com/witnessd/witnessd/cmd/witnessctl/endpoints"
	witnessv1 "github.com/witnessd/witnessd/proto/gen/witness/v1"
)

func (r *run) pairReplaceMirror() *cobra.Command {
	q := &witnessv1.ReplaceMirrorRequest{}
	var e expected
	var host string
	cmd := &cobra.Command{
		Use: "replace-mirror NAME --host HOST[=INSTANCE]", Short: "put another host in the mirror's place",
		Long: `Put another host in the mirror's place. The pair must be paused or exposed. The new mirror becomes a copy of
the primary; the old one is no longer part of the pair.`,
		Args: names("NAME"), ValidArgsFunction: r.completePair,
	}
	cmd.RunE = r.does(func(ctx context.Context, args []string) error {
		if host == "" {
			return usagef("name the new mirror: --host HOST[=INSTANCE]")
		}
		a, err := r.getPair(ctx, args[0], false)
		if err != nil {
			return err
		}
		p := a.GetPair()
		if q.Member, err = member(host); err != nil {
			return err
		}
		q.Pair, q.By = p.GetId(), r.globals.by
		q.ExpectedRevision, q.ExpectedEpoch = uint64(e.revision), cmp.Or(e.epoch, p.GetEpoch())
		b, err := admin(ctx, r, witnessv1.AdminServiceClient.ReplaceMirror, q, e.again()...)
		if refusal, ok := errors.AsType[*endpoints.Refusal](err); ok && refusal.Doubt {
			// Refused perhaps because the earlier try was accepted: then the record says so.
			now, readErr := r.getPair(ctx, p.GetId(), false)
			if readErr == nil && now.GetPair().GetMirror() == q.GetMember().GetHost() {
				return r.changed(now)
			}
		}
		if err != nil {
			return err
		}
		return r.changed(b)
	})
	cmd.Flags().StringVar(&host, "host", "", "`HOST[=INSTANCE]` of the new mirror")
	e.define(cmd.Flags())
	complete(cmd, "host", cobra.NoFileCompletions)
	return cmd
}

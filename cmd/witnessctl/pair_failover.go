package main

import (
	"context"
	"errors"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/proto"

	"github.com/witnessd/witnessd/cmd/witnessctl/endpoints"
	"github.com/witnessd/witnessd/cmd/witnessctl/view"
	witnessv1 "github.com/witnessd/witnessd/proto/gen/witness/v1"
)

func (r *run) pairFailover() *cobra.Command {
	q := &witnessv1.ForceFailoverRequest{}
	var e expected
	var force, noWait bool
	cmd := &cobra.Command{
		Use: "failover NAME --force --epoch N", Short: "force the mirror to become primary, on your responsibility",
		Long: `Force the mirror to become primary although the witness would not do so by itself. If both hosts are there,
use switchover: it does the same without loss.

--epoch is the epoch that you saw in pair show: if the pair has moved since, nothing is done. The witness
first asks the primary to stop, over every path. If that is not answered:
  - while the right is leased, it waits until the primary's leases have run out, and nothing is lost;
  - while the right is sole, commits may be lost (--accept-loss), and the old primary may still be serving
    clients. You must then state that it is off or cut from its clients, by typing its name or with
    --host-off HOST, or the witness must have a fencing command that succeeds.

A wrong statement makes two primaries. Nothing is asked if stdin is not a terminal.`,
		Example: `  witnessctl pair failover sales --force --epoch 7 --accept-loss --host-off db1 --reason "db1 burnt down"`,
		Args:    names("NAME"), ValidArgsFunction: r.completePair,
	}
	cmd.RunE = r.does(func(ctx context.Context, args []string) error {
		switch {
		case !force:
			return usagef("a forced failover needs --force; if both hosts are there, use: witnessctl pair switchover %s",
				args[0])
		case q.GetExpectedEpoch() == 0:
			return usagef("a forced failover needs --epoch with the epoch that you saw: witnessctl pair show %s", args[0])
		}
		q.ExpectedRevision = uint64(e.revision)
		b, err := r.force(ctx, args[0], q, &e)
		if err != nil {
			return err
		}
		return r.carry(ctx, b, noWait)
	})
	flags := cmd.Flags()
	flags.BoolVar(&force, "force", false, "this is meant")
	flags.Uint64Var(&q.ExpectedEpoch, "epoch", 0, "`epoch` of the pair when you decided this")
	flags.BoolVar(&q.AcceptLoss, "accept-loss", false, "commits that the mirror lacks may be lost")
	flags.StringVar(&q.HostOff, "host-off", "", "you state that this `host`, the primary, is off or cut from its clients")
	reasonFlag(flags, &q.Reason)
	noWaitFlag(flags, &noWait)
	flags.Var(&e.revision, "expect-revision", "refuse if the pair's `revision` is another by now")
	complete(cmd, "host-off", r.completeHost)
	return cmd
}

// force asks for a forced failover. Whether the old primary must be stated to be off is the witness's to
// say, which knows whether it answers and whether a fencing command can see to it; a person is asked then.
func (r *run) force(ctx context.Context, name string, q *witnessv1.ForceFailoverRequest, e *expected) (begun, error) {
	a, err := r.getPair(ctx, name, false)
	if err != nil {
		return begun{}, err
	}
	p := a.GetPair()
	q.Pair, q.By = p.GetId(), r.globals.by
	if q.GetAcceptLoss() {
		if err := r.tell("%s\n", view.Loss(p)); err != nil {
			return begun{}, err
		}
	}
	ask := func() (begun, error) {
		b := begun{pair: p, kind: witnessv1.ProcedureKind_PROCEDURE_KIND_FORCED}
		return r.begin(ctx, b, q.GetReason(), func() (string, proto.Message, error) {
			a, err := admin(ctx, r, witnessv1.AdminServiceClient.ForceFailover, q, e.again()...)
			return a.GetProcedure(), a, err
		})
	}
	b, err := ask()
	if !r.mayConfirm(err, q.GetHostOff()) {
		return b, err
	}
	if q.HostOff, err = r.confirmOff(ctx, err, p.GetPrimary()); err != nil {
		return b, err
	}
	return ask()
}

const reasonHostOff = "HOST_OFF_NOT_CONFIRMED"

// mayConfirm: refused only because nobody has stated that the old primary is off, and somebody is there to.
func (r *run) mayConfirm(err error, stated string) bool {
	refusal, ok := errors.AsType[*endpoints.Refusal](err)
	return ok && refusal.Reason == reasonHostOff && stated == "" && r.canAsk()
}

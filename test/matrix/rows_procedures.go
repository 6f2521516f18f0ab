package main

import (
	"context"
	"fmt"
	"time"

	"github.com/witnessd/witnessd/test/fleet"

	witnessv1 "github.com/witnessd/witnessd/proto/gen/witness/v1"
)

// procedureRows are about changes that are asked for, and what befalls them.
func procedureRows() []row {
	return append(switchoverRows(), leaderRows()...)
}

func switchoverRows() []row {
	return []row{
		{
			flag: "switchover", name: "switchover", limit: switchLimit, inject: switchover,
			decision: takesOver("the primary hands over, the mirror takes over"),
		},
		{
			flag: "switchover-load", name: "switchover under pgbench load (8 sessions)", limit: switchLimit, load: 8,
			decision: takesOver("the primary hands over, the mirror takes over"), inject: switchover,
		},
		{
			flag: "switchover-target", name: "switchover; the target's host loses its power before it was promoted",
			decision: decision{
				says: "given up when the target is silent; the primary serves again with a new epoch, exposed", epoch: home,
				right: sole, servesWithin: 20 * time.Second,
			},
			inject: func(ctx context.Context, r *run) error {
				return killTarget(ctx, r, witnessv1.ProcedureStep_PROCEDURE_STEP_RELEASE)
			},
		},
		{
			flag: "switchover-target-late", name: "switchover; the target's host loses its power while it is promoted",
			decision: decision{
				says:  "given up when the target is silent, or, if it was promoted, failed over back",
				epoch: either, right: anyRight, servesWithin: 20 * time.Second,
			},
			inject: func(ctx context.Context, r *run) error {
				return killTarget(ctx, r, witnessv1.ProcedureStep_PROCEDURE_STEP_PROMOTE)
			},
		},
		{
			flag: "rolling", name: "all nodes, then both agents, restarted in order, one after the other", limit: unnoticed,
			decision: nobodyMoves("nobody notices"), inject: rolling,
		},
	}
}

// electionLimit is a switchover's pause and the election of a leader that goes on with it.
const electionLimit = 2500 * time.Millisecond

// leaderRows kill the leader in the middle of each procedure.
func leaderRows() []row {
	goesOn := takesOver("the new leader goes on with it")
	ask := func(step witnessv1.ProcedureStep, verb string) func(context.Context, *run) error {
		return func(ctx context.Context, r *run) error {
			return leaderKilledAt(ctx, r, step, func() error { return r.ctl(ctx, verb) })
		}
	}
	const (
		release = witnessv1.ProcedureStep_PROCEDURE_STEP_RELEASE
		anyStep = witnessv1.ProcedureStep_PROCEDURE_STEP_UNSPECIFIED
		promote = witnessv1.ProcedureStep_PROCEDURE_STEP_PROMOTE
	)
	return []row{
		{
			flag: "switchover-leader", name: "switchover; leader killed while the primary hands over", limit: electionLimit,
			decision: goesOn, inject: ask(release, "switchover"),
		},
		{
			flag: "switchover-leader-late", name: "switchover; leader killed while the mirror is promoted",
			limit: electionLimit, decision: goesOn, inject: ask(promote, "switchover"),
		},
		{
			flag: "failover-leader", name: "primary's host without power; leader killed while the mirror is promoted",
			limit: bothLimit, decision: goesOn,
			inject: func(ctx context.Context, r *run) error {
				err := leaderKilledAt(ctx, r, promote, func() error {
					r.primary.Kill()
					return nil
				})
				if err != nil {
					return err
				}
				return r.primary.Start()
			},
		},
		{
			flag: "forced-leader", name: "forced failover of a healthy pair; leader killed while the primary hands over",
			limit: electionLimit, decision: goesOn, inject: ask(release, "failover"),
		},
		{
			flag: "forced-leader-late", name: "forced failover of a healthy pair; leader killed while the mirror is promoted",
			limit: electionLimit, decision: goesOn, inject: ask(promote, "failover"),
		},
		{
			flag: "forced-host-leader", limit: bothLimit, decision: goesOn,
			name: "primary's host without power, forced failover at once; leader killed while the leases run out",
			inject: func(ctx context.Context, r *run) error {
				err := leaderKilledAt(ctx, r, anyStep, func() error {
					r.primary.Kill()
					return r.ctl(ctx, "failover")
				})
				if err != nil {
					return err
				}
				return r.primary.Start()
			},
		},
	}
}

// ctl starts a procedure of the pair and waits for its end, however it ends.
func (r *run) ctl(ctx context.Context, verb string) error {
	args := []string{"pair", verb, r.pair.Name, "--reason", "measurement"}
	if verb == "failover" {
		args = append(args, "--force", "--epoch", fmt.Sprint(r.before.GetEpoch()), "--accept-loss", "--host-off",
			r.primary.Name)
	}
	if out, err := r.fleet.Ctl(ctx, args...); err != nil {
		r.note("%s: %v: %s", verb, err, lastLine(out))
	}
	return ctx.Err()
}

func switchover(ctx context.Context, r *run) error { return r.ctl(ctx, "switchover") }

// killTarget asks for a switchover and cuts the target's power in that step. It comes back after 15 s.
func killTarget(ctx context.Context, r *run, step witnessv1.ProcedureStep) error {
	asked := make(chan error, 1)
	go func() { asked <- r.ctl(ctx, "switchover") }()
	r.reach(ctx, step)
	r.mirror.Kill()
	if err := sleep(ctx, 15*time.Second); err != nil {
		return err
	}
	err := r.mirror.Start()
	r.mendedNow()
	if err != nil {
		return err
	}
	return <-asked
}

// leaderKilledAt begins something and kills the leader in that step of the procedure; it comes back after 10 s.
func leaderKilledAt(ctx context.Context, r *run, step witnessv1.ProcedureStep, begin func() error) error {
	begun := make(chan error, 1)
	go func() { begun <- begin() }()
	r.reach(ctx, step)
	r.leader.Kill()
	if err := sleep(ctx, 10*time.Second); err != nil {
		return err
	}
	err := r.leader.Start()
	r.mendedNow()
	if err != nil {
		return err
	}
	return <-begun
}

// reach waits until the procedure that comes is in that step (unspecified: in any), as near as it can be seen from
// outside.
func (r *run) reach(ctx context.Context, step witnessv1.ProcedureStep) {
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end) && ctx.Err() == nil; {
		p, err := r.fleet.Get(ctx, r.pair.Name)
		if err != nil {
			continue
		}
		switch now := p.GetProcedure(); {
		case now != nil && (now.GetStep() == step || step == witnessv1.ProcedureStep_PROCEDURE_STEP_UNSPECIFIED):
			return
		case p.GetLast().GetProcedure().GetId() != r.before.GetLast().GetProcedure().GetId():
			r.note("the procedure was over before step %v was seen", step)
			return
		}
		time.Sleep(time.Millisecond)
	}
	r.note("step %v was not seen", step)
}

// rolling restarts everything of ours as an upgrade does.
func rolling(ctx context.Context, r *run) error {
	const settle = 3 * time.Second
	for _, n := range r.fleet.Nodes {
		n.Stop()
		if err := n.Start(); err != nil {
			return err
		}
		if err := sleep(ctx, settle); err != nil {
			return err
		}
	}
	for _, h := range []*fleet.Host{r.mirror, r.primary} {
		h.RestartAgent()
		if err := sleep(ctx, settle); err != nil {
			return err
		}
	}
	return nil
}

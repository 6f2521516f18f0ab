package main

import (
	"context"
	"errors"
	"time"

	"github.com/witnessd/witnessd/test/fleet"
)

// witnessRows are about nodes, alone and together with hosts.
func witnessRows() []row {
	witness := []party{theWitness}
	return []row{
		{
			flag: "leader", name: "leader node killed for 6 s", limit: unnoticed,
			decision: nobodyMoves("nobody notices"), fault: leaderKilled, lasts: 6 * time.Second, touches: witness,
		},
		{
			flag: "leader-freeze", name: "leader node SIGSTOP for 10 s", limit: unnoticed,
			decision: nobodyMoves("nobody notices"), fault: leaderFrozen, lasts: 10 * time.Second, touches: witness,
		},
		{
			flag: "witness", name: "all nodes killed for 20 s", limit: unnoticed,
			decision: nobodyMoves("served on the partner's lease"), fault: witnessKilled, lasts: 20 * time.Second,
			touches: witness,
		},
		{
			flag: "leader-host", name: "leader node and primary's host killed together for 12 s", limit: bothLimit,
			decision: takesOver("as host loss, after a whole lease of the new leader's"),
			fault:    together(leaderKilled, powerCut(thePrimary)), lasts: 12 * time.Second,
		},
		{
			flag: "mirror-witness", name: "mirror's host without power, 6 s later all nodes killed, for 12 s",
			limit: exposeLimit, decision: exposes("the primary goes on: its right is sole"),
			fault: together(powerCut(theMirror), after(6*time.Second, witnessKilled)), lasts: 12 * time.Second,
		},
		{
			flag: "witness-mirror", name: "all nodes killed, 5 s later the mirror's host; after 12 s the nodes come back",
			limit: 5 * time.Second,
			decision: decision{
				says:  "the primary stops: it cannot know that it is not the one cut off; serves when the witness is back",
				epoch: stays, right: sole, service: stops, stopsWithin: 5*time.Second + stopsAfterLease,
			},
			inject: func(ctx context.Context, r *run) error {
				return witnessThenMirror(ctx, r, startNodes, (*fleet.Host).Start)
			},
		},
		{
			flag: "witness-mirror-back", name: "all nodes killed, 5 s later the mirror's host; after 12 s the mirror comes back",
			limit: 10 * time.Second,
			decision: decision{
				says: "the primary stops until its partner grants a lease again; armed when the witness is back", epoch: stays,
				right: anyRight, service: stops, stopsWithin: 5*time.Second + stopsAfterLease,
			},
			inject: func(ctx context.Context, r *run) error {
				back := func(*run) error { return r.mirror.Start() }
				return witnessThenMirror(ctx, r, back, func(*fleet.Host) error { return startNodes(r) })
			},
		},
		{
			flag: "witness-primary", name: "all nodes and the primary's host killed; after 12 s the nodes come back",
			limit: 8 * time.Second,
			decision: decision{
				says: "the mirror waits; when the witness is back it takes over", epoch: moves, right: anyRight, service: stops,
				stopsWithin: time.Second,
			},
			inject: func(ctx context.Context, r *run) error {
				killNodes(r)
				r.primary.Kill()
				if err := sleep(ctx, 12*time.Second); err != nil {
					return err
				}
				r.servedAgain(startNodes(r))
				if err := sleep(ctx, 8*time.Second); err != nil {
					return err
				}
				return r.primary.Start()
			},
		},
	}
}

// witnessThenMirror takes both votes from the primary, one after the other, and gives them back one after the other.
func witnessThenMirror(ctx context.Context, r *run, first func(*run) error, second func(*fleet.Host) error) error {
	killNodes(r)
	if err := sleep(ctx, 5*time.Second); err != nil {
		return err
	}
	r.mirror.Kill()
	if err := sleep(ctx, 12*time.Second); err != nil {
		return err
	}
	r.servedAgain(first(r))
	if err := sleep(ctx, 12*time.Second); err != nil {
		return err
	}
	return second(r.mirror)
}

func killNodes(r *run) {
	for _, n := range r.fleet.Nodes {
		n.Kill()
	}
}

func startNodes(r *run) error {
	var errs []error
	for _, n := range r.fleet.Nodes {
		errs = append(errs, n.Start())
	}
	return errors.Join(errs...)
}

func witnessKilled(_ context.Context, r *run) (func() error, error) {
	killNodes(r)
	return func() error { return startNodes(r) }, nil
}

func leaderKilled(_ context.Context, r *run) (func() error, error) {
	r.leader.Kill()
	return r.leader.Start, nil
}

func leaderFrozen(_ context.Context, r *run) (func() error, error) {
	r.leader.Freeze()
	return func() error {
		r.leader.Thaw()
		return nil
	}, nil
}

package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	"github.com/witnessd/witnessd/cmd/witnessctl/endpoints"
	"github.com/witnessd/witnessd/cmd/witnessctl/view"
	witnessv1 "github.com/witnessd/witnessd/proto/gen/witness/v1"
)

// eventsQuiet is how long the history may be silent while it is followed before another node is asked; a
// node that has nothing to tell says so every second.
const eventsQuiet = 5 * time.Second

func (r *run) events() *cobra.Command {
	q := &witnessv1.ListEventsRequest{}
	var after uint64
	var follow bool
	cmd := &cobra.Command{
		Use: "events", Short: "show what happened, oldest first",
		Long: `Show the newest part of the history, oldest first. With --follow, go on with what happens from now on, until
interrupted; no event is shown twice or left out when another node must be asked.

With -o json each event is a line of its own.`,
		Example: `  witnessctl events --pair sales --follow`,
		Args:    names(), ValidArgsFunction: cobra.NoFileCompletions,
	}
	cmd.RunE = r.does(func(ctx context.Context, _ []string) error {
		if cmd.Flags().Changed("after") {
			q.After = new(after)
		}
		a, err := admin(ctx, r, witnessv1.AdminServiceClient.ListEvents, q)
		if err != nil {
			return err
		}
		if q.After != nil && after+1 < a.GetOldest() {
			r.progress.say("the history no longer holds the first of these events")
		}
		last := a.GetNewest()
		if q.After != nil {
			last = after
		}
		for _, e := range a.GetEvents() {
			last = max(last, e.GetSequence())
			if q.After != nil {
				last = e.GetSequence()
			}
			if err := r.event(e); err != nil {
				return err
			}
		}
		if !follow {
			return nil
		}
		return r.follow(ctx, &witnessv1.WatchEventsRequest{Pair: q.GetPair(), After: new(last)})
	})
	cmd.Flags().StringVar(&q.Pair, "pair", "", "only events of this pair, by `name`, or of a removed one by id")
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on with what happens")
	cmd.Flags().Uint32Var(&q.Limit, "limit", 50, "how `many` at most")
	cmd.Flags().Uint64Var(&after, "after", 0, "only those after this `number`, the first of them")
	staleFlag(cmd.Flags(), &q.Stale)
	complete(cmd, "pair", r.completePair)
	return cmd
}

func (r *run) event(e *witnessv1.Event) error {
	return r.line(e, func(v view.View) string { return v.Event(e) + "\n" })
}

// follow prints events as they happen, each once.
func (r *run) follow(ctx context.Context, q *witnessv1.WatchEventsRequest) error {
	nodes, err := r.witness()
	if err != nil {
		return err
	}
	return endpoints.Follow(ctx, nodes, endpoints.Patience{Quiet: eventsQuiet},
		endpoints.Stream[witnessv1.WatchEventsResponse]{
			Open: func(ctx context.Context, conn grpc.ClientConnInterface) (
				grpc.ServerStreamingClient[witnessv1.WatchEventsResponse], error,
			) {
				return witnessv1.NewAdminServiceClient(conn).WatchEvents(ctx, q)
			},
			Each: func(m *witnessv1.WatchEventsResponse) (bool, error) {
				if m.GetMissed() {
					r.progress.say("events are missing here: the history no longer holds them")
				}
				for _, e := range m.GetEvents() {
					if e.GetSequence() <= q.GetAfter() {
						continue
					}
					q.After = new(e.GetSequence())
					if err := r.event(e); err != nil {
						return false, err
					}
				}
				q.After = new(max(q.GetAfter(), m.GetThrough()))
				return false, nil
			},
		})
}

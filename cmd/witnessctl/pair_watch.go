package main

import (
	"context"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	"github.com/witnessd/witnessd/cmd/witnessctl/endpoints"
	"github.com/witnessd/witnessd/cmd/witnessctl/table"
	"github.com/witnessd/witnessd/cmd/witnessctl/view"
	witnessv1 "github.com/witnessd/witnessd/proto/gen/witness/v1"
)

// watchQuiet is how long a stream of pairs may be silent; the witness refreshes it every second.
const watchQuiet = 3 * time.Second

func (r *run) pairWatch() *cobra.Command {
	q := &witnessv1.WatchPairsRequest{}
	cmd := &cobra.Command{
		Use: "watch [NAME]", Short: "show all pairs, or one, as they change",
		Long: `Show all pairs, or one, as they change, until interrupted. A terminal is repainted; elsewhere each change of a
pair is a line. With -o json each message of the API is a line of its own.`,
		Args: oneOrNone, ValidArgsFunction: r.completePair,
	}
	cmd.RunE = r.does(func(ctx context.Context, args []string) error {
		if len(args) > 0 {
			q.Pair = args[0]
		}
		nodes, err := r.witness()
		if err != nil {
			return err
		}
		w := &watching{run: r, one: q.GetPair() != "", pairs: map[string]*witnessv1.Pair{},
			lines: map[string]string{}, news: time.Now()}
		defer w.mind(ctx)()
		return endpoints.Follow(ctx, nodes, endpoints.Patience{Quiet: watchQuiet},
			endpoints.Stream[witnessv1.WatchPairsResponse]{
				Open: func(ctx context.Context, conn grpc.ClientConnInterface) (
					grpc.ServerStreamingClient[witnessv1.WatchPairsResponse], error,
				) {
					return witnessv1.NewAdminServiceClient(conn).WatchPairs(ctx, q)
				},
				Each: w.each,
			})
	})
	return cmd
}

// watching is the view that a stream of pairs has built up.
type watching struct {
	run *run
	one bool

	mu    sync.Mutex
	pairs map[string]*witnessv1.Pair // by id
	asOf  *witnessv1.AsOf
	lines map[string]string // what was printed last of each, by id
	news  time.Time         // when something came last
	told  bool              // that nothing comes
}

// mind tells that nothing comes any more, until the returned function is called: what is on the screen must
// not pass for the present.
func (w *watching) mind(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var minder sync.WaitGroup
	minder.Go(func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-time.After(time.Second):
				w.noNews()
			}
		}
	})
	return func() {
		cancel()
		minder.Wait()
	}
}

func (w *watching) noNews() {
	w.mu.Lock()
	defer w.mu.Unlock()
	silent := time.Since(w.news)
	if silent <= patience {
		return
	}
	switch {
	case w.run.outTerminal && w.run.settings.Output == outputTable && w.asOf != nil:
		// An error of writing to the terminal is seen by the next who writes.
		_ = w.paint("NO NEWS for " + view.Duration(silent) + ": what is below is old. " + w.run.nodes.Trying())
	case !w.told:
		w.run.progress.say("no news from the witness for " + view.Duration(silent) + "; still trying")
	}
	w.told = true
}

func (w *watching) each(m *witnessv1.WatchPairsResponse) (done bool, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.news, w.told = time.Now(), false
	if w.run.settings.Output != outputTable {
		return false, w.run.line(m, nil)
	}
	if m.GetReset_() {
		clear(w.pairs)
	}
	view.Date(m.GetPairs(), m.GetAsOf())
	for _, p := range m.GetPairs() {
		w.pairs[p.GetId()] = p
	}
	for _, id := range m.GetRemoved() {
		if p := w.pairs[id]; p != nil {
			delete(w.pairs, id)
			if err := w.gone(p); err != nil || w.one {
				return true, err
			}
		}
	}
	if !m.GetComplete() {
		return false, nil
	}
	w.asOf = m.GetAsOf()
	if w.run.outTerminal {
		return false, w.paint("")
	}
	return false, w.changes()
}

func (w *watching) gone(p *witnessv1.Pair) error {
	delete(w.lines, p.GetId())
	if w.run.outTerminal && !w.one {
		return nil // the screen shows it
	}
	return w.run.write(p.GetName() + ": removed\n")
}

// paint shows everything anew, from the upper left corner on and without blanking the screen first.
func (w *watching) paint(alarm string) error {
	v := w.run.view()
	_, height := w.run.size()
	pairs := slices.Collect(maps.Values(w.pairs))
	text := v.ListOf(pairs, w.asOf, height-2)
	if w.one && len(pairs) == 1 {
		text = v.Show(pairs[0])
	}
	text = v.Screen.Paint(table.Cut(table.Clean(alarm), v.Screen.Width), table.Bad) + "\n" + text
	const home, clearLine, clearRest = "\x1b[H", "\x1b[K", "\x1b[J"
	return w.run.write(home + strings.ReplaceAll(text, "\n", clearLine+"\n") + clearRest)
}

// changes prints a line for each pair of which something else is to be said than before.
func (w *watching) changes() error {
	pairs := slices.Collect(maps.Values(w.pairs))
	slices.SortFunc(pairs, func(a, b *witnessv1.Pair) int { return strings.Compare(a.GetName(), b.GetName()) })
	for _, p := range pairs {
		line := view.Change(p)
		if w.lines[p.GetId()] == line {
			continue
		}
		w.lines[p.GetId()] = line
		if err := w.run.write(w.run.view().Stamp(w.asOf) + "  " + view.Line(p) + "\n"); err != nil {
			return err
		}
	}
	return nil
}

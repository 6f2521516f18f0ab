package main

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"

	"github.com/witnessd/witnessd/cmd/witnessctl/endpoints"
	"github.com/witnessd/witnessd/cmd/witnessctl/view"
	witnessv1 "github.com/witnessd/witnessd/proto/gen/witness/v1"
)

// How long a wait puts up with silence. A procedure goes on without us; only our view of it can be lost.
const (
	procedureQuiet = 3 * time.Second
	procedureLost  = time.Minute
)

// waiting is a procedure that is being watched to its end.
type waiting struct {
	run     *run
	what    string
	start   time.Time // when the procedure started, on this machine's clock
	step    witnessv1.ProcedureStep
	shown   bool
	now     atomic.Pointer[string] // what it does, for progress
	outcome *witnessv1.Outcome
	last    *witnessv1.WatchProcedureResponse
}

// wait prints each step of a procedure as it happens, over whichever nodes are there, until it has ended.
// It was begun if somebody has seen it begin: then it goes on, whatever becomes of the watching.
func (r *run) wait(ctx context.Context, id, what string, begun bool) error {
	nodes, err := r.witness()
	if err != nil {
		return err
	}
	w := &waiting{run: r, what: what, start: time.Now()}
	text := "waiting for the witness"
	w.now.Store(&text)
	stop := r.progress.during(func() string { return *w.now.Load() })
	err = endpoints.Follow(ctx, nodes, endpoints.Patience{Quiet: procedureQuiet, Lost: procedureLost},
		endpoints.Stream[witnessv1.WatchProcedureResponse]{
			Open: func(ctx context.Context, conn grpc.ClientConnInterface) (
				grpc.ServerStreamingClient[witnessv1.WatchProcedureResponse], error,
			) {
				return witnessv1.NewAdminServiceClient(conn).WatchProcedure(ctx,
					&witnessv1.WatchProcedureRequest{Procedure: id})
			},
			Each: w.each,
		})
	stop()
	switch {
	case err != nil:
		if refusal, ok := errors.AsType[*endpoints.Refusal](err); ok && !begun && !w.shown {
			return refusal // nothing is known of such a procedure
		}
		return &unseen{what: what, procedure: id, err: err}
	case !w.outcome.GetDone():
		return errors.Join(w.result(ctx), &notDone{w.outcome})
	default:
		return w.result(ctx)
	}
}

// each shows what is new in a message.
func (w *waiting) each(m *witnessv1.WatchProcedureResponse) (done bool, err error) {
	s := m.GetState()
	w.last = m
	if !w.shown {
		w.start = time.Now().Add(-view.Age(s))
	}
	elapsed := view.Elapsed(time.Since(w.start))
	if o := s.GetOutcome(); o != nil {
		w.outcome = o
		return true, w.run.tell("%s  %s\n", elapsed, view.OutcomeText(o))
	}
	line := view.StepLine(s)
	now := w.what + " is at " + line
	w.now.Store(&now)
	if w.shown && w.step == s.GetProcedure().GetStep() {
		return false, nil
	}
	w.shown, w.step = true, s.GetProcedure().GetStep()
	return false, w.run.tell("%s  %s\n", elapsed, line)
}

// result prints the end for programs, and for people how the pair is now: as far as it can be read, for
// the procedure has ended in any case.
func (w *waiting) result(ctx context.Context) error {
	if w.run.settings.Output != outputTable {
		return w.run.show(w.last, nil)
	}
	pair := w.last.GetState().GetPair()
	if w.outcome.GetProcedure().GetKind() == witnessv1.ProcedureKind_PROCEDURE_KIND_REMOVE && w.outcome.GetDone() {
		return nil
	}
	now, err := w.run.getPair(ctx, pair, false)
	if err != nil {
		w.run.progress.say(fmt.Sprintf("how the pair is now could not be read: %v", err))
		return nil
	}
	return w.run.write("now " + view.Aftermath(now.GetPair(), w.outcome) + "\n")
}

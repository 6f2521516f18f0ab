package webhook

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/witnessd/witnessd/witnessd/ledger"
)

// walk is one webhook's way through the history, in one term.
type walk struct {
	*term
	hook Hook
	log  *slog.Logger

	mu       sync.Mutex // guards what is below, which the recorder reads
	through  uint64     // the last event that it is through with
	recorded uint64     // the last of these that the log was told of
	dirty    bool       // the log is to be told
}

const (
	// readAtOnce bounds the events that a walk holds.
	readAtOnce = 100
	// farBehind is after how many events that the webhook does not want the log is told all the same. The history
	// holds 10,000: a cursor that fell out of it would make the next leader tell of events missed that nobody wanted.
	farBehind = 1000
	// beginAgain is how soon a webhook that cannot begin tries again.
	beginAgain = time.Second
	// loggedEvery is how many failures in a row are worth another line of the log.
	loggedEvery = 10
)

func (w *walk) run(ctx context.Context) {
	defer w.metrics.idle(w.hook.Name)
	at, begun := w.begin(ctx)
	if !begun {
		return
	}
	w.from(at)
	for {
		rung := w.bell.rung() // taken first, so that nothing that comes while we read is slept through
		events := w.ledger.Events(ledger.EventFilter{After: w.through, Limit: readAtOnce})
		if len(events) == 0 {
			select {
			case <-ctx.Done():
				return
			case <-rung:
				continue
			}
		}
		if !w.passAll(ctx, events) {
			return
		}
	}
}

// begin finds where the webhook goes on; a new one begins at the end of the history, and not before the log says so:
// the next leader must not begin later.
func (w *walk) begin(ctx context.Context) (uint64, bool) {
	for ; ctx.Err() == nil; sleep(ctx, beginAgain) {
		if w.ledger.Level() < 1 {
			continue // not every node reads what the log is to be told
		}
		if at, begun := w.ledger.Delivered(w.hook.Name); begun {
			return at, true
		}
		first := ledger.Cursor{Webhook: w.hook.Name, Sequence: w.ledger.LastSequence()}
		if err := w.propose(ctx, ledger.EncodeDelivered(first)); err != nil {
			w.log.DebugContext(ctx, "webhook not begun", "error", err)
			continue
		}
		w.log.InfoContext(ctx, "webhook begins", "after_sequence", first.Sequence)
		if at, begun := w.ledger.Delivered(w.hook.Name); begun {
			return at, true
		}
	}
	return 0, false
}

// passAll takes the webhook through events that follow each other; false if ctx has ended.
func (w *walk) passAll(ctx context.Context, events []ledger.Event) bool {
	if next := events[0]; next.Sequence > w.through+1 {
		w.log.ErrorContext(ctx, "webhook has missed events: the history does not hold them any more",
			"first_sequence", w.through+1, "count", next.Sequence-w.through-1)
		if !w.deliver(ctx, tellMissed(w.hook.Name, w.through+1, next)) {
			return false
		}
		w.passed(next.Sequence-1, true)
	}
	for _, e := range events {
		wanted := w.hook.wants(e)
		if wanted && !w.deliver(ctx, tell(e)) {
			return false
		}
		w.passed(e.Sequence, wanted)
	}
	return true
}

// deliver calls until the receiver has taken the message; false if ctx has ended before.
func (w *walk) deliver(ctx context.Context, m message) bool {
	w.metrics.waits(w.hook.Name, m.at)
	defer w.metrics.idle(w.hook.Name)
	for failures := 0; ctx.Err() == nil; {
		f := w.call(ctx, w.hook, m)
		if f == nil {
			w.metrics.delivered.WithLabelValues(w.hook.Name).Inc()
			if failures > 0 {
				w.log.InfoContext(ctx, "webhook delivered again", "id", m.id, "failures", failures)
			}
			return true
		}
		if ctx.Err() != nil {
			return false
		}
		failures++
		w.metrics.failed.WithLabelValues(w.hook.Name).Inc()
		delay := f.delay(failures)
		w.complain(ctx, m, f, failures, delay)
		if !sleep(ctx, delay) {
			return false
		}
	}
	return false
}

// complain logs a failure. One that a person must mend is said each time; it comes seldom.
func (w *walk) complain(ctx context.Context, m message, f *failure, failures int, delay time.Duration) {
	level := slog.LevelDebug
	switch {
	case f.refused():
		level = slog.LevelError
	case failures == 1, failures%loggedEvery == 0:
		level = slog.LevelWarn
	}
	w.log.Log(ctx, level, "webhook not delivered", "id", m.id, "type", m.kind, "error", f.why, "status", f.status,
		"failures", failures, "next_in", delay.Round(time.Millisecond).String())
}

// from sets the walk's beginning, which the log knows.
func (w *walk) from(at uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.through, w.recorded = at, at
}

// passed notes that the webhook is through with an event.
func (w *walk) passed(at uint64, delivered bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.through = at
	if delivered || at-w.recorded >= farBehind {
		w.dirty = true
		w.tellRecorder()
	}
}

// due is what the log is to be told, if anything; the walk counts as recorded then.
func (w *walk) due() (uint64, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	due := w.dirty
	w.dirty = false
	if due {
		w.recorded = w.through
	}
	return w.through, due
}

// again has the log told once more: it was not.
func (w *walk) again() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.dirty = true
	w.tellRecorder()
}

func (w *walk) tellRecorder() {
	select {
	case w.moved <- struct{}{}:
	default:
	}
}

package ledger

import (
	"context"
	"errors"
)

// ErrLagged ends a watch that has missed changes: because it did not keep up, or because this node was given
// a snapshot in place of log entries. Whoever needs to know everything watches again and reads it all anew.
var ErrLagged = errors.New("changes were missed: watch again and read everything anew")

// watchBuffer is how many changes a watch may be behind. Each holds two records, so a watch that stands
// still costs at most about 4 MB; a thousand pairs that fail over at once make about three thousand changes.
const watchBuffer = 4096

// Watch delivers every change after [Watch.Index], in the order of the log.
type Watch struct {
	ledger  *Ledger
	index   uint64
	changes chan *Change
	stop    func() bool // ends the wait for the context; all below is guarded by ledger.mu
	err     error       // why the watch ended, nil while it goes on
}

// Watch begins to deliver changes. It ends with the context, or with [ErrLagged]. To miss nothing, watch
// first and read the state after that: what was read may be ahead of the changes delivered, never behind.
func (l *Ledger) Watch(ctx context.Context) *Watch {
	l.mu.Lock()
	defer l.mu.Unlock()
	w := &Watch{ledger: l, index: l.state.applied, changes: make(chan *Change, watchBuffer)}
	l.watches[w] = struct{}{}
	w.stop = context.AfterFunc(ctx, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		w.end(context.Cause(ctx))
	})
	return w
}

// Index is that of the last entry applied when the watch began.
func (w *Watch) Index() uint64 { return w.index }

// Changes is closed when the watch ends; what was in it until then is delivered.
func (w *Watch) Changes() <-chan *Change { return w.changes }

// Err says why the watch ended; nil while it goes on.
func (w *Watch) Err() error {
	w.ledger.mu.RLock()
	defer w.ledger.mu.RUnlock()
	return w.err
}

// offer hands a change over if there is room, and else ends the watch: Apply waits for nobody. The caller
// holds the lock.
func (w *Watch) offer(c *Change) {
	select {
	case w.changes <- c:
	default:
		w.end(ErrLagged)
	}
}

// end is final, and the first reason stands. The caller holds the lock.
func (w *Watch) end(err error) {
	if w.err != nil {
		return
	}
	w.err = err
	w.stop()
	delete(w.ledger.watches, w)
	close(w.changes)
}

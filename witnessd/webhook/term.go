package webhook

import (
	"context"
	"sync"
	"time"

	"github.com/witnessd/witnessd/witnessd/ledger"
)

// term is the work of one leader.
type term struct {
	*Sender
	walks []*walk
	bell  *bell
	moved chan struct{} // has one token while a walk has moved and the log does not say so
}

// recordEvery is how often the log is told, at most, how far webhooks have come: what was delivered since is
// delivered again if the leader is lost.
const recordEvery = time.Second

// listen rings when the history has grown.
func (t *term) listen(ctx context.Context) {
	for w := t.ledger.Watch(ctx); ctx.Err() == nil; w = t.ledger.Watch(ctx) {
		t.bell.ring() // what came before the watch began
		for c := range w.Changes() {
			if len(c.Events) > 0 {
				t.bell.ring()
			}
		}
	}
}

// record writes into the log how far the webhooks have come, all of them in one entry.
func (t *term) record(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.moved:
		}
		var cursors []ledger.Cursor
		for _, w := range t.walks {
			if at, due := w.due(); due {
				cursors = append(cursors, ledger.Cursor{Webhook: w.hook.Name, Sequence: at})
			}
		}
		if len(cursors) == 0 {
			continue // the token came while the log was being told
		}
		if err := t.propose(ctx, ledger.EncodeDelivered(cursors...)); err != nil {
			if ctx.Err() != nil {
				return
			}
			t.log.WarnContext(ctx, "how far webhooks have come is not recorded", "error", err)
			for _, w := range t.walks {
				w.again()
			}
		}
		if !sleep(ctx, recordEvery) {
			return
		}
	}
}

// bell wakes all that wait for the next ring.
type bell struct {
	mu   sync.Mutex
	next chan struct{}
}

func newBell() *bell { return &bell{next: make(chan struct{})} }

func (b *bell) ring() {
	b.mu.Lock()
	defer b.mu.Unlock()
	close(b.next)
	b.next = make(chan struct{})
}

// rung is closed at the next ring.
func (b *bell) rung() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.next
}

package fleet

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"
)

const (
	// writePause is the time between two writes of one client: short enough to see a gap of 50 ms.
	writePause = 5 * time.Millisecond
	// writeTimeout is how long a client waits for one commit before it counts it as not acknowledged. Commits
	// held for a lost mirror wait longer than that in no case the tests expect.
	writeTimeout = 10 * time.Second
)

// Ack is one acknowledged write.
type Ack struct {
	Row  int64
	Host string
	Sent time.Time
	At   time.Time
}

// Writer writes to both hosts of a pair all the time, each with a client of its own that knows nothing of who
// is primary: every write that a host acknowledges counts, so that two hosts which both accept writes show.
type Writer struct {
	pair   *Pair
	cancel context.CancelFunc
	ended  sync.WaitGroup

	mu   sync.Mutex
	acks []Ack
}

// Write starts the clients.
func (p *Pair) Write(ctx context.Context) *Writer {
	ctx, cancel := context.WithCancel(ctx)
	w := &Writer{pair: p, cancel: cancel}
	for _, h := range p.Hosts {
		w.ended.Go(func() { w.client(ctx, h) })
	}
	return w
}

// Stop ends the clients.
func (w *Writer) Stop() {
	w.cancel()
	w.ended.Wait()
}

// client reconnects for ever. A write that fails is not acknowledged; whether it is there does not matter.
func (w *Writer) client(ctx context.Context, h *Host) {
	var c conn
	for ctx.Err() == nil {
		if c == nil {
			var err error
			if c, err = h.engine.connect(ctx); err != nil {
				c = nil
				pause(ctx, 4*writePause)
				continue
			}
		}
		row, sent := w.pair.rows.Add(1), time.Now()
		writing, cancel := context.WithTimeout(ctx, writeTimeout)
		err := c.write(writing, row)
		cancel()
		if err != nil {
			// A mirror refuses each write and closes nothing; a new connection each time costs little here.
			c.close()
			c = nil
			pause(ctx, 4*writePause)
			continue
		}
		w.mu.Lock()
		w.acks = append(w.acks, Ack{Row: row, Host: h.Name, Sent: sent, At: time.Now()})
		w.mu.Unlock()
		pause(ctx, writePause)
	}
	if c != nil {
		c.close()
	}
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// Acks returns what was acknowledged so far, in the order of acknowledgement.
func (w *Writer) Acks() []Ack {
	w.mu.Lock()
	acks := slices.Clone(w.acks)
	w.mu.Unlock()
	slices.SortFunc(acks, func(a, b Ack) int { return a.At.Compare(b.At) })
	return acks
}

// Gap is the longest time without an acknowledgement from any host between from and until, the ends included.
func (w *Writer) Gap(from, until time.Time) time.Duration {
	last, longest := from, time.Duration(0)
	for _, a := range w.Acks() {
		if a.At.Before(from) || a.At.After(until) {
			continue
		}
		longest, last = max(longest, a.At.Sub(last)), a.At
	}
	return max(longest, until.Sub(last))
}

// FirstOn is when the host acknowledged its first write that was sent after from.
func (w *Writer) FirstOn(host string, from time.Time) (time.Time, bool) {
	for _, a := range w.Acks() {
		if a.Host == host && a.Sent.After(from) {
			return a.At, true
		}
	}
	return time.Time{}, false
}

// fastestReturn is less time than the right could ever take to move away and come back.
const fastestReturn = 300 * time.Millisecond

// Overlap counts the acknowledgements of one host that lie between two of the other, closer together than the
// right could have moved there and back: any is a split brain.
func (w *Writer) Overlap() int {
	bad := 0
	acks := w.Acks()
	for i := 1; i+1 < len(acks); i++ {
		between := acks[i-1].Host == acks[i+1].Host && acks[i].Host != acks[i-1].Host
		if between && acks[i+1].At.Sub(acks[i-1].At) < fastestReturn {
			bad++
		}
	}
	return bad
}

// Lost reads every row from the host and says which acknowledged ones are missing.
func (w *Writer) Lost(ctx context.Context, h *Host) ([]Ack, error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	acks := w.Acks()
	c, err := h.engine.connect(ctx)
	if err != nil {
		return nil, fmt.Errorf("connect to %s to count rows: %w", h.Name, err)
	}
	defer c.close()
	found, err := c.rows(ctx, w.pair.rows.Load())
	if err != nil {
		return nil, fmt.Errorf("count rows at %s: %w", h.Name, err)
	}
	var lost []Ack
	for _, a := range acks {
		if !found[a.Row] {
			lost = append(lost, a)
		}
	}
	return lost, nil
}

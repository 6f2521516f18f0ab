package arbiter

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/witnessd/witnessd/witnessd/ledger"
	"github.com/witnessd/witnessd/witnessd/pair"
)

const (
	// tick is how late a wait that has run out can be noticed.
	tick = 25 * time.Millisecond
	// beatRoom is enough for one second of the largest witness planned: 5,000 hosts, two heartbeats a second.
	beatRoom = 10_000
	// callRoom bounds what operators and new sessions can pile up.
	callRoom = 1024
	// waitingRoom bounds the questions that wait for their confirmation, about a second's worth.
	waitingRoom = 2 * beatRoom
	// burst bounds how long one kind of work can keep the others waiting.
	burst = 256
	// doubtLimit is how long a term may go on with a change whose outcome is unknown. Raft ends a term whose
	// entries it loses track of, so this is never reached unless something is badly wrong.
	doubtLimit = pair.Instant(5 * time.Second)
)

// Office is the work of one term: the loop below owns all of it, and the rest of the program sends to it.
type Office struct {
	Options
	term pair.Term
	ctx  context.Context
	done chan struct{} // closed when the office is closed

	beats    chan beat
	calls    chan func()
	outcomes chan outcome
	watch    *ledger.Watch
	work     sync.WaitGroup // proposals and fencing commands

	// All below belongs to the loop.
	dockets map[pair.ID]*docket
	names   map[string]*docket
	hosts   map[pair.HostID]*host
	claims  map[place]string // pair that has, or is about to have, an instance
	waiting []question
	// creating holds those who wait for a new pair of that name.
	creating map[string]*inquiry
	swept    pair.Instant
	seats    uint64 // counts the seats taken, in order
	asked    uint64 // counts what operators asked
}

// place is a database instance on a host; it belongs to one pair at most.
type place struct {
	host     pair.HostID
	instance string
}

func open(ctx context.Context, options Options, term pair.Term) *Office {
	o := &Office{
		Options: options, term: term, ctx: ctx, done: make(chan struct{}),
		beats: make(chan beat, beatRoom), calls: make(chan func(), callRoom), outcomes: make(chan outcome),
		dockets: make(map[pair.ID]*docket), names: make(map[string]*docket),
		hosts: make(map[pair.HostID]*host), claims: make(map[place]string),
		creating: make(map[string]*inquiry),
	}
	// Watch first and read after it, so that no change falls between.
	o.watch = options.Ledger.Watch(ctx)
	records := options.Ledger.Pairs()
	// R4: this instant is after the barrier of the term was applied.
	now := options.Clock()
	for _, r := range records {
		o.enter(&docket{record: r, watch: pair.NewWatch(r, term, now)})
	}
	return o
}

// Term is the term of this office.
func (o *Office) Term() pair.Term { return o.term }

// Done is closed when the office has ended.
func (o *Office) Done() <-chan struct{} { return o.done }

func (o *Office) run() error {
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	for {
		// Taken before Confirmed is asked, so that no confirmation is missed in between.
		confirmed := o.confirmChanged()
		if !o.confirm() {
			return nil
		}
		select {
		case <-o.ctx.Done():
			return nil
		case c, ok := <-o.watch.Changes():
			if !ok {
				return o.lost()
			}
			o.follow(c)
		case b := <-o.beats:
			o.take(b)
			for range min(burst, len(o.beats)) {
				o.take(<-o.beats)
			}
		case call := <-o.calls:
			call()
		case out := <-o.outcomes:
			o.settle(out)
		case <-confirmed:
		case <-ticker.C:
			if err := o.tick(); err != nil {
				return err
			}
		}
	}
}

// confirmChanged is nil while nothing waits, so that the log's every message does not wake the office.
func (o *Office) confirmChanged() <-chan struct{} {
	if len(o.waiting) == 0 {
		return nil
	}
	return o.Log.ConfirmChanged()
}

// lost says why the ledger's changes have ended.
func (o *Office) lost() error {
	if err := o.watch.Err(); !errors.Is(err, context.Canceled) && o.ctx.Err() == nil {
		return fmt.Errorf("follow the ledger: %w", err)
	}
	return nil
}

// close ends what the loop has left behind. The context of the office has ended, so nobody can add to it.
func (o *Office) close() {
	o.work.Wait()
	close(o.done)
}

// send hands work to the loop and waits for room; false if the office or ctx ends first.
func (o *Office) send(ctx context.Context, call func()) bool {
	select {
	case o.calls <- call:
		return true
	case <-o.ctx.Done():
	case <-ctx.Done():
	}
	return false
}

// tick lets time pass for the pairs for which that can matter.
func (o *Office) tick() error {
	now := o.Clock()
	for _, d := range o.dockets {
		switch {
		case d.doubt != 0 && now > d.doubt+doubtLimit:
			return fmt.Errorf("pair %s in term %d: %w", d.record.Name, o.term, ErrOutcomeUnknown)
		case d.dropAt != 0 && now >= d.dropAt:
			d.dropAt = 0
			o.step(d, pair.Dropped{})
		case now >= d.due:
			o.step(d, pair.Tick{})
		}
	}
	if now >= o.swept+pair.Instant(time.Second) {
		o.swept = now
		o.sweep(now)
	}
	return nil
}

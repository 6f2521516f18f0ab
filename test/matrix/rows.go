package main

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/witnessd/witnessd/test/fleet"
)

// row is one line of the matrix.
type row struct {
	flag string
	name string // what is done
	// limit of the median outage; 0: none.
	limit    time.Duration
	decision decision
	lab      lab
	profile  string // timing; empty: default
	load     int    // sessions of pgbench besides the writers
	badLine  bool   // answers may arrive late

	// fault and how long it lasts; without a fault, inject does all and returns when it is mended.
	fault  fault
	lasts  time.Duration
	inject injection
	// touches names what the fault is done to. Random faults at the same time touch different things; a row without
	// is not one of them.
	touches []party
}

// fault is something that befalls the system. It returns at once with what mends it; nil: it mends itself.
type fault func(ctx context.Context, r *run) (mend func() error, err error)

// injection does something, mends it and returns then.
type injection func(ctx context.Context, r *run) error

type party int

// What faults are done to.
const (
	thePrimary party = iota
	theMirror
	theWitness
)

// decision is what the documents say about a fault.
type decision struct {
	says  string // for people
	epoch epoch
	right right
	// service while the fault lasts.
	service service
	// servesWithin is when somebody serves again at the latest, and stopsWithin when nobody does any more; both count
	// from the fault and are far above the limit: that is for the figures.
	servesWithin, stopsWithin time.Duration
}

type epoch int

// Whether the right moves to the mirror.
const (
	stays epoch = iota
	moves       // once
	home        // the primary keeps it, and may have given it back meanwhile
	either
)

type right int

// Whether the primary is exposed meanwhile.
const (
	leased right = iota
	sole
	anyRight
)

type service int

// Whether anybody can write while the fault lasts.
const (
	serves     service = iota
	stops              // nobody, until it is mended
	anyService         // not promised
)

// lab is what a row needs besides namespaces.
type lab struct {
	Lines  bool
	Clocks bool
	Disks  bool
}

// Limits of the issue.
const (
	crashLimit      = 800 * time.Millisecond
	hostLimit       = 4 * time.Second
	fastLimit       = 1800 * time.Millisecond
	switchLimit     = 800 * time.Millisecond
	exposeLimit     = 2500 * time.Millisecond
	unnoticed       = 200 * time.Millisecond
	clockLimit      = time.Second     // PostgreSQL's own: the mirror connects anew
	bothLimit       = 6 * time.Second // a new leader waits for the whole lease that the old one may have granted
	serviceLate     = 10 * time.Second
	stopsAfterLease = 3500 * time.Millisecond
)

// Decisions that several rows share.
func takesOver(says string) decision {
	return decision{says: says, epoch: moves, right: anyRight, servesWithin: serviceLate}
}

func nobodyMoves(says string) decision {
	return decision{says: says, epoch: stays, right: leased, servesWithin: serviceLate}
}

func exposes(says string) decision {
	return decision{says: says, epoch: stays, right: sole, servesWithin: serviceLate}
}

// shortRows are what everybody can run before a change.
const shortRows = "crash,host,link-pm,link-pw,link-mw,witness,switchover-load"

// table are all rows, in the order of their price, those of one laboratory together.
func table() []row {
	return slices.Concat(hostRows(), linkRows(), witnessRows(), procedureRows(), processRows(), lineRows(), clockRows(),
		diskRows())
}

// rendered are the rows of the document: the random faults and the soak are no faults of their own.
func rendered() []row {
	return append(table(),
		row{flag: randomRow, name: "random faults in a row, up to three at once", decision: decision{
			says: "nothing lost, nobody twice, armed again by itself; single faults decided as above",
		}},
		row{flag: soakRow, name: "soak: every cable with jitter and a little loss, every core busy", decision: decision{
			says: "nobody moves, nobody is exposed",
		}})
}

func rowNamed(flag string) (row, bool) {
	list := table()
	n := slices.IndexFunc(list, func(r row) bool { return r.flag == flag })
	if n < 0 {
		return row{}, false
	}
	return list[n], true
}

// together does several faults at once and mends them in the order of their doing.
func together(faults ...fault) fault {
	return func(ctx context.Context, r *run) (func() error, error) {
		var mends []func() error
		all := func() error {
			var errs []error
			for _, m := range mends {
				if m != nil {
					errs = append(errs, m())
				}
			}
			return errors.Join(errs...)
		}
		for _, f := range faults {
			m, err := f(ctx, r)
			mends = append(mends, m)
			if err != nil {
				return nil, errors.Join(err, all())
			}
		}
		return all, nil
	}
}

// after waits before the fault.
func after(d time.Duration, f fault) fault {
	return func(ctx context.Context, r *run) (func() error, error) {
		if err := sleep(ctx, d); err != nil {
			return nil, err
		}
		return f(ctx, r)
	}
}

// onHost makes a fault of something that is done to one host and undone.
func onHost(which party, do, undo func(*fleet.Host) error) fault {
	return func(_ context.Context, r *run) (func() error, error) {
		h := r.host(which)
		if undo == nil {
			return nil, do(h)
		}
		return func() error { return undo(h) }, do(h)
	}
}

// sure makes a function that cannot fail one that could.
func sure(do func(*fleet.Host)) func(*fleet.Host) error {
	return func(h *fleet.Host) error {
		do(h)
		return nil
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

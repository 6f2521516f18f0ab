package whole

import (
	"slices"
	"sync"
	"time"
)

// books is the ledger of one pair's acknowledged commits, and the judge of the two promises that matter most:
// G1, never two hosts that let clients in, and G2, no acknowledged commit missing where a host begins to serve.
// They are judged at every acknowledgement and every opening, under the lock that all copies share.
type books struct {
	w      *world
	pair   string
	copies []*database
	next   uint64
	acks   []ack
}

type ack struct {
	id   uint64
	host string
	at   time.Duration
}

// alone is G1. Called with world.mu held.
func (b *books) alone(d *database, what string) {
	for _, other := range b.copies {
		if other != d && other.open() {
			b.w.violate("G1: pair %s: %s %s while %s is open too", b.pair, d.name, what, other.name)
		}
	}
}

// acknowledged is called for every commit that a client is told of. Called with world.mu held.
func (b *books) acknowledged(d *database, id uint64) {
	b.alone(d, "acknowledges a commit")
	b.acks = append(b.acks, ack{id: id, host: d.name, at: b.w.now()})
}

// opened is called when a host begins to serve. Called with world.mu held.
func (b *books) opened(d *database) {
	b.alone(d, "opens")
	missing := 0
	for _, a := range b.acks {
		if _, has := slices.BinarySearch(d.log, a.id); !has {
			missing++
		}
	}
	if missing > 0 {
		b.w.violate("G2: pair %s: %s opens without %d acknowledged commits", b.pair, d.name, missing)
	}
}

// dropped is called when a copy drops what its new primary does not have: nobody was told of that.
// Called with world.mu held.
func (b *books) dropped(d *database, ids []uint64) {
	for _, a := range b.acks {
		if _, was := slices.BinarySearch(ids, a.id); was {
			b.w.violate("G2: pair %s: %s drops commit %d, which %s acknowledged", b.pair, d.name, a.id, a.host)
		}
	}
}

// gap is the longest time without any acknowledgement in an interval.
func (b *books) gap(from, to time.Duration) time.Duration {
	b.w.mu.Lock()
	defer b.w.mu.Unlock()
	last, longest := from, time.Duration(0)
	i, _ := slices.BinarySearchFunc(b.acks, from, func(a ack, at time.Duration) int { return int(a.at - at) })
	for _, a := range b.acks[i:] {
		if a.at > to {
			break
		}
		longest, last = max(longest, a.at-last), a.at
	}
	return max(longest, to-last)
}

// clients writes on every host of the pair, one commit after the other, and knows nothing of who is primary.
func (b *books) clients(pace time.Duration, running *sync.WaitGroup, stop <-chan struct{}) {
	for _, d := range b.copies {
		running.Go(func() {
			ticker := time.NewTicker(pace)
			defer ticker.Stop()
			for {
				select {
				case <-stop:
					return
				case <-ticker.C:
					d.write()
				}
			}
		})
	}
}

package protocol

import (
	"slices"
	"time"

	"github.com/witnessd/witnessd/agent/hold"
	"github.com/witnessd/witnessd/witnessd/pair"
)

// ledger is what the world holds against the promises: every write that an engine acknowledged, every release
// that said that the mirror has everything.
type ledger struct {
	wrote       int
	acked       []ack               // in the order in which they were acknowledged
	ids         []int               // the same, in order of the writes
	forgiven    map[int]bool        // lost with an operator's word
	aloneAt     time.Duration       // when an engine last stopped holding commits by itself
	withinBound int                 // of the forgiven, those that it has stated
	asIs        bool                // the record is one whose past the world cannot know: G2 is not looked at
	released    map[pair.Epoch]bool // by its primary; true: with everything on the mirror
	lease       grant               // the longest that the witness has granted for the newest epoch
}

// grant is a lease, until when on the world's clock.
type grant struct {
	epoch pair.Epoch
	until time.Duration
}

// add keeps the longest grant of the newest epoch.
func (g *grant) add(epoch pair.Epoch, until time.Duration) {
	if epoch > g.epoch {
		*g = grant{epoch: epoch}
	}
	if epoch == g.epoch {
		g.until = max(g.until, until)
	}
}

type ack struct {
	id   int
	host string
	at   time.Duration
}

func (w *world) ack(id int, host string) {
	w.acked = append(w.acked, ack{id: id, host: host, at: w.now})
	if n := len(w.ids); n == 0 || w.ids[n-1] < id {
		w.ids = append(w.ids, id)
		return
	}
	i, _ := slices.BinarySearch(w.ids, id)
	w.ids = slices.Insert(w.ids, i, id)
}

// gaveBack takes note of a release.
func (l *ledger) gaveBack(e pair.Epoch, everything bool) {
	if l.released == nil {
		l.released = map[pair.Epoch]bool{}
	}
	l.released[e] = l.released[e] || everything
}

// over says whether nobody can serve by this grant: it has run out, as far as clocks may differ, or its epoch was
// given back.
func (w *world) over(g grant) bool {
	_, released := w.released[g.epoch]
	return released || g.until <= w.now+w.record.LongestLease*21/1000
}

// lacking lists the acknowledged writes that a database does not have.
func (w *world) lacking(d *database) []int {
	var missing []int
	log := d.log
	for _, id := range w.ids {
		for len(log) > 0 && log[0] < id {
			log = log[1:]
		}
		if (len(log) == 0 || log[0] != id) && !w.forgiven[id] {
			missing = append(missing, id)
		}
	}
	return missing
}

// firstLost names a lost write by who acknowledged it, and when.
func (w *world) firstLost(lost []int) ack {
	i := slices.IndexFunc(w.acked, func(a ack) bool { return a.id == lost[0] })
	return w.acked[i]
}

// applied looks at what every accepted command must keep, and forgives what an operator accepted to lose.
func (w *world) applied(before, after pair.Record, body pair.Body) {
	if after.Epoch < before.Epoch || after.Revision < before.Revision {
		w.violate("epoch or revision went back")
	}
	if g := w.lease; after.Primary != before.Primary && g.epoch == before.Epoch && !w.over(g) {
		// Not yet two primaries, but nothing prevents them.
		w.violate("epoch %d moves the right while a lease of epoch %d runs until %v", after.Epoch, g.epoch, g.until)
	}
	switch b := body.(type) {
	case pair.Promote:
		p := before.Procedure
		accepted := p != nil && p.AcceptLoss && p.Epoch == before.Epoch
		if before.Right == pair.RightSole && !accepted && !w.released[before.Epoch] {
			w.violate("the sole right of epoch %d was superseded without an operator and without a release", before.Epoch)
		}
		if db := w.hosts[string(after.Primary)].db; b.Forced || accepted && db.strict {
			w.forgive(w.lacking(db))
		}
	case pair.Adopt:
		for _, m := range after.Members {
			if f := w.hosts[string(m.Host)].file; pair.Epoch(f.Epoch) >= after.Epoch {
				w.violate("epoch %d was adopted, and %s remembers epoch %d", after.Epoch, m.Host, f.Epoch)
			}
		}
	}
}

func (w *world) forgive(lost []int) {
	if w.forgiven == nil {
		w.forgiven = map[int]bool{}
	}
	for _, id := range lost {
		w.forgiven[id] = true
	}
}

// opened checks G2 at the moment when a database becomes the primary: its log has every acknowledged write,
// unless an operator accepted the loss.
func (w *world) opened(d *database) {
	if d.bound > 0 && !d.strict {
		w.bounded(d)
	}
	if lost := w.lacking(d); len(lost) > 0 && !w.asIs {
		a := w.firstLost(lost)
		w.violate("G2: %s opens without %d acknowledged writes, the first by %s at %v", d.h.name, len(lost), a.host, a.at)
	}
}

// bounded forgives what an engine that cannot hold commits has acknowledged alone for no longer than it states.
func (w *world) bounded(d *database) {
	var within []int
	for _, id := range w.lacking(d) {
		i := slices.IndexFunc(w.acked, func(a ack) bool { return a.id == id })
		if at := w.acked[i].at; at >= w.aloneAt && at <= w.aloneAt+d.bound {
			within = append(within, id)
		}
	}
	w.forgive(within)
	w.withinBound += len(within)
}

// vowed checks at the same moment that what this host promised as a mirror has run out.
func (w *world) vowed(h *host) {
	if g := h.vow; g.epoch < pair.Epoch(h.file.Epoch) && !w.over(g) {
		w.violate("%s opens epoch %d while its promise of epoch %d runs until %v", h.name, h.file.Epoch, g.epoch, g.until)
	}
}

// covered checks that a right which ends has ended, the fence's own time included, before the lease that it rests on
// ends for who granted it (rule R1).
func (w *world) covered(h *host, r hold.Renew) {
	epoch := pair.Epoch(r.Epoch)
	if r.Endless || epoch < w.lease.epoch {
		return
	}
	ends := w.now + h.lasts(r.Until.Sub(h.now()))
	if !h.kernel {
		ends += pair.MinimumGuard
	}
	for _, p := range w.parts {
		if p.vow.epoch > epoch || p.vow.epoch == epoch && ends <= p.vow.until {
			return
		}
	}
	if w.lease.epoch != epoch || ends > w.lease.until {
		w.violate("%s may serve epoch %d until %v, the leases end before", h.name, epoch, ends)
	}
}

// check looks for two primaries that clients can write to.
func (w *world) check() {
	open := 0
	for _, h := range w.parts {
		if h.db.open() {
			open++
		}
	}
	if open > 1 {
		w.violate("G1: two hosts run as primary")
		w.queue = nil
	}
}

// firstAck is when the host acknowledged its first write at or after from.
func (w *world) firstAck(host string, from time.Duration) time.Duration {
	for _, a := range w.acked {
		if a.host == host && a.at >= from {
			return a.at
		}
	}
	return -1
}

// longestGap is the longest time without any acknowledged write since from.
func (w *world) longestGap(from time.Duration) time.Duration {
	last, longest := from, time.Duration(0)
	for _, a := range w.acked {
		if a.at >= from {
			longest, last = max(longest, a.at-last), a.at
		}
	}
	return max(longest, w.now-last)
}

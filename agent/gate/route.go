package gate

import (
	"context"
	"math"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/witnessd/witnessd/agent/hold"
)

// Route says where clients go.
type Route struct {
	// Local: this host serves, until Until on the boot-time clock, or without end if Endless.
	Local   bool
	Until   hold.Instant
	Endless bool
	// Partner is the partner's gate (host:port) while the partner is primary and says that it serves; else empty.
	// It counts only without Local.
	Partner string
	// PartnerHosts are the addresses from which the partner's gate may come.
	PartnerHosts []netip.Addr
}

// goal is the part of a route whose change ends connections.
type goal struct {
	local   bool
	partner string
}

func (r Route) goal() goal {
	if r.Local {
		return goal{local: true}
	}
	return goal{partner: r.Partner}
}

func (r Route) end() int64 {
	switch {
	case !r.Local || r.Endless:
		return endless
	case r.Until == endless: // never meant, and must not mean more than it says
		return endless - 1
	}
	return int64(r.Until)
}

// What way.until holds besides an instant.
const (
	endless = math.MaxInt64
	over    = math.MinInt64
)

// way is a route in force: every connection is made under one and ends with it. Renewals move its end; once it
// is over it stays over, and the next right is a new way.
type way struct {
	goal

	until atomic.Int64  // the instant of its end, endless or over
	done  chan struct{} // closed when it is over

	// making counts those who connect a client under this way. Nobody begins after its end.
	making sync.WaitGroup
}

func newWay(r Route) *way {
	w := &way{goal: r.goal(), done: make(chan struct{})}
	w.until.Store(r.end())
	return w
}

// open says whether bytes may pass now.
func (w *way) open(clock func() hold.Instant) bool {
	until := w.until.Load()
	return until == endless || int64(clock()) < until
}

// renew moves the end, unless the way is over: then what was made under it must not come to life again. earlier
// says that the new end comes before the old one.
func (w *way) renew(until int64, clock func() hold.Instant) (ok, earlier bool) {
	for {
		old := w.until.Load()
		if old != endless && int64(clock()) >= old {
			return false, false
		}
		if w.until.CompareAndSwap(old, until) {
			return true, until < old
		}
	}
}

// close ends the way now. From its return on no transfer begins, apart from those that have looked already.
func (w *way) close() {
	if w.until.Swap(over) != over {
		close(w.done)
	}
}

// expire closes the way if its end has come.
func (w *way) expire(now hold.Instant) bool {
	until := w.until.Load()
	if until == endless || int64(now) < until {
		return false
	}
	if until != over && w.until.CompareAndSwap(until, over) {
		close(w.done)
	}
	return w.until.Load() == over
}

// Destinations of a passage, as indexes.
const (
	toLocal = iota
	toPartner
)

func (w *way) destination() int {
	if w.local {
		return toLocal
	}
	return toPartner
}

func (w *way) name() string {
	if w.local {
		return localName
	}
	return partnerName
}

// Route sets where clients go from now on. It never blocks: connections of a route that is over pass nothing
// more from its return on, and are cut a moment later. A renewal, in which only the end moves, is cheap.
func (g *Gate) Route(r Route) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.way != nil && r.goal() == g.way.goal {
		if ok, earlier := g.way.renew(r.end(), g.o.Clock); ok {
			if earlier {
				g.rouse()
			}
			if !slices.Equal(r.PartnerHosts, g.route.PartnerHosts) {
				g.route.PartnerHosts = slices.Clone(r.PartnerHosts)
			}
			return
		}
	}
	var w *way
	if r.goal() != (goal{}) {
		w = newWay(r)
	}
	g.route = r
	g.route.PartnerHosts = slices.Clone(r.PartnerHosts)
	g.turn(w)
}

// turn puts a way in the place of another, with mu held. It does not wait until the other's connections are cut.
func (g *Gate) turn(w *way) {
	old := g.way
	if old == nil && w == nil {
		return
	}
	g.way = w
	if old != nil {
		old.close()
		for _, c := range g.crew {
			c.cut(old)
		}
	}
	close(g.changed)
	g.changed = make(chan struct{})
	g.rouse()
}

// Shut ends service of the local database: when it returns, every connection to it has been cut with a reset. New
// clients wait.
func (g *Gate) Shut(why string) {
	g.mu.Lock()
	w := g.way
	if w != nil && w.local {
		g.turn(nil)
	}
	crew := g.crew
	g.mu.Unlock()
	if w != nil && w.local {
		w.making.Wait() // they end with the way, or hand over what the carriers then cut
	}
	for _, c := range crew {
		// An order in the queue behind all that Route has given: it, too, may have ended a right a moment ago.
		<-c.cut(nil)
	}
	g.o.Logger.Info("the gate is shut", "instance", g.o.Instance, "why", why)
}

// current is where a client may go now, and a channel that is closed when that changes. A client that comes from
// the partner's gate may go to the local database only. The caller ends way.making.
func (g *Gate) current(fromGate bool) (*way, <-chan struct{}) {
	g.mu.Lock()
	defer g.mu.Unlock()
	w := g.way
	if w != nil && (fromGate && !w.local || !w.open(g.o.Clock)) {
		w = nil
	}
	if w != nil {
		w.making.Add(1)
	}
	return w, g.changed
}

// isPartner says whether the partner's gate may come from an address.
func (g *Gate) isPartner(a netip.Addr) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Contains(g.route.PartnerHosts, a)
}

// longestSleep bounds a sleep, because Go's timers do not count suspend and the boot-time clock does.
const longestSleep = 100 * time.Millisecond

// watch is the gate's own timer: it cuts the connections to the local database when the right ends without a
// renewal, whatever the rest of the agent does.
func (g *Gate) watch(ctx context.Context) {
	timer := time.NewTimer(longestSleep)
	defer timer.Stop()
	for {
		timer.Reset(g.expire(ctx))
		select {
		case <-timer.C:
		case <-g.wake:
		case <-ctx.Done():
			return
		}
	}
}

// expire ends the right if its end has come, and says when to look again.
func (g *Gate) expire(ctx context.Context) time.Duration {
	g.mu.Lock()
	w := g.way
	if w == nil {
		g.mu.Unlock()
		return longestSleep
	}
	now := g.o.Clock()
	if !w.expire(now) {
		g.mu.Unlock()
		if until := w.until.Load(); until != endless && until != over {
			return min(max(hold.Instant(until).Sub(now), 0), longestSleep)
		}
		return longestSleep
	}
	g.turn(nil)
	g.mu.Unlock()
	g.o.Logger.WarnContext(ctx, "the right to serve has run out: the gate has cut the connections to the database",
		"instance", g.o.Instance)
	return longestSleep
}

func (g *Gate) rouse() {
	select {
	case g.wake <- struct{}{}:
	default:
	}
}

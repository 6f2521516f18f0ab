package protocol

import (
	"slices"
	"strconv"
	"time"

	"github.com/witnessd/witnessd/agent/hold"
)

// database is a replicated log with the behaviour that agent/engine asks for, and with the faults that a real
// one has: it can hang, lag as a mirror, lose its data, and be interrupted half way through a clone.
type database struct {
	h       *host
	data    bool // there is a whole copy; false: nothing, or a clone that did not finish
	system  string
	running bool
	primary bool
	run     int
	log     []int // the ids of the writes, in order
	done    int   // how many of them were acknowledged or need not be
	held    bool
	peer    string // the host whose copy a held commit waits for

	following bool
	upstream  string
	stalled   time.Duration // as a mirror it takes nothing in until then
	draining  bool          // hands over: takes no new writes
	hung      bool          // answers nobody, and commits nothing
	opened    bool          // clients have written since it became the primary

	// bound is of an engine that stops holding commits by itself when its mirror is gone; 0: it holds them. Of a strict
	// one the mirror is promoted on the primary's word only.
	bound  time.Duration
	strict bool
}

// mirror is the copy that receives this primary's changes right now; nil if none does.
func (d *database) mirror() *database {
	p := d.h.w.hosts[d.peer]
	if p == nil || !d.running || !d.primary || d.hung || d.h.w.linkCut(d.h.name, d.peer) {
		return nil
	}
	m := p.db
	if !m.running || !m.following || m.hung || m.upstream != d.h.name || !m.partOf(d) {
		return nil
	}
	return m
}

// partOf says whether this log is the beginning of the other: an id is written on one host only, so the last
// one tells.
func (d *database) partOf(other *database) bool {
	n := len(d.log)
	return n <= len(other.log) && (n == 0 || d.log[n-1] == other.log[n-1])
}

// look is what hold sees of it.
func (d *database) look() hold.Engine {
	e := hold.Engine{
		Began: d.h.now(), Running: d.running, Run: strconv.Itoa(d.run), Position: uint64(len(d.log)),
		Promotable: d.data, Empty: !d.data && len(d.log) == 0, LossBound: d.bound, NeedsRelease: d.strict,
	}
	if d.data {
		e.SystemID = d.system
	} else {
		e.NotPromotable = "no usable data"
	}
	if !d.running {
		return e
	}
	e.Role = hold.RoleMirror
	if p := d.h.w.hosts[d.upstream]; p != nil {
		e.Following = d.following && p.db.mirror() == d
	}
	if d.primary {
		e.Role, e.Following = hold.RolePrimary, false
		if m := d.mirror(); m != nil {
			e.MirrorAttached, e.MirrorFlushed = true, uint64(len(m.log))
		}
		e.Commits = hold.CommitsAlone
		if d.held {
			e.Commits = hold.CommitsHeld
		}
	}
	return e
}

// open says whether clients can reach a primary here.
func (d *database) open() bool {
	h := d.h
	port := !h.kernel || h.letGo || h.endless || h.fenceAt != 0 && h.now() < h.fenceAt
	return d.running && d.primary && port
}

// cutOff ends the connections of all clients: who waits for a commit hears no more of it.
func (d *database) cutOff() { d.done, d.opened = len(d.log), false }

// write tries one write.
func (d *database) write() {
	if d.open() && !d.draining && !d.hung {
		d.h.w.wrote++
		d.log = append(d.log, d.h.w.wrote)
	}
	d.flush()
}

// flush sends the log to the mirror and acknowledges what may be.
func (d *database) flush() {
	if !d.running || !d.primary || d.hung {
		return
	}
	n := d.done
	m := d.mirror()
	if m == nil && d.bound > 0 && d.held && d.open() {
		d.held, d.h.w.aloneAt = false, d.h.w.now
	}
	if m != nil && d.h.w.now >= m.stalled {
		m.log = slices.Clip(d.log) // shares memory; an append of either copies or goes beyond
	}
	switch {
	case !d.open():
		d.cutOff()
		return
	case !d.held:
		n = len(d.log)
	case m != nil:
		n = max(n, len(m.log))
	}
	for _, id := range d.log[d.done:n] {
		d.h.w.ack(id, d.h.name)
	}
	d.done = n
}

// kill ends the process; what is in the log stays.
func (d *database) kill() {
	d.running, d.primary, d.following, d.held, d.draining, d.hung = false, false, false, true, false, false
	d.done = len(d.log)
	d.run++
}

// wipe ends the process and loses its data.
func (d *database) wipe() {
	d.kill()
	d.log, d.done, d.data = nil, 0, false
	d.h.w.logf("data of %s wiped", d.h.name)
}

// blocked says whether an operation cannot end yet, as a call to a real engine would not return.
func (d *database) blocked(op hold.Op, peer string) bool {
	switch op {
	case hold.OpHold, hold.OpReleaseCommits, hold.OpPromote:
		return d.hung && d.running
	case hold.OpHandOver:
		if d.hung {
			return true
		}
		d.draining, d.peer = true, peer
		d.flush()
		m := d.mirror()
		return m != nil && len(m.log) < len(d.log)
	default:
		return false
	}
}

// begun is what an operation does before its effect: a clone or a rewind makes the copy unusable meanwhile.
func (d *database) begun(op hold.Op, peer string) {
	p := d.h.w.hosts[peer]
	if op != hold.OpFollow || p == nil || !d.reaches(p) || d.foreign(p.db) || d.data && d.partOf(p.db) {
		return
	}
	d.kill()
	d.data = false
}

func (d *database) reaches(p *host) bool {
	return !d.h.w.linkCut(d.h.name, p.name) && p.db.running && p.db.primary && !p.db.hung
}

func (d *database) foreign(other *database) bool { return d.data && d.system != other.system }

// carryOut is the effect of an operation.
func (d *database) carryOut(op hold.Op, peer string) (failure string, everything, foreign bool) {
	p := d.h.w.hosts[peer]
	switch op {
	case hold.OpNone, hold.OpLetGo:
	case hold.OpFollow:
		switch {
		case p == nil || !d.reaches(p):
			return "partner's database cannot be reached", false, false
		case d.foreign(p.db):
			return "data of another database", false, true
		}
		if !d.running {
			d.run++
		}
		d.running, d.primary, d.following, d.upstream, d.held = true, false, true, peer, true
		if !d.data || !d.partOf(p.db) {
			d.log = slices.Clip(p.db.log)
		}
		d.data, d.system, d.done = true, p.db.system, len(d.log)
	case hold.OpPromote:
		if !d.data {
			return "no usable data", false, false
		}
		if !d.running {
			d.run++
		}
		d.promote(peer)
	case hold.OpHold:
		d.held, d.peer = true, peer
	case hold.OpReleaseCommits:
		d.held = false
		d.flush()
	case hold.OpHandOver:
		m := d.mirror()
		everything = m != nil && len(m.log) == len(d.log)
		d.kill()
	case hold.OpStop:
		d.kill()
	}
	return "", everything, false
}

// promote makes it the primary, with commits held for the peer.
func (d *database) promote(peer string) {
	if !d.primary {
		d.done, d.opened = len(d.log), false
	}
	d.running, d.primary, d.following, d.held, d.peer, d.draining = true, true, false, true, peer, false
}

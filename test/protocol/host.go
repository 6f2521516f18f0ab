package protocol

import (
	"slices"
	"time"

	"github.com/witnessd/witnessd/agent/hold"
	"github.com/witnessd/witnessd/witnessd/pair"
)

// host is an agent with its database. Its clock is the world's with an offset of its own.
type host struct {
	w      *world
	name   string
	alive  bool // the agent runs
	frozen bool
	start  int
	state  hold.State
	offset hold.Instant
	rate   float64 // of this host's clock
	// kernel says that the fence is independent of the agent (DESIGN section 4, level 1).
	kernel bool

	file  hold.File // on disk
	known bool
	mark  hold.Mark

	db       *database
	sequence uint64
	lastBeat time.Duration
	fenceAt  hold.Instant // 0: none
	endless  bool
	op       hold.Do
	opNumber int
	replies  *hold.Says
}

// database is a replicated log with the behaviour that agent/engine asks for.
type database struct {
	h         *host
	data      bool
	running   bool
	primary   bool
	run       int
	log       []int
	waiting   []int // written, not acknowledged: held for the mirror
	held      bool
	following bool
}

func newHost(w *world, name string) *host {
	h := &host{w: w, name: name, rate: 1, offset: hold.Instant(len(name)) * 1e11}
	if name == "b" {
		h.offset *= 7
	}
	h.db = &database{h: h, run: 1, held: true}
	return h
}

func (h *host) peer() *host {
	if h.name == "a" {
		return h.w.hosts["b"]
	}
	return h.w.hosts["a"]
}

func (h *host) instant(t time.Duration) hold.Instant {
	return h.offset + hold.Instant(float64(t)*h.rate)
}
func (h *host) now() hold.Instant { return h.instant(h.w.now) }

// boot starts the agent. The engine-level fence of the former start is gone; its mark is not.
func (h *host) boot() {
	h.start++
	h.alive, h.frozen, h.op = true, false, hold.Do{}
	if !h.kernel {
		h.fenceAt, h.endless = 0, false
	}
	file := h.file
	if !h.known {
		file = hold.File{Pair: "p1"}
	}
	h.state = hold.New(h.name, file, h.known, h.mark, h.now())
	if h.start == 1 {
		h.w.after(tick, h.fence)
	}
	h.ticks(h.start)
	h.looks(h.start)
}

// killAgent ends the agent and leaves the database alone.
func (h *host) killAgent() {
	h.alive = false
	h.start++
	h.w.logf("agent of %s killed", h.name)
}

// lose ends everything on the host.
func (h *host) lose() {
	h.killAgent()
	h.db.kill()
	h.mark = hold.Mark{}
	h.w.logf("host %s lost", h.name)
}

func (h *host) ticks(start int) {
	if h.start != start {
		return
	}
	if !h.frozen {
		h.step(hold.Tick{})
		if h.w.now-h.lastBeat >= 500*time.Millisecond {
			h.beat()
			h.beatPartner()
		}
	}
	h.w.after(tick, func() { h.ticks(start) })
}

// fence ends service when the right ends: with the agent's process at level engine, without it at level kernel.
func (h *host) fence() {
	able := h.kernel || h.alive && !h.frozen
	if able && h.fenceAt != 0 && !h.endless && h.now() >= h.fenceAt {
		h.fenceAt = 0
		h.w.logf("%s: fence ends service", h.name)
		h.db.kill()
		if h.alive && !h.frozen {
			h.step(hold.Fenced{Why: "right ran out"})
		}
	}
	h.w.after(tick, h.fence)
}

func (h *host) looks(start int) {
	if h.start != start {
		return
	}
	if !h.frozen {
		h.step(hold.EngineSeen{Engine: h.db.look()})
	}
	h.w.after(look, func() { h.looks(start) })
}

func (h *host) step(ev hold.Event) {
	if !h.alive {
		return
	}
	var acts []hold.Action
	h.state, acts = hold.Step(h.state, ev, h.now())
	var beat, partner bool
	for _, a := range acts {
		switch a := a.(type) {
		case hold.Save:
			h.file, h.known = a.File, true
		case hold.Renew:
			h.mark = hold.Mark{Epoch: a.Epoch, Until: a.Until, Endless: a.Endless}
			h.fenceAt, h.endless = a.Until, a.Endless
		case hold.Fence:
			h.w.logf("%s fences: %s", h.name, a.Why)
			h.fenceAt, h.mark = 0, hold.Mark{}
			h.db.kill()
		case hold.Do:
			h.begin(a)
		case hold.SendWitness:
			beat = true
		case hold.SendPartner:
			partner = true
		case hold.ReplyPartner:
			says := a.Says
			h.replies = &says
		case hold.Note:
			h.w.logf("%s: %s", h.name, a.Text)
		}
	}
	if beat {
		h.w.after(time.Millisecond, h.beat)
	}
	if partner {
		h.w.after(time.Millisecond, h.beatPartner)
	}
}

func (h *host) beat() {
	if !h.alive || h.frozen {
		return
	}
	h.sequence++
	h.lastBeat = h.w.now
	h.w.heartbeat(h, h.sequence, h.state.Report(h.now()), h.w.now)
}

func (h *host) beatPartner() {
	if !h.alive || h.frozen || !h.state.Known {
		return
	}
	p, says, sent, start := h.peer(), h.state.Ask(), h.now(), h.start
	h.w.send(h.name, p.name, func() {
		if !p.alive || p.frozen {
			return
		}
		p.replies = nil
		p.step(hold.PartnerAsked{Host: h.name, Says: says})
		if p.replies == nil {
			return
		}
		reply := *p.replies
		h.w.send(p.name, h.name, func() {
			if h.start == start && !h.frozen {
				h.step(hold.PartnerAnswered{Sent: sent, Host: p.name, Says: reply})
			}
		})
	})
}

// begin runs an operation of the database for as long as a quick engine would need.
func (h *host) begin(do hold.Do) {
	h.opNumber++
	number, start := h.opNumber, h.start
	if do.Op == hold.OpNone {
		return
	}
	took := map[hold.Op]time.Duration{
		hold.OpPromote: 150 * time.Millisecond, hold.OpHold: 20 * time.Millisecond,
		hold.OpReleaseCommits: 10 * time.Millisecond, hold.OpFollow: 300 * time.Millisecond,
		hold.OpHandOver: 200 * time.Millisecond, hold.OpStop: 20 * time.Millisecond,
	}[do.Op]
	h.w.logf("%s: %v begins", h.name, do.Op)
	var finish func()
	finish = func() {
		if h.start != start || h.opNumber != number {
			return
		}
		if h.frozen {
			h.w.after(tick, finish)
			return
		}
		done := hold.EngineDone{Op: do.Op, ID: do.ID}
		done.Err, done.Everything = h.db.carryOut(do.Op)
		done.Engine = h.db.look()
		h.step(done)
	}
	h.w.after(took, finish)
}

func (h *host) says(r pair.Record, l *leader, a pair.Answer) hold.WitnessSays {
	says := hold.WitnessSays{
		Term: uint64(l.term), Forming: r.Stage == pair.StageForming, Revision: hold.Revision(r.Revision),
		Epoch: hold.Epoch(r.Epoch), Primary: string(r.Primary), Mirror: string(r.Mirror),
		Right: hold.RightSole, Automatic: r.Mode == pair.ModeAutomatic, Longest: r.LongestLease, Name: r.Name,
		Timing: hold.Timing{Heartbeat: r.Policy.Heartbeat, Lease: r.Policy.Lease, Guard: r.Policy.Guard,
			MirrorTimeout: r.Policy.MirrorTimeout},
		Peer:  hold.Peer{Host: h.peer().name, LinkAddress: "link", ServiceAddress: "db"},
		Lease: a.Lease, Refused: string(a.Refused), Released: hold.Epoch(l.watch.Released),
	}
	if r.Right == pair.RightLeased {
		says.Right = hold.RightLeased
	}
	if p := r.Procedure; p != nil {
		says.AskEpoch = hold.Epoch(p.Epoch)
		switch {
		case p.Kind == pair.KindSwitchover && p.Step == pair.StepRelease:
			says.Ask = hold.AskHandOver
		case p.Kind == pair.KindForced && (p.Step == pair.StepRelease || p.Step == pair.StepFence):
			says.Ask = hold.AskRelease
		case p.Kind == pair.KindForced && p.Step == pair.StepWithhold:
			says.Ask = hold.AskWithhold
		case p.Kind == pair.KindRemove && p.Step == pair.StepUnmanage:
			says.Ask = hold.AskUnmanage
		}
	}
	return says
}

func (h *host) convert(sequence uint64, r hold.Report) pair.Report {
	return pair.Report{
		Host: pair.HostID(h.name), Start: string(rune('0' + h.start)), Sequence: sequence,
		TermHeard: pair.Term(h.state.TermHeard), FileKnown: r.Known, Epoch: pair.Epoch(r.Epoch),
		EpochPrimary: pair.HostID(r.Primary), Revision: pair.Revision(r.Revision), LongestLease: r.Longest,
		Released: pair.Epoch(r.Released), ReleasedEverything: r.ReleasedEverything,
		PartnerReleased: pair.Epoch(r.PartnerReleased), PartnerReleasedEverything: r.PartnerReleasedEverything,
		AskLease: r.AskLease, Request: pair.Request(r.Request), RequestRevision: pair.Revision(r.RequestRevision),
		RequestCause: r.RequestCause, Promise: r.Promise, HearsPartner: r.HearsPartner, Serving: r.Serving,
		ServesFor: r.ServesFor, Unmanaged: r.Unmanaged, Complaint: r.Complaint,
		Engine: pair.Engine{
			Running: r.Engine.Running, Role: r.Engine.Role.String(), SystemID: r.Engine.SystemID,
			Position: r.Engine.Position, MirrorAttached: r.Engine.MirrorAttached, Following: r.Engine.Following,
			Promotable: r.Engine.Promotable, NotPromotable: r.Engine.NotPromotable,
		},
	}
}

// attached says whether the other database receives this one's changes.
func (d *database) attached() bool {
	p := d.h.peer()
	return d.running && d.primary && p.db.running && p.db.following && !d.h.w.cuts[d.h.name+">"+p.name] &&
		!d.h.w.cuts[p.name+">"+d.h.name]
}

func (d *database) look() hold.Engine {
	e := hold.Engine{
		Began: d.h.now(), Running: d.running, Run: string(rune('0' + d.run%200)), Position: uint64(len(d.log)),
		Promotable: d.data,
	}
	if d.data {
		e.SystemID = "x"
	}
	if !d.running {
		return e
	}
	e.Role = hold.RoleMirror
	p := d.h.peer()
	e.Following = d.following && p.db.attached()
	if d.primary {
		e.Role = hold.RolePrimary
		e.MirrorAttached = d.attached()
		if e.MirrorAttached {
			e.MirrorFlushed = uint64(len(p.db.log))
		}
		e.Commits = hold.CommitsAlone
		if d.held {
			e.Commits = hold.CommitsHeld
		}
	}
	return e
}

// write tries one write; held writes are acknowledged when the mirror has them.
func (d *database) write() {
	if !d.running || !d.primary {
		return
	}
	d.h.w.wrote++
	d.log = append(d.log, d.h.w.wrote)
	d.waiting = append(d.waiting, d.h.w.wrote)
	d.flush()
}

func (d *database) flush() {
	if d.attached() {
		d.h.peer().db.log = slices.Clone(d.log)
	} else if d.held {
		return
	}
	for _, id := range d.waiting {
		d.h.w.acked[id] = ack{host: d.h.name, at: d.h.w.now}
	}
	d.waiting = nil
}

// kill ends the process; what is in the log stays.
func (d *database) kill() {
	d.running, d.primary, d.following, d.held, d.waiting = false, false, false, true, nil
	d.run++
}

func (d *database) carryOut(op hold.Op) (failure string, everything bool) {
	p := d.h.peer()
	cut := d.h.w.cuts[d.h.name+">"+p.name] || d.h.w.cuts[p.name+">"+d.h.name]
	switch op {
	case hold.OpFollow:
		if cut || !p.db.running || !p.db.primary {
			return "partner's database cannot be reached", false
		}
		d.running, d.primary, d.following, d.data, d.held = true, false, true, true, true
		d.log = slices.Clone(p.db.log) // attach, rewind or clone
	case hold.OpPromote:
		if !d.running {
			d.run++
		}
		d.running, d.primary, d.following, d.held = true, true, false, true
	case hold.OpHold:
		d.held = true
	case hold.OpReleaseCommits:
		d.held = false
		d.flush()
	case hold.OpHandOver:
		everything = d.attached()
		d.flush()
		d.kill()
	case hold.OpStop:
		d.kill()
	}
	return "", everything
}

// crash kills the database process; the agent hears of it at once.
func (h *host) crash() {
	h.db.kill()
	h.w.logf("database of %s killed", h.name)
	if h.alive && !h.frozen {
		h.w.after(time.Millisecond, func() { h.step(hold.EngineExited{Reason: "killed"}) })
		return
	}
	if h.frozen {
		start := h.start
		var thawed func()
		thawed = func() {
			switch {
			case h.start != start:
			case h.frozen:
				h.w.after(tick, thawed)
			default:
				h.step(hold.EngineExited{Reason: "killed while the agent was frozen"})
			}
		}
		h.w.after(tick, thawed)
	}
}

package protocol

import (
	"fmt"
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
	queued []func() // what arrived while it was frozen
	start  int
	state  hold.State
	offset hold.Instant
	rate   float64 // of this host's clock
	// managed says that the agent knows of a pair for its instance.
	managed bool
	// kernel says that the fence is independent of the agent (DESIGN section 4, level 1): it keeps the port of a
	// database that may well run behind it. Without it, the agent kills the database.
	kernel bool
	letGo  bool // the pair was removed, and with it the rule of the kernel

	file  hold.File // on disk
	known bool
	mark  hold.Mark

	db       *database
	sequence uint64
	lastBeat time.Duration
	fenceAt  hold.Instant // 0: none
	endless  bool
	replies  *hold.Says

	op       hold.Do
	opNumber int
	fail     map[hold.Op]int  // how many of the next operations of a kind fail
	hang     map[hold.Op]bool // operations of a kind do not end by themselves
	slow     float64          // how many times longer than usual operations take
	// late says whether an operation that was ended, or that failed, has its effect nonetheless; nil: never.
	late func() bool
}

func newHost(w *world, name string) *host {
	h := &host{w: w, name: name, rate: 1, slow: 1, fail: map[hold.Op]int{}, hang: map[hold.Op]bool{}}
	h.offset = hold.Instant(name[0]-'a'+1) * 1e11
	h.db = &database{h: h, run: 1, held: true, system: "x"}
	w.hosts[name] = h
	return h
}

func (h *host) instant(t time.Duration) hold.Instant {
	return h.offset + hold.Instant(float64(t)*h.rate)
}
func (h *host) now() hold.Instant { return h.instant(h.w.now) }

// boot starts the agent. The engine-level fence of the former start is gone; its mark is not.
func (h *host) boot() {
	h.start++
	h.alive, h.frozen, h.queued, h.op = true, false, nil, hold.Do{}
	if !h.kernel {
		h.fenceAt, h.endless = 0, false
	}
	h.managed = h.known
	if h.known {
		h.state = hold.New(h.name, h.file, true, h.mark, h.now())
	}
	if h.start == 1 {
		h.w.after(tick, h.fence)
	}
	h.ticks(h.start)
	h.looks(h.start)
}

// adopt begins the management of a pair that the agent has no epoch file of.
func (h *host) adopt() {
	h.state = hold.New(h.name, hold.File{Pair: "p1"}, false, hold.Mark{}, h.now())
	h.managed, h.letGo = true, false
}

// killAgent ends the agent and leaves the database alone.
func (h *host) killAgent() {
	h.ended()
	h.alive = false
	h.start++
	h.w.logf("agent of %s killed", h.name)
}

// lose ends everything on the host.
func (h *host) lose() {
	h.killAgent()
	h.db.kill()
	h.mark = hold.Mark{}
	h.fenceAt, h.endless = 0, false
	h.w.logf("host %s lost", h.name)
}

// loseFile loses the epoch file; the agent notices at its next start.
func (h *host) loseFile() {
	h.file, h.known = hold.File{}, false
	h.w.logf("epoch file of %s lost", h.name)
}

// forget is the agent's part when the pair does not name its host any more.
func (h *host) forget() {
	h.step(hold.Forget{})
	h.file, h.known, h.mark, h.managed, h.letGo = hold.File{}, false, hold.Mark{}, false, true
}

func (h *host) freeze() { h.frozen = true; h.w.logf("agent of %s frozen", h.name) }

func (h *host) thaw() {
	if h.frozen {
		h.w.logf("agent of %s goes on", h.name)
	}
	h.frozen = false
	queued := h.queued
	h.queued = nil
	for _, do := range queued {
		do()
	}
}

// receive lets the agent take something in, now or when it goes on.
func (h *host) receive(do func()) {
	start := h.start
	if !h.frozen {
		do()
		return
	}
	h.queued = append(h.queued, func() {
		if h.start == start && h.alive {
			do()
		}
	})
}

func (h *host) ticks(start int) {
	if h.start != start {
		return
	}
	if !h.frozen {
		h.step(hold.Tick{})
		if h.w.now-h.lastBeat >= h.interval() {
			h.beat()
			h.beatPartner()
		}
	}
	h.w.after(tick, func() { h.ticks(start) })
}

func (h *host) interval() time.Duration {
	if d := h.state.File.Timing.Heartbeat; h.managed && d > 0 {
		return d
	}
	return 500 * time.Millisecond
}

// fence ends service when the right ends: with the agent's process at level engine, without it at level kernel.
func (h *host) fence() {
	able := h.kernel || h.alive && !h.frozen
	if able && h.fenceAt != 0 && !h.endless && h.now() >= h.fenceAt {
		h.fenceAt = 0
		h.w.logf("%s: fence ends service", h.name)
		if h.kernel {
			h.db.cutOff()
		} else {
			h.db.kill()
		}
		if h.alive {
			h.receive(func() { h.step(hold.Fenced{Why: "right ran out"}) })
		}
	}
	h.w.after(tick, h.fence)
}

func (h *host) looks(start int) {
	if h.start != start {
		return
	}
	if !h.frozen && !h.db.hung {
		h.step(hold.EngineSeen{Engine: h.db.look()})
	}
	h.w.after(look, func() { h.looks(start) })
}

func (h *host) step(ev hold.Event) {
	if !h.alive || !h.managed {
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
			h.mark = hold.Mark(a)
			h.fenceAt, h.endless = a.Until, a.Endless
		case hold.Fence:
			h.w.logf("%s fences: %s", h.name, a.Why)
			h.fenceAt, h.mark, h.endless = 0, hold.Mark{}, false
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

// report is what the agent says of its instance, also while it knows of no pair.
func (h *host) report() hold.Report {
	if h.managed {
		return h.state.Report(h.now())
	}
	return hold.Report{Engine: h.db.look()}
}

func (h *host) beat() {
	if !h.alive || h.frozen {
		return
	}
	h.sequence++
	h.lastBeat = h.w.now
	h.w.heartbeat(h, h.convert(h.report()), h.w.now)
}

func (h *host) beatPartner() {
	p := h.w.hosts[h.state.File.Peer.Host]
	if !h.alive || h.frozen || !h.managed || p == nil {
		return
	}
	says, sent, start := h.state.Ask(), h.now(), h.start
	h.w.send(h.name, p.name, func() {
		if !p.alive || !p.managed {
			return
		}
		p.receive(func() {
			p.replies = nil
			p.step(hold.PartnerAsked{Host: h.name, Says: says})
			if p.replies == nil {
				return
			}
			reply := *p.replies
			h.w.send(p.name, h.name, func() {
				if h.start == start {
					h.receive(func() { h.step(hold.PartnerAnswered{Sent: sent, Host: p.name, Says: reply}) })
				}
			})
		})
	})
}

// took is how long a quick engine needs.
func took(op hold.Op) time.Duration {
	return map[hold.Op]time.Duration{
		hold.OpPromote: 150 * time.Millisecond, hold.OpHold: 20 * time.Millisecond,
		hold.OpReleaseCommits: 10 * time.Millisecond, hold.OpFollow: 300 * time.Millisecond,
		hold.OpHandOver: 200 * time.Millisecond, hold.OpStop: 20 * time.Millisecond,
		hold.OpLetGo: 10 * time.Millisecond,
	}[op]
}

// begin ends the operation that runs and begins the next.
func (h *host) begin(do hold.Do) {
	h.ended()
	h.op = do
	if do.Op == hold.OpNone {
		return
	}
	number, start, peer := h.opNumber, h.start, do.Peer.Host
	h.w.logf("%s: %v begins", h.name, do.Op)
	current := func() bool { return h.start == start && h.opNumber == number }
	var finish func()
	finish = func() {
		switch {
		case !current():
			return
		case h.frozen || h.hang[do.Op] || h.db.blocked(do.Op, peer):
			h.w.after(tick, finish)
			return
		}
		h.opNumber++
		h.op = hold.Do{}
		h.step(h.finished(do, peer))
	}
	h.w.after(time.Duration(h.slow*float64(took(do.Op)))/2, func() {
		if current() {
			h.db.begun(do.Op, peer)
		}
	})
	h.w.after(time.Duration(h.slow*float64(took(do.Op))), finish)
}

func (h *host) finished(do hold.Do, peer string) hold.EngineDone {
	done := hold.EngineDone{Op: do.Op, ID: do.ID}
	if h.fail[do.Op] > 0 {
		h.fail[do.Op]--
		done.Err = "it failed"
		if h.late != nil && h.late() {
			h.db.carryOut(do.Op, peer)
		}
		return done
	}
	done.Err, done.Everything, done.Foreign = h.db.carryOut(do.Op, peer)
	done.Engine = h.db.look()
	if h.db.hung {
		done.Err = "the database does not answer"
	}
	return done
}

// ended is the end of an operation by its agent; what it has set going may still happen.
func (h *host) ended() {
	h.opNumber++
	op := h.op
	h.op = hold.Do{}
	if op.Op == hold.OpNone || h.late == nil || !h.late() || h.db.blocked(op.Op, op.Peer.Host) {
		return
	}
	h.db.carryOut(op.Op, op.Peer.Host)
}

func (h *host) says(r pair.Record, l *leader, a pair.Answer) hold.WitnessSays {
	peer, _ := r.Member(r.Partner(pair.HostID(h.name)))
	says := hold.WitnessSays{
		Term: uint64(l.term), Forming: r.Stage == pair.StageForming, Revision: hold.Revision(r.Revision),
		Epoch: hold.Epoch(r.Epoch), Primary: string(r.Primary), Mirror: string(r.Mirror),
		Right: hold.RightSole, Automatic: r.Mode == pair.ModeAutomatic, Longest: r.LongestLease, Name: r.Name,
		Timing: hold.Timing{Heartbeat: r.Policy.Heartbeat, Lease: r.Policy.Lease, Guard: r.Policy.Guard,
			MirrorTimeout: r.Policy.MirrorTimeout},
		Peer: hold.Peer{Host: string(peer.Host), Instance: peer.Instance, LinkAddress: peer.LinkAddress,
			ServiceAddress: "db", SystemID: peer.SystemID},
		Lease: a.Lease, Refused: string(a.Refused), Released: hold.Epoch(l.watch.Released),
	}
	if r.Right == pair.RightLeased {
		says.Right = hold.RightLeased
	}
	if p := r.Procedure; p != nil {
		says.AskEpoch = hold.Epoch(p.Epoch)
		says.Ask = asked(*p)
	}
	return says
}

// asked is what agent/link makes of a procedure.
func asked(p pair.Procedure) hold.Ask {
	switch {
	case p.Kind == pair.KindSwitchover && p.Step == pair.StepRelease:
		return hold.AskHandOver
	case p.Kind == pair.KindForced && (p.Step == pair.StepRelease || p.Step == pair.StepFence):
		return hold.AskRelease
	case p.Kind == pair.KindForced && p.Step == pair.StepWithhold:
		return hold.AskWithhold
	case p.Kind == pair.KindRemove && p.Step == pair.StepUnmanage:
		return hold.AskUnmanage
	default:
		return hold.AskNothing
	}
}

// convert is what agent/link, the arbiter and witnessd/rpc make of a report between them.
func (h *host) convert(r hold.Report) pair.Report {
	out := pair.Report{
		Host: pair.HostID(h.name), Start: fmt.Sprint(h.start), Sequence: h.sequence,
		FileKnown: r.Known, Epoch: pair.Epoch(r.Epoch),
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
		Member: pair.Member{Host: pair.HostID(h.name), Instance: "db", Engine: "world", SystemID: r.Engine.SystemID,
			LinkAddress: fmt.Sprintf("%s:%d", h.name, h.start)},
	}
	if h.managed {
		out.TermHeard = pair.Term(h.state.TermHeard)
	}
	return out
}

// crash kills the database process; the agent hears of it at once.
func (h *host) crash() {
	h.db.kill()
	h.w.logf("database of %s killed", h.name)
	start := h.start
	h.w.after(time.Millisecond, func() {
		if h.start == start && h.alive {
			h.receive(func() { h.step(hold.EngineExited{Reason: "killed"}) })
		}
	})
}

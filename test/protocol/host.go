package protocol

import (
	"slices"
	"strings"
	"time"

	"github.com/witnessd/witnessd/agent/hold"
	"github.com/witnessd/witnessd/witnessd/pair"
)

// host is one pair's part of a host: what the agent knows of the pair, and its database.
type host struct {
	*agent
	w     *world
	state hold.State
	// managed says that the agent knows of a pair for its instance.
	managed bool
	letGo   bool // the pair was removed, and with it the rule of the kernel

	file  hold.File // on disk
	known bool
	mark  hold.Mark

	db      *database
	fenceAt hold.Instant // 0: none
	endless bool
	timed   bool // the fence's timer runs
	replies *hold.Says
	vow     grant // the longest lease that it has granted as a mirror

	op       hold.Do
	opNumber int
	fail     map[hold.Op]int  // how many of the next operations of a kind fail
	hang     map[hold.Op]bool // operations of a kind do not end by themselves
	slow     float64          // how many times longer than usual operations take
	// late says whether an operation that was ended, or that failed, has its effect nonetheless; nil: never.
	late func() bool
}

func newHost(w *world, name string) *host {
	h := &host{agent: w.agentOf(name), w: w, slow: 1, fail: map[hold.Op]int{}, hang: map[hold.Op]bool{}}
	h.db = &database{h: h, run: 1, held: true, system: "x"}
	h.agent.parts = append(h.agent.parts, h)
	w.hosts[name] = h
	w.parts = append(w.parts, h)
	slices.SortFunc(w.parts, func(a, b *host) int { return strings.Compare(a.name, b.name) })
	return h
}

// begun is a start of the agent. The engine-level fence of the former start is gone; its mark is not.
func (h *host) begun() {
	h.op = hold.Do{}
	if !h.kernel {
		h.fenceAt, h.endless = 0, false
	}
	h.managed = h.known
	if h.known {
		h.state = hold.New(h.name, h.file, true, h.mark, h.now())
	}
}

// adopt begins the management of a pair that the agent has no epoch file of.
func (h *host) adopt() {
	h.state = hold.New(h.name, hold.File{Pair: string(h.w.record.ID)}, false, hold.Mark{}, h.now())
	h.managed, h.letGo = true, false
}

// loseFile loses the epoch file; the agent notices at its next start.
func (h *host) loseFile() {
	h.file, h.known = hold.File{}, false
	h.w.logf("epoch file of %s lost", h.name)
}

// hear takes an answer of the witness in.
func (h *host) hear(a answer) {
	switch {
	case a.forget:
		h.forget()
		return
	case !h.managed:
		h.adopt()
	}
	h.step(a.says)
}

// forget is the agent's part when the pair does not name its host any more.
func (h *host) forget() {
	h.step(hold.Forget{})
	h.file, h.known, h.mark, h.managed, h.letGo = hold.File{}, false, hold.Mark{}, false, true
}

// watchFence sets a timer for the end of the right: with the agent's process at level engine, without it at level
// kernel.
func (h *host) watchFence() {
	if h.timed || h.fenceAt == 0 || h.endless {
		return
	}
	h.timed = true
	wait := max(1, time.Duration(float64(h.fenceAt.Sub(h.now()))/h.rate))
	if !h.kernel {
		wait += span(h.w.lag, 0)
	}
	h.w.after(wait, h.fence)
}

// fence ends service when the right ends.
func (h *host) fence() {
	h.timed = false
	switch {
	case h.fenceAt == 0 || h.endless:
		return
	case h.now() < h.fenceAt:
		h.watchFence()
		return
	case !h.kernel && (!h.alive || h.frozen):
		h.timed = true
		h.w.after(tick, h.fence)
		return
	}
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

func (h *host) step(ev hold.Event) {
	if !h.alive || !h.managed {
		return
	}
	var acts []hold.Action
	h.state, acts = hold.Step(h.state, ev, h.now())
	for _, a := range acts {
		switch a := a.(type) {
		case hold.Save:
			h.save(a.File)
		case hold.Renew:
			h.mark = hold.Mark(a)
			h.fenceAt, h.endless = a.Until, a.Endless
			h.w.covered(h, a)
			h.watchFence()
		case hold.Fence:
			h.w.logf("%s fences: %s", h.name, a.Why)
			h.fenceAt, h.mark, h.endless = 0, hold.Mark{}, false
			h.db.kill()
		case hold.Do:
			h.begin(a)
		case hold.SendWitness:
			h.soon()
		case hold.SendPartner:
			h.soonPartners()
		case hold.ReplyPartner:
			says := a.Says
			h.replies = &says
		case hold.Note:
			h.w.logf("%s: %s", h.name, a.Text)
		}
	}
}

// save writes the epoch file, which must not forget (rule R7).
func (h *host) save(f hold.File) {
	if h.known && (f.Epoch < h.file.Epoch || f.Revision < h.file.Revision || f.Released < h.file.Released) {
		h.w.violate("the epoch file of %s goes back from epoch %d revision %d to epoch %d revision %d", h.name,
			h.file.Epoch, h.file.Revision, f.Epoch, f.Revision)
	}
	if f.Released > 0 {
		h.w.gaveBack(pair.Epoch(f.Released), f.ReleasedEverything)
	}
	h.file, h.known = f, true
}

// report is what the agent says of its instance, also while it knows of no pair.
func (h *host) report() hold.Report {
	if h.managed {
		return h.state.Report(h.now())
	}
	return hold.Report{Engine: h.db.look()}
}

// took is how long a quick engine needs.
func took(op hold.Op) time.Duration {
	switch op {
	case hold.OpPromote:
		return 150 * time.Millisecond
	case hold.OpFollow:
		return 300 * time.Millisecond
	case hold.OpHandOver:
		return 200 * time.Millisecond
	case hold.OpHold, hold.OpStop:
		return 20 * time.Millisecond
	default:
		return 10 * time.Millisecond
	}
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
	length := time.Duration(h.slow * h.w.engineTime() * float64(took(do.Op)))
	h.w.after(length/2, func() {
		if current() {
			h.db.begun(do.Op, peer)
		}
	})
	h.w.after(length, finish)
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

func (h *host) says(r *pair.Record, l *leader, a pair.Answer) hold.WitnessSays {
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
		Host: pair.HostID(h.name), Start: h.startName, Sequence: h.sequence,
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
			LossBound: r.Engine.LossBound, NeedsRelease: r.Engine.NeedsRelease,
		},
		Member: pair.Member{Host: pair.HostID(h.name), Instance: "db", Engine: "world", SystemID: r.Engine.SystemID,
			LinkAddress: h.linkAddress},
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

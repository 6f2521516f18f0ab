package protocol

import (
	"fmt"
	"time"

	"github.com/witnessd/witnessd/agent/hold"
	"github.com/witnessd/witnessd/witnessd/pair"
)

// agent is the process on a host, for all pairs there. Its clock is the world's with an offset and a rate of its
// own.
type agent struct {
	e      *env
	name   string
	alive  bool
	frozen bool
	queued []func() // what arrived while it was frozen
	start  int
	offset hold.Instant
	rate   float64
	// kernel says that the fence is independent of the agent (DESIGN section 4, level 1): it keeps the port of a
	// database that may well run behind it. Without it, the agent kills the database.
	kernel bool

	parts       []*host
	sequence    uint64
	startName   string
	linkAddress string
	lastBeat    time.Duration
	lastLink    time.Duration
	due         bool // a heartbeat was asked for
	dueLink     bool
}

func newAgent(e *env, name string) *agent {
	return &agent{e: e, name: name, rate: 1, offset: hold.Instant(name[0]-'a'+1) * 1e11}
}

func (a *agent) instant(t time.Duration) hold.Instant {
	return a.offset + hold.Instant(float64(t)*a.rate)
}
func (a *agent) now() hold.Instant { return a.instant(a.e.now) }

// lasts is how long a time on its clock is on the world's.
func (a *agent) lasts(d time.Duration) time.Duration { return time.Duration(float64(d) / a.rate) }

// boot starts the agent.
func (a *agent) boot() {
	a.start++
	a.startName, a.linkAddress = fmt.Sprint(a.start), fmt.Sprintf("%s:%d", a.name, a.start)
	a.alive, a.frozen, a.queued, a.due, a.dueLink = true, false, nil, false, false
	for _, h := range a.parts {
		h.begun()
	}
	a.ticks(a.start)
	a.looks(a.start)
}

// killAgent ends the agent and leaves its databases alone.
func (a *agent) killAgent() {
	for _, h := range a.parts {
		h.ended()
	}
	a.alive = false
	a.start++
	a.e.logf("agent of %s killed", a.name)
}

// lose ends everything on the host.
func (a *agent) lose() {
	a.killAgent()
	for _, h := range a.parts {
		h.db.kill()
		h.mark = hold.Mark{}
		h.fenceAt, h.endless = 0, false
	}
	a.e.logf("host %s lost", a.name)
}

func (a *agent) freeze() { a.frozen = true; a.e.logf("agent of %s frozen", a.name) }

func (a *agent) thaw() {
	if a.frozen {
		a.e.logf("agent of %s goes on", a.name)
	}
	a.frozen = false
	queued := a.queued
	a.queued = nil
	for _, do := range queued {
		do()
	}
}

// receive lets the agent take something in, now or when it goes on.
func (a *agent) receive(do func()) {
	start := a.start
	if !a.frozen {
		do()
		return
	}
	a.queued = append(a.queued, func() {
		if a.start == start && a.alive {
			do()
		}
	})
}

func (a *agent) ticks(start int) {
	if a.start != start {
		return
	}
	if !a.frozen {
		for _, h := range a.parts {
			h.step(hold.Tick{})
		}
		every := a.interval()
		if a.e.now-a.lastBeat >= every {
			a.beat()
		}
		if a.e.now-a.lastLink >= every {
			a.beatPartners()
		}
	}
	a.e.after(span(a.e.ticks, tick), func() { a.ticks(start) })
}

// interval is the shortest heartbeat of its pairs.
func (a *agent) interval() time.Duration {
	shortest := time.Duration(0)
	for _, h := range a.parts {
		if d := h.state.File.Timing.Heartbeat; h.managed && d > 0 && (shortest == 0 || d < shortest) {
			shortest = d
		}
	}
	if shortest == 0 {
		return 500 * time.Millisecond
	}
	return shortest
}

func (a *agent) looks(start int) {
	if a.start != start {
		return
	}
	if !a.frozen {
		for _, h := range a.parts {
			if !h.db.hung {
				h.step(hold.EngineSeen{Engine: h.db.look()})
			}
		}
	}
	a.e.after(look, func() { a.looks(start) })
}

// soon sends a heartbeat now, once for all that ask for it in the same moment.
func (a *agent) soon() {
	if !a.due {
		a.due = true
		a.e.after(time.Millisecond, func() { a.due = false; a.beat() })
	}
}

func (a *agent) beat() {
	if !a.alive || a.frozen {
		return
	}
	a.sequence++
	a.lastBeat = a.e.now
	reports := make([]said, len(a.parts))
	for i, h := range a.parts {
		reports[i] = said{h, h.convert(h.report())}
	}
	a.e.heartbeat(a, reports)
}

func (a *agent) soonPartners() {
	if !a.dueLink {
		a.dueLink = true
		a.e.after(time.Millisecond, func() { a.dueLink = false; a.beatPartners() })
	}
}

// word is what an agent says to its partner's agent of one pair.
type word struct {
	w    *world
	says hold.Says
}

// beatPartners sends each partner host what concerns the pairs shared with it.
func (a *agent) beatPartners() {
	if !a.alive || a.frozen {
		return
	}
	a.lastLink = a.e.now
	for _, p := range a.e.agents {
		var words []word
		for _, h := range a.parts {
			if p != a && h.managed && h.state.File.Peer.Host == p.name {
				words = append(words, word{h.w, h.state.Ask()})
			}
		}
		if len(words) > 0 {
			a.askPartner(p, words)
		}
	}
}

func (a *agent) askPartner(p *agent, words []word) {
	sent, start := a.now(), a.start
	a.e.send(a.name, p.name, func() {
		if !p.alive {
			return
		}
		p.receive(func() {
			replies := make([]word, 0, len(words))
			for i := range words {
				if h := words[i].w.hosts[p.name]; h != nil && h.managed {
					h.replies = nil
					h.step(hold.PartnerAsked{Host: a.name, Says: words[i].says})
					if h.replies != nil {
						replies = append(replies, word{words[i].w, *h.replies})
						h.vow.add(pair.Epoch(h.replies.Epoch), a.e.now+h.lasts(h.replies.Lease))
					}
				}
			}
			a.e.send(p.name, a.name, func() {
				if a.start == start {
					a.receive(func() { a.partnerAnswered(p.name, replies, sent) })
				}
			})
		})
	})
}

func (a *agent) partnerAnswered(partner string, replies []word, sent hold.Instant) {
	for i := range replies {
		replies[i].w.hosts[a.name].step(hold.PartnerAnswered{Sent: sent, Host: partner, Says: replies[i].says})
	}
}

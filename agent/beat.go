package agent

import (
	"slices"
	"time"

	"github.com/witnessd/witnessd/agent/hold"
	"github.com/witnessd/witnessd/agent/link"
)

// firstInterval is the heartbeat of an agent that has not heard any pair's policy yet.
const firstInterval = 500 * time.Millisecond

// minGap bounds how often "now" may be said: a burst of changes is told in a few heartbeats.
const minGap = 5 * time.Millisecond

// sentKept bounds the memory of unanswered heartbeats. An answer to an older one could grant only a lease that
// is nearly over.
const sentKept = 64

// beat is the rhythm of the heartbeats to the witness. It is owned by the loop.
type beat struct {
	sequence uint64
	term     uint64 // of the answer to the heartbeat termOf, the newest that was answered;
	termOf   uint64 // not the highest one: a restored witness counts from lower
	last     hold.Instant
	sent     map[uint64]hold.Instant // unanswered, by sequence
	waiting  hold.Instant            // since when an answer is owed; 0: none is
	now      bool                    // send without waiting for the beat
	partners bool
	linked   hold.Instant // when partners were last sent to; news for the witness must not put that off
	reply    hold.Says
	unknown  map[string]unknownPair // pairs that name an instance this agent does not have
	told     bool                   // the operator was told that the host is in no pair
	refused  map[string]string      // by endpoint: why the session is refused
}

type unknownPair struct{ name, instance string }

// peerBeat is the rhythm towards one partner host.
type peerBeat struct {
	sequence uint64
	sent     map[uint64]hold.Instant
}

func (a *Agent) interval() time.Duration {
	shortest := time.Duration(0)
	for _, i := range a.instances {
		if h := i.state.File.Timing.Heartbeat; i.managed && h > 0 && (shortest == 0 || h < shortest) {
			shortest = h
		}
	}
	if shortest == 0 {
		return firstInterval
	}
	return shortest
}

// sendDue sends what is due: the beat's, or at once what a decision asked for.
func (a *Agent) sendDue(now hold.Instant) {
	b := &a.beat
	every := a.interval()
	if gap := now.Sub(b.last); gap >= every || b.now && gap >= minGap {
		a.sendWitness(now, every)
	}
	if b.partners || now.Sub(b.linked) >= every {
		b.partners, b.linked = false, now
		a.sendPartners(now)
	}
}

func (a *Agent) sendWitness(now hold.Instant, every time.Duration) {
	b := &a.beat
	if b.sent == nil {
		b.sent = map[uint64]hold.Instant{}
	}
	b.now, b.last = false, now
	b.sequence++
	// R1: the instant is taken before anything of the message is built.
	b.sent[b.sequence] = now
	forgetOld(b.sent, b.sequence)
	if b.waiting == 0 {
		b.waiting = now
	}
	late := now.Sub(b.waiting) >= every
	a.metrics.heartbeats.Inc()
	a.witness.Send(link.Heartbeat{Sequence: b.sequence, TermHeard: b.term, Pairs: a.reports(now)}, late)
}

func forgetOld(sent map[uint64]hold.Instant, newest uint64) {
	for seq := range sent {
		if seq+sentKept < newest {
			delete(sent, seq)
		}
	}
}

func (a *Agent) reports(now hold.Instant) []link.PairReport {
	var reports []link.PairReport
	for _, i := range a.instances {
		level, note := a.level(i)
		r := link.PairReport{
			Member: a.member(i), FenceLevel: string(level), FenceNote: note, Watchdog: a.watchdog.Limit() > 0,
			Hooks: a.hookResults(i),
		}
		r.Engine = i.state.Report(now).Engine
		if i.managed {
			r.Report = i.state.Report(now)
			if r.Request == hold.RequestArm && !i.mayArm() {
				r.Request = hold.RequestNone // with the next beat
			}
		} else {
			r.Engine = i.lastSeen
		}
		if step := i.step.get(); step != "" {
			r.Engine.Step = step
		}
		reports = append(reports, r)
		for _, other := range i.others {
			r.Report = hold.Report{Pair: other, Engine: r.Engine}
			r.OtherRight = i.state.OtherRight(now)
			r.Complaint = "instance " + i.name + " belongs to pair " + i.state.File.Name + " already; remove that pair first"
			reports = append(reports, r)
		}
	}
	for pair, u := range a.beat.unknown {
		reports = append(reports, link.PairReport{
			Member: link.Member{Host: a.config.Host, Instance: u.instance},
			Report: hold.Report{Pair: pair, Complaint: "agent of " + a.config.Host + " has no instance named " +
				u.instance + "; add it to the agent's configuration, or create the pair with host=instance"},
		})
	}
	return reports
}

func (a *Agent) member(i *instance) link.Member {
	return link.Member{
		Host: a.config.Host, Instance: i.name, LinkAddress: a.config.Link.Advertise,
		ServiceAddress: i.engine.Address(), Engine: i.engine.Kind(), SystemID: i.systemID,
	}
}

// sendPartners sends each partner host what concerns the pairs shared with it.
func (a *Agent) sendPartners(now hold.Instant) {
	says := map[string][]hold.Says{}
	addresses := map[string]string{}
	for _, i := range a.instances {
		peer := i.state.File.Peer
		if !i.managed || peer.Host == "" || peer.LinkAddress == "" {
			continue
		}
		addresses[peer.Host] = peer.LinkAddress
		says[peer.Host] = append(says[peer.Host], i.tell(i.state.Ask(), now))
	}
	a.partners.SetPeers(addresses)
	for host, list := range says {
		p := a.peers[host]
		if p == nil {
			p = &peerBeat{sent: map[uint64]hold.Instant{}}
			a.peers[host] = p
		}
		p.sequence++
		p.sent[p.sequence] = now // R1, as above
		forgetOld(p.sent, p.sequence)
		a.partners.Send(host, p.sequence, list)
	}
}

// sortedNames keeps logs and screens the same from run to run.
func sortedNames(m map[string]unknownPair) []string {
	var names []string
	for _, u := range m {
		names = append(names, u.name)
	}
	slices.Sort(names)
	return names
}

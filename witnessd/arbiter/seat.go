package arbiter

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/witnessd/witnessd/witnessd/pair"
)

// Agent is how an agent introduces itself.
type Agent struct {
	Host        pair.HostID
	ID          string // of its state directory, for ever
	Start       string // of this start
	Version     string
	HTTPAddress string
}

// Report is what an agent says of one instance and, if it knows of one, its pair. Host, Start, Sequence and
// TermHeard of the report are filled in by the office.
type Report struct {
	Pair  pair.ID
	Said  pair.Report
	Hooks []pair.Hook // of that pair; none without one
}

// Heartbeat is what an agent says of all its instances at one moment.
type Heartbeat struct {
	Sequence  uint64
	TermHeard pair.Term
	Reports   []Report
}

// PairAnswer is what the witness says of one pair to one of its hosts.
type PairAnswer struct {
	Record   pair.Record
	Lease    time.Duration
	Refused  pair.Reason
	Mute     bool
	Released pair.Epoch // highest epoch of which the witness has heard the release
	// HooksRecorded is up to which sequence the hooks of this start of the agent are in the history.
	HooksRecorded uint64
}

// Answer answers one heartbeat.
type Answer struct {
	Sequence uint64
	Term     pair.Term
	Pairs    []PairAnswer
	// Removed are the pairs of the heartbeat that do not name the host any more.
	Removed []pair.ID
}

// Outlet takes what goes to an agent's session. It is called on the office's goroutine and must not block.
type Outlet interface {
	Answer(Answer)
	Nudge()
	// End refuses the session: another agent has the host, or a newer start of the same one.
	End(*pair.Refusal)
}

// The reasons of the arbiter, beside those of package pair.
const (
	// ReasonHostClaimed refuses an agent for whose host another agent speaks.
	ReasonHostClaimed pair.Reason = "HOST_CLAIMED"
	// ReasonSessionReplaced ends the session of an earlier start of an agent.
	ReasonSessionReplaced pair.Reason = "SESSION_REPLACED"
	// ReasonTooManySessions refuses an agent that has many already, and any when there are too many hosts.
	ReasonTooManySessions pair.Reason = "TOO_MANY_SESSIONS"
)

const (
	// claimTime is how long an agent that fell silent keeps its host against another one with the same name:
	// long enough for any restart of the agent's connection, short enough for a host that is rebuilt.
	claimTime = 10 * time.Second
	// seatsPerHost allows a session by every node of the witness, twice.
	seatsPerHost = 16
	// hostsLimit bounds what strangers can make the office remember.
	hostsLimit = 50_000
	// forgetTime is when a host without a session and without a pair is forgotten.
	forgetTime = time.Minute
)

// host is what the office knows of one host's agent.
type host struct {
	dockets []*docket // the pairs that name the host, by id
	seats   []*Seat
	// agent speaks for the host: the one whose heartbeat came last, of the newest start. Zero: none yet.
	agent Agent
	order uint64 // of the first seat of that start
	heard pair.Instant
}

// Seat is an agent's place in the office, for one of its sessions.
type Seat struct {
	office *Office
	agent  Agent
	out    Outlet
	order  uint64
}

// beat is a heartbeat as it was received.
type beat struct {
	seat    *Seat
	receipt pair.Instant
	mark    uint64
	Heartbeat
}

func (o *Office) host(id pair.HostID) *host {
	h := o.hosts[id]
	if h == nil {
		h = &host{}
		o.hosts[id] = h
	}
	return h
}

// Join gives an agent's session a seat, or refuses it with a *pair.Refusal.
func (o *Office) Join(ctx context.Context, agent Agent, out Outlet) (*Seat, error) {
	s := &Seat{office: o, agent: agent, out: out}
	refused := make(chan *pair.Refusal, 1)
	if !o.send(ctx, func() { refused <- o.join(s) }) {
		return nil, ErrNotLeading
	}
	select {
	case r := <-refused:
		if r != nil {
			return nil, r
		}
		return s, nil
	case <-o.ctx.Done():
		return nil, ErrNotLeading
	}
}

func (o *Office) join(s *Seat) *pair.Refusal {
	h := o.hosts[s.agent.Host]
	switch {
	case h == nil && len(o.hosts) >= hostsLimit:
		return &pair.Refusal{Reason: ReasonTooManySessions, Detail: "the witness has too many hosts"}
	case h == nil:
		h = o.host(s.agent.Host)
	case len(h.seats) >= seatsPerHost:
		return &pair.Refusal{Reason: ReasonTooManySessions,
			Detail: fmt.Sprintf("host %s has %d sessions", s.agent.Host, len(h.seats))}
	}
	if bad := h.claimed(s.agent, o.Clock()); bad != nil {
		return bad
	}
	o.seats++
	s.order = o.seats
	h.seats = append(h.seats, s)
	return nil
}

// claimed refuses an agent while another one speaks for the host: with two, either could make the witness
// believe what the other has not promised.
func (h *host) claimed(agent Agent, now pair.Instant) *pair.Refusal {
	if h.agent.ID == "" || h.agent.ID == agent.ID || now.Sub(h.heard) >= claimTime {
		return nil
	}
	return &pair.Refusal{
		Reason: ReasonHostClaimed,
		Detail: fmt.Sprintf("another agent (id %s) speaks for host %s", h.agent.ID, agent.Host),
		Do:     "give each agent a host name of its own, or stop the other agent and wait " + claimTime.String(),
	}
}

// Leave gives the seat up.
func (s *Seat) Leave() {
	s.office.send(s.office.ctx, func() { s.office.unseat(s) })
}

func (o *Office) unseat(s *Seat) {
	if h := o.hosts[s.agent.Host]; h != nil {
		h.seats = slices.DeleteFunc(h.seats, func(other *Seat) bool { return other == s })
	}
}

// Heartbeat receives a heartbeat, without waiting. It says false if it was dropped, for want of room or
// because the office has ended; the agent will send another.
func (s *Seat) Heartbeat(hb Heartbeat) bool {
	o := s.office
	// R1, R2: the receipt is stamped first, so that the exchange which confirms it began after it.
	receipt := o.Clock()
	b := beat{seat: s, receipt: receipt, mark: o.Log.Mark(), Heartbeat: hb}
	if o.ctx.Err() != nil {
		return false
	}
	select {
	case o.beats <- b:
		o.Observer.HeartbeatTaken()
		return true
	default:
		o.Observer.HeartbeatDropped()
		return false
	}
}

// take hears a heartbeat and queues it for its answer.
func (o *Office) take(b beat) {
	h := o.hosts[b.seat.agent.Host]
	if h == nil || !o.speaks(h, b) {
		return
	}
	h.heard = b.receipt
	q := request{seat: b.seat, sequence: b.Sequence, receipt: b.receipt}
	for _, r := range b.Reports {
		d := h.find(b.seat.agent.Host, r)
		if r.Pair != "" && (d == nil || d.record.ID != r.Pair) {
			q.strays = append(q.strays, r.Pair)
		}
		if d == nil {
			continue
		}
		report := heardAs(b, r, d.record.ID)
		o.step(d, pair.Heard{Report: report, Receipt: b.receipt})
		if len(r.Hooks) > 0 && r.Pair == d.record.ID {
			o.step(d, pair.Hooked{Host: report.Host, Start: report.Start, Hooks: r.Hooks})
		}
		if report.AskLease {
			q.asks = append(q.asks, d.record.ID)
		}
	}
	o.wait(question{mark: b.mark, request: &q})
}

// speaks says whether a heartbeat comes from the agent that speaks for the host, and makes the newest start
// that one. A seat says nothing by being taken: after a change of leader also sessions take seats whose
// agents are gone. Of two starts that both send, the one that came later is the newer one.
func (o *Office) speaks(h *host, b beat) bool {
	s := b.seat
	switch {
	case h.agent.ID == s.agent.ID && h.agent.Start == s.agent.Start:
		return true
	case !slices.Contains(h.seats, s):
		return false // was ended already
	case h.claimed(s.agent, b.receipt) != nil:
		o.end(h, h.claimed(s.agent, b.receipt), func(other *Seat) bool { return other == s })
		return false
	case h.agent.ID == s.agent.ID && s.order < h.order:
		o.end(h, replaced(s.agent.Host), func(other *Seat) bool { return other == s })
		return false
	}
	h.agent, h.order = s.agent, s.order
	o.end(h, replaced(s.agent.Host), func(other *Seat) bool {
		return other.order < s.order && (other.agent.ID != s.agent.ID || other.agent.Start != s.agent.Start)
	})
	return true
}

func replaced(host pair.HostID) *pair.Refusal {
	return &pair.Refusal{
		Reason: ReasonSessionReplaced, Detail: fmt.Sprintf("a newer start of the agent speaks for host %s", host),
	}
}

// end refuses some of a host's seats.
func (o *Office) end(h *host, why *pair.Refusal, which func(*Seat) bool) {
	h.seats = slices.DeleteFunc(h.seats, func(s *Seat) bool {
		if !which(s) {
			return false
		}
		o.Logger.Warn("session ended by the witness", "host", string(s.agent.Host), "agent", s.agent.ID,
			"start", s.agent.Start, "reason", string(why.Reason), "detail", why.Detail)
		s.out.End(why)
		return true
	})
}

// find is the pair that a report is about: the one it names, or the one that has its instance.
func (h *host) find(id pair.HostID, r Report) *docket {
	for _, d := range h.dockets {
		if d.record.ID == r.Pair {
			return d
		}
	}
	for _, d := range h.dockets {
		for _, m := range d.record.Members {
			if m.Host == id && m.Instance == r.Said.Member.Instance {
				return d
			}
		}
	}
	return nil
}

// heardAs is a report as the pair may take it. What an agent remembers of another pair says nothing about
// this one, except that the instance may not be free (rule R16).
func heardAs(b beat, r Report, id pair.ID) pair.Report {
	report := r.Said
	if r.Pair != "" && r.Pair != id {
		report = pair.Report{OtherRight: true, Complaint: report.Complaint, FenceLevel: report.FenceLevel,
			FenceNote: report.FenceNote, Watchdog: report.Watchdog, Member: report.Member, Engine: report.Engine}
	}
	report.Host, report.Start = b.seat.agent.Host, b.seat.agent.Start
	report.Member.Host = b.seat.agent.Host
	report.Sequence, report.TermHeard = b.Sequence, b.TermHeard
	return report
}

// nudge asks a host's agent, by all its sessions, for a heartbeat.
func (o *Office) nudge(id pair.HostID) {
	h := o.hosts[id]
	if h == nil {
		return
	}
	for _, s := range h.seats {
		s.out.Nudge()
	}
}

// sweep forgets hosts that are in no pair and have no agent.
func (o *Office) sweep(now pair.Instant) {
	for id, h := range o.hosts {
		if len(h.dockets) == 0 && len(h.seats) == 0 && now.Sub(h.heard) >= forgetTime {
			delete(o.hosts, id)
		}
	}
}

package agent

import (
	"context"
	"slices"
	"strings"

	"github.com/witnessd/witnessd/agent/hold"
	"github.com/witnessd/witnessd/agent/link"
)

// answered takes an answer of the witness in, for all pairs of the host.
func (a *Agent) answered(ctx context.Context, answer link.Answer) error {
	b := &a.beat
	sent, ours := b.sent[answer.Sequence]
	if !ours {
		return nil // answered already by another way, or too old to matter
	}
	delete(b.sent, answer.Sequence)
	a.owed(sent)
	if answer.Sequence > b.termOf {
		b.termOf = answer.Sequence
		// The new leader must hear that it was heard (rule R5).
		b.now = b.now || answer.Term != b.term
		b.term = answer.Term
	}
	a.metrics.answers.Inc()
	a.metrics.roundTrip.Observe(a.clock().Sub(sent).Seconds())
	a.tellIfUnpaired(ctx, answer)
	for _, pair := range answer.Removed {
		if err := a.removed(ctx, pair); err != nil {
			return err
		}
	}
	b.unknown = map[string]unknownPair{}
	for _, i := range a.instances {
		i.others = nil
	}
	for _, p := range answer.Pairs {
		if err := a.pairAnswered(ctx, p, sent); err != nil {
			return err
		}
	}
	return nil
}

// owed notes since when an answer is owed, after one has come: requests older than the answered one no longer
// speak of a slow witness.
func (a *Agent) owed(answered hold.Instant) {
	b := &a.beat
	b.waiting = 0
	for _, sent := range b.sent {
		if sent > answered && (b.waiting == 0 || sent < b.waiting) {
			b.waiting = sent
		}
	}
}

func (a *Agent) pairAnswered(ctx context.Context, p link.PairAnswer, sent hold.Instant) error {
	i := a.byPair(p.Pair)
	if i == nil {
		i = a.instance(p.Instance)
		switch {
		case i == nil:
			a.beat.unknown[p.Pair] = unknownPair{name: p.Name, instance: p.Instance}
			return nil
		case i.managed:
			// R16: an agent keeps at most one pair id per instance.
			i.others = append(i.others, p.Pair)
			return nil
		case p.Mute:
			return nil
		}
		i.adopt(a.config.Host, p.Pair, p.Name, a.clock())
		i.log.InfoContext(ctx, "instance belongs to pair", "pair", p.Name, "id", p.Pair)
	}
	a.hooks.Confirm(i.name, p.HooksRecorded)
	if p.Mute {
		return nil // R11: nothing was said
	}
	says := p.Says
	says.Sent = sent
	return a.step(ctx, i, says)
}

// removed forgets a pair that is a tombstone now.
func (a *Agent) removed(ctx context.Context, pair string) error {
	i := a.byPair(pair)
	if i == nil {
		return nil
	}
	if err := a.step(ctx, i, hold.Forget{}); err != nil {
		return err
	}
	// First, because without its file the next start would know of no instance to let go of.
	i.letGoKernel(ctx)
	if err := i.file.remove(); err != nil {
		i.log.WarnContext(ctx, "forget pair", "error", err)
	}
	if err := i.mark.clear(); err != nil {
		i.log.WarnContext(ctx, "forget pair", "error", err)
	}
	i.managed = false
	// What runs here is nobody's business now: a right that was timed must not end it later.
	i.fence.Renew(0, true)
	return nil
}

// tellIfUnpaired says once, in words, why an agent that works has nothing to do.
func (a *Agent) tellIfUnpaired(ctx context.Context, answer link.Answer) {
	if len(answer.Pairs) > 0 {
		a.beat.told = false
		return
	}
	if !a.beat.told {
		a.beat.told = true
		a.log.WarnContext(ctx, "this host is in no pair, so its databases are not managed", "host", a.config.Host,
			"do", "witnessctl pair create NAME --host "+a.config.Host+" --host PARTNER")
	}
}

// sessionChanged tells an operator about sessions that a node refuses.
func (a *Agent) sessionChanged(ctx context.Context, s link.SessionState) {
	if a.beat.refused == nil {
		a.beat.refused = map[string]string{}
	}
	if s.Up {
		delete(a.beat.refused, s.Endpoint)
		a.beat.now = true
		return
	}
	if s.Reason != "" && a.beat.refused[s.Endpoint] != s.Reason {
		a.tellSession(ctx, s)
	}
	a.beat.refused[s.Endpoint] = s.Reason
}

// reasonStopping is what a node answers while it stops.
const reasonStopping = "STOPPING"

// tellSession keeps apart what an operator must mend from a node that is merely away, which concerns no pair.
func (a *Agent) tellSession(ctx context.Context, s link.SessionState) {
	log := a.log.With("endpoint", s.Endpoint, "reason", s.Reason, "detail", s.Detail)
	if s.Reason == link.ReasonNotReached || s.Reason == reasonStopping {
		log.InfoContext(ctx, "node of the witness is away")
		return
	}
	log.ErrorContext(ctx, "witness refuses this agent")
}

func (a *Agent) partnerAnswered(ctx context.Context, e partnerAnswer) error {
	p := a.peers[e.partner]
	if p == nil {
		return nil
	}
	sent, ours := p.sent[e.seq]
	if !ours {
		return nil
	}
	delete(p.sent, e.seq)
	for _, says := range e.says {
		if i := a.byPair(says.Pair); i != nil {
			i.heardPartner(e.partner, says, a.clock())
			if err := a.step(ctx, i, hold.PartnerAnswered{Sent: sent, Host: e.partner, Says: says}); err != nil {
				return err
			}
		}
	}
	return nil
}

// partnerAsked answers a partner's request for every pair in it that this host knows.
func (a *Agent) partnerAsked(ctx context.Context, e partnerAsk) error {
	var answers []hold.Says
	for _, says := range e.says {
		i := a.byPair(says.Pair)
		if i == nil {
			continue
		}
		i.heardPartner(e.from, says, a.clock())
		a.beat.reply = hold.Says{}
		if err := a.step(ctx, i, hold.PartnerAsked{Host: e.from, Says: says}); err != nil {
			return err
		}
		if a.beat.reply.Pair != "" {
			answers = append(answers, i.tell(a.beat.reply, a.clock()))
		}
	}
	e.reply <- answers
	return nil
}

// unpaired lists the refused sessions and unknown pairs, for the status page.
func (a *Agent) troubles() []string {
	var list []string
	for endpoint, reason := range a.beat.refused {
		if reason != "" {
			list = append(list, endpoint+" refuses this agent: "+reason)
		}
	}
	slices.Sort(list)
	if names := sortedNames(a.beat.unknown); len(names) > 0 {
		list = append(list, "pairs that name an unknown instance here: "+strings.Join(names, ", "))
	}
	return list
}

package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/witnessd/witnessd/agent/hold"
	"github.com/witnessd/witnessd/agent/link"
)

// tickInterval is how often the loop looks at the clock. The instants that safety depends on are kept by the
// fence's own timer; this bounds only how late a heartbeat or a promise's end is told.
const tickInterval = 20 * time.Millisecond

// event is something for the loop. Each type below is one kind.
type event any

type (
	instanceEvent struct {
		name string
		ev   hold.Event
	}
	witnessAnswer struct{ link.Answer }
	nudge         struct{}
	sessionState  struct{ link.SessionState }
	namesChanged  struct{}
	partnerAnswer struct {
		partner string
		seq     uint64
		says    []hold.Says
	}
	partnerAsk struct {
		from  string
		says  []hold.Says
		reply chan<- []hold.Says
	}
)

// post hands an event to the loop. The channel is deep enough for bursts; when the loop is stuck, waiting here
// holds the sender back and grows nothing. When the loop has ended, nobody is interested any more.
func (a *Agent) post(ev event) {
	select {
	case a.events <- ev:
	case <-a.stopped:
	}
}

func (a *Agent) postEvent(name string, ev hold.Event) { a.post(instanceEvent{name, ev}) }

// askLoop lets the loop answer a partner's request; it runs on gRPC's goroutine.
func (a *Agent) askLoop(ctx context.Context, from string, says []hold.Says) ([]hold.Says, error) {
	reply := make(chan []hold.Says, 1)
	select {
	case a.events <- partnerAsk{from: from, says: says, reply: reply}:
	case <-a.stopped:
		return nil, errStopped
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	select {
	case answer := <-reply:
		return answer, nil
	case <-a.stopped:
		return nil, errStopped
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// loop is the goroutine that owns every pair's state.
func (a *Agent) loop(ctx context.Context) error {
	defer close(a.stopped)
	ticker := time.NewTicker(tickInterval)
	defer ticker.Stop()
	for {
		var err error
		select {
		case <-ctx.Done():
			a.log.InfoContext(ctx, "agent stops; databases are left as they are for its next start")
			a.watchdog.Stop(context.WithoutCancel(ctx))
			return nil
		case <-ticker.C:
			err = a.tick(ctx)
		case ev := <-a.events:
			err = a.handle(ctx, ev)
		case err := <-a.failed:
			// Databases are left as they are for the next start, as at any other end.
			return err
		}
		if err != nil {
			a.shutAll(ctx)
			return err
		}
		now := a.clock()
		a.publish()
		a.attend(ctx, now)
		a.sendDue(now)
		a.watchdog.Turn(ctx, time.Duration(now), func() string { return a.status.Load().line(now) })
	}
}

// errStopped answers a partner that asks an agent which is ending.
var errStopped = errors.New("agent is stopping")

func (a *Agent) tick(ctx context.Context) error {
	for _, i := range a.instances {
		if err := a.step(ctx, i, hold.Tick{}); err != nil {
			return err
		}
	}
	return nil
}

func (a *Agent) handle(ctx context.Context, ev event) error {
	switch e := ev.(type) {
	case instanceEvent:
		return a.step(ctx, a.instance(e.name), e.ev)
	case witnessAnswer:
		return a.answered(ctx, e.Answer)
	case nudge:
		a.beat.now = true
	case sessionState:
		a.sessionChanged(ctx, e.SessionState)
	case namesChanged:
		for _, i := range a.instances {
			a.guardKernel(ctx, i)
		}
	case acted:
		a.acted(ctx, e)
	case partnerAnswer:
		return a.partnerAnswered(ctx, e)
	case partnerAsk:
		return a.partnerAsked(ctx, e)
	default:
		panic(fmt.Sprintf("agent: unknown event %T", ev))
	}
	return nil
}

func (a *Agent) instance(name string) *instance {
	for _, i := range a.instances {
		if i.name == name {
			return i
		}
	}
	return nil
}

// byPair finds the instance that a pair id is bound to.
func (a *Agent) byPair(pair string) *instance {
	for _, i := range a.instances {
		if i.managed && i.state.File.Pair == pair {
			return i
		}
	}
	return nil
}

// step decides and acts. An error means that the agent is no longer safe.
func (a *Agent) step(ctx context.Context, i *instance, ev hold.Event) error {
	switch e := ev.(type) {
	case hold.EngineSeen:
		i.observed(ctx, e.Engine)
	case hold.Fenced:
		a.metrics.fences.Inc()
		i.endedBy = e.Why
	}
	if !i.managed {
		return nil
	}
	var actions []hold.Action
	i.state, actions = hold.Step(i.state, ev, a.clock())
	for _, action := range actions {
		if err := a.act(ctx, i, action); err != nil {
			return err
		}
	}
	i.openForReads(a.clock(), a.config.Fence.MirrorReads)
	return nil
}

// act carries out one action. Order matters: what is saved, fenced or renewed comes before what is told.
func (a *Agent) act(ctx context.Context, i *instance, action hold.Action) error {
	switch act := action.(type) {
	case hold.Save:
		if err := i.file.save(act.File); err != nil {
			return fmt.Errorf("%w: %w", ErrUnsafe, err)
		}
		a.guardKernel(ctx, i)
	case hold.Renew:
		if err := i.remember(ctx, act); err != nil {
			return fmt.Errorf("%w: %w", ErrUnsafe, err)
		}
		i.fence.Renew(act.Until, act.Endless)
		i.open(ctx, act)
	case hold.Fence:
		a.shut(ctx, i, act.Why)
	case hold.Do:
		if act.Op == hold.OpHandOver || act.Op == hold.OpStop {
			a.ending(i.name)
		}
		i.begin(ctx, act, i.state.File.Pair)
	case hold.SendWitness:
		a.beat.now = true
	case hold.SendPartner:
		a.beat.partners = true
	case hold.ReplyPartner:
		a.beat.reply = act.Says
	case hold.Note:
		level := slog.LevelInfo
		if act.Warn {
			level = slog.LevelWarn
		}
		i.log.Log(ctx, level, "note", "pair", i.state.File.Name, "epoch", i.state.File.Epoch, "text", act.Text)
	default:
		panic(fmt.Sprintf("agent: unknown action %T", action))
	}
	return nil
}

// attend tells gates, hooks and partners what has changed for clients.
func (a *Agent) attend(ctx context.Context, now hold.Instant) {
	for _, i := range a.instances {
		if i.kernel.bad != nil && now >= i.kernel.again {
			a.guardKernel(ctx, i)
		}
		st := i.state.Status(now)
		if !i.managed {
			st = hold.Status{}
		}
		a.route(i, st, now)
		a.runHooks(i, st)
		i.reach.look(i.servedAt(now))
		if takes := i.takesClients(st); takes != i.took {
			i.took = takes
			a.beat.partners = true // clients wait at the partner's gate
		}
	}
}

func (a *Agent) shut(ctx context.Context, i *instance, why string) {
	began := a.clock()
	i.endedBy = why
	i.closing.Store(true)
	a.ending(i.name)
	err := i.fence.Shut(context.WithoutCancel(ctx), why)
	took := a.clock().Sub(began).Round(time.Millisecond)
	a.metrics.fences.Inc()
	if err != nil {
		// hold asks again with every look at a database that still runs as primary.
		i.log.ErrorContext(ctx, "fence failed", "why", why, "took", took, "error", err)
		return
	}
	i.log.WarnContext(ctx, "fenced", "why", why, "took", took)
	if err := i.mark.clear(); err != nil {
		i.log.WarnContext(ctx, "clear mark", "error", err)
	}
}

// shutAll ends service of every pair that this host may be serving: the agent is about to end without being
// able to keep its promises. What could not be saved may be that this host is not primary any more, so the
// database's role counts too.
func (a *Agent) shutAll(ctx context.Context) {
	for _, i := range a.instances {
		now := a.clock()
		st := i.state.Status(now)
		bound := i.managed && st.Managed && !i.state.Report(now).Unmanaged
		if bound && (st.Primary || i.lastSeen.Role == hold.RolePrimary) {
			a.shut(ctx, i, "the agent cannot keep its promises")
		}
	}
}

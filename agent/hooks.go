package agent

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/witnessd/witnessd/agent/engine"
	"github.com/witnessd/witnessd/agent/hold"
	"github.com/witnessd/witnessd/agent/hook"
	"github.com/witnessd/witnessd/agent/link"
)

// hooksTold is how many outcomes of hooks one heartbeat carries.
const hooksTold = 4

// hooksPatience is how long an agent that stops waits for hooks that it has told to end: its next start must come
// within the lease.
const hooksPatience = 300 * time.Millisecond

func (a *Agent) openHooks(ctx context.Context) {
	var hooks []hook.Hook
	for _, h := range a.config.Hooks {
		c := hook.Hook{Instances: h.Instances, Command: h.Command, Timeout: h.Timeout}
		for _, on := range h.On {
			c.On = append(c.On, hook.Name(on))
		}
		hooks = append(hooks, c)
	}
	a.hooks = hook.New(ctx, hook.Options{
		Hooks: hooks, Environ: os.LookupEnv, Logger: a.log, OnDone: func(hook.Result) {
			// Never waits: it may be the loop itself that calls. The next beat tells it anyway.
			select {
			case a.events <- nudge{}:
			default:
			}
		},
	})
}

func (a *Agent) closeHooks() {
	done := make(chan struct{})
	go func() {
		defer close(done)
		a.hooks.Close()
	}()
	timer := time.NewTimer(hooksPatience)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
		a.log.Warn("a hook still runs and is left behind")
	}
}

// foundHooks is what the former start's hooks were told, as far as the files say.
func (i *instance) foundHooks(file hold.File, mark hold.Mark, now hold.Instant) {
	serving := mark.Epoch == file.Epoch && (mark.Endless || mark.Until > now)
	i.hooked = hook.Begin(uint64(file.Epoch), file.Primary == i.state.Self, serving)
}

// runHooks tells the administrator's commands what has changed. It does not wait for them.
func (a *Agent) runHooks(i *instance, st hold.Status) {
	if !i.managed {
		i.hooked = hook.State{}
		return
	}
	told, changes := hook.Changes(i.hooked, hook.Seen{
		Epoch: uint64(st.Epoch), Primary: i.state.File.Primary == i.state.Self, Serving: st.Serving,
		Following: st.Following,
	})
	i.hooked = told
	for _, c := range changes {
		reason := fmt.Sprintf("epoch %d", st.Epoch)
		if c.Name == hook.Fenced {
			reason = i.endedBy
		}
		a.hooks.Run(hook.Event{
			Change: c, Pair: st.Name, PairID: st.Pair, Host: a.config.Host, Instance: i.name,
			Partner: i.state.File.Peer.Host, Engine: i.config.Engine, Epoch: uint64(st.Epoch), Reason: reason,
		})
	}
}

// hookResults are those of the pair that the witness has yet to write into the pair's history.
func (a *Agent) hookResults(i *instance) []link.HookResult {
	if !i.managed {
		return nil
	}
	var list []link.HookResult
	for _, r := range a.hooks.Unconfirmed(i.name, hooksTold) {
		if r.PairID != i.state.File.Pair {
			continue // of a pair that was removed
		}
		list = append(list, link.HookResult{
			Sequence: r.Sequence, Event: string(r.Event), Epoch: hold.Epoch(r.Epoch), Command: r.Command, OK: r.OK,
			Detail: r.Detail, Took: r.Took,
		})
	}
	return list
}

// acted is what an engine did that looks after an instance by itself.
type acted struct {
	name string
	act  engine.Act
}

// rescueEvent marks such a step in the pair's history.
const rescueEvent = "rescue"

// acted logs a step, and keeps it for the pair's history if there is a pair.
func (a *Agent) acted(ctx context.Context, e acted) {
	i, detail := a.instance(e.name), oneLine(e.act.Detail)
	if e.act.Err != nil {
		detail = strings.TrimSpace(detail + " " + oneLine(e.act.Err.Error()))
		i.log.ErrorContext(ctx, "rescue failed", "step", e.act.What, "detail", detail)
	} else {
		i.log.WarnContext(ctx, "rescue", "step", e.act.What, "detail", detail)
	}
	if !i.managed {
		return
	}
	a.hooks.Record(hook.Result{
		Event: rescueEvent, Epoch: uint64(i.state.File.Epoch), Instance: i.name, PairID: i.state.File.Pair,
		Command: oneLine(e.act.What), OK: e.act.Err == nil, Detail: detail, Took: e.act.Took,
	})
}

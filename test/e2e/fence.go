package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/witnessd/witnessd/test/fleet"
)

// stopped is how long agents and hosts are stopped: many leases.
const stopped = 40 * time.Second

// unplugged is how long a host's cable is out.
const unplugged = 60 * time.Second

// afterwards is how long clients are watched after something that was stopped goes on.
const afterwards = 8 * time.Second

// fenceRows are the faults after which a right must have ended by itself, or must not have ended at all.
func fenceRows() []placeRow {
	return append(stoppedRows(), fencesRows()...)
}

// stoppedRows are about agents and hosts that are not there for a while, with the kernel's fence.
func stoppedRows() []placeRow {
	return []placeRow{
		{
			name: "agent kill -9, database untouched", flag: "kill", moves: true, cuts: true, inject: killAgent,
		},
		{
			name: "agent kill -9, started again within 100 ms", flag: "killrestart", stays: true,
			inject: func(_ context.Context, r *placeRun) error {
				r.primary.KillAgent()
				return nil
			},
		},
		{
			name: "agent SIGSTOP for 40 s, database untouched", flag: "stop", moves: true, cuts: true,
			inject: func(_ context.Context, r *placeRun) error {
				r.primary.FreezeAgent()
				time.Sleep(stopped)
				r.primary.ThawAgent()
				return nil
			},
		},
		{
			name: "every process SIGSTOP for 40 s", flag: "stopall", moves: true,
			inject: func(_ context.Context, r *placeRun) error {
				r.primary.Freeze()
				time.Sleep(stopped)
				r.primary.Thaw()
				return nil
			},
		},
		{
			name: "link down for 60 s", flag: "link", moves: true,
			inject: func(_ context.Context, r *placeRun) error {
				if err := r.primary.Unplug(); err != nil {
					return err
				}
				time.Sleep(unplugged)
				return r.primary.Plug()
			},
			check: cutInside,
		},
		{
			name: "agent stopped in order and started 1 s later", flag: "upgrade", stays: true,
			inject: func(_ context.Context, r *placeRun) error {
				r.primary.KeepDown()
				r.primary.RestartAgent()
				time.Sleep(time.Second)
				r.primary.LetStart()
				return nil
			},
		},
	}
}

// fencesRows are about the other fences.
func fencesRows() []placeRow {
	return []placeRow{
		{
			name: "nftables refused: agent without CAP_NET_ADMIN", flag: "refused", stays: true,
			prepare: func(ctx context.Context, r *placeRun) error { return withoutNetAdmin(ctx, r, true) },
			inject:  func(context.Context, *placeRun) error { return nil },
			check:   saysWeaker,
			undo:    func(ctx context.Context, r *placeRun) error { return withoutNetAdmin(ctx, r, false) },
		},
		{
			name: "agent SIGSTOP with the watchdog on", flag: "watchdog",
			prepare: func(ctx context.Context, r *placeRun) error {
				return supervised(ctx, r, fleet.Supervision{Watchdog: 2 * time.Second})
			},
			inject: func(_ context.Context, r *placeRun) error {
				r.primary.FreezeAgent()
				time.Sleep(stopped / 2)
				r.primary.ThawAgent() // if nothing has killed it
				return nil
			},
			check: killedByWatchdog,
			undo:  func(ctx context.Context, r *placeRun) error { return supervised(ctx, r, fleet.Supervision{}) },
		},
		{
			name: "no nftables, agent kill -9, command after its end", flag: "atend", moves: true, cuts: true,
			prepare: func(ctx context.Context, r *placeRun) error {
				r.primary.WithoutNetAdmin = true
				return supervised(ctx, r, fleet.Supervision{AtEnd: fleet.AtEnd()})
			},
			inject: killAgent,
			undo: func(ctx context.Context, r *placeRun) error {
				r.primary.WithoutNetAdmin = false
				return supervised(ctx, r, fleet.Supervision{})
			},
		},
	}
}

// killAgent keeps the agent down until the mirror has served for a while.
func killAgent(ctx context.Context, r *placeRun) error {
	r.primary.KeepDown()
	defer r.primary.LetStart()
	r.primary.KillAgent()
	if !r.served(ctx, 20*time.Second) {
		return nil // judged later
	}
	time.Sleep(3 * time.Second)
	return nil
}

// cutInside: a host that is cut off must not go on serving those who are on it.
func cutInside(_ context.Context, r *placeRun) {
	ch := r.clients.Change(r.began, r.primary, r.mirror)
	for v := range ch.Last {
		if !strings.HasPrefix(v.Place, "inside") {
			continue
		}
		if cut, ok := ch.Cut[v]; !ok || !cut.Before(ch.Served) {
			r.breaks("a session inside the cut host was not cut before the mirror served: %v", v)
		}
	}
}

// withoutNetAdmin starts the primary's agent again with or without what it needs for the kernel's fence, as after a
// boot: an agent that may not look at the kernel's tables could not know of one that closes its ports.
func withoutNetAdmin(ctx context.Context, r *placeRun, without bool) error {
	r.primary.WithoutNetAdmin = without
	return restarted(ctx, r)
}

func supervised(ctx context.Context, r *placeRun, s fleet.Supervision) error {
	r.primary.Supervision = s
	return restarted(ctx, r)
}

// restarted starts the primary's agent again in order, with an empty packet filter, and waits until it is at work.
func restarted(ctx context.Context, r *placeRun) error {
	began := time.Now()
	r.primary.KeepDown()
	r.primary.RestartAgent()
	err := r.primary.ForgetFilter()
	r.primary.LetStart()
	if err != nil {
		return err
	}
	for end := began.Add(10 * time.Second); time.Now().Before(end) && ctx.Err() == nil; time.Sleep(20 * time.Millisecond) {
		if _, ok := r.primary.LogTime(began, "agent started"); ok {
			// One heartbeat and one look of the leader at it.
			time.Sleep(2 * time.Second)
			return nil
		}
	}
	return fmt.Errorf("agent of %s did not start again within 10 s", r.primary.Name)
}

// saysWeaker: an agent that cannot use the kernel's fence says so in its log and to the witness.
func saysWeaker(ctx context.Context, r *placeRun) {
	pair, err := r.fleet.Get(ctx, r.pair.Name)
	if err != nil {
		r.breaks("%v", err)
		return
	}
	for _, h := range pair.GetHosts() {
		r.note("%s: %s (%s)", h.GetHost(), h.GetReport().GetFenceLevel(), h.GetReport().GetFenceNote())
		switch weak := h.GetReport().GetFenceLevel() != "kernel"; {
		case h.GetHost() == r.primary.Name && !weak:
			r.breaks("%s says that its fence is the kernel's", h.GetHost())
		case h.GetHost() == r.primary.Name && h.GetReport().GetFenceNote() == "":
			r.breaks("%s does not say why its fence is not the kernel's", h.GetHost())
		case h.GetHost() != r.primary.Name && weak:
			r.breaks("%s does not use the kernel's fence", h.GetHost())
		}
	}
	out, err := r.fleet.Ctl(ctx, "pair", "show", r.pair.Name)
	if err != nil {
		r.breaks("pair show: %v: %s", err, out)
	}
	if !strings.Contains(out, "CAP_NET_ADMIN") {
		r.breaks("pair show does not say what is missing:\n%s", out)
	}
	if !strings.Contains(r.primary.Logs(400), "CAP_NET_ADMIN") {
		r.breaks("the log of %s does not say what is missing", r.primary.Name)
	}
}

func killedByWatchdog(_ context.Context, r *placeRun) {
	if _, hung := r.primary.Starts(); hung == 0 {
		r.breaks("the watchdog did not fire: the agent was not fed by a socket, or never said that it was ready")
	}
	if r.clients.Change(r.began, r.primary, r.mirror).Served.IsZero() {
		r.note("the new start was in time: nobody moved")
		return
	}
	r.note("the mirror took over")
}

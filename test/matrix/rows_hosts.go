package main

import (
	"context"
	"time"

	"github.com/witnessd/witnessd/test/fleet"
)

// hostRows are about hosts and databases that end, or are alone.
func hostRows() []row {
	return []row{
		{
			flag: "crash", name: "kill -9 of the primary's postmaster", limit: crashLimit,
			decision: takesOver("the primary's agent releases, the mirror takes over at once"),
			fault:    crash(thePrimary), lasts: time.Second, touches: []party{thePrimary},
		},
		{
			flag: "crash-mirror", name: "kill -9 of the mirror's postmaster", limit: exposeLimit,
			decision: decision{says: "nobody moves; exposed if the restart takes longer than the mirror time-out",
				epoch: stays, right: anyRight, servesWithin: serviceLate},
			fault: crash(theMirror), lasts: time.Second, touches: []party{theMirror},
		},
		{
			flag: "host", name: "primary's host without power for 12 s", limit: hostLimit,
			decision: takesOver("the mirror takes over after one lease"),
			fault:    powerCut(thePrimary), lasts: 12 * time.Second, touches: []party{thePrimary},
		},
		{
			flag: "mirror", name: "mirror's host without power for 10 s", limit: exposeLimit,
			decision: exposes("commits held for the mirror time-out, then exposed; nobody moves"),
			fault:    powerCut(theMirror), lasts: 10 * time.Second, touches: []party{theMirror},
		},
		{
			flag: "unplugged", name: "primary's cable pulled for 12 s", limit: hostLimit,
			decision: takesOver("the primary fences itself, the mirror takes over after one lease"),
			fault:    onHost(thePrimary, (*fleet.Host).Unplug, (*fleet.Host).Plug), lasts: 12 * time.Second,
			touches: []party{thePrimary},
		},
		{
			flag: "isolated", name: "primary's host alone for 12 s: all lost, both ways, no error", limit: hostLimit,
			decision: takesOver("the primary fences itself, the mirror takes over after one lease"),
			fault:    onHost(thePrimary, (*fleet.Host).CutAll, (*fleet.Host).MendAll), lasts: 12 * time.Second,
			touches: []party{thePrimary},
		},
		{
			flag: "isolated-mirror", name: "mirror's host alone for 10 s", limit: exposeLimit,
			decision: exposes("as a lost mirror"),
			fault:    onHost(theMirror, (*fleet.Host).CutAll, (*fleet.Host).MendAll), lasts: 10 * time.Second,
			touches: []party{theMirror},
		},
		{
			flag: "fast", name: "profile fast: primary's host without power for 10 s", limit: fastLimit, profile: "fast",
			decision: takesOver("the mirror takes over after one lease"),
			fault:    powerCut(thePrimary), lasts: 10 * time.Second,
		},
	}
}

// processRows are about programs that stop or are stopped, and go on later.
func processRows() []row {
	const frozen = 40 * time.Second
	return []row{
		{
			flag: "agent-kill", name: "primary's agent kill -9, started again within 100 ms", limit: unnoticed,
			decision: nobodyMoves("the new agent takes over where the old one ended"),
			fault:    onHost(thePrimary, sure((*fleet.Host).KillAgent), nil), lasts: time.Second, touches: []party{thePrimary},
		},
		{
			flag: "agent-down", name: "primary's agent kill -9, not started for 15 s", limit: hostLimit,
			decision: takesOver("the kernel's fence cuts clients off, the mirror takes over after one lease"),
			fault:    agentDown(thePrimary), lasts: 15 * time.Second, touches: []party{thePrimary},
		},
		{
			flag: "agent-freeze", name: "primary's agent SIGSTOP for 15 s", limit: hostLimit,
			decision: takesOver("the kernel's fence cuts clients off, the mirror takes over after one lease"),
			fault:    onHost(thePrimary, sure((*fleet.Host).FreezeAgent), sure((*fleet.Host).ThawAgent)),
			lasts:    15 * time.Second, touches: []party{thePrimary},
		},
		{
			flag: "agent-freeze-mirror", name: "mirror's agent SIGSTOP for 15 s", limit: unnoticed,
			decision: decision{says: "served on the witness's lease; no failover possible meanwhile", epoch: stays,
				right: anyRight, servesWithin: serviceLate},
			fault: onHost(theMirror, sure((*fleet.Host).FreezeAgent), sure((*fleet.Host).ThawAgent)),
			lasts: 15 * time.Second, touches: []party{theMirror},
		},
		{
			flag: "postmaster-stopped", name: "primary's postmaster SIGSTOP for 30 s, its sessions go on",
			decision: takesOver("its sessions go on; given back after three leases, and the mirror takes over"),
			fault:    onHost(thePrimary, (*fleet.Host).StopDatabaseMain, (*fleet.Host).ThawDatabaseMain),
			lasts:    30 * time.Second, touches: []party{thePrimary},
		},
		{
			flag: "database-stopped", name: "every process of the primary's database SIGSTOP for 40 s",
			limit: 15 * time.Second,
			decision: takesOver("given back after three leases without an answer; the mirror takes over").
				within(20 * time.Second),
			fault: onHost(thePrimary, sure((*fleet.Host).FreezeDatabase), sure((*fleet.Host).ThawDatabase)),
			lasts: frozen, touches: []party{thePrimary},
		},
		{
			flag: "freeze", name: "every process of the primary's host SIGSTOP for 40 s", limit: hostLimit,
			decision: takesOver("as host loss; nothing is acknowledged after the thaw"),
			fault:    onHost(thePrimary, sure((*fleet.Host).Freeze), sure((*fleet.Host).Thaw)), lasts: frozen,
			touches: []party{thePrimary},
		},
		{
			flag: "freeze-mirror", name: "every process of the mirror's host SIGSTOP for 20 s", limit: exposeLimit,
			decision: exposes("as a lost mirror"),
			fault:    onHost(theMirror, sure((*fleet.Host).Freeze), sure((*fleet.Host).Thaw)), lasts: 20 * time.Second,
			touches: []party{theMirror},
		},
	}
}

// within changes when somebody must serve again at the latest.
func (d decision) within(t time.Duration) decision {
	d.servesWithin = t
	return d
}

func crash(which party) fault { return onHost(which, (*fleet.Host).KillDatabase, nil) }

func powerCut(which party) fault {
	return onHost(which, sure((*fleet.Host).Kill), (*fleet.Host).Start)
}

func agentDown(which party) fault {
	return func(_ context.Context, r *run) (func() error, error) {
		h := r.host(which)
		h.KeepDown()
		h.KillAgent()
		return func() error {
			h.LetStart()
			return nil
		}, nil
	}
}

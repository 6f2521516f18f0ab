package main

import (
	"context"
	"fmt"
	"time"

	"github.com/witnessd/witnessd/test/fleet"
)

// clockRows are about wall clocks that are set.
func clockRows() []row {
	var list []row
	for _, step := range []time.Duration{time.Hour, -time.Hour} {
		sign := map[bool]string{true: "forward", false: "back"}[step > 0]
		for _, h := range []struct {
			flag, name string
			which      party
		}{{"primary", "primary's host", thePrimary}, {"mirror", "mirror's host", theMirror}} {
			list = append(list, row{
				flag: fmt.Sprintf("clock-%s-%s", h.flag, sign), name: fmt.Sprintf("clock of the %s 1 h %s for 15 s", h.name, sign),
				limit: clockLimit, lab: lab{Clocks: true}, touches: []party{h.which}, lasts: 15 * time.Second,
				decision: nobodyMoves("nobody moves: no right rests on a wall clock; PostgreSQL's wal_sender_timeout does, and " +
					"the mirror connects anew"),
				fault: onHost(h.which, func(h *fleet.Host) error { return h.StepClock(step) },
					func(h *fleet.Host) error { return h.StepClock(-step) }),
			})
		}
		list = append(list, row{
			flag: "clock-leader-" + sign, name: fmt.Sprintf("clock of the leader node 1 h %s for 15 s", sign),
			limit: unnoticed, lab: lab{Clocks: true}, touches: []party{theWitness}, lasts: 15 * time.Second,
			decision: nobodyMoves("nobody notices: no right rests on a wall clock"),
			fault: func(_ context.Context, r *run) (func() error, error) {
				return func() error { return r.leader.StepClock(-step) }, r.leader.StepClock(step)
			},
		})
	}
	return list
}

// diskRows are about disks that are full or refuse writes.
func diskRows() []row {
	disks := lab{Disks: true}
	return []row{
		{
			flag: "disk-full", name: "primary's data disk full for 15 s (its log is on another)", lab: disks,
			decision: decision{
				says: "left alone: the server lives, and refuses what needs room; warned of", epoch: stays, right: leased,
				service: anyService,
			},
			fault: onHost(thePrimary, (*fleet.Host).FillDisk, (*fleet.Host).FreeDisk), lasts: 15 * time.Second,
			touches: []party{thePrimary},
		},
		{
			flag: "wal-full", name: "disk of the primary's log full for 40 s", lab: disks, limit: 2 * time.Second,
			decision: takesOver("PostgreSQL ends itself; the mirror takes over").within(35 * time.Second),
			fault:    onHost(thePrimary, (*fleet.Host).FillWal, (*fleet.Host).FreeWal), lasts: 40 * time.Second,
			touches: []party{thePrimary},
		},
		{
			flag: "disk-readonly", name: "primary's disk read-only for 20 s, then repaired", lab: disks, limit: 2 * time.Second,
			decision: takesOver("PostgreSQL ends itself; the mirror takes over").within(15 * time.Second),
			fault:    onHost(thePrimary, (*fleet.Host).DiskReadOnly, (*fleet.Host).DiskWritable), lasts: 20 * time.Second,
			touches: []party{thePrimary},
		},
		{
			flag: "disk-full-mirror", name: "mirror's data disk full for 20 s", lab: disks, limit: exposeLimit,
			decision: decision{
				says: "nobody moves; exposed if the mirror stops confirming", epoch: stays, right: anyRight,
				servesWithin: serviceLate,
			},
			fault: onHost(theMirror, (*fleet.Host).FillDisk, (*fleet.Host).FreeDisk), lasts: 20 * time.Second,
			touches: []party{theMirror},
		},
	}
}

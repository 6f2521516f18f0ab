package main

import "slices"

// share is what `make test` explores: every fault from the states where pairs spend their lives, and two in combination
// where that has found most. `make model` explores all families, `make nightly` with one fault more.
func share() map[string][]string {
	return map[string][]string{
		"all":       {"armed", "forming", "exposed", "promoted", "witness-cut", "shortened", "paused", "restored"},
		"policies":  {"shortened"},
		"leaders":   {"armed"},
		"databases": {"armed"},
	}
}

// families are the sets of faults that are tried in combination. One with everything goes less deep than those about
// one idea.
func families() []*family {
	single := []uint8{aToWitness, bToWitness, witnessToA, witnessToB, aToB, bToA}
	whole := []uint8{
		aToWitness | witnessToA, bToWitness | witnessToB, aToB | bToA,
		aToWitness | witnessToA | aToB | bToA, bToWitness | witnessToB | aToB | bToA,
	}
	links := append(slices.Clone(whole), single...)
	every := []string{"armed", "exposed", "forming", "isolated", "witness-cut", "mirror-cut", "witness-lost", "promoted",
		"released", "shortened", "paused", "restored"}
	return []*family{
		{name: "all", about: "everything", budget: 1, cuts: links, starts: every,
			verbs: []verb{cut, delay, double, dieFirst, dieThen, failOp, election, outlived, noQuorum, stop, restart, forgets,
				crash, reboot, freeze, lag, osStart, switchover, force, forceLoss, forceOff, pause, resume, shorter, longer,
				restore}},
		{name: "messages", about: "messages late and doubled, while leaders change", budget: 2, cuts: whole,
			starts: []string{"armed", "witness-cut", "mirror-cut", "isolated", "promoted", "released", "shortened"},
			verbs:  []verb{cut, delay, double, election, outlived, noQuorum}},
		{name: "leaders", about: "links cut in each direction, and leaders that change", budget: 2, cuts: links,
			starts: []string{"armed", "promoted", "witness-lost", "shortened"},
			verbs:  []verb{cut, election, outlived, noQuorum}},
		{name: "agents", about: "agents that die, forget, stand still", budget: 2, cuts: whole,
			starts: []string{"armed", "exposed", "promoted"},
			verbs:  []verb{cut, dieFirst, dieThen, stop, restart, forgets, freeze}},
		{name: "databases", about: "databases that die, fail, lag", budget: 2, cuts: whole,
			starts: []string{"armed", "exposed"},
			verbs:  []verb{cut, failOp, crash, reboot, lag, osStart}},
		{name: "operators", about: "what operators ask, while things fail", budget: 2, cuts: whole,
			starts: []string{"armed", "exposed", "paused"},
			verbs:  []verb{cut, freeze, election, switchover, force, forceLoss, forceOff, pause, resume}},
		{name: "policies", about: "leases whose length changes", budget: 2, cuts: whole,
			starts: []string{"shortened", "armed"},
			verbs:  []verb{cut, freeze, election, restart, shorter, longer}},
		{name: "restores", about: "a witness restored from a backup", budget: 2, cuts: whole,
			starts: []string{"restored", "armed"},
			verbs:  []verb{cut, delay, freeze, election, restart, forgets, crash, restore}},
	}
}

package main

import (
	"slices"
	"strconv"
	"time"
)

// ring is one way in which the proof is made.
type ring struct {
	number int
	name   string
	pkg    string // the program, or the test; empty: the tests beside the code that is changed
	test   bool
	// quick is the bounded command, deep are those of a night.
	quick []string
	deep  [][]string
	// limit is for what does not end; tests have a timeout of their own, which is shorter.
	limit time.Duration
}

// counts says whether what the ring notices counts. Unit tests beside the code are for information.
func (r ring) counts() bool { return r.number > 0 }

// The names of the rings.
const (
	unitRing     = "unit"
	modelRing    = "model"
	simRing      = "sim"
	scenarioRing = "scenarios"
	wholeRing    = "whole"
)

const noRandom = "^TestRandomFaults$" // that is what the ring sim does

func rings() []ring {
	unit := []string{"-test.failfast", "-test.timeout=5m"}
	scenario := []string{"-test.skip=" + noRandom, "-test.failfast", "-test.timeout=3m"}
	whole := []string{"-test.failfast", "-test.timeout=5m"}
	short := append([]string{"-test.skip=^(TestHours|TestHundredsOfPairs)$"}, whole...)
	return []ring{
		{number: 0, name: unitRing, test: true, quick: unit, deep: [][]string{unit}, limit: 6 * time.Minute},
		{number: 1, name: modelRing, pkg: "./test/model", limit: 90 * time.Minute,
			quick: []string{"-family=all", "-states=100000", "-workers=1"},
			deep:  [][]string{{"-states=300000", "-workers=1"}}},
		{number: 2, name: simRing, pkg: "./test/sim", limit: 60 * time.Minute,
			quick: []string{"-seeds=" + strconv.Itoa(quickSeeds), "-workers=1"},
			deep:  [][]string{{"-seeds=4000", "-workers=1"}}},
		{number: 3, name: scenarioRing, pkg: "./test/protocol", test: true, limit: 4 * time.Minute,
			quick: scenario, deep: [][]string{scenario}},
		{number: 4, name: wholeRing, pkg: "./test/whole", test: true, limit: 6 * time.Minute,
			quick: short, deep: [][]string{whole}},
	}
}

// quickSeeds is how many schedules a mutant may take in the bounded run.
const quickSeeds = 1000

func ringNames() []string {
	var names []string
	for _, r := range rings() {
		names = append(names, r.name)
	}
	return names
}

func ringOf(name string) ring {
	all := rings()
	return all[slices.IndexFunc(all, func(r ring) bool { return r.name == name })]
}

// try is one command of a ring.
type try struct {
	ring string
	args []string
	// part says that the ring's bounded command includes this one.
	part bool
}

func (t try) is(o try) bool { return t.ring == o.ring && slices.Equal(t.args, o.args) }

// sim plays the first schedules.
func sim() try { return try{ring: simRing, args: ringOf(simRing).quick, part: true} }

// scenario runs one test of the ring.
func scenario(name string) try { return test(scenarioRing, name) }

// whole runs one test of the ring.
func whole(name string) try { return test(wholeRing, name) }

func test(ring, name string) try {
	return try{ring: ring, part: true, args: append([]string{"-test.run=^" + name + "$"}, ringOf(ring).quick...)}
}

package main

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// story makes what was seen out of words: "a100" is a commit that a acknowledged 100 ms after the beginning, asked for
// just before; "a100<50" was asked for at 50 ms.
type story struct {
	acks   string
	facts  string // "PROMOTED:b EXPOSED:b"
	mended int    // ms; 0: 5000
}

var start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func at(ms int) time.Time { return start.Add(time.Duration(ms) * time.Millisecond) }

func (s story) seen(t *testing.T) seen {
	t.Helper()
	mended := s.mended
	if mended == 0 {
		mended = 5000
	}
	out := seen{primary: "a", began: start, mended: at(mended), until: at(10000)}
	for word := range strings.FieldsSeq(s.acks) {
		when, asked, known := strings.Cut(word[1:], "<")
		ms := number(t, when)
		sent := ms - 1
		if known {
			sent = number(t, asked)
		}
		out.acks = append(out.acks, ack{host: word[:1], sent: at(sent), at: at(ms), outside: true, user: true})
	}
	for word := range strings.FieldsSeq(s.facts) {
		kind, host, _ := strings.Cut(word, ":")
		out.facts = append(out.facts, fact{kind: kind, host: host})
	}
	return out
}

func number(t *testing.T, text string) int {
	t.Helper()
	n := 0
	for _, c := range text {
		if c < '0' || c > '9' {
			t.Fatalf("%q is no number", text)
		}
		n = n*10 + int(c-'0')
	}
	return n
}

func TestTwice(t *testing.T) {
	for name, c := range map[string]struct {
		story         story
		certain, late int
	}{
		"one primary":     {story: story{acks: "a10 a20 a30"}},
		"a move":          {story: story{acks: "a10 a20 b3000 b3010", facts: "PROMOTED:b"}},
		"there and back":  {story: story{acks: "a10 b3000 a6000", facts: "PROMOTED:b EXPOSED:b PROMOTED:a"}},
		"nobody moved it": {story: story{acks: "a10 b3000 b3010"}, certain: 2},
		"the old one goes on": {
			story: story{acks: "a10 b3000 a3500 a3510 b3600", facts: "PROMOTED:b"}, certain: 2,
		},
		"the old one lets go late": {
			story: story{acks: "a10 b3000 a9000<2000 b9010", facts: "PROMOTED:b"}, late: 1,
		},
		"faster than the right": {
			story: story{acks: "a10 b100 a110", facts: "PROMOTED:b PROMOTED:a"}, certain: 1,
		},
		"promoted and never asked": {
			story: story{acks: "a10 a6000", facts: "PROMOTED:b PROMOTED:a"},
		},
		"a new epoch for the same": {story: story{acks: "a10 a6000", facts: "REINSTATED:a"}},
	} {
		t.Run(name, func(t *testing.T) {
			certain, late := c.story.seen(t).twice()
			if certain != c.certain || late != c.late {
				t.Errorf("certain %d late %d, want %d and %d", certain, late, c.certain, c.late)
			}
		})
	}
}

func TestOutage(t *testing.T) {
	s := story{acks: "a10 a20 b3000 b3010 b9990"}.seen(t)
	if got, want := outage(s.acks, at(0), at(10000), outside), 6980*time.Millisecond; got != want {
		t.Errorf("outage %v, want %v", got, want)
	}
	if got, want := outage(s.acks, at(0), at(4000), outside), 2980*time.Millisecond; got != want {
		t.Errorf("outage until 4 s %v, want %v", got, want)
	}
	s.acks[2].outside = false
	if got, want := outage(s.acks, at(0), at(3005), outside), 2985*time.Millisecond; got != want {
		t.Errorf("outage without those on a host %v, want %v", got, want)
	}
	if got := outage(nil, at(0), at(7000), outside); got != 7*time.Second {
		t.Errorf("outage without any commit %v, want all of the time", got)
	}
}

func TestJudge(t *testing.T) {
	stopping := decision{epoch: stays, right: anyRight, service: stops, stopsWithin: 3 * time.Second}
	lone := decision{epoch: stays, right: leased, servesWithin: time.Second}
	for name, c := range map[string]struct {
		story    story
		decision decision
		wrong    string // a part of it; empty: as documented
		outage   int64
	}{
		"takes over": {
			story: story{acks: "a10 b3000 b6000", facts: "PROMOTED:b EXPOSED:b ARMED:b"}, decision: takesOver(""), outage: 4000,
		},
		"does not take over": {story: story{acks: "a10 a6000"}, decision: takesOver(""), wrong: "did not take over", outage: 5990},
		"moves and returns": {
			story:    story{acks: "a10 b3000 a6000", facts: "PROMOTED:b PROMOTED:a"},
			decision: takesOver(""), wrong: "moved 2 times", outage: 4000,
		},
		"takes over too late": {
			story:    story{acks: "a10 b12500 b14500", facts: "PROMOTED:b", mended: 12000},
			decision: takesOver(""), wrong: "from 10s after the fault on", outage: 9990,
		},
		"nobody moves":        {story: story{acks: "a10 a2000 a6000"}, decision: lone, outage: 4000},
		"moves without need":  {story: story{acks: "a10 b2000 b6000", facts: "PROMOTED:b"}, decision: lone, wrong: "the mirror took over", outage: 4000},
		"a new epoch":         {story: story{acks: "a10 a2000 a6000", facts: "REINSTATED:a"}, decision: lone, wrong: "new one", outage: 4000},
		"exposed not due":     {story: story{acks: "a10 a2000 a6000", facts: "EXPOSED:a"}, decision: lone, wrong: "was exposed", outage: 4000},
		"not exposed":         {story: story{acks: "a10 a2000 a6000"}, decision: exposes("").within(time.Second), wrong: "was not exposed", outage: 4000},
		"never again":         {story: story{acks: "a10 a2000"}, decision: lone, wrong: "after the fault was mended", outage: 8000},
		"stops":               {story: story{acks: "a10 a2900 a5500"}, decision: stopping, outage: 500},
		"does not stop":       {story: story{acks: "a10 a3100 a5500"}, decision: stopping, wrong: "1 commits", outage: 500},
		"kept, given up once": {story: story{acks: "a10 a2000 a6000", facts: "REINSTATED:a EXPOSED:a"}, decision: decision{epoch: home, right: sole, servesWithin: 9 * time.Second}, outage: 4000},
	} {
		t.Run(name, func(t *testing.T) {
			res := c.story.seen(t).judge(c.decision)
			if (c.wrong == "") != (len(res.Wrong) == 0) || !strings.Contains(strings.Join(res.Wrong, "; "), c.wrong) {
				t.Errorf("wrong %q, want %q", res.Wrong, c.wrong)
			}
			if res.Outage != c.outage {
				t.Errorf("outage %d ms, want %d", res.Outage, c.outage)
			}
		})
	}
}

func TestVerdict(t *testing.T) {
	good := result{Row: "crash", Outage: 100, Redundancy: 1000}
	for name, c := range map[string]struct {
		change func(*result)
		want   string
	}{
		"good":             {change: func(*result) {}},
		"lost":             {change: func(r *result) { r.Lost = 1 }, want: "lost 1"},
		"twice":            {change: func(r *result) { r.Twice = 2 }, want: "acknowledged by two 2"},
		"never armed":      {change: func(r *result) { r.Redundancy = -1 }, want: "after -1 ms"},
		"armed late":       {change: func(r *result) { r.Redundancy = 30001 }, want: "after 30001 ms"},
		"another decision": {change: func(r *result) { r.Wrong = []string{"the mirror took over"} }, want: "the mirror took over"},
		"another promise":  {change: func(r *result) { r.Broken = []string{"rows are missing"} }, want: "rows are missing"},
		"one long outage":  {change: func(r *result) { r.Outage = 9000 }},
	} {
		t.Run(name, func(t *testing.T) {
			bad := good
			c.change(&bad)
			err := verdict(results{Runs: []result{good, bad, good}})
			if (c.want == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("verdict %v, want %q", err, c.want)
			}
		})
	}
	slow := good
	slow.Outage = 801
	if err := verdict(results{Runs: []result{good, slow, slow}}); err == nil || !strings.Contains(err.Error(), "801 ms is above 800ms") {
		t.Errorf("verdict %v, want a median above its limit", err)
	}
}

// TestRows: names are what results are kept under, and every row says what is documented and does something.
func TestRows(t *testing.T) {
	known := map[string]bool{}
	for _, r := range rendered() {
		if known[r.flag] {
			t.Errorf("two rows are called %s", r.flag)
		}
		known[r.flag] = true
		if r.name == "" || r.decision.says == "" {
			t.Errorf("row %s does not say what is done or what is decided", r.flag)
		}
	}
	for _, r := range table() {
		if (r.fault == nil) == (r.inject == nil) {
			t.Errorf("row %s needs a fault or an injection, and not both", r.flag)
		}
		if r.inject != nil && r.touches != nil {
			t.Errorf("row %s cannot be one of the random faults: it does all by itself", r.flag)
		}
		if r.decision.service == serves && r.decision.servesWithin == 0 {
			t.Errorf("row %s does not say when somebody serves again", r.flag)
		}
	}
	for name := range strings.SplitSeq(shortRows, ",") {
		if _, ok := rowNamed(name); !ok {
			t.Errorf("the short set names %s, which is no row", name)
		}
	}
}

// TestSchedule: a seed says all, and what befalls the pair at the same time touches different parties.
func TestSchedule(t *testing.T) {
	from := fitForRandom(lab{})
	one, two := schedule(7, 200, from), schedule(7, 200, from)
	several := 0
	for i := range one {
		if words(one[i]) != words(two[i]) {
			t.Fatalf("draw %d: %s and %s with the same seed", i, words(one[i]), words(two[i]))
		}
		var touched []party
		for _, c := range one[i] {
			for _, p := range c.row.touches {
				if slices.Contains(touched, p) {
					t.Errorf("draw %d touches one party twice: %s", i, words(one[i]))
				}
				touched = append(touched, p)
			}
			if c.lasts <= 0 {
				t.Errorf("draw %d: a fault of no length: %s", i, words(one[i]))
			}
		}
		if len(one[i]) > 1 {
			several++
		}
	}
	if several < 20 {
		t.Errorf("%d of 200 draws are of several faults: too few", several)
	}
	if words(one[0])+words(one[1]) == words(schedule(8, 2, from)[0])+words(schedule(8, 2, from)[1]) {
		t.Error("another seed gives the same faults")
	}
}

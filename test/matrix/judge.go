package main

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"
)

// ack is one acknowledged commit.
type ack struct {
	host     string
	sent, at time.Time
	outside  bool // its client is on no host
	user     bool // its client knows both hosts
}

// fact is one thing that the witness recorded.
type fact struct {
	kind string
	host string
}

// The facts that a decision shows in.
const (
	promoted   = "PROMOTED"
	reinstated = "REINSTATED"
	exposed    = "EXPOSED"
)

// seen is all that a run is judged by. It is plain data, so that the judging can be tested without a fault.
type seen struct {
	primary              string // before
	began, mended, until time.Time
	acks                 []ack // in the order of their arrival
	facts                []fact
}

// outage is the longest time between from and until without an acknowledged commit that counts, the ends included.
func outage(acks []ack, from, until time.Time, counts func(ack) bool) time.Duration {
	last, longest := from, time.Duration(0)
	for _, a := range acks {
		if !counts(a) || a.at.Before(from) || a.at.After(until) {
			continue
		}
		longest, last = max(longest, a.at.Sub(last)), a.at
	}
	return max(longest, until.Sub(last))
}

func outside(a ack) bool { return a.outside }

func user(a ack) bool { return a.user }

// resumed is how long after an instant the first commit that counts was acknowledged.
func (s seen) resumed(after time.Time, counts func(ack) bool) (time.Duration, bool) {
	for _, a := range s.acks {
		if counts(a) && a.at.After(after) {
			return a.at.Sub(after), true
		}
	}
	return 0, false
}

// turn is a stretch of commits that one host acknowledged and no other.
type turn struct {
	host string
	acks []ack
}

func turns(acks []ack) []turn {
	var list []turn
	for _, a := range acks {
		if len(list) == 0 || list[len(list)-1].host != a.host {
			list = append(list, turn{host: a.host})
		}
		last := &list[len(list)-1]
		last.acks = append(last.acks, a)
	}
	return list
}

// fastestReturn is less time than the right could ever take to move away and come back.
const fastestReturn = 300 * time.Millisecond

// twice counts commits that a host acknowledged while it was another's turn: those that the witness recorded no
// promotion for, and those that lie between two of the other host, closer together than the right could have moved
// there and back. Late are the ones of these that were asked for before the other's turn: a commit that was released
// too late, or an answer that a bad line kept back.
func (s seen) twice() (certain, late int) {
	allowed := []string{s.primary}
	for _, f := range s.facts {
		if f.kind == promoted {
			allowed = append(allowed, f.host)
		}
	}
	list, next := turns(s.acks), 0
	for i, t := range list {
		n := slices.Index(allowed[next:], t.host)
		between := i > 0 && i+1 < len(list) && list[i+1].acks[0].at.Sub(last(list[i-1]).at) < fastestReturn
		if n >= 0 && !between {
			next += n
			continue
		}
		for _, a := range t.acks {
			if i > 0 && a.sent.Before(list[i-1].acks[0].at) {
				late++
			} else {
				certain++
			}
		}
	}
	return certain, late
}

func last(t turn) ack { return t.acks[len(t.acks)-1] }

// moves is how often the right went to another host than it was with.
func (s seen) moves() int {
	n, at := 0, s.primary
	for _, f := range s.facts {
		if f.kind == promoted && f.host != at {
			n, at = n+1, f.host
		}
	}
	return n
}

func (s seen) count(kind string) int {
	n := 0
	for _, f := range s.facts {
		if f.kind == kind {
			n++
		}
	}
	return n
}

// judge compares what was seen with what is documented.
func (s seen) judge(d decision) result {
	slices.SortFunc(s.acks, func(a, b ack) int { return a.at.Compare(b.at) })
	res := result{At: s.began.UTC().Truncate(time.Second), Moves: s.moves()}
	res.Outage = outage(s.acks, s.began, s.until, outside).Milliseconds()
	res.Users = outage(s.acks, s.began, s.until, user).Milliseconds()
	res.Twice, res.Late = s.twice()
	for _, f := range s.facts {
		res.Steps = append(res.Steps, f.kind)
	}
	wrong := func(format string, args ...any) { res.Wrong = append(res.Wrong, fmt.Sprintf(format, args...)) }
	switch n := res.Moves; {
	case d.epoch == moves && n == 0:
		wrong("the mirror did not take over")
	case d.epoch == moves && n > 1:
		wrong("the right moved %d times", n)
	case (d.epoch == stays || d.epoch == home) && n > 0:
		wrong("the mirror took over")
	case d.epoch == stays && s.count(reinstated) > 0:
		wrong("the primary gave its epoch back and got a new one")
	}
	switch n := s.count(exposed); {
	case d.right == sole && n == 0:
		wrong("the primary was not exposed")
	case d.right == leased && n > 0:
		wrong("the primary was exposed")
	}
	s.judgeService(d, &res, wrong)
	return res
}

// judgeService is about who was served while the fault lasted, and after it.
func (s seen) judgeService(d decision, res *result, wrong func(string, ...any)) {
	back, ok := s.resumed(s.mended, outside)
	if !ok {
		wrong("nothing was acknowledged after the fault was mended")
	}
	if d.service == anyService {
		return
	}
	if d.service == stops {
		res.Outage = back.Milliseconds()
		users, _ := s.resumed(s.mended, user)
		res.Users = users.Milliseconds()
		n := 0
		for _, a := range s.acks {
			if a.at.After(s.began.Add(d.stopsWithin)) && a.at.Before(s.mended) {
				n++
			}
		}
		if n > 0 {
			wrong("%d commits were acknowledged later than %v after the fault began", n, d.stopsWithin)
		}
		return
	}
	// A fault that lasts must not last for those who write.
	if most := d.servesWithin; s.mended.Sub(s.began) > most+time.Second {
		if first, served := s.resumed(s.began.Add(most), outside); !served || s.began.Add(most+first).After(s.mended) {
			wrong("nothing was acknowledged from %v after the fault on until it was mended", most)
		}
	}
}

// middle and longest of milliseconds.
func middle(list []int64) int64 {
	slices.Sort(list)
	return list[len(list)/2]
}

func figures(runs []result, of func(result) int64) []int64 {
	var list []int64
	for _, r := range runs {
		list = append(list, of(r))
	}
	return list
}

func outageOf(r result) int64 { return r.Outage }

func redundancyOf(r result) int64 { return r.Redundancy }

// verdict says what was broken.
func verdict(all results) error {
	var bad []error
	for _, r := range rendered() {
		runs := all.of(r.flag)
		if len(runs) == 0 {
			continue
		}
		add := func(format string, args ...any) {
			bad = append(bad, fmt.Errorf("%s: %s", r.flag, fmt.Sprintf(format, args...)))
		}
		for n, x := range runs {
			if !x.bad() {
				continue
			}
			name := cmp.Or(x.Faults, fmt.Sprintf("run %d", n+1))
			add("%s: lost %d, acknowledged by two %d, armed again after %d ms %q", name, x.Lost, x.Twice, x.Redundancy,
				append(slices.Clone(x.Wrong), x.Broken...))
		}
		if m := middle(figures(runs, outageOf)); r.limit > 0 && m > r.limit.Milliseconds() {
			add("median outage %d ms is above %v", m, r.limit)
		}
	}
	return errors.Join(bad...)
}

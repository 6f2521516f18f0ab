package protocol

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// story is what happened and was not told yet. It is put together from three sources: the world's trace (what
// agents and the witness say themselves), who lets clients in, and the acknowledged writes.
type story struct {
	lines  []sentence
	traced int // lines of the trace that were read
	acked  int // acknowledged writes that were read
	open   map[string]bool
	host   string        // that acknowledged the last write
	last   time.Duration // when
	silent bool          // it was told that writes are not acknowledged
	begun  map[string]int
}

// sentence is one line of the story, at a time of the world; untimed ones answer a question.
type sentence struct {
	at      time.Duration
	text    string
	untimed bool
	tries   int
}

// stall is how long no write is acknowledged before the story says so. Clients write every 10 ms.
const stall = 50 * time.Millisecond

func (s *story) add(at time.Duration, format string, args ...any) {
	s.lines = append(s.lines, sentence{at: at, text: fmt.Sprintf(format, args...), tries: 1})
}

// answer puts the answer to a question after everything that happened before it.
func (s *story) answer(now time.Duration, format string, args ...any) {
	s.lines = append(s.lines, sentence{at: now, text: fmt.Sprintf(format, args...), untimed: true})
}

// observe takes in what is new in the world.
func (s *story) observe(sc *script) {
	w := sc.w
	for ; s.traced < len(w.trace); s.traced++ {
		s.read(w, w.trace[s.traced])
	}
	for _, name := range pairHosts(w) {
		open := w.hosts[name].db.open()
		if s.open == nil || open == s.open[name] {
			continue
		}
		if open {
			s.add(w.now, "%s is open to clients", name)
		} else {
			s.add(w.now, "%s is closed to clients", name)
		}
	}
	s.look(w)
	for ; s.acked < len(w.acked); s.acked++ {
		a := w.acked[s.acked]
		if s.host != "" && (a.host != s.host || a.at-s.last > stall) {
			s.add(a.at, "%s acknowledges writes, after %.2f s without", a.host, (a.at - s.last).Seconds())
		}
		s.host, s.last, s.silent = a.host, a.at, false
	}
	if !s.silent && s.host != "" && w.now-s.last > stall {
		s.silent = true
		s.add(max(s.last+writing, sc.zero), "no write is acknowledged from here on")
	}
}

// pairHosts are the hosts of the pair that the scenario is about.
func pairHosts(w *world) []string { return slices.Sorted(maps.Keys(w.hosts)) }

// look notes who is open.
func (s *story) look(w *world) {
	s.open = map[string]bool{}
	for name, h := range w.hosts {
		s.open[name] = h.db.open()
	}
}

// forget drops what has not been told.
func (s *story) forget() { s.lines, s.begun = nil, nil }

// read makes a sentence of a line of the trace, or drops it.
func (s *story) read(w *world, line string) {
	seconds, err := strconv.ParseFloat(strings.TrimSpace(line[:9]), 64)
	if err != nil {
		panic(fmt.Sprintf("the trace has a line without a time: %q", line))
	}
	at := time.Duration(seconds*1000+0.5) * time.Millisecond
	text := strings.TrimSpace(line[9:])
	for _, other := range w.pairs[1:] {
		if strings.HasPrefix(text, other.record.Name+" ") {
			return // asked for with "who serves"
		}
	}
	text = strings.TrimPrefix(text, w.of())
	for _, known := range []string{"witness lost", "database of ", "agent of ", "host ", "data of ", "VIOLATION",
		"operator was refused"} {
		if strings.HasPrefix(text, known) {
			return // a step has said so
		}
	}
	if rest, ok := strings.CutPrefix(text, w.record.Name+": "); ok {
		if !strings.Contains(rest, " announced ") {
			s.add(at, "witness: %s", rest)
		}
		return
	}
	if rest, ok := strings.CutPrefix(text, "leader of term "); ok {
		s.add(at, "witness: new leader (term %s)", rest)
		return
	}
	if begun, ok := strings.CutSuffix(text, " begins"); ok {
		host, op, _ := strings.Cut(begun, ": ")
		s.begins(w, at, host, op)
		return
	}
	s.add(at, "%s", text)
}

// begins tells of an operation of a database once, and how often it was begun again.
func (s *story) begins(w *world, at time.Duration, host, op string) {
	words := map[string]string{
		"promote": "database is made primary", "hold commits": "database is made to hold commits for its mirror",
		"release commits": "commits are let go without a mirror", "follow": "database is made to follow",
		"hand over": "database hands over", "stop": "makes sure that its database is stopped",
		"let go": "database is let go of",
	}
	text := host + ": " + op
	if words[op] != "" {
		text = host + ": " + words[op]
	}
	if op == "promote" && w.hosts[host].db.primary {
		text = host + ": database is primary already; restart gate and holding of commits are put in place"
	}
	if i, again := s.begun[host]; again && s.lines[i].text == text {
		s.lines[i].tries++
		return
	}
	s.add(at, "%s", text)
	if s.begun == nil {
		s.begun = map[string]int{}
	}
	s.begun[host] = len(s.lines) - 1
}

// tell returns what was not told yet, with times relative to zero.
func (s *story) tell(zero time.Duration) string {
	// What is known later about an earlier moment goes to that moment.
	slices.SortStableFunc(s.lines, func(x, y sentence) int { return int(x.at - y.at) })
	var out strings.Builder
	for _, l := range s.lines {
		switch {
		case l.untimed:
			fmt.Fprintf(&out, "%s\n", l.text)
		case l.tries > 1:
			fmt.Fprintf(&out, "%+6.2f  %s (%d times)\n", (l.at - zero).Seconds(), l.text, l.tries)
		default:
			fmt.Fprintf(&out, "%+6.2f  %s\n", (l.at - zero).Seconds(), l.text)
		}
	}
	s.forget()
	return out.String()
}

package main

import (
	"fmt"
	"strings"
)

// tracer writes a way through the states down as people read it: faults in capitals, what follows indented.
type tracer struct {
	strings.Builder
	former string
}

func (t *tracer) line(s *state, text string) {
	_, _ = fmt.Fprintf(t, "%4.0f s  %s\n", (s.now - origin).Seconds(), text)
}

func (t *tracer) move(s *state, m move) {
	t.line(s, m.describe(s))
	s.note = func(format string, args ...any) {
		_, _ = fmt.Fprintf(t, "          %s\n", fmt.Sprintf(format, args...))
	}
}

// state adds a line about who may do what, if that has changed.
func (t *tracer) state(s *state) {
	var hosts []string
	for x := range side(both) {
		h := s.hosts[x]
		word := "closed"
		if s.open(x) {
			word = "OPEN"
		}
		life := ""
		if !h.alive {
			life = ", agent dead"
		} else if h.frozen {
			life = ", agent frozen"
		}
		hosts = append(hosts, fmt.Sprintf("%v: file epoch %d of %s, %s%s", x, h.file.Epoch, h.file.Primary, word, life))
	}
	r := s.record
	now := fmt.Sprintf("record: epoch %d of %s, %v, revision %v | %s", r.Epoch, r.Primary, r.Right, r.Revision,
		strings.Join(hosts, " | "))
	if now != t.former {
		_, _ = fmt.Fprintf(t, "          [%s]\n", now)
		t.former = now
	}
}

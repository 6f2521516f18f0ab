package rpc

import (
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	witnessv1 "github.com/witnessd/witnessd/proto/gen/witness/v1"
	"github.com/witnessd/witnessd/witnessd/pair"
)

func TestCheckName(t *testing.T) {
	for name, ok := range map[string]bool{
		"db1": true, "DB-1_x.example.net": true, strings.Repeat("a", 63): true,
		"": false, "-x": false, ".x": false, "a b": false, "a/b": false, "ä": false, strings.Repeat("a", 64): false,
	} {
		if got := checkName("host", name) == nil; got != ok {
			t.Errorf("checkName(%q) = %v", name, got)
		}
	}
}

// TestCut never leaves half a character: protobuf refuses it.
func TestCut(t *testing.T) {
	long := []string{strings.Repeat("a", 2000), strings.Repeat("ä", 2000), "a" + strings.Repeat("日", 800)}
	for _, s := range append(long, "short") {
		got := cut(s)
		if len(got) > maxText || !utf8.ValidString(got) || !strings.HasPrefix(s, got) || len(s) <= maxText && got != s {
			t.Errorf("cut a text of %d bytes to %d", len(s), len(got))
		}
	}
}

// TestBatches: nothing is lost or moved, and no piece is larger than a message may be.
func TestBatches(t *testing.T) {
	var all []*witnessv1.SessionEnd
	for i := range 50 {
		all = append(all, &witnessv1.SessionEnd{Reason: string(rune('A' + i)), Detail: strings.Repeat("x", i*5000)})
	}
	var got []*witnessv1.SessionEnd
	pieces := 0
	err := batches(all, func(piece []*witnessv1.SessionEnd) error {
		size := 0
		for _, m := range piece {
			size += len(m.GetDetail())
		}
		if size > batchSize+maxBeat {
			t.Errorf("a piece of %d bytes", size)
		}
		got, pieces = append(got, piece...), pieces+1
		return nil
	})
	if err != nil || len(got) != len(all) || pieces < 2 {
		t.Errorf("%d of %d messages in %d pieces, %v", len(got), len(all), pieces, err)
	}
	for i := range got {
		if got[i] != all[i] {
			t.Fatalf("message %d is another", i)
		}
	}
	full := errors.New("full")
	if err := batches(all, func([]*witnessv1.SessionEnd) error { return full }); !errors.Is(err, full) {
		t.Errorf("got %v, want %v", err, full)
	}
	if err := batches(nil, func([]*witnessv1.SessionEnd) error { return full }); err != nil {
		t.Errorf("nothing to send: %v", err)
	}
}

// TestSlowSession: an agent that does not read loses answers, and nobody waits for it.
func TestSlowSession(t *testing.T) {
	s := newSession(1, Agent{Host: "a"})
	for i := range 1000 {
		s.Answer(Answer{Sequence: uint64(i)})
		s.Nudge()
	}
	s.End(&pair.Refusal{Reason: "FIRST"})
	s.End(&pair.Refusal{Reason: "SECOND"})
	<-s.ended
	if len(s.out) != sessionRoom || len(s.nudged) != 1 || s.why.Reason != "FIRST" {
		t.Errorf("%d answers and %d nudges wait, ended by %s", len(s.out), len(s.nudged), s.why.Reason)
	}
}

// TestSlowRelay: beyond its room a relay drops heartbeats, never the beginning or the end of a session.
func TestSlowRelay(t *testing.T) {
	r := newRelay("n1")
	s := newSession(7, Agent{Host: "a", ID: "i", Start: "1"})
	stay, err := r.enter(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 * relayRoom {
		stay.heartbeat(&witnessv1.Heartbeat{}, Heartbeat{})
	}
	stay.leave()
	batch := r.take()
	if len(batch) != relayRoom+1 || batch[0].GetHello() == nil || batch[len(batch)-1].GetEnd() == nil {
		t.Errorf("a batch of %d, first %v, last %v", len(batch), batch[0], batch[len(batch)-1])
	}
}

// TestHooksAreCut: what an agent says of its hooks is short and on one line, however much a command printed.
func TestHooksAreCut(t *testing.T) {
	m := &witnessv1.PairReport{}
	for n := range uint64(100) {
		m.Hooks = append(m.Hooks, &witnessv1.HookResult{Sequence: n + 1, Event: strings.Repeat("e", 1000),
			Command: strings.Repeat("ç", 1000), Detail: strings.Repeat(" exit\n\tstatus\x00 1 \u2028", 1000)})
	}
	r, bad := toReport(m)
	if bad != nil {
		t.Fatal(bad)
	}
	if len(r.Hooks) != maxHooks || r.Hooks[0].Sequence != 1 {
		t.Errorf("%d hooks from %d on, want the %d oldest", len(r.Hooks), r.Hooks[0].Sequence, maxHooks)
	}
	for _, h := range r.Hooks {
		if len(h.Event) > maxName || len(h.Command) > maxCommand || len(h.Detail) > maxHookText ||
			!utf8.ValidString(h.Command) ||
			!strings.HasPrefix(h.Detail, "exit status 1 exit status 1 ") {
			t.Errorf("got %+v", h)
		}
	}
}

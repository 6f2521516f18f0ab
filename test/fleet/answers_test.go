package fleet

import (
	"testing"
	"time"
)

// What the tables say of a change of primary, from answers of which each matters in one way.
func TestChange(t *testing.T) {
	start := time.Now()
	at := func(ms int) time.Time { return start.Add(time.Duration(ms) * time.Millisecond) }
	old, fresh := &Host{Name: "old"}, &Host{Name: "new"}
	outside := &Client{Work: Commits, Name: "old"}
	inside := &Client{Work: Reads, Name: "old", Place: Place{On: old}}
	local := &Client{Work: Reads, Name: "old", Place: Place{On: old, Loopback: true}}
	partner := &Client{Work: Commits, Name: "old", Place: Place{On: fresh}}
	newcomer := &Client{Work: Reads, Name: "new"}
	committer := &Client{Work: Commits, Name: "new"}
	before := []Answer{
		{Client: newcomer, Host: "new", Sent: at(1), At: at(2)},                                 // a mirror's answer
		{Client: outside, Host: "old", Primary: true, Sent: at(3), At: at(10), Row: 1},          // margin 90
		{Client: inside, Host: "old", Primary: true, Sent: at(19), At: at(20)},                  // margin 80
		{Client: inside, Host: "old", Sent: at(101), At: at(102)},                               // says that it is a mirror
		{Client: committer, Host: "new", Primary: true, Sent: at(15), At: at(200), Row: 2},      // held for long
		{Client: newcomer, Host: "new", Primary: true, Sent: at(100), At: at(103)},              // the first
		{Client: newcomer, Host: "new", Primary: true, Sent: at(30), At: at(150)},               // waited for long
		{Client: newcomer, Host: "new", Primary: true, Sent: at(-1500), At: at(-1000)},          // an earlier epoch's
		{Client: outside, Host: "old", Primary: true, Sent: at(-20), At: at(-10), Row: 3},       // not the last
		{Client: partner, Host: "old", Primary: true, Sent: at(-20), At: at(99), Row: 4},        // margin 1
		{Client: committer, Host: "new", Primary: true, Sent: at(201), At: at(210), Row: 5},     // not the first
		{Client: newcomer, Host: "new", Primary: true, Sent: at(104), At: at(105)},              // not the first
		{Client: committer, Host: "new", Primary: true, Sent: at(-1500), At: at(-900), Row: -1}, // an earlier epoch's
	}
	losses := []Loss{
		{Client: outside, Primary: true, Answers: 3, At: at(50)},
		{Client: outside, Primary: true, Answers: 3, At: at(60)},   // a later one
		{Client: inside, Answers: 3, At: at(40)},                   // was at a mirror
		{Client: inside, Primary: true, At: at(41)},                // never had an answer
		{Client: newcomer, Primary: true, Answers: 3, At: at(42)},  // of the other host
		{Client: partner, Primary: true, Answers: 1, At: at(-500)}, // before
	}
	c := &Clients{answers: before, losses: losses}
	ch := c.Change(start, old, fresh)
	if !ch.Served.Equal(at(100)) {
		t.Errorf("served at %v, want 100ms", ch.Served.Sub(start))
	}
	margin, whose, ok := ch.Margin()
	if want := (View{Place: onPartner, Work: Commits}); margin != time.Millisecond || whose != want || !ok {
		t.Errorf("margin %v of %v, %v; want 1ms of %v", margin, whose, ok, want)
	}
	if len(ch.Overlap) != 0 {
		t.Errorf("overlap: %v", ch.Overlap)
	}
	if cut, ok := ch.Cut[View{Place: "outside", Work: Commits}]; len(ch.Cut) != 1 || !ok || !cut.Equal(at(50)) {
		t.Errorf("cut: %v, want outside after 50 ms only", ch.Cut)
	}

	late := Answer{Client: local, Host: "old", Primary: true, Sent: at(-40), At: at(101)}
	c.answers = append(c.answers, late)
	ch = c.Change(start, old, fresh)
	if len(ch.Overlap) != 1 || ch.Overlap[0].At != late.At {
		t.Errorf("an answer of the old primary 1 ms after the new one served is not seen: %v", ch.Overlap)
	}
	if margin, whose, _ := ch.Margin(); margin != -time.Millisecond || whose.Place != "inside by 127.0.0.1" {
		t.Errorf("margin %v of %v, want -1ms inside", margin, whose)
	}
}

func TestChangeThatNeverCame(t *testing.T) {
	old, fresh := &Host{Name: "old"}, &Host{Name: "new"}
	client := &Client{Work: Commits, Name: "old"}
	now := time.Now()
	c := &Clients{answers: []Answer{{Client: client, Host: "old", Primary: true, Sent: now, At: now}}}
	ch := c.Change(now.Add(-time.Second), old, fresh)
	if _, _, ok := ch.Margin(); ok || !ch.Served.IsZero() || len(ch.Overlap) != 0 {
		t.Errorf("got %+v", ch)
	}
}

func TestGapAndSilence(t *testing.T) {
	start := time.Now()
	at := func(ms int) time.Time { return start.Add(time.Duration(ms) * time.Millisecond) }
	h := &Host{Name: "h"}
	outside := &Client{Work: Commits, Name: "h"}
	inside := &Client{Work: Commits, Name: "h", Place: Place{On: h}}
	c := &Clients{answers: []Answer{
		{Client: outside, At: at(0)}, {Client: outside, At: at(10)}, {Client: inside, At: at(50)},
		{Client: outside, At: at(100)}, {Client: inside, At: at(110)},
	}}
	if got := c.Gap(start, at(120)); got != 90*time.Millisecond {
		t.Errorf("gap %v, want 90ms", got)
	}
	silences := c.Silences(start)
	if len(silences) != 2 || silences[0].Client != outside || silences[0].Long != 90*time.Millisecond {
		t.Errorf("silences %+v, want 90ms outside first", silences)
	}
}

// A commit of one host between two of the other is a split brain if all of it was sent and answered in a time in which
// the right cannot have moved, and may be a late answer otherwise.
func TestDoubles(t *testing.T) {
	start := time.Now()
	ack := func(host string, sent, at int) Answer {
		return Answer{Host: host, Sent: start.Add(time.Duration(sent) * time.Millisecond),
			At: start.Add(time.Duration(at) * time.Millisecond)}
	}
	for name, c := range map[string]struct {
		acks          []Answer
		certain, late int
	}{
		"nothing":          {},
		"one move":         {acks: []Answer{ack("a", 0, 1), ack("a", 2, 3), ack("b", 4, 5), ack("b", 6, 7)}},
		"there and back":   {acks: []Answer{ack("a", 0, 1), ack("b", 100, 101), ack("b", 200, 201), ack("a", 301, 302)}},
		"between":          {acks: []Answer{ack("a", 0, 1), ack("b", 4, 5), ack("a", 6, 7)}, certain: 1},
		"asked before":     {acks: []Answer{ack("a", 0, 3), ack("b", 1, 5), ack("a", 6, 7)}, late: 1},
		"next asked early": {acks: []Answer{ack("a", 0, 1), ack("b", 2, 5), ack("a", 4, 7)}, late: 1},
		"surer ones further away": {certain: 1,
			acks: []Answer{ack("a", 0, 1), ack("a", 0, 3), ack("b", 2, 5), ack("a", 4, 7), ack("a", 8, 9)}},
		"several": {certain: 2, acks: []Answer{ack("a", 0, 1), ack("b", 2, 3), ack("b", 4, 5), ack("a", 6, 7)}},
	} {
		if got := doubles(c.acks); len(got.Certain) != c.certain || len(got.Late) != c.late {
			t.Errorf("%s: certain %v, late %v; want %d and %d", name, got.Certain, got.Late, c.certain, c.late)
		}
	}
}

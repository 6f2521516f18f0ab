package webhook

import (
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/witnessd/witnessd/witnessd/ledger"
	"github.com/witnessd/witnessd/witnessd/pair"
)

const (
	fast = "fast.example"
	slow = "slow.example"
)

// TestDelivered: a new webhook begins at the present, gets what it chose, and the log learns of it.
func TestDelivered(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newGroup(t, "n1")
		g.happen(5, pair.FactArmed) // sequences 2 to 6
		all, some := hook("fast"), hook("slow")
		some.Events, some.Pairs = []string{"EXPOSED", "PROMOTED"}, []string{"payroll-*", "sal*"}
		none := hook("none")
		none.Pairs = []string{"payroll-*"}
		registry := g.lead("n1", all, some, none)
		pass(time.Second)
		if n := len(g.inbox.of(fast)); n > 0 {
			t.Errorf("%d events of before were delivered", n)
		}
		g.happen(1, pair.FactArmed)
		g.happen(1, pair.FactExposed)
		pass(100 * time.Millisecond)
		g.inbox.check(t, fast, 7, 8)
		g.inbox.check(t, slow, 8, 8)
		if n := len(g.inbox.of("none.example")); n > 0 {
			t.Errorf("%d events of another pair", n)
		}
		pass(3 * time.Second)
		for name, want := range map[string]uint64{"fast": 8, "slow": 8, "none": 6} {
			if at, _ := g.any().Delivered(name); at != want {
				t.Errorf("%s is recorded at %d, want %d", name, at, want)
			}
		}
		if n := metric(t, registry, "witnessd_webhook_delivered_total", "fast"); n != 2 {
			t.Errorf("%v delivered by the metric, want 2", n)
		}
		if n := metric(t, registry, "witnessd_webhook_failed_total", "fast"); n != 0 {
			t.Errorf("%v failed by the metric", n)
		}
	})
}

// TestBeginsWhenEveryNodeReads: before that, nothing of a webhook may be in the log.
func TestBeginsWhenEveryNodeReads(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newGroup(t)
		g.ledgers["n1"] = ledger.New()
		g.lead("n1", hook("fast"))
		pass(time.Minute)
		if g.cursors() > 0 {
			t.Fatal("the log was told of a webhook that not every node knows")
		}
		g.put(ledger.EncodeRaise(1))
		pass(2 * time.Second)
		if _, begun := g.any().Delivered("fast"); !begun {
			t.Error("not begun")
		}
	})
}

// TestCursorsAreCoalesced: a busy history costs an entry a second, and one that nobody wants next to none.
func TestCursorsAreCoalesced(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newGroup(t, "n1")
		deaf := hook("none")
		deaf.Pairs = []string{"other"}
		g.lead("n1", hook("fast"), hook("slow"), deaf)
		pass(time.Second)
		begun := g.cursors()
		for range 1000 {
			g.happen(1, pair.FactArmed)
			pass(10 * time.Millisecond)
		}
		if n := g.cursors() - begun; n < 9 || n > 12 {
			t.Errorf("%d entries in 10 s", n)
		}
		pass(5 * time.Second)
		g.inbox.check(t, fast, 2, 1001)
		g.inbox.check(t, slow, 2, 1001)
		quiet := g.cursors()
		pass(time.Hour)
		if n := g.cursors(); n != quiet {
			t.Errorf("%d entries while nothing happened", n-quiet)
		}
		if at, _ := g.any().Delivered("none"); at < 1001 {
			t.Errorf("a webhook that wants nothing is at %d, and would fall out of the history", at)
		}
	})
}

// TestLeaderChange: the next leader goes on where the log says; what was delivered since comes again, nothing is
// left out. The leader of before does not know yet, and calls as well.
func TestLeaderChange(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newGroup(t, "n1", "n2")
		g.inbox.is(slow, says(200, 300*time.Millisecond))
		g.lead("n1", hook("fast"), hook("slow"))
		pass(time.Second)
		for i := range 40 {
			g.happen(1, pair.FactArmed)
			pass(150 * time.Millisecond)
			if i == 20 {
				g.lead("n2", hook("fast"), hook("slow"))
			}
			if i == 30 {
				g.stop("n1")
			}
		}
		pass(time.Minute)
		again := g.inbox.check(t, fast, 2, 41)
		g.inbox.check(t, slow, 2, 41)
		if again == 0 || again > 20 {
			t.Errorf("%d events came again, want those of the last second and of two leaders", again)
		}
	})
}

// TestLeaderChangeBeforeTheFirst: a webhook that began with one leader misses nothing of what happened before the next.
func TestLeaderChangeBeforeTheFirst(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newGroup(t, "n1", "n2")
		g.inbox.is(fast, says(503, 0))
		g.lead("n1", hook("fast"))
		pass(time.Second)
		g.happen(3, pair.FactArmed)
		pass(10 * time.Second)
		g.stop("n1")
		g.happen(3, pair.FactArmed)
		g.inbox.is(fast, nil)
		g.lead("n2", hook("fast"))
		pass(time.Second)
		g.inbox.check(t, fast, 2, 7)
	})
}

// TestRestartOfAllNodes: what was delivered is in the snapshot.
func TestRestartOfAllNodes(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newGroup(t, "n1", "n2", "n3")
		g.lead("n1", hook("fast"))
		pass(time.Second)
		g.happen(10, pair.FactArmed)
		pass(5 * time.Second)
		g.restart()
		g.happen(5, pair.FactArmed)
		g.lead("n3", hook("fast"))
		pass(time.Second)
		if again := g.inbox.check(t, fast, 2, 16); again > 0 {
			t.Errorf("%d events came again, although they were recorded seconds before", again)
		}
	})
}

// TestDownForAnHour: the receiver is called ever more seldom and, when it is back, gets everything within a minute.
func TestDownForAnHour(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newGroup(t, "n1")
		g.inbox.is(fast, says(0, 0))
		registry := g.lead("n1", hook("fast"))
		pass(time.Second)
		g.happen(1, pair.FactPromoted)
		pass(8 * time.Second) // called at 0, 1, 3, 7 s, about
		if n := g.inbox.called(fast); n < 3 || n > 5 {
			t.Errorf("%d calls in 8 s", n)
		}
		for range 60 {
			g.happen(1, pair.FactArmed)
			pass(time.Minute)
		}
		if n := g.inbox.called(fast); n < 50 || n > 90 {
			t.Errorf("%d calls in an hour, want about one a minute", n)
		}
		if age := metric(t, registry, "witnessd_webhook_oldest_undelivered_seconds", "fast"); age < 3600 || age > 3610 {
			t.Errorf("the oldest is %v s old by the metric, want an hour", age)
		}
		if n := metric(t, registry, "witnessd_webhook_failed_total", "fast"); n != float64(g.inbox.called(fast)) {
			t.Errorf("%v failed by the metric", n)
		}
		g.inbox.is(fast, nil)
		back := time.Now()
		pass(73 * time.Second)
		g.inbox.check(t, fast, 2, 62)
		got := g.inbox.of(fast)
		t.Logf("%d events within %v of the receiver's return", len(got), got[len(got)-1].at.Sub(back))
		if age := metric(t, registry, "witnessd_webhook_oldest_undelivered_seconds", "fast"); age != 0 {
			t.Errorf("the oldest is %v s old by the metric, want none", age)
		}
	})
}

// TestSlowBesideFast: neither a receiver that takes its time nor one that never answers holds another up.
func TestSlowBesideFast(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newGroup(t, "n1")
		g.inbox.is(slow, says(200, 4*time.Second))
		g.inbox.is("dead.example", says(200, time.Hour))
		g.lead("n1", hook("slow"), hook("dead"), hook("fast"))
		pass(time.Second)
		start := time.Now()
		g.happen(100, pair.FactArmed)
		pass(time.Second)
		g.inbox.check(t, fast, 2, 101)
		if n := len(g.inbox.of(slow)); n != 0 {
			t.Errorf("the slow one has %d", n)
		}
		pass(400 * time.Second)
		g.inbox.check(t, slow, 2, 101)
		got := g.inbox.of(slow)
		if took := got[len(got)-1].at.Sub(start); took > 405*time.Second {
			t.Errorf("the slow one took %v for 100 calls of 4s", took)
		}
		if n := len(g.inbox.of("dead.example")); n != 0 {
			t.Errorf("calls that were given up count as delivered: %d", n)
		}
		stopped := time.Now()
		g.stop("n1")
		if took := time.Since(stopped); took > 100*time.Millisecond {
			t.Errorf("the end of the term waited %v for receivers", took)
		}
	})
}

// TestMissed: what the history has dropped is told of by number, before what it still holds.
func TestMissed(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newGroup(t, "n1")
		g.inbox.is(fast, says(503, 0))
		g.lead("n1", hook("fast"))
		pass(time.Second)
		g.happen(1, pair.FactPromoted) // 2, which the webhook holds
		pass(time.Second)
		g.happen(20_500, pair.FactArmed) // up to 20502; the history keeps 10,000
		g.inbox.is(fast, nil)
		pass(2 * time.Minute)
		got := g.inbox.of(fast)
		if len(got) != 10_002 || got[0].sequence != 2 || got[1].kind != "missed" {
			t.Fatalf("got %d, first %+v, %+v", len(got), got[0], got[1])
		}
		missed := got[1].body
		if missed["count"] != "10500" || missed["first_sequence"] != "3" || missed["last_sequence"] != "10502" ||
			missed["webhook"] != "fast" || !strings.HasPrefix(got[1].id, "missed_3_10502_") {
			t.Errorf("got %v", got[1])
		}
		if got[2].sequence != 10_503 || got[10_001].sequence != 20_502 {
			t.Errorf("after the gap: %d to %d", got[2].sequence, got[10_001].sequence)
		}
	})
}

// TestAnswers: what each answer makes of the next call.
func TestAnswers(t *testing.T) {
	asked := http.Header{"Retry-After": {"30"}}
	for _, tt := range []struct {
		name       string
		answer     func(int) (int, time.Duration, http.Header)
		calls      int // within 20 s
		wait, upTo time.Duration
	}{
		{"no connection", says(0, 0), 5, 0, 0},
		{"500", says(500, 0), 5, 0, 0},
		{"429", says(429, 0), 5, 0, 0},
		{"408", says(408, 0), 5, 0, 0},
		{"429 with Retry-After", func(int) (int, time.Duration, http.Header) { return 429, 0, asked }, 1,
			24 * time.Second, 36 * time.Second},
		{"404", says(404, 0), 1, 4 * time.Minute, 6 * time.Minute},
		{"302", says(302, 0), 1, 4 * time.Minute, 6 * time.Minute},
		{"410", says(410, 0), 1, 48 * time.Minute, 72 * time.Minute},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				g := newGroup(t, "n1")
				g.inbox.is(fast, tt.answer)
				g.lead("n1", hook("fast"))
				pass(time.Second)
				g.happen(2, pair.FactArmed)
				start := time.Now()
				pass(20 * time.Second)
				if n := g.inbox.called(fast); n < tt.calls || n > tt.calls+1 {
					t.Errorf("%d calls in 20 s, want %d", n, tt.calls)
				}
				g.inbox.is(fast, nil)
				for len(g.inbox.of(fast)) == 0 && time.Since(start) < 2*time.Hour {
					pass(100 * time.Millisecond)
				}
				if took := time.Since(start); tt.wait > 0 && (took < tt.wait || took > tt.upTo) {
					t.Errorf("called again after %v, want %v to %v", took, tt.wait, tt.upTo)
				}
				pass(time.Second)
				g.inbox.check(t, fast, 2, 3)
			})
		})
	}
}

// TestLogFails: deliveries go on, and the log is told as soon as it takes entries again.
func TestLogFails(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newGroup(t, "n1")
		g.lead("n1", hook("fast"))
		pass(time.Second)
		g.mu.Lock()
		g.fail = errors.New("too busy")
		g.mu.Unlock()
		g.happen(3, pair.FactArmed)
		pass(10 * time.Second)
		g.inbox.check(t, fast, 2, 4)
		g.mu.Lock()
		g.fail = nil
		g.mu.Unlock()
		pass(2 * time.Second)
		if at, _ := g.any().Delivered("fast"); at != 4 {
			t.Errorf("recorded at %d, want 4", at)
		}
	})
}

// TestLog: who reads the log learns that a receiver is down, what it said, and no secret of the URL.
func TestLog(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newGroup(t, "n1")
		var out strings.Builder
		s, err := New(Options{
			Hooks: []Hook{{Name: "fast", URL: "https://fast.example/in?token=hush", SecretFile: g.secret,
				Timeout: time.Second}},
			Ledger: g.ledgers["n1"], Transport: g.inbox,
			Log: slog.New(slog.NewTextHandler(&out, nil)),
		})
		if err != nil {
			t.Fatal(err)
		}
		m := tell(ledger.Event{Sequence: 1, Fact: pair.Fact{Kind: pair.FactArmed}})
		w := &walk{term: &term{Sender: s}, hook: s.hooks[0], log: s.log}
		for _, answer := range []func(int) (int, time.Duration, http.Header){
			says(0, 0), says(200, time.Minute), says(404, 0),
		} {
			g.inbox.is(fast, answer)
			f := s.call(t.Context(), s.hooks[0], m)
			w.complain(t.Context(), m, f, 1, time.Second)
		}
		for _, want := range []string{"connection refused", "no answer within 1s", "level=ERROR", "answered 404: xxx"} {
			if !strings.Contains(out.String(), want) {
				t.Errorf("the log does not say %q:\n%s", want, out.String())
			}
		}
		if strings.Contains(out.String(), "hush") || out.Len() > 1500 {
			t.Errorf("the log says too much:\n%s", out.String())
		}
	})
}

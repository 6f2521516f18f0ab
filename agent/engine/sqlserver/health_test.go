package sqlserver

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	mssql "github.com/microsoft/go-mssqldb"
)

func TestCondition(t *testing.T) {
	all := func(states ...string) []DiagnosticRow {
		var rows []DiagnosticRow
		for i, component := range []string{"system", "resource", "query_processing", "io_subsystem", "events"} {
			rows = append(rows, DiagnosticRow{component, states[i]})
		}
		return rows
	}
	for _, c := range []struct {
		rows  []DiagnosticRow
		want  int
		words int
	}{
		{nil, 0, 0},
		{all("clean", "clean", "clean", "clean", "unknown"), 0, 0},
		{all("error", "clean", "clean", "clean", "unknown"), LevelSystem, 1},
		{all("clean", "error", "clean", "clean", "unknown"), LevelResource, 1},
		{all("clean", "clean", "error", "clean", "unknown"), LevelProcessing, 1},
		{all("error", "error", "error", "error", "error"), LevelSystem, 4},
		{all("clean", "error", "error", "clean", "unknown"), LevelResource, 2},
		{all("warning", "warning", "warning", "warning", "warning"), 0, 4},
		{all("clean", "clean", "clean", "error", "unknown"), 0, 1},
	} {
		if got := Condition(c.rows); got != c.want {
			t.Errorf("%v meets level %d, want %d", c.rows, got, c.want)
		}
		if got := diagnosticWarnings(c.rows); len(got) != c.words {
			t.Errorf("%v gives %q, want %d warnings", c.rows, got, c.words)
		}
	}
}

func TestLogWarnings(t *testing.T) {
	databases := []DatabaseRow{{Name: "rtcxds", LogWait: "DATABASE_MIRRORING"}, {Name: "rtcab", LogWait: "LOG_BACKUP"}}
	used := []CounterRow{{"rtcxds", "Percent Log Used", 97}, {"RTCAB", "Percent Log Used", 89}, {"other", "Percent Log Used", 99}}
	got := logWarnings(used, databases)
	if len(got) != 1 || !strings.Contains(got[0], "rtcxds: the log is 97 % full: it keeps what the mirror lacks") {
		t.Errorf("warnings %q", got)
	}
}

func TestMeterTimes(t *testing.T) {
	begun := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	type step struct {
		after time.Duration
		q     Queue
	}
	const mb = int64(1 << 20)
	for _, c := range []struct {
		what     string
		steps    []step
		recovery time.Duration
		known    bool
		stuck    time.Duration
		point    time.Duration
	}{
		{"nothing to do", []step{{0, Queue{}}, {time.Minute, Queue{}}}, 0, false, 0, 0},
		{
			"redo of 1 MB in a second, 60 MB to go",
			[]step{{0, Queue{RedoKB: 70 << 10}}, {10 * time.Second, Queue{RedoKB: 60 << 10, Redone: 10 * mb}}},
			time.Minute, true, 0, 0,
		},
		{
			"a queue whose rate was never seen",
			[]step{{0, Queue{RedoKB: 70 << 10}}, {5 * time.Second, Queue{RedoKB: 70 << 10}}},
			0, false, 5 * time.Second, 0,
		},
		{
			"redo that stands still keeps its last rate, and says that it stands",
			[]step{
				{0, Queue{RedoKB: 70 << 10}}, {10 * time.Second, Queue{RedoKB: 60 << 10, Redone: 10 * mb}},
				{50 * time.Second, Queue{RedoKB: 60 << 10, Redone: 10 * mb}},
			},
			time.Minute, true, 40 * time.Second, 0,
		},
		{
			"a rate of next to nothing is more than a day, not for ever",
			[]step{{0, Queue{RedoKB: 1 << 30}}, {10 * time.Second, Queue{RedoKB: 1 << 30, Redone: 1}}},
			longest, true, 0, 0,
		},
		{
			"nothing was sent for a minute",
			[]step{{0, Queue{}}, {time.Minute, Queue{SendKB: 1 << 10}}},
			0, false, 0, time.Minute,
		},
		{
			"three quarters of the last minute's log were sent",
			[]step{{0, Queue{}}, {time.Minute, Queue{SendKB: 1 << 10, Sent: 3 * mb}}},
			0, false, 0, 15 * time.Second,
		},
		{
			"an instance that started anew has no history",
			[]step{{0, Queue{Sent: 100 * mb}}, {time.Minute, Queue{SendKB: 1 << 10, Sent: 3 * mb}}},
			0, false, 0, 0,
		},
	} {
		var m meter
		var lag Lag
		for _, s := range c.steps {
			lag = m.note(begun.Add(s.after), []Queue{s.q})[0]
		}
		if lag.Recovery != c.recovery || lag.RateKnown != c.known || lag.Stuck != c.stuck || lag.Point != c.point {
			t.Errorf("%s: recovery %v (known %v), stuck %v, point %v; want %v (%v), %v, %v", c.what,
				lag.Recovery, lag.RateKnown, lag.Stuck, lag.Point, c.recovery, c.known, c.stuck, c.point)
		}
	}
}

func TestGroupLag(t *testing.T) {
	for _, c := range []struct {
		row             GroupDatabaseRow
		recovery, point time.Duration
	}{
		{GroupDatabaseRow{}, 0, 0},
		{GroupDatabaseRow{RedoQueueKB: 10240, RedoRateKB: 1024}, 10 * time.Second, 0},
		{GroupDatabaseRow{RedoQueueKB: 10240}, 0, 0},
		{GroupDatabaseRow{SendQueueKB: 10240, SendRateKB: 512}, 0, 20 * time.Second},
		{GroupDatabaseRow{RedoQueueKB: 1 << 50, RedoRateKB: 1}, longest, 0},
	} {
		if got := GroupLag(c.row); got.Recovery != c.recovery || got.Point != c.point {
			t.Errorf("%+v: %v and %v, want %v and %v", c.row, got.Recovery, got.Point, c.recovery, c.point)
		}
	}
}

func TestLagWarnings(t *testing.T) {
	target := Default().Target
	for _, c := range []struct {
		lag  Lag
		want string
	}{
		{Lag{Recovery: 5 * time.Minute}, ""},
		{Lag{Queue: Queue{"d", 20 << 10, 0, 0, 0}, Recovery: 6 * time.Minute}, "d: the mirror would take 6m to redo 20 MB before it serves; the target is 5m0s"},
		{Lag{Queue: Queue{"d", 20, 0, 0, 0}, Stuck: 31 * time.Second}, "d: the mirror's redo has stood still for 31s with 20 KB to go"},
		{Lag{Queue: Queue{"d", 0, 20 << 20, 0, 0}, Point: 7 * time.Minute}, "d: the mirror lacks the commits of up to the last 7m (20 GB to send); the target is 5m0s"},
	} {
		if got := strings.Join(lagWarnings([]Lag{c.lag}, target), "; "); got != c.want {
			t.Errorf("%+v: %q, want %q", c.lag, got, c.want)
		}
	}
}

// patient is an instance whose answers a test decides.
type patient struct {
	mu          sync.Mutex
	diagnostics []DiagnosticRow
	probe       error
	hang        string // what hangs: diagnostics, probe
	probes      int
}

func (p *patient) answer(ctx context.Context, what string) error {
	p.mu.Lock()
	hangs := p.hang == what
	p.mu.Unlock()
	if hangs {
		<-ctx.Done()
		return ctx.Err()
	}
	return nil
}

func (p *patient) Diagnostics(ctx context.Context) ([]DiagnosticRow, error) {
	err := p.answer(ctx, "diagnostics")
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.diagnostics, err
}

func (p *patient) Counters(context.Context) ([]CounterRow, error) {
	return []CounterRow{{"d", counterRedoQueue, 2048}, {"other", counterRedoQueue, 9999}}, nil
}

func (p *patient) LogsUsed(context.Context) ([]CounterRow, error) { return nil, nil }

func (p *patient) Probe(ctx context.Context, _ string) error {
	err := p.answer(ctx, "probe")
	p.mu.Lock()
	defer p.mu.Unlock()
	p.probes++
	return errors.Join(err, p.probe)
}

func (p *patient) set(change func(*patient)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change(p)
}

func serverError(number int32) error {
	return newError(context.Background(), "UPDATE", mssql.Error{Number: number, Message: "no"})
}

func TestHealthStalls(t *testing.T) {
	healthy := Seen{Run: "1", Primary: true, MirrorReady: true, HoldUp: 10 * time.Second, Databases: []DatabaseRow{{Name: "d", State: DatabaseOnline}}}
	for _, c := range []struct {
		what   string
		sick   func(*patient)
		seen   func(*Seen)
		stalls bool
		word   string
	}{
		{"well", nil, nil, false, ""},
		{"diagnostics hang", func(p *patient) { p.hang = "diagnostics" }, nil, true, "sp_server_diagnostics has not answered"},
		{"diagnostics hang on a mirror", func(p *patient) { p.hang = "diagnostics" }, func(s *Seen) { s.Primary = false }, true, "has not answered"},
		{"a write hangs", func(p *patient) { p.hang = "probe" }, nil, true, "d has taken no write for"},
		{"a write hangs, but may wait for the mirror without end", func(p *patient) { p.hang = "probe" }, func(s *Seen) { s.HoldUp = -1 }, false, "d has taken no write for"},
		{"a write hangs on a mirror, where nobody writes", func(p *patient) { p.hang = "probe" }, func(s *Seen) { s.Primary = false }, false, ""},
		{"the disk is bad", func(p *patient) { p.probe = serverError(823) }, nil, true, "823"},
		{"the disk is bad, and so may be the mirror", func(p *patient) { p.probe = serverError(823) }, func(s *Seen) { s.MirrorReady = false }, false, "823"},
		{"the log is full, and the mirror's is too", func(p *patient) { p.probe = serverError(9002) }, nil, false, "9002"},
		{"system in error", func(p *patient) { p.diagnostics = []DiagnosticRow{{"system", "error"}} }, nil, true, "error for system"},
		{"resource in error, which is above the level", func(p *patient) { p.diagnostics = []DiagnosticRow{{"resource", "error"}} }, nil, false, "error for resource"},
		{"system in error, nobody to take over", func(p *patient) { p.diagnostics = []DiagnosticRow{{"system", "error"}} }, func(s *Seen) { s.MirrorReady = false }, false, "error for system"},
		{"a database is suspect", nil, func(s *Seen) { s.Databases = []DatabaseRow{{Name: "d", State: DatabaseSuspect}} }, true, "d is SUSPECT"},
		{"a mirror is restoring", nil, func(s *Seen) { s.Primary, s.Databases = false, []DatabaseRow{{Name: "d", State: DatabaseRestoring}} }, false, ""},
	} {
		t.Run(c.what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := &patient{}
				if c.sick != nil {
					c.sick(p)
				}
				cfg := Default()
				cfg.Probe = []string{"d"}
				h := newHealth(cfg, p)
				defer h.Close()
				seen := healthy
				if c.seen != nil {
					c.seen(&seen)
				}
				var v Verdict
				for range 30 * 5 {
					v = h.Note(t.Context(), seen)
					time.Sleep(200 * time.Millisecond)
					synctest.Wait()
				}
				if stalls := v.Stalled > 0; stalls != c.stalls {
					t.Errorf("stalled for %v, want it %v (%s)", v.Stalled, c.stalls, v.Warning())
				}
				if (c.word == "") != (len(v.Warnings) == 0) || !strings.Contains(v.Warning(), c.word) {
					t.Errorf("warnings %q, want %q", v.Warnings, c.word)
				}
				if len(v.Lags) != 1 || v.LagOf("D").RedoKB != 2048 {
					t.Errorf("lags %+v, want those of d only", v.Lags)
				}
				// It is over, in this run or the next.
				p.set(func(p *patient) { p.hang, p.probe, p.diagnostics = "", nil, nil })
				seen = healthy
				seen.Run = "2"
				for range 15 * 5 {
					v = h.Note(t.Context(), seen)
					time.Sleep(200 * time.Millisecond)
					synctest.Wait()
				}
				if v.Stalled != 0 || len(v.Warnings) != 0 {
					t.Errorf("after a restart: stalled %v, %q", v.Stalled, v.Warnings)
				}
			})
		})
	}
}

// An agent that stood still has not waited, and one try never overtakes another.
func TestHealthCountsOnlyLooks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &patient{hang: "probe"}
		cfg := Default()
		cfg.Probe = []string{"d"}
		h := newHealth(cfg, p)
		seen := Seen{Run: "1", Primary: true, HoldUp: 0}
		h.Note(t.Context(), seen)
		time.Sleep(time.Hour)
		if v := h.Note(t.Context(), seen); v.Stalled > stallStep {
			t.Errorf("an hour without a look counts as %v", v.Stalled)
		}
		h.Close()
		if p.probes != 1 {
			t.Errorf("%d writes were tried while the first hung", p.probes)
		}
	})
}

// A write may wait for the mirror as long as SQL Server does; only what is longer is the instance's own fault.
func TestHealthLeavesTheMirrorsPartOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := Default()
		cfg.Probe = []string{"d"}
		h := newHealth(cfg, &patient{hang: "probe"})
		defer h.Close()
		seen := Seen{Run: "1", Primary: true, HoldUp: 10 * time.Second}
		for second := range 20 {
			v := h.Note(t.Context(), seen)
			if stalls := v.Stalled > 0; stalls != (second >= 11) {
				t.Errorf("after %d s it has stalled for %v", second, v.Stalled)
			}
			time.Sleep(time.Second)
			synctest.Wait()
		}
	})
}

func ExampleLag_Detail() {
	fmt.Println(Lag{Queue: Queue{SendKB: 100, RedoKB: 30 << 10}, Recovery: 90 * time.Second, RateKnown: true}.Detail())
	// Output: to send 100 KB; to redo 30 MB, 2m
}

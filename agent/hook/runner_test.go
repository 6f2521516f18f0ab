package hook

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// bench is a runner whose results are kept.
type bench struct {
	*Runner
	t   *testing.T
	dir string

	mu   sync.Mutex
	done []Result
	news chan struct{}
}

// newBench makes a runner of shell commands. $0 is a directory of the test's own.
func newBench(t *testing.T, scripts ...string) *bench {
	var hooks []Hook
	for _, s := range scripts {
		hooks = append(hooks, Hook{Command: []string{"/bin/sh", "-c", s, "DIR"}})
	}
	return newBenchOf(t, hooks...)
}

func newBenchOf(t *testing.T, hooks ...Hook) *bench {
	b := &bench{t: t, dir: t.TempDir(), news: make(chan struct{}, 1)}
	for _, h := range hooks {
		if at := slices.Index(h.Command, "DIR"); at >= 0 {
			h.Command[at] = b.dir
		}
	}
	b.Runner = New(t.Context(), Options{Hooks: hooks, Environ: os.LookupEnv, OnDone: func(r Result) {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.done = append(b.done, r)
		select {
		case b.news <- struct{}{}:
		default:
		}
	}})
	t.Cleanup(b.Close)
	return b
}

// wait returns the results once there are so many.
func (b *bench) wait(n int) []Result {
	b.t.Helper()
	late := time.After(20 * time.Second)
	for {
		b.mu.Lock()
		done := slices.Clone(b.done)
		b.mu.Unlock()
		if len(done) >= n {
			return done
		}
		select {
		case <-b.news:
		case <-late:
			b.t.Fatalf("%d results, want %d; the last ones: %+v", len(done), n, done[max(0, len(done)-3):])
		}
	}
}

func (b *bench) file(name string) string {
	raw, err := os.ReadFile(filepath.Join(b.dir, name))
	if err != nil {
		b.t.Error(err)
	}
	return string(raw)
}

// await waits until a command has made a file.
func (b *bench) await(name string) {
	b.t.Helper()
	for range 2000 {
		if _, err := os.Stat(filepath.Join(b.dir, name)); err == nil {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	b.t.Fatalf("no command has made %s", name)
}

func (b *bench) make(name string) {
	if err := os.WriteFile(filepath.Join(b.dir, name), nil, 0o600); err != nil {
		b.t.Fatal(err)
	}
}

// until is shell for: wait for a file.
func until(name string) string { return "while ! test -e $0/" + name + "; do sleep 0.01; done; " }

func event(instance string, name Name, epoch uint64) Event {
	return Event{
		Change: Change{Name: name, Role: "primary", OldRole: "mirror"}, Pair: "payroll", PairID: "p-1", Host: "db1",
		Instance: instance, Partner: "db2", Engine: "postgres", Epoch: epoch, Reason: "an operator asked",
	}
}

func TestEnvironment(t *testing.T) {
	e := event("main", Primary, 7)
	e.Reason = "a\x00b"
	inherited := map[string]string{"PATH": "/sbin", "TZ": "UTC", "HOME": "/root", "NOTIFY_SOCKET": "/run/x", "LD_PRELOAD": "x"}
	got := environment(e, 42, func(name string) (string, bool) { v, ok := inherited[name]; return v, ok })
	want := []string{
		"WITNESS_EVENT=primary", "WITNESS_PAIR=payroll", "WITNESS_PAIR_ID=p-1", "WITNESS_HOST=db1", "WITNESS_PARTNER=db2",
		"WITNESS_INSTANCE=main", "WITNESS_ENGINE=postgres", "WITNESS_EPOCH=7", "WITNESS_ROLE=primary",
		"WITNESS_OLD_ROLE=mirror", "WITNESS_REASON=a b", "WITNESS_SEQUENCE=42", "TZ=UTC", "PATH=/sbin",
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	if got := environment(e, 1, nil); got[len(got)-1] != "PATH="+defaultPath {
		t.Errorf("without an environment: %q", got)
	}
}

// TestEnvironmentOfACommand: a command finds this and nothing else, also where the agent has more.
func TestEnvironmentOfACommand(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "/run/systemd/notify")
	t.Setenv("TZ", "UTC")
	b := newBenchOf(t, Hook{Command: []string{"/usr/bin/env"}})
	b.Run(event("main", Primary, 7))
	got := b.wait(1)[0]
	if !got.OK || !strings.Contains(got.Detail, "WITNESS_EPOCH=7") || !strings.Contains(got.Detail, "TZ=UTC") ||
		strings.Contains(got.Detail, "NOTIFY_SOCKET") || strings.Contains(got.Detail, "HOME=") {
		t.Errorf("%+v", got)
	}
	if got.Sequence != 1 || got.Event != Primary || got.Epoch != 7 || got.Instance != "main" || got.PairID != "p-1" ||
		got.Command != "/usr/bin/env" || got.Took <= 0 {
		t.Errorf("%+v", got)
	}
}

func TestResults(t *testing.T) {
	tests := []struct {
		name, script string
		ok           bool
		detail       string
	}{
		{"well", "exit 0", true, ""},
		{"says something", "echo moved; echo address >&2", true, "moved address"},
		{"badly", "echo no such address; exit 3", false, "exit status 3: no such address"},
		{"killed", "kill -9 $$", false, "signal: killed"},
		{"reads", "cat", true, ""}, // from /dev/null
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := newBench(t, tt.script)
			b.Run(event("main", Mirror, 1))
			if got := b.wait(1)[0]; got.OK != tt.ok || got.Detail != tt.detail {
				t.Errorf("%+v", got)
			}
		})
	}
	b := newBenchOf(t, Hook{Command: []string{"/nowhere/program"}})
	b.Run(event("main", Mirror, 1))
	if got := b.wait(1)[0]; got.OK || !strings.HasPrefix(got.Detail, "not started: ") {
		t.Errorf("%+v", got)
	}
}

// TestEndOfTheOutputIsKept: of much output, in the order in which it was printed.
func TestEndOfTheOutputIsKept(t *testing.T) {
	b := newBench(t, `i=0; while test $i -lt 20000; do echo "line $i"; i=$((i+1)); done; echo last words; exit 1`)
	b.Run(event("main", Mirror, 1))
	got := b.wait(1)[0].Detail
	if !strings.HasPrefix(got, "exit status 1: ...") || !strings.HasSuffix(got, "line 19998 line 19999 last words") ||
		len(got) > keptOutput+30 {
		t.Errorf("%q", got)
	}
	var small tail
	for _, c := range strings.Repeat("ab", keptOutput) {
		_, _ = fmt.Fprint(&small, string(c))
	}
	if got := small.String(); got != "..."+strings.Repeat("ab", keptOutput/2) {
		t.Errorf("byte by byte: %q", got)
	}
}

// TestOrder: events of one instance, and the hooks of one event, run one after the other, in order.
func TestOrder(t *testing.T) {
	slow := `sleep 0.05; echo "$WITNESS_EVENT $WITNESS_EPOCH $WITNESS_SEQUENCE slow" >> $0/log`
	quick := `echo "$WITNESS_EVENT $WITNESS_EPOCH $WITNESS_SEQUENCE quick" >> $0/log`
	b := newBench(t, slow, quick)
	b.Run(event("main", Fenced, 4))
	b.Run(event("main", Mirror, 5))
	b.Run(event("main", Primary, 6))
	b.wait(6)
	want := "fenced 4 1 slow\nfenced 4 2 quick\nmirror 5 3 slow\nmirror 5 4 quick\nprimary 6 5 slow\nprimary 6 6 quick\n"
	if got := b.file("log"); got != want {
		t.Errorf("got\n%s", got)
	}
	for i, r := range b.wait(6) {
		if r.Sequence != uint64(i+1) || !r.OK {
			t.Errorf("result %d: %+v", i, r)
		}
	}
}

// TestSideBySide: one instance's hook does not hold up another's. Each waits here for the other to begin.
func TestSideBySide(t *testing.T) {
	b := newBench(t, "touch $0/$WITNESS_INSTANCE; "+until("a")+until("b"))
	b.Run(event("a", Primary, 1))
	b.Run(event("b", Primary, 1))
	for _, r := range b.wait(2) {
		if !r.OK {
			t.Errorf("%+v", r)
		}
	}
}

func TestWhichHooksRun(t *testing.T) {
	command := []string{"/bin/true"}
	b := newBenchOf(t,
		Hook{On: []Name{Primary}, Command: []string{"/bin/echo", "primary only"}},
		Hook{Instances: []string{"other"}, Command: []string{"/bin/echo", "other only"}},
		Hook{On: []Name{Fenced, Primary}, Instances: []string{"main"}, Command: []string{"/bin/echo", "both"}},
		Hook{Command: command})
	b.Run(event("main", Primary, 1))
	b.Run(event("main", Mirror, 1))
	b.wait(4)
	b.Run(event("other", Fenced, 1))
	var got []string
	for _, r := range b.wait(6) {
		got = append(got, fmt.Sprint(r.Event, " ", r.Detail))
	}
	if want := []string{"primary primary only", "primary both", "primary ", "mirror ", "fenced other only", "fenced "}; !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
}

// TestNeverBlocks: whoever tells of events does not wait, whatever the hooks do, and the newest event is told.
func TestNeverBlocks(t *testing.T) {
	b := newBench(t, "echo $WITNESS_EPOCH >> $0/log; touch $0/began; "+until("go"), "true")
	b.Run(event("main", Primary, 1))
	b.await("began")
	const events = 1000
	began := time.Now()
	for epoch := uint64(2); epoch <= events; epoch++ {
		b.Run(event("main", Primary, epoch))
	}
	if took := time.Since(began); took > time.Second {
		t.Errorf("%v for %d events", took, events)
	}
	if got, want := b.Dropped(), uint64(events-1-queueLimit); got != want {
		t.Errorf("%d events dropped, want %d", got, want)
	}
	// Dropped ones were told, but must not be confirmed before what runs.
	if got := b.Unconfirmed("main", 5); len(got) != 0 {
		t.Errorf("to confirm: %+v", got)
	}
	b.make("go")
	done := b.wait(2 * events)
	var ran []string
	for epoch := events - queueLimit + 1; epoch <= events; epoch++ {
		ran = append(ran, fmt.Sprint(epoch))
	}
	if got := strings.Fields(b.file("log")); got[0] != "1" || !slices.Equal(got[1:], ran) {
		t.Errorf("ran %v", got)
	}
	lost := 0
	for _, r := range done {
		if !r.OK {
			lost++
			if !strings.HasPrefix(r.Detail, "not run: ") {
				t.Errorf("%+v", r)
			}
		}
	}
	if want := 2 * int(b.Dropped()); lost != want {
		t.Errorf("%d commands told as not run, want %d", lost, want)
	}
}

func TestUnconfirmed(t *testing.T) {
	b := newBench(t, "true")
	if got := b.Unconfirmed("main", 5); got != nil {
		t.Errorf("before anything ran: %+v", got)
	}
	for epoch := range uint64(5) {
		b.Run(event("main", Primary, epoch))
	}
	b.Run(event("other", Primary, 1))
	b.wait(6)
	sequences := func(instance string, most int) (list []uint64) {
		for _, r := range b.Unconfirmed(instance, most) {
			list = append(list, r.Sequence)
		}
		return list
	}
	if got := sequences("main", 3); !slices.Equal(got, []uint64{1, 2, 3}) {
		t.Errorf("%v", got)
	}
	b.Confirm("main", 2)
	b.Confirm("none", 2)
	if got := sequences("main", 100); !slices.Equal(got, []uint64{3, 4, 5}) {
		t.Errorf("after the confirmation: %v", got)
	}
	if got := sequences("other", 100); !slices.Equal(got, []uint64{6}) {
		t.Errorf("of the other instance: %v", got)
	}
	b.Confirm("main", 99)
	of := event("main", Fenced, 1)
	of.PairID = "p-0"
	b.Run(of)
	b.Run(event("main", Primary, 1))
	b.wait(8)
	if got := sequences("main", 100); !slices.Equal(got, []uint64{8}) {
		t.Errorf("after the instance has changed its pair: %v", got)
	}
	for n := range keptLimit + 10 {
		b.Run(event("main", Primary, 9))
		b.wait(8 + n + 1)
	}
	if got := sequences("main", 1000); len(got) != keptLimit {
		t.Errorf("%d results are kept when nobody confirms", len(got))
	}
}

// TestClose: what waits is not run, what runs is ended, and nothing runs afterwards.
func TestClose(t *testing.T) {
	b := newBench(t, "touch $0/began; sleep 60", "touch $0/second")
	b.Run(event("main", Primary, 1))
	b.Run(event("main", Fenced, 1))
	b.await("began")
	began := time.Now()
	b.Close()
	if took := time.Since(began); took > closeGrace {
		t.Errorf("took %v", took)
	}
	b.Run(event("main", Primary, 2))
	done := b.wait(1)
	if len(done) != 1 || done[0].OK || !strings.HasPrefix(done[0].Detail, "ended because the agent stops") {
		t.Errorf("%+v", done)
	}
	if _, err := os.Stat(filepath.Join(b.dir, "second")); err == nil {
		t.Error("the next command ran")
	}
}

// TestRecord: what was done without a command waits for its confirmation like a command's end.
func TestRecord(t *testing.T) {
	b := newBench(t)
	b.Record(Result{Event: "rescue", Instance: "main", PairID: "p1", Command: "SET WITNESS OFF", OK: true})
	b.Record(Result{Event: "rescue", Instance: "main", PairID: "p1", Command: "SET WITNESS = spare"})
	got := b.Unconfirmed("main", 4)
	if len(got) != 2 || got[0].Command != "SET WITNESS OFF" || got[1].Sequence <= got[0].Sequence {
		t.Fatalf("unconfirmed %+v", got)
	}
	b.Confirm("main", got[0].Sequence)
	if got := b.Unconfirmed("main", 4); len(got) != 1 || got[0].Command != "SET WITNESS = spare" {
		t.Errorf("after the confirmation %+v", got)
	}
	b.Record(Result{Event: "rescue", Instance: "main", PairID: "p2", Command: "SET WITNESS OFF"})
	if got := b.Unconfirmed("main", 4); len(got) != 1 || got[0].PairID != "p2" {
		t.Errorf("of the new pair %+v", got)
	}
	b.Close()
	b.Record(Result{Event: "rescue", Instance: "main", PairID: "p2", Command: "too late"})
	if got := b.Unconfirmed("main", 4); len(got) != 1 {
		t.Errorf("after the end %+v", got)
	}
}

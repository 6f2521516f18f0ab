package fleet

import (
	"context"
	"strings"
	"testing"
	"time"
)

// clockOf is the wall clock of the host's database.
func clockOf(t *testing.T, h *Host) time.Time {
	t.Helper()
	c, err := (&Client{Place: Place{On: h}, To: []string{h.Database}}).connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	row, err := c.ask(t.Context(), "select to_char(clock_timestamp() at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS.US')")
	if err != nil {
		t.Fatal(err)
	}
	at, err := time.Parse("2006-01-02 15:04:05.999999", row[0])
	if err != nil {
		t.Fatal(err)
	}
	return at
}

// One fleet with all that can be made bad: the pair becomes armed, users and pgbench work, and what is made bad
// is felt where it should be.
func TestLaboratory(t *testing.T) {
	requireRoot(t)
	ctx, cancel := context.WithTimeout(t.Context(), 150*time.Second)
	defer cancel()
	f, err := Start(ctx, Options{Engine: "postgres", Pairs: []string{"p"}, Namespaces: true, Log: t.Output(),
		Lines: true, Clocks: true, DiskMB: 300, WalMB: 100})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	p := f.Pairs[0]
	p.Scale = 1
	took, err := f.WaitArmed(ctx, time.Minute)
	if err != nil {
		t.Fatalf("%v\n%s", err, p.Hosts[0].Logs(20))
	}
	t.Logf("armed after %v", took)
	primary, mirror, err := p.Primary()
	if err != nil {
		t.Fatal(err)
	}
	clients, err := p.Run(ctx, primary, p.Writers())
	if err != nil {
		t.Fatal(err)
	}
	defer clients.Stop()
	stop, err := p.Pgbench(ctx, 2)
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if err := primary.StepClock(time.Hour); err != nil {
		t.Fatal(err)
	}
	if off := time.Until(clockOf(t, primary)); off < 59*time.Minute || off > 61*time.Minute {
		t.Errorf("the primary's database after a step of an hour is off by %v", off)
	}
	if off := time.Until(clockOf(t, mirror)); off.Abs() > time.Minute {
		t.Errorf("the mirror's database is off by %v although its clock was not stepped", off)
	}
	if err := f.Nodes[0].StepClock(-time.Hour); err != nil {
		t.Fatal(err)
	}
	time.Sleep(2500 * time.Millisecond)
	tps, err := stop()
	if err != nil {
		t.Error(err)
	}
	now := time.Now()
	users := map[bool]int{}
	for _, a := range clients.Answers() {
		if !a.Client.Direct() {
			users[a.Client.Libpq]++
		}
	}
	t.Logf("pgbench: %.0f transactions/s; commits of psql %d, of pgx %d; outage %v", tps, users[true], users[false],
		clients.Outage(began, now))
	if users[true] < 10 || users[false] < 10 {
		t.Errorf("commits of psql %d, of pgx %d; want 10 of each", users[true], users[false])
	}
	if d := clients.Doubles(); len(d.Certain)+len(d.Late) > 0 {
		t.Errorf("acknowledged by two hosts: %v", d)
	}
	agentsClock(t, primary, f.Nodes[0])
	if err := primary.FillWal(); err != nil {
		t.Error(err)
	}
	// Segments that exist already are written to as ever: it takes a load to come to their end.
	if stop, err = p.Pgbench(ctx, 4); err != nil {
		t.Fatal(err)
	}
	defer func() { _, _ = stop() }()
	// The server ends itself, and the mirror takes over, which may take less than clients would call an outage.
	for end := time.Now().Add(30 * time.Second); ; {
		if serving, _, err := p.Primary(); err == nil && serving != primary {
			break
		}
		if time.Now().After(end) {
			t.Fatal("a full disk of the log is felt by nobody")
		}
		time.Sleep(50 * time.Millisecond)
	}
	if err := primary.FreeWal(); err != nil {
		t.Error(err)
	}
	t.Logf("full disk of the log felt after %v", time.Since(now))
	if took, err = f.WaitArmed(ctx, time.Minute); err != nil {
		t.Fatal(err)
	}
	t.Logf("armed again after %v", took)
	readOnlyMirror(ctx, t, p)
}

// readOnlyMirror breaks the disk of the pair's mirror and repairs it.
func readOnlyMirror(ctx context.Context, t *testing.T, p *Pair) {
	t.Helper()
	_, mirror, err := p.Primary()
	if err != nil {
		t.Fatal(err)
	}
	if err := mirror.DiskReadOnly(); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		got, err := mirror.fleet.Get(ctx, p.Name)
		if err == nil && !Armed(got) {
			break
		}
		if time.Now().After(end) {
			t.Error("the mirror's disk is read-only, and the pair is armed")
			break
		}
	}
	began := time.Now()
	if err := mirror.DiskWritable(); err != nil {
		t.Fatal(err)
	}
	repaired := time.Since(began)
	time.Sleep(time.Second) // what is known of the mirror may be older than its fault
	took, err := mirror.fleet.WaitArmed(ctx, time.Minute)
	if err != nil {
		t.Fatalf("%v\n%s", err, mirror.Logs(20))
	}
	t.Logf("repaired in %v, armed %v later", repaired, took)
}

// agentsClock looks whether the agent and the node live in the time that their clocks were stepped to: by their logs.
func agentsClock(t *testing.T, h *Host, n *Node) {
	t.Helper()
	h.RestartAgent()
	n.Kill()
	if err := n.Start(); err != nil {
		t.Fatal(err)
	}
	last := func(logs func(int) string) time.Time {
		stamp, _, _ := strings.Cut(strings.TrimPrefix(logs(1), "time="), " ")
		at, _ := time.Parse(time.RFC3339Nano, stamp)
		return at
	}
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		host, node := time.Until(last(h.Logs)), time.Until(last(n.Logs))
		if host > 59*time.Minute && node < -59*time.Minute {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("agent's clock is off by %v, node's by %v; want 1 h and -1 h", host, node)
		}
	}
}

//go:build linux

package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/witnessd/witnessd/agent/engine"
)

func TestHolds(t *testing.T) {
	const forked, forkedEarly = "1\t0/100\tx\n", "1\t0/80\tx\n"
	for _, test := range []struct {
		name         string
		then         string
		thenTimeline uint32
		at           lsn
		now          string
		nowTimeline  uint32
		end          lsn
		want         bool
	}{
		{name: "further", thenTimeline: 1, at: 0x80, nowTimeline: 1, end: 0x90, want: true},
		{name: "level", thenTimeline: 1, at: 0x80, nowTimeline: 1, end: 0x80, want: true},
		{name: "behind", thenTimeline: 1, at: 0x80, nowTimeline: 1, end: 0x7F},
		{name: "promoted later", thenTimeline: 1, at: 0x80, now: forked, nowTimeline: 2, end: 0x180, want: true},
		{name: "promoted there", thenTimeline: 1, at: 0x100, now: forked, nowTimeline: 2, end: 0x100, want: true},
		{name: "promoted before", thenTimeline: 1, at: 0x90, now: forkedEarly, nowTimeline: 2, end: 0x180},
		{name: "on the same new timeline", then: forked, thenTimeline: 2, at: 0x180, now: forked, nowTimeline: 2,
			end: 0x180, want: true},
		{name: "another timeline of that number", then: forked, thenTimeline: 2, at: 0x180, now: forkedEarly,
			nowTimeline: 2, end: 0x200},
		{name: "before the promotion", then: forked, thenTimeline: 2, at: 0x180, nowTimeline: 1, end: 0x200},
		{name: "the switch received, not yet a byte after it", then: forked, thenTimeline: 2, at: 0x90,
			nowTimeline: 1, end: 0x90, want: true},
		{name: "a new receiver begins at its file's start", thenTimeline: 1, at: 0x80, now: forked, nowTimeline: 2,
			end: 0x90, want: true},
		{name: "its history goes further than its log", thenTimeline: 1, at: 0x98, now: forked, nowTimeline: 2, end: 0x90},
	} {
		then, err := newLineage(test.then, point{test.thenTimeline, test.at})
		check(t, err)
		now, err := newLineage(test.now, point{test.nowTimeline, test.end})
		check(t, err)
		if got := now.holds(then.mark(test.at)); got != test.want {
			t.Errorf("%s: %v", test.name, got)
		}
	}
}

func TestLevel(t *testing.T) {
	start := time.Unix(1000, 0)
	l := level{}
	for i, step := range []struct {
		run     string
		own     point
		primary lsn
		after   time.Duration
		want    bool
	}{
		{"a", point{1, 0x80}, 0x100, 0, false},
		{"a", point{1, 0x90}, 0x120, time.Second, false}, // the goal stays: a busy primary is always ahead
		{"a", point{1, 0x100}, 0x140, 2 * time.Second, false},
		{"a", point{1, 0x110}, 0x180, 3 * time.Second, false},
		{"a", point{2, 0x150}, 0x200, 5 * time.Second, false}, // that was the end of an older timeline
		{"a", point{2, 0x200}, 0x300, 6 * time.Second, false},
		{"a", point{2, 0x210}, 0x300, 8 * time.Second, true},
		{"b", point{2, 0x210}, 0x300, 9 * time.Second, false},
	} {
		if got := l.seen(step.run, step.own, step.primary, start.Add(step.after)); got != step.want {
			t.Errorf("look %d: %v", i, got)
		}
	}
}

// onFile waits until the host has on file that it came at least so far.
func (h *host) onFile(least uint64) {
	h.t.Helper()
	eventually(h.t, h.name+" has written down how far it came", func() error {
		h.see()
		var got reached
		text, err := os.ReadFile(h.cfg.StateFile)
		if err == nil {
			err = json.Unmarshal(text, &got)
		}
		if err == nil && uint64(got.At) < least {
			err = errors.New(got.String())
		}
		return err
	})
}

// reopen replaces the engine as a restart of the agent does.
func (h *host) reopen() {
	h.t.Helper()
	h.reaped()
	check(h.t, h.Engine.Close())
	h.open()
}

// reaped waits until the engine has reaped a server that was killed: it is the test's own child, and another
// engine would not do it.
func (h *host) reaped() {
	h.mu.Lock()
	r := h.current
	h.mu.Unlock()
	if r != nil && !serves(r.pid, h.Engine.cfg.DataDir) {
		<-r.gone
	}
}

// olderDisk makes a pair and then puts an older copy of the mirror's disk in place of its own.
func olderDisk(t *testing.T) (a, b *host) {
	t.Helper()
	a, b = newPair(t)
	check(t, b.Stop(within(t, ample)))
	snapshot := filepath.Join(b.cfg.SocketDir, "snapshot")
	copyDir(t, b.cfg.DataDir, snapshot)
	b.follows(a)
	a.client().must("insert into t select generate_series(1, 50000)")
	b.onFile(a.see().Position.Offset)
	check(t, b.Stop(within(t, ample)))
	if got := b.see(); !got.Promotable {
		t.Fatalf("stopped, with its own disk: %+v", got)
	}
	copyDir(t, snapshot, b.cfg.DataDir)
	return a, b
}

// TestOlderDisk: a mirror that comes up with an older disk would lose what it had confirmed. It is not promoted,
// by whatever agent, until it has caught up with the primary.
func TestOlderDisk(t *testing.T) {
	a, b := olderDisk(t)
	a.crash()
	refused := func(what string) {
		t.Helper()
		if got := b.see(); got.Promotable || !strings.Contains(got.NotPromotable, "older disk or snapshot") {
			t.Errorf("%s: %+v", what, got)
		}
	}
	b.reopen()
	refused("stopped")
	check(t, b.Standby(within(t, ample)))
	refused("running")
	began := time.Now()
	err := b.Promote(within(t, ample), a.peer())
	if !errors.Is(err, engine.ErrNoData) || !strings.Contains(err.Error(), b.cfg.StateFile) {
		t.Fatalf("promoted: %v", err)
	}
	t.Logf("refused in %v", time.Since(began))
	check(t, b.Stop(within(t, ample)))
	if err := b.Promote(within(t, ample), a.peer()); !errors.Is(err, engine.ErrNoData) {
		t.Fatalf("promoted from a stop: %v", err)
	}
	if got := b.see(); got.Role != engine.RoleMirror {
		t.Fatalf("refused, and is %+v", got)
	}

	a.serve(b)
	if steps := b.rejoinSteps(a); strings.Contains(steps, "clone") || strings.Contains(steps, "rewind") {
		t.Errorf("came back by %s", steps)
	}
	b.until("caught up", func(s engine.State) bool { return s.Promotable })
	a.crash()
	b.serve(a)
	if n := b.client().one("select count(*) from t"); n != "50000" {
		t.Errorf("%s rows", n)
	}
}

// rejoinSteps follows the partner and returns the steps that it took.
func (h *host) rejoinSteps(partner *host) string {
	h.t.Helper()
	var steps []string
	check(h.t, h.Follow(within(h.t, ample), partner.peer(), func(p engine.Progress) {
		if len(steps) == 0 || steps[len(steps)-1] != p.Step {
			steps = append(steps, p.Step)
		}
	}))
	return strings.Join(steps, " ")
}

// TestOlderDiskAllTheSame: an operator may say that older data is the best that is left.
func TestOlderDiskAllTheSame(t *testing.T) {
	a, b := olderDisk(t)
	a.crash()
	check(t, b.Standby(within(t, ample)))
	if got := b.see(); got.Promotable {
		t.Fatalf("%+v", got)
	}
	check(t, os.Remove(b.cfg.StateFile))
	if got := b.see(); !got.Promotable {
		t.Errorf("after the file was deleted: %+v", got)
	}
	b.serve(a)
}

// TestCrashedMirrorPromotable: a mirror that is killed at any point of a busy stream finds the last record that
// it received torn, and must be promotable all the same once it has replayed its log.
func TestCrashedMirrorPromotable(t *testing.T) {
	a, b := newPair(t)
	check(t, a.ReleaseCommits(within(t, ample)))
	stop, stopped := make(chan struct{}), make(chan error, 1)
	load := a.client()
	go func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				stopped <- nil
				return
			default:
			}
			// Records of more than a page, which are sent in parts.
			err := load.exec("select pg_logical_emit_message(true, 'x', repeat('y', "+
				strconv.Itoa(20000+i%7*4096)+"))", ample)
			if err != nil {
				stopped <- err
				return
			}
		}
	}()
	torn := 0
	for range 8 {
		for range 20 {
			b.see()
		}
		had := b.see()
		b.crash()
		b.reaped()
		check(t, b.Standby(within(t, ample)))
		got := b.until("promotable after its crash", func(s engine.State) bool { return s.Promotable })
		if got.Position.Offset < had.Position.Offset {
			torn++
		}
		check(t, b.Engine.checkReached(within(t, ample), mustRun(t, b)))
		b.follows(a)
	}
	t.Logf("%d of 8 crashes left the mirror behind what it had received", torn)
	close(stop)
	check(t, <-stopped)
	// From a stop a promotion must wait for the replay, which takes its time.
	a.client().must("insert into t select generate_series(1, 300000)")
	end := a.see().Position.Offset
	b.until("has replayed all", func(s engine.State) bool { return s.Replayed.Offset >= end })
	a.crash()
	b.crash()
	b.reaped()
	b.serve(a)
}

func mustRun(t *testing.T, h *host) *run {
	t.Helper()
	r, err := h.server()
	check(t, err)
	return r
}

// TestReachedThroughLife: nothing that the agent does with a healthy pair makes a mirror look older than it is,
// also when the agent is restarted in between.
func TestReachedThroughLife(t *testing.T) {
	a, b := newPair(t)
	check(t, a.ReleaseCommits(within(t, ample)))
	rows := 0
	for round := range 2 {
		a.client().must("insert into t values (1)")
		rows++
		b.until("has it", func(s engine.State) bool { return s.Replayed.Offset >= a.see().Position.Offset })
		b.onFile(a.see().Position.Offset)

		check(t, b.Stop(within(t, ample)))
		b.reopen()
		check(t, b.Standby(within(t, ample)))
		b.until("promotable after a restart", func(s engine.State) bool { return s.Promotable })
		b.follows(a)
		b.crash()
		b.reopen()

		// Lost: what a commits alone now. It must go back for b.
		a.client().must("insert into t select generate_series(1, 1000)")
		a.crash()
		b.serve(a)
		check(t, b.ReleaseCommits(within(t, ample)))
		b.client().must("insert into t values (1)")
		rows++
		a.reopen()
		if round == 1 {
			a.Engine.cfg.Rejoin.AllowRewind = false
		}
		if steps := a.rejoin(b); !strings.Contains(steps, []string{"rewind", "clone"}[round]) {
			t.Errorf("came back by %s", steps)
		}
		a.until("promotable after "+[]string{"rewind", "clone"}[round],
			func(s engine.State) bool { return s.Promotable && s.Following })
		got, err := b.HandOver(within(t, ample), a.peer())
		check(t, err)
		if !got.MirrorHasEverything {
			t.Fatalf("%+v", got)
		}
		a.serve(b)
		check(t, a.ReleaseCommits(within(t, ample)))
		b.rejoin(a)
	}
	b.hasRows(strconv.Itoa(rows))
}

// TestReachedMadeAnew: a primary that was itself taken back, because an operator chose so, takes its mirror back by
// a rewind or a clone, and the mirror is promotable as soon as that is done.
func TestReachedMadeAnew(t *testing.T) {
	for _, way := range []string{"rewind", "clone"} {
		t.Run(way, func(t *testing.T) {
			a, b := newPair(t, func(c *Config) { c.Rejoin.AllowRewind = way == "rewind" })
			check(t, b.Stop(within(t, ample)))
			snapshot := filepath.Join(a.cfg.SocketDir, "snapshot")
			copyDir(t, b.cfg.DataDir, snapshot)
			b.follows(a)
			a.client().must("insert into t select generate_series(1, 1000)")
			b.onFile(a.see().Position.Offset)
			check(t, a.Stop(within(t, ample)))
			check(t, b.Stop(within(t, ample))) // Its receiver would try by itself, and may look as if it followed.
			copyDir(t, snapshot, a.cfg.DataDir)
			a.serve(b)
			check(t, a.ReleaseCommits(within(t, ample)))
			a.client().must("insert into t values (2)")
			if got := b.see(); !got.Promotable {
				t.Fatalf("before: %+v", got)
			}
			if steps := b.rejoin(a); !strings.Contains(steps, way) {
				t.Errorf("came back by %s", steps)
			}
			b.hasRows("1")
		})
	}
}

// lie starts the host's engine anew with a file that tells of more than the host ever had.
func (h *host) lie(systemID string) {
	h.t.Helper()
	text, err := json.Marshal(reached{
		Receiver: receiverName(h.peer().Pair), SystemID: systemID, mark: mark{Timeline: 2, At: 1 << 40},
	})
	check(h.t, err)
	check(h.t, h.Engine.Close())
	check(h.t, os.WriteFile(h.cfg.StateFile, text, 0o600))
	h.open()
}

// TestReachedReplaying: a copy that has not replayed its log to the end is not refused for what it lacks yet.
func TestReachedReplaying(t *testing.T) {
	a, b := newPair(t)
	check(t, b.Stop(within(t, ample)))
	check(t, b.Standby(within(t, ample)))
	c := b.client()
	c.must("select pg_wal_replay_pause()")
	eventually(t, "replay pauses", func() error {
		if got := c.one("select wait_event from pg_stat_activity where backend_type = 'startup'"); got != "RecoveryPause" {
			return errors.New(got)
		}
		return nil
	})
	b.lie(a.see().SystemID)
	if err := b.Promote(within(t, 300*time.Millisecond), a.peer()); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("while it replays: %v", err)
	}
	c.must("select pg_wal_replay_resume()")
	if err := b.Promote(within(t, ample), a.peer()); !errors.Is(err, engine.ErrNoData) {
		t.Errorf("when it has replayed: %v", err)
	}
}

// TestReachedLevel: a mirror whose log is not what the file tells of, because somebody has made it anew by hand,
// is promotable once it is level with its primary, and a mirror of a new pair at once.
func TestReachedLevel(t *testing.T) {
	a, b := newPair(t)
	lie := func() { b.lie(a.see().SystemID) }
	lie()
	if got := b.see(); got.Promotable {
		t.Fatalf("%+v", got)
	}
	began := time.Now()
	b.until("level", func(s engine.State) bool { return s.Promotable })
	t.Logf("level after %v", time.Since(began))
	b.onFile(1)

	lie()
	if got := b.see(); got.Promotable {
		t.Fatalf("%+v", got)
	}
	peer := a.peer()
	peer.Pair = "another"
	b.named(peer)
	if got := b.see(); !got.Promotable {
		t.Errorf("in another pair: %+v", got)
	}

	// A file that makes no sense is as none.
	check(t, b.Engine.Close())
	check(t, os.WriteFile(b.cfg.StateFile, []byte("{"), 0o600))
	b.open()
	if got := b.see(); !got.Promotable {
		t.Errorf("with a broken file: %+v", got)
	}
}

// TestReachedNotAsked: a server that lets no replication command in over its socket cannot tell its timeline. That
// is no reason to keep its mirror from a promotion.
func TestReachedNotAsked(t *testing.T) {
	for name, way := range map[string]struct {
		hba  string
		full bool
	}{
		"not let in":              {hba: "local replication all reject\n"},
		"asked for a password":    {hba: "local replication all scram-sha-256\n"},
		"every place is taken up": {full: true},
	} {
		t.Run(name, func(t *testing.T) {
			a, b := newPair(t)
			a.client().must("insert into t values (1)")
			b.onFile(a.see().Position.Offset)
			check(t, b.Stop(within(t, ample)))
			hba, err := os.ReadFile(b.path("pg_hba.conf"))
			check(t, err)
			check(t, os.WriteFile(b.path("pg_hba.conf"), append([]byte(way.hba), hba...), 0o600))
			b.reopen()
			a.crash()
			check(t, b.Standby(within(t, ample)))
			if way.full {
				b.fillSenders()
			}
			b.until("promotable", func(s engine.State) bool { return s.Promotable })
			b.Engine.remembered.fine = "" // As if nobody had looked in between.
			b.serve(a)
		})
	}
}

// fillSenders takes every place that the host's server has for replication.
func (h *host) fillSenders() {
	h.t.Helper()
	address, port, err := net.SplitHostPort(h.cfg.Listen)
	check(h.t, err)
	for {
		conn, err := pgconn.Connect(within(h.t, ample), dsn(map[string]string{
			"host": address, "port": port, "user": h.cfg.Superuser, "sslmode": "disable", "replication": "true",
		}))
		if hasCode(err, codeTooMany) {
			return
		}
		check(h.t, err)
		h.t.Cleanup(func() { _ = conn.Conn().Close() })
	}
}

// TestReachedForgottenFirst: an agent that ends while it waits for the first change has already forgotten what the
// copy had before it was made anew.
func TestReachedForgottenFirst(t *testing.T) {
	a, b := newPair(t)
	b.lie(a.see().SystemID)
	check(t, os.WriteFile(b.path(incompleteFile), nil, 0o600))
	f := &following{Engine: b.Engine, peer: a.peer(), end: point{timeline: 99}}
	if err := f.stream(within(t, 300*time.Millisecond), mustRun(t, b)); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("changes of a timeline that does not exist: %v", err)
	}
	if exists(b.path(incompleteFile)) {
		t.Error("the copy is still taken for incomplete")
	}
	b.reopen()
	if got := b.see(); !got.Promotable {
		t.Errorf("the next agent: %+v", got)
	}
}

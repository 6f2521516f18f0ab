//go:build linux

package postgres

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/witnessd/witnessd/agent/engine"
)

// consistent waits until the server lets readers in, for as long as it receives what it lacks.
func (f *following) consistent(ctx context.Context, r *run) error {
	way := distance{}
	defer f.tellWhile(ctx, func() engine.Progress {
		received, streaming := f.received()
		if !streaming {
			return engine.Progress{Step: "catch-up", Detail: f.replaying()}
		}
		p := way.progress(received, max(received, f.end.at))
		p.Detail = "until the copy is consistent"
		return p
	})()
	for {
		waiting, cancel := context.WithTimeoutCause(ctx, streamPatience, errUnfinished)
		err := f.awaitReady(waiting, r)
		cancel()
		if err == nil || ctx.Err() != nil || !r.alive() {
			return err
		}
		if _, streaming := f.received(); !streaming {
			return err
		}
	}
}

// titles are the names that the server's processes give themselves, by which one that cannot be asked yet
// tells what it does.
func (e *Engine) titles() []string {
	found, err := serverProcesses(e.cfg.DataDir)
	if err != nil {
		return nil
	}
	var titles []string
	for _, p := range found.children {
		if line, err := os.ReadFile("/proc/" + strconv.Itoa(p.pid) + "/cmdline"); err == nil {
			titles = append(titles, strings.TrimRight(string(line), "\x00 "))
		}
	}
	return titles
}

// received is how far a receiver at work has come, in a server that cannot be asked yet.
func (e *Engine) received() (at lsn, streaming bool) {
	for _, title := range e.titles() {
		if place, ok := strings.CutPrefix(title, "postgres: walreceiver streaming"); ok {
			at, _ = parseLSN(place) // Not there in its first moments.
			return at, true
		}
	}
	return 0, false
}

// replaying tells what a server does that replays its own log before it can be asked.
func (e *Engine) replaying() string {
	for _, title := range e.titles() {
		if segment, ok := strings.CutPrefix(title, "postgres: startup recovering "); ok {
			return "the server replays its own log, at " + segment
		}
	}
	return "the server starts"
}

// distance is how far a mirror has come since it was looked at first.
type distance struct{ from lsn }

func (d *distance) progress(at, end lsn) engine.Progress {
	if d.from == 0 || at < d.from {
		d.from = at
	}
	return engine.Progress{Step: "catch-up", Done: int64(at - d.from), Total: int64(end - d.from)}
}

// awaitChanges waits until the receiver is connected and on the primary's timeline: one that still fetches
// the end of an older one breaks off there once more. It is patient with one that comes nearer.
func (f *following) awaitChanges(ctx context.Context, r *run) error {
	const sql = `select coalesce(received_tli, 0) >= $1::int, coalesce(flushed_lsn, '0/0'),
		coalesce(latest_end_lsn, '0/0') from pg_stat_wal_receiver where status = 'streaming'`
	way, reached, patience := distance{}, lsn(0), now().Add(streamPatience)
	told := now()
	for {
		rows, err := f.acting.query(ctx, r, sql, strconv.FormatUint(uint64(f.end.timeline), 10))
		if err != nil {
			return err
		}
		if len(rows) == 1 {
			at, end, err := twoPlaces(rows[0].text(1), rows[0].text(2))
			if err != nil {
				return err
			}
			p := way.progress(at, max(at, end, f.end.at))
			if rows[0].true(0) {
				f.tell(p)
				return nil
			}
			if at > reached {
				reached, patience = at, now().Add(streamPatience)
			}
			if since(told) >= tellEvery {
				told = now()
				f.tell(p)
			}
		}
		err = pause(ctx)
		if err == nil && now().After(patience) {
			err = errSlow
		}
		if err != nil {
			return fmt.Errorf("wait for changes from %s: %w; its log ends with: %s",
				f.peer.Host, err, f.lastLog())
		}
	}
}

func twoPlaces(a, b string) (lsn, lsn, error) {
	first, err := parseLSN(a)
	if err != nil {
		return 0, 0, err
	}
	second, err := parseLSN(b)
	return first, second, err
}

// A mirror is told to catch up from behindMuch until it is behindLittle behind: on a busy primary every mirror
// is a little behind at every moment.
const (
	behindMuch   = 16 << 20
	behindLittle = 1 << 20
)

// catchUp is what is shown of a mirror that receives changes and is still behind. Follow has ended by then. It
// belongs to the look at the server, of which there is one at a time.
type catchUp struct {
	run   string
	on    bool
	began time.Time
	way   distance
	meter meter
	text  string
}

// lookBehind keeps what to show of a mirror that is behind the end of the primary's log, as its receiver heard of
// it last; nil without a receiver at work.
func (e *Engine) lookBehind(ctx context.Context, r *run, at lsn, end []byte) error {
	if end == nil {
		return nil
	}
	there, err := parseLSN(string(end))
	if err != nil {
		return err
	}
	e.catching.text = e.catching.step(ctx, e.log, r.id, at, there)
	return nil
}

// step is what to show of a mirror that has received so much of a log that ends there, or nothing.
func (c *catchUp) step(ctx context.Context, log *slog.Logger, run string, at, end lsn) string {
	if c.run != run {
		*c = catchUp{run: run}
	}
	behind := uint64(0)
	if end > at {
		behind = uint64(end - at)
	}
	switch {
	case !c.on && behind < behindMuch:
		return ""
	case c.on && behind < behindLittle:
		log.InfoContext(ctx, "mirror has caught up", slog.Duration("took", since(c.began)),
			slog.Uint64("bytes", uint64(at-c.way.from)))
		*c = catchUp{run: run}
		return ""
	case !c.on:
		c.on, c.began = true, now()
	}
	return c.meter.measure(c.way.progress(at, max(at, end)), now()).String()
}

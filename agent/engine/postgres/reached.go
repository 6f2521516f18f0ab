//go:build linux

package postgres

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/witnessd/witnessd/agent/engine"
)

// While a pair's right is leased, its mirror has all that was acknowledged, and may be promoted. That is no
// longer so if the mirror's disk was swapped for an older one, or a snapshot of it restored. Nothing in the data
// directory tells, so what the mirror once had is kept outside of it.
//
// Kept is the end of what was replayed, not of what was received: the last bytes received may be a part of a
// record only, which a restart finds to be no record at all, and a mirror that only restarted must not look
// like an older one. What was replayed had been flushed to disk before, so that it is found again after
// any crash.

// reached is the furthest place that this host's copy has come to as the mirror of a pair.
type reached struct {
	Receiver string `json:"receiver"` // names the pair
	SystemID string `json:"system_id"`
	mark
}

// isOf says whether r is about the pair with this receiver ("": not known yet) and this database.
func (r reached) isOf(receiver, systemID string) bool {
	return r.At > 0 && r.SystemID == systemID && (receiver == "" || receiver == r.Receiver)
}

// remembered is what the engine knows about the furthest place, and about what it has on file.
type remembered struct {
	mu      sync.Mutex
	loaded  bool
	mark    reached
	written reached
	at      time.Time // of the last write
	writing bool
	failed  bool // the last write; said once
	// fine is the run in which the copy was seen to hold the mark: from then on it does until the run ends.
	fine string
	// lineage is the log of run, as its history files tell it; what PostgreSQL has on file of a timeline it
	// does not change.
	lineage lineage
	run     string
	// level is how far a copy without the mark has come in catching up with its primary.
	level level

	file sync.Mutex // held while the file is changed
}

const (
	// reachedEvery is how often the file is written at most: it is asked for after days, not seconds.
	reachedEvery = time.Second
	// levelFor is how long a mirror must have all that its primary had when it was first looked at, on the same
	// timeline, before it counts as its copy whatever its log was before.
	levelFor = 2 * time.Second
)

// level follows a mirror whose log does not hold the mark, until it is level with the primary. Then the log that
// it has is the pair's, and what it had before does not matter: an administrator has made it anew by hand, or
// the primary itself was restored.
type level struct {
	run    string
	target point // the end of the primary's log, when it was first looked at
	since  time.Time
}

// seen takes a look in, and says whether the mirror is level with its primary. Its goal is taken anew when the
// timeline changes: the end of an older timeline is not the end of the primary's log.
func (l *level) seen(run string, own point, primary lsn, at time.Time) bool {
	switch {
	case l.run != run || l.target.timeline != own.timeline:
		*l = level{run: run, target: point{timeline: own.timeline, at: primary}}
	case own.at < l.target.at:
		l.since = time.Time{}
	case l.since.IsZero():
		l.since = at
	default:
		return at.Sub(l.since) >= levelFor
	}
	return false
}

// load reads the file once. One that is missing or makes no sense is as none.
func (m *remembered) load(name string) {
	if m.loaded {
		return
	}
	m.loaded = true
	text, err := os.ReadFile(name)
	if err == nil && json.Unmarshal(text, &m.mark) != nil {
		m.mark = reached{}
	}
	m.written = m.mark
}

// copyLook is one look at a running copy.
type copyLook struct {
	systemID string
	own      point // the end of what it has
	replayed lsn
	// slot is by which it follows; "" if it does not receive changes now.
	slot string
	log  lineage
}

// lookAtReached says why a running copy must not be promoted, or "", and remembers how far it has come.
func (e *Engine) lookAtReached(ctx context.Context, r *run, look copyLook) string {
	if e.cfg.StateFile == "" {
		return ""
	}
	m := &e.remembered
	m.mu.Lock()
	defer m.mu.Unlock()
	m.load(e.cfg.StateFile)
	receiver := cmp.Or(e.receiverKnown(), look.slot)
	var err error
	if look.log, err = e.lineageOf(m, r, look.own); err != nil {
		return "" // Without the history nothing can be said; the server itself could not follow without it.
	}
	marked := m.mark.isOf(receiver, look.systemID)
	if !marked || look.log.holds(m.mark.mark) {
		m.fine = r.id
	}
	if m.fine != r.id && e.reachedGone(m) {
		m.fine = r.id
	}
	switch {
	case m.fine == r.id:
	case look.slot != "":
		e.catchUp(ctx, r, m, look)
	default:
		// Without a receiver the timeline may have been a guess.
		id, err := e.identifySelf(ctx, r)
		if err != nil {
			return ""
		}
		if look.log, err = e.lineageOf(m, r, id.end); err != nil || look.log.holds(m.mark.mark) {
			m.fine = r.id
		}
	}
	if m.fine != r.id {
		return e.tooOld(m.mark, look.own)
	}
	e.grow(m, look)
	return ""
}

// grow remembers a place further than before, and writes it down from time to time.
func (e *Engine) grow(m *remembered, look copyLook) {
	if !strings.HasPrefix(look.slot, receiverPrefix) || look.replayed == 0 {
		return
	}
	next := reached{Receiver: look.slot, SystemID: look.systemID, mark: look.log.mark(look.replayed)}
	if !m.mark.isOf(next.Receiver, next.SystemID) || !look.log.holds(m.mark.mark) || next.At > m.mark.At {
		m.mark = next
	}
	if m.mark != m.written && !m.writing && now().Sub(m.at) >= reachedEvery {
		m.at, m.writing = now(), e.background(e.writeReached)
	}
}

// writeReached puts what is remembered on file: replaced at once and whole, and not synced. A crash of the host
// may lose it, and with it a protection, but nothing that a decision needs.
func (e *Engine) writeReached() {
	m := &e.remembered
	m.file.Lock()
	defer m.file.Unlock()
	m.mu.Lock()
	want, have := m.mark, m.written
	m.mu.Unlock()
	var err error
	if want != have && want != (reached{}) {
		err = writeJSON(e.cfg.StateFile, want)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	said := m.failed
	m.writing, m.failed = false, err != nil
	if err == nil {
		m.written = want
	}
	if err == nil || said {
		return
	}
	e.log.Warn("not written down how far the mirror has come, which only protects from an older disk in its place",
		slog.Any("error", err))
}

func writeJSON(name string, value any) error {
	text, err := json.Marshal(value)
	if err != nil {
		return err
	}
	draft := name + ".draft"
	if err := os.WriteFile(draft, append(text, '\n'), 0o600); err != nil {
		return err
	}
	return os.Rename(draft, name)
}

// forgetReached is called when the copy was made anew from the primary, or belongs to no pair any more.
func (e *Engine) forgetReached() {
	if e.cfg.StateFile == "" {
		return
	}
	m := &e.remembered
	m.file.Lock()
	defer m.file.Unlock()
	m.mu.Lock()
	m.loaded, m.mark, m.written, m.level = true, reached{}, reached{}, level{}
	m.mu.Unlock()
	if err := os.Remove(e.cfg.StateFile); err != nil && !errors.Is(err, fs.ErrNotExist) {
		e.log.Warn("note of how far the mirror has come not removed", slog.Any("error", err))
	}
}

// reachedGone forgets the mark if somebody has deleted the file, which is how an operator says that the data
// is to be used although it is older.
func (e *Engine) reachedGone(m *remembered) bool {
	if _, err := os.Stat(e.cfg.StateFile); !errors.Is(err, fs.ErrNotExist) {
		return false
	}
	m.mark, m.written = reached{}, reached{}
	return true
}

// catchUp sees whether a mirror without the mark has become its primary's copy all the same.
func (e *Engine) catchUp(ctx context.Context, r *run, m *remembered, look copyLook) {
	const sql = "select latest_end_lsn from pg_stat_wal_receiver where latest_end_lsn is not null"
	rows, err := e.looking.query(ctx, r, sql)
	if err != nil || len(rows) == 0 {
		return
	}
	primary, err := parseLSN(rows[0].text(0))
	if err != nil || !m.level.seen(r.id, look.own, primary, now()) {
		return
	}
	e.log.WarnContext(ctx, "the mirror is level with its primary, whose log is not what the mirror once had",
		slog.String("once_had", m.mark.String()), slog.String("has", look.own.String()))
	m.mark, m.fine = reached{}, r.id
}

// lineageOf is the log of a running copy, up to its end.
func (e *Engine) lineageOf(m *remembered, r *run, end point) (lineage, error) {
	if m.run == r.id && m.lineage != nil && m.lineage.end().timeline == end.timeline {
		m.lineage[len(m.lineage)-1].end = end.at
		return m.lineage, nil
	}
	log, err := e.ownLineage(end)
	if err == nil {
		m.run, m.lineage = r.id, log
	}
	return log, err
}

// ownLineage is the data directory's log, if it ends at end.
func (e *Engine) ownLineage(end point) (lineage, error) {
	if end.timeline <= 1 {
		return newLineage("", end)
	}
	text, err := os.ReadFile(e.path(fmt.Sprintf("pg_wal/%08X.history", end.timeline)))
	if err != nil {
		return nil, fmt.Errorf("read the own history: %w", err)
	}
	return newLineage(string(text), end)
}

func (e *Engine) receiverKnown() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.receiver
}

// tooOld is the sentence about data that ends at end.
func (e *Engine) tooOld(m reached, end point) string {
	return fmt.Sprintf("as the pair's mirror this host had everything up to %v, and its data, which ends at %v, "+
		"does not hold that: an older disk or snapshot is in its place, or it has not yet replayed its log; "+
		"commits that were acknowledged would be lost; let it follow the primary, or, if this is the best "+
		"copy that is left, delete %s", m, end, e.cfg.StateFile)
}

// stoppedBehind says why a stopped instance must not be promoted. Where its log ends is not known before it has
// been replayed, so only what cannot be there counts: the place lies behind the last file of the log.
func (e *Engine) stoppedBehind(c control) string {
	if e.cfg.StateFile == "" {
		return ""
	}
	m := &e.remembered
	m.mu.Lock()
	defer m.mu.Unlock()
	m.load(e.cfg.StateFile)
	if !m.mark.isOf(e.receiverKnown(), c.systemID) || c.least().at >= m.mark.At {
		return ""
	}
	most, err := e.logEnd(c)
	if err != nil || most.at >= m.mark.At || e.reachedGone(m) {
		return ""
	}
	return e.tooOld(m.mark, most)
}

// logEnd is behind the last file of the log, so that the log ends there or before. PostgreSQL keeps the file
// that it has written to last, and makes or renames files only for what comes after it.
func (e *Engine) logEnd(c control) (point, error) {
	names, err := os.ReadDir(e.path("pg_wal"))
	if err != nil {
		return point{}, fmt.Errorf("look for the end of the log: %w", err)
	}
	end := c.least()
	perLog := uint64(1) << 32 / c.segmentSize
	for _, entry := range names {
		name, partial := strings.CutSuffix(entry.Name(), ".partial")
		if len(name) != 24 {
			continue
		}
		high, errHigh := strconv.ParseUint(name[8:16], 16, 32)
		low, errLow := strconv.ParseUint(name[16:], 16, 32)
		if errHigh != nil || errLow != nil || partial {
			continue
		}
		end.at = max(end.at, lsn((high*perLog+low+1)*c.segmentSize))
	}
	return end, nil
}

// checkReached refuses to promote a copy that is older than what this host once had. A copy that has just been
// started is given the time to replay its log, which a promotion would wait for as well.
func (e *Engine) checkReached(ctx context.Context, r *run) error {
	if e.cfg.StateFile == "" {
		return nil
	}
	for {
		why, replayed, err := e.reachedNow(ctx, r)
		if err != nil || why == "" {
			return err
		}
		if replayed {
			return fmt.Errorf("%w: %s", engine.ErrNoData, why)
		}
		select {
		case <-time.After(replayPoll):
		case <-ctx.Done():
			return fmt.Errorf("wait until the copy has replayed its log: %w", context.Cause(ctx))
		}
	}
}

// replayPoll is how often a copy that replays its log is asked how far it has come: each time takes a connection.
const replayPoll = 20 * time.Millisecond

// replayedSQL says whether a copy has replayed all that is on its own disk: only then does PostgreSQL wait for
// more, or for the time to ask for more.
const replayedSQL = `select exists (select from pg_stat_activity where backend_type = 'startup'
	and wait_event in ('RecoveryWalStream', 'RecoveryRetrieveRetryInterval'))`

func (e *Engine) reachedNow(ctx context.Context, r *run) (why string, replayed bool, err error) {
	m := &e.remembered
	receiver := e.receiverKnown()
	m.mu.Lock()
	m.load(e.cfg.StateFile)
	mark, fine := m.mark, m.fine == r.id
	m.mu.Unlock()
	if fine || mark.At == 0 {
		return "", false, nil
	}
	// Before the position: what is replayed after it was asked is not missed.
	rows, err := e.acting.query(ctx, r, replayedSQL)
	if err != nil {
		return "", false, err
	}
	id, err := e.identifySelf(ctx, r)
	if codeOf(err) != "" {
		// The server is there and does not let the question in: by pg_hba.conf, without a password, or because every
		// place for replication is taken. What cannot be known must not keep the last copy from serving.
		e.log.WarnContext(ctx, "not compared with what the mirror once had", slog.Any("error", err))
		return "", false, nil
	}
	if err != nil {
		return "", false, err
	}
	if !mark.isOf(receiver, id.systemID) {
		return "", false, nil
	}
	log, err := e.ownLineage(id.end)
	if err != nil {
		e.log.WarnContext(ctx, "not compared with what the mirror once had", slog.Any("error", err))
		return "", false, nil
	}
	if log.holds(mark.mark) {
		return "", false, nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if e.reachedGone(m) {
		return "", false, nil
	}
	return e.tooOld(mark, id.end), rows[0].true(0), nil
}

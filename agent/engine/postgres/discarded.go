//go:build linux

package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/witnessd/witnessd/agent/engine"
)

// Before a rejoin takes away log that only this host has, the log is kept and summarized: after a forced
// failover, or one of a primary that was alone, it is the only place where a transaction still is that a client
// was told of. A rewind keeps the segments of the log, a clone the whole directory.

// Bounds of what a rejoin does for the sake of what it discards: meanwhile the pair has no mirror.
const (
	tailBytes   = 1 << 30 // of log that a rewind keeps; and never more than a quarter of what is free
	tailTime    = 20 * time.Second
	tailDump    = 10 * time.Second // for reading which transactions are in it
	tailListed  = 1000             // transactions in the summary
	tailShown   = 50               // transactions in the text
	summaryFile = "summary.json"
	readmeFile  = "README.txt"
)

// lost is what of this host's log the primary does not have.
type lost struct {
	relation
	own         lineage
	segmentSize uint64
}

// stretches are the parts of the own log beyond the point where the logs part.
func (l lost) stretches() []stretch {
	var parts []stretch
	for _, s := range l.own {
		s.begin = max(s.begin, l.common.at)
		if s.begin < s.end {
			parts = append(parts, s)
		}
	}
	return parts
}

// discarded is one line of the note of what rejoins undid, and the head of a summary.
type discarded struct {
	Time     string `json:"time"`
	From     string `json:"from"`
	To       string `json:"to"`
	Timeline uint32 `json:"timeline"`
	Bytes    uint64 `json:"bytes"`
	Primary  string `json:"primary"`
	// Directory holds what was kept; "" if nothing was.
	Directory string `json:"directory,omitempty"`
	// Committed and Unfinished are transactions; those that were rolled back are in neither.
	Committed  int    `json:"committed"`
	Unfinished int    `json:"unfinished"`
	Incomplete string `json:"incomplete,omitempty"` // why not all of it was kept or read
}

// summary is what is known of a discarded tail.
type summary struct {
	discarded
	Records      int           `json:"records"`
	Transactions []transaction `json:"transactions"`
	// Relations are the files that were changed, as tablespace/database/filenode.
	Relations []string `json:"relations"`
}

func (f *following) describe(what lost, directory string) summary {
	return summary{discarded: discarded{
		Time: now().UTC().Format(time.RFC3339), From: what.common.at.String(), To: what.own.end().at.String(),
		Timeline: what.own.end().timeline, Bytes: what.discard, Primary: f.peer.Host, Directory: directory,
	}}
}

// incomplete adds a reason why a summary does not say all.
func (s *summary) incomplete(format string, args ...any) {
	if s.Incomplete != "" {
		s.Incomplete += "; "
	}
	s.Incomplete += fmt.Sprintf(format, args...)
}

// keepTail keeps and notes what a rewind is about to undo. It is not worth more than the pair's redundancy: what
// cannot be kept is said and let go.
func (f *following) keepTail(ctx context.Context) {
	if f.lost == nil {
		return
	}
	dir := ""
	if f.cfg.Rejoin.KeepDiverged > 0 {
		dir = f.asideName()
	}
	f.tell(engine.Progress{Step: "keep-aside", Detail: "reads what only this host has"})
	s := f.describe(*f.lost, dir)
	f.readTail(ctx, f.path("pg_wal"), *f.lost, &s)
	if dir != "" {
		if err := f.copyTail(ctx, dir, *f.lost, &s); err != nil {
			s.incomplete("not kept: %v", err)
		}
		f.writeSummary(ctx, dir, s, tailText)
	}
	f.note(ctx, "rewind", s)
}

// summarize says in a replaced directory what in it the primary does not have, if that is known.
func (f *following) summarize(ctx context.Context, dir string) {
	if f.lost == nil {
		f.log.WarnContext(ctx, "the replaced copy is kept as it is; what in it the primary does not have is not known",
			slog.String("directory", dir))
		return
	}
	s := f.describe(*f.lost, dir)
	f.readTail(ctx, filepath.Join(dir, "pg_wal"), *f.lost, &s)
	f.writeSummary(ctx, dir, s, wholeText)
	f.note(ctx, "clone", s)
}

// readTail finds out which transactions are in a tail.
func (f *following) readTail(ctx context.Context, wal string, what lost, s *summary) {
	ctx, cancel := context.WithTimeoutCause(ctx, tailDump, fmt.Errorf("it took more than %v", tailDump))
	defer cancel()
	dump := newDump()
	for _, part := range what.stretches() {
		err := f.streamTool(ctx, dump.line, "pg_waldump", "--path="+wal,
			fmt.Sprintf("--timeline=%d", part.timeline), "--start="+part.begin.String(), "--end="+part.end.String())
		if err != nil && (ctx.Err() != nil || !strings.Contains(err.Error(), "error in WAL record")) {
			s.incomplete("transactions of timeline %d not read to the end: %v", part.timeline, err)
		}
	}
	dump.fill(s)
}

// copyTail copies the segments that a tail is in, with the histories that say how they belong together. A link
// would not do: PostgreSQL uses a segment's file again for later log.
func (f *following) copyTail(ctx context.Context, dir string, what lost, s *summary) error {
	ctx, cancel := context.WithTimeout(ctx, tailTime)
	defer cancel()
	wal := filepath.Join(dir, "pg_wal")
	for _, name := range []string{dir, wal} {
		if err := os.Mkdir(name, 0o700); err != nil {
			return err
		}
		if err := os.Lchown(name, f.user.uid, f.user.gid); err != nil {
			return err
		}
	}
	free, err := freeIn(dir)
	if err != nil {
		return err
	}
	room := min(tailBytes, free/4)
	for _, part := range what.stretches() {
		if part.timeline > 1 {
			history := fmt.Sprintf("%08X.history", part.timeline)
			if _, err := f.copyOne(filepath.Join(wal, history), f.path("pg_wal/"+history)); err != nil {
				return err
			}
		}
		for at := part.begin - part.begin%lsn(what.segmentSize); at < part.end; at += lsn(what.segmentSize) {
			if room < int64(what.segmentSize) || ctx.Err() != nil {
				s.incomplete("only the log up to %v was kept: it is longer than there is room or time for", at)
				return nil
			}
			name := segmentName(part.timeline, at, what.segmentSize)
			n, err := f.copyOne(filepath.Join(wal, name), f.path("pg_wal/"+name))
			if errors.Is(err, os.ErrNotExist) {
				continue // The segment in which a timeline ends may have the next one's name.
			}
			if err != nil {
				return err
			}
			room -= n
		}
	}
	return nil
}

func (f *following) copyOne(to, from string) (int64, error) {
	source, err := os.Open(from)
	if err != nil {
		return 0, err
	}
	defer source.Close()
	target, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return 0, err
	}
	n, err := io.Copy(target, source)
	return n, errors.Join(err, target.Chown(f.user.uid, f.user.gid), target.Sync(), target.Close())
}

// writeSummary puts a summary beside what was kept.
func (f *following) writeSummary(ctx context.Context, dir string, s summary, how string) {
	text, err := json.MarshalIndent(s, "", "  ")
	var files *store
	if err == nil {
		files, err = openStore(dir, f.user)
	}
	if err == nil {
		defer files.close()
		err = errors.Join(files.write(summaryFile, append(text, '\n'), 0o600, true),
			files.write(readmeFile, []byte(s.text(how)), 0o600, true))
	}
	if err != nil {
		f.log.WarnContext(ctx, "no summary of what is discarded", slog.Any("error", err))
	}
}

// note keeps a record of what is discarded: in the log, in the step that is shown, and in a file beside the data
// directory, which outlives it.
func (f *following) note(ctx context.Context, step string, s summary) {
	f.log.WarnContext(ctx, "log that the primary does not have is discarded", slog.String("by", step),
		slog.String("from", s.From),
		slog.String("to", s.To), slog.Uint64("timeline", uint64(s.Timeline)), slog.Uint64("bytes", s.Bytes),
		slog.Int("committed", s.Committed), slog.Int("unfinished", s.Unfinished),
		slog.String("directory", s.Directory), slog.String("incomplete", s.Incomplete))
	f.tell(engine.Progress{Step: "keep-aside", Detail: s.sentence()})
	line, err := json.Marshal(s.discarded)
	if err == nil {
		err = f.appendBeside(".discarded", string(line))
	}
	if err != nil {
		f.log.WarnContext(ctx, "no note of the discarded log", slog.Any("error", err))
	}
}

// discardedShown is how long an operator is told of discarded transactions, unless what was kept is moved away.
const discardedShown = 24 * time.Hour

// discardedWarning tells of committed transactions that the last rejoins took away.
func (e *Engine) discardedWarning(context.Context, *run, asker) string {
	dirs, err := e.keptDirs()
	if err != nil {
		return ""
	}
	var told []string
	for _, dir := range dirs {
		text, err := os.ReadFile(filepath.Join(dir, summaryFile))
		var s summary
		if err != nil || json.Unmarshal(text, &s) != nil || s.Committed == 0 {
			continue
		}
		if at, err := time.Parse(time.RFC3339, s.Time); err == nil && now().Sub(at) < discardedShown {
			told = append(told, fmt.Sprintf("at %s %s; see %s there", s.Time, s.sentence(), readmeFile))
		}
	}
	return strings.Join(told, "; ")
}

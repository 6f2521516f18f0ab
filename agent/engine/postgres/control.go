//go:build linux

package postgres

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// control is what pg_control says of a data directory.
type control struct {
	systemID    string
	state       string // "in production", "shut down", "shut down in recovery", ...
	checkpoint  point  // where the last checkpoint record begins
	minRecovery point  // a copy is not consistent before it
	// backup is true while a base backup was restored but not yet replayed to its end.
	backup bool
	// rewindable says that pg_rewind can find the pages that changed.
	rewindable  bool
	segmentSize uint64
}

// least is the furthest place that the directory is known to have reached.
func (c control) least() point {
	if c.minRecovery.at > c.checkpoint.at {
		return c.minRecovery
	}
	return c.checkpoint
}

// lastPrimary says that the last server of the directory was a primary. A copy leaves other words behind, and
// so does pg_rewind; what pg_basebackup brings has the primary's, and is told by other files.
func (c control) lastPrimary() bool {
	switch c.state {
	case "in production", "shutting down", "shut down", "in crash recovery":
		return !c.backup
	default:
		return false
	}
}

// readControl runs pg_controldata, which knows the format of its version. The answer is kept as long as the
// file does not change: a stopped instance is looked at often.
func (e *Engine) readControl(ctx context.Context, dataDir string) (control, error) {
	info, err := os.Stat(dataDir + "/global/pg_control")
	if err != nil {
		return control{}, fmt.Errorf("read pg_control: %w", err)
	}
	stamp := fmt.Sprint(dataDir, info.ModTime().UnixNano())
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		stamp += fmt.Sprint(" ", stat.Ino, stat.Ctim.Nano())
	}
	e.mu.Lock()
	kept, keptStamp := e.control, e.controlStamp
	e.mu.Unlock()
	if keptStamp == stamp {
		return kept, nil
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	out, err := e.output(ctx, "pg_controldata", "-D", dataDir)
	if err != nil {
		return control{}, fmt.Errorf("read pg_control: %w", err)
	}
	c, err := parseControl(out)
	if err != nil {
		return control{}, fmt.Errorf("read pg_control of %s: %w", dataDir, err)
	}
	e.mu.Lock()
	e.control, e.controlStamp = c, stamp
	e.mu.Unlock()
	return c, nil
}

func parseControl(text string) (control, error) {
	fields := map[string]string{}
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(line, ":"); ok {
			fields[name] = strings.TrimSpace(value)
		}
	}
	var wrong []error
	place := func(name string) lsn {
		l, err := parseLSN(fields[name])
		if err != nil {
			wrong = append(wrong, fmt.Errorf("%s: %w", name, err))
		}
		return l
	}
	number := func(name string) uint64 {
		n, err := strconv.ParseUint(fields[name], 10, 64)
		if err != nil {
			wrong = append(wrong, fmt.Errorf("%s: %w", name, err))
		}
		return n
	}
	c := control{
		systemID: fields["Database system identifier"],
		state:    fields["Database cluster state"],
		checkpoint: point{
			timeline: uint32(number("Latest checkpoint's TimeLineID")),
			at:       place("Latest checkpoint location"),
		},
		minRecovery: point{
			timeline: uint32(number("Min recovery ending loc's timeline")),
			at:       place("Minimum recovery ending location"),
		},
		backup: place("Backup start location") != 0 ||
			fields["End-of-backup record required"] == "yes",
		rewindable:  fields["wal_log_hints setting"] == "on" || number("Data page checksum version") != 0,
		segmentSize: number("Bytes per WAL segment"),
	}
	if c.systemID == "" || c.segmentSize == 0 {
		wrong = append(wrong, errors.New("no database system identifier or segment size in it"))
	}
	return c, errors.Join(wrong...)
}

//go:build linux

package postgres

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"strings"

	"github.com/witnessd/witnessd/agent/engine"
)

// rewind undoes what the primary does not have. While pg_rewind changes the directory, it has another name:
// a half-changed one is of no use to anybody, and must not be started by whoever looks for a database.
func (f *following) rewind(ctx context.Context, r *run) error {
	c, err := f.readControl(ctx, f.cfg.DataDir)
	if err != nil {
		return err
	}
	if !c.rewindable {
		return errors.New("wal_log_hints is off and there are no data checksums, so nobody knows which pages " +
			"changed; it is on in a server that the agent has started")
	}
	f.tell(engine.Progress{Step: "rewind", Detail: "prepares"})
	if err := f.preparePartner(ctx); err != nil {
		return err
	}
	if err := f.stopServer(ctx, r); err != nil {
		return err
	}
	// A copy that stopped cleanly is what pg_rewind wants; a dry run finds out the rest while nothing
	// has been changed.
	if err := f.runRewind(ctx, f.cfg.DataDir, "--dry-run"); err != nil {
		return err
	}
	f.keepTail(ctx)
	f.tell(engine.Progress{Step: "rewind", Detail: "begins"})
	dir := f.cfg.DataDir + rewindingSuffix
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("remove an earlier rewind: %w", err)
	}
	if err := f.rename(f.cfg.DataDir, dir); err != nil {
		return err
	}
	if err := f.runRewind(ctx, dir); err != nil {
		return err
	}
	if err := f.prepareCopy(dir, "rewind"); err != nil {
		return err
	}
	if err := f.rename(dir, f.cfg.DataDir); err != nil {
		return err
	}
	if err := f.prune(); err != nil {
		return err
	}
	r, err = f.launch(ctx, runSettings{upstream: f.conninfo, slot: f.receiver})
	if err != nil {
		return err
	}
	return f.stream(ctx, r)
}

// preparePartner makes the partner's pg_control tell its newest timeline, which pg_rewind goes by, and refuses
// what a rewind would do wrong.
func (f *following) preparePartner(ctx context.Context) error {
	conn, err := f.dialPartner(ctx, f.peer.Address, f.cfg.Database, false)
	if err != nil {
		return err
	}
	defer closeConn(ctx, conn)
	err = f.sameTablespaces(ctx, func(ctx context.Context, sql string, args ...string) ([]values, error) {
		return query(ctx, conn, sql, args...)
	})
	if err != nil {
		return err
	}
	if _, err := query(ctx, conn, "checkpoint"); err != nil {
		return fmt.Errorf("checkpoint at %s (as the primary, grant pg_checkpoint to %s): %w",
			f.peer.Host, f.cfg.ReplicationUser, err)
	}
	return nil
}

func (f *following) runRewind(ctx context.Context, dir string, more ...string) error {
	params, err := f.toolConninfo(f.peer.Address, agentName)
	if err != nil {
		return err
	}
	params["dbname"] = f.cfg.Database
	args := append([]string{"--target-pgdata=" + dir, "--source-server=" + dsn(params),
		"--no-ensure-shutdown", "--progress"}, more...)
	notNeeded := false
	err = f.streamTool(ctx, func(line string) {
		notNeeded = notNeeded || strings.Contains(line, "no rewind required")
		f.toolLine("rewind", line)
	}, "pg_rewind", args...)
	if err == nil && notNeeded {
		return errors.New("pg_rewind sees nothing to do, though the logs part")
	}
	return err
}

// toolLine reads a line of pg_rewind's or pg_basebackup's output: "  22875/3070545 kB (0%), ..." is
// progress, anything else is said once in the log.
func (f *following) toolLine(step, line string) (engine.Progress, bool) {
	done, rest, ok := strings.Cut(line, "/")
	total, _, okTotal := strings.Cut(rest, " kB")
	d, errDone := strconv.ParseInt(done, 10, 64)
	t, errTotal := strconv.ParseInt(total, 10, 64)
	if ok && okTotal && errDone == nil && errTotal == nil {
		p := engine.Progress{Step: step, Done: d << 10, Total: t << 10}
		f.tell(p)
		return p, true
	}
	if line != "" {
		f.log.Debug("tool", slog.String("step", step), slog.String("line", line))
	}
	return engine.Progress{}, false
}

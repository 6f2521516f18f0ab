//go:build linux

package postgres

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/witnessd/witnessd/agent/engine"
)

// clone makes a new copy of the primary beside the data directory, which is stopped and stays as it is until
// the copy is whole.
func (f *following) clone(ctx context.Context, why string) error {
	if !f.cfg.Rejoin.AllowClone {
		return fmt.Errorf("%w: %s; set rejoin.allow_clone, or make the copy by hand", engine.ErrNeedsClone, why)
	}
	// Before hours of copying, not after them.
	if mount, err := mountPoint(f.cfg.DataDir); err != nil {
		return err
	} else if mount {
		return fmt.Errorf("clone %s: data_dir, %s, is a mount point, and a copy that is made beside it could not take its "+
			"place; set data_dir to a directory below it", f.peer.Host, f.cfg.DataDir)
	}
	f.log.InfoContext(ctx, "clone begins", slog.String("primary", f.peer.Host), slog.String("why", why))
	began := now()
	f.tell(engine.Progress{Step: "clone", Detail: "asks the primary what there is"})
	dir, whole := f.cfg.DataDir+cloningSuffix, f.cfg.DataDir+clonedSuffix
	for _, left := range []string{dir, whole} {
		if err := f.removeClone(left); err != nil {
			return fmt.Errorf("remove an earlier clone: %w", err)
		}
	}
	s, err := f.askShape(ctx)
	if err != nil {
		return err
	}
	// Before the server is stopped: a copy that is behind is better than none.
	if err := f.makeRoom(ctx, s); err != nil {
		return err
	}
	if err := f.freeSlot(ctx); err != nil {
		return err
	}
	if err := f.baseBackup(ctx, dir, s); err != nil {
		return err
	}
	if err := f.prepareCopy(dir, "clone"); err != nil {
		return err
	}
	if err := f.settle(dir, s.spaces); err != nil {
		return err
	}
	if err := f.rename(dir, whole); err != nil {
		return err
	}
	if err := f.swap(ctx); err != nil {
		return err
	}
	f.unmark(ctx)
	f.log.InfoContext(ctx, "clone is whole", slog.Duration("took", since(began)))
	r, err := f.launch(ctx, runSettings{upstream: f.conninfo, slot: f.receiver})
	if err != nil {
		return err
	}
	return f.stream(ctx, r)
}

// freeSlot makes sure that nobody uses the mirror's slot, which the backup will use so that no log is lost
// between it and the first start: not this host's own server, and not the sender of a backup that was cut
// short, which the primary gives up only when it notices.
func (f *following) freeSlot(ctx context.Context) error {
	r, err := f.server()
	if err != nil {
		return err
	}
	if r != nil {
		if err := f.stopServer(ctx, r); err != nil {
			return err
		}
	}
	conn, err := f.dialPartner(ctx, f.peer.Address, f.cfg.Database, false)
	if err != nil {
		// A backup needs no database to connect to, and says itself if the slot is in use.
		f.log.InfoContext(ctx, "slot not looked at", slog.Any("error", err))
		return ctx.Err()
	}
	defer closeConn(ctx, conn)
	ctx, cancel := context.WithTimeoutCause(ctx, streamPatience, errors.New("another receiver uses it"))
	defer cancel()
	for {
		rows, err := query(ctx, conn, "select from pg_replication_slots where slot_name = $1 and active", f.receiver)
		if err == nil && len(rows) == 0 {
			return nil
		}
		if err == nil {
			err = pause(ctx)
		}
		if err != nil {
			return fmt.Errorf("wait for the slot %s at %s: %w", f.receiver, f.peer.Host, err)
		}
	}
}

// baseBackup copies the primary into a fresh directory.
func (f *following) baseBackup(ctx context.Context, dir string, s shape) error {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return fmt.Errorf("make a directory for the clone: %w", err)
	}
	if err := os.Lchown(dir, f.user.uid, f.user.gid); err != nil {
		return fmt.Errorf("make a directory for the clone: %w", err)
	}
	// Its name is not the mirror's: what a backup confirms to have received must not acknowledge a
	// commit, because a backup that fails is deleted.
	params, err := f.toolConninfo(f.peer.Address, cloneName)
	if err != nil {
		return err
	}
	args := []string{"--pgdata=" + dir, "--dbname=" + dsn(params), "--format=plain",
		"--wal-method=stream", "--slot=" + f.receiver, "--checkpoint=fast", "--progress", "--no-password"}
	if f.cfg.Rejoin.CloneRate != "" {
		args = append(args, "--max-rate="+f.cfg.Rejoin.CloneRate)
	}
	for _, t := range s.spaces {
		if err := t.prepare(f.user); err != nil {
			return errors.Join(err, f.removeBackup(dir, s))
		}
		args = append(args, "--tablespace-mapping="+mapped(t.source)+"="+mapped(t.work()))
	}
	f.tell(engine.Progress{Step: "clone", Detail: "waits for a checkpoint at the primary"})
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	fits := s.size > 0
	err = f.streamTool(ctx, func(line string) {
		p, ok := f.toolLine("clone", line)
		if ok && !fits && p.Total > 0 {
			fits = true
			if err := f.stillFits(p, s); err != nil {
				cancel(err)
			}
		}
	}, "pg_basebackup", args...)
	if err != nil {
		return errors.Join(fmt.Errorf("clone %s: %w", f.peer.Host, err), f.removeBackup(dir, s))
	}
	return nil
}

// mapped writes a path as --tablespace-mapping takes it.
func mapped(path string) string { return strings.ReplaceAll(path, "=", `\=`) }

// removeBackup deletes a backup that failed.
func (f *following) removeBackup(dir string, s shape) error {
	var wrong []error
	for _, t := range s.spaces {
		wrong = append(wrong, os.RemoveAll(t.work()))
	}
	return errors.Join(append(wrong, os.RemoveAll(dir))...)
}

// stillFits compares what a backup says of its own size with the disk, where the primary did not tell before.
func (f *following) stillFits(p engine.Progress, s shape) error {
	s.size = p.Total
	lacks, err := lacking(s.needs(filepath.Dir(f.cfg.DataDir)), true)
	if err != nil || lacks == nil {
		return err
	}
	if need := lacks.need - p.Done; need > lacks.free {
		return fmt.Errorf("%w: it needs another %s in %s, and %s are free; free some", errNoRoom, engine.Bytes(need),
			lacks.dir, engine.Bytes(lacks.free))
	}
	return nil
}

// ownConfig is what of a data directory belongs to this host and not to the database.
type ownConfig map[string]ownFile

type ownFile struct {
	text []byte
	mode fs.FileMode
}

// readOwnConfig reads the host's own configuration: a clone and a rewind bring the partner's.
func readOwnConfig(dir string) (ownConfig, error) {
	own := ownConfig{}
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return own, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read this host's configuration: %w", err)
	}
	for _, entry := range entries {
		ext := filepath.Ext(entry.Name())
		if !entry.Type().IsRegular() || !slices.Contains([]string{".conf", ".crt", ".key", ".pem"}, ext) {
			continue
		}
		text, err := os.ReadFile(filepath.Join(dir, entry.Name()))
		if err != nil {
			return nil, fmt.Errorf("read this host's configuration: %w", err)
		}
		info, err := entry.Info()
		if err != nil {
			return nil, fmt.Errorf("read this host's configuration: %w", err)
		}
		own[entry.Name()] = ownFile{text: text, mode: info.Mode().Perm()}
	}
	return own, nil
}

// prepareCopy makes a new copy fit for this host before anybody can start it: gated, marked as not yet
// consistent, with this host's configuration, and without the partner's leave to commit.
func (f *following) prepareCopy(dir, step string) error {
	files, err := openStore(dir, f.user)
	if err != nil {
		return err
	}
	defer files.close()
	for name, own := range f.own {
		if err := files.write(name, own.text, own.mode, true); err != nil {
			return err
		}
	}
	if err := files.mkdir(agentDir); err != nil {
		return err
	}
	if err := files.remove(runFile); err != nil {
		return err
	}
	if err := files.write(incompleteFile, []byte(step+" of "+f.peer.Host+"\n"), 0o600, true); err != nil {
		return err
	}
	return f.fillGate(files)
}

// swap puts the whole clone in the data directory's place. No server runs there: freeSlot has stopped it.
func (f *following) swap(ctx context.Context) error {
	for _, dir := range []string{f.cfg.DataDir, f.cfg.DataDir + rewindingSuffix} {
		if empty, err := emptyDir(dir); err != nil {
			return err
		} else if empty {
			continue
		}
		aside := f.asideName()
		f.tell(engine.Progress{Step: "keep-aside", Detail: "the replaced copy is kept as " + aside})
		if err := f.rename(dir, aside); err != nil {
			return err
		}
		f.asideTablespaces(ctx, aside)
		f.summarize(ctx, aside)
	}
	if err := f.rename(f.cfg.DataDir+clonedSuffix, f.cfg.DataDir); err != nil {
		return err
	}
	return f.prune()
}

// stamp is the time, for names that sort by it.
func stamp() string { return now().UTC().Format("20060102T150405.000Z") }

// asideName is a name for a replaced directory that none has: two may be replaced within a second.
func (e *Engine) asideName() string {
	name := e.cfg.DataDir + divergedInfix + stamp()
	for exists(name) {
		name += "x"
	}
	return name
}

// keptDirs are the directories that earlier rejoins have kept, oldest first: their names sort by age.
func (e *Engine) keptDirs() ([]string, error) {
	kept, err := filepath.Glob(globEscape(e.cfg.DataDir+divergedInfix) + "*")
	if err != nil {
		return nil, fmt.Errorf("list replaced data directories: %w", err)
	}
	slices.Sort(kept)
	return kept, nil
}

// prune deletes kept directories beyond the number to be kept.
func (e *Engine) prune() error {
	kept, err := e.keptDirs()
	if err != nil {
		return err
	}
	for _, dir := range kept[:max(0, len(kept)-e.cfg.Rejoin.KeepDiverged)] {
		e.log.Info("kept directory deleted; rejoin.keep_diverged newer ones stay", slog.String("dir", dir))
		if err := e.removeKept(dir); err != nil {
			return fmt.Errorf("delete a kept directory: %w", err)
		}
	}
	return nil
}

func globEscape(name string) string {
	return strings.NewReplacer(`*`, `\*`, `?`, `\?`, `[`, `\[`, `\`, `\\`).Replace(name)
}

// finishSwap ends a swap that a crash interrupted: the data directory was set aside and the clone, whole, is
// not yet in its place.
func (e *Engine) finishSwap() error {
	empty, err := emptyDir(e.cfg.DataDir)
	if err != nil || !empty || !exists(e.cfg.DataDir+clonedSuffix) {
		return err
	}
	e.log.Info("interrupted swap is finished")
	return e.rename(e.cfg.DataDir+clonedSuffix, e.cfg.DataDir)
}

// rename moves a directory durably. Unlike os.Rename, the system call lets it take an empty one's place.
func (e *Engine) rename(from, to string) error {
	err := unix.Rename(from, to)
	if errors.Is(err, unix.EBUSY) || errors.Is(err, unix.EXDEV) {
		return fmt.Errorf("move %s: it is a mount point; set data_dir to a directory below it: %w", from, err)
	}
	if err != nil {
		return fmt.Errorf("move %s to %s: %w", from, to, err)
	}
	return syncPath(filepath.Dir(to))
}

// appendBeside adds a line to a file beside the data directory.
func (e *Engine) appendBeside(suffix, line string) error {
	f, err := os.OpenFile(e.cfg.DataDir+suffix,
		os.O_CREATE|os.O_APPEND|os.O_WRONLY|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(line + "\n")
	return errors.Join(err, f.Chown(e.user.uid, e.user.gid), f.Close())
}

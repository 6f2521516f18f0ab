//go:build linux

package postgres

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// A tablespace of the primary that lies outside of its data directory. PostgreSQL would copy it to the same
// path on this host, where the replaced copy's own tablespace still is, or, with two instances on one machine,
// the primary's. So it is copied to a path beside, and takes the primary's path only if nothing is there. What
// a data directory owns is what the links in its pg_tblspc name; a replaced directory keeps its tablespaces,
// under a name that says so, and goes with them.
type tablespace struct {
	oid    string
	name   string
	source string // its path at the primary
	size   int64  // bytes; negative: the primary does not tell
	base   string // the path that it has by right on this host
}

// copiedSuffix names a tablespace whose path by right was taken.
const copiedSuffix = ".witness-"

// ownSuffixes are what the agent adds to a tablespace's path.
func ownSuffixes() *regexp.Regexp {
	return regexp.MustCompile(`(\.witness-[0-9]{8}T[0-9.]+Zx*|\.cloning)+$`)
}

// work is where pg_basebackup writes the tablespace. What lies there is left over from an earlier clone.
func (t tablespace) work() string { return t.base + cloningSuffix }

// primaryTablespaces asks the primary. In-place tablespaces are part of the data directory.
func (f *following) primaryTablespaces(ctx context.Context, ask asker) ([]tablespace, error) {
	rows, err := ask(ctx, `select oid, spcname, pg_tablespace_location(oid),
		case when has_tablespace_privilege(oid, 'create') or pg_has_role('pg_read_all_stats', 'usage')
			then pg_tablespace_size(oid) else -1 end
		from pg_tablespace where pg_tablespace_location(oid) like '/%' order by oid`)
	if err != nil {
		return nil, fmt.Errorf("ask %s for its tablespaces: %w", f.peer.Host, err)
	}
	var found []tablespace
	for _, row := range rows {
		size, err := strconv.ParseInt(row.text(3), 10, 64)
		if err != nil {
			return nil, fmt.Errorf("ask %s for its tablespaces: %w", f.peer.Host, err)
		}
		t := tablespace{oid: row.text(0), name: row.text(1), source: row.text(2), size: size}
		t.base = ownSuffixes().ReplaceAllString(filepath.Clean(t.source), "")
		found = append(found, t)
	}
	return found, nil
}

// ownTablespaces are the links in a data directory, by oid.
func ownTablespaces(dataDir string) (map[string]string, error) {
	dir := filepath.Join(dataDir, "pg_tblspc")
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("look for tablespaces: %w", err)
	}
	links := map[string]string{}
	for _, entry := range entries {
		if entry.Type()&fs.ModeSymlink == 0 {
			continue
		}
		target, err := os.Readlink(filepath.Join(dir, entry.Name()))
		if err != nil {
			return nil, fmt.Errorf("look for tablespaces: %w", err)
		}
		links[entry.Name()] = target
	}
	return links, nil
}

// sameTablespaces says which of the primary's tablespaces this host lacks: pg_rewind would link it to the
// primary's path, whatever is there.
func (f *following) sameTablespaces(ctx context.Context, ask asker) error {
	theirs, err := f.primaryTablespaces(ctx, ask)
	if err != nil {
		return err
	}
	own, err := ownTablespaces(f.cfg.DataDir)
	if err != nil {
		return err
	}
	for _, t := range theirs {
		if own[t.oid] == "" {
			return fmt.Errorf("tablespace %s was made at the primary since, and a rewind would not know where to put "+
				"it", t.name)
		}
	}
	return nil
}

// prepare makes an empty directory for a clone of the tablespace.
func (t tablespace) prepare(user osUser) error {
	say := func(err error) error {
		return fmt.Errorf("make room for tablespace %s, which lies at %s at the primary: %w; %s must exist on this "+
			"host, and the agent must be allowed to write there", t.name, t.source, err, filepath.Dir(t.base))
	}
	mount, err := mountPoint(t.base)
	if err != nil {
		return say(err)
	}
	if mount {
		return fmt.Errorf("tablespace %s lies at %s, which is a mount point on this host: a clone has to be made "+
			"beside it, on the same disk, and cannot; have the tablespace in a directory below the mount point", t.name,
			t.base)
	}
	if err := os.RemoveAll(t.work()); err != nil {
		return say(err)
	}
	if err := os.Mkdir(t.work(), 0o700); err != nil {
		return say(err)
	}
	if err := os.Lchown(t.work(), user.uid, user.gid); err != nil {
		return say(err)
	}
	return nil
}

// mountPoint says whether a directory lies on another disk than the one above it.
func mountPoint(name string) (bool, error) {
	var own, above unix.Stat_t
	if err := unix.Stat(name, &own); errors.Is(err, unix.ENOENT) {
		return false, nil
	} else if err != nil {
		return false, &fs.PathError{Op: "look at", Path: name, Err: err}
	}
	if err := unix.Stat(filepath.Dir(name), &above); err != nil {
		return false, &fs.PathError{Op: "look at", Path: filepath.Dir(name), Err: err}
	}
	return own.Dev != above.Dev, nil
}

// cloneMark is a file in a clone and in each of its tablespaces, with the same words in all, until the clone is in
// its place. By it a clone that was left unfinished knows a tablespace at its path by right for its own, where
// somebody else's may lie as well.
const cloneMark = ".witness-clone"

// settle gives the tablespaces of a whole clone their last names. The link changes first: whoever finds the
// clone unfinished then still knows what belongs to it.
func (f *following) settle(dir string, spaces []tablespace) error {
	mark := f.cfg.DataDir + " " + stamp() + "\n"
	if err := f.mark(dir, mark); err != nil {
		return err
	}
	for _, t := range spaces {
		if err := f.mark(t.work(), mark); err != nil {
			return err
		}
		final := t.base
		if empty, err := emptyDir(final); err != nil || !empty {
			for final = t.base + copiedSuffix + stamp(); exists(final); final += "x" {
				continue
			}
		}
		if err := f.relink(dir, t.oid, final); err != nil {
			return err
		}
		if err := f.rename(t.work(), final); err != nil {
			return err
		}
	}
	return nil
}

func (e *Engine) mark(dir, text string) error {
	files, err := openStore(dir, e.user)
	if err != nil {
		return err
	}
	defer files.close()
	return files.write(cloneMark, []byte(text), 0o600, true)
}

// unmark takes the marks away once the clone is in its place: it is unfinished no more. One that stays, as after a
// crash, does no harm.
func (f *following) unmark(ctx context.Context) {
	links, err := ownTablespaces(f.cfg.DataDir)
	for _, dir := range append(slices.Collect(maps.Values(links)), f.cfg.DataDir) {
		err = errors.Join(err, os.Remove(filepath.Join(dir, cloneMark)))
	}
	if err != nil {
		f.log.WarnContext(ctx, "mark of the clone not removed", slog.Any("error", err))
	}
}

// marked is what a directory's mark says; "" if it has none that this host has made.
func (e *Engine) marked(dir string) string {
	text, err := os.ReadFile(filepath.Join(dir, cloneMark))
	if err != nil || !strings.HasPrefix(string(text), e.cfg.DataDir+" ") {
		return "" // The primary's own may have come with the copy.
	}
	return string(text)
}

// relink lets a data directory's tablespace be elsewhere.
func (e *Engine) relink(dataDir, oid, target string) error {
	link := filepath.Join(dataDir, "pg_tblspc", oid)
	draft := link + ".draft"
	err := os.Symlink(target, draft)
	if err == nil {
		err = os.Lchown(draft, e.user.uid, e.user.gid)
	}
	if err == nil {
		err = os.Rename(draft, link)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("link tablespace %s: %w", oid, err), os.Remove(draft))
	}
	return syncPath(filepath.Dir(link))
}

// removeClone deletes an unfinished clone with its tablespaces. Only names that the agent makes are deleted, and
// what has the clone's mark: a directory at a tablespace's path by right may have become somebody else's.
func (e *Engine) removeClone(dir string) error {
	mark := e.marked(dir)
	return e.removeData(dir, func(target string) bool {
		return ownSuffixes().MatchString(target) || mark != "" && e.marked(target) == mark
	})
}

// removeKept deletes a replaced data directory with the tablespaces that were set aside with it.
func (e *Engine) removeKept(dir string) error {
	_, when, _ := strings.Cut(filepath.Base(dir), divergedInfix)
	return e.removeData(dir, func(target string) bool {
		return when != "" && strings.HasSuffix(target, divergedInfix+when)
	})
}

func (e *Engine) removeData(dir string, owns func(target string) bool) error {
	links, err := ownTablespaces(dir)
	if err != nil {
		return err
	}
	for _, target := range links {
		if !owns(target) {
			continue
		}
		if err := os.RemoveAll(target); err != nil {
			return fmt.Errorf("delete a tablespace: %w", err)
		}
	}
	return os.RemoveAll(dir)
}

// asideTablespaces lets the tablespaces of a replaced directory go with it. What cannot be moved stays where it
// is, and so is in nobody's way but the disk's.
func (f *following) asideTablespaces(ctx context.Context, aside string) {
	links, err := ownTablespaces(aside)
	if err != nil {
		f.log.WarnContext(ctx, "tablespaces of the replaced directory not set aside", slog.Any("error", err))
		return
	}
	_, when, _ := strings.Cut(filepath.Base(aside), divergedInfix)
	for oid, target := range links {
		to := target + divergedInfix + when
		err := f.relink(aside, oid, to)
		if err == nil {
			if err = f.rename(target, to); err != nil {
				err = errors.Join(err, f.relink(aside, oid, target))
			}
		}
		if err != nil {
			f.log.WarnContext(ctx, "tablespace of the replaced directory not set aside; delete it by hand when it is "+
				"not needed", slog.String("path", target), slog.Any("error", err))
		}
	}
}

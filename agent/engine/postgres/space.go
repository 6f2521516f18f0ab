//go:build linux

package postgres

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/witnessd/witnessd/agent/engine"
)

// allowance is what a clone needs beside the database itself: the log that the primary writes meanwhile, and
// what grows.
func allowance(size int64) int64 {
	const least = 64 << 20
	return size/10 + least
}

// errNoRoom is a clone that was refused, or broken off, because the disk is too small for it.
var errNoRoom = errors.New("no room for a clone")

// shape is what a clone will have to hold, as the primary tells.
type shape struct {
	size   int64 // bytes of all databases; 0 when the primary does not tell all of it
	spaces []tablespace
}

// askShape asks the primary as the replication user. A user who may not connect to a database gets no
// tablespaces and no size; the backup tells its size itself, when it begins.
func (f *following) askShape(ctx context.Context) (shape, error) {
	conn, err := f.dialPartner(ctx, f.peer.Address, f.cfg.Database, false)
	if err != nil {
		f.log.InfoContext(ctx, "size of the clone not asked for", slog.Any("error", err))
		return shape{}, ctx.Err()
	}
	defer closeConn(ctx, conn)
	ask := func(ctx context.Context, sql string, args ...string) ([]values, error) {
		return query(ctx, conn, sql, args...)
	}
	s := shape{}
	if s.spaces, err = f.primaryTablespaces(ctx, ask); err != nil {
		return shape{}, err
	}
	rows, err := ask(ctx, `select coalesce(sum(case when may then pg_database_size(oid) end), 0)::bigint, bool_and(may)
		from (select oid, has_database_privilege(oid, 'connect') or pg_has_role('pg_read_all_stats', 'usage') as may
			from pg_database) d`)
	if err != nil || !rows[0].true(1) {
		f.log.InfoContext(ctx, "size of the clone not told", slog.Any("error", err))
		return s, ctx.Err()
	}
	if s.size, err = strconv.ParseInt(rows[0].text(0), 10, 64); err != nil {
		return shape{}, fmt.Errorf("size of the databases at %s: %w", f.peer.Host, err)
	}
	return s, nil
}

// vague says that it is not known which disk takes how much.
func (s shape) vague() bool {
	return slices.ContainsFunc(s.spaces, func(t tablespace) bool { return t.size < 0 })
}

// needs are what a clone takes from each disk, by the directory that stands for it.
func (s shape) needs(parent string) map[string]int64 {
	rest := s.size
	needs := map[string]int64{}
	for _, t := range s.spaces {
		needs[filepath.Dir(t.base)] += max(0, t.size)
		rest -= max(0, t.size)
	}
	needs[parent] += max(0, rest) + allowance(s.size)
	return needs
}

// makeRoom refuses a clone that the disks cannot hold beside what is there. Nothing has been changed by then.
// Replaced directories go first, if the clone would end with their deletion in any case and it helps.
func (f *following) makeRoom(ctx context.Context, s shape) error {
	if s.size == 0 {
		return nil
	}
	parent := filepath.Dir(f.cfg.DataDir)
	lacks, err := lacking(s.needs(parent), s.vague())
	if err != nil || lacks == nil {
		return err
	}
	doomed, all, err := f.doomed()
	if err != nil {
		return err
	}
	if len(doomed) > 0 && lacks.dir == parent && usage(doomed...) >= lacks.need-lacks.free {
		for _, dir := range doomed {
			f.log.WarnContext(ctx, "replaced data directory deleted to make room for a clone", slog.String("dir", dir))
			if err := f.removeKept(dir); err != nil {
				return fmt.Errorf("delete a replaced data directory: %w", err)
			}
		}
		if lacks, err = lacking(s.needs(parent), s.vague()); err != nil || lacks == nil {
			return err
		}
	}
	hint := "free some"
	if held := usage(all...); held > 0 {
		hint = fmt.Sprintf("free some: %s are in what earlier rejoins kept (%s*)", engine.Bytes(held),
			f.cfg.DataDir+divergedInfix)
	}
	return fmt.Errorf("%w: it needs %s in %s, beside what is there, and %s are free; %s", errNoRoom,
		engine.Bytes(lacks.need), lacks.dir, engine.Bytes(lacks.free), hint)
}

// lack is a disk without enough room.
type lack struct {
	dir        string
	need, free int64
}

// lacking is a disk that has not what is needed of it; nil if all have. Directories on one disk are added up.
// Where it is vague which disk takes how much, all disks together must do.
func lacking(needs map[string]int64, vague bool) (*lack, error) {
	disks := map[uint64]*lack{}
	for dir, need := range needs {
		var at unix.Stat_t
		if err := unix.Stat(dir, &at); err != nil {
			return nil, fmt.Errorf("look for room in %s: %w", dir, err)
		}
		free, err := freeIn(dir)
		if err != nil {
			return nil, err
		}
		disk := disks[at.Dev]
		if disk == nil {
			disk = &lack{dir: dir, free: free}
			disks[at.Dev] = disk
		}
		disk.need += need
	}
	all := &lack{}
	for _, disk := range disks {
		if disk.need > disk.free && !vague {
			return disk, nil
		}
		all.need, all.free, all.dir = all.need+disk.need, all.free+disk.free, disk.dir
	}
	if all.need > all.free {
		return all, nil
	}
	return nil, nil
}

// freeIn is what a user other than root may still write there.
func freeIn(dir string) (int64, error) {
	var disk unix.Statfs_t
	if err := unix.Statfs(dir, &disk); err != nil {
		return 0, fmt.Errorf("look for room in %s: %w", dir, err)
	}
	return int64(disk.Bavail) * disk.Frsize, nil
}

// doomed are the kept directories that the end of a clone deletes, which itself may set one more aside; and
// all that are kept.
func (f *following) doomed() (doomed, all []string, err error) {
	if all, err = f.keptDirs(); err != nil {
		return nil, nil, err
	}
	keep := f.cfg.Rejoin.KeepDiverged
	if empty, err := emptyDir(f.cfg.DataDir); err == nil && !empty {
		keep--
	}
	return all[:min(len(all), max(0, len(all)-max(0, keep)))], all, nil
}

// usage is what directories take on the disk, with the tablespaces that their links name.
func usage(dirs ...string) int64 {
	total := int64(0)
	for _, dir := range dirs {
		places := []string{dir}
		links, _ := ownTablespaces(dir)
		for _, target := range links {
			places = append(places, target)
		}
		for _, place := range places {
			_ = filepath.WalkDir(place, func(_ string, entry os.DirEntry, err error) error {
				if err != nil {
					return nil //nolint:nilerr // What cannot be counted counts nothing.
				}
				if info, err := entry.Info(); err == nil {
					if stat, ok := info.Sys().(*syscall.Stat_t); ok {
						const block = 512
						total += stat.Blocks * block
					}
				}
				return nil
			})
		}
	}
	return total
}

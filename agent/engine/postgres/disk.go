//go:build linux

package postgres

import (
	"context"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// diskFull is from which share of a file system on, in percent, an operator is told.
const diskFull = 90

// diskWarning says how full the file systems are that the server writes to. A full one under the data ends
// statements with an error and leaves the server up; a full one under the log ends the server.
func (e *Engine) diskWarning(context.Context, *run, asker) string {
	var said []string
	seen := map[unix.Fsid]bool{}
	for _, place := range []struct{ path, what string }{
		{e.path("pg_wal"), "the log's disk"}, {e.cfg.DataDir, "the data's disk"},
	} {
		var fs unix.Statfs_t
		if err := unix.Statfs(place.path, &fs); err != nil || seen[fs.Fsid] || fs.Blocks == 0 {
			continue
		}
		seen[fs.Fsid] = true
		if share := usedPercent(fs); share >= diskFull {
			said = append(said, fmt.Sprintf("%s (%s) is %d %% full, %d MB are left",
				place.what, place.path, share, fs.Bavail*uint64(fs.Bsize)>>20))
		}
	}
	return strings.Join(said, "; ")
}

// usedPercent counts as df does: what is reserved for root is of no use to the server.
func usedPercent(fs unix.Statfs_t) uint64 {
	used := fs.Blocks - fs.Bfree
	if used+fs.Bavail == 0 {
		return 100
	}
	return used * 100 / (used + fs.Bavail)
}

package raftstore

import (
	"errors"
	"fmt"
	"io/fs"
	"syscall"
)

// replace ends every sentence about files that a node cannot go on with. To mend them by hand, or to start on
// empty ones under the same name, would let the node vote as if it had never voted.
const replace = "this node must not start on it. If a quorum of the other nodes runs, replace this one: " +
	"move its data directory away, remove it from the group, and add it under a new name; " +
	"if not, restore from a backup. See docs/operations.md"

func damagedFile(path string, err error) error {
	return fmt.Errorf("%s is %w (%w): %s", path, ErrDamaged, err, replace)
}

// advise adds to an error of the file system what can be done about it. Nothing is lost in these cases: what
// could not be written was not promised.
func advise(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, syscall.ENOSPC):
		return fmt.Errorf("%w: make room on that disk, then start this node again", err)
	case errors.Is(err, syscall.EROFS), errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w: let the user that this node runs as write to its data directory, then start it again", err)
	case errors.Is(err, ErrDamaged):
		return fmt.Errorf("%w: start this node again, it then checks its files", err)
	default:
		return err
	}
}

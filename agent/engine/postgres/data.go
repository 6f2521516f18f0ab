//go:build linux

package postgres

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/witnessd/witnessd/agent/engine"
)

// Directories beside the data directory, on the way to a new copy. A directory is moved to one of these
// names before anything in it becomes unusable, and moved to its own name only when it is whole; so what a
// crash leaves behind is told by its name, and is not started by anybody.
const (
	rewindingSuffix = ".rewinding" // pg_rewind is changing it
	cloningSuffix   = ".cloning"   // pg_basebackup is writing it
	clonedSuffix    = ".cloned"    // whole, waiting to take the data directory's place
	divergedInfix   = ".diverged-" // replaced, kept for its transactions
)

func exists(name string) bool {
	_, err := os.Lstat(name)
	return err == nil
}

// data says what lies in the data directory, and about what is no usable database, why.
func (e *Engine) data() (engine.Data, string) {
	empty, err := emptyDir(e.cfg.DataDir)
	switch {
	case err != nil:
		return engine.DataUnknown, err.Error()
	case empty:
		for _, suffix := range []string{rewindingSuffix, cloningSuffix, clonedSuffix} {
			if exists(e.cfg.DataDir + suffix) {
				return engine.DataIncomplete, "a clone or a rewind did not finish; it is begun again when " +
					"the primary can be followed"
			}
		}
		return engine.DataEmpty, "the data directory is empty"
	case !exists(e.path("PG_VERSION")) || !exists(e.path("global/pg_control")):
		return engine.DataUnknown, e.cfg.DataDir + " is not empty and not a PostgreSQL data directory; " +
			"empty it, or set data_dir to another place"
	case exists(e.path(incompleteFile)):
		return engine.DataIncomplete, "a clone or a rewind has not yet received what it needs to be consistent"
	default:
		return engine.DataPresent, ""
	}
}

// emptyDir is true for an empty directory and for none.
func emptyDir(name string) (bool, error) {
	dir, err := os.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("look at the data directory: %w", err)
	}
	defer dir.Close()
	_, err = dir.Readdirnames(1)
	if errors.Is(err, io.EOF) {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("look at the data directory: %w", err)
	}
	return false, nil
}

// usable refuses data that must not be started by itself.
func (e *Engine) usable() error {
	data, why := e.data()
	if data == engine.DataPresent {
		return nil
	}
	return fmt.Errorf("%w: %s", engine.ErrNoData, why)
}

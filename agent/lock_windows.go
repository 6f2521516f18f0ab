package agent

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/windows"
)

// lockDir keeps a second agent from using the same state directory: two loops with one epoch file would promise
// against each other. The kernel drops the lock with the process.
func lockDir(dir string) (*os.File, error) { return lockFile(filepath.Join(dir, "lock")) }

func lockFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock: %w", err)
	}
	const flags = windows.LOCKFILE_EXCLUSIVE_LOCK | windows.LOCKFILE_FAIL_IMMEDIATELY
	if err := windows.LockFileEx(windows.Handle(f.Fd()), flags, 0, 1, 0, &windows.Overlapped{}); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("%s is used by another agent (stop it, or give this one a state_dir of its own): %w",
			path, err)
	}
	return f, nil
}

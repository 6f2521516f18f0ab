package kv

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// claim is a process's ownership of a data directory: a file with an advisory record lock. The kernel
// gives the lock back when the process ends, however it ends, and tells who has it, also when the owner
// hangs; a number in a file can do neither.
type claim struct{ file *os.File }

// Owner is what the owner of a directory says about itself. Only the PID comes from the kernel.
type Owner struct {
	PID   int    `json:"pid"`
	Admin string `json:"admin"` // path of the admin socket
}

// takeClaim claims the directory for this process and writes down where the server can be reached.
func takeClaim(dir string, o Owner) (*claim, error) {
	file, err := os.OpenFile(filepath.Join(dir, claimFile), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("claim %s: %w", dir, err)
	}
	if err := lockRecord(file); err != nil {
		return nil, errors.Join(fmt.Errorf("claim %s: another server runs on it: %w", dir, err),
			file.Close())
	}
	o.PID = os.Getpid()
	content, err := json.Marshal(o)
	if err == nil {
		_, err = file.WriteAt(append(content, '\n'), 0)
	}
	if err == nil {
		err = file.Truncate(int64(len(content) + 1))
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("claim %s: %w", dir, err), file.Close())
	}
	return &claim{file: file}, nil
}

func (c *claim) release() error { return c.file.Close() }

// FindOwner returns the process that runs a server on the directory; PID 0 if there is none. It must not
// be called in the server's own process: closing the file would give the claim back.
func FindOwner(dir string) (Owner, error) {
	file, err := os.OpenFile(filepath.Join(dir, claimFile), os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return Owner{}, nil
	}
	if err != nil {
		return Owner{}, fmt.Errorf("find owner of %s: %w", dir, err)
	}
	defer file.Close()
	pid, err := recordOwner(file)
	if err != nil {
		return Owner{}, fmt.Errorf("find owner of %s: %w", dir, err)
	}
	if pid == 0 {
		return Owner{}, nil
	}
	o := Owner{Admin: filepath.Join(dir, AdminFile)}
	// A server that has just begun may not have written yet; then the usual place, or that of the run
	// before, is the best guess. Whoever gets no answer there asks again.
	if content, err := os.ReadFile(file.Name()); err == nil {
		_ = json.Unmarshal(content, &o)
	}
	o.PID = pid
	return o, nil
}

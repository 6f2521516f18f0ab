package agent

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/windows"
)

// Where the agent keeps its files, if the configuration does not say. Windows has no directory that is empty after a
// boot; what lies there from another boot says so.
const (
	defaultStateDir = `C:\ProgramData\witnessd\state`
	defaultRunDir   = `C:\ProgramData\witnessd\run`
)

// readFile reads a file that may be replaced meanwhile: os.ReadFile would keep the agent from that.
func readFile(path string) ([]byte, error) {
	name, err := windows.UTF16PtrFromString(path)
	if err != nil {
		return nil, err
	}
	const share = windows.FILE_SHARE_READ | windows.FILE_SHARE_WRITE | windows.FILE_SHARE_DELETE
	h, err := windows.CreateFile(name, windows.GENERIC_READ, share, nil, windows.OPEN_EXISTING,
		windows.FILE_ATTRIBUTE_NORMAL, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	f := os.NewFile(uintptr(h), path)
	defer f.Close()
	return io.ReadAll(f)
}

const (
	// renameTries is for how long a rename waits for somebody who reads the file just now, a virus scanner for one.
	renameTries = 20
	renamePause = 5 * time.Millisecond
)

// rename puts a file in another's place and returns when that is on disk: Windows has no way to sync a directory.
func rename(from, to string) error {
	old, err := windows.UTF16PtrFromString(from)
	if err != nil {
		return err
	}
	fresh, err := windows.UTF16PtrFromString(to)
	if err != nil {
		return err
	}
	for range renameTries {
		err = windows.MoveFileEx(old, fresh, windows.MOVEFILE_REPLACE_EXISTING|windows.MOVEFILE_WRITE_THROUGH)
		if !errors.Is(err, windows.ERROR_ACCESS_DENIED) && !errors.Is(err, windows.ERROR_SHARING_VIOLATION) {
			break
		}
		time.Sleep(renamePause)
	}
	return err
}

// syncDir has nothing to do: rename has done it.
func syncDir(string) error { return nil }

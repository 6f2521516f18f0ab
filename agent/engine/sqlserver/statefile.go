package sqlserver

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
)

// SaveState writes what an engine must not forget, as JSON, and returns when it is on disk: what rests on it is done
// after that. A reader finds the old or the new, never a part. "" saves nothing.
func SaveState(path string, state any) error {
	if path == "" {
		return nil
	}
	raw, err := json.MarshalIndent(state, "", "  ")
	if err != nil {
		return fmt.Errorf("write state file: %w", err)
	}
	fresh := path + ".new"
	if err := writeSynced(fresh, append(raw, '\n')); err != nil {
		return fmt.Errorf("write state file: %w", err)
	}
	if err := os.Rename(fresh, path); err != nil {
		return fmt.Errorf("write state file: %w", err)
	}
	if err := syncDir(filepath.Dir(path)); err != nil {
		return fmt.Errorf("write state file: %w", err)
	}
	return nil
}

// LoadState reads a state file; false if there is none.
func LoadState(path string, state any) (bool, error) {
	if path == "" {
		return false, nil
	}
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read state file: %w", err)
	}
	if err := json.Unmarshal(raw, state); err != nil {
		return false, fmt.Errorf("read state file %s: %w; it is not what the agent wrote: restore it, or remove it "+
			"and let the agent learn anew", path, err)
	}
	return true, nil
}

// ForgetState removes a state file.
func ForgetState(path string) error {
	if path == "" {
		return nil
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove state file: %w", err)
	}
	return syncDir(filepath.Dir(path))
}

func writeSynced(path string, raw []byte) error {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(raw)
	if err == nil {
		err = file.Sync()
	}
	return errors.Join(err, file.Close())
}

// syncDir makes a rename last. Windows cannot open a directory for that, and its file system logs renames.
func syncDir(dir string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

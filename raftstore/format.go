package raftstore

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
)

// A file in the directory says how the rest of it is written, so that a program never guesses: an older one
// that meets a newer directory after a downgrade says so and touches nothing.
const (
	formatFile   = "format"
	formatName   = "witnessd-raft"
	formatNumber = 1
)

// checkFormat accepts a directory of this format, and makes one of an empty or missing directory.
func checkFormat(dir string) error {
	text, err := os.ReadFile(filepath.Join(dir, formatFile))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if err := mustBeEmpty(dir); err != nil {
			return err
		}
		return writeFormat(dir)
	case err != nil:
		return fmt.Errorf("read the format of the data directory: %w", advise(err))
	}
	name, number, _ := strings.Cut(strings.TrimSpace(string(text)), " ")
	n, err := strconv.Atoi(number)
	switch {
	case name != formatName || err != nil || n < 1:
		return fmt.Errorf("%s: %.40q is not a format of this program; is this its directory?",
			filepath.Join(dir, formatFile), text)
	case n > formatNumber:
		return fmt.Errorf("%s was written by a newer program (format %d, this one knows up to %d): "+
			"upgrade this program", dir, n, formatNumber)
	}
	return nil
}

// mustBeEmpty makes the directory if need be. It overlooks what a file system keeps at its root, and the
// remains of a format file that was being written.
func mustBeEmpty(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make the data directory: %w", advise(err))
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("look into the data directory: %w", err)
	}
	for _, e := range entries {
		if name := e.Name(); name != "lost+found" && name != formatFile+".tmp" {
			return fmt.Errorf("%s is not empty (%s) and has no file %q: it is not a data directory, "+
				"or a restore into it was not finished", dir, name, formatFile)
		}
	}
	return nil
}

// writeFormat leaves either no format file or a whole one, whenever the machine stops.
func writeFormat(dir string) error {
	path := filepath.Join(dir, formatFile)
	err := writeSynced(path+".tmp", fmt.Sprintf("%s %d\n", formatName, formatNumber))
	if err == nil {
		err = os.Rename(path+".tmp", path)
	}
	if err == nil {
		err = syncDir(dir)
	}
	if err != nil {
		return fmt.Errorf("write the format of the data directory: %w", advise(err))
	}
	return nil
}

func writeSynced(path, text string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if _, err = f.WriteString(text); err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// syncDir makes a rename durable. Windows does it with the rename and cannot open a directory for it.
func syncDir(dir string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

package raftstore

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"go.etcd.io/bbolt"
)

// Stores is where raft keeps what it must not forget. Open makes one in a directory; a test may hand in
// another, see package raftstoretest.
type Stores struct {
	Log       raft.LogStore
	Stable    raft.StableStore
	Snapshots raft.SnapshotStore
	Close     func() error
}

const (
	logFile = "raft.db"

	// Another process on the directory is most often this program, being stopped by its supervisor.
	lockPatience = time.Second

	// The newest could be damaged by the disk; the one before it is of use as long as the log still
	// reaches back to it.
	snapshotsKept = 2
)

// openStores makes or opens the files in dir. Only one process can have them. Nothing is written to a log
// before all of it was read and found to be whole.
func openStores(dir string, log *raftLog) (*Stores, error) {
	path := filepath.Join(dir, logFile)
	first, err := isFirstStart(dir, path)
	if err == nil && !first {
		err = checkStores(dir, path, log)
	}
	if err != nil {
		return nil, err
	}
	bolt, err := openBolt(path, false)
	if err != nil {
		return nil, err
	}
	// The first vote must not be lost with the name of the file that it is in; and only once it cannot be may
	// there be a directory that says that it is there: see isFirstStart.
	if err := syncDir(dir); err != nil {
		return nil, errors.Join(fmt.Errorf("write to %s: %w", dir, advise(err)), bolt.Close())
	}
	snapshots, err := openSnapshots(dir, log)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open the snapshots in %s: %w", dir, advise(err)), bolt.Close())
	}
	return &Stores{Log: checkedLog{bolt}, Stable: checkedStable{bolt}, Snapshots: snapshots, Close: bolt.Close}, nil
}

// isFirstStart refuses the log of a node that was started before if it is missing or empty. To make it again
// would be to forget this node's votes, and entries that it has promised to keep.
func isFirstStart(dir, path string) (bool, error) {
	info, err := os.Stat(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, fmt.Errorf("look for the log: %w", advise(err))
	}
	if err == nil && info.Size() > 0 && (info.Size() >= firstWrite() || !begun(path)) {
		return false, nil
	}
	if err := mustBeFirstStart(dir, path); err != nil {
		return true, err
	}
	if err == nil && info.Size() > 0 {
		// The first start was cut short, by a full disk say, before bbolt had made its file.
		return true, os.Truncate(path, 0)
	}
	return true, nil
}

// begun says that a file begins as bbolt begins one, or with nothing but zeros.
func begun(path string) bool {
	text, err := os.ReadFile(path)
	if err != nil {
		return false
	}
	isHead := len(text) >= pageHead+4 && binary.NativeEndian.Uint32(text[pageHead:]) == boltMagic
	return isHead || len(bytes.Trim(text, "\x00")) == 0
}

// firstWrite is how much bbolt writes when it makes a file; what is shorter has never held anything.
func firstWrite() int64 { return 4 * int64(os.Getpagesize()) }

// mustBeFirstStart: or the first one was cut short, before anything was promised.
func mustBeFirstStart(dir, path string) error {
	if _, err := os.Stat(filepath.Join(dir, snapshotDir)); err == nil {
		return damagedFile(path, errors.New("it is missing or empty, and was not"))
	}
	return nil
}

// checkStores reads everything. While it does, no other process can write.
func checkStores(dir, path string, log *raftLog) error {
	bolt, err := openBolt(path, true)
	if errors.Is(err, errInUse) || errors.Is(err, fs.ErrPermission) {
		return err
	}
	used, why := checkBolt(path)
	switch {
	case why != nil && ofMachine(why):
		err = fmt.Errorf("read %s: %w", path, advise(why))
	case why != nil:
		err = damagedFile(path, why) // in more words than bbolt's
	case errors.Is(err, ErrDamaged):
		err = damagedFile(path, err)
	case err != nil: // the file is whole: it is the machine
	case !used:
		err = mustBeFirstStart(dir, path)
	default:
		err = protect(func() error { return checkWhole(dir, checkedLog{bolt}, checkedStable{bolt}, log) })
	}
	if bolt == nil {
		return err
	}
	return errors.Join(err, bolt.Close())
}

// ofMachine tells an error of the operating system, say too many open files, from what a file holds. A node must not be
// given up for it.
func ofMachine(err error) bool {
	var path *fs.PathError
	var errno syscall.Errno
	return errors.As(err, &path) || errors.As(err, &errno)
}

var errInUse = errors.New("in use by another process")

func openBolt(path string, readOnly bool) (bolt *raftboltdb.BoltStore, err error) {
	err = protect(func() error {
		bolt, err = raftboltdb.New(raftboltdb.Options{
			Path: path, BoltOptions: &bbolt.Options{Timeout: lockPatience, ReadOnly: readOnly},
		})
		return err
	})
	if errors.Is(err, bbolt.ErrTimeout) { //nolint:staticcheck // bbolt/errors is not in the import table
		return nil, fmt.Errorf("%s is %w", path, errInUse)
	}
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, advise(err))
	}
	return bolt, nil
}

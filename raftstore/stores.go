package raftstore

import (
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/hashicorp/go-hclog"
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

// openStores makes or opens the files in dir. Only one process can have them.
func openStores(dir string, log hclog.Logger) (*Stores, error) {
	path := filepath.Join(dir, logFile)
	bolt, err := raftboltdb.New(raftboltdb.Options{
		Path:        path,
		BoltOptions: &bbolt.Options{Timeout: lockPatience},
	})
	if errors.Is(err, bbolt.ErrTimeout) { //nolint:staticcheck // bbolt/errors is not in the import table
		return nil, fmt.Errorf("%s is in use by another process", path)
	}
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	snapshots, err := raft.NewFileSnapshotStoreWithLogger(dir, snapshotsKept, log)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open the snapshots in %s: %w", dir, err), bolt.Close())
	}
	// The first vote must not be lost with the name of the file that it is in.
	if err := syncDir(dir); err != nil {
		return nil, errors.Join(fmt.Errorf("write to %s: %w", dir, err), bolt.Close())
	}
	return &Stores{Log: bolt, Stable: bolt, Snapshots: snapshots, Close: bolt.Close}, nil
}

package raftstore

import (
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/hashicorp/raft"
)

const (
	snapshotDir    = "snapshots" // raft's name for it
	unfinished     = ".tmp"      // raft's ending of a snapshot that is being written
	snapshotMeta   = "meta.json"
	snapshotState  = "state.bin"
	snapshotSum    = "meta.sum"
	snapshotSumTag = "witnessd-snapshot-meta 1 %08x\n"
)

// checkedSnapshots are raft's snapshots in files. Raft has a checksum for the state in a snapshot and none for
// what it says of it: an index that has lost a bit would let entries be left out, a member that has another
// name let the group count wrongly. So that has a checksum too, in a file beside it. A snapshot that is
// damaged is passed over, like one that raft cannot read; whether the log reaches back to the one before it is
// for checkWhole to say.
//
// A snapshot that comes to nothing, for lack of room say, is removed: raft leaves it behind, and the next too.
type checkedSnapshots struct {
	*raft.FileSnapshotStore
	dir string
	log *raftLog
}

func openSnapshots(dir string, log *raftLog) (checkedSnapshots, error) {
	s := checkedSnapshots{dir: filepath.Join(dir, snapshotDir), log: log}
	err := removeAll(s.dir, "*"+unfinished)
	if err = errors.Join(err, writable(s.dir)); err != nil {
		return s, err
	}
	s.FileSnapshotStore, err = raft.NewFileSnapshotStoreWithLogger(dir, snapshotsKept, log)
	return s, err
}

// removeAll removes what a directory holds under names of a pattern. The directory itself may be called anything.
func removeAll(dir, pattern string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, e := range entries {
		if ok, _ := path.Match(pattern, e.Name()); ok {
			err = errors.Join(err, os.RemoveAll(filepath.Join(dir, e.Name())))
		}
	}
	return err
}

// writable tries what raft tries too, and keeps what kind of error it is.
func writable(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, "try")
	if err != nil {
		return err
	}
	return errors.Join(f.Close(), os.Remove(f.Name()))
}

// metaSum covers what is known before the state is written. The size and the state's own checksum are
// compared with the state.
func metaSum(m raft.SnapshotMeta) (string, error) {
	m.Size, m.Peers = 0, nil
	text, err := json.Marshal(m)
	return fmt.Sprintf(snapshotSumTag, crc32.Checksum(text, checksum())), err
}

func (s checkedSnapshots) Create(
	version raft.SnapshotVersion, index, term uint64, group raft.Configuration, groupIndex uint64, by raft.Transport,
) (raft.SnapshotSink, error) {
	sink, err := s.FileSnapshotStore.Create(version, index, term, group, groupIndex, by)
	if err != nil {
		return nil, errors.Join(err, removeAll(s.dir, fmt.Sprintf("%d-%d-*%s", term, index, unfinished)))
	}
	dir := filepath.Join(s.dir, sink.ID()+unfinished)
	sum, err := metaSum(raft.SnapshotMeta{
		Version: version, ID: sink.ID(), Index: index, Term: term, Configuration: group, ConfigurationIndex: groupIndex,
	})
	if err == nil {
		err = writeSynced(filepath.Join(dir, snapshotSum), sum)
	}
	if err != nil {
		return nil, errors.Join(err, sink.Cancel(), os.RemoveAll(dir))
	}
	return snapshotSink{sink, dir}, nil
}

type snapshotSink struct {
	raft.SnapshotSink
	dir string // until it is finished
}

func (s snapshotSink) Close() error  { return s.removedIf(s.SnapshotSink.Close()) }
func (s snapshotSink) Cancel() error { return s.removedIf(s.SnapshotSink.Cancel()) }

func (s snapshotSink) removedIf(err error) error {
	if err == nil {
		return nil
	}
	return errors.Join(err, os.RemoveAll(s.dir))
}

// List returns the snapshots that are what they were written as, the newest first. It reads them for that: if
// raft got to know of one that it cannot restore, and of no other, it would not start, whatever the log holds.
func (s checkedSnapshots) List() ([]*raft.SnapshotMeta, error) {
	all, err := s.FileSnapshotStore.List()
	if err != nil {
		return nil, err
	}
	whole := []*raft.SnapshotMeta{}
	for _, m := range all {
		_, content, err := s.Open(m.ID)
		if err == nil {
			err = content.Close()
		}
		if err != nil {
			s.log.Warn("snapshot passed over", "snapshot", filepath.Join(s.dir, m.ID), "error", err)
			continue
		}
		whole = append(whole, m)
	}
	return whole, nil
}

func (s checkedSnapshots) Open(id string) (*raft.SnapshotMeta, io.ReadCloser, error) {
	m, content, err := s.FileSnapshotStore.Open(id)
	if err != nil {
		return nil, nil, err
	}
	if m.ID != id {
		err = fmt.Errorf("%s is %w: it says that it is %s", id, ErrDamaged, m.ID)
	} else {
		err = s.check(m)
	}
	if err != nil {
		return nil, nil, errors.Join(err, content.Close())
	}
	return m, content, nil
}

// check compares what a snapshot says of itself with its checksum, its name and its state.
func (s checkedSnapshots) check(m *raft.SnapshotMeta) error {
	dir := filepath.Join(s.dir, m.ID)
	if info, err := os.Stat(filepath.Join(dir, snapshotState)); err != nil || info.Size() != m.Size {
		return fmt.Errorf("%s is %w: its state has not the size that it says (%d)", snapshotState, ErrDamaged, m.Size)
	}
	if !strings.HasPrefix(m.ID, fmt.Sprintf("%d-%d-", m.Term, m.Index)) {
		return fmt.Errorf("%s is %w: it says index %d of term %d", snapshotMeta, ErrDamaged, m.Index, m.Term)
	}
	got, err := os.ReadFile(filepath.Join(dir, snapshotSum))
	if errors.Is(err, fs.ErrNotExist) {
		return nil // by an earlier release
	}
	want, sumErr := metaSum(*m)
	if err = errors.Join(err, sumErr); err != nil {
		return err
	}
	if string(got) != want {
		return fmt.Errorf("%s is %w: its checksum is wrong", snapshotMeta, ErrDamaged)
	}
	return nil
}

// promised is the highest index that a snapshot here was taken at, whole or not: its directory is named after it.
func (s checkedSnapshots) promised() (highest uint64, err error) {
	entries, err := os.ReadDir(s.dir)
	for _, e := range entries {
		var term, index, at uint64
		if n, _ := fmt.Sscanf(e.Name(), "%d-%d-%d", &term, &index, &at); n == 3 && e.IsDir() &&
			!strings.HasSuffix(e.Name(), unfinished) {
			highest = max(highest, index)
		}
	}
	return highest, err
}

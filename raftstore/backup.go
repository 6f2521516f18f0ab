package raftstore

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"log/slog"

	"github.com/hashicorp/raft"
)

// Snapshot writes the machine's state to disk now and shortens the log. Raft does it by itself every 8192
// entries.
func (s *Store) Snapshot(ctx context.Context) error {
	return s.do(ctx, func() error {
		err := s.raft.Snapshot().Error()
		if errors.Is(err, raft.ErrNothingNewToSnapshot) {
			return nil
		}
		return err
	})
}

// A backup is one line that says what it is, index and term of the snapshot and its length, the snapshot,
// and a checksum of all that: half a backup must not be taken for a whole one.
const (
	backupHead = "witnessd-backup 1\n"

	// A state of this size would not fit into a node's memory twice.
	largestBackup = 1 << 32
)

type backupMeta struct{ Index, Term, Size uint64 }

func checksum() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) }

// BackupSnapshot takes a snapshot on this node and writes it out, for Restore. A follower's may lack what the
// leader accepted last.
func (s *Store) BackupSnapshot(ctx context.Context, w io.Writer) error {
	var taken raft.SnapshotFuture
	err := s.do(ctx, func() error {
		taken = s.raft.Snapshot()
		return taken.Error()
	})
	if err != nil {
		return fmt.Errorf("take a snapshot: %w", err)
	}
	meta, content, err := taken.Open()
	if err != nil {
		return fmt.Errorf("open the snapshot: %w", err)
	}
	err = writeBackup(w, backupMeta{meta.Index, meta.Term, uint64(meta.Size)}, content)
	return errors.Join(err, content.Close())
}

func writeBackup(w io.Writer, meta backupMeta, content io.Reader) error {
	sum := crc32.New(checksum())
	all := io.MultiWriter(w, sum)
	_, err := io.WriteString(all, backupHead)
	if err == nil {
		err = binary.Write(all, binary.BigEndian, meta)
	}
	if err == nil {
		_, err = io.CopyN(all, content, int64(meta.Size))
	}
	if err == nil {
		err = binary.Write(w, binary.BigEndian, sum.Sum32())
	}
	if err != nil {
		return fmt.Errorf("write the backup: %w", err)
	}
	return nil
}

func readBackup(r io.Reader) (meta backupMeta, content []byte, err error) {
	sum := crc32.New(checksum())
	all := io.TeeReader(r, sum)
	head := make([]byte, len(backupHead))
	if _, err := io.ReadFull(all, head); err != nil || string(head) != backupHead {
		return meta, nil, errors.New("this is not a backup of this program, or one of a newer program: use another backup")
	}
	if err := binary.Read(all, binary.BigEndian, &meta); err != nil || meta.Size > largestBackup {
		return meta, nil, errors.New("the backup is damaged: its head is not whole: use another backup")
	}
	var buf bytes.Buffer
	if _, err := io.CopyN(&buf, all, int64(meta.Size)); err != nil {
		return meta, nil, fmt.Errorf("the backup is damaged: it ends too early (%w): use another backup", err)
	}
	want := sum.Sum32()
	var got uint32
	if err := binary.Read(r, binary.BigEndian, &got); err != nil || got != want {
		return meta, nil, errors.New("the backup is damaged: its checksum is wrong: use another backup")
	}
	return meta, buf.Bytes(), nil
}

// A Restoration says what Restore makes of a backup.
type Restoration struct {
	Dir    string    // must be empty or missing
	Self   Server    // becomes the only member of the new group
	Backup io.Reader // as BackupSnapshot wrote it

	// Machine is empty, and is thrown away afterwards. Entry, if there is one, is applied to it after the
	// backup, as the first entry of the new group: what must be different from the old one.
	Machine Machine
	Entry   []byte

	Logger *slog.Logger
}

// Restore makes the directory of a new group of one node that starts with the state in a backup. It is run
// while the node is not. The other nodes are then started with empty directories, and added with AddServer.
//
// No node of the old group may run any more at an address that the new group uses. The nodes have no way to
// tell two groups apart, and would take the messages of one for those of the other.
//
// The result of applying the Entry is returned.
func Restore(r Restoration) (result any, err error) {
	meta, content, err := readBackup(r.Backup)
	if err != nil {
		return nil, err
	}
	if err := mustBeEmpty(r.Dir); err != nil {
		return nil, err
	}
	state := snapshot{}
	if state.applied, err = restore(r.Machine, bytes.NewReader(content)); err != nil {
		return nil, err
	}
	// The new group goes on above the old one's numbers: they may have been given to others.
	meta.Index++
	meta.Term++
	if r.Entry != nil {
		result = r.Machine.Apply(meta.Index, meta.Term, r.Entry)
		state.applied = meta.Index
	}
	if state.write, err = r.Machine.Snapshot(); err != nil {
		return nil, fmt.Errorf("take the restored state: %w", err)
	}
	if err := r.writeGroup(meta, state); err != nil {
		return nil, fmt.Errorf("write the new group to %s (empty it before trying again): %w", r.Dir, err)
	}
	return result, nil
}

// writeGroup writes the format last: a directory without it is refused by Open.
func (r Restoration) writeGroup(meta backupMeta, state snapshot) error {
	logger := r.Logger
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	stores, err := openStores(r.Dir, newRaftLog(logger))
	if err != nil {
		return err
	}
	self := Server{ID: r.Self.ID, Address: r.Self.Address}.raft()
	group := raft.Configuration{Servers: []raft.Server{self}}
	_, addresses := raft.NewInmemTransport(raft.ServerAddress(r.Self.Address)) // only encodes them
	sink, err := stores.Snapshots.Create(raft.SnapshotVersionMax, meta.Index, meta.Term, group, meta.Index, addresses)
	if err != nil {
		return errors.Join(err, stores.Close())
	}
	if err := state.Persist(sink); err != nil {
		return errors.Join(err, sink.Cancel(), stores.Close())
	}
	err = stores.Stable.SetUint64([]byte(keyTerm), meta.Term)
	if err = errors.Join(err, stores.Close()); err != nil {
		return err
	}
	return writeFormat(r.Dir)
}

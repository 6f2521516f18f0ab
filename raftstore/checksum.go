package raftstore

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"github.com/hashicorp/raft"
)

// What bbolt keeps, it keeps without a checksum: only the two heads of its file have one. A bit that a disk
// has lost would come back as another entry, and with it this node as another state than its peers, or as a
// vote that was never given. So entries, the term and the vote carry a checksum each.
//
// It is this node's own affair: it is taken off when an entry is read, and never travels. What an earlier
// release wrote has none, and is taken as it is.

// seal begins every checksum. No entry, and no term or candidate, ends like this by itself.
const seal = "\x00c1"

const sealed = len(seal) + crc32.Size

func appendSeal(to []byte, sum uint32) []byte {
	return binary.BigEndian.AppendUint32(append(to, seal...), sum)
}

// unseal splits off a seal, if there is one.
func unseal(b []byte) (content []byte, sum uint32, found bool) {
	at := len(b) - sealed
	if at < 0 || string(b[at:at+len(seal)]) != seal {
		return b, 0, false
	}
	return b[:at], binary.BigEndian.Uint32(b[at+len(seal):]), true
}

// checkedLog is a log whose entries carry their checksum in Extensions, raft's place for what is kept beside
// the data.
type checkedLog struct{ raft.LogStore }

func entrySum(e *raft.Log, extensions []byte) uint32 {
	head := binary.BigEndian.AppendUint64(nil, e.Index)
	head = binary.BigEndian.AppendUint64(head, e.Term)
	head = append(head, byte(e.Type))
	head = binary.BigEndian.AppendUint64(head, uint64(len(extensions)))
	sum := crc32.Checksum(head, checksum())
	sum = crc32.Update(sum, checksum(), extensions)
	return crc32.Update(sum, checksum(), e.Data)
}

func (l checkedLog) StoreLog(e *raft.Log) error { return l.StoreLogs([]*raft.Log{e}) }

func (l checkedLog) StoreLogs(entries []*raft.Log) error {
	all := make([]*raft.Log, len(entries))
	for i, e := range entries {
		c := *e // raft's own must stay as it is
		c.Extensions = appendSeal(bytes.Clone(e.Extensions), entrySum(e, e.Extensions))
		all[i] = &c
	}
	return l.LogStore.StoreLogs(all)
}

func (l checkedLog) GetLog(index uint64, e *raft.Log) error {
	if err := l.LogStore.GetLog(index, e); err != nil {
		return err
	}
	if e.Index != index {
		return fmt.Errorf("entry %d is %w: it says that it is entry %d", index, ErrDamaged, e.Index)
	}
	content, sum, found := unseal(e.Extensions)
	if found && sum != entrySum(e, content) || !found && len(e.Extensions) > 0 {
		return fmt.Errorf("entry %d is %w: its checksum is wrong", index, ErrDamaged)
	}
	e.Extensions = content
	if len(content) == 0 {
		e.Extensions = nil
	}
	return nil
}

// checkedStable is where the term and the vote are kept, each value with its checksum behind it.
type checkedStable struct{ raft.StableStore }

func valueSum(key, value []byte) uint32 {
	return crc32.Update(crc32.Checksum(key, checksum()), checksum(), value)
}

func (s checkedStable) Set(key, value []byte) error {
	return s.StableStore.Set(key, appendSeal(bytes.Clone(value), valueSum(key, value)))
}

func (s checkedStable) SetUint64(key []byte, value uint64) error {
	return s.Set(key, binary.BigEndian.AppendUint64(nil, value))
}

func (s checkedStable) Get(key []byte) ([]byte, error) {
	value, err := s.StableStore.Get(key)
	if err != nil {
		return nil, err
	}
	content, sum, found := unseal(value)
	if found && sum != valueSum(key, content) {
		return nil, fmt.Errorf("%s is %w: its checksum is wrong", key, ErrDamaged)
	}
	// Where the seal itself was hit, it is left: a number is then too long, and a candidate nobody's name.
	return content, nil
}

func (s checkedStable) GetUint64(key []byte) (uint64, error) {
	value, err := s.Get(key)
	if err != nil {
		return 0, err
	}
	if len(value) != 8 {
		return 0, fmt.Errorf("%s is %w: a number of %d bytes", key, ErrDamaged, len(value))
	}
	return binary.BigEndian.Uint64(value), nil
}

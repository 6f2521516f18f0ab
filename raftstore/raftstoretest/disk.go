package raftstoretest

import (
	"sync"

	"github.com/hashicorp/raft" //nolint:depguard // a disk is made of raft's own stores in memory

	"github.com/witnessd/witnessd/raftstore"
)

// Disk is what a node keeps when it is closed and opened again, in memory. It can hang and fail.
type Disk struct {
	data      *raft.InmemStore
	snapshots *raft.InmemSnapshotStore

	mu      sync.Mutex
	hanging chan struct{} // closed when the disk goes on
	reads   error
	writes  error
}

// NewDisk returns an empty disk. Make it inside the bubble of a test.
func NewDisk() *Disk {
	return &Disk{data: raft.NewInmemStore(), snapshots: raft.NewInmemSnapshotStore()}
}

// Stores returns the disk for raftstore.Options. It is called for each Open.
func (d *Disk) Stores() *raftstore.Stores {
	return &raftstore.Stores{
		Log:       diskLog{d},
		Stable:    diskStable{d},
		Snapshots: d.snapshots,
		Close:     func() error { return nil },
	}
}

// Hang makes every call wait until Resume.
func (d *Disk) Hang() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.hanging == nil {
		d.hanging = make(chan struct{})
	}
}

// Resume ends Hang.
func (d *Disk) Resume() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.hanging != nil {
		close(d.hanging)
		d.hanging = nil
	}
}

// FailWrites makes every write fail with err, until it is called with nil.
func (d *Disk) FailWrites(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.writes = err
}

// FailReads makes every read fail with err, until it is called with nil.
func (d *Disk) FailReads(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.reads = err
}

// Entries returns the first and the last index in the log, for tests that look behind the curtain.
func (d *Disk) Entries() (first, last uint64) {
	first, _ = d.data.FirstIndex()
	last, _ = d.data.LastIndex()
	return first, last
}

func (d *Disk) wait() (reads, writes error) {
	d.mu.Lock()
	hanging := d.hanging
	d.mu.Unlock()
	if hanging != nil {
		<-hanging
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.reads, d.writes
}

func (d *Disk) read(f func() error) error {
	if err, _ := d.wait(); err != nil {
		return err
	}
	return f()
}

func (d *Disk) write(f func() error) error {
	if _, err := d.wait(); err != nil {
		return err
	}
	return f()
}

type diskLog struct{ d *Disk }

func (l diskLog) FirstIndex() (i uint64, err error) {
	err = l.d.read(func() error { i, err = l.d.data.FirstIndex(); return err })
	return i, err
}

func (l diskLog) LastIndex() (i uint64, err error) {
	err = l.d.read(func() error { i, err = l.d.data.LastIndex(); return err })
	return i, err
}

func (l diskLog) GetLog(index uint64, entry *raft.Log) error {
	return l.d.read(func() error { return l.d.data.GetLog(index, entry) })
}

func (l diskLog) StoreLog(entry *raft.Log) error { return l.StoreLogs([]*raft.Log{entry}) }

func (l diskLog) StoreLogs(entries []*raft.Log) error {
	return l.d.write(func() error { return l.d.data.StoreLogs(entries) })
}

func (l diskLog) DeleteRange(first, last uint64) error {
	return l.d.write(func() error { return l.d.data.DeleteRange(first, last) })
}

type diskStable struct{ d *Disk }

func (s diskStable) Set(key, value []byte) error {
	return s.d.write(func() error { return s.d.data.Set(key, value) })
}

func (s diskStable) SetUint64(key []byte, value uint64) error {
	return s.d.write(func() error { return s.d.data.SetUint64(key, value) })
}

func (s diskStable) Get(key []byte) (value []byte, err error) {
	err = s.d.read(func() error { value, err = s.d.data.Get(key); return err })
	return value, err
}

func (s diskStable) GetUint64(key []byte) (value uint64, err error) {
	err = s.d.read(func() error { value, err = s.d.data.GetUint64(key); return err })
	return value, err
}

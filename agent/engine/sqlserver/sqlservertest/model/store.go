package model

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"sort"
)

// This file is the store: the log of one database, which is the database, and the tables that redo makes of it. The log
// is a file of frames: length, checksum, record as JSON. A record counts as hardened when append has returned.

// record is one entry of a log: a new table, the rows of a transaction, or, with neither, the mark of a new recovery
// fork. The fork tells histories apart that have the same LSNs.
type record struct {
	LSN   LSN
	Fork  string
	Table string `json:",omitempty"`
	Rows  []Row  `json:",omitempty"`
}

// size is what a record weighs in the queues that are shown.
func (r record) size() int64 {
	size := int64(512)
	for _, row := range r.Rows {
		size += int64(len(row.Table) + len(row.Value))
	}
	return size
}

// forkAt is a range of a log that begins at From and is of one fork.
type forkAt struct {
	Fork string
	From LSN
}

const (
	frameHead  = 8
	firstVLF   = 33
	blockBytes = 512
	vlfBlocks  = 1 << 20
)

// database is one database's log and what redo has made of it.
type database struct {
	name      string
	id        int32
	restoring bool          // RESTORING: a mirror or secondary, or what was one
	suspect   bool          // its log cannot be written
	done      chan struct{} // closed when the sessions that use it end; then replaced

	file    *os.File
	size    int64 // of the file
	records []record
	ends    []int64 // of the frames in the file
	redone  int     // so many records are in the tables
	tables  map[string][]string
}

// openDatabase reads the log at path, makes it if it is missing, and cuts off a torn tail.
func openDatabase(path, name string, id int32) (*database, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("opening the log of database %s: %w", name, err)
	}
	d := &database{name: name, id: id, file: file, done: make(chan struct{}), tables: map[string][]string{}}
	if err := d.load(); err != nil {
		return nil, errors.Join(fmt.Errorf("reading the log of database %s: %w", name, err), file.Close())
	}
	return d, nil
}

func (d *database) load() error {
	data, err := io.ReadAll(d.file)
	if err != nil {
		return err
	}
	for at := 0; at+frameHead <= len(data); {
		length := int(binary.BigEndian.Uint32(data[at:]))
		body := data[at+frameHead:]
		if length > len(body) || crc32.ChecksumIEEE(body[:length]) != binary.BigEndian.Uint32(data[at+4:]) {
			break
		}
		var r record
		if err := json.Unmarshal(body[:length], &r); err != nil {
			return err
		}
		at += frameHead + length
		d.records, d.ends = append(d.records, r), append(d.ends, int64(at))
	}
	return d.cutFile(len(d.records))
}

// append hardens records, which have their LSNs. An error leaves the log as it was, as far as the disk lets it.
func (d *database) append(records ...record) error {
	var frames []byte
	ends := make([]int64, 0, len(records))
	for _, r := range records {
		body, err := json.Marshal(r)
		if err != nil {
			return fmt.Errorf("writing a log record of %s: %w", d.name, err)
		}
		frames = binary.BigEndian.AppendUint32(frames, uint32(len(body)))
		frames = binary.BigEndian.AppendUint32(frames, crc32.ChecksumIEEE(body))
		frames = append(frames, body...)
		ends = append(ends, d.size+int64(len(frames)))
	}
	if _, err := d.file.WriteAt(frames, d.size); err != nil {
		return fmt.Errorf("writing the log of %s: %w", d.name, err)
	}
	if err := d.file.Sync(); err != nil {
		return fmt.Errorf("flushing the log of %s: %w", d.name, err)
	}
	d.size += int64(len(frames))
	d.records, d.ends = append(d.records, records...), append(d.ends, ends...)
	return nil
}

// truncate takes everything after lsn away, for good.
func (d *database) truncate(lsn LSN) error {
	keep := sort.Search(len(d.records), func(k int) bool { return d.records[k].LSN.Compare(lsn) > 0 })
	if keep == len(d.records) {
		return nil
	}
	if err := d.cutFile(keep); err != nil {
		return fmt.Errorf("cutting the log of %s: %w", d.name, err)
	}
	d.records, d.ends = d.records[:keep:keep], d.ends[:keep:keep] // writers of links may still read what was after
	if d.redone > keep {
		d.redone, d.tables = 0, map[string][]string{}
	}
	return nil
}

// cutFile leaves the first keep frames in the file.
func (d *database) cutFile(keep int) error {
	d.size = 0
	if keep > 0 {
		d.size = d.ends[keep-1]
	}
	if err := d.file.Truncate(d.size); err != nil {
		return err
	}
	return d.file.Sync()
}

// end is the LSN of the last hardened record.
func (d *database) end() LSN {
	if len(d.records) == 0 {
		return LSN{}
	}
	return d.records[len(d.records)-1].LSN
}

// fork is the present recovery fork.
func (d *database) fork() string {
	if len(d.records) == 0 {
		return ""
	}
	return d.records[len(d.records)-1].Fork
}

// next gives r the LSN after the end, and the present fork unless it brings its own.
func (d *database) next(r record) record {
	end := d.end()
	if end == (LSN{}) {
		end = LSN{VLF: firstVLF, Block: 15}
	}
	end.Block += uint32(r.size()+blockBytes-1) / blockBytes
	end.Slot = 1
	if end.Block >= vlfBlocks {
		end.VLF, end.Block = end.VLF+1, 16
	}
	r.LSN = end
	if r.Fork == "" {
		r.Fork = d.fork()
	}
	return r
}

// after are the hardened records after lsn, in order.
func (d *database) after(lsn LSN) []record {
	k := sort.Search(len(d.records), func(k int) bool { return d.records[k].LSN.Compare(lsn) > 0 })
	return d.records[k:]
}

// forks are the ranges of the log, in order.
func (d *database) forks() []forkAt {
	var forks []forkAt
	for _, r := range d.records {
		if len(forks) == 0 || forks[len(forks)-1].Fork != r.Fork {
			forks = append(forks, forkAt{Fork: r.Fork, From: r.LSN})
		}
	}
	return forks
}

// common is the last LSN up to which this log and one with those forks, which ends at end, are the same.
func (d *database) common(forks []forkAt, end LSN) LSN {
	limit := end
	below := LSN{VLF: ^uint32(0)}
	mine := d.forks()
	for k := range max(len(mine), len(forks)) {
		if k < len(mine) && k < len(forks) && mine[k] == forks[k] {
			continue
		}
		if k < len(mine) {
			below = mine[k].From
		}
		if k < len(forks) && forks[k].From.Compare(below) < 0 {
			below = forks[k].From
		}
		break
	}
	var last LSN
	for _, r := range d.records {
		if r.LSN.Compare(limit) > 0 || r.LSN.Compare(below) >= 0 {
			break
		}
		last = r.LSN
	}
	return last
}

// redo brings up to limit further records into the tables; 0 for all.
func (d *database) redo(limit int) {
	for n := 0; d.redone < len(d.records) && (limit == 0 || n < limit); n++ {
		r := d.records[d.redone]
		if r.Table != "" && d.tables[r.Table] == nil {
			d.tables[r.Table] = []string{}
		}
		for _, row := range r.Rows {
			d.tables[row.Table] = append(d.tables[row.Table], row.Value)
		}
		d.redone++
	}
}

// redoQueue is what redo has still to do, in bytes.
func (d *database) redoQueue() int64 {
	var size int64
	for _, r := range d.records[d.redone:] {
		size += r.size()
	}
	return size
}

// state is the database's state as sys.databases has it, without what mirroring or a group makes of it.
func (d *database) state() (string, uint8) {
	switch {
	case d.suspect:
		return "SUSPECT", 4
	case d.restoring:
		return "RESTORING", 1
	default:
		return "ONLINE", 0
	}
}

// endSessions ends the sessions that use the database.
func (d *database) endSessions() {
	close(d.done)
	d.done = make(chan struct{})
}

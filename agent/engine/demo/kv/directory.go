package kv

import (
	"bufio"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// The files of a data directory.
const (
	logFile        = "commits.log"       // the database
	markFile       = "demodb.synced"     // how much of the log was on disk at least
	incompleteFile = "demodb.incomplete" // present while the log is known to lack something
	claimFile      = "demodb.claim"      // which process owns the directory
	// AdminFile is the admin socket's name in a data directory, unless the server was told another place.
	AdminFile = "demodb.sock"
	// OutputFile is where whoever starts a server may put its standard error.
	OutputFile = "demodb.out"

	ownPrefix      = "demodb."
	divergedPrefix = "diverged-" // commits that were cut off
	asidePrefix    = "aside-"    // a whole log that was replaced by a copy
)

// ErrForeign refuses a directory, or a primary, that belongs to another database.
var ErrForeign = errors.New("data of another database")

// Data is what lies in a data directory.
type Data string

// What may lie in a data directory.
const (
	DataEmpty      Data = "empty"      // nothing
	DataPresent    Data = "present"    // a database
	DataIncomplete Data = "incomplete" // a copy, or a cut, that did not finish
	DataDamaged    Data = "damaged"    // a log that lacks entries that were on disk once
)

// Init makes a new database in an empty directory, which it creates if need be, and returns the id of the
// database. The log appears under its name only when it is whole and on disk.
func Init(dir string) (string, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("create data directory: %w", err)
	}
	info, err := Inspect(dir)
	if err != nil {
		return "", err
	}
	if info.Data != DataEmpty {
		return "", fmt.Errorf("%s: there is a database already; choose an empty directory", dir)
	}
	id := randomID()
	number := binary.BigEndian.Uint64([]byte(id))
	log := appendRecord(nil, 0, kindSystem, systemBody(id))
	first := Timeline{Number: 1, Start: int64(len(log)), ID: number}
	log = appendRecord(log, first.Start, kindTimeline, timelineBody(first))
	name := filepath.Join(dir, logFile)
	if err := writeSynced(name+".new", log); err != nil {
		return "", fmt.Errorf("write first log: %w", err)
	}
	if err := os.Rename(name+".new", name); err != nil {
		return "", fmt.Errorf("name first log: %w", err)
	}
	return id, syncDir(dir)
}

// Info is what a data directory tells while no server runs on it.
type Info struct {
	Data     Data
	Reason   string // why the data is incomplete or damaged
	System   string
	Position Position
}

// Inspect reads a data directory without changing it. A directory that does not exist is empty; one that
// holds something else than a database of ours is ErrForeign.
func Inspect(dir string) (Info, error) {
	data, err := classify(dir)
	if err != nil || data == DataEmpty {
		return Info{Data: data}, err
	}
	file, err := os.Open(filepath.Join(dir, logFile))
	if errors.Is(err, fs.ErrNotExist) {
		return Info{Data: DataIncomplete, Reason: reasonIncomplete}, nil
	}
	if err != nil {
		return Info{}, fmt.Errorf("inspect %s: %w", dir, err)
	}
	defer file.Close()
	img := newImage()
	end, err := readLog(file, img)
	if err != nil {
		return Info{}, fmt.Errorf("inspect %s: %w", dir, err)
	}
	info := Info{Data: data, System: img.system}
	info.Position = Position{Timeline: img.history.last().Number, Offset: end}
	if data == DataIncomplete {
		info.Reason = reasonIncomplete
	} else if mark := readMark(dir); end < mark {
		info.Data, info.Reason = DataDamaged, reasonDamaged(end, mark)
	}
	return info, nil
}

const reasonIncomplete = "a copy or a rewind did not finish; let it follow a primary"

func reasonDamaged(end, mark int64) string {
	return fmt.Sprintf("%s is readable up to offset %d only, and %d bytes were on disk once; "+
		"it needs a new copy", logFile, end, mark)
}

// classify tells by the names of the files, and by the log's first record, what a directory holds. It
// says DataPresent without having read the log.
func classify(dir string) (Data, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return DataEmpty, nil
	}
	if err != nil {
		return "", fmt.Errorf("read data directory: %w", err)
	}
	var stranger string
	hasLog, incomplete := false, false
	for _, e := range entries {
		switch name := e.Name(); {
		case name == logFile:
			info, err := e.Info()
			hasLog = err == nil && info.Size() > 0
		case name == incompleteFile:
			incomplete = true
		case !ours(name):
			stranger = name
		}
	}
	switch {
	case incomplete:
		return DataIncomplete, nil
	case hasLog:
		return DataPresent, checkFirstRecord(filepath.Join(dir, logFile))
	case stranger != "":
		return "", fmt.Errorf("%s holds %s and no log of demodb: %w; choose an empty directory",
			dir, stranger, ErrForeign)
	default:
		return DataEmpty, nil
	}
}

// ours tells whether a file may lie in a directory that counts as empty: what a server leaves that never
// got data, and what a new file system contains.
func ours(name string) bool {
	for _, prefix := range []string{ownPrefix, divergedPrefix, asidePrefix} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return name == logFile+".new" || name == "lost+found"
}

func checkFirstRecord(name string) error {
	file, err := os.Open(name)
	if err != nil {
		return fmt.Errorf("open log: %w", err)
	}
	defer file.Close()
	// The first record is a hundred bytes at most; a log may be shorter than the buffer.
	head, err := io.ReadAll(io.LimitReader(file, 512))
	if err != nil {
		return fmt.Errorf("read log: %w", err)
	}
	rec, err := parseRecord(head, 0)
	if err == nil {
		if _, ok := systemOf(rec); ok {
			return nil
		}
	}
	return fmt.Errorf("%s does not begin like a log of demodb: %w", name, ErrForeign)
}

// readLog applies every whole record of a log to the image and returns where the last one ends.
func readLog(r io.Reader, img *image) (int64, error) {
	in := bufio.NewReaderSize(r, headerSize+maxPayload)
	var at int64
	for {
		head, err := in.Peek(headerSize)
		if err == nil {
			n := min(int(binary.BigEndian.Uint32(head[4:])), maxPayload)
			head, err = in.Peek(headerSize + n)
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return at, fmt.Errorf("read log at %d: %w", at, err)
		}
		rec, err := parseRecord(head, at)
		if err != nil {
			return at, nil //nolint:nilerr // A torn tail; the caller knows how much must be there.
		}
		if err := img.take(rec); err != nil {
			return at, err
		}
		if _, err := in.Discard(int(rec.end - rec.start)); err != nil {
			return at, fmt.Errorf("read log at %d: %w", at, err)
		}
		at = rec.end
	}
}

// randomID names a database, a run or a timeline. A machine without randomness cannot go on.
func randomID() string {
	var b [8]byte
	if _, err := rand.Read(b[:]); err != nil {
		panic(fmt.Sprintf("no randomness: %v", err))
	}
	return hex.EncodeToString(b[:])
}

// writeSynced writes a file that is whole and on disk when the call returns.
func writeSynced(name string, content []byte) error {
	file, err := os.OpenFile(name, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if _, err := file.Write(content); err != nil {
		return errors.Join(err, file.Close())
	}
	return errors.Join(file.Sync(), file.Close())
}

// syncDir makes creations, renamings and removals in a directory durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("sync %s: %w", dir, err)
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("sync %s: %w", dir, err)
	}
	return nil
}

package kv

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// journal is the log on disk. It has one writer at a time: the flusher of a primary, or the receiver of a
// mirror. After an error of a write or a sync nothing is known about what is on disk, so the server ends.
type journal struct {
	dir  string
	file *os.File
	mark *os.File
	end  int64 // of what is on disk; only the writer reads or changes it
	torn int64 // bytes of an unfinished write that openJournal cut off
	// damaged is why the log must not be used, "" if it may be.
	damaged string
}

// openJournal opens or creates the log of a directory and returns what it says. Everything the result
// contains is on disk, also what an earlier run had written but not synced.
//
// Bytes after the last whole record are an unfinished write, which nobody was told about, and are cut off.
// If however the log was known to be longer than what can be read, entries are missing that may have been
// acknowledged: nothing is cut off and the log counts as damaged.
func openJournal(dir string) (*journal, *image, error) {
	flags := os.O_RDWR | os.O_CREATE
	file, err := os.OpenFile(filepath.Join(dir, logFile), flags, 0o600)
	if err != nil {
		return nil, nil, fmt.Errorf("open log: %w", err)
	}
	mark, err := os.OpenFile(filepath.Join(dir, markFile), flags, 0o600)
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("open mark: %w", err), file.Close())
	}
	j := &journal{dir: dir, file: file, mark: mark}
	img, err := j.read()
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("open log: %w", err), j.close())
	}
	return j, img, nil
}

func (j *journal) read() (*image, error) {
	img := newImage()
	end, err := readLog(j.file, img)
	if err != nil {
		return nil, err
	}
	stat, err := j.file.Stat()
	if err != nil {
		return nil, err
	}
	if mark := readMark(j.dir); end < mark {
		j.end, j.damaged = end, reasonDamaged(end, mark)
		return img, nil
	}
	j.torn = stat.Size() - end
	return img, j.truncate(end)
}

// append puts whole records at the end of the log; they are on disk when it returns nil.
func (j *journal) append(records []byte) error {
	if j.damaged != "" {
		return errors.New("append to a damaged log")
	}
	if _, err := j.file.WriteAt(records, j.end); err != nil {
		return fmt.Errorf("write log at %d: %w", j.end, err)
	}
	if err := j.file.Sync(); err != nil {
		return fmt.Errorf("sync log at %d: %w", j.end, err)
	}
	j.end += int64(len(records))
	return j.writeMark()
}

// truncate cuts the log at an offset where a record ends. The mark goes first: a crash in between leaves a
// log that is longer than its mark, which is harmless.
func (j *journal) truncate(to int64) error {
	j.end = to
	if err := j.writeMark(); err != nil {
		return err
	}
	if err := j.mark.Sync(); err != nil {
		return fmt.Errorf("sync mark: %w", err)
	}
	if err := j.file.Truncate(to); err != nil {
		return fmt.Errorf("cut log at %d: %w", to, err)
	}
	if err := j.file.Sync(); err != nil {
		return fmt.Errorf("sync log: %w", err)
	}
	return nil
}

// empty begins the log anew. The old one stays under the given name, or goes if the name is "". The mark
// goes first, as in truncate; the caller has marked the directory as incomplete.
func (j *journal) empty(keepAs string) error {
	if keepAs != "" {
		j.end = 0
		if err := errors.Join(j.writeMark(), j.mark.Sync()); err != nil {
			return fmt.Errorf("keep log aside: %w", err)
		}
		name := filepath.Join(j.dir, logFile)
		if err := os.Rename(name, filepath.Join(j.dir, keepAs)); err != nil {
			return fmt.Errorf("keep log aside: %w", err)
		}
		file, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return fmt.Errorf("begin log anew: %w", err)
		}
		old := j.file
		j.file = file
		if err := errors.Join(old.Close(), syncDir(j.dir)); err != nil {
			return fmt.Errorf("keep log aside: %w", err)
		}
	}
	j.damaged = ""
	return j.truncate(0)
}

// readAt returns whole records from an offset on: about limit bytes, but at least one record, and none
// that ends after upTo.
func (j *journal) readAt(from, upTo int64, limit int) ([]byte, error) {
	want := min(upTo-from, int64(max(limit, headerSize+maxPayload)))
	buf := make([]byte, want)
	if _, err := j.file.ReadAt(buf, from); err != nil {
		return nil, fmt.Errorf("read log at %d: %w", from, err)
	}
	whole := 0
	for whole < len(buf) && (whole == 0 || whole < limit) {
		rec, err := parseRecord(buf[whole:], from+int64(whole))
		if err != nil {
			break // The record that the limit cuts in two.
		}
		whole = int(rec.end - from)
	}
	if whole == 0 && want > 0 {
		return nil, fmt.Errorf("read log at %d: %w", from, errTorn)
	}
	return buf[:whole], nil
}

func (j *journal) close() error { return errors.Join(j.file.Close(), j.mark.Close()) }

// writeMark notes how much of the log is on disk. It is not synced: after a crash of the process the
// kernel still has it, and after a power cut an older, lower mark is merely less telling.
func (j *journal) writeMark() error {
	b := binary.BigEndian.AppendUint64(nil, uint64(j.end))
	b = binary.BigEndian.AppendUint32(b, checksum(0, b))
	if _, err := j.mark.WriteAt(b, 0); err != nil {
		return fmt.Errorf("write mark: %w", err)
	}
	return nil
}

// readMark returns how much of the log was on disk at least; 0 when nothing readable is noted.
func readMark(dir string) int64 {
	b, err := os.ReadFile(filepath.Join(dir, markFile))
	if err != nil || len(b) != 12 {
		return 0
	}
	if binary.BigEndian.Uint32(b[8:]) != checksum(0, b[:8]) {
		return 0
	}
	return int64(binary.BigEndian.Uint64(b))
}

package fleet

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// filler takes all the room of a disk, and what becomes free while it is at work: a database removes old log
// and would go on for a while.
type filler struct {
	file *os.File
	stop chan struct{}
	done sync.WaitGroup
}

// fillEvery is how often it looks for room.
const fillEvery = 20 * time.Millisecond

// fill leaves no room when it returns, and none until free.
func (d *disk) fill() error {
	if d.full != nil {
		return nil
	}
	file, err := os.OpenFile(filepath.Join(d.at, ".full"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("fill disk: %w", err)
	}
	f := &filler{file: file, stop: make(chan struct{})}
	if err := f.take(); err != nil {
		return errors.Join(fmt.Errorf("fill disk: %w", err), file.Close(), os.Remove(file.Name()))
	}
	d.full = f
	f.done.Go(func() {
		ticker := time.NewTicker(fillEvery)
		defer ticker.Stop()
		for {
			select {
			case <-f.stop:
				return
			case <-ticker.C:
				_ = f.take() // a disk that broke down takes nothing more
			}
		}
	})
	return nil
}

// take returns when there is no room for a single block.
func (f *filler) take() error {
	var room unix.Statfs_t
	if err := unix.Fstatfs(int(f.file.Fd()), &room); err != nil {
		return err
	}
	for size := int64(room.Bavail) * room.Bsize; size >= room.Bsize; {
		info, err := f.file.Stat()
		if err != nil {
			return err
		}
		err = unix.Fallocate(int(f.file.Fd()), 0, info.Size(), size)
		switch {
		case errors.Is(err, unix.ENOSPC):
			size /= 2
		case err != nil && !errors.Is(err, unix.EINTR):
			return err
		}
	}
	// What is left is kept back for a file's own bookkeeping, and goes to whoever writes.
	block := make([]byte, 4096)
	for {
		if _, err := f.file.Write(block); errors.Is(err, unix.ENOSPC) {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// free undoes fill.
func (d *disk) free() {
	f := d.full
	if f == nil {
		return
	}
	d.full = nil
	close(f.stop)
	f.done.Wait()
	_ = f.file.Close()
	_ = os.Remove(f.file.Name()) // a disk that broke down keeps it; its repair does not need the room
}

package fleet

import (
	"errors"
	"fmt"
	"path/filepath"
	"syscall"
)

// data is where the database's directory lies: a disk of its own if the fleet has such.
func (h *Host) data() string { return filepath.Join(h.dir, "pg") }

// log is the disk of the database's log.
func (h *Host) log() string { return filepath.Join(h.dir, "wal") }

// addDisks makes them before anything is put there.
func (h *Host) addDisks() error {
	opts := h.fleet.opts
	if opts.DiskMB == 0 && opts.WalMB == 0 {
		return nil
	}
	if h.space == nil {
		return errors.New("disks of hosts need namespaces")
	}
	var err error
	if opts.DiskMB > 0 {
		if h.disk, err = newDisk(h.fleet.dir, h.Name+"-data", h.data(), opts.DiskMB); err != nil {
			return err
		}
	}
	if opts.WalMB > 0 {
		h.wal, err = newDisk(h.fleet.dir, h.Name+"-wal", h.log(), opts.WalMB)
	}
	return err
}

func (h *Host) closeDisks() error { return errors.Join(h.disk.close(), h.wal.close()) }

// FillDisk leaves no room on the disk of the host's database, and takes what becomes free, until FreeDisk. What is
// written to log files that exist already goes on. It needs Options.DiskMB.
func (h *Host) FillDisk() error {
	if h.disk == nil {
		return errNoDisk
	}
	return h.disk.fill()
}

// FreeDisk undoes FillDisk.
func (h *Host) FreeDisk() error {
	if h.disk == nil {
		return errNoDisk
	}
	h.disk.free()
	return nil
}

var errNoDisk = errors.New("the host's database has no disk of its own: start the fleet with Options.DiskMB")

// DiskReadOnly has the kernel make the host's disk read-only while it is in use, as it does when it finds a fault
// there. It needs Options.DiskMB.
func (h *Host) DiskReadOnly() error {
	if h.disk == nil {
		return errNoDisk
	}
	return h.disk.breakDown()
}

// DiskWritable repairs a disk that is read-only as an administrator would: who uses it is killed, it is unmounted,
// checked and mounted again. The rest of the host stands still meanwhile: an agent that finds no database there
// might get itself another.
func (h *Host) DiskWritable() error {
	if h.disk == nil {
		return errNoDisk
	}
	held := false
	if h.supervisor != nil {
		h.supervisor.set(func(s *supervisor) { held, s.held = s.held, true })
	}
	freeze(h.space.pids)
	err := h.disk.repair()
	signalAll(h.space.pids(), syscall.SIGCONT)
	if h.supervisor != nil {
		h.supervisor.set(func(s *supervisor) { s.held = held })
	}
	if err != nil {
		return fmt.Errorf("repair the disk of %s: %w", h.Name, err)
	}
	return nil
}

// FillWal leaves no room on the disk of the database's log, and takes what becomes free, until FreeWal. It needs
// Options.WalMB, and a database that was made new on this host: that of a clone has its log among its data.
func (h *Host) FillWal() error {
	if h.wal == nil {
		return errors.New("the host's log has no disk of its own: start the fleet with Options.WalMB")
	}
	where, err := filepath.EvalSymlinks(filepath.Join(h.data(), "data", "pg_wal"))
	if err != nil {
		return fmt.Errorf("look where the log of %s is: %w", h.Name, err)
	}
	if filepath.Dir(where) != h.log() {
		return fmt.Errorf("the log of %s is not on its disk: its database is a clone", h.Name)
	}
	return h.wal.fill()
}

// FreeWal undoes FillWal.
func (h *Host) FreeWal() error {
	if h.wal != nil {
		h.wal.free()
	}
	return nil
}

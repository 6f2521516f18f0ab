//go:build linux

package postgres

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// process is one process as /proc shows it. The pid alone may name another one a moment later; with the
// instant of its start it is the same process for as long as the machine runs.
type process struct {
	pid, parent int
	state       byte
	started     uint64 // clock ticks since the machine started
}

func (p process) dead() bool { return p.state == 'Z' || p.state == 'X' }

// leaving is true for a process that has let go of its memory, and so of its command line, and is not yet dead.
func leaving(pid int) bool {
	line, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cmdline")
	return err == nil && len(line) == 0
}

// stopped is true for a process that was suspended by a signal or a debugger.
func (p process) stopped() bool { return p.state == 'T' || p.state == 't' }

func readProcess(pid int) (process, error) {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return process{}, err
	}
	// The name, in brackets, may itself hold blanks and brackets.
	_, rest, ok := bytes.Cut(text[max(bytes.LastIndexByte(text, ')'), 0):], []byte(") "))
	fields := strings.Fields(string(rest))
	if !ok || len(fields) < 20 {
		return process{}, fmt.Errorf("process %d: cannot read its status %q", pid, text)
	}
	parent, errParent := strconv.Atoi(fields[1])
	started, errStarted := strconv.ParseUint(fields[19], 10, 64)
	if err := errors.Join(errParent, errStarted); err != nil {
		return process{}, fmt.Errorf("process %d: cannot read its status: %w", pid, err)
	}
	return process{pid: pid, parent: parent, state: fields[0][0], started: started}, nil
}

// serves says whether a process belongs to the instance. Every process of a server keeps the data directory
// as its working directory, also one whose postmaster has died, and only the kernel's word for that is
// asked: no file of a disk that may hang.
func serves(pid int, dataDir string) bool {
	proc := "/proc/" + strconv.Itoa(pid)
	exe, err := os.Readlink(proc + "/exe")
	if err != nil || filepath.Base(strings.TrimSuffix(exe, " (deleted)")) != "postgres" {
		return false
	}
	cwd, err := os.Readlink(proc + "/cwd")
	return err == nil && cwd == dataDir
}

// family is the living processes of an instance.
type family struct {
	masters  []process // postmasters, and servers that run without one
	children []process
}

func (f family) all() []process { return append(slices.Clip(f.masters), f.children...) }

// orphans are children that outlived their postmaster.
func (f family) orphans() []process {
	alive := map[int]bool{}
	for _, p := range f.all() {
		alive[p.pid] = true
	}
	return slices.DeleteFunc(slices.Clone(f.children), func(p process) bool { return alive[p.parent] })
}

// serverProcesses finds all living processes of the instance.
func serverProcesses(dataDir string) (family, error) {
	proc, err := os.Open("/proc")
	if err != nil {
		return family{}, fmt.Errorf("list processes: %w", err)
	}
	defer proc.Close()
	names, err := proc.Readdirnames(-1)
	if err != nil {
		return family{}, fmt.Errorf("list processes: %w", err)
	}
	var all []process
	mine := map[int]bool{}
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil || !serves(pid, dataDir) {
			continue
		}
		p, err := readProcess(pid)
		if err != nil || p.dead() {
			continue
		}
		mine[pid] = true
		all = append(all, p)
	}
	var f family
	for _, p := range all {
		// A title is in the other process's memory, and slow to read while that is busy.
		if mine[p.parent] || titled(p.pid) {
			f.children = append(f.children, p)
		} else {
			f.masters = append(f.masters, p)
		}
	}
	return f, nil
}

// titled is true for a child of a postmaster, also after the postmaster's death: only children call
// themselves "postgres: something".
func titled(pid int) bool {
	line, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cmdline")
	return err == nil && bytes.HasPrefix(line, []byte("postgres: "))
}

// signalProcess signals exactly this process, or nobody if it is gone.
func signalProcess(p process, signal unix.Signal) error {
	fd, err := unix.PidfdOpen(p.pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open process %d: %w", p.pid, err)
	}
	defer unix.Close(fd) //nolint:errcheck // Only read from.
	again, err := readProcess(p.pid)
	if err != nil || again.started != p.started {
		return nil // It is gone, and its number may be another's.
	}
	err = unix.PidfdSendSignal(fd, signal, nil, 0)
	if err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("signal process %d: %w", p.pid, err)
	}
	return nil
}

// awaitEnd waits until the processes have ended, but not longer than limit. The kernel tells, so that waiting
// takes nothing from those who have to end.
func awaitEnd(all []process, limit time.Duration) error {
	var waiting []unix.PollFd
	defer func() {
		for _, w := range waiting {
			_ = unix.Close(int(w.Fd))
		}
	}()
	for _, p := range all {
		fd, err := unix.PidfdOpen(p.pid, 0)
		if errors.Is(err, unix.ESRCH) {
			continue
		}
		if err != nil {
			return fmt.Errorf("open process %d: %w", p.pid, err)
		}
		waiting = append(waiting, unix.PollFd{Fd: int32(fd), Events: unix.POLLIN})
	}
	began := now()
	for ended := 0; ended < len(waiting); {
		left := limit - since(began)
		if left < time.Millisecond {
			return nil
		}
		n, err := unix.Poll(waiting[ended:], int(left.Milliseconds()))
		if err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("wait for the end of processes: %w", err)
		}
		if n <= 0 {
			continue
		}
		// Those that have ended go to the front, and are not asked about again.
		for i := ended; i < len(waiting); i++ {
			if waiting[i].Revents != 0 {
				waiting[i], waiting[ended] = waiting[ended], waiting[i]
				ended++
			}
		}
	}
	return nil
}

// pollEvery is how often something that no event tells is looked at.
const pollEvery = 2 * time.Millisecond

//go:build linux

package postgres

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/witnessd/witnessd/agent/engine"
)

// run is one run of the server: a postmaster, from its start to its end.
type run struct {
	process
	id string
	// managed is true if the server reads the run file: its commits can be held and released.
	managed bool
	// adopted is true if the agent governs the commits of a server that somebody else started (adopt.go); kept
	// are the other settings that it has given it, nil until they are first needed.
	adopted atomic.Bool
	kept    []setting
	// asked is set before the agent ends the run itself: then its end is no news.
	asked atomic.Bool
	// gone is closed when the postmaster has ended; ending says how, if this agent is its parent.
	gone   chan struct{}
	ending string

	handle *os.File    // a pidfd: the kernel tells through it that the process ended
	child  *os.Process // nil for a process that an earlier agent or somebody else started
}

// newRun takes hold of a living postmaster.
func newRun(pid int, managed bool, child *os.Process) (*run, error) {
	fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("watch process %d: %w", pid, err)
	}
	p, err := readProcess(pid)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("watch process %d: %w", pid, err), unix.Close(fd))
	}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return nil, errors.Join(fmt.Errorf("tell this boot from others: %w", err), unix.Close(fd))
	}
	return &run{
		process: p,
		id:      fmt.Sprintf("%.8s-%d-%d", boot, p.started, pid),
		managed: managed,
		gone:    make(chan struct{}),
		handle:  os.NewFile(uintptr(fd), "pidfd"),
		child:   child,
	}, nil
}

// alive is true until the postmaster has ended.
func (r *run) alive() bool {
	select {
	case <-r.gone:
		return false
	default:
		return true
	}
}

// signal reaches this postmaster or nobody.
func (r *run) signal(signal unix.Signal) error {
	raw, err := r.handle.SyscallConn()
	if err == nil {
		var sent error
		err = raw.Control(func(fd uintptr) { sent = unix.PidfdSendSignal(int(fd), signal, nil, 0) })
		err = errors.Join(err, sent)
	}
	if err == nil || errors.Is(err, unix.ESRCH) || !r.alive() {
		return nil
	}
	return fmt.Errorf("signal the server: %w", err)
}

// await returns true when the process has ended, and false when the handle was closed before.
func (r *run) await() bool {
	raw, err := r.handle.SyscallConn()
	if err != nil {
		return false
	}
	ended := false
	err = raw.Read(func(fd uintptr) bool {
		poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(poll, 0)
		ended = err == nil && n == 1
		return ended
	})
	return err == nil && ended
}

// watch waits for the end of a run and tells it. It ends when the process does, or with Close.
func (e *Engine) watch(r *run) {
	defer e.watchers.Done()
	if !r.await() {
		return
	}
	r.ending = "the server's process ended; see " + e.cfg.LogFile
	if r.child != nil {
		// Reaps the child; it has ended, so this does not wait.
		if state, err := r.child.Wait(); err == nil {
			r.ending = "the server's process ended (" + state.String() + "); see " + e.cfg.LogFile
		}
	}
	close(r.gone)
	_ = r.handle.Close()
	if r.adopted.Load() {
		e.forgetAdopted()
	}
	if r.asked.Load() {
		return
	}
	// A backend may outlive its postmaster for as long as its client keeps it busy, and acknowledge
	// commits all the while. The news that the server ended must be true when it is told.
	if found, err := serverProcesses(e.cfg.DataDir); err == nil {
		for _, p := range found.orphans() {
			if err := signalProcess(p, unix.SIGKILL); err != nil {
				e.log.Warn("orphan of a dead server not killed", slog.Any("error", err))
			}
		}
	}
	e.log.Warn("server ended by itself", slog.String("run", r.id), slog.String("how", r.ending))
	select {
	case e.exits <- engine.Exit{Run: r.id, Reason: r.ending}:
	default:
		e.log.Warn("end of the server not delivered: nobody reads", slog.String("run", r.id))
	}
}

// register makes r the current run and watches it.
func (e *Engine) register(r *run) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.current = r
	if e.fencing > 0 {
		r.asked.Store(true) // Fence finds it among the processes.
	}
	if e.closed {
		return
	}
	e.watchers.Add(1)
	go e.watch(r)
}

// server is the running server, or nil. One that the engine did not know of, started by an earlier agent or
// by somebody else, is watched from now on.
func (e *Engine) server() (*run, error) {
	r, found, err := e.find()
	if found && !r.adopted.Load() && exists(e.path(adoptedFile)) {
		e.forgetAdopted()
	}
	return r, err
}

// find is server without a look at what an ended run has left behind; found is true if the engine did not know
// of the run.
func (e *Engine) find() (r *run, found bool, err error) {
	e.adopting.Lock()
	defer e.adopting.Unlock()
	e.mu.Lock()
	r = e.current
	e.mu.Unlock()
	// The kernel's notice of an end may be a moment behind what /proc shows.
	if r != nil && r.alive() && serves(r.pid, e.cfg.DataDir) {
		return r, false, nil
	}
	file, err := readPidFile(e.cfg.DataDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	if !serves(file.pid, e.cfg.DataDir) {
		return nil, false, nil // A file that a killed server left behind.
	}
	adopted, err := newRun(file.pid, e.readsRunFile(file.pid), nil)
	if err != nil && !errors.Is(err, unix.ESRCH) {
		return nil, false, err
	}
	if err != nil || !serves(file.pid, e.cfg.DataDir) {
		return nil, false, nil // It ended meanwhile.
	}
	adopted.adopted.Store(e.wasAdopted(adopted))
	e.log.Info("running server found", slog.String("run", adopted.id),
		slog.Bool("started_by_agent", adopted.managed), slog.Bool("adopted", adopted.adopted.Load()))
	e.register(adopted)
	return adopted, true, nil
}

// readsRunFile tells from a server's command line whether an agent started it.
func (e *Engine) readsRunFile(pid int) bool {
	line, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cmdline")
	return err == nil && strings.Contains(string(line), "config_file="+e.path(runFile)+"\x00")
}

// pidFile is what a postmaster says of itself in postmaster.pid.
type pidFile struct {
	pid       int
	port      uint16
	socketDir string
	shmID     int  // of its memory segment, -1 if not known
	ready     bool // accepts connections
}

func readPidFile(dataDir string) (pidFile, error) {
	text, err := os.ReadFile(filepath.Join(dataDir, "postmaster.pid"))
	if err != nil {
		return pidFile{}, fmt.Errorf("look for a running server: %w", err)
	}
	lines := strings.Split(string(text), "\n")
	pid, err := strconv.Atoi(strings.TrimSpace(lines[0]))
	if err != nil || pid <= 0 {
		// Just being written, or the leftover of a single-user server (a negative number).
		return pidFile{}, fmt.Errorf("look for a running server: postmaster.pid says %q: %w",
			lines[0], fs.ErrNotExist)
	}
	file := pidFile{pid: pid, shmID: -1}
	if len(lines) > 4 {
		port, _ := strconv.ParseUint(lines[3], 10, 16)
		file.port, file.socketDir = uint16(port), lines[4]
	}
	if len(lines) > 6 {
		if fields := strings.Fields(lines[6]); len(fields) == 2 {
			if id, err := strconv.Atoi(fields[1]); err == nil {
				file.shmID = id
			}
		}
	}
	file.ready = len(lines) > 7 && strings.TrimSpace(lines[7]) == "ready"
	return file, nil
}

// exitQueue is how many unread ends are kept: an agent reads each before it starts the server again.
const exitQueue = 4

// stopPatience is how long a clean stop may take before the server is killed, if the caller sets no limit.
const stopPatience = 30 * time.Second

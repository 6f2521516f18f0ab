package service

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// handle means one process, also when its number has been given to another.
type handle struct {
	pid  int
	run  string
	file *os.File      // pidfd; readable when the process has ended
	gone chan struct{} // closed when it has
	once sync.Once

	asked bool // its end is the agent's wish; guarded by linux.mu
}

func openHandle(pid int) (*handle, error) {
	fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("pidfd of %d: %w", pid, err)
	}
	h := &handle{pid: pid, gone: make(chan struct{}), file: os.NewFile(uintptr(fd), "pidfd")}
	if h.run, err = runOf(pid); err != nil {
		return nil, errors.Join(err, h.release())
	}
	return h, nil
}

// runOf names one run of a process by what the kernel knows: which start of the machine, which number, when it began.
// The error is ESRCH if there is no such process.
func runOf(pid int) (string, error) {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("name the run: %w", err)
	}
	fields, err := statOf(pid)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%.8s-%d-%s", boot, pid, fields[19]), nil
}

// statOf are the fields of /proc/PID/stat behind the program's name, which may contain anything: state, parent, ...;
// the start time is number 19 (proc_pid_stat(5), field 22).
func statOf(pid int) ([]string, error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) {
		return nil, fmt.Errorf("process %d: %w", pid, unix.ESRCH)
	}
	if err != nil {
		return nil, err
	}
	text := string(raw)
	fields := strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
	if len(fields) < 20 {
		return nil, fmt.Errorf("/proc/%d/stat is too short", pid)
	}
	return fields, nil
}

// wait returns when the process has ended; false if the handle was released first. The runtime's poller waits, so no
// thread is spent on it.
func (h *handle) wait() bool {
	raw, err := h.file.SyscallConn()
	if err != nil {
		return false
	}
	return raw.Read(ended) == nil
}

func ended(fd uintptr) bool {
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
		if !errors.Is(err, unix.EINTR) {
			return n > 0
		}
	}
}

// signal sends a signal; a process that has ended needs none.
func (h *handle) signal(sig unix.Signal) error {
	raw, err := h.file.SyscallConn()
	if err == nil {
		var sent error
		err = raw.Control(func(fd uintptr) { sent = unix.PidfdSendSignal(int(fd), sig, nil, 0) })
		err = errors.Join(err, sent)
	}
	if err == nil || errors.Is(err, unix.ESRCH) {
		return nil
	}
	select {
	case <-h.gone:
		return nil
	default:
		return fmt.Errorf("signal process %d: %w", h.pid, err)
	}
}

// release lets go of the handle and not of the process.
func (h *handle) release() (err error) {
	h.once.Do(func() { err = h.file.Close() })
	return err
}

package demo

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/witnessd/witnessd/agent/engine/demo/kv"
)

// process is a demodb that runs, or ran. The handle goes on meaning this process when its number has been
// given to another.
type process struct {
	pid    int
	run    string
	handle *os.File      // pidfd; readable when the process has ended
	gone   chan struct{} // closed when the process has ended

	// Guarded by the engine's mu.
	child *os.Process // nil if this agent did not start it
	admin kv.Admin
	asked bool // its end is the agent's wish
}

// openProcess takes hold of a running process.
func openProcess(pid int, child *os.Process) (*process, error) {
	fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("pidfd of %d: %w", pid, err)
	}
	p := &process{
		pid: pid, child: child, gone: make(chan struct{}),
		handle: os.NewFile(uintptr(fd), "pidfd"),
	}
	if p.run, err = runOf(pid); err != nil {
		return nil, errors.Join(err, p.release())
	}
	return p, nil
}

// runOf names one run of a process by what the kernel knows about it: which start of the machine, which
// number, when it began. It needs no answer from the process.
func runOf(pid int) (string, error) {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("name the run: %w", err)
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", fmt.Errorf("name the run: %w", err)
	}
	// The program's name is in parentheses and may contain anything; the start time is the 20th field
	// behind it (proc_pid_stat(5), field 22).
	text := string(stat)
	fields := strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
	if len(fields) < 20 {
		return "", fmt.Errorf("name the run: /proc/%d/stat is too short", pid)
	}
	return fmt.Sprintf("%.8s-%d-%s", boot, pid, fields[19]), nil
}

// wait returns when the process has ended; false if the handle was released first. The runtime's poller
// waits for the handle, so no thread is spent on it.
func (p *process) wait() bool {
	raw, err := p.handle.SyscallConn()
	if err != nil {
		return false
	}
	return raw.Read(pidfdEnded) == nil
}

func pidfdEnded(fd uintptr) bool {
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
		if !errors.Is(err, unix.EINTR) {
			return n > 0
		}
	}
}

// signal sends a signal; a process that has ended needs none.
func (p *process) signal(sig syscall.Signal) error {
	raw, err := p.handle.SyscallConn()
	if err == nil {
		var sent error
		err = raw.Control(func(fd uintptr) { sent = unix.PidfdSendSignal(int(fd), sig, nil, 0) })
		err = errors.Join(err, sent)
	}
	if err == nil || errors.Is(err, unix.ESRCH) {
		return nil
	}
	select {
	case <-p.gone:
		return nil
	default:
		return fmt.Errorf("signal demodb %d: %w", p.pid, err)
	}
}

// release lets go of the handle and not of the process.
func (p *process) release() error { return p.handle.Close() }

// detach makes a command outlive the agent: a signal to the agent's terminal does not reach it.
func detach(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} }

package hook

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"time"
	"unsafe"
)

// command prepares a program in a process group of its own, so that all that it starts can be ended with it, and a
// signal to the agent's group does not reach it. Its standard input is /dev/null; all of the agent's own files are
// closed when it begins.
func command(words []string) *exec.Cmd {
	//nolint:noctx // Its end is await's: a context would end its first process only.
	cmd := exec.Command(words[0], words[1:]...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return cmd
}

// keepFilesFromCommands marks every open file above the standard ones as one that commands do not get. Go does so with
// all that it opens; this is for what the agent has inherited itself. An old kernel refuses, and then it is left.
func keepFilesFromCommands() {
	const (
		closeRange = 436 // the system call's number, the same on all processors
		markThem   = 0x4 // CLOSE_RANGE_CLOEXEC
	)
	_, _, _ = syscall.Syscall(closeRange, 3, 1<<32-1, markThem)
}

// await waits for the end of a command and brings it about at its limit. cut says why it was cut short; "": it was
// not.
func (r *Runner) await(cmd *exec.Cmd, limit time.Duration) (cut string, err error) {
	pid := cmd.Process.Pid
	beLikeOthers(pid)
	over := make(chan struct{})
	go func() {
		defer close(over)
		waitExited(pid)
	}()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	wait := grace
	select {
	case <-over:
		return "", cmd.Wait()
	case <-timer.C:
		cut = fmt.Sprintf("ended at its time limit of %v", limit)
	case <-r.closing.Done():
		cut, wait = "ended because the agent stops", closeGrace
	}
	// Until it is waited for, the first process keeps the group's number from being given to others: its end is seen
	// and left, and what is signalled is the hook and nothing else.
	_ = syscall.Kill(-pid, syscall.SIGTERM)
	late := time.NewTimer(wait)
	defer late.Stop()
	select {
	case <-over:
	case <-late.C:
	}
	_ = syscall.Kill(-pid, syscall.SIGKILL)
	late.Reset(grace)
	select {
	case <-over:
		return cut, cmd.Wait()
	case <-late.C:
		// In a call to a disk or a network file system that does not return. The next command must not wait for it.
		go func() { _ = cmd.Wait() }()
		return cut + ", and does not end even when killed", nil
	}
}

// waitExited returns when the process has ended and leaves it to be waited for.
func waitExited(pid int) {
	const (
		byPID     = 1
		exited    = 0x4
		leaveThem = 0x1000000 // WNOWAIT
	)
	var info [128]byte
	for {
		_, _, failed := syscall.Syscall6(syscall.SYS_WAITID, byPID, uintptr(pid), uintptr(unsafe.Pointer(&info)),
			exited|leaveThem, 0, 0)
		if !errors.Is(failed, syscall.EINTR) {
			return
		}
	}
}

// beLikeOthers takes back what the agent's unit gives to the agent: to be ahead of others on the processor, and to be
// spared when memory runs out. Best effort: what it has started in its first moment may keep the latter.
func beLikeOthers(pid int) {
	_ = syscall.Setpriority(syscall.PRIO_PGRP, pid, 0)
	_ = os.WriteFile("/proc/"+strconv.Itoa(pid)+"/oom_score_adj", []byte("0"), 0)
}

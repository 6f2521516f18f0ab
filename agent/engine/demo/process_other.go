//go:build !linux

package demo

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"

	"github.com/witnessd/witnessd/agent/engine/demo/kv"
)

// process stands for a running demodb, which this system has no handle for.
type process struct {
	pid   int
	run   string
	gone  chan struct{}
	child *os.Process
	admin kv.Admin
	asked bool
}

func openProcess(int, *os.Process) (*process, error) {
	return nil, fmt.Errorf("the demo engine needs Linux: %w", errors.ErrUnsupported)
}

func (p *process) wait() bool { return false }

func (p *process) signal(syscall.Signal) error { return errors.ErrUnsupported }

func (p *process) release() error { return nil }

func detach(*exec.Cmd) {}

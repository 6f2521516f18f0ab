//go:build !linux

package hook

import (
	"fmt"
	"os/exec"
	"time"
)

// command prepares a program. This system has no process groups that could be ended as one.
func command(words []string) *exec.Cmd {
	//nolint:noctx // Its end is await's.
	return exec.Command(words[0], words[1:]...)
}

func keepFilesFromCommands() {}

// await waits for the end of a command and brings it about at its limit. cut says why it was cut short; "": it was
// not.
func (r *Runner) await(cmd *exec.Cmd, limit time.Duration) (cut string, err error) {
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case err := <-ended:
		return "", err
	case <-timer.C:
		cut = fmt.Sprintf("ended at its time limit of %v", limit)
	case <-r.closing.Done():
		cut = "ended because the agent stops"
	}
	_ = cmd.Process.Kill()
	timer.Reset(grace)
	select {
	case err := <-ended:
		return cut, err
	case <-timer.C:
		return cut + ", and does not end even when killed", nil
	}
}

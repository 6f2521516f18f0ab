//go:build linux

package postgres

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// lastWords is how much of a program's output is kept for the error that it ends with.
const lastWords = 12

// longestLine of a program's output: pg_waldump shows a record in one, and a commit names all that it invalidates.
const longestLine = 4 << 20

// command prepares one of PostgreSQL's programs, to run as the instance's owner in a process group of its
// own, which is killed when ctx ends.
func (e *Engine) command(ctx context.Context, program string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(e.bin, program), args...)
	cmd.Dir = "/" // The agent's own directory may be closed to the instance's owner.
	cmd.Env = append(e.user.environment(), "TZ=UTC")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Credential: e.user.credential, Setpgid: true,
		// A copy that goes on after its agent's death would write into the next agent's copy.
		Pdeathsig: syscall.SIGKILL,
	}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	return cmd
}

// output runs a program that answers at once and returns what it printed.
func (e *Engine) output(ctx context.Context, program string, args ...string) (string, error) {
	runtime.LockOSThread() // Pdeathsig is about the thread that started the child.
	defer runtime.UnlockOSThread()
	cmd := e.command(ctx, program, args...)
	var complaint bytes.Buffer
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s: %w: %s", program, err, strings.TrimSpace(complaint.String()))
	}
	return string(out), nil
}

// streamTool runs a program that takes its time, and hands over each line of its output.
func (e *Engine) streamTool(
	ctx context.Context, line func(string), program string, args ...string,
) error {
	runtime.LockOSThread() // Pdeathsig is about the thread that started the child.
	defer runtime.UnlockOSThread()
	cmd := e.command(ctx, program, args...)
	reader, writer := io.Pipe()
	cmd.Stdout, cmd.Stderr = writer, writer
	var last []string
	read := make(chan struct{})
	go func() {
		defer close(read)
		scanner := bufio.NewScanner(reader)
		scanner.Buffer(nil, longestLine)
		scanner.Split(scanLines)
		for scanner.Scan() {
			last = append(last, scanner.Text())
			last = last[max(0, len(last)-lastWords):]
			line(scanner.Text())
		}
		_ = reader.CloseWithError(errors.Join(scanner.Err(), io.ErrClosedPipe))
	}()
	err := cmd.Run()
	_ = writer.Close()
	<-read
	if err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return fmt.Errorf("%s: %w: %s", program, err, strings.Join(last, "; "))
	}
	return nil
}

// scanLines splits at line feeds and at carriage returns, by which progress overwrites itself.
func scanLines(data []byte, atEOF bool) (advance int, token []byte, err error) {
	if i := bytes.IndexAny(data, "\r\n"); i >= 0 {
		return i + 1, bytes.TrimSpace(data[:i]), nil
	}
	if atEOF && len(data) > 0 {
		return len(data), bytes.TrimSpace(data), nil
	}
	return 0, nil, nil
}

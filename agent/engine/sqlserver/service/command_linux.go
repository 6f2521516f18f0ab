package service

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// command is a process that the agent starts itself. It is found by its words: also one that an earlier agent, or a
// person, has started.
type command struct {
	words  []string
	output string
}

func (c *command) name() string { return filepath.Base(c.words[0]) }

// find asks the kernel for processes with these very words. SQL Server for Linux has two: one watches over the other,
// which is its child, and ends with it.
func (c *command) find(context.Context) ([]int, error) {
	want := []byte(strings.Join(c.words, "\x00") + "\x00")
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	parents := map[int]int{}
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		line, err := os.ReadFile(filepath.Join("/proc", entry.Name(), "cmdline"))
		if err != nil || !bytes.Equal(line, want) {
			continue // ended, or another's
		}
		fields, err := statOf(pid)
		if err != nil || fields[0] == "Z" || fields[0] == "X" {
			continue // dead, only not yet collected by its parent
		}
		if parents[pid], err = strconv.Atoi(fields[1]); err != nil {
			return nil, fmt.Errorf("parent of process %d: %w", pid, err)
		}
	}
	return ordered(parents), nil
}

// ordered lists parents before their children.
func ordered(parents map[int]int) []int {
	var roots, rest []int
	for pid, parent := range parents {
		if _, known := parents[parent]; known {
			rest = append(rest, pid)
		} else {
			roots = append(roots, pid)
		}
	}
	slices.Sort(roots)
	slices.Sort(rest)
	return append(roots, rest...)
}

func (c *command) start(context.Context) error {
	cmd := exec.Command(c.words[0], c.words[1:]...)
	if c.output != "" {
		out, err := os.OpenFile(c.output, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			return fmt.Errorf("open its output: %w", err)
		}
		defer out.Close()
		cmd.Stdout, cmd.Stderr = out, out
	}
	cmd.Dir = "/"
	// Not the agent's environment: what systemd put there for the agent is none of the database's.
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "TZ=" + os.Getenv("TZ")}
	// A session of its own: it must outlive the agent, and a signal to the agent's terminal must not reach it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	go func() { _ = cmd.Wait() }() // collects it; how it ended is told by its handle
	return nil
}

func (c *command) stop(ctx context.Context) error {
	pids, err := c.find(ctx)
	for _, pid := range pids[:min(1, len(pids))] {
		if sent := unix.Kill(pid, unix.SIGTERM); sent != nil && !errors.Is(sent, unix.ESRCH) {
			err = errors.Join(err, sent)
		}
	}
	return err
}

// hold has nothing to do: nobody but this agent starts the command.
func (c *command) hold(context.Context) error { return nil }

func (c *command) gate(context.Context) (string, error) { return "", nil }

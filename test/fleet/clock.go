package fleet

import (
	"context"
	_ "embed" // of what is built into the programs
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// A clock is how far the wall clock of one host or node is off. Kernels have one wall clock for all, and namespaces for
// the others only, so the programs are made to add what a file says: Go's by a standard library that is changed when
// they are built, PostgreSQL by a library that is loaded before it. Both map the file into memory, so a step is there
// at once for all processes. What the kernel itself dates, as the times of files, is not stepped.
type clock struct{ path string }

const clockVariable = "FLEET_CLOCK"

// newClock makes the file, which database users must be able to read.
func newClock(path string) (*clock, error) {
	c := &clock{path: path}
	if err := os.WriteFile(path, make([]byte, 8), 0o644); err != nil {
		return nil, fmt.Errorf("make a clock: %w", err)
	}
	return c, nil
}

// env is what a Go program must be started with.
func (c *clock) env() []string {
	if c == nil {
		return nil
	}
	return []string{clockVariable + "=" + c.path}
}

// off is how far the clock is off.
func (c *clock) off() time.Duration {
	if c == nil {
		return 0
	}
	raw, err := os.ReadFile(c.path)
	if err != nil || len(raw) != 8 {
		return 0
	}
	return time.Duration(binary.NativeEndian.Uint64(raw))
}

// step writes eight bytes in place: a reader sees the old value or the new one.
func (c *clock) step(d time.Duration) error {
	if c == nil {
		return errors.New("step clock: the fleet was started without Options.Clocks")
	}
	f, err := os.OpenFile(c.path, os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("step clock: %w", err)
	}
	_, err = f.Write(binary.NativeEndian.AppendUint64(nil, uint64(c.off()+d)))
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("step clock: %w", err)
	}
	return nil
}

// StepClock steps the wall clock of the host's agent and database by d, at once, while they run. Steps add up: to undo
// one, step back. A boot keeps what was stepped. The host's log is dated by its own clock. It needs Options.Clocks.
func (h *Host) StepClock(d time.Duration) error { return h.clock.step(d) }

// ClockOff is the sum of the host's steps.
func (h *Host) ClockOff() time.Duration { return h.clock.off() }

// StepClock steps the wall clock of the node by d, as that of a host.
func (n *Node) StepClock(d time.Duration) error { return n.clock.step(d) }

// ClockOff is the sum of the node's steps.
func (n *Node) ClockOff() time.Duration { return n.clock.off() }

//go:embed preload/time.go.txt
var steppedTime string

//go:embed preload/clock.c
var steppedLibc []byte

// clockOverlay makes what `go build -overlay` takes: package time of the Go that builds, with a clock that steps.
func clockOverlay(ctx context.Context, dir string) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "env", "GOROOT").Output()
	if err != nil {
		return "", fmt.Errorf("find Go's own source: %w", err)
	}
	source := filepath.Join(strings.TrimSpace(string(out)), "src", "time")
	text, err := os.ReadFile(filepath.Join(source, "time.go"))
	if err != nil {
		return "", fmt.Errorf("read package time: %w", err)
	}
	const (
		head = "func Now() Time {\n\tsec, nsec, mono := runtimeNow()\n"
		more = "\tsec, nsec = stepWall(sec, nsec)\n"
	)
	if strings.Count(string(text), head) != 1 {
		return "", fmt.Errorf("step clocks: time.Now in %s is not what it was when this was written: "+
			"adapt the fleet's clockOverlay to this version of Go", source)
	}
	files := map[string]string{
		"time.go":    strings.Replace(string(text), head, head+more, 1),
		"stepped.go": steppedTime,
	}
	replace := map[string]string{}
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			return "", err
		}
		replace[filepath.Join(source, name)] = path
	}
	raw, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	overlay := filepath.Join(dir, "overlay.json")
	return overlay, os.WriteFile(overlay, raw, 0o644)
}

// clockLibrary builds the library for programs that are not Go's.
func clockLibrary(ctx context.Context, dir string) (string, error) {
	source, library := filepath.Join(dir, "clock.c"), filepath.Join(dir, "clock.so")
	if err := os.WriteFile(source, steppedLibc, 0o644); err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, "cc", "-shared", "-fPIC", "-O2", "-Wall", "-Werror", "-o", library, source, "-ldl")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the library that steps PostgreSQL's clock (install a C compiler): %w: %s", err, out)
	}
	return library, os.Chmod(library, 0o755)
}

// steppedServer runs PostgreSQL's server with the clock of one host. The shell becomes the server, with the same pid
// and the server's own name, by which the agent and the server's children know it.
const steppedServer = `#!/bin/sh
export %s='%s' LD_PRELOAD='%s'
exec '%s' "$@"
`

// steppedPrograms makes a directory of PostgreSQL's programs whose server has the host's clock.
func (c *clock) steppedPrograms(dir, bin, library string) error {
	programs, err := os.ReadDir(bin)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, p := range programs {
		theirs := filepath.Join(bin, p.Name())
		if p.Name() != "postgres" {
			if err := os.Symlink(theirs, filepath.Join(dir, p.Name())); err != nil {
				return err
			}
			continue
		}
		script := fmt.Sprintf(steppedServer, clockVariable, c.path, library, theirs)
		if err := os.WriteFile(filepath.Join(dir, p.Name()), []byte(script), 0o755); err != nil {
			return err
		}
	}
	return nil
}

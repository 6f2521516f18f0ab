package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// verdict is what came of running a ring.
type verdict string

const (
	missed   verdict = "missed"    // the ring passed
	noticed  verdict = "noticed"   // it failed, as it should with a mistake
	panicked verdict = "panicked"  // the code, or the ring, has panicked: noticed too
	hung     verdict = "timed out" // the ring, or its limit, found that it does not end: noticed too
	apart    verdict = "apart"     // the ring does not include the code that is changed
	broken   verdict = "broken"    // the ring could not be run
	invalid  verdict = "invalid"   // the mutant does not compile
)

func (v verdict) caught() bool { return v == noticed || v == panicked || v == hung }

// trial is one run of a ring against a mutant, or against the code as it is.
type trial struct {
	Ring    string        `json:"ring"`
	Args    []string      `json:"args"`
	Verdict verdict       `json:"verdict"`
	CPU     time.Duration `json:"cpu_ns"`
	Wall    time.Duration `json:"wall_ns"`
	Said    string        `json:"said,omitempty"` // how it noticed
}

// execute runs the program of a ring and judges.
func execute(ctx context.Context, r ring, program, dir string, args []string) trial {
	t := trial{Ring: r.name, Args: args}
	limited, cancel := context.WithTimeout(ctx, r.limit)
	defer cancel()
	cmd := exec.CommandContext(limited, program, args...)
	cmd.Dir = dir
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	cmd.WaitDelay = 5 * time.Second
	began := time.Now()
	err := cmd.Run()
	t.Wall = time.Since(began)
	if cmd.ProcessState != nil {
		t.CPU = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	}
	t.Verdict, t.Said = judge(r, err, limited.Err() != nil, said.String())
	if ctx.Err() != nil {
		t.Verdict = broken
	}
	return t
}

// judge tells a ring that has noticed something from one that could not do its work.
func judge(r ring, err error, late bool, said string) (verdict, string) {
	var exit *exec.ExitError
	switch {
	case late:
		return hung, fmt.Sprintf("not ended after %v", r.limit)
	case err == nil && strings.Contains(said, "warning: no tests to run"):
		return broken, "no test of that name"
	case err == nil:
		return missed, ""
	case !errors.As(err, &exit):
		return broken, err.Error()
	case strings.Contains(said, "panic: test timed out after"):
		return hung, "the test's own timeout"
	case exit.ExitCode() == 2 && panics.MatchString(said):
		return panicked, panics.FindString(said)
	case exit.ExitCode() == 1 && (!r.test || strings.Contains(said, "--- FAIL")):
		return noticed, words(said)
	}
	return broken, err.Error() + "\n" + tail(said, 30)
}

var (
	panics   = regexp.MustCompile(`(?m)^(panic|fatal error): .*$`)
	failed   = regexp.MustCompile(`(?m)^ *--- FAIL: (\S+)`)
	becauses = regexp.MustCompile(`(?m)^ +\w+\.go:\d+: .*$`)
	searches = regexp.MustCompile(`(?m)^.*VIOLATION.*$|^seed \d+ FAILS\n.*$`)
	// rewritten is how a text scenario says that something else has happened than what was reviewed.
	rewritten = regexp.MustCompile(`(?m)^ +\w+\.go:\d+: *\n +testdata/`)
)

// words are those that tell what a ring has noticed.
func words(said string) string {
	tests := failed.FindAllStringSubmatch(said, -1)
	if len(tests) == 0 {
		return strings.Join(strings.Fields(searches.FindString(said)), " ")
	}
	// The innermost test is told last.
	deepest := ""
	for _, t := range tests {
		if strings.Count(t[1], "/") >= strings.Count(deepest, "/") && !strings.HasPrefix(deepest, t[1]) {
			deepest = t[1]
		}
	}
	because := becauses.FindString(said)
	if strings.HasSuffix(strings.TrimSpace(because), ":") && rewritten.MatchString(said) {
		because = "its text is another"
	}
	return deepest + ": " + strings.TrimSpace(because)
}

func tail(s string, lines int) string {
	all := strings.Split(strings.TrimSpace(s), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// build makes the program of a ring, with a mistake in it if overlay is not empty.
func build(ctx context.Context, r ring, pkg, overlay, program string) error {
	args := []string{"build", "-buildvcs=false"}
	if r.test {
		args = []string{"test", "-c"}
	}
	if overlay != "" {
		args = append(args, "-overlay="+overlay)
	}
	cmd := exec.CommandContext(ctx, "go", append(args, "-o", program, pkg)...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) } // it ends its compilers
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("build %s: %w\n%s", pkg, err, tail(string(out), 30))
	}
	return nil
}

// includes are the directories of the module of which a ring's program is made.
func includes(ctx context.Context, root string, r ring, pkg string) (map[string]bool, error) {
	args := []string{"list", "-deps", "-f", "{{if not .Standard}}{{.Dir}}{{end}}"}
	if r.test {
		args = append(args, "-test")
	}
	cmd := exec.CommandContext(ctx, "go", append(args, pkg)...)
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("list what %s is made of: %w", pkg, err)
	}
	dirs := map[string]bool{}
	for dir := range strings.FieldsSeq(string(out)) {
		if rel, err := filepath.Rel(root, dir); err == nil && filepath.IsLocal(rel) {
			dirs["./"+filepath.ToSlash(rel)] = true
		}
	}
	return dirs, nil
}

// Command wine runs the Windows programs under Wine, as far as Wine can: that they start, that the agent checks a
// configuration, is installed, started, asked, stopped and removed as a Windows service, that a service's process is
// killed with proof, and that a guard ends what a dead or frozen agent has left open. It needs Debian's wine
// (deploy/ci/install-wine), leaves nothing behind, and exits with 1 if something failed.
//
// Wine is no Windows. It has no recovery actions for services, other file locks, and its service control manager is a
// program of its own; nothing here says how real SQL Server services behave.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "wine:", err)
		os.Exit(1)
	}
}

// patience bounds one call of a program; the first one of a prefix takes seconds.
const patience = 2 * time.Minute

// bottle is a Windows of its own.
type bottle struct {
	dir    string
	failed []string
}

func run(ctx context.Context) error {
	if _, err := exec.LookPath("wine"); err != nil {
		return fmt.Errorf("%w: install it with deploy/ci/install-wine", err)
	}
	dir, err := os.MkdirTemp("", "wine")
	if err != nil {
		return err
	}
	b := &bottle{dir: dir}
	defer b.empty()
	if err := b.fill(ctx); err != nil {
		return err
	}
	for _, s := range b.steps() {
		began := time.Now()
		err := s.do(ctx)
		word := "ok"
		if err != nil {
			word = "FAILED"
			b.failed = append(b.failed, s.name)
		}
		fmt.Printf("%-64s %-6s %5.1f s\n", s.name, word, time.Since(began).Seconds())
		if err != nil {
			fmt.Println("    " + strings.ReplaceAll(err.Error(), "\n", "\n    "))
		}
	}
	if len(b.failed) > 0 {
		return fmt.Errorf("%d of %d steps failed", len(b.failed), len(b.steps()))
	}
	return nil
}

// fill builds the programs and makes the bottle.
func (b *bottle) fill(ctx context.Context) error {
	fmt.Println("building the programs for Windows")
	build := [][]string{
		{"build", "-trimpath", "-o", b.dir + "/", "./cmd/witnessd", "./cmd/witnessctl", "./cmd/witness-agent"},
		{"test", "-c", "-o", filepath.Join(b.dir, "agent.test.exe"), "./agent"},
		{"test", "-c", "-o", filepath.Join(b.dir, "hold.test.exe"), "./agent/hold"},
		{"test", "-c", "-o", filepath.Join(b.dir, "service.test.exe"), "./agent/engine/sqlserver/service"},
	}
	for _, args := range build {
		cmd := exec.CommandContext(ctx, "go", args...)
		cmd.Env = append(os.Environ(), "GOOS=windows", "GOARCH=amd64", "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("go %s: %w\n%s", strings.Join(args, " "), err, out)
		}
	}
	if out, err := b.wine(ctx, "cmd", "/c", "ver"); err != nil {
		return fmt.Errorf("make a Windows: %w\n%s", err, out)
	}
	system := filepath.Join(b.dir, "prefix", "drive_c", "windows", "system32", "bcryptprimitives.dll")
	if _, err := os.Stat(system); errors.Is(err, os.ErrNotExist) {
		return os.WriteFile(system, randomDLL(), 0o644)
	}
	return nil
}

// empty ends every process of the bottle and removes it.
func (b *bottle) empty() {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	kill := exec.CommandContext(ctx, "wineserver", "-k")
	kill.Env = b.env()
	if _, err := exec.LookPath("wineserver"); err != nil {
		kill = exec.CommandContext(ctx, "/usr/lib/wine/wineserver64", "-k")
		kill.Env = b.env()
	}
	_ = kill.Run()
	for range 20 {
		if os.RemoveAll(b.dir) == nil {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
}

func (b *bottle) env() []string {
	return append(os.Environ(), "WINEPREFIX="+filepath.Join(b.dir, "prefix"), "WINEDEBUG=-all", "DISPLAY=",
		"WINEDLLOVERRIDES=mscoree,mshtml=")
}

// wine runs a program and returns what it printed.
func (b *bottle) wine(ctx context.Context, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	// A file and no pipe: services that this call brings up keep it, and would be killed by a pipe that nobody reads.
	out, err := os.CreateTemp(b.dir, "output")
	if err != nil {
		return "", err
	}
	defer out.Close()
	cmd := exec.CommandContext(ctx, "wine", args...)
	cmd.Env, cmd.Dir, cmd.Stdout, cmd.Stderr = b.env(), b.dir, out, out
	err = cmd.Run()
	raw, failed := os.ReadFile(out.Name())
	return string(raw), errors.Join(err, failed)
}

// says runs a program that must end well and print the words.
func (b *bottle) says(words string, args ...string) func(context.Context) error {
	return func(ctx context.Context) error {
		out, err := b.wine(ctx, args...)
		if err != nil || !strings.Contains(out, words) {
			return fmt.Errorf("%s: %w, without %q:\n%s", strings.Join(args, " "), err, words, out)
		}
		return nil
	}
}

type step struct {
	name string
	do   func(context.Context) error
}

func (b *bottle) steps() []step {
	agent := func(words string, args ...string) func(context.Context) error {
		return b.says(words, append([]string{"witness-agent.exe"}, args...)...)
	}
	return []step{
		{"witnessd.exe starts", b.says("Usage:", "witnessd.exe", "--help")},
		{"witnessctl.exe starts", b.says("Usage:", "witnessctl.exe", "--help")},
		{"witness-agent.exe starts", agent("Usage:", "--help")},
		{"a configuration is checked, defaults are Windows' own", b.checks},
		{"a bad configuration is refused with exit code 2", b.refuses},
		{"what the agent may do is decided as on Linux (agent/hold)", b.passes("hold.test.exe")},
		{"a guard ends what a killed or frozen agent has left open",
			b.passes("agent.test.exe", "-test.run=^(TestGuard|TestAtEnd|TestExtend)$")},
		{"a service's process is killed with proof, its end is told", b.passes("service.test.exe")},
		{"the agent is installed as a service", agent("is installed", "service", "install")},
		{"the service starts", agent("", "service", "start")},
		{"it answers", b.answers},
		{"its guard runs", b.guarded},
		{"its status is told", agent("is running", "service", "status")},
		{"the service stops", agent("", "service", "stop")},
		{"the service is removed", agent("", "service", "uninstall")},
	}
}

// config is an agent that watches a SQL Server which is not there.
const config = `host: sql1
witness: {endpoints: ["127.0.0.1:17411"]}
link: {listen: "127.0.0.1:17412", advertise: "127.0.0.1:17412"}
http: {listen: "127.0.0.1:17413"}
instances:
  - name: pool1
    engine: sqlserver-rescue
    sqlserver: {listen: "127.0.0.1:17414", user: witness_agent, password_env: PASSWORD, encrypt: disable}
`

func (b *bottle) checks(ctx context.Context) error {
	dir := filepath.Join(b.dir, "prefix", "drive_c", "ProgramData", "witnessd")
	err := os.MkdirAll(dir, 0o755)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "witness-agent.yaml"), []byte(config), 0o644)
	}
	if err != nil {
		return err
	}
	return b.says(`C:\\ProgramData\\witnessd\\state`, "witness-agent.exe", "config", "check")(ctx)
}

func (b *bottle) refuses(ctx context.Context) error {
	path := filepath.Join(b.dir, "bad.yaml")
	if err := os.WriteFile(path, []byte("host: sql1\nhosts: 2\n"), 0o644); err != nil {
		return err
	}
	out, err := b.wine(ctx, "witness-agent.exe", "config", "check", "--config", "bad.yaml")
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 2 {
		return fmt.Errorf("ended with %w:\n%s", err, out)
	}
	return nil
}

// passes runs a test program. Go removes a test's directory in a way that Wine 8 has not learned yet.
func (b *bottle) passes(args ...string) func(context.Context) error {
	return func(ctx context.Context) error {
		out, err := b.wine(ctx, append(args, "-test.v")...)
		var bad []string
		found := false
		for line := range strings.Lines(out) {
			found = found || strings.Contains(line, "--- ") || strings.HasPrefix(line, "PASS")
			if said := strings.TrimSpace(line); strings.Contains(said, "_test.go:") && strings.Contains(out, "--- FAIL") {
				bad = append(bad, said)
			}
		}
		var exit *exec.ExitError
		switch {
		case err == nil && found:
			return nil
		case errors.As(err, &exit) && exit.ExitCode() == 1 && len(bad) == 0 &&
			strings.Contains(out, "TempDir RemoveAll cleanup") && !strings.Contains(out, "panic"):
			return nil
		}
		return fmt.Errorf("%s: %w\n%s", args[0], err, strings.Join(bad, "\n"))
	}
}

// answers asks the agent's own endpoint.
func (b *bottle) answers(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	for {
		text, err := get(ctx, "http://127.0.0.1:17413/health")
		if err == nil && strings.Contains(text, `"instance":"pool1"`) {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("no answer: %w: %s", err, text)
		case <-time.After(200 * time.Millisecond):
		}
	}
}

func get(ctx context.Context, url string) (string, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	raw, err := io.ReadAll(answer.Body)
	return string(raw), err
}

// guarded waits for the guard's lock, which only it can hold.
func (b *bottle) guarded(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	for {
		text, err := get(ctx, "http://127.0.0.1:17413/health")
		if err == nil && strings.Contains(text, "a second process ends service") {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the agent has no guard: %w: %s", err, text)
		case <-time.After(200 * time.Millisecond):
		}
	}
}

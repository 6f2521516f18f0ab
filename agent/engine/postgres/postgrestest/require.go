package postgrestest

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// Require names PostgreSQL's programs for a test, installing them if root runs it. Where that cannot be done
// the test is skipped, but not in CI: a suite that skips its hardest tests there proves nothing.
func Require(t testing.TB) string {
	t.Helper()
	dir, err := Binaries()
	if err != nil {
		if err = install(t.Context()); err == nil {
			dir, err = Binaries()
		}
	}
	switch {
	case err == nil:
		return dir
	case os.Getenv("CI") != "":
		t.Fatalf("PostgreSQL is missing, and CI must not skip: %v", err)
	default:
		t.Skipf("PostgreSQL is missing: %v", err)
	}
	return ""
}

// install runs the script by which CI gets PostgreSQL.
func install(ctx context.Context) error {
	if os.Geteuid() != 0 {
		return fmt.Errorf("only root can install it: run deploy/ci/install-postgres")
	}
	root, err := moduleRoot()
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, filepath.Join(root, "deploy/ci/install-postgres"))
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("deploy/ci/install-postgres: %w: %s", err, out)
	}
	return nil
}

// moduleRoot is the nearest directory above with a go.mod.
func moduleRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", fmt.Errorf("no go.mod above the working directory")
		}
		dir = parent
	}
}

//go:build linux

package postgres

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/witnessd/witnessd/agent/engine/postgres/postgrestest"
)

// shimSource stands between a server and the kernel's disk and network: while a file of the right name lies in the
// directory named by SHIM, a call waits, fails, or takes its time. So a test breaks one host's disk, which no
// container can, for as long as it likes.
const shimSource = `
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static int there(const char *name) {
	char path[PATH_MAX];
	const char *dir = getenv("SHIM");
	if (!dir) return 0;
	snprintf(path, sizeof path, "%s/%s", dir, name);
	return access(path, F_OK) == 0;
}
static void disk(void) {
	if (there("slow")) usleep(300000);
	while (there("hang")) usleep(10000);
}
#define SYNC(f) int f(int fd) { \
	static int (*real)(int); \
	if (!real) real = dlsym(RTLD_NEXT, #f); \
	disk(); \
	if (there("readonly")) { errno = EROFS; return -1; } \
	return real(fd); }
SYNC(fsync)
SYNC(fdatasync)
int accept(int fd, struct sockaddr *a, socklen_t *n) {
	static int (*real)(int, struct sockaddr *, socklen_t *);
	if (!real) real = dlsym(RTLD_NEXT, "accept");
	while (there("deaf")) usleep(10000);
	return real(fd, a, n);
}
`

// shim breaks what a host's server asks of the kernel.
type shim struct {
	t   *testing.T
	dir string
}

// newShim makes directories of programs, one for each host, that run PostgreSQL's under a shim of their own.
func newShim(t *testing.T) *shim {
	t.Helper()
	installed := postgrestest.Require(t)
	dir, err := os.MkdirTemp("/tmp", "shim") //nolint:usetesting // The server's user must be let in.
	check(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	check(t, os.Chmod(dir, 0o755))
	source, library := filepath.Join(dir, "shim.c"), filepath.Join(dir, "shim.so")
	check(t, os.WriteFile(source, []byte(shimSource), 0o600))
	out, err := exec.CommandContext(t.Context(), "gcc", "-shared", "-fPIC", "-o", library, source, "-ldl").CombinedOutput()
	if err != nil {
		t.Fatalf("build the shim: %v: %s", err, out)
	}
	programs, err := filepath.Glob(filepath.Join(installed, "*"))
	check(t, err)
	check(t, os.Mkdir(filepath.Join(dir, "bin"), 0o755))
	for _, program := range programs {
		link := filepath.Join(dir, "bin", filepath.Base(program))
		if filepath.Base(program) != "postgres" {
			check(t, os.Symlink(program, link))
			continue
		}
		script := "#!/bin/sh\nSHIM=" + dir + " LD_PRELOAD=" + library + " exec " + program + ` "$@"` + "\n"
		check(t, os.WriteFile(link, []byte(script), 0o755))
	}
	return &shim{t, dir}
}

// under makes the first host configured run under the shim.
func (s *shim) under() func(*Config) {
	first := true
	return func(c *Config) {
		if first {
			c.BinDir = filepath.Join(s.dir, "bin")
		}
		first = false
	}
}

// do begins one of slow, hang, readonly, deaf; what it returns ends it.
func (s *shim) do(what string) (end func()) {
	s.t.Helper()
	path := filepath.Join(s.dir, what)
	check(s.t, os.WriteFile(path, nil, 0o644))
	return func() { check(s.t, os.RemoveAll(path)) }
}

package agent

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

const fullDisk = "EPOCHFILE_FULL_DISK"

// TestEpochFileOnFullDisk saves to a disk without room, and to one that is read-only: that is an error, and the
// file is what it was. It mounts the disk in a process of its own, where nobody else sees it.
func TestEpochFileOnFullDisk(t *testing.T) {
	if os.Getenv(fullDisk) == "" {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
		cmd.Env = append(os.Environ(), fullDisk+"=1")
		cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
		if os.Getuid() != 0 {
			cmd.SysProcAttr = &syscall.SysProcAttr{
				Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
				UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
			}
		}
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("this test needs to mount a small disk, as root or with user namespaces: %v\n%s", err, out)
		}
		return
	}
	dir := t.TempDir()
	mount := func(from string, flags uintptr, data string) {
		t.Helper()
		if err := syscall.Mount("none", from, "tmpfs", flags, data); err != nil {
			t.Fatal(err)
		}
	}
	if err := syscall.Mount("none", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		t.Fatal(err)
	}
	mount(dir, 0, "size=65536")
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })

	f := epochFile{path: filepath.Join(dir, "main.epoch")}
	old, next := goldenFiles()["primary.epoch"], goldenFiles()["released.epoch"]
	refused := func(why error) {
		t.Helper()
		if err := f.save(next); !errors.Is(err, why) || !strings.Contains(err.Error(), dir) {
			t.Errorf("saved with %v, want %v", err, why)
		}
		if got, known, err := f.load(); err != nil || !known || got != old {
			t.Errorf("the file holds %+v (known: %v, error: %v)", got, known, err)
		}
	}
	if err := f.save(old); err != nil {
		t.Fatal(err)
	}
	filler := filepath.Join(dir, "filler")
	if err := os.WriteFile(filler, make([]byte, 1<<20), 0o600); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("filled: %v", err)
	}
	refused(syscall.ENOSPC)
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	mount(dir, syscall.MS_REMOUNT|syscall.MS_RDONLY, "")
	refused(syscall.EROFS)
	mount(dir, syscall.MS_REMOUNT, "")
	// What the failed attempts have left does not matter.
	if err := f.save(next); err != nil {
		t.Fatal(err)
	}
	if got, _, err := f.load(); err != nil || got != next {
		t.Errorf("the file holds %+v, %v", got, err)
	}
}

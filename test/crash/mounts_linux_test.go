package crash

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

const privateMounts = "CRASH_PRIVATE_MOUNTS"

// withPrivateMounts runs the test that calls it once more, as a process that can mount file systems which
// nobody else sees and which end with it. It says whether the caller is that process.
func withPrivateMounts(t *testing.T) bool {
	t.Helper()
	if os.Getenv(privateMounts) != "" {
		// What is mounted here must not appear outside.
		if err := syscall.Mount("none", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
			t.Fatalf("make mounts private: %v", err)
		}
		return true
	}
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v") // it has a time limit of its own
	cmd.Env = append(os.Environ(), privateMounts+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	if os.Getuid() != 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{
			Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
			UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
			GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
		}
	}
	out, err := cmd.CombinedOutput()
	t.Logf("in its own mounts:\n%s", out)
	if err != nil {
		t.Fatalf("this test needs to mount a small disk, as root or with user namespaces: %v", err)
	}
	return false
}

// smallDisk is a file system of its own, in memory.
type smallDisk struct {
	dir    string
	filler string
}

// mountOver puts a small disk in the place of a directory, with what the directory holds.
func mountOver(dir string, size int) (*smallDisk, error) {
	aside := dir + ".aside"
	if err := errors.Join(os.Rename(dir, aside), os.Mkdir(dir, 0o700)); err != nil {
		return nil, err
	}
	if err := syscall.Mount("none", dir, "tmpfs", 0, fmt.Sprintf("size=%d", size)); err != nil {
		return nil, fmt.Errorf("mount %s: %w", dir, err)
	}
	return &smallDisk{dir: dir, filler: filepath.Join(dir, "lost+found")}, os.CopyFS(dir, os.DirFS(aside))
}

// fill leaves so many bytes free, about.
func (d *smallDisk) fill(leave int64) error {
	var st syscall.Statfs_t
	if err := syscall.Statfs(d.dir, &st); err != nil {
		return err
	}
	free := int64(st.Bfree) * st.Bsize
	f, err := os.OpenFile(d.filler, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err = f.Write(make([]byte, max(0, free-leave))); errors.Is(err, syscall.ENOSPC) {
		return nil // some of it is for the filler itself
	}
	return err
}

func (d *smallDisk) empty() error { return os.RemoveAll(d.filler) }

// readOnly must be called while nobody has a file open on it.
func (d *smallDisk) readOnly(yes bool) error {
	flags := uintptr(syscall.MS_REMOUNT)
	if yes {
		flags |= syscall.MS_RDONLY
	}
	return syscall.Mount("none", d.dir, "tmpfs", flags, "")
}

func (d *smallDisk) unmount() error { return syscall.Unmount(d.dir, syscall.MNT_DETACH) }

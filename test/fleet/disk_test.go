package fleet

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func diskOf(t *testing.T) *disk {
	t.Helper()
	requireRoot(t)
	dir := t.TempDir()
	d, err := newDisk(dir, "test", filepath.Join(dir, "at"), 32)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

// write appends a block to a file on the disk and forces it out.
func (d *disk) write(name string) error {
	f, err := os.OpenFile(filepath.Join(d.at, name), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.Write(make([]byte, 8192)); err != nil {
		return err
	}
	return f.Sync()
}

func TestFullDisk(t *testing.T) {
	d := diskOf(t)
	for range 100 {
		if err := d.write("old"); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.fill(); err != nil {
		t.Fatal(err)
	}
	if err := d.write("new"); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("writing to a full disk: %v", err)
	}
	if err := os.Remove(filepath.Join(d.at, "old")); err != nil {
		t.Fatal(err)
	}
	time.Sleep(5 * fillEvery)
	if err := d.write("new"); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("writing to a full disk from which something was removed: %v", err)
	}
	d.free()
	if err := d.write("new"); err != nil {
		t.Errorf("writing when there is room again: %v", err)
	}
}

func TestReadOnlyDisk(t *testing.T) {
	d := diskOf(t)
	if err := d.write("file"); err != nil {
		t.Fatal(err)
	}
	// It must be possible while the disk is in use.
	user := exec.Command("sh", "-c", "exec 3>>using; sleep 60")
	user.Dir = d.at
	if err := user.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		_ = user.Wait() // it is killed
		close(ended)
	}()
	if err := d.breakDown(); err != nil {
		t.Fatal(err)
	}
	if err := d.write("file"); !errors.Is(err, unix.EROFS) {
		t.Errorf("writing to a read-only disk: %v", err)
	}
	if _, err := os.ReadFile(filepath.Join(d.at, "file")); err != nil {
		t.Errorf("reading from a read-only disk: %v", err)
	}
	if err := d.repair(); err != nil {
		t.Fatal(err)
	}
	if err := d.write("file"); err != nil {
		t.Errorf("writing to a repaired disk: %v", err)
	}
	select {
	case <-ended:
	case <-time.After(5 * time.Second):
		_ = user.Process.Kill()
		t.Error("who used the disk lives on")
	}
}

// The disk of a fleet whose program was killed is unmounted by the next one, a living one's is not.
func TestLeftDisks(t *testing.T) {
	mine, left := diskOf(t), diskOf(t)
	dead := exec.Command("true")
	if err := dead.Run(); err != nil {
		t.Fatal(err)
	}
	if err := left.unmount(); err != nil {
		t.Fatal(err)
	}
	image := filepath.Join(filepath.Dir(left.image), fmt.Sprintf("%s%d-x.img", diskPrefix, dead.Process.Pid))
	if err := os.Rename(left.image, image); err != nil {
		t.Fatal(err)
	}
	left.image = image
	if err := left.mount(); err != nil {
		t.Fatal(err)
	}
	if err := removeLeftDisks(); err != nil {
		t.Fatal(err)
	}
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(mounts), left.at) || !strings.Contains(string(mounts), mine.at) {
		t.Errorf("mounted: a dead fleet's %v, a living one's %v", strings.Contains(string(mounts), left.at),
			strings.Contains(string(mounts), mine.at))
	}
}

// Nobody uses a disk that is not mounted: to end its users must never be to end everybody.
func TestNobodyUsesWhatIsNotMounted(t *testing.T) {
	d := &disk{at: t.TempDir()}
	if got := d.users(); len(got) > 0 {
		t.Errorf("users: %v", got)
	}
	if err := d.unmount(); err != nil {
		t.Error(err)
	}
}

package fleet

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// disk is a file system of its own, in a file.
type disk struct {
	image string
	at    string // where it is mounted
	full  *filler
}

// diskPrefix begins the name of every image; the pid of the program that made it follows.
const diskPrefix = "wfl-disk-"

// newDisk makes a file system of size million bytes and mounts it.
func newDisk(dir, name, at string, size int) (*disk, error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("hosts with disks of their own need root: run this as root")
	}
	d := &disk{image: filepath.Join(dir, fmt.Sprintf("%s%d-%s.img", diskPrefix, os.Getpid(), name)), at: at}
	err := os.MkdirAll(at, 0o700)
	if err == nil {
		err = os.WriteFile(d.image, nil, 0o600)
	}
	if err == nil {
		err = os.Truncate(d.image, int64(size)*1e6)
	}
	if err != nil {
		return nil, fmt.Errorf("make disk %s: %w", name, err)
	}
	// -m 0: root, who fills it, gets no more of it than others.
	if err := run("mkfs.ext4", "-q", "-F", "-m", "0", "-E", "nodiscard", d.image); err != nil {
		return nil, fmt.Errorf("make disk %s: %w", name, err)
	}
	return d, d.mount()
}

// mount gets the file system a loop device, which goes when it is unmounted.
func (d *disk) mount() error {
	if err := run("mount", "-o", "loop,errors=remount-ro", d.image, d.at); err != nil {
		taken, _ := filepath.Glob("/sys/block/loop*/loop/backing_file")
		return fmt.Errorf("mount a disk: %w; %d loop devices are taken (losetup -a lists them)", err, len(taken))
	}
	return nil
}

// run runs a program that answers at once.
func run(name string, args ...string) error {
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", name, err, strings.TrimSpace(string(out)))
	}
	return nil
}

// users are the processes that use what is mounted there: by a file that is open, by their directory or their root.
func (d *disk) users() []int {
	own, errOwn := os.Stat(d.at)
	above, errAbove := os.Stat(filepath.Dir(d.at))
	if errors.Join(errOwn, errAbove) != nil {
		return nil
	}
	device := own.Sys().(*syscall.Stat_t).Dev
	if above.Sys().(*syscall.Stat_t).Dev == device {
		return nil // nothing is mounted there: the users would be those of the machine's own disk
	}
	on := func(path string) bool {
		info, err := os.Stat(path)
		return err == nil && info.Sys().(*syscall.Stat_t).Dev == device
	}
	return processes(func(pid string) bool {
		if on("/proc/" + pid + "/cwd") {
			return true
		}
		files, _ := os.ReadDir("/proc/" + pid + "/fd")
		for _, f := range files {
			if on("/proc/" + pid + "/fd/" + f.Name()) {
				return true
			}
		}
		return false
	})
}

// unmount ends whoever uses the disk, and waits until the kernel has let go of it.
func (d *disk) unmount() error {
	d.free()
	var err error
	for range 100 {
		if err = unix.Unmount(d.at, 0); err == nil || errors.Is(err, unix.EINVAL) {
			return nil // EINVAL: nothing is mounted there
		}
		killAll(d.users)
		time.Sleep(20 * time.Millisecond)
	}
	return errors.Join(fmt.Errorf("unmount %s: %w", d.at, err), unix.Unmount(d.at, unix.MNT_DETACH))
}

// breakDown has the file system find a fault, after which nothing can be written: mounted as Debian mounts it, with
// errors=remount-ro. A plain remount is refused while a file is open for writing.
func (d *disk) breakDown() error {
	device, err := d.device()
	if err != nil {
		return err
	}
	trigger := filepath.Join("/sys/fs/ext4", device, "trigger_fs_error")
	if err := os.WriteFile(trigger, []byte("disk of a test"), 0); err != nil {
		return fmt.Errorf("make %s read-only: %w", d.at, err)
	}
	probe := filepath.Join(d.at, ".probe")
	if err := os.WriteFile(probe, nil, 0o600); !errors.Is(err, unix.EROFS) {
		return fmt.Errorf("make %s read-only: writing there ends with %w", d.at, err)
	}
	return nil
}

// device is the loop device's name.
func (d *disk) device() (string, error) {
	info, err := os.Stat(d.at)
	if err != nil {
		return "", err
	}
	device := info.Sys().(*syscall.Stat_t).Dev
	link, err := os.Readlink(fmt.Sprintf("/sys/dev/block/%d:%d", unix.Major(device), unix.Minor(device)))
	if err != nil {
		return "", fmt.Errorf("find the device of %s: %w", d.at, err)
	}
	return filepath.Base(link), nil
}

// repair makes a disk that broke down good again: nobody may use it.
func (d *disk) repair() error {
	if err := d.unmount(); err != nil {
		return err
	}
	// 1: faults were found and mended.
	err := run("e2fsck", "-p", "-f", d.image)
	if exit, ok := errors.AsType[*exec.ExitError](err); ok && exit.ExitCode() == 1 {
		err = nil
	}
	return errors.Join(err, d.mount())
}

// close unmounts the disk. The image goes with the fleet's directory.
func (d *disk) close() error {
	if d == nil {
		return nil
	}
	return d.unmount()
}

// removeLeftDisks unmounts what fleets left behind whose program is dead.
func removeLeftDisks() error {
	taken, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	if err != nil {
		return err
	}
	for _, file := range taken {
		raw, err := os.ReadFile(file)
		if err != nil {
			continue // it has gone meanwhile
		}
		image := filepath.Base(strings.TrimSuffix(strings.TrimSpace(string(raw)), " (deleted)"))
		rest, ours := strings.CutPrefix(image, diskPrefix)
		owner, _, _ := strings.Cut(rest, "-")
		pid, err := strconv.Atoi(owner)
		if !ours || err != nil || !errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
			continue
		}
		device := "/dev/" + filepath.Base(filepath.Dir(filepath.Dir(file)))
		for _, at := range mountsOf(device) {
			if err := (&disk{at: at}).unmount(); err != nil {
				return fmt.Errorf("remove what a dead fleet left: %w", err)
			}
		}
	}
	return nil
}

// mountsOf are the places where a device is mounted.
func mountsOf(device string) []string {
	raw, _ := os.ReadFile("/proc/self/mounts")
	var list []string
	for line := range strings.Lines(string(raw)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == device {
			list = append(list, f[1])
		}
	}
	return list
}

package service

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// unit is a systemd unit. systemctl is used and not the bus: it is where systemd is, and an administrator can do by
// hand what is done here.
type unit struct {
	unit string

	mu     sync.Mutex
	cgroup string // where its processes are, as last heard
	asked  time.Time
}

// askEvery is how often systemd is asked for the unit's control group. In between, its processes are read from there.
const askEvery = 5 * time.Second

func (u *unit) name() string { return u.unit }

func (u *unit) ctl(ctx context.Context, args ...string) (string, error) {
	out, err := exec.CommandContext(ctx, "systemctl", args...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("systemctl %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return string(out), nil
}

// show reads properties of the unit.
func (u *unit) show(ctx context.Context, properties ...string) (map[string]string, error) {
	out, err := u.ctl(ctx, "show", "--property="+strings.Join(properties, ","), u.unit)
	if err != nil {
		return nil, err
	}
	values := map[string]string{}
	for line := range strings.Lines(out) {
		if key, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok {
			values[key] = value
		}
	}
	return values, nil
}

// find lists what is in the unit's control group, the main process first.
func (u *unit) find(ctx context.Context) ([]int, error) {
	u.mu.Lock()
	cgroup, fresh := u.cgroup, since(u.asked) < askEvery
	u.mu.Unlock()
	if cgroup != "" && fresh {
		if pids, err := inCgroup(cgroup); err == nil && len(pids) > 0 {
			return pids, nil
		}
	}
	values, err := u.show(ctx, "MainPID", "ControlGroup")
	if err != nil {
		return nil, err
	}
	u.mu.Lock()
	u.cgroup, u.asked = values["ControlGroup"], now()
	u.mu.Unlock()
	main, err := strconv.Atoi(values["MainPID"])
	if err != nil {
		return nil, fmt.Errorf("systemd names %q as the main process of %s", values["MainPID"], u.unit)
	}
	pids, err := inCgroup(values["ControlGroup"])
	if err != nil || main == 0 {
		return pids, err
	}
	return append([]int{main}, slices.DeleteFunc(pids, func(pid int) bool { return pid == main })...), nil
}

// inCgroup lists the processes of a control group, lowest number first: the first one that the unit started. A group
// that is not there has none.
func inCgroup(cgroup string) ([]int, error) {
	if cgroup == "" {
		return nil, nil
	}
	raw, err := os.ReadFile(filepath.Join("/sys/fs/cgroup", cgroup, "cgroup.procs"))
	if os.IsNotExist(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	parents := map[int]int{}
	for field := range strings.FieldsSeq(string(raw)) {
		pid, err := strconv.Atoi(field)
		if err != nil {
			return nil, fmt.Errorf("processes of %s: %w", cgroup, err)
		}
		fields, err := statOf(pid)
		if err != nil || fields[0] == "Z" || fields[0] == "X" {
			continue
		}
		if parents[pid], err = strconv.Atoi(fields[1]); err != nil {
			return nil, fmt.Errorf("parent of process %d: %w", pid, err)
		}
	}
	return ordered(parents), nil
}

func (u *unit) start(ctx context.Context) error {
	_, err := u.ctl(ctx, "start", u.unit)
	return err
}

func (u *unit) stop(ctx context.Context) error {
	_, err := u.ctl(ctx, "stop", u.unit)
	return err
}

// hold puts a stop into systemd's queue: a unit that is being stopped is not restarted.
func (u *unit) hold(ctx context.Context) error {
	_, err := u.ctl(ctx, "stop", "--no-block", u.unit)
	return err
}

// gate: whoever starts SQL Server without this agent starts it as whatever it was.
func (u *unit) gate(ctx context.Context) (string, error) {
	values, err := u.show(ctx, "Restart", "UnitFileState")
	if err != nil {
		return "", err
	}
	var wrong []string
	if r := values["Restart"]; r != "no" && r != "" {
		wrong = append(wrong, fmt.Sprintf("systemd restarts it (Restart=%s): a drop-in with [Service] Restart=no mends "+
			"that (systemctl edit %s)", r, u.unit))
	}
	if s := values["UnitFileState"]; strings.HasPrefix(s, "enabled") {
		wrong = append(wrong, fmt.Sprintf("systemd starts it at boot (%s): systemctl disable %s", s, u.unit))
	}
	return strings.Join(wrong, "; "), nil
}

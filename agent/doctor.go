package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/witnessd/witnessd/agent/fence"
)

// Finding is what a check of the doctor found.
type Finding struct {
	Check  string `json:"check"`
	Result Result `json:"result"`
	Detail string `json:"detail"`
	Do     string `json:"do,omitempty"` // what mends it
}

// Result is how a check ended.
type Result string

// How a check can end.
const (
	Good Result = "good"
	Weak Result = "weak" // works, with less protection than there could be
	Bad  Result = "bad"  // the agent does not work like this
)

// DoctorOptions say what the doctor shall do beside looking.
type DoctorOptions struct {
	// Partners are the addresses (host:port) of the partners' instances by the name of the own instance; "" stands for
	// every instance that is not named. Where it says nothing, the instance's epoch file may know the partner.
	Partners map[string]string
	// Fix lets the doctor mend what it may, before it looks; DryRun lets it only say what it would do.
	Fix, DryRun bool
}

// Doctor looks whether an agent works on this host with this configuration, how strong its fence is, and what each
// instance's engine needs. Unless it is told to fix, it changes nothing that an agent or a database uses: the
// kernel's fence is tried on a spare port with a table of its own.
func Doctor(ctx context.Context, config Config, options DoctorOptions) []Finding {
	a := &Agent{config: config, boot: bootID()}
	found := []Finding{checkDir("state directory", config.StateDir), checkDir("run directory", config.RunDir)}
	found = append(found, a.checkFiles()...)
	running := a.runs()
	found = append(found, checkKernel(ctx, config.Fence))
	for _, i := range config.Instances {
		if i.Gate.Listen != "" {
			found = append(found, checkGate(i, running))
		}
	}
	found = append(found, checkWatchdog(config.Fence))
	for _, e := range config.Witness.Endpoints {
		found = append(found, checkEndpoint(ctx, e))
	}
	for _, i := range config.Instances {
		found = append(found, a.examine(ctx, i, options)...)
	}
	return found
}

// checkDir writes and syncs a file, because an agent that cannot do that fences its databases.
func checkDir(what, dir string) Finding {
	f := Finding{Check: what, Result: Good, Detail: dir + " can be written to"}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return f.bad(err, "make it, for the user that the agent runs as (root)")
	}
	path := filepath.Join(dir, fmt.Sprintf(".doctor-%d", os.Getpid()))
	err := replace(path, []byte("doctor\n"), true)
	if err = errors.Join(err, os.Remove(path)); err != nil {
		return f.bad(err, "run this as the user that the agent runs as (root), and look at the disk")
	}
	return f
}

func (f Finding) bad(err error, do string) Finding {
	f.Result, f.Detail, f.Do = Bad, oneLine(err.Error()), do
	return f
}

func (f Finding) weak(detail, do string) Finding {
	f.Result, f.Detail, f.Do = Weak, detail, do
	return f
}

// checkFiles reads what the agent must not forget.
func (a *Agent) checkFiles() []Finding {
	var found []Finding
	for _, c := range a.config.Instances {
		f := Finding{Check: "epoch file of " + c.Name, Result: Good}
		file, known, err := a.epochFileOf(c.Name).load()
		switch {
		case err != nil:
			f = f.bad(err, "see the message; witnessctl pair show tells what the witness knows")
		case !known:
			f.Detail = "none: the instance is in no pair yet"
		default:
			f.Detail = fmt.Sprintf("pair %s, epoch %d, primary %s", file.Name, file.Epoch, file.Primary)
		}
		found = append(found, f)
	}
	return found
}

// runs says whether an agent uses the state directory now.
func (a *Agent) runs() bool {
	lock, err := lockDir(a.config.StateDir)
	if err == nil {
		_ = lock.Close()
	}
	return err != nil
}

// checkKernel tries the fence of the kernel itself.
func checkKernel(ctx context.Context, c Fence) Finding {
	f := Finding{Check: "kernel fence", Result: Good, Detail: "nftables cut an open connection when its time ran out"}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	err := fence.TryKernel(ctx, c.Table)
	switch {
	case err == nil && (c.Level == FenceGate || c.Level == FenceEngine):
		return f.weak(f.Detail+", but fence.level is "+c.Level, "set fence.level to auto")
	case err != nil && c.Level == FenceKernel:
		return f.bad(err, "the agent does not start like this: mend it, or set fence.level to auto")
	case err != nil:
		return f.weak(oneLine(err.Error()), "until then a killed or frozen agent ends service only by a gate or a watchdog")
	}
	return f
}

// checkGate looks whether the gate can listen. Where an agent runs, it listens already.
func checkGate(i Instance, running bool) Finding {
	f := Finding{Check: "gate of " + i.Name, Result: Good, Detail: "can listen on " + i.Gate.Listen}
	listener, err := net.Listen("tcp", i.Gate.Listen)
	switch {
	case err == nil:
		_ = listener.Close()
	case running && errors.Is(err, syscall.EADDRINUSE):
		f.Detail = "an agent runs and listens on " + i.Gate.Listen
	default:
		return f.bad(err, "choose another gate.listen, or end what listens there")
	}
	return f
}

// checkWatchdog can only say what the configuration says: systemd tells its own watchdog to the agent alone.
func checkWatchdog(c Fence) Finding {
	f := Finding{Check: "watchdog", Result: Good}
	if c.WatchdogDevice == "" {
		f.Detail = "no device (fence.watchdog_device); systemd's watchdog is in the unit, and pair show says if it is on"
		return f
	}
	// Opening the device would start it.
	info, err := os.Stat(c.WatchdogDevice)
	if err != nil {
		return f.bad(err, "load the watchdog's kernel module (softdog for one), or empty fence.watchdog_device")
	}
	if info.Mode()&os.ModeCharDevice == 0 {
		return f.weak(c.WatchdogDevice+" is no device", "set fence.watchdog_device to the watchdog's device")
	}
	f.Detail = c.WatchdogDevice + " is there"
	return f
}

// checkEndpoint is satisfied with a connection: who answers is the agent's to find out.
func checkEndpoint(ctx context.Context, endpoint string) Finding {
	f := Finding{Check: "witness " + endpoint, Result: Good, Detail: "takes connections"}
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", endpoint)
	if err != nil {
		return f.weak(oneLine(err.Error()), "start the node, or look at firewalls and names between")
	}
	_ = conn.Close()
	return f
}

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/witnessd/witnessd/agent/engine/postgres/postgrestest"
)

// process is a program that this one has started.
type process struct {
	cmd  *exec.Cmd
	done chan struct{}
}

// start runs a program, as another user if root is asked to, with its output in a file.
func start(log, owner, program string, args ...string) (*process, error) {
	f, err := os.Create(log)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	cmd := exec.Command(program, args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = "/", f, f
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	if owner != "" && os.Geteuid() == 0 {
		if cmd.SysProcAttr.Credential, err = credential(owner); err != nil {
			return nil, err
		}
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &process{cmd: cmd, done: make(chan struct{})}
	go func() {
		_ = cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

func credential(name string) (*syscall.Credential, error) {
	u, err := user.Lookup(name)
	if err != nil {
		return nil, err
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return nil, err
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return nil, err
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
}

// stop ends a program, and kills it if it does not.
func (p *process) stop() {
	_ = p.cmd.Process.Signal(syscall.SIGINT)
	select {
	case <-p.done:
	case <-time.After(5 * time.Second):
		_ = p.cmd.Process.Kill()
		<-p.done
	}
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// tick is the unit in which the kernel tells processor time, on every machine that we know.
const tick = 10 * time.Millisecond

// cpu is the processor time that a process has used.
func cpu(pid int) (time.Duration, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	// The name, in parentheses, may hold anything; utime and stime are the 12th and 13th field behind it.
	fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	if len(fields) < 13 {
		return 0, fmt.Errorf("/proc/%d/stat has %d fields", pid, len(fields))
	}
	var ticks int64
	for _, f := range fields[11:13] {
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return 0, err
		}
		ticks += n
	}
	return time.Duration(ticks) * tick, nil
}

// resident is the memory of a process, in bytes.
func resident(pid int) (int64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			n, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			return n << 10, err
		}
	}
	return 0, fmt.Errorf("/proc/%d/status has no VmRSS", pid)
}

// freePorts finds addresses on loopback that nobody listens at. They lie below the range from which the kernel takes
// ports for outgoing connections.
func freePorts(n int) ([]string, error) {
	var list []string
	for tries := 0; len(list) < n; tries++ {
		if tries == 1000 {
			return nil, errors.New("find free ports on loopback: none between 10000 and 30000")
		}
		address := fmt.Sprintf("127.0.0.1:%d", 10000+rand.IntN(20000))
		l, err := net.Listen("tcp", address)
		if err != nil {
			continue
		}
		// All are held until all are found, so that none is given twice.
		defer l.Close()
		list = append(list, address)
	}
	return list, nil
}

// awaitPort waits until somebody listens.
func awaitPort(ctx context.Context, address string) error {
	var d net.Dialer
	for range 500 {
		c, err := d.DialContext(ctx, "tcp", address)
		if err == nil {
			return c.Close()
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
	return fmt.Errorf("nobody listens at %s", address)
}

// startPostgres makes a database with pgbench's tables and runs it without durability: its disk is not the subject.
func startPostgres(ctx context.Context, dir, address string) (*process, error) {
	bin, err := postgrestest.Binaries()
	if err != nil {
		return nil, err
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	data := filepath.Join(dir, "data")
	err = postgrestest.InitPrimary(ctx, postgrestest.Options{DataDir: data, Settings: map[string]string{
		"listen_addresses": host, "port": port, "unix_socket_directories": "", "fsync": "off", "autovacuum": "off",
		"shared_buffers": "256MB", "max_connections": "100", "jit": "off", "max_wal_size": "4GB",
	}})
	if err != nil {
		return nil, err
	}
	p, err := start(filepath.Join(dir, "postgres.log"), postgrestest.OSUser(), filepath.Join(bin, "postgres"), "-D", data)
	if err != nil {
		return nil, err
	}
	if err := awaitServer(ctx, host, port); err != nil {
		p.stop()
		return nil, err
	}
	return p, nil
}

func awaitServer(ctx context.Context, host, port string) error {
	var out []byte
	var err error
	for range 100 {
		out, err = exec.CommandContext(ctx, "pgbench", "-i", "-q", "-s", "10", "-h", host, "-p", port,
			"-U", "postgres", "postgres").CombinedOutput()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
	return fmt.Errorf("fill the database for pgbench: %w: %s", err, out)
}

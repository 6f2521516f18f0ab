package fleet

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// process is one program that the fleet started itself.
type process struct {
	cmd  *exec.Cmd
	done chan struct{}
}

// start runs a program in a session of its own, with its output in a file.
func start(log, program string, args ...string) (*process, error) {
	f, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	cmd := exec.Command(program, args...)
	cmd.Stdout, cmd.Stderr = f, f
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
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

func (p *process) signal(s syscall.Signal) {
	if p != nil {
		_ = p.cmd.Process.Signal(s)
	}
}

func (p *process) wait() {
	if p != nil {
		<-p.done
	}
}

func (p *process) kill() {
	p.signal(syscall.SIGKILL)
	p.wait()
}

// killBelow ends every process that works in a directory below dir, or names it on its command line. That
// finds the databases which agents have started, and all their children.
func killBelow(dir string) {
	for range 50 {
		pids := below(dir)
		if len(pids) == 0 {
			return
		}
		for _, pid := range pids {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
}

func below(dir string) []int {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var pids []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		cwd, _ := os.Readlink(filepath.Join("/proc", e.Name(), "cwd"))
		cmdline, _ := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline"))
		stat, _ := os.ReadFile(filepath.Join("/proc", e.Name(), "stat"))
		if strings.Contains(string(stat), ") Z ") {
			continue // dead, only not yet collected by its parent
		}
		if strings.HasPrefix(cwd+"/", dir+"/") || strings.Contains(string(cmdline), dir+"/") {
			pids = append(pids, pid)
		}
	}
	return pids
}

// freePorts finds ports on loopback that nobody listens on, as host:port. They lie below the range from which
// the kernel takes ports for outgoing connections, so that nobody else gets one while its owner restarts.
func freePorts(n int) ([]string, error) {
	var list []string
	for tries := 0; len(list) < n && tries < 1000; tries++ {
		address := fmt.Sprintf("127.0.0.1:%d", 10000+rand.IntN(20000))
		l, err := net.Listen("tcp", address)
		if err != nil {
			continue
		}
		// All are held until all are found, so that none is given twice.
		defer l.Close()
		list = append(list, address)
	}
	if len(list) < n {
		return nil, errors.New("find free ports on loopback: none between 10000 and 30000")
	}
	return list, nil
}

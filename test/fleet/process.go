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
	"time"
)

// process is one program that the fleet started itself.
type process struct {
	cmd  *exec.Cmd
	done chan struct{}
}

// program is what is to be run, and how.
type program struct {
	space *namespace // nil: the machine's own network
	log   string     // file that its output is added to
	path  string
	args  []string
	env   []string // besides the fleet's own
	// before is a program that changes something about itself and then becomes path, keeping its pid.
	before []string
}

// start runs a program in a session of its own, with its output in a file.
func start(p program) (*process, error) {
	f, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	line := append(append([]string{}, p.before...), append([]string{p.path}, p.args...)...)
	cmd := exec.Command(line[0], line[1:]...)
	cmd.Stdout, cmd.Stderr = f, f
	cmd.Env = append(os.Environ(), p.env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := p.space.inside(cmd.Start); err != nil {
		return nil, err
	}
	started := &process{cmd: cmd, done: make(chan struct{})}
	go func() {
		_ = cmd.Wait()
		close(started.done)
	}()
	return started, nil
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
	killAll(func() []int { return below(dir) })
}

// killAll kills until none is found any more, because a process may give birth to another while it is looked for.
func killAll(find func() []int) {
	for range 50 {
		pids := find()
		if len(pids) == 0 {
			return
		}
		for _, pid := range pids {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		time.Sleep(time.Millisecond)
	}
}

func below(dir string) []int {
	return processes(func(pid string) bool {
		cwd, _ := os.Readlink(filepath.Join("/proc", pid, "cwd"))
		cmdline, _ := os.ReadFile(filepath.Join("/proc", pid, "cmdline"))
		return strings.HasPrefix(cwd+"/", dir+"/") || strings.Contains(string(cmdline), dir+"/")
	})
}

// processes lists the living processes but this one that wanted says yes to.
func processes(wanted func(pid string) bool) []int {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var pids []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() || !wanted(e.Name()) {
			continue
		}
		stat, _ := os.ReadFile(filepath.Join("/proc", e.Name(), "stat"))
		if strings.Contains(string(stat), ") Z ") {
			continue // dead, only not yet collected by its parent
		}
		pids = append(pids, pid)
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

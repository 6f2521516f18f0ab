package fleet

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A network is a laboratory of its own: every node and every host lives in a network namespace with an address, and
// a bridge in one more namespace is the switch between them. Nothing of it touches the machine's own network,
// so its addresses cannot be in anybody's way.
type network struct {
	owner string // begins every namespace's name and says whose it is
	wired []*namespace
	hub   *namespace // the switch
	lines bool       // who joins from now on gets a cable that can be made bad
}

// namespace is one party's network. A nil one is the machine's own: what works for parties works there too.
type namespace struct {
	name    string     // the kernel's, as `ip netns` shows it
	address netip.Addr // on eth0
	mac     string     // of eth0
	port    string     // the other end of the cable, in the switch
	network *network
	lined   bool   // the cable is one that can be made bad
	cable   *cable // if it is one; nil while it is away
	line    Line   // how bad it is

	file   atomic.Pointer[os.File] // by which it is entered
	former []*os.File              // before reboots; open, because somebody may be about to enter by them
}

// namespacePrefix tells our namespaces from others'. The pid of the program that made them follows.
const namespacePrefix = "wfl-"

// newNetwork makes the switch, and removes what fleets left behind whose program is dead.
func newNetwork() (*network, error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("hosts as network namespaces need root: run this as root")
	}
	if err := removeLeftovers(); err != nil {
		return nil, err
	}
	n := &network{owner: fmt.Sprintf("%s%d-", namespacePrefix, os.Getpid())}
	var err error
	if n.hub, err = n.space("switch"); err != nil {
		return nil, err
	}
	return n, n.hub.ip("link add br0 type bridge", "link set br0 up")
}

// space makes a namespace that is not wired yet.
func (n *network) space(party string) (*namespace, error) {
	s := &namespace{name: n.owner + party, network: n}
	n.wired = append(n.wired, s)
	return s, s.make()
}

func (s *namespace) make() error {
	if err := ip("netns add " + s.name); err != nil {
		return err
	}
	file, err := os.Open(filepath.Join("/run/netns", s.name))
	if err != nil {
		return fmt.Errorf("open network namespace: %w", err)
	}
	s.file.Store(file)
	return s.ip("link set lo up")
}

// join makes a party's namespace and wires it to the switch.
func (n *network) join(party string) (*namespace, error) {
	s, err := n.space(party)
	if err != nil {
		return nil, err
	}
	number := len(n.wired)
	s.address = netip.AddrFrom4([4]byte{10, 77, 0, byte(number)})
	s.mac = fmt.Sprintf("02:77:00:00:00:%02x", number)
	s.port = fmt.Sprintf("port%d", number)
	s.lined = n.lines
	return s, s.wire()
}

// wire lays the cable to the switch.
func (s *namespace) wire() error {
	hub := s.network.hub
	var err error
	if s.lined {
		err = s.layLine()
	} else {
		err = s.ip(
			fmt.Sprintf("link add eth0 address %s type veth peer name %s netns %s", s.mac, s.port, hub.name),
			fmt.Sprintf("addr add %s/16 dev eth0", s.address),
			"link set eth0 up")
	}
	if err != nil {
		return err
	}
	return hub.ip(fmt.Sprintf("link set %s master br0", s.port), fmt.Sprintf("link set %s up", s.port))
}

// powerOff takes the cable away for good and ends every process. Nobody hears of it: what the kernel has still to send
// for the dead must not leave when the power is back, as that of a real host would not.
func (s *namespace) powerOff() error {
	var err error
	if s.lined {
		s.cable.close()
		s.cable = nil
	} else {
		err = s.network.hub.ip("link del " + s.port)
	}
	s.kill()
	return err
}

// powerOn makes the party's network anew, with the same address.
func (s *namespace) powerOn() error {
	s.former = append(s.former, s.file.Load())
	if err := ip("netns del " + s.name); err != nil {
		return err
	}
	if err := s.make(); err != nil {
		return err
	}
	return s.wire()
}

// laboratory is the prefix of all addresses, for what must let them in.
const laboratory = "10.77.0.0/16"

func (s *namespace) ip(commands ...string) error {
	for _, c := range commands {
		if err := ip("-n " + s.name + " " + c); err != nil {
			return err
		}
	}
	return nil
}

func ip(command string) error {
	out, err := exec.Command("ip", strings.Fields(command)...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("ip %s: %w: %s", command, err, strings.TrimSpace(string(out)))
	}
	return nil
}

// inside calls do on a thread that is in the namespace. Sockets opened there stay there, and processes started there
// live there.
func (s *namespace) inside(do func() error) error {
	if s == nil {
		return do()
	}
	result := make(chan error, 1)
	go func() {
		// Never unlocked: the thread ends with this goroutine, so that nobody else is ever run in the namespace.
		runtime.LockOSThread()
		if err := s.enter(); err != nil {
			result <- fmt.Errorf("enter network namespace %s: %w", s.name, err)
			return
		}
		result <- do()
	}()
	return <-result
}

// enter moves the calling thread. The file stays open meanwhile: a client that was just stopped may still say goodbye
// from inside when everything is closed.
func (s *namespace) enter() error {
	raw, err := s.file.Load().SyscallConn()
	if err != nil {
		return err
	}
	var entered error
	err = raw.Control(func(fd uintptr) { entered = unix.Setns(int(fd), unix.CLONE_NEWNET) })
	return errors.Join(err, entered)
}

// dial connects from inside the namespace.
func (s *namespace) dial(ctx context.Context, network, address string) (net.Conn, error) {
	var c net.Conn
	err := s.inside(func() error {
		var d net.Dialer
		var err error
		c, err = d.DialContext(ctx, network, address)
		return err
	})
	return c, err
}

// pids are all processes that live in the namespace.
func (s *namespace) pids() []int {
	own, err := s.file.Load().Stat()
	if err != nil {
		return nil
	}
	return processes(func(pid string) bool {
		there, err := os.Stat(filepath.Join("/proc", pid, "ns", "net"))
		return err == nil && os.SameFile(own, there)
	})
}

// kill ends every process in the namespace, those that are born meanwhile too.
func (s *namespace) kill() {
	killAll(s.pids)
}

// close ends every process in every namespace and removes all.
func (n *network) close() {
	if n == nil {
		return
	}
	for _, s := range n.wired {
		s.cable.close()
		if file := s.file.Load(); file != nil {
			s.kill()
			_ = file.Close()
		}
		for _, file := range s.former {
			_ = file.Close()
		}
		_ = ip("netns del " + s.name)
	}
	n.wired = nil
}

// removeLeftovers removes the namespaces of programs that died without removing them, and the processes in them.
func removeLeftovers() error {
	entries, err := os.ReadDir("/run/netns")
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("look for namespaces of dead fleets: %w", err)
	}
	for _, e := range entries {
		rest, ours := strings.CutPrefix(e.Name(), namespacePrefix)
		owner, _, named := strings.Cut(rest, "-")
		pid, err := strconv.Atoi(owner)
		if !ours || !named || err != nil || !errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
			continue
		}
		s := &namespace{name: e.Name()}
		if file, err := os.Open(filepath.Join("/run/netns", e.Name())); err == nil {
			s.file.Store(file)
			s.kill()
			_ = file.Close()
		}
		if err := ip("netns del " + e.Name()); err != nil {
			return fmt.Errorf("remove what a dead fleet left: %w", err)
		}
	}
	return removeLeftDisks()
}

// dialTimeout bounds the connecting of a socket. Where the cable is pulled the kernel would try for minutes, less
// and less often.
const dialTimeout = time.Second

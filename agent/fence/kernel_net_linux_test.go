package fence

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/witnessd/witnessd/agent/hold"
)

// space is a host of a test: a network namespace with addresses of its own.
type space struct {
	t    testing.TB
	name string
	file *os.File
	ip4  netip.Addr
	ip6  netip.Addr
}

// world is the fenced host, its partner's host and a client's host, on one network.
type world struct {
	t                     testing.TB
	host, partner, client *space
}

var worlds atomic.Int32

const (
	servicePort = 5432
	partnerPort = 5433
	table       = "witnessd_test"
)

func newWorld(t testing.TB) *world {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: network namespaces and nftables")
	}
	prefix := fmt.Sprintf("wfk%d-%d", os.Getpid(), worlds.Add(1))
	w := &world{t: t}
	w.client = newSpace(t, prefix+"c", 3)
	run(t, "ip", "-n", w.client.name, "link", "add", "br0", "type", "bridge")
	w.client.setUp("br0")
	w.host, w.partner = newSpace(t, prefix+"h", 1), newSpace(t, prefix+"p", 2)
	for i, s := range []*space{w.host, w.partner} {
		end := fmt.Sprintf("v%d", i)
		run(t, "ip", "link", "add", end, "netns", w.client.name, "type", "veth", "peer", "name", "eth0", "netns", s.name)
		run(t, "ip", "-n", w.client.name, "link", "set", end, "master", "br0", "up")
		s.setUp("eth0")
	}
	for _, from := range []*space{w.client, w.partner} {
		for _, to := range []netip.Addr{w.host.ip4, w.host.ip6} {
			// A new link loses packets for up to a second.
			eventually(t, 10*time.Second, "the network is there", func() bool {
				c, err := from.dialWithin(50*time.Millisecond, netip.AddrPortFrom(to, 1))
				if err == nil {
					_ = c.Close()
				}
				return errors.Is(err, syscall.ECONNREFUSED)
			})
		}
	}
	return w
}

func newSpace(t testing.TB, name string, number int) *space {
	t.Helper()
	run(t, "ip", "netns", "add", name)
	t.Cleanup(func() { run(t, "ip", "netns", "del", name) })
	f, err := os.Open(filepath.Join("/run/netns", name))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	run(t, "ip", "-n", name, "link", "set", "lo", "up")
	return &space{
		t: t, name: name, file: f, ip4: netip.MustParseAddr(fmt.Sprintf("10.77.0.%d", number)),
		ip6: netip.MustParseAddr(fmt.Sprintf("fd77::%d", number)),
	}
}

func (s *space) setUp(device string) {
	run(s.t, "ip", "-n", s.name, "addr", "add", s.ip4.String()+"/24", "dev", device)
	run(s.t, "ip", "-n", s.name, "addr", "add", s.ip6.String()+"/64", "dev", device, "nodad")
	run(s.t, "ip", "-n", s.name, "link", "set", device, "up")
}

func run(t testing.TB, command ...string) string {
	t.Helper()
	out, err := exec.Command(command[0], command[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(command, " "), err, out)
	}
	return string(out)
}

// in runs work on a thread in the namespace. Sockets that it makes stay there.
func (s *space) in(work func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		if err := unix.Setns(int(s.file.Fd()), unix.CLONE_NEWNET); err != nil {
			done <- err
			return
		}
		done <- work()
	}()
	return <-done
}

func (s *space) dial(address netip.AddrPort) (*net.TCPConn, error) {
	return s.dialWithin(time.Second, address)
}

func (s *space) dialWithin(d time.Duration, address netip.AddrPort) (*net.TCPConn, error) {
	var c net.Conn
	err := s.in(func() (err error) {
		c, err = (&net.Dialer{Timeout: d}).Dial("tcp", address.String())
		return err
	})
	if err != nil {
		return nil, err
	}
	return c.(*net.TCPConn), nil
}

// server is a database of a test: it echoes, and says what happened to its connections.
type server struct {
	net.Listener
	mu    sync.Mutex
	conns []net.Conn
}

func (s *space) serve(port uint16) *server {
	s.t.Helper()
	srv := &server{}
	err := s.in(func() (err error) {
		srv.Listener, err = net.Listen("tcp", fmt.Sprintf(":%d", port))
		return err
	})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(srv.stop)
	go srv.run()
	return srv
}

func (s *server) run() {
	for {
		c, err := s.Accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		s.conns = append(s.conns, c)
		s.mu.Unlock()
		go func() { _, _ = io.Copy(c, c) }()
	}
}

// accepted is the connection from the client's address, as the server has it.
func (s *server) accepted(t testing.TB, client net.Conn) net.Conn {
	t.Helper()
	for range 100 {
		s.mu.Lock()
		for _, c := range s.conns {
			if c.RemoteAddr().String() == client.LocalAddr().String() {
				s.mu.Unlock()
				return c
			}
		}
		s.mu.Unlock()
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("the server has no connection from %v", client.LocalAddr())
	return nil
}

func (s *server) stop() {
	_ = s.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.conns {
		_ = c.Close()
	}
}

// now is the clock of the tests' rights.
func now() hold.Instant {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		panic(err)
	}
	return hold.Instant(ts.Nano())
}

func (w *world) service(name string) Service {
	return Service{
		Name: name, Port: servicePort, Partners: []netip.Addr{w.partner.ip4, w.partner.ip6}, PartnerPort: partnerPort,
		User: databaseUser,
	}
}

const databaseUser = 777

func (w *world) options() KernelOptions {
	return KernelOptions{
		Table: table, Clock: now, Logger: slog.New(slog.NewTextHandler(w.t.Output(), nil)), seams: seams{
			netns:     int(w.host.file.Fd()),
			addresses: func() ([]netip.Addr, error) { return []netip.Addr{w.host.ip4, w.host.ip6}, nil },
		},
	}
}

func (w *world) open(o KernelOptions) *Kernel {
	w.t.Helper()
	k, err := OpenKernel(w.t.Context(), o)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = k.close() })
	return k
}

// close is Close, but may be called twice.
func (k *Kernel) close() error {
	select {
	case <-k.done:
		return nil
	default:
		return k.Close()
	}
}

// at is the service's address on a host.
func (s *space) at(port uint16) netip.AddrPort { return netip.AddrPortFrom(s.ip4, port) }

// eventually waits until something is so, or fails.
func eventually(t testing.TB, within time.Duration, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(within); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s", within, what)
		}
	}
}

// passes is whether a client of the space can talk to the address.
func (s *space) passes(address netip.AddrPort) bool {
	c, err := s.dial(address)
	if err != nil {
		if !errors.Is(err, syscall.ECONNREFUSED) && !errors.Is(err, syscall.ECONNRESET) {
			s.t.Errorf("%s to %v: %v, want it refused if anything", s.name, address, err)
		}
		return false
	}
	defer c.Close()
	return talk(c) == nil
}

// talk sends something and waits for the echo.
func talk(c net.Conn) error {
	_ = c.SetDeadline(time.Now().Add(2 * time.Second))
	return ping(c)
}

package haproxy

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/witnessd/witnessd/agent"
	"github.com/witnessd/witnessd/agent/hold"
)

// pair is two hosts and a HAProxy in front of them, with the configuration that we ship.
type pair struct {
	t             *testing.T
	db1, db2      *host
	writes, reads string        // where HAProxy listens
	ended         chan struct{} // closed when HAProxy has ended
}

// host is a database that says its name and then repeats what it hears, and the agent's role endpoints beside it.
type host struct {
	name     string
	database net.Listener
	http     net.Listener

	mu     sync.Mutex
	shown  agent.Shown
	odd    int           // so many questions are answered with 503, whatever is so
	frozen chan struct{} // not nil: questions are answered when it is closed
}

// What a host may be.
var (
	primary = agent.Shown{Status: hold.Status{Name: "payroll", Managed: true, Epoch: 4, Primary: true, Serving: true,
		ServesFor: -1, Engine: hold.Engine{Running: true, Role: hold.RolePrimary, Timeline: 3, Position: 100 << 20}}}
	mirror = agent.Shown{Status: hold.Status{Name: "payroll", Managed: true, Epoch: 4, Following: true, Engine: hold.Engine{
		Running: true, Role: hold.RoleMirror, Timeline: 3, Position: 100 << 20, Replayed: 100 << 20, Promotable: true,
		Following: true}}, Partner: primary.Engine}
	handingOver = change(primary, func(s *agent.Shown) { s.HandingOver = true })
	lagging     = change(mirror, func(s *agent.Shown) { s.Engine.Replayed -= 17e6 })
	nothing     = agent.Shown{Status: hold.Status{Name: "payroll", Managed: true, Epoch: 4}}
)

func change(s agent.Shown, change func(*agent.Shown)) agent.Shown {
	change(&s)
	return s
}

func newPair(t *testing.T) *pair {
	t.Helper()
	program := "/usr/sbin/haproxy"
	if _, err := os.Stat(program); err != nil {
		if os.Getuid() != 0 {
			t.Skip("HAProxy is not installed (Debian's package haproxy), and only root could install it")
		}
		t.Fatalf("this test needs Debian's package haproxy: %v", err)
	}
	p := &pair{t: t, db1: newHost(t, "db1", primary), db2: newHost(t, "db2", mirror), writes: free(t), reads: free(t)}
	raw, err := os.ReadFile("../../deploy/haproxy/haproxy.cfg")
	if err != nil {
		t.Fatal(err)
	}
	text := string(raw)
	for _, r := range []struct {
		from, to string
		times    int
	}{
		{"bind :5000", "bind " + p.writes, 1}, {"bind :5001", "bind " + p.reads, 1},
		{" db1:5432 check port 7413", p.db1.line(), 2}, {" db2:5432 check port 7413", p.db2.line(), 2},
		{" db1:5432", " " + p.db1.database.Addr().String(), 1}, {" db2:5432", " " + p.db2.database.Addr().String(), 1},
	} {
		if n := strings.Count(text, r.from); n != r.times {
			t.Fatalf("the example has %q %d times, and this test replaces it %d times", r.from, n, r.times)
		}
		text = strings.ReplaceAll(text, r.from, r.to)
	}
	path := filepath.Join(t.TempDir(), "haproxy.cfg")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), program, "-db", "-f", path)
	cmd.Stdout, cmd.Stderr = t.Output(), t.Output()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p.ended = make(chan struct{})
	go func() {
		defer close(p.ended)
		_ = cmd.Wait()
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-p.ended
	})
	p.until(p.writes, "db1")
	p.until(p.reads, "db2")
	return p
}

// line is the address of a host's database and where its agent is asked.
func (h *host) line() string {
	_, port, _ := net.SplitHostPort(h.http.Addr().String())
	return fmt.Sprintf(" %s check port %s", h.database.Addr(), port)
}

// free finds an address that nobody listens on.
func free(t *testing.T) string {
	l := listen(t)
	defer l.Close()
	return l.Addr().String()
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func newHost(t *testing.T, name string, shown agent.Shown) *host {
	h := &host{name: name, database: listen(t), http: listen(t), shown: shown}
	endpoints := agent.RoleEndpoints(agent.BootClock, func() map[string]agent.Shown {
		h.mu.Lock()
		defer h.mu.Unlock()
		return map[string]agent.Shown{"main": h.shown}
	})
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.mu.Lock()
		frozen, odd := h.frozen, h.odd > 0 && r.URL.Path == "/primary"
		if odd {
			h.odd--
		}
		h.mu.Unlock()
		if frozen != nil {
			<-frozen
		}
		if odd {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		endpoints.ServeHTTP(w, r)
	})}
	go func() { _ = server.Serve(h.http) }()
	go h.serve()
	t.Cleanup(func() {
		h.freeze(false)
		_ = server.Close()
		_ = h.database.Close()
	})
	return h
}

// is changes what the agent knows.
func (h *host) is(shown agent.Shown) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.shown = shown
}

func (h *host) oddAnswers(n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.odd = n
}

// freeze is the agent's process stopped: connections are taken, and nothing is answered.
func (h *host) freeze(yes bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if yes {
		h.frozen = make(chan struct{})
	} else if h.frozen != nil {
		close(h.frozen)
		h.frozen = nil
	}
}

func (h *host) serve() {
	for {
		conn, err := h.database.Accept()
		if err != nil {
			return
		}
		go func() {
			defer conn.Close()
			_, _ = fmt.Fprintln(conn, h.name)
			for lines := bufio.NewScanner(conn); lines.Scan(); {
				_, _ = fmt.Fprintln(conn, lines.Text())
			}
		}()
	}
}

// session is a client's.
type session struct {
	conn net.Conn
	in   *bufio.Reader
	at   string // the database that it has reached
}

func connect(address string) (*session, error) {
	conn, err := net.DialTimeout("tcp", address, time.Second)
	if err != nil {
		return nil, err
	}
	s := &session{conn: conn, in: bufio.NewReader(conn)}
	_ = conn.SetDeadline(time.Now().Add(2 * time.Second))
	name, err := s.in.ReadString('\n')
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	s.at = strings.TrimSpace(name)
	return s, nil
}

// says whether the session still works.
func (s *session) works() bool {
	_ = s.conn.SetDeadline(time.Now().Add(2 * time.Second))
	if _, err := fmt.Fprintln(s.conn, "hello"); err != nil {
		return false
	}
	line, err := s.in.ReadString('\n')
	return err == nil && line == "hello\n"
}

// must connects and closes with the test.
func (p *pair) must(address, at string) *session {
	p.t.Helper()
	s, err := connect(address)
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { _ = s.conn.Close() })
	if s.at != at {
		p.t.Fatalf("at %s, want %s", s.at, at)
	}
	return s
}

// steady is how many connections in a row must reach a host: HAProxy spreads them over all that it takes for good,
// which right after its start is every one.
const steady = 6

// until returns how long it takes until new connections, and all after them, reach the host; "": reach none.
func (p *pair) until(address, at string) time.Duration {
	p.t.Helper()
	began, first, row := time.Now(), time.Duration(0), 0
	for time.Since(began) < 20*time.Second {
		asked, reached := time.Since(began), ""
		if s, err := connect(address); err == nil {
			reached = s.at
			_ = s.conn.Close()
		}
		switch {
		case reached != at:
			row = 0
		case row == 0:
			first, row = asked, 1
		default:
			row++
		}
		if row == steady {
			return first
		}
		select {
		case <-p.ended:
			p.t.Fatal("HAProxy has ended")
		case <-time.After(10 * time.Millisecond):
		}
	}
	p.t.Fatalf("new connections do not reach %q", at)
	return 0
}

// cut returns how long it takes until the session is shut.
func (p *pair) cut(s *session) time.Duration {
	p.t.Helper()
	began := time.Now()
	for s.works() {
		if time.Since(began) > 20*time.Second {
			p.t.Fatalf("the session with %s is not shut", s.at)
		}
		time.Sleep(10 * time.Millisecond)
	}
	return time.Since(began)
}

package sqlservertest_test

import (
	"bufio"
	"database/sql"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	osexec "os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/witnessd/witnessd/agent/engine/sqlserver/sqlservertest"
)

// process starts fakesql, and returns it with the addresses that it printed.
func process(t *testing.T, arguments ...string) (p *osexec.Cmd, clients, endpoint string) {
	t.Helper()
	p = osexec.Command(sqlservertest.Build(t), arguments...)
	p.Stderr = os.Stderr
	out, err := p.StdoutPipe()
	if err == nil {
		err = p.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = p.Process.Kill()
		_ = p.Wait()
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("no line: %v", err)
	}
	for word := range strings.FieldsSeq(line) {
		key, value, _ := strings.Cut(word, "=")
		switch key {
		case "clients":
			clients = value
		case "endpoint":
			endpoint = value
		}
	}
	return p, clients, endpoint
}

func open(t *testing.T, address, database string) *sql.DB {
	t.Helper()
	host, port, _ := strings.Cut(address, ":")
	db, err := sql.Open("sqlserver", "server="+host+";port="+port+";user id=it;password=is:fake;encrypt=disable;database="+database)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

// Two processes mirror; one is killed, and what it had acknowledged is on the other, and on itself after its return.
func TestProcesses(t *testing.T) {
	dir := t.TempDir()
	setup := filepath.Join(dir, "setup.sql")
	script := "CREATE DATABASE app\nGO\nCREATE TABLE app.dbo.t (v int)\ngo\nINSERT app..t VALUES (1)\n"
	if err := os.WriteFile(setup, []byte(script), 0o600); err != nil {
		t.Fatal(err)
	}
	start := func(name, listen, endpoint string, more ...string) (*osexec.Cmd, string, string) {
		return process(t, append([]string{"--dir", filepath.Join(dir, name), "--name", name, "--listen", listen,
			"--endpoint", endpoint, "--ping", "20ms", "--login", "it:is:fake"}, more...)...)
	}
	a, aClients, aEndpoint := start("a", "127.0.0.1:0", "127.0.0.1:0", "--setup", setup)
	b, bClients, bEndpoint := start("b", "127.0.0.1:0", "127.0.0.1:0", "--control", filepath.Join(dir, "b.control"))
	exec(t, open(t, bClients, ""), "ALTER DATABASE app SET PARTNER = N'"+aEndpoint+"'")
	exec(t, open(t, aClients, ""), "ALTER DATABASE app SET PARTNER = N'"+bEndpoint+"'")
	state := func(clients string) string {
		return strings.Join(texts(t, open(t, clients, ""), "SELECT mirroring_role_desc, mirroring_state_desc"+
			" FROM sys.database_mirroring WHERE database_id = DB_ID(N'app')"), ",")
	}
	becomes := func(clients, want string) {
		t.Helper()
		sqlservertest.Eventually(t, want, func() (bool, string) {
			now := state(clients)
			return now == want, now
		})
	}
	becomes(aClients, "PRINCIPAL|SYNCHRONIZED")
	becomes(bClients, "MIRROR|SYNCHRONIZED")
	exec(t, open(t, aClients, "app"), "INSERT t VALUES (2)")

	if err := a.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = a.Wait()
	becomes(bClients, "MIRROR|DISCONNECTED")
	exec(t, open(t, bClients, ""), "ALTER DATABASE app SET PARTNER FORCE_SERVICE_ALLOW_DATA_LOSS")
	want(t, "on b", texts(t, open(t, bClients, "app"), "SELECT v FROM t"), "1", "2")

	_, aClients, _ = start("a", aClients, strings.TrimPrefix(aEndpoint, "TCP://"), "--setup", setup)
	becomes(aClients, "MIRROR|SUSPENDED")
	exec(t, open(t, bClients, ""), "ALTER DATABASE app SET PARTNER RESUME")
	becomes(aClients, "MIRROR|SYNCHRONIZED")
	want(t, "still on b", texts(t, open(t, bClients, "app"), "SELECT v FROM t"), "1", "2")

	if err := b.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := b.Wait(); err != nil {
		t.Errorf("b does not end well: %v", err)
	}
	becomes(aClients, "MIRROR|DISCONNECTED")
}

// free is an address of the loopback that nobody uses.
func free(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func TestControl(t *testing.T) {
	dir := t.TempDir()
	port := free(t)
	_, clients, _ := process(t, "--dir", dir, "--listen", "127.0.0.1:0", "--control", port, "--login", "it:is:fake")
	post := func(knob string, status int, form url.Values) {
		t.Helper()
		r, err := http.PostForm("http://"+port+"/"+knob, form)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Body.Close()
		if body, _ := io.ReadAll(r.Body); r.StatusCode != status {
			t.Errorf("%s: %s %s", knob, r.Status, body)
		}
	}
	post("refuse-login", http.StatusOK, url.Values{"database": {"master"}, "on": {"true"}})
	if err := open(t, clients, "").PingContext(t.Context()); numberOf(err) != 18456 {
		t.Errorf("refused login: got %v", err)
	}
	post("refuse-login", http.StatusOK, url.Values{"database": {"master"}})
	if err := open(t, clients, "").PingContext(t.Context()); err != nil {
		t.Error(err)
	}
	post("slow", http.StatusBadRequest, url.Values{"by": {"soon"}})
	post("nothing", http.StatusBadRequest, nil)
	r, err := http.Get("http://" + port + "/state")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	if r.StatusCode != http.StatusOK {
		t.Errorf("state: %s", r.Status)
	}
}

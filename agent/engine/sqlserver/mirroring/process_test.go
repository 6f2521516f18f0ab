package mirroring

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	mssql "github.com/microsoft/go-mssqldb"
	"github.com/microsoft/go-mssqldb/msdsn"

	"github.com/witnessd/witnessd/agent/engine"
	"github.com/witnessd/witnessd/agent/engine/sqlserver"
	"github.com/witnessd/witnessd/agent/engine/sqlserver/service"
	"github.com/witnessd/witnessd/agent/engine/sqlserver/sqlservertest"
)

// remote is an instance as a process of its own, with its engine.
type remote struct {
	name, listen, endpoint string
	service                service.Service
	engine                 *Engine
}

// freePort is a port of the loopback that was free a moment ago. It is not one of those that the kernel gives to
// outgoing connections, which would take it until the process listens there.
func freePort(t *testing.T) string {
	t.Helper()
	const first, count = 20000, 10000
	for range 100 {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", first+rand.IntN(count)))
		if err != nil {
			continue
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		return l.Addr().String()
	}
	t.Fatal("no free port")
	return ""
}

// newRemote makes an engine for an instance that does not run yet.
func newRemote(t *testing.T, name string, databases ...string) *remote {
	t.Helper()
	t.Setenv("FAKE_PASSWORD", "fake")
	r := &remote{name: name, listen: freePort(t), endpoint: freePort(t)}
	cfg := sqlserver.Default()
	cfg.Listen, cfg.User, cfg.PasswordEnv, cfg.Encrypt = r.listen, "sa", "FAKE_PASSWORD", "disable"
	cfg.Databases, cfg.StateFile = databases, filepath.Join(t.TempDir(), name+".sqlserver")
	dir := t.TempDir()
	cfg.Service = service.Config{Command: []string{
		sqlservertest.Build(t), "--dir", dir, "--name", name, "--listen", r.listen, "--endpoint", r.endpoint,
		"--ping", ping.String(), "--second", second.String(),
	}, Output: filepath.Join(dir, "output")}
	e, err := New(cfg, slog.New(slog.NewTextHandler(t.Output(), nil)).With("host", name))
	if err != nil {
		t.Fatal(err)
	}
	r.engine, r.service = e, e.process
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := errors.Join(e.process.Kill(ctx), e.Close()); err != nil {
			t.Error(err)
		}
	})
	return r
}

// open is a client's connections.
func (r *remote) open(t *testing.T, database string) *sql.DB {
	t.Helper()
	host, portText, err := net.SplitHostPort(r.listen)
	if err != nil {
		t.Fatal(err)
	}
	port, err := net.LookupPort("tcp", portText)
	if err != nil {
		t.Fatal(err)
	}
	db := sql.OpenDB(mssql.NewConnectorConfig(msdsn.Config{
		Host: host, Port: uint64(port), User: "sa", Password: "fake", Database: database,
		Encryption: msdsn.EncryptionDisabled, DialTimeout: time.Second, Protocols: []string{"tcp"}, DisableRetry: true,
	}))
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func (r *remote) exec(t *testing.T, statement string) {
	t.Helper()
	db := r.open(t, "master")
	sqlservertest.Eventually(t, r.name+": "+statement, func() (bool, string) {
		_, err := db.ExecContext(t.Context(), statement)
		return err == nil, fmt.Sprint(err)
	})
}

func (r *remote) until(t *testing.T, what string, is func(engine.State) bool) {
	t.Helper()
	sqlservertest.Eventually(t, r.name+" "+what, func() (bool, string) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		s, err := r.engine.Observe(ctx)
		return err == nil && is(s), fmt.Sprintf("%+v %v", s, err)
	})
}

// remotes starts two processes with mirrored databases, brought to where commits are held.
func remotes(t *testing.T, databases ...string) (a, b *remote) {
	t.Helper()
	a, b = newRemote(t, "a", databases...), newRemote(t, "b", databases...)
	for _, r := range []*remote{a, b} {
		if err := r.service.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range databases {
		a.exec(t, "CREATE DATABASE ["+name+"]")
		a.exec(t, "CREATE TABLE ["+name+"].dbo.t (v nvarchar(200))")
		b.exec(t, "ALTER DATABASE ["+name+"] SET PARTNER = N'TCP://"+a.endpoint+"'")
		a.exec(t, "ALTER DATABASE ["+name+"] SET PARTNER = N'TCP://"+b.endpoint+"'")
	}
	b.until(t, "can be promoted", func(s engine.State) bool { return s.Promotable })
	if err := errors.Join(a.engine.Promote(t.Context(), peerOf(b)), b.engine.Follow(t.Context(), peerOf(a), nil),
		a.engine.HoldCommits(t.Context(), peerOf(b))); err != nil {
		t.Fatal(err)
	}
	return a, b
}

func peerOf(r *remote) engine.Peer {
	return engine.Peer{Pair: "lync", Host: r.name, Address: r.listen, Lease: lease}
}

func TestThePrimarysProcessIsKilled(t *testing.T) {
	a, b := remotes(t, "one", "two")
	c := &client{db: a.open(t, "one")}
	stop := c.busy(t)
	c.written(t, 20)
	a.until(t, "holds commits", func(s engine.State) bool { return s.Commits == engine.CommitsHeld })
	p, err := a.service.Look(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	process, err := os.FindProcess(p.PID)
	if err != nil {
		t.Fatal(err)
	}
	if err := process.Kill(); err != nil {
		t.Fatal(err)
	}
	select {
	case exit := <-a.engine.Exits():
		if exit.Run != p.Run {
			t.Errorf("the end of %s was told, not of %s", exit.Run, p.Run)
		}
	case <-time.After(5 * time.Second):
		t.Fatal("the end of the process was not told")
	}
	stop()
	b.until(t, "has lost its partner", func(s engine.State) bool { return !s.Following && s.Promotable })
	if err := b.engine.Promote(t.Context(), peerOf(a)); err != nil {
		t.Fatal(err)
	}
	lost(t, c, b, "one")
	if err := a.engine.Follow(t.Context(), peerOf(b), nil); err != nil {
		t.Fatal(err)
	}
	if err := b.engine.HoldCommits(t.Context(), peerOf(a)); err != nil {
		t.Fatal(err)
	}
	lost(t, c, b, "one")
}

// lost says which acknowledged rows are not on a host.
func lost(t *testing.T, c *client, on *remote, database string) {
	t.Helper()
	rows, err := on.open(t, database).QueryContext(t.Context(), "SELECT v FROM t")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	there := map[string]bool{}
	for rows.Next() {
		var v string
		if err := rows.Scan(&v); err != nil {
			t.Fatal(err)
		}
		there[v] = true
	}
	for _, v := range c.told {
		if !there[v] {
			t.Errorf("%s of %d was acknowledged and is lost", v, len(c.told))
		}
	}
}

func TestFenceWhileSomethingElseRuns(t *testing.T) {
	a, b := remotes(t, "one", "two")
	// A former principal that does not find its partner keeps Follow at work.
	if err := a.engine.Fence(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.until(t, "has lost its partner", func(s engine.State) bool { return !s.Following })
	if err := b.engine.Fence(t.Context()); err != nil {
		t.Fatal(err)
	}
	followed := make(chan error, 1)
	go func() { followed <- b.engine.Follow(t.Context(), peerOf(a), nil) }()
	b.until(t, "runs", func(s engine.State) bool { return s.Running })
	p, err := b.service.Look(t.Context())
	if err != nil || !p.Running {
		t.Fatal(p, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 190*time.Millisecond)
	defer cancel()
	begun := time.Now()
	if err := b.engine.Fence(ctx); err != nil {
		t.Fatalf("after %v: %v", time.Since(begun), err)
	}
	took := time.Since(begun)
	t.Logf("fence: %v", took)
	if p, err := b.service.Look(t.Context()); err != nil || p.Running {
		t.Errorf("after its fence has returned the process is seen as %+v, %v", p, err)
	}
	if err := <-followed; !errors.Is(err, engine.ErrFenced) {
		t.Errorf("Follow ended with %v, want %v", err, engine.ErrFenced)
	}
}

func TestFenceWaitsForAStartThatIsUnderWay(t *testing.T) {
	a, b := armed(t, "one")
	b.must(t, "fence")
	inside, goOn := make(chan struct{}), make(chan struct{})
	b.service.starting = func() {
		close(inside)
		<-goOn
	}
	followed := make(chan error, 1)
	go func() { followed <- b.engine.Follow(t.Context(), b.peer(), nil) }()
	<-inside
	fenced := make(chan error, 1)
	go func() { fenced <- b.engine.Fence(t.Context()) }()
	close(goOn)
	if err := <-fenced; err != nil {
		t.Fatal(err)
	}
	if p, _ := b.service.Look(t.Context()); p.Running {
		t.Error("what was started while the fence came is running")
	}
	if err := <-followed; !errors.Is(err, engine.ErrFenced) {
		t.Errorf("Follow ended with %v, want %v", err, engine.ErrFenced)
	}
	_ = a
}

func TestALookEndsInTimeAlsoWhenTheServerHangs(t *testing.T) {
	a, _ := armed(t, "one")
	a.instance.Knobs().HangClients(true)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	begun := time.Now()
	s, err := a.engine.Observe(ctx)
	if took := time.Since(begun); took > 600*time.Millisecond {
		t.Errorf("the look took %v", took)
	}
	if !errors.Is(err, engine.ErrHung) {
		t.Errorf("a hanging server is seen as %+v, %v", s, err)
	}
	// The fence does not need the server's consent.
	begun = time.Now()
	a.must(t, "fence")
	if took := time.Since(begun); took > 190*time.Millisecond {
		t.Errorf("the fence of a hanging server took %v", took)
	}
}

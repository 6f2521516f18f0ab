package availability

import (
	"context"
	"database/sql"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	mssql "github.com/microsoft/go-mssqldb"
	"github.com/microsoft/go-mssqldb/msdsn"
	"golang.org/x/sys/unix"

	"github.com/witnessd/witnessd/agent/engine"
	"github.com/witnessd/witnessd/agent/engine/sqlserver"
	"github.com/witnessd/witnessd/agent/engine/sqlserver/service"
	"github.com/witnessd/witnessd/agent/engine/sqlserver/sqlservertest"
)

// separate is a data replica in a process of its own.
type separate struct {
	t        *testing.T
	engine   *Engine
	cfg      sqlserver.Config
	endpoint string
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	return l.Addr().String()
}

func startReal(t *testing.T, name string) *separate {
	t.Helper()
	r := &separate{t: t, cfg: sqlserver.Default(), endpoint: freeAddress(t)}
	r.cfg.Listen, r.cfg.User, r.cfg.PasswordEnv, r.cfg.Encrypt = freeAddress(t), "sa", "FAKE_PASSWORD", "disable"
	r.cfg.Group, r.cfg.StateFile = groupName, filepath.Join(t.TempDir(), "state")
	r.cfg.Service = service.Config{Command: []string{
		sqlservertest.Build(t), "--name", name, "--dir", t.TempDir(), "--listen", r.cfg.Listen, "--endpoint", r.endpoint,
		"--ping", "50ms", "--second", "200ms",
	}}
	e, err := New(r.cfg, slog.New(slog.DiscardHandler))
	must(t, err)
	r.engine = e
	must(t, e.process.Start(t.Context()))
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := e.process.Kill(ctx); err != nil {
			t.Error(err)
		}
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	sqlservertest.Eventually(t, name+" takes logins", func() (bool, string) {
		_, err := e.client.Server(t.Context())
		return err == nil, "no login"
	})
	return r
}

func (r *separate) peer() engine.Peer { return engine.Peer{Host: "other", Address: r.cfg.Listen} }

func (r *separate) exec(database string, statements ...string) error {
	r.t.Helper()
	host, port, err := net.SplitHostPort(r.cfg.Listen)
	must(r.t, err)
	number, err := net.LookupPort("tcp", port)
	must(r.t, err)
	db := sql.OpenDB(mssql.NewConnectorConfig(msdsn.Config{
		Host: host, Port: uint64(number), User: "sa", Password: "fake", Database: database,
		Encryption: msdsn.EncryptionDisabled, DialTimeout: 2 * time.Second, Protocols: []string{"tcp"}, DisableRetry: true,
	}))
	defer db.Close()
	ctx, cancel := context.WithTimeout(r.t.Context(), 5*time.Second)
	defer cancel()
	for _, s := range statements {
		if _, err := db.ExecContext(ctx, s); err != nil {
			return err
		}
	}
	return nil
}

func (r *separate) until(what string, holds func(engine.State) bool) {
	r.t.Helper()
	sqlservertest.Eventually(r.t, what, func() (bool, string) {
		s, err := r.engine.Observe(r.t.Context())
		if err != nil {
			return false, err.Error()
		}
		return holds(s), s.NotPromotable + " " + s.Warning
	})
}

func (r *separate) pid() int {
	r.t.Helper()
	p, err := r.engine.process.Look(r.t.Context())
	must(r.t, err)
	return p.PID
}

// With processes of their own: one is killed as the kernel kills, the other stands still when it is fenced.
func TestProcesses(t *testing.T) {
	t.Setenv("FAKE_PASSWORD", "fake")
	a, b := startReal(t, "SQL1"), startReal(t, "SQL2")
	on := func(r *separate, name string) string {
		return "N'" + name + "' WITH (ENDPOINT_URL = N'TCP://" + r.endpoint + "', AVAILABILITY_MODE = SYNCHRONOUS_COMMIT)"
	}
	must(t, a.exec("master", "CREATE DATABASE rtcxds", "CREATE TABLE rtcxds.dbo.t (v nvarchar(200))",
		"CREATE AVAILABILITY GROUP [lync] WITH (CLUSTER_TYPE = EXTERNAL) FOR DATABASE rtcxds REPLICA ON "+
			strings.Join([]string{on(a, "SQL1"), on(b, "SQL2")}, ", ")))
	must(t, b.exec("master", "ALTER AVAILABILITY GROUP [lync] JOIN WITH (CLUSTER_TYPE = EXTERNAL)"))
	b.until("complete", func(s engine.State) bool { return s.Following && s.Promotable })
	must(t, a.engine.Promote(t.Context(), b.peer()))
	must(t, a.engine.HoldCommits(t.Context(), b.peer()))
	must(t, a.exec("rtcxds", "INSERT INTO t VALUES (N'1')"))

	must(t, unix.Kill(a.pid(), unix.SIGKILL))
	select {
	case <-a.engine.Exits():
	case <-time.After(10 * time.Second):
		t.Fatal("nobody tells that the process has ended")
	}
	b.until("without a primary", func(s engine.State) bool { return !s.Following })
	must(t, b.engine.Promote(t.Context(), a.peer()))
	must(t, b.engine.ReleaseCommits(t.Context()))
	must(t, b.exec("rtcxds", "INSERT INTO t VALUES (N'2')"))
	must(t, a.engine.Follow(t.Context(), b.peer(), nil)) // starts the process
	b.until("the mirror is back", func(s engine.State) bool { return s.Mirror.Attached })
	must(t, b.engine.HoldCommits(t.Context(), a.peer()))

	a.until("complete", func(s engine.State) bool { return s.Following && s.Promotable })
	must(t, unix.Kill(b.pid(), unix.SIGSTOP))
	begun := now()
	ctx, cancel := context.WithTimeout(t.Context(), budget)
	defer cancel()
	must(t, b.engine.Fence(ctx))
	t.Logf("a process that stood still was fenced in %v", now().Sub(begun))
	if p, err := b.engine.process.Look(t.Context()); err != nil || p.Running {
		t.Fatalf("a fenced process: %+v, %v", p, err)
	}
	a.until("without a primary", func(s engine.State) bool { return !s.Following })
	must(t, a.engine.Promote(t.Context(), b.peer()))
	must(t, b.engine.Follow(t.Context(), a.peer(), nil))
}

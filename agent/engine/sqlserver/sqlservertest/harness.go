package sqlservertest

import (
	"context"
	"database/sql"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	mssql "github.com/microsoft/go-mssqldb"
	"github.com/microsoft/go-mssqldb/msdsn"
)

// started counts instances, for their names.
var started atomic.Int64

// Start starts an instance in this process and ends it with the test.
func Start(t testing.TB, o Options) *Instance {
	t.Helper()
	if o.Name == "" {
		o.Name = fmt.Sprintf("sql%d", started.Add(1))
	}
	if o.Dir == "" {
		o.Dir = t.TempDir()
	}
	i, err := Open(context.WithoutCancel(t.Context()), o)
	if err != nil {
		t.Fatalf("start the fake SQL Server %s: %v", o.Name, err)
	}
	t.Cleanup(i.Crash)
	return i
}

// Restart starts the instance again, on its directory and ports, and ends it before if it still runs. Connections and
// knobs of the last run are gone.
func (i *Instance) Restart(t testing.TB) {
	t.Helper()
	i.Crash()
	next, err := begin(context.WithoutCancel(t.Context()), i.run().options)
	if err != nil {
		t.Fatalf("start the fake SQL Server %s again: %v", i.Name(), err)
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.now = next
}

// DB is a client's connections to a database, with Microsoft's driver. They are closed with the test.
func (i *Instance) DB(t testing.TB, database string) *sql.DB {
	t.Helper()
	db := i.open(t, database)
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

func (i *Instance) open(t testing.TB, database string) *sql.DB {
	t.Helper()
	r := i.run()
	host, port, err := net.SplitHostPort(r.address())
	if err != nil {
		t.Fatal(err)
	}
	number, err := net.LookupPort("tcp", port)
	if err != nil {
		t.Fatal(err)
	}
	return sql.OpenDB(mssql.NewConnectorConfig(msdsn.Config{
		Host: host, Port: uint64(number), User: r.user, Password: r.password, Database: database, AppName: "test",
		Encryption: msdsn.EncryptionDisabled, DialTimeout: 2 * time.Second, Protocols: []string{"tcp"}, DisableRetry: true,
	}))
}

// Exec runs statements with a connection of their own, in the context of master.
func (i *Instance) Exec(t testing.TB, statements ...string) {
	t.Helper()
	db := i.open(t, "master")
	defer db.Close()
	for _, statement := range statements {
		if _, err := db.ExecContext(t.Context(), statement); err != nil {
			t.Fatalf("%s: %s: %v", i.Name(), statement, err)
		}
	}
}

// patience bounds the waits of the harness.
const patience = 20 * time.Second

// Eventually waits until a condition holds; it says what it was last told if it does not.
func Eventually(t testing.TB, what string, holds func() (ok bool, now string)) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		ok, now := holds()
		if ok {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: still not after %v: %s", what, patience, now)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// Mirror makes databases on the principal, with a table t (v nvarchar) in each, and mirrors them; witness may be nil.
// It returns when all are SYNCHRONIZED. timeout is PARTNER TIMEOUT in seconds, 0 for SQL Server's own.
func Mirror(t testing.TB, databases []string, principal, mirror, witness *Instance, timeout int) {
	t.Helper()
	for _, name := range databases {
		principal.Exec(t, "CREATE DATABASE ["+name+"]", "CREATE TABLE ["+name+"].dbo.t (v nvarchar(200))")
		mirror.Exec(t, fmt.Sprintf("ALTER DATABASE [%s] SET PARTNER = N'%s'", name, principal.Endpoint()))
		principal.Exec(t, fmt.Sprintf("ALTER DATABASE [%s] SET PARTNER = N'%s'", name, mirror.Endpoint()))
		if timeout > 0 {
			principal.Exec(t, fmt.Sprintf("ALTER DATABASE [%s] SET PARTNER TIMEOUT %d", name, timeout))
		}
	}
	Synchronized(t, principal, databases...)
	Synchronized(t, mirror, databases...)
	if witness == nil {
		return
	}
	for _, name := range databases {
		principal.Exec(t, fmt.Sprintf("ALTER DATABASE [%s] SET WITNESS = N'%s'", name, witness.Endpoint()))
		Eventually(t, "witness of "+name, func() (bool, string) {
			for _, m := range principal.Model().Mirroring() {
				if strings.EqualFold(m.Database, name) {
					return m.WitnessStateDesc == "CONNECTED", m.WitnessStateDesc
				}
			}
			return false, "not mirrored"
		})
	}
}

// Group makes databases on the first instance, with a table t (v nvarchar) in each, and an availability group of them
// with CLUSTER_TYPE = EXTERNAL over all instances; the first is primary. A replica that is to hold no data is given by
// its endpoint's role: WITNESS makes it a configuration-only one. It returns when every database is SYNCHRONIZED on
// every other replica.
func Group(t testing.TB, name string, databases []string, replicas ...*Instance) {
	t.Helper()
	primary := replicas[0]
	var on []string
	data := 0
	for _, r := range replicas {
		mode := "AVAILABILITY_MODE = SYNCHRONOUS_COMMIT, SEEDING_MODE = AUTOMATIC"
		if strings.EqualFold(r.run().options.EndpointRole, "WITNESS") {
			mode = "AVAILABILITY_MODE = CONFIGURATION_ONLY"
		} else {
			data++
		}
		on = append(on, fmt.Sprintf("N'%s' WITH (ENDPOINT_URL = N'%s', FAILOVER_MODE = EXTERNAL, %s)",
			r.Name(), r.Endpoint(), mode))
	}
	for _, database := range databases {
		primary.Exec(t, "CREATE DATABASE ["+database+"]", "CREATE TABLE ["+database+"].dbo.t (v nvarchar(200))")
	}
	primary.Exec(t, fmt.Sprintf("CREATE AVAILABILITY GROUP [%s] WITH (CLUSTER_TYPE = EXTERNAL, DB_FAILOVER = ON)"+
		" FOR DATABASE [%s] REPLICA ON %s",
		name, strings.Join(databases, "], ["), strings.Join(on, ", ")))
	for _, r := range replicas[1:] {
		r.Exec(t, fmt.Sprintf("ALTER AVAILABILITY GROUP [%s] JOIN WITH (CLUSTER_TYPE = EXTERNAL)", name))
		r.Exec(t, fmt.Sprintf("ALTER AVAILABILITY GROUP [%s] GRANT CREATE ANY DATABASE", name))
	}
	Eventually(t, name+" is SYNCHRONIZED", func() (bool, string) {
		synchronized, states := 0, []string{}
		for _, d := range primary.Model().GroupDatabases() {
			states = append(states, d.Database+" "+d.State)
			if strings.EqualFold(d.Group, name) && !d.IsLocal && d.State == "SYNCHRONIZED" {
				synchronized++
			}
		}
		return synchronized == len(databases)*(data-1), strings.Join(states, ", ")
	})
}

// Synchronized waits until databases are SYNCHRONIZED, as the instance sees it.
func Synchronized(t testing.TB, i *Instance, databases ...string) {
	t.Helper()
	for _, name := range databases {
		Eventually(t, name+" is SYNCHRONIZED on "+i.Name(), func() (bool, string) {
			for _, m := range i.Model().Mirroring() {
				if strings.EqualFold(m.Database, name) {
					return m.Desc == "SYNCHRONIZED", fmt.Sprintf("%s, %s", m.RoleDesc, m.Desc)
				}
			}
			return false, "not mirrored"
		})
	}
}

// built is the program, built once for all tests of a binary.
var built struct {
	once sync.Once
	path string
	err  error
}

// Build makes the program fakesql and returns its path. It stays when the tests have ended, as no test is known to be
// the last; a later Build removes it.
func Build(t testing.TB) string {
	t.Helper()
	built.once.Do(func() { built.path, built.err = build() })
	if built.err != nil {
		t.Fatal(built.err)
	}
	return built.path
}

const (
	program    = "github.com/witnessd/witnessd/agent/engine/sqlserver/sqlservertest/fakesql"
	programDir = "witnessd-fakesql-"
	// programAge is after how long no test uses a program any more.
	programAge = 2 * time.Hour
)

func build() (string, error) {
	old, err := filepath.Glob(filepath.Join(os.TempDir(), programDir+"*"))
	if err != nil {
		return "", err
	}
	for _, dir := range old {
		if info, err := os.Stat(dir); err == nil && time.Since(info.ModTime()) > programAge {
			if err := os.RemoveAll(dir); err != nil {
				return "", fmt.Errorf("remove an old fakesql: %w", err)
			}
		}
	}
	dir, err := os.MkdirTemp("", programDir)
	if err != nil {
		return "", fmt.Errorf("make a directory for fakesql: %w", err)
	}
	path := filepath.Join(dir, "fakesql")
	if out, err := exec.Command("go", "build", "-o", path, program).CombinedOutput(); err != nil {
		return "", fmt.Errorf("build fakesql: %w\n%s", err, out)
	}
	return path, nil
}

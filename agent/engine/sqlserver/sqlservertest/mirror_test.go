package sqlservertest_test

import (
	"database/sql"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"

	mssql "github.com/microsoft/go-mssqldb"
	"github.com/microsoft/go-mssqldb/msdsn"

	"github.com/witnessd/witnessd/agent/engine/sqlserver/sqlservertest"
)

func TestMirroring(t *testing.T) {
	a, b, w := sqlservertest.Start(t, quick()), sqlservertest.Start(t, quick()), sqlservertest.Start(t, quick())
	sqlservertest.Mirror(t, []string{"rtcab", "rtcxds"}, a, b, w, 10)
	look := "SELECT d.name, mirroring_role_desc, mirroring_state_desc, mirroring_safety_level_desc, mirroring_connection_timeout," +
		" mirroring_witness_state_desc FROM sys.database_mirroring m JOIN sys.databases d ON d.database_id = m.database_id" +
		" WHERE m.mirroring_guid IS NOT NULL ORDER BY d.name"
	want(t, "on the principal", texts(t, a.DB(t, "master"), look),
		"rtcab|PRINCIPAL|SYNCHRONIZED|FULL|10|CONNECTED", "rtcxds|PRINCIPAL|SYNCHRONIZED|FULL|10|CONNECTED")
	want(t, "on the mirror", texts(t, b.DB(t, "master"), look),
		"rtcab|MIRROR|SYNCHRONIZED|FULL|10|CONNECTED", "rtcxds|MIRROR|SYNCHRONIZED|FULL|10|CONNECTED")
	want(t, "on the witness", texts(t, w.DB(t, "master"),
		"SELECT database_name, partner_sync_state_desc FROM sys.database_mirroring_witnesses ORDER BY database_name"),
		"rtcab|SYNCHRONIZED", "rtcxds|SYNCHRONIZED")

	guid := func(i *sqlservertest.Instance) (g mssql.UniqueIdentifier) {
		err := i.DB(t, "master").QueryRowContext(t.Context(),
			"SELECT mirroring_guid FROM sys.database_mirroring WHERE database_id = DB_ID(N'rtcab')").Scan(&g)
		if err != nil {
			t.Fatal(err)
		}
		return g
	}
	if guid(a) != guid(b) || guid(a) == (mssql.UniqueIdentifier{}) {
		t.Errorf("mirroring_guid is %s here and %s there", guid(a), guid(b))
	}
	b.Knobs().HideMirrors(true)
	want(t, "to one who is not sysadmin", texts(t, b.DB(t, "master"), look))
}

// A client whose commit is under way at a crash learns nothing: neither that it failed nor that it did not.
func TestCrashDuringCommit(t *testing.T) {
	a, b := sqlservertest.Start(t, quick()), sqlservertest.Start(t, quick())
	sqlservertest.Mirror(t, []string{"app"}, a, b, nil, 1000)
	db := a.DB(t, "app")
	exec(t, db, "INSERT INTO t VALUES ('before')")
	a.Knobs().Cut(b.Endpoint(), true, true)
	waiting := make(chan error, 1)
	go func() {
		_, err := db.ExecContext(t.Context(), "INSERT INTO t VALUES ('open')")
		waiting <- err
	}()
	sqlservertest.Eventually(t, "the commit waits", func() (bool, string) {
		rows, err := a.Model().Select("app", "t")
		return len(rows) == 2, fmt.Sprint(rows, err)
	})
	a.Crash()
	if err := <-waiting; err == nil || numberOf(err) != 0 {
		t.Errorf("got %v, want the end of the connection", err)
	}
	a.Restart(t)
	sqlservertest.Synchronized(t, a, "app")
}

// A client whose database moves away loses its connection, and is told so when it comes again.
func TestFailoverEndsSessions(t *testing.T) {
	a, b := sqlservertest.Start(t, quick()), sqlservertest.Start(t, quick())
	sqlservertest.Mirror(t, []string{"app", "other"}, a, b, nil, 10)
	db, beside := a.DB(t, "app"), a.DB(t, "other")
	db.SetMaxOpenConns(1)
	exec(t, db, "INSERT INTO t VALUES ('before')")
	exec(t, beside, "INSERT INTO t VALUES ('before')")
	one, err := db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer one.Close()
	kept, err := beside.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer kept.Close()

	a.Exec(t, "ALTER DATABASE app SET PARTNER FAILOVER")
	sqlservertest.Synchronized(t, b, "app")
	if _, err := one.ExecContext(t.Context(), "SELECT 1"); err == nil {
		t.Error("the session of the database that moved goes on")
	}
	if err := kept.PingContext(t.Context()); err != nil {
		t.Errorf("the session of the database that stayed has ended: %v", err)
	}
	for what, err := range map[string]error{
		"login":           a.DB(t, "app").PingContext(t.Context()),
		"use":             errOf(a.DB(t, "master").ExecContext(t.Context(), "USE app")),
		"three-part":      errOf(a.DB(t, "master").ExecContext(t.Context(), "SELECT v FROM app.dbo.t")),
		"write from afar": errOf(a.DB(t, "master").ExecContext(t.Context(), "INSERT INTO app..t VALUES (1)")),
	} {
		if numberOf(err) != 954 {
			t.Errorf("%s to a mirror: got %v, want error 954", what, err)
		}
	}
	want(t, "on b", texts(t, b.DB(t, "app"), "SELECT v FROM t"), "before")
	exec(t, b.DB(t, "app"), "INSERT INTO t VALUES ('after')")
	sqlservertest.Synchronized(t, b, "app", "other")
}

func errOf(_ sql.Result, err error) error { return err }

// The driver's own way to find the partner: the name that it was given, when the first host refuses the login.
func TestFailoverPartner(t *testing.T) {
	a, b := sqlservertest.Start(t, quick()), sqlservertest.Start(t, quick())
	sqlservertest.Mirror(t, []string{"app"}, a, b, nil, 10)
	host, port, err := net.SplitHostPort(b.Address())
	if err != nil {
		t.Fatal(err)
	}
	_, partner, err := net.SplitHostPort(a.Address())
	if err != nil {
		t.Fatal(err)
	}
	params, err := msdsn.Parse("server=" + host + ";port=" + port + ";user id=sa;password=fake;database=app;encrypt=disable;" +
		"failoverpartner=127.0.0.1;failoverport=" + partner)
	if err != nil {
		t.Fatal(err)
	}
	db := sql.OpenDB(mssql.NewConnectorConfig(params))
	defer db.Close()
	want(t, "through the mirror's address", texts(t, db, "SELECT @@SERVERNAME"), a.Name())
}

func TestLogins(t *testing.T) {
	i := sqlservertest.Start(t, quick())
	host, port, err := net.SplitHostPort(i.Address())
	if err != nil {
		t.Fatal(err)
	}
	i.Exec(t, "CREATE DATABASE app")
	for _, c := range []struct {
		what, extra string
		number      int32
	}{
		{"right", "user id=SA;password=fake", 0},
		{"its database", "user id=sa;password=fake;database=APP", 0},
		{"wrong password", "user id=sa;password=fakes", 18456},
		{"unknown user", "user id=sam;password=fake", 18456},
		{"no such database", "user id=sa;password=fake;database=nowhere", 18456},
	} {
		db, err := sql.Open("sqlserver", "server="+host+";port="+port+";encrypt=disable;"+c.extra)
		if err != nil {
			t.Fatal(err)
		}
		err = db.PingContext(t.Context())
		var e mssql.Error
		errors.As(err, &e)
		if e.Number != c.number || (c.number == 0) != (err == nil) {
			t.Errorf("%s: got %v, want error %d", c.what, err, c.number)
		}
		if strings.HasPrefix(c.what, "no such") && (len(e.All) != 2 || e.All[0].Number != 4060) {
			t.Errorf("%s: got %v, want error 4060 before it", c.what, e.All)
		}
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestGroup(t *testing.T) {
	a, b := sqlservertest.Start(t, quick()), sqlservertest.Start(t, quick())
	c := sqlservertest.Start(t, sqlservertest.Options{Ping: quick().Ping, Second: quick().Second, EndpointRole: "WITNESS"})
	sqlservertest.Group(t, "pool", []string{"app", "other"}, a, b, c)
	look := "SELECT ag.name, ag.cluster_type_desc, ars.role_desc FROM sys.availability_groups ag" +
		" JOIN sys.dm_hadr_availability_replica_states ars ON ars.group_id = ag.group_id AND ars.is_local = 1 WHERE ag.name = @p1"
	want(t, "on a", texts(t, a.DB(t, "master"), look, "pool"), "pool|EXTERNAL|PRIMARY")
	want(t, "on b", texts(t, b.DB(t, "master"), look, "pool"), "pool|EXTERNAL|SECONDARY")
	exec(t, a.DB(t, "app"), "INSERT INTO t VALUES ('x')")
	db := a.DB(t, "app")
	want(t, "on a", texts(t, db, "SELECT v FROM t"), "x")
	a.Exec(t, "ALTER AVAILABILITY GROUP pool OFFLINE")
	sqlservertest.Eventually(t, "a is RESOLVING", func() (bool, string) {
		got := texts(t, a.DB(t, "master"), look, "pool")
		return got[0] == "pool|EXTERNAL|RESOLVING", got[0]
	})
	if err := a.DB(t, "app").PingContext(t.Context()); numberOf(err) != 983 {
		t.Errorf("login to a database of a replica that is RESOLVING: got %v, want error 983", err)
	}
	b.Exec(t, "EXEC sp_set_session_context @key = N'external_cluster', @value = N'yes'; ALTER AVAILABILITY GROUP pool FAILOVER")
	sqlservertest.Eventually(t, "b serves", func() (bool, string) {
		err := b.DB(t, "app").PingContext(t.Context())
		return err == nil, "not yet"
	})
	want(t, "on b", texts(t, b.DB(t, "app"), "SELECT v FROM t"), "x")
}

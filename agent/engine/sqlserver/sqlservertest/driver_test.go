package sqlservertest_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	mssql "github.com/microsoft/go-mssqldb"

	"github.com/witnessd/witnessd/agent/engine/sqlserver"
	"github.com/witnessd/witnessd/agent/engine/sqlserver/sqlservertest"
)

// quick are options for instances that notice a silent partner soon.
func quick() sqlservertest.Options {
	return sqlservertest.Options{Ping: 20 * time.Millisecond, Second: 40 * time.Millisecond}
}

func numberOf(err error) int32 {
	e, _ := errors.AsType[mssql.Error](err)
	return e.Number
}

func exec(t *testing.T, db *sql.DB, statement string, args ...any) int64 {
	t.Helper()
	r, err := db.ExecContext(t.Context(), statement, args...)
	if err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
	n, err := r.RowsAffected()
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func texts(t *testing.T, db *sql.DB, query string, args ...any) []string {
	t.Helper()
	rows, err := db.QueryContext(t.Context(), query, args...)
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		t.Fatal(err)
	}
	all := []string{}
	for rows.Next() {
		values := make([]sql.NullString, len(columns))
		into := make([]any, len(columns))
		for i := range values {
			into[i] = &values[i]
		}
		if err := rows.Scan(into...); err != nil {
			t.Fatal(err)
		}
		var line []string
		for _, v := range values {
			if !v.Valid {
				v.String = "NULL"
			}
			line = append(line, v.String)
		}
		all = append(all, strings.Join(line, "|"))
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return all
}

func want(t *testing.T, what string, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: got %q, want %q", what, got, want)
	}
}

func TestTables(t *testing.T) {
	i := sqlservertest.Start(t, quick())
	i.Exec(t, "CREATE DATABASE [app]")
	db := i.DB(t, "app")
	exec(t, db, "CREATE TABLE t (v nvarchar(200))")
	exec(t, db, "create table [dbo].[people] ([id] int NOT NULL PRIMARY KEY, name nvarchar(max) NULL, big bigint, flag bit)")
	if n := exec(t, db, "INSERT INTO t VALUES ('a'), (N'it''s'), (@p1)", "한글"); n != 3 {
		t.Errorf("%d rows affected, want 3", n)
	}
	want(t, "t", texts(t, db, "SELECT v FROM t"), "a", "it's", "한글")
	want(t, "count", texts(t, db, "SELECT COUNT(*) FROM app..T WHERE v <> 'a'"), "2")
	exec(t, db, "INSERT INTO people (name, id, flag) VALUES ('x', 1, 1), (NULL, 2, 0)")
	long := strings.Repeat("y", 9000)
	exec(t, db, "INSERT people VALUES (@p1, @p2, @p3, @p4)", 3, long, int64(1)<<40, nil)
	want(t, "people", texts(t, db, "SELECT id, name, big, flag FROM people WHERE id < 3 ORDER BY id DESC"),
		"2|NULL|NULL|false", "1|x|NULL|true")
	want(t, "long", texts(t, db, "SELECT name, big FROM dbo.people WHERE id = @p1", 3), long+"|1099511627776")
	if n := exec(t, db, "UPDATE people SET name = name + '!', big = id + 1 WHERE name LIKE 'X%' OR id IN (2, 7)"); n != 2 {
		t.Errorf("%d rows updated, want 2", n)
	}
	want(t, "updated", texts(t, db, "SELECT id, name, big FROM people WHERE NOT id = 3"), "1|x!|2", "2|NULL|3")
	if n := exec(t, db, "DELETE FROM people WHERE name IS NULL"); n != 1 {
		t.Errorf("%d rows deleted, want 1", n)
	}
	want(t, "top", texts(t, db, "SELECT TOP (1) id AS [the id], p.* FROM people p ORDER BY p.id"), "1|1|x!|2|true")
	want(t, "max", texts(t, db, "SELECT MAX(id), MIN(id), SUM(id) FROM people"), "3|1|4")
}

func TestErrors(t *testing.T) {
	i := sqlservertest.Start(t, quick())
	i.Exec(t, "CREATE DATABASE app", "CREATE TABLE app.dbo.t (v int)")
	db := i.DB(t, "master")
	for _, c := range []struct {
		statement string
		number    int32
		says      string
	}{
		{"SELEKT 1", 102, "SELEKT 1"},
		{"SELECT name FROM sys.databases d WHERE d.naam = 'x'", 207, "naam"},
		{"SELECT naam FROM sys.databases", 207, "naam"},
		{"SELECT d.name FROM sys.databases d JOIN sys.database_mirroring m ON m.id = d.database_id", 207, "id"},
		{"SELECT name FROM sys.database", 208, "sys.database"},
		{"SELECT v FROM app.dbo.nothing", 208, "app.dbo.nothing"},
		{"SELECT v FROM nowhere..t", 911, "nowhere"},
		{"USE nowhere", 911, "nowhere"},
		{"INSERT INTO app..t VALUES ('x')", 245, "x"},
		{"INSERT INTO app..t VALUES (1, 2)", 213, ""},
		{"INSERT INTO app..t (w) VALUES (1)", 207, "w"},
		{"CREATE TABLE app.dbo.T (v int)", 2714, "t"},
		{"CREATE DATABASE APP", 1801, ""},
		{"EXEC sp_nothing", 2812, "sp_nothing"},
		{"SELECT @x", 137, "@x"},
		{"SELECT 'x", 105, "x"},
		{"SELECT 1 /* ", 113, ""},
		{"SELECT NOTHING(1)", 195, "NOTHING"},
		{"ALTER DATABASE app SET PARTNER FAILOVER", 1416, "app"},
		{"ALTER DATABASE app SET PARTNER FAILOVR", 102, "FAILOVR"},
		{"COMMIT", 3902, ""},
		{"SELECT " + strings.Repeat("(", 10000), 191, ""},
	} {
		_, err := db.ExecContext(t.Context(), c.statement)
		if numberOf(err) != c.number || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%.60s: got error %d %v, want %d with %q", c.statement, numberOf(err), err, c.number, c.says)
		}
	}
	want(t, "after the errors", texts(t, db, "SELECT 1"), "1")
}

// Every statement of the engines is understood: what it says is right or wrong in the state that the instance is in,
// and not a syntax error, an unknown name, or an answer without sense.
func TestEveryStatementOfTheEngines(t *testing.T) {
	a, b := sqlservertest.Start(t, quick()), sqlservertest.Start(t, quick())
	sqlservertest.Mirror(t, []string{"rtcxds"}, a, b, nil, 10)
	a.Exec(t, "CREATE TABLE rtcxds.witness_agent.probe (id tinyint NOT NULL PRIMARY KEY, beat bigint NOT NULL)",
		"INSERT INTO rtcxds.[witness_agent].[probe] (id, beat) VALUES (1, 0)")
	for _, s := range sqlserver.Statements() {
		var args []any
		if strings.Contains(s.Text(), "@p1") {
			args = append(args, "lync")
		}
		_, err := a.DB(t, "master").ExecContext(t.Context(), s.Text(), args...)
		switch number := numberOf(err); number {
		case 102, 105, 137, 195, 207, 208, 2812, 50000:
			t.Errorf("%s\nis not understood: %v", s.Text(), err)
		default:
			t.Logf("%.80s: %v", s.Text(), err)
		}
	}
	// The roles have been exchanged, and the probe's table, with its columns and its row, has gone along.
	sqlservertest.Eventually(t, "b serves", func() (bool, string) {
		e := b.Model().Access("rtcxds", true)
		return e == nil, fmt.Sprint(e)
	})
	b.Exec(t, sqlserver.WriteProbe("rtcxds").Text())
	want(t, "the probe on b", texts(t, b.DB(t, "rtcxds"), "SELECT beat FROM witness_agent.probe"), "1")
}

// A transaction is committed as a whole, and forgotten when it is rolled back or its session ends.
func TestTransactions(t *testing.T) {
	i := sqlservertest.Start(t, quick())
	i.Exec(t, "CREATE DATABASE app", "CREATE TABLE app.dbo.t (v int)")
	db := i.DB(t, "app")
	for _, c := range []struct {
		what string
		end  func(*sql.Tx) error
		want []string
	}{
		{"rolled back", (*sql.Tx).Rollback, nil},
		{"committed", (*sql.Tx).Commit, []string{"1", "2"}},
	} {
		tx, err := db.BeginTx(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range []int{1, 2} {
			if _, err := tx.ExecContext(t.Context(), "INSERT INTO t VALUES (@p1)", v); err != nil {
				t.Fatal(err)
			}
		}
		var own, others int
		if err := tx.QueryRowContext(t.Context(), "SELECT COUNT(*) FROM t").Scan(&own); err != nil || own != 2 {
			t.Errorf("%s: the transaction sees %d rows, %v; want 2", c.what, own, err)
		}
		if err := i.DB(t, "app").QueryRowContext(t.Context(), "SELECT COUNT(*) FROM t").Scan(&others); err != nil || others != 0 {
			t.Errorf("%s: others see %d rows, %v; want 0", c.what, others, err)
		}
		if err := c.end(tx); err != nil {
			t.Fatal(err)
		}
		want(t, c.what, texts(t, db, "SELECT v FROM t"), c.want...)
	}
	i.Exec(t, "USE app; BEGIN TRANSACTION; INSERT INTO t VALUES (3)")
	i.Exec(t, "USE app; BEGIN TRAN; INSERT INTO t VALUES (4); COMMIT TRAN")
	want(t, "in T-SQL", texts(t, db, "SELECT v FROM t"), "1", "2", "4")
}

// A statement that waits is given up when its client asks for that, and the connection goes on.
func TestAttention(t *testing.T) {
	i := sqlservertest.Start(t, quick())
	db := i.DB(t, "master")
	db.SetMaxOpenConns(1)
	one, err := db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer one.Close()
	// The driver throws the connection away after a deadline, but not when its caller has had enough.
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	if _, err := one.ExecContext(ctx, "WAITFOR DELAY '00:01:00'"); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
	if err := one.PingContext(t.Context()); err != nil {
		t.Errorf("the connection is gone: %v", err)
	}
}

// After a crash clients see the connection end; what was acknowledged is there after the next start.
func TestCrash(t *testing.T) {
	i := sqlservertest.Start(t, quick())
	i.Exec(t, "CREATE DATABASE app", "CREATE TABLE app.dbo.t (v int, w nvarchar(9))", "INSERT INTO app..t VALUES (1, NULL)")
	db := i.DB(t, "app")
	address, begun := i.Address(), texts(t, db, "SELECT sqlserver_start_time FROM sys.dm_os_sys_info")
	waiting := make(chan error, 1)
	go func() {
		_, err := db.ExecContext(t.Context(), "WAITFOR DELAY '00:01:00'")
		waiting <- err
	}()
	sqlservertest.Eventually(t, "two sessions", func() (bool, string) {
		return len(texts(t, db, "SELECT session_id FROM sys.dm_exec_sessions")) == 2, ""
	})
	i.Crash()
	if err := <-waiting; err == nil {
		t.Error("a statement that was under way succeeded")
	}
	if err := db.PingContext(t.Context()); err == nil {
		t.Error("a crashed instance answers")
	}
	i.Restart(t)
	if i.Address() != address {
		t.Errorf("address %s after the restart, %s before", i.Address(), address)
	}
	want(t, "after the restart", texts(t, db, "SELECT v, w FROM t"), "1|NULL")
	if again := texts(t, db, "SELECT sqlserver_start_time FROM sys.dm_os_sys_info"); slices.Equal(again, begun) {
		t.Errorf("started at %s both times", again)
	}
}

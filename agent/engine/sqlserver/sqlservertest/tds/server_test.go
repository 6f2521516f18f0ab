package tds

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"database/sql"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	mssql "github.com/microsoft/go-mssqldb"
)

// script is a session that answers by what it is asked.
type script struct {
	run    func(ctx context.Context, q Request) Response
	closed *atomic.Int64
}

func (s script) Run(ctx context.Context, q Request) Response { return s.run(ctx, q) }
func (s script) Close()                                      { s.closed.Add(1) }

type served struct {
	*Server
	address string
	closed  atomic.Int64
	logins  atomic.Pointer[Login]
}

func serve(t *testing.T, s *Server, g Greeting, run func(ctx context.Context, q Request) Response) *served {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	up := &served{Server: s, address: l.Addr().String()}
	s.Login = func(_ context.Context, l Login, _ func()) (Session, Greeting, []Error) {
		up.logins.Store(&l)
		if l.Password != "p@ss" {
			return nil, g, []Error{{Number: 18456, Class: 14, State: 1, Message: "Login failed for user '" + l.User + "'."}}
		}
		return script{run, &up.closed}, g, nil
	}
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(t.Context(), l) }()
	t.Cleanup(func() {
		_ = l.Close()
		s.Close()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return up
}

func (s *served) db(t *testing.T, extra string) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlserver", "sqlserver://sa:p%40ss@"+s.address+"?dial+timeout=2&app+name=me&database=app&"+extra)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

const plain = "encrypt=disable"

func one(columns []Column, rows ...[]any) Response {
	return Response{Results: []Result{{Columns: columns, Rows: rows}}}
}

func TestValues(t *testing.T) {
	long := strings.Repeat("한", 5000)
	at := time.Date(2026, 11, 24, 3, 4, 5, 10_000_000, time.UTC)
	columns := []Column{
		{"i", Int}, {"b", BigInt}, {"s", SmallInt}, {"t", TinyInt}, {"f", Bit}, {"x", Text}, {"l", Text}, {"n", Numeric},
		{"g", GUID}, {"d", DateTime}, {"e", Float},
	}
	up := serve(t, &Server{}, Greeting{Database: "app"}, func(context.Context, Request) Response {
		return one(columns,
			[]any{int64(-7), int64(-1) << 62, int64(-300), int64(200), true, "", long, "9999999999999999999999999",
				"00112233-4455-6677-8899-AABBCCDDEEFF", at, -0.5},
			make([]any, len(columns)))
	})
	rows, err := up.db(t, plain).QueryContext(t.Context(), "SELECT everything")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for line := range 2 {
		if !rows.Next() {
			t.Fatal(rows.Err())
		}
		var i, b, s, n sql.NullInt64
		var f sql.NullBool
		var x, l, d sql.NullString
		var g mssql.NullUniqueIdentifier
		var when sql.NullTime
		var e sql.NullFloat64
		if err := rows.Scan(&i, &b, &s, &n, &f, &x, &l, &d, &g, &when, &e); err != nil {
			t.Fatal(err)
		}
		got := fmt.Sprint(i, b, s, n, f, x, l.String == long, d, g.UUID.String(), g.Valid, when.Time.UTC(), when.Valid, e)
		want := fmt.Sprint("{-7 true}{-4611686018427387904 true}{-300 true}{200 true}{true true}{ true}true" +
			"{9999999999999999999999999 true}00112233-4455-6677-8899-AABBCCDDEEFFtrue2026-11-24 03:04:05.01 +0000 UTCtrue{-0.5 true}")
		if line == 1 {
			want = "{0 false}{0 false}{0 false}{0 false}{false false}{ false}false{ false}" +
				"00000000-0000-0000-0000-000000000000false0001-01-01 00:00:00 +0000 UTCfalse{0 false}"
		}
		if strings.ReplaceAll(got, " ", "") != strings.ReplaceAll(want, " ", "") {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}

func TestParameters(t *testing.T) {
	long := strings.Repeat("y", 9000)
	var got Request
	up := serve(t, &Server{}, Greeting{Database: "app"}, func(_ context.Context, q Request) Response {
		got = q
		return Response{Results: []Result{{Affected: 42}}}
	})
	r, err := up.db(t, plain).ExecContext(t.Context(), "UPDATE t SET x = @p1", "한글", 7, nil, true, 0.5, long, []byte("ab"),
		sql.Named("name", int64(-1)<<40))
	if err != nil {
		t.Fatal(err)
	}
	if n, err := r.RowsAffected(); n != 42 || err != nil {
		t.Errorf("%d rows affected, %v; want 42", n, err)
	}
	want := []Param{{"@p1", "한글"}, {"@p2", int64(7)}, {"@p3", nil}, {"@p4", true}, {"@p5", 0.5}, {"@p6", long},
		{"@p7", []byte("ab")}, {"@name", int64(-1) << 40}}
	if fmt.Sprint(got.Params) != fmt.Sprint(want) || got.SQL != "UPDATE t SET x = @p1" || !got.Call {
		t.Errorf("got %.300v", got)
	}
}

func TestErrorsAndInfos(t *testing.T) {
	up := serve(t, &Server{Name: "ME"}, Greeting{Database: "app"}, func(_ context.Context, q Request) Response {
		if strings.Contains(q.SQL, "bad value") {
			return one([]Column{{"i", Int}}, []any{"no number"})
		}
		return Response{
			Results: []Result{{Affected: 1}}, Infos: []Error{{Number: 5701, Class: 10, Message: "info"}},
			Errors: []Error{{Number: 4060, Class: 11, State: 1, Message: "first"}, {Number: 954, Class: 14, State: 3, Message: "last"}},
		}
	})
	db := up.db(t, plain)
	for _, args := range [][]any{nil, {1}} {
		_, err := db.ExecContext(t.Context(), "anything at all", args...)
		var e mssql.Error
		if !errors.As(err, &e) || e.Number != 954 || e.Class != 14 || e.State != 3 || e.ServerName != "ME" || len(e.All) != 2 {
			t.Errorf("with %d arguments: got %+v", len(args), err)
		}
	}
	_, err := db.ExecContext(t.Context(), "bad value in a column")
	var e mssql.Error
	if !errors.As(err, &e) || e.Number != 50000 {
		t.Errorf("a value that does not fit: got %v", err)
	}
}

func TestSeveralResults(t *testing.T) {
	up := serve(t, &Server{}, Greeting{Database: "app"}, func(context.Context, Request) Response {
		return Response{Results: []Result{
			{Columns: []Column{{"a", Int}}, Rows: [][]any{{int64(1)}}}, {Columns: []Column{{"b", Int}}, Rows: [][]any{{int64(2)}, {int64(3)}}},
		}}
	})
	for _, args := range [][]any{nil, {1}} {
		rows, err := up.db(t, plain).QueryContext(t.Context(), "SELECT two", args...)
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for more := true; more; more = rows.NextResultSet() {
			for rows.Next() {
				n++
			}
		}
		if err := errors.Join(rows.Err(), rows.Close()); n != 3 || err != nil {
			t.Errorf("with %d arguments: %d rows, %v; want 3", len(args), n, err)
		}
	}
}

func TestTransactionVerbs(t *testing.T) {
	var verbs []Verb
	up := serve(t, &Server{}, Greeting{Database: "app"}, func(_ context.Context, q Request) Response {
		verbs = append(verbs, q.Verb)
		return Response{}
	})
	db := up.db(t, plain)
	db.SetMaxOpenConns(1)
	for _, end := range []func(*sql.Tx) error{(*sql.Tx).Commit, (*sql.Tx).Rollback} {
		tx, err := db.BeginTx(t.Context(), nil)
		if err == nil {
			_, err = tx.ExecContext(t.Context(), "UPDATE x")
		}
		if err == nil {
			err = end(tx)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if want := []Verb{Begin, Run, Commit, Begin, Run, Rollback}; fmt.Sprint(verbs) != fmt.Sprint(want) {
		t.Errorf("got %v, want %v", verbs, want)
	}
}

// A session is closed once, however its connection ends.
func TestDropAndKill(t *testing.T) {
	var kill atomic.Value
	running := make(chan struct{}, 1)
	up := serve(t, &Server{}, Greeting{Database: "app"}, func(ctx context.Context, q Request) Response {
		if strings.Contains(q.SQL, "wait") {
			running <- struct{}{}
			<-ctx.Done()
		}
		return Response{Drop: strings.Contains(q.SQL, "drop")}
	})
	login := up.Login
	up.Login = func(ctx context.Context, l Login, k func()) (Session, Greeting, []Error) {
		kill.Store(k)
		return login(ctx, l, k)
	}
	db := up.db(t, plain)
	if _, err := db.ExecContext(t.Context(), "drop it"); err == nil {
		t.Error("a dropped connection gave no error")
	}
	go func() {
		<-running
		kill.Load().(func())()
	}()
	if _, err := db.ExecContext(t.Context(), "wait for ever"); err == nil {
		t.Error("a killed session gave no error")
	}
	up.Close()
	if n := up.closed.Load(); n != 2 || up.Sessions() != 0 {
		t.Errorf("%d sessions closed, %d open; want 2 and 0", n, up.Sessions())
	}
}

func TestLoginTells(t *testing.T) {
	up := serve(t, &Server{}, Greeting{Database: "app", Partner: "SQL02"}, func(context.Context, Request) Response { return Response{} })
	if err := up.db(t, plain+"&applicationintent=ReadOnly&packet+size=8192").PingContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	l := up.logins.Load()
	if l.User != "sa" || l.Application != "me" || l.Database != "app" || !l.ReadOnly || l.packet != 8192 || l.Version != 0x74000004 {
		t.Errorf("got %+v", l)
	}
	other := serve(t, &Server{}, Greeting{Database: "app"}, func(context.Context, Request) Response {
		return one([]Column{{"where", Text}}, []any{"there"})
	})
	_, port, err := net.SplitHostPort(other.address)
	if err != nil {
		t.Fatal(err)
	}
	g := Greeting{Database: "app", RouteTo: "127.0.0.1"}
	if _, err := fmt.Sscan(port, &g.Port); err != nil {
		t.Fatal(err)
	}
	var where string
	router := serve(t, &Server{}, g, func(context.Context, Request) Response { return Response{Drop: true} })
	err = router.db(t, plain+"&applicationintent=ReadOnly").QueryRowContext(t.Context(), "SELECT where is it").Scan(&where)
	if err != nil || where != "there" {
		t.Errorf("routed to %q, %v", where, err)
	}
}

func certificate(t *testing.T) (tls.Certificate, string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, file
}

// All kinds of encryption, and none, use the same port.
func TestEncryption(t *testing.T) {
	pair, file := certificate(t)
	up := serve(t, &Server{TLS: &tls.Config{Certificates: []tls.Certificate{pair}}}, Greeting{Database: "app"},
		func(context.Context, Request) Response {
			return one([]Column{{"x", Text}}, []any{strings.Repeat("x", 60000)})
		})
	for _, c := range []struct {
		extra string
		fails string
	}{
		{"encrypt=strict&certificate=" + file, ""},
		{plain, ""},
		{"encrypt=false&certificate=" + file, ""},
		{"encrypt=true&certificate=" + file, ""},
		{"encrypt=true", "certificate"},
	} {
		var x string
		err := up.db(t, c.extra).QueryRowContext(t.Context(), "SELECT much text").Scan(&x)
		if c.fails == "" && (err != nil || len(x) != 60000) || c.fails != "" && (err == nil || !strings.Contains(err.Error(), c.fails)) {
			t.Errorf("%s: %d bytes, %v", c.extra, len(x), err)
		}
	}
	without := serve(t, &Server{}, Greeting{Database: "app"}, func(context.Context, Request) Response { return Response{} })
	for _, encrypt := range []string{"strict", "true"} {
		if err := without.db(t, "encrypt="+encrypt+"&certificate="+file).PingContext(t.Context()); err == nil {
			t.Errorf("a server without a certificate took a connection with encrypt=%s", encrypt)
		}
	}
}

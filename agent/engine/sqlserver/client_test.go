package sqlserver

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// mute is a server that takes connections and says nothing, as one that hangs does.
func mute(t *testing.T) string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { _ = conn.Close() })
		}
	}()
	return listener.Addr().String()
}

// The driver keeps to no deadline while it logs in; the client must.
func TestServerThatHangsAtLogin(t *testing.T) {
	cfg := good()
	cfg.Encrypt = encryptDisable
	t.Setenv("WITNESS_SQL_PASSWORD", "secret")
	c := NewClient(cfg, mute(t))
	defer c.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	took := stopwatch()
	_, err := c.Server(ctx)
	if !errors.Is(err, context.DeadlineExceeded) || ClassOf(err) != ClassUnreachable {
		t.Errorf("%v, want a deadline", err)
	}
	if d := took(); d > time.Second {
		t.Errorf("it took %v, of 100 ms", d)
	}
}

func TestNoServer(t *testing.T) {
	cfg := good()
	t.Setenv("WITNESS_SQL_PASSWORD", "secret")
	c := NewClient(cfg, "127.0.0.1:1")
	defer c.Close()
	_, err := c.Server(t.Context())
	if ClassOf(err) != ClassUnreachable || !strings.Contains(err.Error(), "127.0.0.1:1") {
		t.Errorf("%v", err)
	}
}

func TestPassword(t *testing.T) {
	file := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(file, []byte("p w\r\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("WITNESS_SQL_PASSWORD", " e ")
	for _, c := range []struct {
		cfg  Config
		want string
	}{
		{Config{PasswordFile: file}, "p w"},
		{Config{PasswordEnv: "WITNESS_SQL_PASSWORD"}, " e "},
		{Config{}, ""},
	} {
		if got, err := c.cfg.password(); err != nil || got != c.want {
			t.Errorf("%q, %v; want %q", got, err, c.want)
		}
	}
	for _, cfg := range []Config{{PasswordFile: file + "x"}, {PasswordEnv: "WITNESS_NOT_SET"}} {
		if got, err := cfg.password(); err == nil {
			t.Errorf("%q without an error", got)
		}
	}
}

func TestCertificateFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "ca.crt")
	if err := os.WriteFile(file, []byte("no certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{file: "no certificate in PEM form", file + "x": "read certificate"} {
		if _, err := (Config{Certificate: path}).tls("h"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	tls, err := Config{}.tls("sql1")
	if err != nil || tls.InsecureSkipVerify || tls.ServerName != "sql1" {
		t.Errorf("%+v, %v", tls, err)
	}
}

func TestStateFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.sqlserver")
	type state struct{ A map[string]int }
	var got state
	if found, err := LoadState(path, &got); found || err != nil {
		t.Errorf("no file: %v, %v", found, err)
	}
	for i := range 2 {
		if err := SaveState(path, state{map[string]int{"x": i}}); err != nil {
			t.Fatal(err)
		}
		if found, err := LoadState(path, &got); !found || err != nil || got.A["x"] != i {
			t.Errorf("%+v, %v, %v", got, found, err)
		}
	}
	if err := os.WriteFile(path, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadState(path, &got); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("a torn file: %v", err)
	}
	for range 2 {
		if err := ForgetState(path); err != nil {
			t.Error(err)
		}
	}
}

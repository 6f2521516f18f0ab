// Package postgrestest makes PostgreSQL instances for tests, demos and whole-system runs: it finds the
// programs, chooses free ports and prepares a data directory from which a pair can be made over loopback.
// It does not run servers: package postgres does.
//
// What it makes is for one machine and one person: connections over loopback are trusted. It imports nothing
// of package postgres, whose own tests use it.
package postgrestest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
)

// Binaries names the directory of the newest PostgreSQL on this host.
func Binaries() (string, error) {
	best, newest := "", 0
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/postgres")
	if err != nil {
		return "", fmt.Errorf("look for PostgreSQL: %w", err)
	}
	for _, path := range found {
		dir := filepath.Dir(path)
		if n, err := strconv.Atoi(filepath.Base(filepath.Dir(dir))); err == nil && n > newest {
			best, newest = dir, n
		}
	}
	if best != "" {
		return best, nil
	}
	path, err := exec.LookPath("postgres")
	if err != nil {
		return "", fmt.Errorf("look for PostgreSQL: %w", err)
	}
	return filepath.Dir(path), nil
}

// Names that package postgres has as defaults too.
const (
	superuser       = "postgres"
	replicationUser = "witness_replication"
)

// OSUser is a user who may run PostgreSQL: the current one, or "postgres" for root.
func OSUser() string {
	if os.Geteuid() == 0 {
		return "postgres"
	}
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return "postgres"
}

// Options say what InitPrimary makes.
type Options struct {
	BinDir          string            // "" is Binaries()
	DataDir         string            // made; must be empty or not exist
	OSUser          string            // "" is OSUser()
	Superuser       string            // "" is "postgres"
	ReplicationUser string            // "" is "witness_replication"
	Settings        map[string]string // added to postgresql.conf
	InitArgs        []string          // more options of initdb
}

func (o *Options) fill() error {
	if o.BinDir == "" {
		dir, err := Binaries()
		if err != nil {
			return err
		}
		o.BinDir = dir
	}
	if o.OSUser == "" {
		o.OSUser = OSUser()
	}
	if o.Superuser == "" {
		o.Superuser = superuser
	}
	if o.ReplicationUser == "" {
		o.ReplicationUser = replicationUser
	}
	return nil
}

// InitPrimary makes a data directory that an engine can promote (Standby, then Promote) and that its partner
// can clone: with a role for replication, which may also do what pg_rewind needs, and with loopback trusted.
// No server runs when it returns.
func InitPrimary(ctx context.Context, o Options) error {
	if err := o.fill(); err != nil {
		return err
	}
	if err := OwnDir(o.DataDir, o.OSUser); err != nil {
		return err
	}
	local := "trust"
	if o.OSUser == o.Superuser {
		local = "peer"
	}
	args := append([]string{"--pgdata=" + o.DataDir, "--username=" + o.Superuser, "--encoding=UTF8",
		"--locale=C.UTF-8", "--auth-local=" + local, "--auth-host=trust", "--no-sync"}, o.InitArgs...)
	if err := o.run(ctx, "", "initdb", args...); err != nil {
		return err
	}
	var settings strings.Builder
	for name, value := range o.Settings {
		fmt.Fprintf(&settings, "%s = '%s'\n", name, value)
	}
	if err := appendFile(filepath.Join(o.DataDir, "postgresql.conf"), settings.String()); err != nil {
		return err
	}
	return o.run(ctx, roleSQL(o.ReplicationUser), "postgres", "--single", "-D", o.DataDir, "postgres")
}

// roleSQL makes the replication role, one statement per line as a single-user server reads them. The grants
// are those that pg_rewind's manual names, and the right to checkpoint, which the engine needs before it.
func roleSQL(role string) string {
	quoted := `"` + strings.ReplaceAll(role, `"`, `""`) + `"`
	statements := []string{
		"create role " + quoted + " login replication",
		"grant pg_checkpoint to " + quoted,
	}
	for _, function := range []string{
		"pg_ls_dir(text, boolean, boolean)", "pg_stat_file(text, boolean)",
		"pg_read_binary_file(text)", "pg_read_binary_file(text, bigint, bigint, boolean)",
	} {
		statements = append(statements, "grant execute on function pg_catalog."+function+" to "+quoted)
	}
	return strings.Join(statements, ";\n") + ";\n"
}

// run runs one of PostgreSQL's programs as the instance's owner.
func (o *Options) run(ctx context.Context, input, program string, args ...string) error {
	cmd := exec.CommandContext(ctx, filepath.Join(o.BinDir, program), args...)
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=/usr/bin:/bin", "LC_ALL=C.UTF-8"}
	cmd.Stdin = strings.NewReader(input)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	attr, err := as(o.OSUser)
	if err != nil {
		return err
	}
	cmd.SysProcAttr = attr
	err = cmd.Run()
	// A single-user server reports a failed statement and goes on.
	if err == nil && strings.Contains(out.String(), "ERROR:") {
		err = errors.New("a statement failed")
	}
	if err != nil {
		return fmt.Errorf("%s: %w: %s", program, err, out.String())
	}
	return nil
}

// OwnDir makes a directory for a user's instance, which nobody else may enter.
func OwnDir(dir, owner string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make a directory for %s: %w", owner, err)
	}
	if os.Geteuid() != 0 {
		return nil
	}
	uid, gid, err := ids(owner)
	if err != nil {
		return err
	}
	if err := os.Chown(dir, uid, gid); err != nil {
		return fmt.Errorf("make a directory for %s: %w", owner, err)
	}
	return nil
}

func ids(name string) (uid, gid int, err error) {
	u, err := user.Lookup(name)
	if err != nil {
		return 0, 0, fmt.Errorf("who is %s: %w", name, err)
	}
	uid, errUID := strconv.Atoi(u.Uid)
	gid, errGID := strconv.Atoi(u.Gid)
	return uid, gid, errors.Join(errUID, errGID)
}

// FreeAddress is a loopback address with a port that nobody listens on now.
func FreeAddress() (string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("find a free port: %w", err)
	}
	address := listener.Addr().String()
	return address, listener.Close()
}

func appendFile(name, text string) error {
	f, err := os.OpenFile(name, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("add settings: %w", err)
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}

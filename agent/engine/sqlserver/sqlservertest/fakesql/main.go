// Command fakesql is a fake SQL Server instance as a process, for tests: see package sqlservertest. It is a model made
// from documents, not SQL Server.
//
// It prints one line, "ready", with its addresses, when it takes logins. SIGTERM and SIGINT end it as SHUTDOWN does;
// kill -9 is its crash. --control takes knobs over HTTP: see control.go.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/witnessd/witnessd/agent/engine/sqlserver/sqlservertest"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := serve(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "fakesql:", err)
		os.Exit(1)
	}
}

type settings struct {
	sqlservertest.Options
	control, setup string
}

func read(args []string) (settings, error) {
	var s settings
	flags := flag.NewFlagSet("fakesql", flag.ContinueOnError)
	flags.StringVar(&s.Dir, "dir", "", "directory of everything that survives a crash")
	flags.StringVar(&s.Name, "name", "FAKESQL", "@@SERVERNAME")
	flags.StringVar(&s.Listen, "listen", "127.0.0.1:1433", "where clients connect, host:port")
	flags.StringVar(&s.Endpoint, "endpoint", sqlservertest.NoEndpoint, "mirroring endpoint, host:port, or none")
	flags.StringVar(&s.EndpointRole, "endpoint-role", "ALL", "PARTNER, WITNESS or ALL")
	flags.DurationVar(&s.Ping, "ping", time.Second, "how often partners are pinged")
	flags.DurationVar(&s.Second, "second", time.Second, "how long a second of PARTNER TIMEOUT takes")
	flags.DurationVar(&s.Quiet, "quiet", 0, "how long after its start the instance looks for no partner")
	flags.StringVar(&s.Login, "login", sqlservertest.DefaultLogin, "user:password")
	flags.StringVar(&s.control, "control", "", "where knobs are turned over HTTP: host:port, or the path of a socket")
	flags.StringVar(&s.setup, "setup", "", "T-SQL that is run at the first start, batches separated by GO")
	if err := flags.Parse(args); err != nil {
		return s, err
	}
	if s.Dir == "" {
		return s, errors.New("--dir is missing: name a directory of the instance's own")
	}
	return s, nil
}

func serve(ctx context.Context, args []string, out io.Writer) error {
	s, err := read(args)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(s.Dir, 0o700); err != nil {
		return fmt.Errorf("make the instance's directory: %w", err)
	}
	instance, err := sqlservertest.Open(ctx, s.Options)
	if err != nil {
		return err
	}
	defer instance.Close()
	if err := s.setUp(ctx, instance); err != nil {
		return err
	}
	// The process's number, for those who start it without waiting for it.
	number := []byte(strconv.Itoa(os.Getpid()) + "\n")
	if err := os.WriteFile(filepath.Join(s.Dir, "fakesql.pid"), number, 0o600); err != nil {
		return fmt.Errorf("write the process's number: %w", err)
	}
	closeControl, err := s.serveControl(instance)
	if err != nil {
		return err
	}
	defer closeControl()
	//nolint:errcheck // who does not read this line finds out by asking the port
	fmt.Fprintf(out, "ready clients=%s endpoint=%s\n", instance.Address(), instance.Endpoint())
	select {
	case <-ctx.Done():
		return instance.Close()
	case <-instance.Ended():
		return nil
	}
}

// setUp runs the setup script, once in the life of the directory.
func (s settings) setUp(ctx context.Context, instance *sqlservertest.Instance) error {
	done := filepath.Join(s.Dir, "setup.done")
	if _, err := os.Stat(done); s.setup == "" || err == nil {
		return nil
	}
	text, err := os.ReadFile(s.setup)
	if err != nil {
		return fmt.Errorf("read --setup: %w", err)
	}
	if err := instance.Script(ctx, string(text)); err != nil {
		return fmt.Errorf("run %s: %w", s.setup, err)
	}
	return os.WriteFile(done, nil, 0o600)
}

// network is what an address of --control is listened on with.
func network(address string) string {
	if strings.Contains(address, "/") {
		return "unix"
	}
	return "tcp"
}

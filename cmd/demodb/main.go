// Demodb runs the demonstration database: a small key-value store with a mirror, for trying out a
// failover on a machine that has no database installed.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/witnessd/witnessd/agent/engine/demo/kv"
)

const about = `demodb is the demonstration database of witnessd: a small key-value store that writes
every commit to disk and can hold it until a mirror has it on disk as well. It is there to show and
to test a failover where nothing else is installed. Do not keep data in it that you need.

It starts always as a mirror that refuses writes. Only a command on its admin socket makes it the
primary; witness-agent gives that command when the host has the right to serve.

Talk to it with netcat:  printf 'SET colour blue\nGET colour\nROLE\n' | nc 127.0.0.1 7480`

func main() {
	if err := command().Execute(); err != nil {
		fmt.Fprintln(os.Stderr, "demodb:", err)
		os.Exit(1)
	}
}

func command() *cobra.Command {
	var dir, listen, admin string
	var level slog.Level
	run := &cobra.Command{
		Use: "demodb --dir DIRECTORY", Short: "a demonstration database with a mirror", Long: about,
		Args: cobra.NoArgs, SilenceUsage: true, SilenceErrors: true,
		RunE: func(*cobra.Command, []string) error {
			return serve(dir, listen, admin, level)
		},
	}
	run.CompletionOptions.DisableDefaultCmd = true
	run.PersistentFlags().StringVar(&dir, "dir", "", "data directory (needed)")
	run.Flags().StringVar(&listen, "listen", "127.0.0.1:7480", "where clients and the mirror connect")
	run.Flags().StringVar(&admin, "admin-socket", "", "admin socket (default: "+kv.AdminFile+
		" in the data directory)")
	run.Flags().TextVar(&level, "log-level", slog.LevelInfo, "debug, info, warn or error")
	run.AddCommand(&cobra.Command{
		Use: "init --dir DIRECTORY", Short: "create a new database in an empty directory",
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if dir == "" {
				return errNoDir
			}
			id, err := kv.Init(dir)
			if err == nil {
				_, err = fmt.Fprintln(c.OutOrStdout(), "new database", id, "in", dir)
			}
			return err
		},
	})
	return run
}

var errNoDir = errors.New("say which directory: --dir DIRECTORY")

func serve(dir, listen, admin string, level slog.Level) error {
	if dir == "" {
		return errNoDir
	}
	if stat, err := os.Stat(dir); err != nil || !stat.IsDir() {
		return fmt.Errorf("%s is not a directory; demodb init --dir %s makes a database", dir, dir)
	}
	if admin == "" {
		admin = filepath.Join(dir, kv.AdminFile)
	}
	listener, err := net.Listen("tcp", listen)
	if err != nil {
		return fmt.Errorf("listen for clients: %w", err)
	}
	logger := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
	server, err := kv.Start(kv.Options{
		Dir: dir, Listener: listener, Listen: listen, AdminSocket: admin, Logger: logger,
	})
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	select {
	case <-ctx.Done():
		return server.Close()
	case <-server.Done():
		return server.Wait()
	}
}

package main

import (
	"context"
	"io"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"time"
)

// surroundings are all that a run gets from the machine it runs on.
type surroundings struct {
	in       io.Reader
	out, err io.Writer
	// What is a terminal: only there is anything asked, painted or repainted.
	inTerminal, outTerminal, errTerminal bool
	size                                 func() (width, height int) // of the terminal
	getenv                               func(string) string
	home                                 string         // where the configuration file is looked for; may be empty
	by                                   string         // who asks, for the witness's history
	zone                                 *time.Location // in which times are printed
	dial                                 func(ctx context.Context, address string) (net.Conn, error)
}

func system() surroundings {
	home, err := os.UserHomeDir()
	if err != nil {
		home = "" // a service account may have none; flags and environment do
	}
	var dialer net.Dialer
	return surroundings{
		in: os.Stdin, out: os.Stdout, err: os.Stderr,
		inTerminal: isTerminal(os.Stdin), outTerminal: isTerminal(os.Stdout), errTerminal: isTerminal(os.Stderr),
		size:   func() (int, int) { return terminalSize(os.Stdout) },
		getenv: os.Getenv, home: home, by: whoami(), zone: time.Local,
		dial: func(ctx context.Context, address string) (net.Conn, error) {
			return dialer.DialContext(ctx, "tcp", address)
		},
	}
}

// whoami is user@host; with sudo it is the person, not root.
func whoami() string {
	name := os.Getenv("SUDO_USER")
	if name == "" {
		if u, err := user.Current(); err == nil {
			name = filepath.Base(u.Username)
		}
	}
	if host, err := os.Hostname(); err == nil {
		name += "@" + host
	}
	return name
}

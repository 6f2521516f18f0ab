// Package service is the operating system's hold on a SQL Server instance: it starts and stops the process as its
// service manager does, ends it with the kernel's word that it is gone, and tells at once when it ends by itself.
//
// It knows processes and nothing of databases. On Linux an instance is a systemd unit, or a command that the agent
// starts itself; on Windows it is a service.
package service

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"

	"github.com/witnessd/witnessd/agent/engine"
)

// Config says how the instance's process is controlled. Exactly one of Unit, Command and WindowsService is set.
type Config struct {
	// Unit is the systemd unit (Linux): mssql-server.service.
	Unit string `yaml:"unit"`
	// Command starts the process in the foreground (Linux): the program by its absolute path, and its arguments. The
	// process is known again by exactly these words.
	Command []string `yaml:"command"`
	// Output is a file that takes what a Command prints; "" is nowhere.
	Output string `yaml:"output"`
	// WindowsService is the service's name (Windows): MSSQLSERVER, or MSSQL$NAME for a named instance.
	WindowsService string `yaml:"windows_service"`
}

// Validate says in a sentence what is wrong.
func (c Config) Validate() error {
	kinds := 0
	for _, set := range []bool{c.Unit != "", len(c.Command) > 0, c.WindowsService != ""} {
		if set {
			kinds++
		}
	}
	switch {
	case kinds != 1:
		return errors.New("exactly one of unit, command and windows_service must be set")
	case len(c.Command) > 0 && !filepath.IsAbs(c.Command[0]):
		return fmt.Errorf("command must begin with an absolute path, not %q", c.Command[0])
	case c.Output != "" && (len(c.Command) == 0 || !filepath.IsAbs(c.Output)):
		return fmt.Errorf("output (%q) must be an absolute path, and goes with command only", c.Output)
	default:
		return nil
	}
}

// Process is what is known of the instance's process.
type Process struct {
	PID int
	// Run names this run: it differs after every start, also when the number is the same.
	Run     string
	Running bool
}

// Service controls one instance's process. Its methods are safe for all goroutines.
type Service interface {
	// Look finds the process, whoever started it.
	Look(ctx context.Context) (Process, error)
	// Start returns when the process runs, which is not when it takes logins. Of one that runs nothing is changed.
	Start(ctx context.Context) error
	// Stop ends the process in the orderly way of its service manager, within ctx. The end is not told by Exits.
	Stop(ctx context.Context) error
	// Kill ends the process at once, and whatever starts it again while it works. It returns nil only when the kernel
	// says that it is gone. The end is not told by Exits.
	Kill(ctx context.Context) error
	// Exits delivers ends that nobody asked for, told by the kernel, of every process that Look or Start has seen.
	Exits() <-chan engine.Exit
	// RestartGate says what else would start the process by itself, and how to mend that; "" if nothing does.
	RestartGate(ctx context.Context) (string, error)
	// Close lets go of the process, which goes on running.
	Close() error
}

// Open makes the service of a configuration. It starts nothing.
func Open(c Config, log *slog.Logger) (Service, error) {
	if err := c.Validate(); err != nil {
		return nil, fmt.Errorf("service: %w", err)
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return open(c, log)
}

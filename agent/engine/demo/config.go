package demo

import (
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strconv"

	"github.com/witnessd/witnessd/agent/engine/demo/kv"
)

// Config says where the demonstration database lives.
type Config struct {
	// Program is the path of demodb; "" means beside the agent's executable, else in PATH.
	Program string `yaml:"program"`
	// DataDir is this host's copy.
	DataDir string `yaml:"data_dir"`
	// Listen is where demodb accepts clients and its mirror.
	Listen string `yaml:"listen"`
	// Advertise is the address under which others reach Listen; "" means Listen itself.
	Advertise string `yaml:"advertise"`
	Rejoin    Rejoin `yaml:"rejoin"`
}

// Rejoin is what may be done to a copy that cannot simply go on following.
type Rejoin struct {
	// AllowClone lets a new copy of everything replace a damaged one. An empty directory is filled and
	// a copy that was interrupted is finished without it, since they have nothing to lose.
	AllowClone bool `yaml:"allow_clone"`
	// KeepDiverged keeps what a rewind cuts off and what a clone replaces, in the data directory.
	KeepDiverged bool `yaml:"keep_diverged"`
}

// Default is what a configuration that says nothing means; only the directory must be given.
func Default() Config {
	return Config{
		Listen: "127.0.0.1:7480",
		Rejoin: Rejoin{AllowClone: true, KeepDiverged: true},
	}
}

// maxSocketPath is what the name of a Unix socket may have at most (sun_path, less its final zero).
const maxSocketPath = 107

// Validate says in sentences what is wrong.
func (c Config) Validate() error {
	var wrong []error
	complain := func(format string, args ...any) {
		wrong = append(wrong, fmt.Errorf(format, args...))
	}
	if c.Program != "" && !filepath.IsAbs(c.Program) {
		complain("program (%s) must be an absolute path, or empty to look beside the agent and in PATH",
			c.Program)
	}
	socket := filepath.Join(c.DataDir, kv.AdminFile)
	switch {
	case c.DataDir == "":
		complain("data_dir must name this host's copy of the database")
	case !filepath.IsAbs(c.DataDir):
		complain("data_dir (%s) must be an absolute path", c.DataDir)
	case len(socket) > maxSocketPath:
		complain("data_dir is too long: its socket %s has %d characters and the system allows %d",
			socket, len(socket), maxSocketPath)
	}
	host, err := splitAddress(c.Listen)
	if err != nil {
		complain("listen (%s) must be host:port with a fixed port: %w", c.Listen, err)
	}
	if c.Advertise == "" {
		if err == nil && unspecified(host) {
			complain("listen (%s) names no host that others can connect to; set advertise", c.Listen)
		}
	} else if host, err := splitAddress(c.Advertise); err != nil {
		complain("advertise (%s) must be host:port with a fixed port: %w", c.Advertise, err)
	} else if unspecified(host) {
		complain("advertise (%s) must name the host that others connect to", c.Advertise)
	}
	return errors.Join(wrong...)
}

func splitAddress(address string) (host string, err error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return "", err
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return "", fmt.Errorf("port %q is not a number from 1 to 65535", port)
	}
	return host, nil
}

func unspecified(host string) bool {
	ip := net.ParseIP(host)
	return host == "" || ip != nil && ip.IsUnspecified()
}

package postgres

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Config is the postgres section of an agent's configuration.
type Config struct {
	// BinDir holds postgres, pg_basebackup, pg_rewind and pg_controldata; "" takes the newest directory
	// under /usr/lib/postgresql, or else the one of the postgres in PATH.
	BinDir string `yaml:"bin_dir"`
	// DataDir is the instance's data directory. Its parent must be writable for OSUser, with room for a
	// second copy: a clone is made beside it and then takes its place. It must not be a mount point.
	DataDir string `yaml:"data_dir"`
	// ConfigFile is the administrator's configuration; "" is postgresql.conf in the data directory
	// (Debian keeps it in /etc/postgresql/VERSION/CLUSTER). One include line is appended to it.
	ConfigFile string `yaml:"config_file"`
	// LogFile takes what the server writes to its standard error; "" is DataDir + ".log". It lies beside
	// the data directory because a clone or a rewind would replace it with the partner's.
	LogFile string `yaml:"log_file"`

	// Listen is the host:port that serves clients and the partner.
	Listen string `yaml:"listen"`
	// Advertise is the host:port by which the partner reaches this instance; "" is Listen.
	Advertise string `yaml:"advertise"`
	// SocketDir holds the socket by which the agent connects.
	SocketDir string `yaml:"socket_dir"`
	// OSUser runs the server. The agent runs as root, or as this user.
	OSUser string `yaml:"os_user"`
	// Superuser is the role as which the agent connects over the socket; peer and trust will do.
	Superuser string `yaml:"superuser"`
	// Database is where the agent connects to, here and, before a rewind, at the partner.
	Database string `yaml:"database"`

	// ReplicationUser is the role as which a mirror connects to its primary, here and there.
	ReplicationUser string `yaml:"replication_user"`
	// ReplicationPassfile is a libpq password file, readable for OSUser only; "" if none is needed.
	ReplicationPassfile string `yaml:"replication_passfile"`
	// ReplicationTLS holds libpq's settings for these connections: sslmode, sslrootcert, sslcert, sslkey.
	ReplicationTLS map[string]string `yaml:"replication_tls"`

	Rejoin Rejoin `yaml:"rejoin"`

	// StateFile is where the engine keeps how far this host has come as a mirror: outside of DataDir, so that
	// an older disk in its place is noticed. Set by the agent; "" keeps nothing.
	StateFile string `yaml:"-"`

	// Settings are given to a server that the agent starts, over what postgresql.conf says.
	Settings map[string]string `yaml:"settings"`
}

// Rejoin says how far an instance may go to follow a primary again, after attaching as it is.
type Rejoin struct {
	// AllowRewind lets pg_rewind undo what the primary does not have.
	AllowRewind bool `yaml:"allow_rewind"`
	// AllowClone lets pg_basebackup replace the data directory.
	AllowClone bool `yaml:"allow_clone"`
	// KeepDiverged is how many replaced data directories stay beside the new one, newest first, so
	// that transactions which only they hold can be looked up. 0 deletes them.
	KeepDiverged int `yaml:"keep_diverged"`
	// CloneRate limits pg_basebackup ("100M" is 100 MB/s); "" does not.
	CloneRate string `yaml:"clone_rate"`
}

// Default is a configuration that lacks only data_dir and listen.
func Default() Config {
	return Config{
		SocketDir:       "/var/run/postgresql",
		OSUser:          "postgres",
		Superuser:       "postgres",
		Database:        "postgres",
		ReplicationUser: "witness_replication",
		Rejoin:          Rejoin{AllowRewind: true, AllowClone: true, KeepDiverged: 1},
	}
}

// Validate says in sentences what is wrong with a configuration.
func (c Config) Validate() error {
	var wrong []error
	say := func(format string, args ...any) { wrong = append(wrong, fmt.Errorf(format, args...)) }

	if !filepath.IsAbs(c.DataDir) || filepath.Dir(c.DataDir) == c.DataDir {
		say("data_dir (%q) must be an absolute path below the root", c.DataDir)
	}
	for key, path := range map[string]string{
		"bin_dir": c.BinDir, "config_file": c.ConfigFile, "log_file": c.LogFile,
		"replication_passfile": c.ReplicationPassfile,
	} {
		if path != "" && !filepath.IsAbs(path) {
			say("%s (%q) must be an absolute path", key, path)
		}
	}
	if c.ReplicationPassfile != "" && liesIn(c.DataDir, c.ReplicationPassfile) {
		say("replication_passfile (%q) must not lie in data_dir: a clone would replace it", c.ReplicationPassfile)
	}
	if c.LogFile != "" && liesIn(c.DataDir, c.LogFile) {
		say("log_file (%q) must not lie in data_dir: a clone would replace it", c.LogFile)
	}
	if !filepath.IsAbs(c.SocketDir) || len(c.SocketDir) > 90 {
		say("socket_dir (%q) must be an absolute path of at most 90 bytes, the kernel's limit for "+
			"a socket's name less the name itself", c.SocketDir)
	}
	for key, address := range map[string]string{"listen": c.Listen, "advertise": c.Advertise} {
		if err := checkAddress(address); err != nil && (key == "listen" || address != "") {
			say("%s (%q) must be host:port: %w", key, address, err)
		}
	}
	if host, _, err := net.SplitHostPort(c.Advertise); err == nil && (host == "" || host == "*") {
		say("advertise (%q) must name a host: the partner connects to it", c.Advertise)
	}
	if host, _, err := net.SplitHostPort(c.Listen); err == nil && anyHost(host) && c.Advertise == "" {
		say("listen (%q) takes every address, so advertise must say by which one the partner comes", c.Listen)
	}
	for key, value := range map[string]string{
		"os_user": c.OSUser, "superuser": c.Superuser, "database": c.Database,
		"replication_user": c.ReplicationUser,
	} {
		if value == "" {
			say("%s must be set", key)
		}
	}
	wrong = append(wrong, c.validateMaps()...)
	if c.Rejoin.KeepDiverged < 0 {
		say("rejoin.keep_diverged (%d) must be 0 or more", c.Rejoin.KeepDiverged)
	}
	return errors.Join(wrong...)
}

func (c Config) validateMaps() (wrong []error) {
	for name := range c.ReplicationTLS {
		if !slices.Contains([]string{"sslmode", "sslrootcert", "sslcert", "sslkey"}, name) {
			wrong = append(wrong, fmt.Errorf("replication_tls.%s is not one of sslmode, sslrootcert, "+
				"sslcert, sslkey", name))
		}
	}
	for name := range c.Settings {
		if slices.Contains(managedSettings(), strings.ToLower(name)) {
			wrong = append(wrong, fmt.Errorf("settings.%s must not be set: the agent sets it, because "+
				"the pair's safety rests on it", name))
		}
		if !plainName(name) {
			wrong = append(wrong, fmt.Errorf("settings.%s is not a setting's name", name))
		}
	}
	return wrong
}

// plainName says that s may stand unquoted in a configuration file.
func plainName(s string) bool {
	return s != "" && strings.Trim(strings.ToLower(s), "abcdefghijklmnopqrstuvwxyz0123456789_.") == ""
}

func checkAddress(address string) error {
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return err
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return fmt.Errorf("port %q is not a number from 1 to 65535", port)
	}
	return nil
}

func anyHost(host string) bool {
	ip := net.ParseIP(host)
	return host == "" || host == "*" || ip != nil && ip.IsUnspecified()
}

func liesIn(dir, path string) bool {
	rel, err := filepath.Rel(dir, path)
	return err == nil && rel != ".." && !strings.HasPrefix(rel, "../")
}

// FindBinaries names the directory of the newest PostgreSQL on this host.
func FindBinaries() (string, error) {
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/postgres")
	if err != nil {
		return "", fmt.Errorf("look for PostgreSQL: %w", err)
	}
	best, bestVersion := "", 0
	for _, path := range found {
		dir := filepath.Dir(path)
		version, err := strconv.Atoi(filepath.Base(filepath.Dir(dir)))
		if err == nil && version > bestVersion {
			best, bestVersion = dir, version
		}
	}
	if best != "" {
		return best, nil
	}
	path, err := exec.LookPath("postgres")
	if err != nil {
		return "", fmt.Errorf("no postgres under /usr/lib/postgresql or in PATH; install PostgreSQL 15 "+
			"or later, or set bin_dir: %w", os.ErrNotExist)
	}
	if target, err := filepath.EvalSymlinks(path); err == nil {
		path = target
	}
	return filepath.Dir(path), nil
}

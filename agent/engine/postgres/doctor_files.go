//go:build linux

package postgres

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/witnessd/witnessd/agent/engine"
)

// leastMajor is the first version of PostgreSQL that the engine drives.
const leastMajor = 15

func (x *examiner) checkPrograms(ctx context.Context, data engine.Data) {
	const name = "programs"
	version, err := x.programVersion(ctx)
	major := majorOf(version)
	if err != nil || major < leastMajor {
		x.bad(name, "install PostgreSQL 15 or later, and set bin_dir", "postgres in %s is %q %v", x.bin, version, err)
		return
	}
	if data == engine.DataPresent || data == engine.DataIncomplete {
		text, err := os.ReadFile(x.path("PG_VERSION"))
		if of := strings.TrimSpace(string(text)); err == nil && of != strconv.Itoa(major) {
			x.bad(name, "set bin_dir to the programs of version "+of, "%s is version %s, and the data is of version %s",
				x.bin, version, of)
			return
		}
	}
	x.good(name, "PostgreSQL %s in %s", version, x.bin)
}

// programVersion is the version of the programs in bin_dir, such as "15.4".
func (x *examiner) programVersion(ctx context.Context) (string, error) {
	out, err := x.output(ctx, "postgres", "--version")
	fields := strings.Fields(out) // postgres (PostgreSQL) 15.4 (Debian ...)
	if err != nil || len(fields) < 3 {
		return "", errors.Join(err, errors.New("it does not tell its version"))
	}
	return fields[2], nil
}

func majorOf(version string) int {
	text, _, _ := strings.Cut(version, ".")
	n, _ := strconv.Atoi(text)
	return n
}

func (x *examiner) checkDirectories(data engine.Data, why string) {
	dir, parent := x.cfg.DataDir, filepath.Dir(x.cfg.DataDir)
	switch data {
	case engine.DataPresent:
		x.good("data", "a database is in %s", dir)
	case engine.DataEmpty:
		x.good("data", "%s is empty: it can become a mirror", dir)
	case engine.DataUnknown, engine.DataIncomplete:
		x.bad("data", "see the message", "%s", why)
	}
	var own, above unix.Stat_t
	mounted := unix.Stat(dir, &own) == nil && unix.Stat(parent, &above) == nil && own.Dev != above.Dev
	switch {
	case mounted:
		x.bad("data directory", "move the data to a directory below the mount point, and set data_dir to that",
			"%s is a mount point; a new copy could not take its place", dir)
	case unix.Access(parent, unix.W_OK) != nil:
		x.bad("data directory", "make it writable for the agent: a clone is made there, and then takes the place of data_dir",
			"%s cannot be written to", parent)
	default:
		x.good("data directory", "a copy can be made beside %s", dir)
	}
	for name, dir := range map[string]string{"socket directory": x.cfg.SocketDir, "log": filepath.Dir(x.cfg.LogFile)} {
		if info, err := os.Stat(dir); err != nil || !info.IsDir() {
			x.bad(name, "make it, for "+x.user.name+" (--fix does)", "there is no directory %s", dir)
			continue
		}
		if name == "socket directory" && !x.mayWrite(dir) {
			x.bad(name, "give it to "+x.user.name+", or set socket_dir", "%s cannot write to %s", x.user.name, dir)
			continue
		}
		x.good(name, "%s", dir)
	}
}

// mayWrite says whether the instance's owner may make files in a directory.
func (x *examiner) mayWrite(dir string) bool {
	var s unix.Stat_t
	if unix.Stat(dir, &s) != nil {
		return false
	}
	groups := []uint32{uint32(x.user.gid)}
	if x.user.credential != nil {
		groups = append(groups, x.user.credential.Groups...)
	}
	if s.Mode&0o002 != 0 || int(s.Uid) == x.user.uid && s.Mode&0o200 != 0 {
		return true
	}
	for _, g := range groups {
		if s.Gid == g && s.Mode&0o020 != 0 {
			return true
		}
	}
	return false
}

func (x *examiner) checkConfigFile(ctx context.Context, data engine.Data) {
	const name = "configuration file"
	if x.cfg.ConfigFile == "" && data != engine.DataPresent {
		return // It comes with the clone.
	}
	text, err := os.ReadFile(x.adminFile())
	if errors.Is(err, fs.ErrNotExist) {
		x.bad(name, "set config_file (Debian: /etc/postgresql/VERSION/NAME/postgresql.conf)", "there is no %s", x.adminFile())
		return
	}
	if err != nil {
		x.bad(name, "run this as root", "%v", err)
		return
	}
	if data != engine.DataPresent {
		// PostgreSQL would look into the data directory, which is empty.
		for line := range strings.Lines(string(text)) {
			key, value := configLine(line)
			if key == "data_directory" && !sameFile(value, x.cfg.DataDir) && value != x.cfg.DataDir {
				x.bad(name, "make data_directory and data_dir the same", "%s says data_directory = %s, not %s",
					x.adminFile(), value, x.cfg.DataDir)
				return
			}
		}
		x.good(name, "%s", x.adminFile())
		return
	}
	dir, err := x.plainValue(ctx, "data_directory")
	switch {
	case err != nil:
		x.bad(name, "mend it: no server could be started with it", "%s", firstLine(err))
	case !sameFile(dir, x.cfg.DataDir):
		x.bad(name, "make data_directory and data_dir the same", "%s says data_directory = %s, not %s",
			x.adminFile(), dir, x.cfg.DataDir)
	default:
		x.good(name, "%s", x.adminFile())
	}
}

// checkSecrets looks at what libpq would refuse, or ignore without a word.
func (x *examiner) checkSecrets() {
	files := map[string]string{"replication_passfile": x.cfg.ReplicationPassfile, "sslkey": x.cfg.ReplicationTLS["sslkey"]}
	for _, name := range []string{"replication_passfile", "sslkey"} {
		path := files[name]
		if path == "" {
			continue
		}
		info, err := os.Stat(path)
		if err != nil {
			x.bad(name, "make it, owned by "+x.user.name+", mode 0600 (--fix on the primary makes a password file)", "%v", err)
			continue
		}
		stat, ok := info.Sys().(*syscall.Stat_t)
		switch {
		case info.Mode().Perm()&0o077 != 0:
			x.bad(name, "chmod 0600 "+path+" (--fix does)", "%s is mode %04o, and libpq ignores it", path, info.Mode().Perm())
		case ok && int(stat.Uid) != x.user.uid:
			x.bad(name, "chown "+x.user.name+" "+path+" (--fix does)", "%s is not %s's", path, x.user.name)
		case name == "replication_passfile" && info.Size() == 0:
			x.bad(name, "write a line host:port:*:"+x.cfg.ReplicationUser+":PASSWORD (--fix on the primary does)",
				"%s is empty", path)
		default:
			x.good(name, "%s is %s's alone", path, x.user.name)
		}
	}
}

// debianCluster is the version and name of a Debian cluster by the place of its configuration; ok is false
// for any other instance.
func (x *examiner) debianCluster() (version, cluster string, ok bool) {
	parts := strings.Split(x.cfg.ConfigFile, "/") // "", etc, postgresql, VERSION, NAME, postgresql.conf
	if len(parts) != 6 || !strings.HasPrefix(x.cfg.ConfigFile, "/etc/postgresql/") {
		return "", "", false
	}
	return parts[3], parts[4], true
}

func (x *examiner) startConf() string {
	return filepath.Join(filepath.Dir(x.cfg.ConfigFile), "start.conf")
}

// startMode is the word in Debian's start.conf; auto is what it means to be without.
func startMode(text string) string {
	mode := "auto"
	for line := range strings.Lines(text) {
		if word := strings.TrimSpace(line); word != "" && !strings.HasPrefix(word, "#") {
			mode = word
		}
	}
	return mode
}

// checkOtherStarters looks for who else would start the server: it would come up as a copy, and the agent would
// have to start it again.
func (x *examiner) checkOtherStarters() {
	const name = "other starters"
	version, cluster, ok := x.debianCluster()
	if !ok {
		return
	}
	text, err := os.ReadFile(x.startConf())
	if err == nil && startMode(string(text)) == "auto" {
		x.weak(name, "write manual into "+x.startConf()+" (--fix does) and run systemctl daemon-reload",
			"%s says auto: Debian starts this server at boot, as a copy, and the agent would have to start it again",
			x.startConf())
		return
	}
	unit := "postgresql@" + version + "-" + cluster + ".service"
	found, _ := filepath.Glob("/etc/systemd/system/*.wants/" + unit)
	if len(found) > 0 {
		x.weak(name, "systemctl disable "+unit, "systemd starts %s at boot", unit)
		return
	}
	x.good(name, "nobody but the agent starts %s/%s at boot", version, cluster)
}

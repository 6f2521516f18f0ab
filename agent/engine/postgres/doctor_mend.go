//go:build linux

package postgres

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/witnessd/witnessd/agent/engine"
)

// mending is one call of Mend.
type mending struct {
	*examiner
	dry  bool
	done []engine.Mended
}

// do does one thing, or only says it.
func (m *mending) do(what, how string, work func() error) {
	done := engine.Mended{What: what, How: how}
	if !m.dry {
		done.Err = work()
	}
	m.done = append(m.done, done)
}

// sql does one statement at the server.
func (m *mending) sql(ctx context.Context, what, statement string) {
	m.do(what, statement, func() error {
		_, err := m.ask(ctx, statement)
		return err
	})
}

// Mend does what needs no decision of an administrator's. What lies in the database it does on the primary only,
// from where the mirror gets it. It reloads, and never restarts.
func (x *examiner) Mend(ctx context.Context, partner string, dry bool) []engine.Mended {
	m := &mending{examiner: x, dry: dry}
	m.mendDirectories()
	m.mendStarters()
	if err := x.meet(ctx); err != nil {
		return append(m.done, engine.Mended{What: "connect to the server", Err: err})
	}
	if x.run != nil && !x.copy {
		m.mendRole(ctx)
		m.mendAutoConf(ctx)
	}
	m.mendSecrets()
	if x.run != nil {
		m.mendNeeds(ctx)
		m.mendHBA(ctx, partner)
	}
	return m.done
}

func (m *mending) mendDirectories() {
	for _, dir := range []string{m.cfg.SocketDir, filepath.Dir(m.cfg.LogFile)} {
		if exists(dir) {
			continue
		}
		m.do("make a directory", "mkdir "+dir+", for "+m.user.name, func() error {
			//nolint:gosec // Clients of other users reach the socket in it.
			return errors.Join(os.MkdirAll(dir, 0o755), os.Chown(dir, m.user.uid, m.user.gid))
		})
	}
}

// mendStarters leaves starting the server at boot to the agent.
func (m *mending) mendStarters() {
	if _, _, ok := m.debianCluster(); !ok {
		return
	}
	text, err := os.ReadFile(m.startConf())
	if err != nil || startMode(string(text)) != "auto" {
		return
	}
	var changed strings.Builder
	for line := range strings.Lines(string(text)) {
		if strings.TrimSpace(line) == "auto" {
			line = "manual\n"
		}
		changed.WriteString(line)
	}
	m.do("leave starting at boot to the agent", "auto becomes manual in "+m.startConf()+
		"; run systemctl daemon-reload", func() error { return m.rewrite(m.startConf(), changed.String()) })
}

// rewrite replaces a file of a configuration whole, with its owner and rights.
func (m *mending) rewrite(name, text string) error {
	info, err := os.Lstat(name)
	if err != nil {
		return fmt.Errorf("change %s: %w", name, err)
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("change %s: it is not a regular file", name)
	}
	root, err := os.OpenRoot(filepath.Dir(name))
	if err != nil {
		return fmt.Errorf("change %s: %w", name, err)
	}
	files := &store{root: root, user: ownerOf(info, m.user)}
	defer files.close()
	return files.write(filepath.Base(name), []byte(text), info.Mode().Perm(), true)
}

// mendRole makes the replication role, or gives it what it lacks.
func (m *mending) mendRole(ctx context.Context) {
	role := quoteName(m.cfg.ReplicationUser)
	row, err := m.roleRow(ctx)
	if err != nil {
		m.done = append(m.done, engine.Mended{What: "look at the replication role", Err: err})
		return
	}
	switch {
	case row == nil:
		m.makeRole(ctx, role)
	case !row.true(0) || !row.true(1):
		m.sql(ctx, "let the replication role replicate", "alter role "+role+" login replication")
	}
	if row == nil || !row.true(2) {
		m.sql(ctx, "let it checkpoint, for a rewind", "grant pg_checkpoint to "+role)
	}
	if row == nil || row.text(3) != "0" {
		for _, f := range rewindRights() {
			m.sql(ctx, "let it read files, for a rewind", "grant execute on function pg_catalog."+f+" to "+role)
		}
	}
	if row != nil && !row.true(4) {
		m.sql(ctx, "let it connect, for a rewind",
			"grant connect on database "+quoteName(m.cfg.Database)+" to "+role)
	}
}

// makeRole gives the role the password of the password file, or writes there a new one.
func (m *mending) makeRole(ctx context.Context, role string) {
	create := "create role " + role + " login replication"
	if m.cfg.ReplicationPassfile == "" {
		m.sql(ctx, "make the replication role, without a password (replication_passfile is not set)", create)
		return
	}
	password := passwordIn(m.cfg.ReplicationPassfile, m.cfg.ReplicationUser)
	if password == "" {
		password = rand.Text()
		line := "*:*:*:" + m.cfg.ReplicationUser + ":" + password + "\n"
		m.do("write a new password", m.cfg.ReplicationPassfile+"; copy it to the partner host, for the same user, mode 0600",
			func() error { return m.writeSecret(m.cfg.ReplicationPassfile, line) })
		if n := len(m.done); m.done[n-1].Err != nil {
			return // A role whose password nobody knows is of no use.
		}
	}
	m.do("make the replication role, with the password of "+m.cfg.ReplicationPassfile, create+" password '...'",
		func() error {
			secret, err := scramSecret(password)
			if err == nil {
				_, err = m.ask(ctx, create+" password '"+secret+"'")
			}
			return err
		})
}

// passwordIn finds the role's password in a password file; "" if it has none. A password with a colon or a
// backslash is escaped there.
func passwordIn(name, role string) string {
	text, err := os.ReadFile(name)
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(text)) {
		fields := strings.SplitN(strings.TrimRight(line, "\r\n"), ":", 5)
		if len(fields) == 5 && !strings.HasPrefix(line, "#") && (fields[3] == role || fields[3] == "*") {
			return strings.NewReplacer(`\:`, `:`, `\\`, `\`).Replace(fields[4])
		}
	}
	return ""
}

// writeSecret adds a line to a file that only the instance's owner may read.
func (m *mending) writeSecret(name, line string) error {
	have, err := os.ReadFile(name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("write %s: %w", name, err)
	}
	root, err := os.OpenRoot(filepath.Dir(name))
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	files := &store{root: root, user: m.user}
	defer files.close()
	return files.write(filepath.Base(name), append(have, line...), 0o600, true)
}

func (m *mending) mendSecrets() {
	for _, name := range []string{m.cfg.ReplicationPassfile, m.cfg.ReplicationTLS["sslkey"]} {
		info, err := os.Lstat(name)
		if name == "" || err != nil || !info.Mode().IsRegular() {
			continue
		}
		if info.Mode().Perm()&0o077 != 0 {
			m.do("close a secret to others", "chmod 0600 "+name, func() error { return os.Chmod(name, 0o600) })
		}
		if ownerOf(info, m.user).uid != m.user.uid {
			m.do("give a secret to its user", "chown "+m.user.name+" "+name,
				func() error { return os.Lchown(name, m.user.uid, m.user.gid) })
		}
	}
}

// mendAutoConf takes out what is of no effect on a primary and would win over the agent's file on a mirror.
func (m *mending) mendAutoConf(ctx context.Context) {
	rows, err := m.ask(ctx, `select distinct name from pg_file_settings where sourcefile like '%/postgresql.auto.conf'
		and name in ('primary_conninfo', 'primary_slot_name') order by 1`)
	if err != nil {
		m.done = append(m.done, engine.Mended{What: "look at postgresql.auto.conf", Err: err})
	}
	for _, row := range rows {
		m.sql(ctx, "leave the upstream to the agent", "alter system reset "+row.text(0))
	}
}

// mendNeeds sets what the server needs in a file of the agent's own beside the configuration.
func (m *mending) mendNeeds(ctx context.Context) {
	var set []setting
	for _, n := range append(needs(), need{name: "wal_log_hints", want: "on", judge: m.judgeHints(ctx)}) {
		value, err := m.setting(ctx, n.name)
		if err != nil || n.want == "" {
			continue
		}
		if g, _ := n.judge(value); g != engine.Good && !m.ownDefault(ctx, n.name) {
			set = append(set, setting{n.name, n.want})
		}
	}
	if len(set) == 0 {
		return
	}
	var said []string
	for _, s := range set {
		said = append(said, s.name+" = "+quote(s.value))
	}
	m.do("set what a pair needs; all but max_slot_wal_keep_size takes effect at the server's next restart",
		strings.Join(said, ", ")+" in "+m.needsFile(), func() error { return m.writeNeeds(ctx, set) })
}

func (m *mending) judgeHints(ctx context.Context) func(string) (engine.Grade, string) {
	c, err := m.readControl(ctx, m.cfg.DataDir)
	return func(v string) (engine.Grade, string) {
		return grade(v == "on" || err == nil && c.rewindable, engine.Weak), ""
	}
}

// needsName is the file in which --fix sets what takes a restart. It is the administrator's to keep or delete.
const needsName = "witness-agent.conf"

// needsFile lies in the directory that the configuration includes, or beside it.
func (m *mending) needsFile() string {
	if dir := m.includeDir(); dir != "" {
		return filepath.Join(dir, needsName)
	}
	return filepath.Join(filepath.Dir(m.adminFile()), needsName)
}

func (m *mending) writeNeeds(ctx context.Context, set []setting) error {
	name := m.needsFile()
	have, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		have, err = []byte("# Written by witness-agent doctor --fix: what the pair needs. Yours to change.\n"), nil
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	root, err := os.OpenRoot(filepath.Dir(name))
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	files := &store{root: root, user: m.user}
	defer files.close()
	if err := files.write(needsName, append(have, lines(set)...), 0o644, true); err != nil {
		return err
	}
	if m.includeDir() == "" {
		text, err := os.ReadFile(m.adminFile())
		if err != nil {
			return fmt.Errorf("read the configuration: %w", err)
		}
		// In front of the agent's other line, if that is there, which must be the last.
		line := "include_if_exists " + quote(name) + " # witness-agent doctor --fix\n"
		if !strings.Contains(string(text), line) {
			rest := includeLine(m.restName())
			before, after, found := strings.Cut(string(text), rest)
			changed := strings.TrimRight(string(text), "\n") + "\n" + line
			if found {
				changed = before + line + rest + after
			}
			if err := m.rewrite(m.adminFile(), changed); err != nil {
				return err
			}
		}
	}
	_, err = m.ask(ctx, "select pg_reload_conf()")
	return err
}

// restName is how the administrator's configuration names the rest file.
func (m *mending) restName() string {
	if m.cfg.ConfigFile == "" {
		return restFile
	}
	return m.path(restFile)
}

// hbaMark ends every line that --fix adds to pg_hba.conf.
const hbaMark = "# witness-agent doctor --fix"

// mendHBA adds lines for whom pg_hba.conf does not let in yet. They stand at its end, where they change nothing
// for anybody else; a line before them that refuses still does.
func (m *mending) mendHBA(ctx context.Context, partner string) {
	var add []string
	rules, wrong, err := m.hbaRules(ctx)
	if err != nil || wrong != "" {
		m.done = append(m.done, engine.Mended{What: "read pg_hba.conf", Err: errors.Join(err, errors.New(wrong))})
		return
	}
	if _, err := m.identifySelf(ctx, m.run); err != nil {
		add = append(add, "local replication "+quoteName(m.cfg.Superuser)+" peer")
	}
	if partner != "" {
		addresses, err := m.wantsHBA(ctx, partner)
		if err != nil {
			m.done = append(m.done, engine.Mended{What: "find the partner's address", Err: err})
		}
		for _, ip := range addresses {
			bits := "/128"
			if ip.To4() != nil {
				bits = "/32"
			}
			for _, database := range []string{"replication", m.cfg.Database} {
				if admitted, unsure := admits(rules, database, m.cfg.ReplicationUser, ip); admitted || unsure {
					continue
				}
				name := database
				if database != "replication" {
					name = quoteName(database)
				}
				add = append(add, m.hbaType()+" "+name+" "+quoteName(m.cfg.ReplicationUser)+" "+ip.String()+bits+" "+m.hbaMethod())
			}
		}
	}
	if len(add) == 0 {
		return
	}
	file, err := m.setting(ctx, "hba_file")
	if err != nil {
		m.done = append(m.done, engine.Mended{What: "find pg_hba.conf", Err: err})
		return
	}
	m.do("let the replication role in from both hosts", strings.Join(add, "; ")+" at the end of "+file+
		", whose former content is kept in "+file+hbaKept+"; then a reload", func() error { return m.addHBA(ctx, file, add) })
}

// hbaKept ends the name of the copy of a pg_hba.conf before its first change.
const hbaKept = ".before-witness-agent"

// hbaType and hbaMethod go by how the partner connects.
func (m *mending) hbaType() string {
	if mode := m.cfg.ReplicationTLS["sslmode"]; mode == "require" || strings.HasPrefix(mode, "verify-") {
		return "hostssl"
	}
	return "host"
}

func (m *mending) hbaMethod() string {
	if m.cfg.ReplicationPassfile == "" && m.cfg.ReplicationTLS["sslcert"] != "" {
		return "cert"
	}
	return "scram-sha-256"
}

func (m *mending) addHBA(ctx context.Context, file string, add []string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("read %s: %w", file, err)
	}
	info, err := os.Stat(file)
	if err != nil {
		return fmt.Errorf("read %s: %w", file, err)
	}
	if !exists(file + hbaKept) {
		root, err := os.OpenRoot(filepath.Dir(file))
		if err != nil {
			return fmt.Errorf("keep a copy of %s: %w", file, err)
		}
		files := &store{root: root, user: ownerOf(info, m.user)}
		err = files.write(filepath.Base(file)+hbaKept, text, info.Mode().Perm(), true)
		files.close()
		if err != nil {
			return err
		}
	}
	var changed strings.Builder
	changed.WriteString(strings.TrimRight(string(text), "\n") + "\n")
	for _, line := range add {
		changed.WriteString(line + " " + hbaMark + "\n")
	}
	if err := m.rewrite(file, changed.String()); err != nil {
		return err
	}
	_, err = m.ask(ctx, "select pg_reload_conf()")
	return err
}

// quoteName writes a name as SQL and pg_hba.conf take it, where it is not mistaken for a keyword.
func quoteName(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }

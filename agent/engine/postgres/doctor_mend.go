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
	"time"

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

// reloadPatience is how long a server may take to read its files again.
const reloadPatience = 5 * time.Second

// reload lets the server read its files again, and waits until it has: whoever connects then is judged by them. The
// first process tells its children before it reads pg_hba.conf, but takes no connection in between.
func (m *mending) reload(ctx context.Context) error {
	const loaded = "select pg_conf_load_time()"
	before, err := m.ask(ctx, loaded)
	if err != nil {
		return err
	}
	if _, err := m.ask(ctx, "select pg_reload_conf()"); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, reloadPatience, errNotTaken)
	defer cancel()
	for {
		after, err := m.ask(ctx, loaded)
		if err == nil && after[0].text(0) != before[0].text(0) {
			return nil
		}
		if err == nil {
			err = pause(ctx)
		}
		if err != nil {
			return fmt.Errorf("reload: %w; its log says whether its configuration has errors", err)
		}
	}
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

// quoteName writes a name as SQL and pg_hba.conf take it, where it is not mistaken for a keyword.
func quoteName(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }

//go:build linux

package postgres

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/witnessd/witnessd/agent/engine"
)

// hbaMark ends every line that --fix adds to pg_hba.conf.
const hbaMark = "# witness-agent doctor --fix"

// mendHBA adds lines for whom pg_hba.conf does not let in yet. They stand at its end, where they change nothing
// for anybody else; a line before them that refuses still does, which is then said.
func (m *mending) mendHBA(ctx context.Context, partner string) {
	const what = "let the replication role in from both hosts"
	lacks, err := m.hbaLacks(ctx, partner)
	if err != nil {
		m.done = append(m.done, engine.Mended{What: what, Err: err})
	}
	if len(lacks) == 0 {
		return
	}
	file, err := m.setting(ctx, "hba_file")
	if err != nil {
		m.done = append(m.done, engine.Mended{What: "find pg_hba.conf", Err: err})
		return
	}
	text, err := os.ReadFile(file)
	if err != nil {
		m.done = append(m.done, engine.Mended{What: "read pg_hba.conf", Err: err})
		return
	}
	add := slices.DeleteFunc(slices.Clone(lacks), func(line string) bool { return hasLine(text, line+" "+hbaMark) })
	if len(add) == 0 {
		m.done = append(m.done, engine.Mended{What: what, How: "nothing: it is in " + file, Err: refusedBefore(lacks, file)})
		return
	}
	m.do(what, strings.Join(add, "; ")+" at the end of "+file+", whose former content is kept in "+file+hbaKept+
		"; then a reload", func() error {
		if err := m.addHBA(ctx, file, add); err != nil {
			return err
		}
		left, err := m.hbaLacks(ctx, partner)
		return errors.Join(err, refusedBefore(left, file))
	})
}

// refusedBefore says which lines of the agent's have no effect.
func refusedBefore(lines []string, file string) error {
	if len(lines) == 0 {
		return nil
	}
	return fmt.Errorf("still refused, because of an earlier line of %s; move these lines in front of it: %s", file,
		strings.Join(lines, "; "))
}

// codeNotLetIn is invalid_authorization_specification: pg_hba.conf has no line that lets somebody in, or one that
// refuses.
const codeNotLetIn = "28000"

// hbaLacks are the lines that would let in whom pg_hba.conf does not. An error is one that no line mends; the
// lines are right all the same.
func (m *mending) hbaLacks(ctx context.Context, partner string) (lacks []string, wrong error) {
	rules, text, err := m.hbaRules(ctx)
	if err == nil && text != "" {
		err = errors.New(text)
	}
	if err != nil {
		return nil, fmt.Errorf("read pg_hba.conf: %w", err)
	}
	if _, err := m.identifySelf(ctx, m.run); hasCode(err, codeNotLetIn) {
		lacks = append(lacks, "local replication "+quoteName(m.cfg.Superuser)+" peer")
	} else if err != nil {
		wrong = err
	}
	if partner == "" {
		return lacks, wrong
	}
	addresses, err := m.wantsHBA(ctx, partner)
	if err != nil {
		return lacks, errors.Join(wrong, fmt.Errorf("find the partner's address: %w", err))
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
			lacks = append(lacks,
				m.hbaType()+" "+name+" "+quoteName(m.cfg.ReplicationUser)+" "+ip.String()+bits+" "+m.hbaMethod())
		}
	}
	return lacks, wrong
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
	return m.reload(ctx)
}

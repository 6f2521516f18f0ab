//go:build linux

package postgres

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/witnessd/witnessd/agent/engine"
)

// mendNeeds sets what the server needs in a file of the agent's own beside the configuration.
func (m *mending) mendNeeds(ctx context.Context) {
	files, err := m.fileSettings(ctx)
	if err != nil {
		m.done = append(m.done, engine.Mended{What: "read the configuration files", Err: err})
		return
	}
	var set []setting
	var written []string
	for _, n := range append(needs(), need{name: "wal_log_hints", want: "on", judge: m.judgeHints(ctx)}) {
		value, err := m.setting(ctx, n.name)
		if err != nil || n.want == "" {
			continue
		}
		if g, _ := n.judge(value); g == engine.Good || m.ownDefault(ctx, n.name) {
			continue
		}
		if value, ok := files.own[n.name]; ok {
			if g, _ := n.judge(value); g == engine.Good {
				written = append(written, n.name) // It waits for a restart.
				continue
			}
		}
		set = append(set, setting{n.name, n.want})
	}
	const what = "set what a pair needs; all but max_slot_wal_keep_size takes effect at the server's next restart"
	if len(set) == 0 {
		if err := files.outdone(written, m.needsFile()); err != nil {
			m.done = append(m.done, engine.Mended{What: what, How: "nothing: it is in " + m.needsFile(), Err: err})
		}
		return
	}
	var said []string
	for _, s := range set {
		said = append(said, s.name+" = "+quote(s.value))
		written = append(written, s.name)
	}
	m.do(what, strings.Join(said, ", ")+" in "+m.needsFile(), func() error {
		if err := m.writeNeeds(ctx, set); err != nil {
			return err
		}
		files, err := m.fileSettings(ctx)
		if err != nil {
			return err
		}
		return files.outdone(written, m.needsFile())
	})
}

// fileSettings is what the configuration files say now, in force or not.
type fileSettings struct {
	own  map[string]string // in the file that --fix writes
	last map[string]string // the file that has the last word, with the line
	file map[string]string // that file alone
}

func (m *mending) fileSettings(ctx context.Context) (fileSettings, error) {
	s := fileSettings{own: map[string]string{}, last: map[string]string{}, file: map[string]string{}}
	rows, err := m.ask(ctx, `select lower(name), setting, sourcefile, sourceline from pg_file_settings
		where name is not null order by seqno`)
	for _, row := range rows {
		name, file := row.text(0), row.text(2)
		if sameFile(file, m.needsFile()) {
			s.own[name] = row.text(1)
		}
		s.file[name], s.last[name] = file, "line "+row.text(3)+" of "+file
	}
	return s, err
}

// outdone says which of the settings written to a file have no effect because something else is read after them.
func (s fileSettings) outdone(names []string, file string) error {
	var wrong []error
	for _, name := range names {
		if !sameFile(s.file[name], file) {
			wrong = append(wrong, fmt.Errorf("%s has no effect in %s: %s wins; change it there", name, file, s.last[name]))
		}
	}
	return errors.Join(wrong...)
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
	if err := files.write(needsName, []byte(withSettings(string(have), set)), 0o644, true); err != nil {
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
	return m.reload(ctx)
}

// withSettings is a configuration file with settings changed where they stand, and added where they do not.
func withSettings(text string, set []setting) string {
	var changed strings.Builder
	for line := range strings.Lines(text) {
		key, _ := configLine(line)
		if !slices.ContainsFunc(set, func(s setting) bool { return s.name == key }) {
			changed.WriteString(strings.TrimRight(line, "\n") + "\n")
		}
	}
	return changed.String() + lines(set)
}

// restName is how the administrator's configuration names the rest file.
func (m *mending) restName() string {
	if m.cfg.ConfigFile == "" {
		return restFile
	}
	return m.path(restFile)
}

//go:build linux

package postgres

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// A configuration outside the data directory gets the agent's line in a file of the agent's own, if the
// configuration includes a directory (Debian's conf.d) and what stands in that file wins; otherwise at its
// end. What wins is checked again by checkRest, which asks PostgreSQL.

// includeName is the agent's file in an included directory: PostgreSQL reads these in the order of their
// names.
const includeName = "zz-witness-agent.conf"

func (e *Engine) assureIncludeElsewhere() error {
	line := includeLine(e.path(restFile))
	text, err := os.ReadFile(e.cfg.ConfigFile)
	if err != nil {
		return fmt.Errorf("read the configuration: %w", err)
	}
	if hasLine(text, line) {
		return nil
	}
	if dir := includedLast(e.cfg.ConfigFile, text); dir != "" {
		return e.includeBeside(dir, line)
	}
	return appendLine(e.cfg.ConfigFile, line)
}

// includeBeside writes the agent's file into an included directory, as that directory's owner.
func (e *Engine) includeBeside(dir, line string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("add the agent's include file: %w", err)
	}
	files := &store{root: root, user: e.user}
	defer files.close()
	have, err := root.ReadFile(includeName)
	if err == nil && hasLine(have, line) {
		return nil
	}
	if err := files.write(includeName, []byte(line+"\n"), 0o644, true); err != nil {
		return fmt.Errorf("add the agent's include file to %s: %w", dir, err)
	}
	return nil
}

func (e *Engine) hasIncludeFile() bool {
	dir := e.includeDir()
	return dir != "" && exists(filepath.Join(dir, includeName))
}

// removeIncludeFile takes the agent's file out of an included directory, and says whether it was there.
func (e *Engine) removeIncludeFile() (bool, error) {
	dir := e.includeDir()
	if dir == "" {
		return false, nil
	}
	root, err := os.OpenRoot(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("take the agent's include file away: %w", err)
	}
	files := &store{root: root, user: e.user}
	defer files.close()
	if !files.has(includeName) {
		return false, nil
	}
	return true, files.remove(includeName)
}

// includeDir is the directory that the administrator's configuration includes last; "" if none.
func (e *Engine) includeDir() string {
	if e.cfg.ConfigFile == "" {
		return "" // A clone would bring the partner's directory; the line is enough.
	}
	text, err := os.ReadFile(e.cfg.ConfigFile)
	if err != nil {
		return ""
	}
	dir, _ := scanIncludes(e.cfg.ConfigFile, text)
	return dir
}

// includedLast is the included directory in which a file of the agent's would have the last word; "" if there
// is none.
func includedLast(name string, text []byte) string {
	dir, last := scanIncludes(name, text)
	if dir == "" || !last {
		return ""
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return ""
	}
	for _, entry := range entries {
		name := entry.Name()
		if strings.HasSuffix(name, ".conf") && !strings.HasPrefix(name, ".") && name > includeName {
			return ""
		}
	}
	return dir
}

// scanIncludes finds the last included directory, and says whether nothing after it sets what the agent must
// set, or may do so through another included file.
func scanIncludes(name string, text []byte) (dir string, last bool) {
	for line := range bytes.Lines(text) {
		key, value := configLine(string(line))
		switch {
		case key == "include_dir" && value != "":
			if !filepath.IsAbs(value) {
				value = filepath.Join(filepath.Dir(name), value)
			}
			dir, last = value, true
		case key == "include", key == "include_if_exists", slices.Contains(managedSettings(), key):
			last = false
		}
	}
	return dir, last
}

// configLine splits a line of a configuration into name and value; both are "" if it has none.
func configLine(line string) (key, value string) {
	line = strings.TrimSpace(line)
	end := strings.IndexFunc(line, func(r rune) bool { return strings.ContainsRune(" \t=#", r) })
	if end <= 0 {
		return "", ""
	}
	key = strings.ToLower(line[:end])
	value = strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(line[end:]), "="))
	if rest, quoted := strings.CutPrefix(value, "'"); quoted {
		value, _, _ = strings.Cut(rest, "'")
		return key, value
	}
	value, _, _ = strings.Cut(value, "#")
	return key, strings.TrimSpace(value)
}

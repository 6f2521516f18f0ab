package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// mutant is one mistake.
type mutant struct {
	name    string
	rules   string // that it breaks, by space
	thought string // what an engineer might have thought
	edits   []edit
	tries   []try // what notices it soonest
}

// edit replaces a piece of a file by another. The old one must be there exactly once.
type edit struct{ file, old, new string }

// lastRule is the number of the last rule of the protocol.
const lastRule = 16

// check fails if the table does not fit the code any more, or leaves a rule out.
func check(all []mutant) error {
	var wrong []error
	names := map[string]bool{}
	rules := map[string]bool{}
	for _, m := range all {
		switch {
		case names[m.name]:
			wrong = append(wrong, fmt.Errorf("%s is there twice", m.name))
		case m.thought == "" || len(m.edits) == 0 || len(m.tries) == 0 || m.rules == "":
			wrong = append(wrong, fmt.Errorf("%s is not complete", m.name))
		}
		names[m.name] = true
		for rule := range strings.FieldsSeq(m.rules) {
			rules[rule] = true
		}
		if _, err := m.apply(); err != nil {
			wrong = append(wrong, err)
		}
	}
	for n := range lastRule {
		if rule := fmt.Sprintf("R%d", n+1); !rules[rule] {
			wrong = append(wrong, fmt.Errorf("no mutant breaks %s", rule))
		}
	}
	return errors.Join(wrong...)
}

// apply returns the files of the module that the mutant changes, as it changes them.
func (m mutant) apply() (map[string]string, error) {
	changed := map[string]string{}
	for _, e := range m.edits {
		raw, err := os.ReadFile(e.file)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", m.name, err)
		}
		if n := strings.Count(string(raw), e.old); n != 1 || e.old == e.new {
			return nil, fmt.Errorf("%s: %s holds the old text %d times, not once:\n%s", m.name, e.file, n, e.old)
		}
		text, again := changed[e.file]
		if !again {
			text = string(raw)
		}
		changed[e.file] = strings.Replace(text, e.old, e.new, 1)
	}
	return changed, nil
}

// packages are the directories of the files that the mutant changes.
func (m mutant) packages() []string {
	var dirs []string
	for _, e := range m.edits {
		if dir := "./" + filepath.ToSlash(filepath.Dir(e.file)); !slices.Contains(dirs, dir) {
			dirs = append(dirs, dir)
		}
	}
	return dirs
}

// overlay writes the changed files into dir, and returns the path of the JSON that `go build -overlay` takes.
func (m mutant) overlay(root, dir string) (string, error) {
	changed, err := m.apply()
	if err != nil {
		return "", err
	}
	var overlay struct{ Replace map[string]string }
	overlay.Replace = map[string]string{}
	for file, text := range changed {
		instead := filepath.Join(dir, strings.ReplaceAll(filepath.ToSlash(file), "/", "-"))
		if err := os.WriteFile(instead, []byte(text), 0o600); err != nil {
			return "", err
		}
		overlay.Replace[filepath.Join(root, file)] = instead
	}
	raw, err := json.Marshal(overlay)
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "overlay.json")
	return path, os.WriteFile(path, raw, 0o600)
}
